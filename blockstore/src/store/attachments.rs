//! The `attachments` table.

use super::sql::{Arg, At, Where};
use crate::VolumeError;
use crate::model::{AttachMode, Attachment};
use api::Page;
use sqlx::{Any, Executor};
use state::{Timestamp, Tx};

const SELECT: &str = "SELECT id, volume_id, project_id, server_id, host, device, mode, status, connector, \
    attached_at, created_at FROM attachments";

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    volume_id: String,
    project_id: String,
    server_id: Option<String>,
    host: Option<String>,
    device: Option<String>,
    mode: String,
    status: String,
    connector: String,
    attached_at: Option<i64>,
    created_at: Timestamp,
}

impl TryFrom<Row> for Attachment {
    type Error = VolumeError;
    fn try_from(r: Row) -> Result<Attachment, VolumeError> {
        Ok(Attachment {
            id: r.id,
            volume_id: r.volume_id,
            project_id: r.project_id,
            server_id: r.server_id,
            host: r.host,
            device: r.device,
            mode: if r.mode == "ro" { AttachMode::Ro } else { AttachMode::Rw },
            status: r.status.parse()?,
            connector: serde_json::from_str(&r.connector)?,
            attached_at: r.attached_at.map(Timestamp),
            created_at: r.created_at,
        })
    }
}

/// Writes the row, whether it is there or not.
pub(crate) async fn put(tx: &mut Tx, a: &Attachment) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO attachments (id, volume_id, project_id, server_id, host, device, mode, status, connector, \
         attached_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
         ON CONFLICT (id) DO UPDATE SET host = excluded.host, device = excluded.device, mode = excluded.mode, \
         status = excluded.status, connector = excluded.connector, attached_at = excluded.attached_at, \
         updated_at = $12",
    )
    .bind(a.id.clone())
    .bind(a.volume_id.clone())
    .bind(a.project_id.clone())
    .bind(a.server_id.clone())
    .bind(a.host.clone())
    .bind(a.device.clone())
    .bind(a.mode.as_str())
    .bind(a.status.as_str())
    .bind(serde_json::to_string(&a.connector)?)
    .bind(a.attached_at.map(|t| t.0))
    .bind(a.created_at)
    .bind(Timestamp::now())
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn get<'e>(
    db: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<Option<Attachment>, VolumeError> {
    Where::of("id", id).one::<Row, Attachment>(db, SELECT).await
}

/// All of these volumes, oldest first.
pub(crate) async fn of_volumes<'e>(
    db: impl Executor<'e, Database = Any>,
    volumes: impl IntoIterator<Item = String>,
) -> Result<Vec<Attachment>, VolumeError> {
    let mut filter = Where::default();
    filter.among("volume_id", volumes);
    let mut all = filter.all::<Row, Attachment>(db, SELECT).await?;
    all.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    Ok(all)
}

/// What a listing is narrowed to.
#[derive(Debug, Default, Clone)]
pub(crate) struct Filter {
    pub(crate) project_id: Option<String>,
    pub(crate) volume_id: Option<String>,
    pub(crate) server_id: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) id: Option<String>,
}

/// What a listing may be sorted by.
pub(crate) const SORT_KEYS: &[&str] = &["id", "created_at", "status", "volume_id", "instance_uuid"];

pub(crate) async fn list<'e>(
    db: impl Executor<'e, Database = Any>,
    filter: &Filter,
    page: &Page,
    marker: Option<&Attachment>,
) -> Result<Vec<Attachment>, VolumeError> {
    let mut w = Where::default();
    w.given([
        ("project_id", &filter.project_id),
        ("volume_id", &filter.volume_id),
        ("server_id", &filter.server_id),
        ("status", &filter.status),
        ("id", &filter.id),
    ]);
    let column = |key: &str| {
        Some(match key {
            "id" => "id",
            "created_at" => "created_at",
            "status" => "status",
            "volume_id" => "volume_id",
            "instance_uuid" => "COALESCE(server_id, '')",
            _ => return None,
        })
    };
    let at = marker.map(|m| {
        move |key: &str| -> Option<Arg> {
            Some(match key {
                "id" => m.id.clone().into(),
                "created_at" => m.created_at.0.into(),
                "status" => m.status.as_str().into(),
                "volume_id" => m.volume_id.clone().into(),
                "instance_uuid" => m.server_id.clone().unwrap_or_default().into(),
                _ => return None,
            })
        }
    });
    let at = at.as_ref().map(|f| f as At<'_>);
    let query = w.page(page, "id", &[("created_at", true)], column, at);
    query.all::<Row, Attachment>(db, SELECT).await
}

pub(crate) async fn remove(tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
    sqlx::query("DELETE FROM attachments WHERE id = $1").bind(id).execute(tx.conn()).await?;
    Ok(())
}

/// Removes all of a volume's, as an administrator's reset does.
pub(crate) async fn remove_all(tx: &mut Tx, volume_id: &str) -> Result<(), VolumeError> {
    sqlx::query("DELETE FROM attachments WHERE volume_id = $1").bind(volume_id).execute(tx.conn()).await?;
    Ok(())
}
