//! `/consistencygroups` and `/cgsnapshots`: older names of groups and their snapshots. They are groups of the type that
//! upstream keeps for them; others are not seen here.

use super::groups::{change, filter, words};
use super::schemas::{
    COPY_CONSISTENCY, CREATE_CGSNAPSHOT, CREATE_CONSISTENCY, DELETE_CONSISTENCY, UPDATE_CONSISTENCY,
};
use super::{Answer, Ask, Shared, boolean, inner, text};
use crate::group_snapshots::{GroupSnapshot, NewGroupSnapshot};
use crate::group_types::CONSISTENT;
use crate::groups::{Group, GroupSource, NewGroup};
use crate::store::groups::{Filter, SORT_KEYS};
use crate::{VolumeError, Volumes};
use api::{Error, Json, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .get("/consistencygroups", list)
        .post("/consistencygroups", create)
        .get("/consistencygroups/detail", list_detail)
        .post("/consistencygroups/create_from_src", copy)
        .get("/consistencygroups/{group_id}", show)
        .put("/consistencygroups/{group_id}/update", update)
        .post("/consistencygroups/{group_id}/delete", delete)
        .get("/cgsnapshots", list_snapshots)
        .post("/cgsnapshots", create_snapshot)
        .get("/cgsnapshots/detail", detail_snapshots)
        .get("/cgsnapshots/{cgsnapshot_id}", show_snapshot)
        .delete("/cgsnapshots/{cgsnapshot_id}", delete_snapshot)
}

type Accepted = (StatusCode, Json<Value>);

async fn find(v: &Volumes, ask: &Ask, id: &str) -> Result<Group, VolumeError> {
    let found = v.find_group(&ask.ctx, id, "group:get").await?;
    match found.consistent {
        true => Ok(found),
        false => Err(VolumeError::GroupNotFound(id.to_owned())),
    }
}

async fn find_snapshot(v: &Volumes, ask: &Ask, id: &str) -> Result<GroupSnapshot, VolumeError> {
    let found = v.find_group_snapshot(&ask.ctx, id, "group:get_group_snapshot").await?;
    match found.consistent {
        true => Ok(found),
        false => Err(VolumeError::GroupSnapshotNotFound(id.to_owned())),
    }
}

fn detail(g: &Group) -> Value {
    json!({
        "id": g.id, "name": g.name, "description": g.description, "status": g.status.as_str(),
        "availability_zone": g.zone, "created_at": g.created_at.micros_naive(), "volume_types": g.volume_types,
    })
}

fn snapshot_detail(s: &GroupSnapshot) -> Value {
    json!({
        "id": s.id, "name": s.name, "description": s.description, "status": s.status.as_str(),
        "consistencygroup_id": s.group_id, "created_at": s.created_at.micros_naive(),
    })
}

fn accepted(ask: &Ask, g: &Group) -> Accepted {
    let links = ask.site.pair(&format!("/consistencygroups/{}", g.id));
    let view = json!({"id": g.id, "name": g.name, "links": links});
    (StatusCode::ACCEPTED, Json(json!({"consistencygroup": view})))
}

async fn list(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    listing(&v, &ask, false).await
}

async fn list_detail(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    listing(&v, &ask, true).await
}

async fn listing(v: &Volumes, ask: &Ask, detailed: bool) -> Answer<Json<Value>> {
    let page = ask.page(v, SORT_KEYS)?;
    let filter = Filter { group_id: None, consistent: true, ..filter(ask)? };
    let (found, more) = v.list_groups(&ask.ctx, filter, ask.all_projects()?, &page).await?;
    let one = |g: &Group| if detailed { detail(g) } else { json!({"id": g.id, "name": g.name}) };
    let shown = found.iter().map(one).collect();
    Ok(Json(ask.listed(&page, ("consistencygroups", "consistencygroup_links"), shown, more)))
}

async fn show(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    Ok(Json(json!({"consistencygroup": detail(&find(&v, &ask, &id).await?)})))
}

async fn create(State(v): State<Shared>, ask: Ask, Json(body): Json<Value>) -> Answer<Accepted> {
    CREATE_CONSISTENCY.check(&body)?;
    let g = inner(&body, "consistencygroup")?;
    let new = NewGroup {
        name: text(g.get("name")).unwrap_or_default(),
        description: text(g.get("description")),
        group_type: CONSISTENT.into(),
        volume_types: words(&g["volume_types"]).collect(),
        zone: text(g.get("availability_zone")).filter(|z| !z.is_empty()),
    };
    if new.volume_types.is_empty() {
        let why = format!("volume_types must be provided to create consistency group {}.", new.name);
        return Err(Error::bad_request(why).into());
    }
    Ok(accepted(&ask, &v.create_group(&ask.ctx, new).await?))
}

async fn copy(State(v): State<Shared>, ask: Ask, Json(body): Json<Value>) -> Answer<Accepted> {
    COPY_CONSISTENCY.check(&body)?;
    let g = inner(&body, "consistencygroup-from-src")?;
    let word = |key: &str| text(g.get(key)).filter(|t| !t.is_empty());
    let source = match (word("cgsnapshot_id"), word("source_cgid")) {
        (Some(id), None) => GroupSource::Snapshot(find_snapshot(&v, &ask, &id).await?.id),
        (None, Some(id)) => GroupSource::Group(find(&v, &ask, &id).await?.id),
        _ => {
            let why = "Exactly one of 'cgsnapshot_id' and 'source_cgid' must be provided to create a consistency group.";
            return Err(Error::bad_request(why).into());
        }
    };
    let name = word("name").unwrap_or_default();
    Ok(accepted(&ask, &v.copy_group(&ask.ctx, name, text(g.get("description")), source).await?))
}

async fn update(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<StatusCode> {
    UPDATE_CONSISTENCY.check(&body)?;
    find(&v, &ask, &id).await?;
    v.update_group(&ask.ctx, &id, change(inner(&body, "consistencygroup")?)?).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn delete(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<StatusCode> {
    DELETE_CONSISTENCY.check(&body)?;
    find(&v, &ask, &id).await?;
    let force = body["consistencygroup"].get("force").map_or(Ok(false), |f| boolean(f, "force"))?;
    v.delete_group(&ask.ctx, &id, force).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn list_snapshots(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    snapshot_listing(&v, &ask, false).await
}

async fn detail_snapshots(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    snapshot_listing(&v, &ask, true).await
}

async fn snapshot_listing(v: &Volumes, ask: &Ask, detailed: bool) -> Answer<Json<Value>> {
    let page = ask.page(v, SORT_KEYS)?;
    let filter = Filter { consistent: true, ..filter(ask)? };
    let (found, more) = v.list_group_snapshots(&ask.ctx, filter, ask.all_projects()?, &page).await?;
    let one = |s: &GroupSnapshot| {
        if detailed { snapshot_detail(s) } else { json!({"id": s.id, "name": s.name}) }
    };
    let shown = found.iter().map(one).collect();
    Ok(Json(ask.listed(&page, ("cgsnapshots", "cgsnapshot_links"), shown, more)))
}

async fn show_snapshot(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    Ok(Json(json!({"cgsnapshot": snapshot_detail(&find_snapshot(&v, &ask, &id).await?)})))
}

async fn create_snapshot(State(v): State<Shared>, ask: Ask, Json(body): Json<Value>) -> Answer<Accepted> {
    CREATE_CGSNAPSHOT.check(&body)?;
    let s = inner(&body, "cgsnapshot")?;
    let group_id = text(s.get("consistencygroup_id")).unwrap_or_default();
    let new = NewGroupSnapshot {
        id: None,
        group_id: find(&v, &ask, &group_id).await?.id,
        name: text(s.get("name")).unwrap_or_default(),
        description: text(s.get("description")),
        metadata: crate::Metadata::new(),
    };
    let made = v.create_group_snapshot(&ask.ctx, new).await?;
    let links = ask.site.pair(&format!("/cgsnapshots/{}", made.id));
    let view = json!({"id": made.id, "name": made.name, "links": links});
    Ok((StatusCode::ACCEPTED, Json(json!({"cgsnapshot": view}))))
}

async fn delete_snapshot(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<StatusCode> {
    find_snapshot(&v, &ask, &id).await?;
    v.delete_group_snapshot(&ask.ctx, &id).await?;
    Ok(StatusCode::ACCEPTED)
}
