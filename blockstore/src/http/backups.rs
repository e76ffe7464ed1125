//! `/backups`, their records, and restoring them.

use super::schemas::{CREATE_BACKUP, IMPORT_BACKUP, RESET_BACKUP, RESTORE_BACKUP, UPDATE_BACKUP};
use super::{Answer, Ask, Shared, boolean, inner, text, volumes};
use crate::BackupStatus;
use crate::backup::store::{Filter, SORT_KEYS};
use crate::backup::{Backup, NewBackup};
use api::{Error, Json, Path, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes<Shared>) -> Routes<Shared> {
    routes
        .get("/backups", list)
        .post("/backups", create)
        .get("/backups/detail", list_detail)
        .post("/backups/import_record", import)
        .get("/backups/{backup_id}", show)
        .put("/backups/{backup_id}", update)
        .delete("/backups/{backup_id}", delete)
        .post("/backups/{backup_id}/action", act)
        .post("/backups/{backup_id}/restore", restore)
        .get("/backups/{backup_id}/export_record", export)
}

fn summary(_: &Shared, ask: &Ask, b: &Backup) -> Value {
    json!({"id": b.id, "name": b.name, "links": ask.site.pair(&format!("/backups/{}", b.id))})
}

fn detail(v: &Shared, ask: &Ask, b: &Backup) -> Value {
    let mut view = summary(v, ask, b);
    let more = json!({
        "status": b.status.as_str(), "size": b.size_gib, "object_count": b.chunks, "fail_reason": b.fail_reason,
        "description": b.description, "availability_zone": b.zone, "volume_id": b.volume_id,
        "snapshot_id": b.snapshot_id, "container": b.container(),
        "is_incremental": b.parent_id.is_some(), "has_dependent_backups": b.heirs > 0, "data_timestamp": b.data_timestamp.micros_naive(),
        "created_at": b.created_at.micros_naive(), "updated_at": b.updated_at.map(|t| t.micros_naive()),
    });
    let Value::Object(more) = more else { return view };
    more.into_iter().for_each(|(k, v)| view[k] = v);
    if ask.at(18) && v.may_see_project(&ask.ctx, b) {
        view["os-backup-project-attr:project_id"] = json!(b.project_id);
    }
    if ask.at(43) {
        view["metadata"] = json!(b.metadata);
    }
    if ask.at(56) {
        view["user_id"] = json!(b.user_id);
    }
    if let Some(key) = b.key().filter(|_| ask.at(64)) {
        view["encryption_key_id"] = json!(key);
    }
    view
}

async fn list(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    listing(&v, &ask, summary).await
}

async fn list_detail(State(v): State<Shared>, ask: Ask) -> Answer<Json<Value>> {
    listing(&v, &ask, detail).await
}

async fn listing(v: &Shared, ask: &Ask, view: fn(&Shared, &Ask, &Backup) -> Value) -> Answer<Json<Value>> {
    let page = ask.page(v, SORT_KEYS)?;
    let (filter, all) = (filter(ask)?, ask.all_projects()?);
    let (found, more) = v.list_backups(&ask.ctx, filter.clone(), all, &page).await?;
    let shown = found.iter().map(|b| view(v, ask, b)).collect();
    let mut body = ask.listed(&page, ("backups", "backups_links"), shown, more);
    if ask.counts()? {
        body["count"] = v.count_backups(&ask.ctx, filter, all).await?.into();
    }
    Ok(Json(body))
}

fn filter(ask: &Ask) -> Result<Filter, Error> {
    let mut f = Filter::default();
    for (key, value) in ask.query.iter().filter(|(k, _)| !super::filters::OTHERS.contains(k)) {
        let some = Some(value.to_owned());
        match key {
            "name" => f.name = some,
            "status" => f.status = some,
            "volume_id" => f.volume_id = some,
            "snapshot_id" => f.snapshot_id = some,
            "project_id" if ask.ctx.is_admin() => f.project_id = some,
            _ => ask.no_filter(key)?,
        }
    }
    Ok(f)
}

async fn show(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    let backup = v.find_backup(&ask.ctx, &id, "backup:get").await?;
    Ok(Json(json!({"backup": detail(&v, &ask, &backup)})))
}

async fn create(
    State(v): State<Shared>,
    ask: Ask,
    Json(body): Json<Value>,
) -> Answer<(StatusCode, Json<Value>)> {
    CREATE_BACKUP.check(&body)?;
    let new = asked(&ask, inner(&body, "backup")?)?;
    let backup = v.create_backup(&ask.ctx, new).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"backup": summary(&v, &ask, &backup)}))))
}

fn asked(ask: &Ask, b: &Value) -> Result<NewBackup, Error> {
    let flag = |key: &str| b.get(key).map(|f| boolean(f, key)).transpose().map(Option::unwrap_or_default);
    for (key, since) in [("metadata", 43), ("availability_zone", 51)] {
        if b.get(key).is_some() && !ask.at(since) {
            return Err(Error::bad_request(format!(
                "Additional properties are not allowed ('{key}' was unexpected)"
            )));
        }
    }
    Ok(NewBackup {
        id: None,
        volume_id: text(b.get("volume_id")).unwrap_or_default(),
        snapshot_id: text(b.get("snapshot_id")),
        name: text(b.get("name")),
        description: text(b.get("description")),
        metadata: volumes::map(b.get("metadata")),
        zone: text(b.get("availability_zone")).filter(|z| !z.is_empty()),
        container: text(b.get("container")).filter(|c| !c.is_empty()),
        incremental: flag("incremental")?,
        force: flag("force")?,
    })
}

async fn update(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<Json<Value>> {
    ask.since(9)?;
    UPDATE_BACKUP.check(&body)?;
    let change = inner(&body, "backup")?;
    if change.get("metadata").is_some() && !ask.at(43) {
        return Err(
            Error::bad_request("Additional properties are not allowed ('metadata' was unexpected)").into()
        );
    }
    let backup = v.update_backup(&ask.ctx, &id, volumes::change(change)).await?;
    Ok(Json(json!({"backup": summary(&v, &ask, &backup)})))
}

async fn delete(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<StatusCode> {
    v.delete_backup(&ask.ctx, &id, "backup:delete", false).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn act(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<StatusCode> {
    if body.get("os-force_delete").is_some() {
        v.delete_backup(&ask.ctx, &id, "volume_extension:backup_admin_actions:force_delete", true).await?;
        return Ok(StatusCode::ACCEPTED);
    }
    if body.get("os-reset_status").is_none() {
        return Err(Error::bad_request("There is no such action on a backup.").into());
    }
    RESET_BACKUP.check(&body)?;
    let status = match text(inner(&body, "os-reset_status")?.get("status")).as_deref() {
        Some("error") => BackupStatus::Error,
        _ => BackupStatus::Available,
    };
    v.reset_backup(&ask.ctx, &id, status).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn restore(
    State(v): State<Shared>,
    ask: Ask,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Answer<(StatusCode, Json<Value>)> {
    RESTORE_BACKUP.check(&body)?;
    let asked = inner(&body, "restore")?;
    let word = |key: &str| text(asked.get(key)).filter(|t| !t.is_empty());
    let volume = match word("volume_id") {
        Some(volume_id) => v.restore_backup(&ask.ctx, &id, &volume_id).await?,
        None => v.restore_to_new(&ask.ctx, &id, word("name")).await?,
    };
    let view = json!({"backup_id": id, "volume_id": volume.id, "volume_name": volume.name});
    Ok((StatusCode::ACCEPTED, Json(json!({"restore": view}))))
}

async fn export(State(v): State<Shared>, ask: Ask, Path(id): Path<String>) -> Answer<Json<Value>> {
    let record = v.export_backup(&ask.ctx, &id).await?;
    Ok(Json(json!({"backup-record": {"backup_service": record.service, "backup_url": record.url}})))
}

async fn import(
    State(v): State<Shared>,
    ask: Ask,
    Json(body): Json<Value>,
) -> Answer<(StatusCode, Json<Value>)> {
    IMPORT_BACKUP.check(&body)?;
    let record = inner(&body, "backup-record")?;
    let word = |key: &str| text(record.get(key)).unwrap_or_default();
    let backup = v.import_backup(&ask.ctx, &word("backup_service"), &word("backup_url")).await?;
    Ok((StatusCode::CREATED, Json(json!({"backup": summary(&v, &ask, &backup)}))))
}
