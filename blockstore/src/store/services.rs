//! Which services an operator has switched off.

use crate::VolumeError;
use sqlx::{Any, Executor};
use state::{Timestamp, Tx};

/// `(binary, host, reason, since)` of every service that is off.
pub(crate) async fn disabled<'e>(
    db: impl Executor<'e, Database = Any>,
) -> Result<Vec<(String, String, Option<String>, Timestamp)>, VolumeError> {
    Ok(sqlx::query_as("SELECT binary_name, host, disabled_reason, updated_at FROM volume_services")
        .fetch_all(db)
        .await?)
}

pub(crate) async fn disable(
    tx: &mut Tx,
    binary: &str,
    host: &str,
    reason: Option<&str>,
) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO volume_services (binary_name, host, disabled_reason, updated_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (binary_name, host) DO UPDATE SET disabled_reason = excluded.disabled_reason, \
         updated_at = excluded.updated_at",
    )
    .bind(binary)
    .bind(host)
    .bind(reason.map(str::to_owned))
    .bind(Timestamp::now())
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn enable(tx: &mut Tx, binary: &str, host: &str) -> Result<(), VolumeError> {
    sqlx::query("DELETE FROM volume_services WHERE binary_name = $1 AND host = $2")
        .bind(binary)
        .bind(host)
        .execute(tx.conn())
        .await?;
    Ok(())
}
