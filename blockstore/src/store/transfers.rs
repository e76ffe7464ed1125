//! Offers of a volume to another project.

use crate::VolumeError;
use crate::transfers::Transfer;
use sqlx::{Any, Executor};
use state::{Flag, Timestamp, Tx};

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    volume_id: String,
    name: Option<String>,
    source_project_id: String,
    salt: String,
    key_hash: String,
    no_snapshots: Flag,
    created_at: Timestamp,
}

impl From<Row> for Transfer {
    fn from(r: Row) -> Self {
        Transfer {
            id: r.id,
            volume_id: r.volume_id,
            name: r.name,
            source_project_id: r.source_project_id,
            salt: r.salt,
            key_hash: r.key_hash,
            no_snapshots: r.no_snapshots.0,
            created_at: r.created_at,
        }
    }
}

pub(crate) async fn insert(tx: &mut Tx, t: &Transfer) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO volume_transfers (id, volume_id, name, source_project_id, salt, key_hash, no_snapshots, \
         created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(t.id.clone())
    .bind(t.volume_id.clone())
    .bind(t.name.clone())
    .bind(t.source_project_id.clone())
    .bind(t.salt.clone())
    .bind(t.key_hash.clone())
    .bind(t.no_snapshots)
    .bind(t.created_at)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn get<'e>(
    db: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<Option<Transfer>, VolumeError> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT id, volume_id, name, source_project_id, salt, key_hash, no_snapshots, created_at \
         FROM volume_transfers WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(db)
    .await?;
    Ok(row.map(Transfer::from))
}

/// All, or one project's, newest first.
pub(crate) async fn list<'e>(
    db: impl Executor<'e, Database = Any>,
    project_id: Option<&str>,
) -> Result<Vec<Transfer>, VolumeError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, volume_id, name, source_project_id, salt, key_hash, no_snapshots, created_at \
         FROM volume_transfers WHERE source_project_id = $1 OR $1 = '' ORDER BY created_at DESC, id DESC",
    )
    .bind(project_id.unwrap_or_default())
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Transfer::from).collect())
}

pub(crate) async fn remove(tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
    sqlx::query("DELETE FROM volume_transfers WHERE id = $1").bind(id).execute(tx.conn()).await?;
    Ok(())
}
