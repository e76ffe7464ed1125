//! Messages: what went wrong with an asynchronous request, for its owner.

use crate::VolumeError;
use crate::messages::Message;
use sqlx::{Any, Executor};
use state::{Timestamp, Tx};

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    project_id: String,
    request_id: String,
    resource_type: String,
    resource_id: String,
    event_id: String,
    message: String,
    created_at: Timestamp,
    expires_at: Timestamp,
}

impl From<Row> for Message {
    fn from(r: Row) -> Self {
        Message {
            id: r.id,
            project_id: r.project_id,
            request_id: r.request_id,
            resource_type: r.resource_type,
            resource_id: r.resource_id,
            event_id: r.event_id,
            text: r.message,
            created_at: r.created_at,
            expires_at: r.expires_at,
        }
    }
}

/// Adds one, unless the same is there, and forgets the expired.
pub(crate) async fn insert(tx: &mut Tx, m: &Message) -> Result<(), VolumeError> {
    sqlx::query("DELETE FROM volume_messages WHERE expires_at < $1")
        .bind(m.created_at)
        .execute(tx.conn())
        .await?;
    sqlx::query(
        "INSERT INTO volume_messages (id, project_id, request_id, resource_type, resource_id, event_id, message, \
         created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING",
    )
    .bind(m.id.clone())
    .bind(m.project_id.clone())
    .bind(m.request_id.clone())
    .bind(m.resource_type.clone())
    .bind(m.resource_id.clone())
    .bind(m.event_id.clone())
    .bind(m.text.clone())
    .bind(m.created_at)
    .bind(m.expires_at)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// A project's messages that have not expired, newest first.
pub(crate) async fn of_project<'e>(
    db: impl Executor<'e, Database = Any>,
    project_id: &str,
) -> Result<Vec<Message>, VolumeError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, project_id, request_id, resource_type, resource_id, event_id, message, created_at, expires_at \
         FROM volume_messages WHERE project_id = $1 AND expires_at >= $2 ORDER BY created_at DESC, id DESC",
    )
    .bind(project_id)
    .bind(Timestamp::now())
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Message::from).collect())
}

pub(crate) async fn get<'e>(
    db: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<Option<Message>, VolumeError> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT id, project_id, request_id, resource_type, resource_id, event_id, message, created_at, expires_at \
         FROM volume_messages WHERE id = $1 AND expires_at >= $2",
    )
    .bind(id)
    .bind(Timestamp::now())
    .fetch_optional(db)
    .await?;
    Ok(row.map(Message::from))
}

pub(crate) async fn remove(tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
    sqlx::query("DELETE FROM volume_messages WHERE id = $1").bind(id).execute(tx.conn()).await?;
    Ok(())
}
