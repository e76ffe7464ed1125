//! `/volumes`

use super::schemas::{CREATE_VOLUME, CREATE_VOLUME_LOOSE, UPDATE_VOLUME};
use super::{Answer, Ask, Shared, boolean, filters, inner, integer, text, view};
use crate::model::{Metadata, NewVolume, Source};
use crate::scheduler::Hints;
use crate::store::volumes::SORT_KEYS;
use crate::volumes::Change;
use api::{Error, Json, Path, Routes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .get("/volumes", list)
        .post("/volumes", create)
        .get("/volumes/detail", list_detail)
        .get("/volumes/summary", summary)
        .get("/volumes/{volume_id}", show)
        .put("/volumes/{volume_id}", update)
        .delete("/volumes/{volume_id}", delete)
}

async fn list(State(volumes): State<Shared>, ask: Ask) -> Answer<Response> {
    listing(&volumes, &ask, false).await
}

async fn list_detail(State(volumes): State<Shared>, ask: Ask) -> Answer<Response> {
    listing(&volumes, &ask, true).await
}

#[derive(Serialize)]
struct Listing<'a> {
    volumes: Rows<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes_links: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<i64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Rows<'a> {
    Brief(Vec<Value>),
    Detailed(Vec<view::View<'a>>),
}

async fn listing(volumes: &Shared, ask: &Ask, detailed: bool) -> Answer<Response> {
    let page = ask.page(volumes, SORT_KEYS)?;
    let (filter, all) = (filters::volumes(volumes, ask)?, ask.all_projects()?);
    let (found, more) = volumes.list(&ask.ctx, filter.clone(), all, &page).await?;
    let rows = match detailed {
        true => Rows::Detailed(found.iter().map(|v| view::detail(volumes, ask, v)).collect()),
        false => Rows::Brief(found.iter().map(|v| view::summary(ask, v)).collect()),
    };
    let volumes_links = ask.next(&page, found.len(), more, found.last().map(|v| v.id.as_str()));
    let count = match ask.counts()? {
        true => Some(volumes.count(&ask.ctx, filter, all).await?),
        false => None,
    };
    Ok(Json(Listing { volumes: rows, volumes_links, count }).into_response())
}

async fn summary(State(volumes): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    ask.since(12)?;
    let filter = filters::volumes(&volumes, &ask)?;
    let summary = volumes.summary(&ask.ctx, filter, ask.all_projects()?).await?;
    let mut body = json!({"total_count": summary.count, "total_size": summary.gib});
    if ask.at(36) {
        body["metadata"] = json!(summary.metadata);
    }
    Ok(Json(json!({"volume-summary": body})))
}

async fn show(State(volumes): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    let volume = volumes.get(&ask.ctx, &id).await?;
    Ok(Json(json!({"volume": view::detail(&volumes, &ask, &volume)})))
}

async fn create(
    State(volumes): State<Shared>,
    ask: Ask,
    Json(body): Json<Value>,
) -> Answer<(StatusCode, Json<Value>)> {
    let schema = if ask.at(53) { &CREATE_VOLUME } else { &CREATE_VOLUME_LOOSE };
    schema.check(&body)?;
    let volume = volumes.create(&ask.ctx, asked(&ask, &body)?).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"volume": view::plain(&ask, &volume)}))))
}

/// The request as the rules take it.
fn asked(ask: &Ask, body: &Value) -> Result<NewVolume, Error> {
    let v = inner(body, "volume")?;
    let word = |key: &str| text(v.get(key)).filter(|t| !t.is_empty());
    if v.get("multiattach").map(|m| boolean(m, "multiattach")).transpose()? == Some(true) {
        return Err(Error::bad_request(
            "multiattach parameter has been removed. The default behavior is to use multiattach enabled volume \
             types. Contact your administrator to create a multiattach enabled volume type and use it to create \
             multiattach volumes.",
        ));
    }
    if word("backup_id").is_some() {
        ask.since(47)?;
    }
    let mut sources = [
        word("imageRef").or_else(|| word("image_id")).map(Source::Image),
        word("snapshot_id").map(Source::Snapshot),
        word("source_volid").map(Source::Volume),
        word("backup_id").map(Source::Backup),
    ]
    .into_iter()
    .flatten();
    let source = sources.next().unwrap_or_default();
    if sources.next().is_some() {
        return Err(Error::bad_request(
            "snapshot_id, source_volid, backup_id and imageRef exclude each other: a volume has one source.",
        ));
    }
    Ok(NewVolume {
        id: None,
        size_gib: v.get("size").and_then(integer),
        source,
        name: text(v.get("name")).or_else(|| text(v.get("display_name"))),
        description: text(v.get("description")).or_else(|| text(v.get("display_description"))),
        volume_type: word("volume_type"),
        zone: word("availability_zone"),
        metadata: map(v.get("metadata")),
        group_id: word("consistencygroup_id").or_else(|| word("group_id").filter(|_| ask.at(13))),
        hints: hints(body),
    })
}

/// The scheduler hints, beside the volume or in it. Each names one volume or a list of them; others are not for this
/// scheduler.
fn hints(body: &Value) -> Hints {
    const KEY: &str = "OS-SCH-HNT:scheduler_hints";
    let all = body.get(KEY).filter(|h| h.is_object()).or_else(|| body["volume"].get(KEY));
    let ids = |name: &str| match all.and_then(|h| h.get(name)) {
        Some(Value::String(one)) => one.split(',').map(|id| id.trim().to_owned()).collect(),
        Some(Value::Array(many)) => many.iter().filter_map(|id| Some(id.as_str()?.to_owned())).collect(),
        _ => Vec::new(),
    };
    Hints { same_host: ids("same_host"), different_host: ids("different_host") }
}

/// A map that the schema has checked.
pub(super) fn map(value: Option<&Value>) -> Metadata {
    let pairs = value.and_then(Value::as_object).into_iter().flatten();
    pairs.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

/// What an update of a volume or snapshot changes.
pub(super) fn change(v: &Value) -> Change {
    let field = |key: &str, old: &str| {
        let given = v.get(key).or_else(|| v.get(old))?;
        Some(text(Some(given)))
    };
    Change {
        name: field("name", "display_name"),
        description: field("description", "display_description"),
        metadata: v.get("metadata").filter(|m| m.is_object()).map(|m| map(Some(m))),
    }
}

async fn update(
    State(volumes): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    UPDATE_VOLUME.check(&body)?;
    let volume = volumes.update(&ask.ctx, &id, change(inner(&body, "volume")?)).await?;
    Ok(Json(json!({"volume": view::plain(&ask, &volume)})))
}

async fn delete(State(volumes): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<StatusCode> {
    let cascade = ask.query.bool("cascade")?.unwrap_or(false);
    let force = ask.at(23) && ask.query.bool("force")?.unwrap_or(false);
    volumes.delete_with(&ask.ctx, &id, cascade, force).await?;
    Ok(StatusCode::ACCEPTED)
}
