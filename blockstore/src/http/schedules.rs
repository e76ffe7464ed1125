//! `/schedules`: snapshots and backups that are made by themselves (not upstream's; the extension `aquifer-schedules`).
//!
//! ```text
//! POST /v3/{project}/schedules
//! {"schedule": {"volume_id": "…", "kind": "backup", "name": "nightly", "daily": 7, "weekly": 4,
//!               "hour": 3, "minute": 30, "time_zone": "Europe/Berlin", "full_every": 7}}
//! GET    /v3/{project}/schedules?volume_id=…        PUT    /v3/{project}/schedules/{id}
//! GET    /v3/{project}/schedules/{id}               DELETE /v3/{project}/schedules/{id}
//! GET    /v3/{project}/schedules/{id}/items         POST   /v3/{project}/schedules/{id}/action   {"run": {}}
//! ```
//! `hourly`, `daily`, `weekly` and `monthly` are how many of each are kept. An hourly run is at `minute`, a daily one at
//! `hour:minute`, a weekly one then on `weekday`, a monthly one on `day`.

use super::schemas::{CREATE_SCHEDULE, UPDATE_SCHEDULE};
use super::{Answer, Ask, Shared, boolean, inner, text};
use crate::schedules::store::{Filter, SORT_KEYS};
use crate::schedules::{Item, Kind, Schedule, ScheduleChange, Target, WEEKDAYS};
use api::{Error, Json, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .get("/schedules", list)
        .post("/schedules", create)
        .get("/schedules/{schedule_id}", show)
        .put("/schedules/{schedule_id}", update)
        .delete("/schedules/{schedule_id}", delete)
        .get("/schedules/{schedule_id}/items", items)
        .post("/schedules/{schedule_id}/action", act)
}

fn view(ask: &Ask, s: &Schedule) -> Value {
    let (volume, group) = match &s.target {
        Target::Volume(id) => (Some(id), None),
        Target::Group(id) => (None, Some(id)),
    };
    let weekday = usize::try_from(s.clock.weekday).ok().and_then(|n| WEEKDAYS.get(n));
    json!({
        "id": s.id, "name": s.name, "description": s.description, "kind": s.kind.as_str(), "volume_id": volume,
        "group_id": group, "hourly": s.keep.hourly, "daily": s.keep.daily, "weekly": s.keep.weekly,
        "monthly": s.keep.monthly, "minute": s.clock.minute, "hour": s.clock.hour, "weekday": weekday,
        "day": s.clock.day, "time_zone": s.clock.zone, "full_every": s.full_every, "container": s.container,
        "enabled": s.enabled, "next_run_at": s.enabled.then(|| s.next_at.micros_naive()),
        "last_run_at": s.last_at.map(|t| t.micros_naive()),
        "last_error": (!s.last_error.is_empty()).then_some(&s.last_error),
        "project_id": s.project_id, "user_id": s.user_id, "created_at": s.created_at.micros_naive(),
        "updated_at": s.updated_at.map(|t| t.micros_naive()),
        "links": ask.site.pair(&format!("/schedules/{}", s.id)),
    })
}

async fn list(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    let page = ask.page(&v, SORT_KEYS)?;
    let (found, more) = v.list_schedules(&ask.ctx, filter(&ask)?, ask.all_projects()?, &page).await?;
    let shown = found.iter().map(|s| view(&ask, s)).collect();
    Ok(Json(ask.listed(&page, ("schedules", "schedules_links"), shown, more)))
}

fn filter(ask: &Ask) -> Result<Filter, Error> {
    let mut f = Filter::default();
    for (key, value) in ask.query.iter().filter(|(k, _)| !super::filters::OTHERS.contains(k)) {
        let some = Some(value.to_owned());
        match key {
            "name" => f.name = some,
            "kind" => f.kind = some,
            "volume_id" => f.volume_id = some,
            "group_id" => f.group_id = some,
            "project_id" if ask.ctx.is_admin() => f.project_id = some,
            _ => {
                return Err(Error::bad_request(format!("Invalid filters {key} are found in query options.")));
            }
        }
    }
    Ok(f)
}

async fn show(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    let found = v.find_schedule(&ask.ctx, &id, "schedule:get").await?;
    Ok(Json(json!({"schedule": view(&ask, &found)})))
}

async fn create(
    State(v): State<Shared>,
    ask: Ask,
    Json(body): Json<Value>,
) -> Answer<(StatusCode, Json<Value>)> {
    CREATE_SCHEDULE.check(&body)?;
    let s = inner(&body, "schedule")?;
    let target = match (text(s.get("volume_id")), text(s.get("group_id"))) {
        (Some(id), None) => Target::Volume(id),
        (None, Some(id)) => Target::Group(id),
        _ => return Err(Error::bad_request("A schedule is for either a volume_id or a group_id.").into()),
    };
    let kind = s.get("kind").and_then(Value::as_str).and_then(Kind::parse).unwrap_or(Kind::Snapshot);
    let made = v.create_schedule(&ask.ctx, kind, target, change(s)?).await?;
    Ok((StatusCode::CREATED, Json(json!({"schedule": view(&ask, &made)}))))
}

fn change(s: &Value) -> Result<ScheduleChange, Error> {
    let number = |key: &str| s.get(key).and_then(Value::as_i64);
    let some = |key: &str| text(s.get(key)).filter(|t| !t.is_empty());
    let weekday = s.get("weekday").and_then(Value::as_str);
    let weekday = weekday.and_then(|day| WEEKDAYS.iter().position(|d| *d == day));
    Ok(ScheduleChange {
        name: some("name"),
        description: s.get("description").map(|d| text(Some(d))),
        keep: ["hourly", "daily", "weekly", "monthly"].map(number),
        minute: number("minute"),
        hour: number("hour"),
        weekday: weekday.and_then(|n| i64::try_from(n).ok()),
        day: number("day"),
        zone: some("time_zone"),
        full_every: number("full_every"),
        container: s.get("container").map(|_| some("container")),
        enabled: s.get("enabled").map(|e| boolean(e, "enabled")).transpose()?,
    })
}

async fn update(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    UPDATE_SCHEDULE.check(&body)?;
    let changed = v.update_schedule(&ask.ctx, &id, change(inner(&body, "schedule")?)?).await?;
    Ok(Json(json!({"schedule": view(&ask, &changed)})))
}

async fn delete(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<StatusCode> {
    v.delete_schedule(&ask.ctx, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn items(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    let one = |i: &Item| {
        json!({"id": i.id, "kind": i.kind.as_str(), "run_id": i.run_id,
            "classes": i.classes.iter().map(|c| c.as_str()).collect::<Vec<_>>(),
            "created_at": i.made_at.micros_naive()})
    };
    let all = v.schedule_items(&ask.ctx, &id).await?;
    Ok(Json(json!({"items": all.iter().map(one).collect::<Vec<_>>()})))
}

async fn act(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<StatusCode> {
    match super::actions::verb(&body)? {
        "run" => v.run_schedule(&ask.ctx, &id).await?,
        other => return Err(super::actions::unknown(other).into()),
    }
    Ok(StatusCode::ACCEPTED)
}
