//! QoS specs: limits that a volume type may carry.

use super::sql::{from_json, to_json};
use crate::VolumeError;
use crate::qos::QosSpecs;
use sqlx::{Any, Executor};
use state::{Timestamp, Tx};

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    consumer: String,
    specs: String,
    created_at: Timestamp,
}

impl TryFrom<Row> for QosSpecs {
    type Error = VolumeError;
    fn try_from(r: Row) -> Result<QosSpecs, VolumeError> {
        let specs = from_json(&r.specs)?;
        Ok(QosSpecs { id: r.id, name: r.name, consumer: r.consumer, specs, created_at: r.created_at })
    }
}

pub(crate) async fn all<'e>(db: impl Executor<'e, Database = Any>) -> Result<Vec<QosSpecs>, VolumeError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, name, consumer, specs, created_at FROM qos_specs ORDER BY created_at DESC, id DESC",
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(QosSpecs::try_from).collect()
}

pub(crate) async fn get<'e>(
    db: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<Option<QosSpecs>, VolumeError> {
    let row: Option<Row> =
        sqlx::query_as("SELECT id, name, consumer, specs, created_at FROM qos_specs WHERE id = $1")
            .bind(id)
            .fetch_optional(db)
            .await?;
    row.map(QosSpecs::try_from).transpose()
}

/// Writes the row, whether it is there or not.
pub(crate) async fn put(tx: &mut Tx, q: &QosSpecs) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO qos_specs (id, name, consumer, specs, created_at) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (id) DO UPDATE SET consumer = excluded.consumer, specs = excluded.specs, updated_at = $6",
    )
    .bind(q.id.clone())
    .bind(q.name.clone())
    .bind(q.consumer.clone())
    .bind(to_json(&q.specs)?)
    .bind(q.created_at)
    .bind(Timestamp::now())
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Removes the specs; types that carried them carry none.
pub(crate) async fn remove(tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
    disassociate_all(tx, id).await?;
    sqlx::query("DELETE FROM qos_specs WHERE id = $1").bind(id).execute(tx.conn()).await?;
    Ok(())
}

pub(crate) async fn disassociate_all(tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
    sqlx::query("UPDATE volume_types SET qos_specs_id = NULL WHERE qos_specs_id = $1")
        .bind(id)
        .execute(tx.conn())
        .await?;
    Ok(())
}
