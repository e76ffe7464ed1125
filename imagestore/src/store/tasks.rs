//! The `image_tasks` table: what users see of imports. The work itself is `state::tasks`' row.

use sqlx::AssertSqlSafe;
use state::{Db, StateError, Timestamp, Tx};

/// Tasks are shown for this long after their last change.
pub(crate) const KEEP: std::time::Duration = std::time::Duration::from_secs(48 * 3600);

#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) image_id: String,
    pub(crate) r#type: String,
    pub(crate) status: String,
    pub(crate) owner: String,
    pub(crate) user_id: String,
    pub(crate) request_id: String,
    pub(crate) input: String,
    pub(crate) result: String,
    pub(crate) message: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

const COLUMNS: &str = "id, image_id, type, status, owner, user_id, request_id, input, result, message, created_at, \
    updated_at";

pub(crate) async fn insert(tx: &mut Tx, t: &Row) -> Result<(), StateError> {
    let sql = format!(
        "INSERT INTO image_tasks ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(&t.id)
        .bind(&t.image_id)
        .bind(&t.r#type)
        .bind(&t.status)
        .bind(&t.owner)
        .bind(&t.user_id)
        .bind(&t.request_id)
        .bind(&t.input)
        .bind(&t.result)
        .bind(&t.message)
        .bind(t.created_at)
        .bind(t.updated_at)
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub(crate) async fn set_status(
    tx: &mut Tx,
    id: &str,
    status: &str,
    result: &str,
    message: &str,
) -> Result<(), StateError> {
    sqlx::query(
        "UPDATE image_tasks SET status = $1, result = $2, message = $3, updated_at = $4 WHERE id = $5",
    )
    .bind(status)
    .bind(result)
    .bind(message)
    .bind(Timestamp::now())
    .bind(id)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn of_image(db: &Db, image: &str) -> Result<Vec<Row>, StateError> {
    let sql = format!("SELECT {COLUMNS} FROM image_tasks WHERE image_id = $1 ORDER BY created_at DESC, id");
    Ok(sqlx::query_as(AssertSqlSafe(sql)).bind(image).fetch_all(db.read()).await?)
}

/// Tasks of a project, or of all (`None`), newest first.
pub(crate) async fn list(db: &Db, owner: Option<&str>, limit: usize) -> Result<Vec<Row>, StateError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM image_tasks WHERE ($1 = '' OR owner = $1) ORDER BY created_at DESC, id LIMIT $2"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(sqlx::query_as(AssertSqlSafe(sql))
        .bind(owner.unwrap_or_default())
        .bind(limit)
        .fetch_all(db.read())
        .await?)
}

pub(crate) async fn get(db: &Db, id: &str) -> Result<Option<Row>, StateError> {
    let sql = format!("SELECT {COLUMNS} FROM image_tasks WHERE id = $1");
    Ok(sqlx::query_as(AssertSqlSafe(sql)).bind(id).fetch_optional(db.read()).await?)
}
