//! `/group_snapshots` (3.14). Those of consistency groups are not seen here, as in `/groups`.

use super::groups::{filter, generic, status};
use super::schemas::CREATE_GROUP_SNAPSHOT;
use super::{Answer, Ask, Shared, inner, text};
use crate::group_snapshots::{GroupSnapshot, NewGroupSnapshot};
use crate::store::groups::SORT_KEYS;
use api::{Error, Json, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .get("/group_snapshots", list)
        .post("/group_snapshots", create)
        .get("/group_snapshots/detail", list_detail)
        .get("/group_snapshots/{group_snapshot_id}", show)
        .delete("/group_snapshots/{group_snapshot_id}", delete)
        .post("/group_snapshots/{group_snapshot_id}/action", act)
}

const ELSEWHERE: &str = "Migrated group snapshots can only be operated by CG snapshot APIs.";

fn detail(ask: &Ask, s: &GroupSnapshot) -> Value {
    let mut view = json!({
        "id": s.id, "name": s.name, "description": s.description, "status": s.status.as_str(),
        "group_id": s.group_id, "group_type_id": s.group_type_id, "created_at": s.created_at.micros_naive(),
    });
    if ask.at(58) && ask.ctx.is_admin() {
        view["project_id"] = json!(s.project_id);
    }
    view
}

async fn list(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    listing(&v, &ask, false).await
}

async fn list_detail(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    listing(&v, &ask, true).await
}

async fn listing(v: &Shared, ask: &Ask, detailed: bool) -> Answer<Json<Value>> {
    ask.since(14)?;
    let page = ask.page(v, SORT_KEYS)?;
    let (found, more) = v.list_group_snapshots(&ask.ctx, filter(ask)?, ask.all_projects()?, &page).await?;
    let one = |s: &GroupSnapshot| match detailed {
        true => detail(ask, s),
        false => json!({"id": s.id, "name": s.name}),
    };
    let shown = found.iter().map(one).collect();
    Ok(Json(ask.listed(&page, ("group_snapshots", "group_snapshot_links"), shown, more)))
}

async fn show(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    ask.since(14)?;
    let found = v.find_group_snapshot(&ask.ctx, &id, "group:get_group_snapshot").await?;
    generic(found.consistent, &found.group_type_id, ELSEWHERE)?;
    Ok(Json(json!({"group_snapshot": detail(&ask, &found)})))
}

async fn create(
    State(v): State<Shared>,
    ask: Ask,
    Json(body): Json<Value>,
) -> Answer<(StatusCode, Json<Value>)> {
    ask.since(14)?;
    CREATE_GROUP_SNAPSHOT.check(&body)?;
    let s = inner(&body, "group_snapshot")?;
    let group_id = text(s.get("group_id")).unwrap_or_default();
    let group = v.find_group(&ask.ctx, &group_id, "group:get").await?;
    generic(group.consistent, &group.group_type_id, ELSEWHERE)?;
    let new = NewGroupSnapshot {
        id: None,
        group_id,
        name: text(s.get("name")).unwrap_or_default(),
        description: text(s.get("description")),
        metadata: crate::Metadata::new(),
    };
    let made = v.create_group_snapshot(&ask.ctx, new).await?;
    let view = json!({"id": made.id, "name": made.name, "group_type_id": made.group_type_id});
    Ok((StatusCode::ACCEPTED, Json(json!({"group_snapshot": view}))))
}

async fn delete(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<StatusCode> {
    ask.since(14)?;
    if v.find_group_snapshot(&ask.ctx, &id, "group:get_group_snapshot").await?.consistent {
        // Upstream loses the reason on its way.
        let why = format!("Error occurred when deleting group snapshot {id}.");
        return Err(Error::bad_request(why).into());
    }
    v.delete_group_snapshot(&ask.ctx, &id).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn act(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<StatusCode> {
    ask.since(19)?;
    match super::actions::verb(&body)? {
        "reset_status" => v.reset_group_snapshot(&ask.ctx, &id, status(&body)?).await?,
        other => return Err(super::actions::unknown(other).into()),
    }
    Ok(StatusCode::ACCEPTED)
}
