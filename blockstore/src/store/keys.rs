//! The secrets of encrypted volumes, sealed.

use crate::VolumeError;
use sqlx::{Any, Executor};
use state::{Db, Timestamp, Tx};

/// `(project, sealed secret)`.
pub(crate) async fn get<'e>(
    db: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<Option<(String, String)>, VolumeError> {
    Ok(sqlx::query_as("SELECT project_id, sealed FROM volume_keys WHERE id = $1")
        .bind(id)
        .fetch_optional(db)
        .await?)
}

/// Adds a secret; one that is there stays.
pub(crate) async fn insert(tx: &mut Tx, id: &str, project_id: &str, sealed: &str) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO volume_keys (id, project_id, sealed, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(id)
    .bind(project_id)
    .bind(sealed)
    .bind(Timestamp::now())
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn remove(tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
    sqlx::query("DELETE FROM volume_keys WHERE id = $1").bind(id).execute(tx.conn()).await?;
    Ok(())
}

/// Whether a volume's or a backup's row names a secret.
pub(crate) async fn is_used<'e>(
    db: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<bool, VolumeError> {
    let n: i64 = sqlx::query_scalar(
        "SELECT CAST((SELECT COUNT(*) FROM volumes WHERE encryption_key_id = $1) \
         + (SELECT COUNT(*) FROM backups WHERE volume LIKE $2) AS BIGINT)",
    )
    .bind(id)
    .bind(format!("%\"key\":\"{id}\"%"))
    .fetch_one(db)
    .await?;
    Ok(n > 0)
}

/// The root secret: `fresh`, where there was none.
pub(crate) async fn root(db: &Db, fresh: &str) -> Result<String, VolumeError> {
    let mut tx = db.begin().await?;
    sqlx::query("INSERT INTO volume_key_root (id, secret) VALUES (1, $1) ON CONFLICT DO NOTHING")
        .bind(fresh)
        .execute(tx.conn())
        .await?;
    let secret =
        sqlx::query_scalar("SELECT secret FROM volume_key_root WHERE id = 1").fetch_one(tx.conn()).await?;
    tx.commit().await?;
    Ok(secret)
}
