//! How the volumes of a type are encrypted.

use crate::VolumeError;
use crate::encryption::Encryption;
use sqlx::{Any, Executor};
use state::{Timestamp, Tx};

#[derive(sqlx::FromRow)]
struct Row {
    type_id: String,
    id: String,
    provider: String,
    cipher: Option<String>,
    key_size: Option<i64>,
    control_location: String,
    created_at: Timestamp,
    updated_at: Option<i64>,
}

pub(crate) async fn of_type<'e>(
    db: impl Executor<'e, Database = Any>,
    type_id: &str,
) -> Result<Option<Encryption>, VolumeError> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT type_id, id, provider, cipher, key_size, control_location, created_at, updated_at \
         FROM volume_type_encryption WHERE type_id = $1",
    )
    .bind(type_id)
    .fetch_optional(db)
    .await?;
    Ok(row.map(|r| Encryption {
        id: r.id,
        type_id: r.type_id,
        provider: r.provider,
        cipher: r.cipher,
        key_size: r.key_size,
        control_location: r.control_location,
        created_at: r.created_at,
        updated_at: r.updated_at.map(Timestamp),
    }))
}

pub(crate) async fn put(tx: &mut Tx, e: &Encryption) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO volume_type_encryption (type_id, id, provider, cipher, key_size, control_location, created_at, \
         updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (type_id) DO UPDATE SET \
         provider = excluded.provider, cipher = excluded.cipher, key_size = excluded.key_size, \
         control_location = excluded.control_location, updated_at = excluded.updated_at",
    )
    .bind(e.type_id.clone())
    .bind(e.id.clone())
    .bind(e.provider.clone())
    .bind(e.cipher.clone())
    .bind(e.key_size)
    .bind(e.control_location.clone())
    .bind(e.created_at)
    .bind(e.updated_at.map(|t| t.0))
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn remove(tx: &mut Tx, type_id: &str) -> Result<(), VolumeError> {
    sqlx::query("DELETE FROM volume_type_encryption WHERE type_id = $1")
        .bind(type_id)
        .execute(tx.conn())
        .await?;
    Ok(())
}
