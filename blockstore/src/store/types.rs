//! Volume types, who may use the private ones, and each project's default.

use super::sql::{from_json, to_json};
use crate::VolumeError;
use crate::model::VolumeType;
use sqlx::{Any, Executor};
use state::{Flag, Timestamp, Tx};

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    description: Option<String>,
    is_public: Flag,
    extra_specs: String,
    qos_specs_id: Option<String>,
    created_at: Timestamp,
    updated_at: Option<i64>,
}

impl TryFrom<Row> for VolumeType {
    type Error = VolumeError;
    fn try_from(r: Row) -> Result<VolumeType, VolumeError> {
        Ok(VolumeType {
            id: r.id,
            name: r.name,
            description: r.description,
            is_public: r.is_public.0,
            extra_specs: from_json(&r.extra_specs)?,
            qos_specs_id: r.qos_specs_id,
            created_at: r.created_at,
            updated_at: r.updated_at.map(Timestamp),
        })
    }
}

/// Every type; there are few, so listings filter and sort in memory.
pub(crate) async fn all<'e>(db: impl Executor<'e, Database = Any>) -> Result<Vec<VolumeType>, VolumeError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, name, description, is_public, extra_specs, qos_specs_id, created_at, updated_at \
         FROM volume_types ORDER BY created_at DESC, id DESC",
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(VolumeType::try_from).collect()
}

/// By id, else by name.
pub(crate) async fn get<'e>(
    db: impl Executor<'e, Database = Any>,
    id_or_name: &str,
) -> Result<Option<VolumeType>, VolumeError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, name, description, is_public, extra_specs, qos_specs_id, created_at, updated_at \
         FROM volume_types WHERE id = $1 OR name = $1",
    )
    .bind(id_or_name)
    .fetch_all(db)
    .await?;
    let mut rows = rows.into_iter();
    let first = rows.next();
    // A type may bear another's id as its name: the id wins.
    let chosen = match rows.find(|r| r.id == id_or_name) {
        Some(by_id) => Some(by_id),
        None => first,
    };
    chosen.map(VolumeType::try_from).transpose()
}

pub(crate) async fn insert(tx: &mut Tx, t: &VolumeType) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO volume_types (id, name, description, is_public, extra_specs, qos_specs_id, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(t.id.clone())
    .bind(t.name.clone())
    .bind(t.description.clone())
    .bind(t.is_public)
    .bind(to_json(&t.extra_specs)?)
    .bind(t.qos_specs_id.clone())
    .bind(t.created_at)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn save(tx: &mut Tx, t: &VolumeType) -> Result<(), VolumeError> {
    sqlx::query(
        "UPDATE volume_types SET name = $1, description = $2, is_public = $3, extra_specs = $4, \
         qos_specs_id = $5, updated_at = $6 WHERE id = $7",
    )
    .bind(t.name.clone())
    .bind(t.description.clone())
    .bind(t.is_public)
    .bind(to_json(&t.extra_specs)?)
    .bind(t.qos_specs_id.clone())
    .bind(Timestamp::now())
    .bind(t.id.clone())
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn remove(tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
    for sql in [
        "DELETE FROM volume_types WHERE id = $1",
        "DELETE FROM volume_type_access WHERE type_id = $1",
        "DELETE FROM default_volume_types WHERE type_id = $1",
        "DELETE FROM volume_type_encryption WHERE type_id = $1",
    ] {
        sqlx::query(sql).bind(id).execute(tx.conn()).await?;
    }
    Ok(())
}

/// Whether a volume or snapshot is of this type.
pub(crate) async fn in_use(tx: &mut Tx, id: &str) -> Result<bool, VolumeError> {
    let n: i64 = sqlx::query_scalar(
        "SELECT CAST((SELECT COUNT(*) FROM volumes WHERE type_id = $1) + \
         (SELECT COUNT(*) FROM snapshots WHERE type_id = $1) AS BIGINT)",
    )
    .bind(id)
    .fetch_one(tx.conn())
    .await?;
    Ok(n > 0)
}

/// The private types that a project may use.
pub(crate) async fn granted<'e>(
    db: impl Executor<'e, Database = Any>,
    project_id: &str,
) -> Result<Vec<String>, VolumeError> {
    Ok(sqlx::query_scalar("SELECT type_id FROM volume_type_access WHERE project_id = $1")
        .bind(project_id)
        .fetch_all(db)
        .await?)
}

/// The projects that may use a private type.
pub(crate) async fn access<'e>(
    db: impl Executor<'e, Database = Any>,
    type_id: &str,
) -> Result<Vec<String>, VolumeError> {
    Ok(sqlx::query_scalar("SELECT project_id FROM volume_type_access WHERE type_id = $1 ORDER BY project_id")
        .bind(type_id)
        .fetch_all(db)
        .await?)
}

/// False where it was granted before.
pub(crate) async fn grant(tx: &mut Tx, type_id: &str, project_id: &str) -> Result<bool, VolumeError> {
    let n = sqlx::query(
        "INSERT INTO volume_type_access (type_id, project_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    )
    .bind(type_id)
    .bind(project_id)
    .execute(tx.conn())
    .await?
    .rows_affected();
    Ok(n == 1)
}

/// False where it was not granted.
pub(crate) async fn revoke(tx: &mut Tx, type_id: &str, project_id: &str) -> Result<bool, VolumeError> {
    let n = sqlx::query("DELETE FROM volume_type_access WHERE type_id = $1 AND project_id = $2")
        .bind(type_id)
        .bind(project_id)
        .execute(tx.conn())
        .await?
        .rows_affected();
    Ok(n == 1)
}

/// `(project, type)` of every project that has a default of its own.
pub(crate) async fn defaults<'e>(
    db: impl Executor<'e, Database = Any>,
) -> Result<Vec<(String, String)>, VolumeError> {
    Ok(sqlx::query_as("SELECT project_id, type_id FROM default_volume_types ORDER BY project_id")
        .fetch_all(db)
        .await?)
}

pub(crate) async fn default_of<'e>(
    db: impl Executor<'e, Database = Any>,
    project_id: &str,
) -> Result<Option<String>, VolumeError> {
    Ok(sqlx::query_scalar("SELECT type_id FROM default_volume_types WHERE project_id = $1")
        .bind(project_id)
        .fetch_optional(db)
        .await?)
}

pub(crate) async fn set_default(tx: &mut Tx, project_id: &str, type_id: &str) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO default_volume_types (project_id, type_id) VALUES ($1, $2) \
         ON CONFLICT (project_id) DO UPDATE SET type_id = excluded.type_id",
    )
    .bind(project_id)
    .bind(type_id)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn unset_default(tx: &mut Tx, project_id: &str) -> Result<bool, VolumeError> {
    let n = sqlx::query("DELETE FROM default_volume_types WHERE project_id = $1")
        .bind(project_id)
        .execute(tx.conn())
        .await?
        .rows_affected();
    Ok(n == 1)
}
