//! `/qos-specs`

use super::schemas::{QOS, QOS_KEYS, QOS_SET};
use super::{Answer, Ask, Shared, text, volumes::map};
use crate::qos::QosSpecs;
use api::{Error, Json, Path, Query, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .get("/qos-specs", list)
        .post("/qos-specs", create)
        .get("/qos-specs/{qos_id}", show)
        .put("/qos-specs/{qos_id}", set)
        .delete("/qos-specs/{qos_id}", delete)
        .put("/qos-specs/{qos_id}/delete_keys", unset)
        .get("/qos-specs/{qos_id}/associations", associations)
        .get("/qos-specs/{qos_id}/associate", associate)
        .get("/qos-specs/{qos_id}/disassociate", disassociate)
        .get("/qos-specs/{qos_id}/disassociate_all", disassociate_all)
}

fn view(q: &QosSpecs) -> Value {
    json!({"id": q.id, "name": q.name, "consumer": q.consumer, "specs": q.specs})
}

fn with_links(ask: &Ask, q: &QosSpecs) -> Json<Value> {
    Json(json!({"qos_specs": view(q), "links": ask.site.pair(&format!("/qos-specs/{}", q.id))}))
}

async fn list(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    let all = v.list_qos(&ask.ctx).await?;
    Ok(Json(json!({"qos_specs": all.iter().map(view).collect::<Vec<_>>()})))
}

async fn create(State(v): State<Shared>, ask: Ask, Json(body): Json<Value>) -> Answer<Json<Value>> {
    QOS.check(&body)?;
    let mut specs = map(body.get("qos_specs"));
    let name = specs.remove("name").unwrap_or_default();
    let qos = v.create_qos(&ask.ctx, &name, specs).await?;
    Ok(with_links(&ask, &qos))
}

async fn show(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    let qos = v.get_qos(&ask.ctx, &id, "volume_extension:qos_specs_manage:get").await?;
    Ok(with_links(&ask, &qos))
}

async fn set(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    QOS_SET.check(&body)?;
    v.set_qos(&ask.ctx, &id, map(body.get("qos_specs"))).await?;
    Ok(Json(body))
}

async fn unset(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<StatusCode> {
    QOS_KEYS.check(&body)?;
    let keys = body["keys"].as_array().into_iter().flatten().filter_map(|k| text(Some(k)));
    v.unset_qos(&ask.ctx, &id, &keys.collect::<Vec<_>>()).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn delete(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<StatusCode> {
    v.delete_qos(&ask.ctx, &id, ask.query.bool("force")?.unwrap_or(false)).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn associations(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    let types = v.qos_associations(&ask.ctx, &id).await?;
    let shown: Vec<Value> = types
        .iter()
        .map(|t| json!({"association_type": "volume_type", "name": t.name, "id": t.id}))
        .collect();
    Ok(Json(json!({"qos_associations": shown})))
}

fn type_id(query: &Query) -> Result<&str, Error> {
    query.get("vol_type_id").ok_or_else(|| Error::bad_request("Volume Type id must not be None."))
}

async fn associate(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<StatusCode> {
    v.associate_qos(&ask.ctx, &id, type_id(&ask.query)?).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn disassociate(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<StatusCode> {
    v.disassociate_qos(&ask.ctx, &id, type_id(&ask.query)?).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn disassociate_all(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<StatusCode> {
    v.disassociate_all_qos(&ask.ctx, &id).await?;
    Ok(StatusCode::ACCEPTED)
}
