//! The `tasks` table.

use crate::{Db, StateError, Timestamp, Tx};
use sqlx::AssertSqlSafe;
use std::time::Duration;

pub(super) const TOPIC: &str = "tasks";

#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) subject: String,
    pub(super) state: String,
    pub(super) step: i64,
    pub(super) params: String,
    pub(super) memo: String,
    pub(super) attempts: i64,
    pub(super) reason: String,
}

pub(super) async fn insert(
    tx: &mut Tx,
    id: &str,
    kind: &str,
    subject: &str,
    params: &str,
    now: Timestamp,
) -> Result<(), StateError> {
    sqlx::query(
        "INSERT INTO tasks (id, kind, subject, state, step, params, memo, attempts, reason, not_before, \
         lease_node, lease_until, created_at, updated_at) \
         VALUES ($1, $2, $3, 'ready', 0, $4, '{}', 0, '', 0, '', 0, $5, $5)",
    )
    .bind(id)
    .bind(kind)
    .bind(subject)
    .bind(params)
    .bind(now)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Leases up to `max` due tasks of these kinds to `node`. Of one subject only the oldest is due.
pub(super) async fn claim(
    db: &Db,
    kinds: &[&'static str],
    node: &str,
    lease: Duration,
    max: i64,
) -> Result<Vec<Row>, StateError> {
    let now = Timestamp::now();
    // Kinds are this program's own constants, never input.
    let list = kinds.iter().map(|k| format!("'{k}'")).collect::<Vec<_>>().join(",");
    let due = format!(
        "SELECT id, kind, subject, state, step, params, memo, attempts, reason FROM tasks t \
         WHERE state IN ('ready', 'unwinding') AND kind IN ({list}) AND not_before <= $1 AND lease_until < $1 \
         AND NOT EXISTS (SELECT 1 FROM tasks o WHERE o.subject = t.subject AND o.state <> 'failed' \
            AND (o.created_at < t.created_at OR (o.created_at = t.created_at AND o.id < t.id))) \
         ORDER BY created_at LIMIT $2"
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(due)).bind(now).bind(max).fetch_all(db.read()).await?;
    if rows.is_empty() {
        return Ok(rows);
    }
    let mut mine = Vec::with_capacity(rows.len());
    let mut tx = db.begin().await?;
    for row in rows {
        let taken = sqlx::query(
            "UPDATE tasks SET lease_node = $1, lease_until = $2 WHERE id = $3 AND lease_until < $4 AND step = $5 AND state = $6",
        )
        .bind(node)
        .bind(now.plus(lease))
        .bind(&row.id)
        .bind(now)
        .bind(row.step)
        .bind(&row.state)
        .execute(tx.conn())
        .await?
        .rows_affected();
        if taken == 1 {
            mine.push(row);
        }
    }
    tx.commit().await?;
    Ok(mine)
}

/// When the next task of these kinds becomes due, if one waits. One that waits for an older task of its subject
/// does not count: that one's end wakes.
pub(super) async fn next_due(db: &Db, kinds: &[&'static str]) -> Result<Option<Timestamp>, StateError> {
    // Kinds are this program's own constants, never input.
    let list = kinds.iter().map(|k| format!("'{k}'")).collect::<Vec<_>>().join(",");
    let next = format!(
        "SELECT MIN(CASE WHEN not_before > lease_until THEN not_before ELSE lease_until END) FROM tasks t \
         WHERE state IN ('ready', 'unwinding') AND kind IN ({list}) \
         AND NOT EXISTS (SELECT 1 FROM tasks o WHERE o.subject = t.subject AND o.state <> 'failed' \
            AND (o.created_at < t.created_at OR (o.created_at = t.created_at AND o.id < t.id)))"
    );
    let at: Option<i64> = sqlx::query_scalar(AssertSqlSafe(next)).fetch_one(db.read()).await?;
    Ok(at.map(Timestamp))
}

/// Renews the lease; false when it is no longer ours.
pub(super) async fn renew(db: &Db, id: &str, node: &str, lease: Duration) -> Result<bool, StateError> {
    let mut tx = db.begin().await?;
    let n = sqlx::query("UPDATE tasks SET lease_until = $1 WHERE id = $2 AND lease_node = $3")
        .bind(Timestamp::now().plus(lease))
        .bind(id)
        .bind(node)
        .execute(tx.conn())
        .await?
        .rows_affected();
    tx.commit().await?;
    Ok(n == 1)
}

/// Frees what earlier lives of this node held.
pub(super) async fn release(db: &Db, node: &str) -> Result<(), StateError> {
    let mut tx = db.begin().await?;
    sqlx::query("UPDATE tasks SET lease_until = 0, lease_node = '' WHERE lease_node = $1")
        .bind(node)
        .execute(tx.conn())
        .await?;
    tx.commit().await
}

/// How a task stands after a step; written only while the lease is ours, and the task has not failed for good.
pub(super) struct Progress<'a> {
    pub(super) state: &'a str,
    pub(super) step: i64,
    pub(super) attempts: i64,
    pub(super) reason: &'a str,
    pub(super) memo: &'a str,
    pub(super) delay: Duration,
    /// Keep the lease and go on, or give it back.
    pub(super) hold: Option<Duration>,
}

pub(super) async fn save(db: &Db, id: &str, node: &str, p: Progress<'_>) -> Result<bool, StateError> {
    let now = Timestamp::now();
    let until = p.hold.map_or(Timestamp(0), |lease| now.plus(lease));
    let mut tx = db.begin().await?;
    let n = sqlx::query(
        "UPDATE tasks SET state = $1, step = $2, attempts = $3, reason = $4, memo = $5, not_before = $6, \
         lease_until = $7, updated_at = $8 WHERE id = $9 AND lease_node = $10 AND state <> 'failed'",
    )
    .bind(p.state)
    .bind(p.step)
    .bind(p.attempts)
    .bind(p.reason)
    .bind(p.memo)
    .bind(now.plus(p.delay))
    .bind(until)
    .bind(now)
    .bind(id)
    .bind(node)
    .execute(tx.conn())
    .await?
    .rows_affected();
    tx.commit().await?;
    Ok(n == 1)
}

/// A finished task leaves no row; a waiting one of the same subject is now due. One that has none any more is no error.
pub(super) async fn remove(db: &Db, id: &str, node: &str) -> Result<(), StateError> {
    let mut tx = db.begin().await?;
    match finish(&mut tx, id, node).await {
        Ok(()) | Err(StateError::NotFound) => tx.commit().await,
        Err(e) => Err(e),
    }
}

/// As [`remove`], with what else the transaction does. `NotFound`: the task is not this worker's.
pub(super) async fn finish(tx: &mut Tx, id: &str, node: &str) -> Result<(), StateError> {
    let gone = sqlx::query("DELETE FROM tasks WHERE id = $1 AND lease_node = $2")
        .bind(id)
        .bind(node)
        .execute(tx.conn())
        .await?;
    tx.wake(TOPIC);
    if gone.rows_affected() == 1 { Ok(()) } else { Err(StateError::NotFound) }
}

/// A task that has unwound is kept as failed; a waiting one of the same subject is now due. One that is another worker's by
/// now is no error.
pub(super) async fn keep(db: &Db, id: &str, node: &str, reason: &str) -> Result<(), StateError> {
    let mut tx = db.begin().await?;
    match fail(&mut tx, id, node, reason).await {
        Ok(()) | Err(StateError::NotFound) => tx.commit().await,
        Err(e) => Err(e),
    }
}

/// As [`keep`], with what else the transaction does. `NotFound`: the task is not this worker's.
pub(super) async fn fail(tx: &mut Tx, id: &str, node: &str, reason: &str) -> Result<(), StateError> {
    tx.wake(TOPIC);
    let failed = sqlx::query(
        "UPDATE tasks SET state = 'failed', step = -1, attempts = 0, memo = '{}', reason = $1, lease_until = 0, \
         updated_at = $2 WHERE id = $3 AND lease_node = $4",
    )
    .bind(reason)
    .bind(Timestamp::now())
    .bind(id)
    .bind(node)
    .execute(tx.conn())
    .await?;
    if failed.rows_affected() == 1 { Ok(()) } else { Err(StateError::NotFound) }
}

/// Failed tasks older than `age` are forgotten.
pub(super) async fn purge(db: &Db, age: Duration) -> Result<(), StateError> {
    let before =
        Timestamp(Timestamp::now().0.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX)));
    let mut tx = db.begin().await?;
    sqlx::query("DELETE FROM tasks WHERE state = 'failed' AND updated_at < $1")
        .bind(before)
        .execute(tx.conn())
        .await?;
    tx.commit().await
}

pub(super) async fn unfinished(db: &Db, subject: &str) -> Result<Vec<(String, i64)>, StateError> {
    Ok(sqlx::query_as(
        "SELECT kind, step FROM tasks WHERE subject = $1 AND state <> 'failed' ORDER BY created_at, id",
    )
    .bind(subject)
    .fetch_all(db.read())
    .await?)
}
