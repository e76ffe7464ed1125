//! `/groups` (3.13). Consistency groups are not seen here: they have an API of their own, as upstream's.

use super::schemas::{COPY_GROUP, CREATE_GROUP, FAILOVER_GROUP, UPDATE_GROUP};
use super::{Answer, Ask, Shared, boolean, inner, text};
use crate::groups::{Group, GroupChange, GroupSource, NewGroup};
use crate::status::GroupStatus;
use crate::store::groups::{Filter, SORT_KEYS};
use crate::{VolumeError, Volumes};
use api::{Error, Json, Path, Routes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .get("/groups", list)
        .post("/groups", create)
        .get("/groups/detail", list_detail)
        .post("/groups/action", copy)
        .get("/groups/{group_id}", show)
        .put("/groups/{group_id}", update)
        .post("/groups/{group_id}/action", act)
}

type Accepted = (StatusCode, Json<Value>);

const ELSEWHERE: &str = "Migrated group can only be operated by CG APIs.";

/// Refuses what has the type of consistency groups; `elsewhere` is upstream's advice.
pub(super) fn generic(consistent: bool, group_type_id: &str, elsewhere: &str) -> Result<(), VolumeError> {
    match consistent {
        true => Err(VolumeError::BadRequest(format!(
            "Group_type {group_type_id} is reserved for migrating CGs to groups. {elsewhere}"
        ))),
        false => Ok(()),
    }
}

async fn find(v: &Volumes, ask: &Ask, id: &str) -> Result<Group, VolumeError> {
    let found = v.find_group(&ask.ctx, id, "group:get").await?;
    generic(found.consistent, &found.group_type_id, ELSEWHERE)?;
    Ok(found)
}

/// With its volumes where they are asked for (`list_volume`, 3.25).
async fn detail(v: &Volumes, ask: &Ask, g: &Group) -> Answer<Value> {
    let mut view = json!({
        "id": g.id, "name": g.name, "description": g.description, "status": g.status.as_str(),
        "availability_zone": g.zone, "created_at": g.created_at.micros_naive(), "group_type": g.group_type_id,
        "volume_types": g.volume_types,
    });
    if ask.at(14) {
        view["group_snapshot_id"] = json!(g.group_snapshot_id);
        view["source_group_id"] = json!(g.source_group_id);
    }
    if ask.at(25) && ask.query.bool("list_volume")?.unwrap_or(false) {
        view["volumes"] = json!(v.members(&g.id).await?);
    }
    if ask.at(38) {
        view["replication_status"] = g.replication_status.as_str().into();
    }
    if ask.at(58) && ask.ctx.is_admin() {
        view["project_id"] = json!(g.project_id);
    }
    Ok(view)
}

async fn list(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    listing(&v, &ask, false).await
}

async fn list_detail(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    listing(&v, &ask, true).await
}

pub(super) fn filter(ask: &Ask) -> Result<Filter, Error> {
    let mut f = Filter::default();
    for (key, value) in ask.query.iter() {
        let some = || Some(value.to_owned());
        match key {
            "id" => f.id = some(),
            "name" => f.name = some(),
            "status" => f.status = some(),
            "group_id" => f.group_id = some(),
            "project_id" if ask.ctx.is_admin() => f.project_id = some(),
            "limit" | "marker" | "offset" | "sort" | "sort_key" | "sort_dir" | "all_tenants"
            | "list_volume" => {}
            _ => ask.no_filter(key)?,
        }
    }
    Ok(f)
}

async fn listing(v: &Shared, ask: &Ask, detailed: bool) -> Answer<Json<Value>> {
    ask.since(13)?;
    let page = ask.page(v, SORT_KEYS)?;
    let filter = Filter { group_id: None, ..filter(ask)? };
    let (found, more) = v.list_groups(&ask.ctx, filter, ask.all_projects()?, &page).await?;
    let mut shown = Vec::new();
    for group in &found {
        shown.push(match detailed {
            true => detail(v, ask, group).await?,
            false => json!({"id": group.id, "name": group.name}),
        });
    }
    Ok(Json(ask.listed(&page, ("groups", "group_links"), shown, more)))
}

async fn show(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    ask.since(13)?;
    let group = find(&v, &ask, &id).await?;
    Ok(Json(json!({"group": detail(&v, &ask, &group).await?})))
}

fn accepted(group: &Group) -> Accepted {
    (StatusCode::ACCEPTED, Json(json!({"group": {"id": group.id, "name": group.name}})))
}

pub(super) fn words(value: &Value) -> impl Iterator<Item = String> + '_ {
    value.as_str().unwrap_or_default().split(',').map(|id| id.trim().to_owned()).filter(|id| !id.is_empty())
}

async fn create(State(v): State<Shared>, ask: Ask, Json(body): Json<Value>) -> Answer<Accepted> {
    ask.since(13)?;
    CREATE_GROUP.check(&body)?;
    let g = inner(&body, "group")?;
    let kind = text(g.get("group_type")).unwrap_or_default();
    let kind = v.find_group_type(&ask.ctx, &kind, true).await?;
    generic(kind.consistent(), &kind.id, ELSEWHERE)?;
    let new = NewGroup {
        name: text(g.get("name")).unwrap_or_default(),
        description: text(g.get("description")),
        group_type: kind.id,
        volume_types: g["volume_types"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|t| text(Some(t)))
            .collect(),
        zone: text(g.get("availability_zone")).filter(|z| !z.is_empty()),
    };
    Ok(accepted(&v.create_group(&ask.ctx, new).await?))
}

async fn copy(State(v): State<Shared>, ask: Ask, Json(body): Json<Value>) -> Answer<Accepted> {
    ask.since(14)?;
    COPY_GROUP.check(&body)?;
    let g = inner(&body, "create-from-src")?;
    let word = |key: &str| text(g.get(key)).filter(|t| !t.is_empty());
    let source = match (word("group_snapshot_id"), word("source_group_id")) {
        (Some(id), None) => {
            let of = v.find_group_snapshot(&ask.ctx, &id, "group:get_group_snapshot").await?;
            generic(of.consistent, &of.group_type_id, ELSEWHERE)?;
            GroupSource::Snapshot(id)
        }
        (None, Some(id)) => GroupSource::Group(find(&v, &ask, &id).await?.id),
        _ => {
            return Err(Error::bad_request(
                "Exactly one of 'group_snapshot_id' and 'source_group_id' must be provided to create group from \
                 source.",
            )
            .into());
        }
    };
    let name = word("name").unwrap_or_default();
    Ok(accepted(&v.copy_group(&ask.ctx, name, text(g.get("description")), source).await?))
}

async fn update(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<StatusCode> {
    ask.since(13)?;
    UPDATE_GROUP.check(&body)?;
    find(&v, &ask, &id).await?;
    v.update_group(&ask.ctx, &id, change(inner(&body, "group")?)?).await?;
    Ok(StatusCode::ACCEPTED)
}

/// What an update asks for; 400 where that is nothing.
pub(super) fn change(g: &Value) -> Result<GroupChange, Error> {
    let change = GroupChange {
        name: text(g.get("name")),
        description: g.get("description").filter(|d| !d.is_null()).map(|d| text(Some(d))),
        add: words(&g["add_volumes"]).collect(),
        remove: words(&g["remove_volumes"]).collect(),
    };
    let nothing = change.name.is_none() && change.description.is_none();
    match nothing && change.add.is_empty() && change.remove.is_empty() {
        true => Err(Error::bad_request(
            "Name, description, add_volumes, and remove_volumes can not be all empty in the request body.",
        )),
        false => Ok(change),
    }
}

/// The state that a reset asks for.
pub(super) fn status(body: &Value) -> Result<GroupStatus, Error> {
    let word = body["reset_status"]["status"].as_str().unwrap_or_default();
    word.parse().map_err(|_| Error::bad_request(format!("Invalid status '{word}' for a group's reset.")))
}

async fn act(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Response> {
    ask.since(13)?;
    match super::actions::verb(&body)? {
        "delete" => {
            let flag = inner(&body, "delete")?.get("delete-volumes");
            let with_volumes = flag.map_or(Ok(false), |f| boolean(f, "delete-volumes"))?;
            find(&v, &ask, &id).await?;
            v.delete_group(&ask.ctx, &id, with_volumes).await?;
        }
        "reset_status" => {
            ask.since(20)?;
            v.reset_group(&ask.ctx, &id, status(&body)?).await?;
        }
        verb @ ("enable_replication" | "disable_replication") => {
            ask.since(38)?;
            inner(&body, verb)?;
            v.replicate_group(&ask.ctx, &id, verb == "enable_replication").await?;
        }
        "failover_replication" => {
            ask.since(38)?;
            FAILOVER_GROUP.check(&body)?;
            let asked = inner(&body, "failover_replication")?;
            let flag = asked.get("allow_attached_volume");
            let attached = flag.map_or(Ok(false), |f| boolean(f, "allow_attached_volume"))?;
            let to = asked["secondary_backend_id"].as_str();
            v.fail_over_group(&ask.ctx, &id, attached, to).await?;
        }
        "list_replication_targets" => {
            ask.since(38)?;
            inner(&body, "list_replication_targets")?;
            let targets = v.group_targets(&ask.ctx, &id).await?.into_iter();
            let targets: Vec<_> = targets.map(|id| json!({"backend_id": id})).collect();
            return Ok(Json(json!({"replication_targets": targets})).into_response());
        }
        other => return Err(super::actions::unknown(other).into()),
    }
    Ok(StatusCode::ACCEPTED.into_response())
}
