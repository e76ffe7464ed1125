//! The `snapshots` table.

use super::sql::{Arg, At, Where, from_json, to_json};
use crate::VolumeError;
use crate::model::{Metadata, Snapshot};
use crate::status::SnapshotStatus;
use api::Page;
use sqlx::{Any, Executor};
use state::{Timestamp, Tx};

const SELECT: &str = "SELECT id, volume_id, project_id, user_id, size, status, progress, name, description, type_id, \
    metadata, group_snapshot_id, created_at, updated_at FROM snapshots";

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    volume_id: String,
    project_id: String,
    user_id: String,
    size: i64,
    status: String,
    progress: String,
    name: Option<String>,
    description: Option<String>,
    type_id: String,
    metadata: String,
    group_snapshot_id: Option<String>,
    created_at: Timestamp,
    updated_at: Option<i64>,
}

impl TryFrom<Row> for Snapshot {
    type Error = VolumeError;
    fn try_from(r: Row) -> Result<Snapshot, VolumeError> {
        Ok(Snapshot {
            id: r.id,
            volume_id: r.volume_id,
            project_id: r.project_id,
            user_id: r.user_id,
            size_gib: r.size,
            status: r.status.parse()?,
            progress: r.progress,
            name: r.name,
            description: r.description,
            type_id: r.type_id,
            metadata: from_json(&r.metadata)?,
            group_snapshot_id: r.group_snapshot_id,
            created_at: r.created_at,
            updated_at: r.updated_at.map(Timestamp),
        })
    }
}

pub(crate) async fn insert(tx: &mut Tx, s: &Snapshot) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO snapshots (id, volume_id, project_id, user_id, size, status, progress, name, description, \
         type_id, metadata, group_snapshot_id, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, \
         $13)",
    )
    .bind(s.id.clone())
    .bind(s.volume_id.clone())
    .bind(s.project_id.clone())
    .bind(s.user_id.clone())
    .bind(s.size_gib)
    .bind(s.status.as_str())
    .bind(s.progress.clone())
    .bind(s.name.clone())
    .bind(s.description.clone())
    .bind(s.type_id.clone())
    .bind(to_json(&s.metadata)?)
    .bind(s.group_snapshot_id.clone())
    .bind(s.created_at)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn get<'e>(
    db: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<Option<Snapshot>, VolumeError> {
    Where::of("id", id).one::<Row, Snapshot>(db, SELECT).await
}

/// A volume's snapshots in any state.
pub(crate) async fn of_volume<'e>(
    db: impl Executor<'e, Database = Any>,
    volume_id: &str,
) -> Result<Vec<Snapshot>, VolumeError> {
    Where::of("volume_id", volume_id).all::<Row, Snapshot>(db, SELECT).await
}

/// The parts of a group's snapshot, in any state.
pub(crate) async fn of_group_snapshot<'e>(
    db: impl Executor<'e, Database = Any>,
    group_snapshot_id: &str,
) -> Result<Vec<Snapshot>, VolumeError> {
    Where::of("group_snapshot_id", group_snapshot_id).all::<Row, Snapshot>(db, SELECT).await
}

/// What a listing is narrowed to.
#[derive(Debug, Default, Clone)]
pub(crate) struct Filter {
    pub(crate) project_id: Option<String>,
    pub(crate) volume_id: Option<String>,
    pub(crate) group_snapshot_id: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) name_like: Option<String>,
    pub(crate) ids: Option<Vec<String>>,
    pub(crate) metadata: Metadata,
    /// A filter that nothing of this cloud meets.
    pub(crate) nothing: bool,
}

impl Filter {
    fn conditions(&self) -> Where {
        let mut w = Where::default();
        w.given([
            ("project_id", &self.project_id),
            ("volume_id", &self.volume_id),
            ("group_snapshot_id", &self.group_snapshot_id),
            ("status", &self.status),
            ("name", &self.name),
        ]);
        if let Some(part) = &self.name_like {
            w.contains("name", part);
        }
        if let Some(ids) = &self.ids {
            w.among("id", ids.iter().cloned());
        }
        w.has_pairs("metadata", &self.metadata);
        if self.nothing {
            w.and("1 = 0", []);
        }
        w
    }
}

/// What a listing may be sorted by.
pub(crate) const SORT_KEYS: &[&str] =
    &["id", "name", "display_name", "status", "created_at", "updated_at", "volume_id", "volume_size", "size"];

pub(crate) async fn list<'e>(
    db: impl Executor<'e, Database = Any>,
    filter: &Filter,
    page: &Page,
    marker: Option<&Snapshot>,
) -> Result<Vec<Snapshot>, VolumeError> {
    let column = |key: &str| {
        Some(match key {
            "id" => "id",
            "name" | "display_name" => "COALESCE(name, '')",
            "status" => "status",
            "created_at" => "created_at",
            "updated_at" => "COALESCE(updated_at, 0)",
            "volume_id" => "volume_id",
            "volume_size" | "size" => "size",
            _ => return None,
        })
    };
    let at = marker.map(|m| {
        move |key: &str| -> Option<Arg> {
            Some(match key {
                "id" => m.id.clone().into(),
                "name" | "display_name" => m.name.clone().unwrap_or_default().into(),
                "status" => m.status.as_str().into(),
                "created_at" => m.created_at.0.into(),
                "updated_at" => m.updated_at.map_or(0, |t| t.0).into(),
                "volume_id" => m.volume_id.clone().into(),
                "volume_size" | "size" => m.size_gib.into(),
                _ => return None,
            })
        }
    });
    let at = at.as_ref().map(|f| f as At<'_>);
    let query = filter.conditions().page(page, "id", &[("created_at", true)], column, at);
    query.all::<Row, Snapshot>(db, SELECT).await
}

pub(crate) async fn count<'e>(
    db: impl Executor<'e, Database = Any>,
    filter: &Filter,
) -> Result<i64, VolumeError> {
    let count = "SELECT CAST(COUNT(*) AS BIGINT) FROM snapshots";
    Ok(filter.conditions().query::<(i64,)>(count).fetch_one(db).await?.0)
}

pub(crate) async fn set_status(
    tx: &mut Tx,
    id: &str,
    status: SnapshotStatus,
    progress: &str,
) -> Result<(), VolumeError> {
    sqlx::query("UPDATE snapshots SET status = $1, progress = $2, updated_at = $3 WHERE id = $4")
        .bind(status.as_str())
        .bind(progress)
        .bind(Timestamp::now())
        .bind(id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Marks all of a volume's as being deleted.
pub(crate) async fn delete_all(tx: &mut Tx, volume_id: &str) -> Result<(), VolumeError> {
    sqlx::query("UPDATE snapshots SET status = 'deleting', updated_at = $1 WHERE volume_id = $2")
        .bind(Timestamp::now())
        .bind(volume_id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Writes everything that a caller may change directly.
pub(crate) async fn save(tx: &mut Tx, s: &Snapshot) -> Result<(), VolumeError> {
    sqlx::query(
        "UPDATE snapshots SET name = $1, description = $2, metadata = $3, project_id = $4, user_id = $5, \
         updated_at = $6 WHERE id = $7",
    )
    .bind(s.name.clone())
    .bind(s.description.clone())
    .bind(to_json(&s.metadata)?)
    .bind(s.project_id.clone())
    .bind(s.user_id.clone())
    .bind(Timestamp::now())
    .bind(s.id.clone())
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn remove(tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
    sqlx::query("DELETE FROM snapshots WHERE id = $1").bind(id).execute(tx.conn()).await?;
    Ok(())
}

/// How many snapshots the volumes of a tier have, and their GiB.
pub(crate) async fn total_of_tier<'e>(
    db: impl Executor<'e, Database = Any>,
    tier: &str,
) -> Result<(i64, i64), VolumeError> {
    Ok(sqlx::query_as(
        "SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(s.size), 0) AS BIGINT) FROM snapshots s \
         JOIN volumes v ON v.id = s.volume_id WHERE COALESCE(v.home_tier, v.tier) = $1",
    )
    .bind(tier)
    .fetch_one(db)
    .await?)
}
