//! The `image_tasks` table: what users see of imports. The work itself is `state::tasks`' row.

use super::{Bind, Sql, bind_all};
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

/// Adds a task, and forgets those that have outlived both their image and their time.
pub(crate) async fn insert(tx: &mut Tx, t: &Row) -> Result<(), StateError> {
    sqlx::query("DELETE FROM image_tasks WHERE image_id = '' AND updated_at < $1")
        .bind(Timestamp::now().0 - i64::try_from(KEEP.as_micros()).unwrap_or(i64::MAX))
        .execute(tx.conn())
        .await?;
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

/// Says how far a task is.
pub(crate) async fn say(db: &Db, id: &str, message: &str) -> Result<(), StateError> {
    let mut tx = db.begin().await?;
    sqlx::query(
        "UPDATE image_tasks SET message = $1, updated_at = $2 WHERE id = $3 AND status = 'processing'",
    )
    .bind(message)
    .bind(Timestamp::now())
    .bind(id)
    .execute(tx.conn())
    .await?;
    tx.commit().await
}

/// Parts a task from its image, which goes before it.
pub(crate) async fn disown(tx: &mut Tx, id: &str) -> Result<(), StateError> {
    sqlx::query("UPDATE image_tasks SET image_id = '' WHERE id = $1").bind(id).execute(tx.conn()).await?;
    Ok(())
}

pub(crate) async fn of_image(db: &Db, image: &str) -> Result<Vec<Row>, StateError> {
    let sql = format!("SELECT {COLUMNS} FROM image_tasks WHERE image_id = $1 ORDER BY created_at DESC, id");
    Ok(sqlx::query_as(AssertSqlSafe(sql)).bind(image).fetch_all(db.read()).await?)
}

/// What to list.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) r#type: Option<String>,
    pub(crate) status: Option<String>,
    /// A column of this table, and whether it goes down.
    pub(crate) sort: (&'static str, bool),
    pub(crate) limit: usize,
    /// The last task of the page before.
    pub(crate) after: Option<Row>,
}

/// Up to `limit` tasks of all projects.
pub(crate) async fn list(db: &Db, asked: &Listing) -> Result<Vec<Row>, StateError> {
    let mut sql = Sql::default();
    sql.push(&format!("SELECT {COLUMNS} FROM image_tasks WHERE 1 = 1"), []);
    for (column, value) in [("type", &asked.r#type), ("status", &asked.status)] {
        if let Some(value) = value {
            sql.push(&format!(" AND {column} = ?"), [Bind::Text(value.clone())]);
        }
    }
    let (column, down) = asked.sort;
    if let Some(last) = &asked.after {
        let (op, value) = (if down { "<" } else { ">" }, last.value(column));
        sql.push(
            &format!(" AND ({column} {op} ? OR ({column} = ? AND id {op} ?))"),
            [value.clone(), value, Bind::Text(last.id.clone())],
        );
    }
    let direction = if down { "DESC" } else { "ASC" };
    let limit = i64::try_from(asked.limit).unwrap_or(i64::MAX);
    sql.push(&format!(" ORDER BY {column} {direction}, id {direction} LIMIT ?"), [Bind::Int(limit)]);
    let query = sqlx::query_as::<_, Row>(AssertSqlSafe(sql.text));
    Ok(bind_all!(query, sql.binds).fetch_all(db.read()).await?)
}

impl Row {
    fn value(&self, column: &str) -> Bind {
        match column {
            "type" => Bind::Text(self.r#type.clone()),
            "status" => Bind::Text(self.status.clone()),
            "created_at" => Bind::Int(self.created_at.0),
            "updated_at" => Bind::Int(self.updated_at.0),
            _ => Bind::Text(self.id.clone()),
        }
    }
}

pub(crate) async fn get(db: &Db, id: &str) -> Result<Option<Row>, StateError> {
    let sql = format!("SELECT {COLUMNS} FROM image_tasks WHERE id = $1");
    Ok(sqlx::query_as(AssertSqlSafe(sql)).bind(id).fetch_optional(db.read()).await?)
}
