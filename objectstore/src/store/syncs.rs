//! Rows of `object_syncs`: containers that are kept in step with another one.

use crate::ObjectError;
use crate::names::ContainerId;
use state::{Db, Flag, StateError, Timestamp, Tx};
use std::collections::HashSet;

/// How far a container's sync has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// What it is in step with.
    pub(crate) target: String,
    /// The object name that was sent last of those that were there before, and whether all of them were.
    pub(crate) marker: String,
    pub(crate) listed: bool,
    /// How often in a row the other end took nothing.
    pub(crate) failures: i64,
}

/// Notes that a container is to be in step with `target`; what was done for another target counts for nothing.
pub(crate) async fn begin(tx: &mut Tx, id: ContainerId, target: &str) -> Result<(), ObjectError> {
    sqlx::query(
        "INSERT INTO object_syncs (container_id, target, worker, until, marker, listed, failures, next_at) \
         VALUES ($1, $2, '', 0, $3, $4, 0, 0) \
         ON CONFLICT (container_id) DO UPDATE SET target = excluded.target, failures = 0, next_at = 0, \
         marker = CASE WHEN object_syncs.target = excluded.target THEN object_syncs.marker ELSE excluded.marker END, \
         listed = CASE WHEN object_syncs.target = excluded.target THEN object_syncs.listed ELSE excluded.listed END",
    )
    .bind(id.to_string())
    .bind(target.to_owned())
    .bind(Vec::<u8>::new())
    .bind(false)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// A container is in step with nothing any more, or is no more.
pub(crate) async fn end(db: &Db, id: ContainerId) -> Result<(), ObjectError> {
    let mut tx = db.begin().await?;
    sqlx::query("DELETE FROM object_syncs WHERE container_id = $1")
        .bind(id.to_string())
        .execute(tx.conn())
        .await?;
    Ok(tx.commit().await?)
}

fn parsed<T: FromIterator<ContainerId>>(ids: Vec<String>) -> Result<T, ObjectError> {
    let corrupt = || StateError::Corrupt("object_syncs.container_id".into());
    ids.iter().map(|id| Ok(ContainerId::parse(id).ok_or_else(corrupt)?)).collect()
}

/// The containers whose turn it is, and that no other process has.
pub(crate) async fn due(db: &Db, me: &str, now: Timestamp) -> Result<Vec<ContainerId>, ObjectError> {
    let ids = sqlx::query_scalar(
        "SELECT container_id FROM object_syncs WHERE next_at <= $2 AND (worker = $1 OR until < $2) \
         ORDER BY next_at LIMIT 100",
    )
    .bind(me.to_owned())
    .bind(now)
    .fetch_all(db.read())
    .await?;
    parsed(ids)
}

/// The containers whose other end is left alone at the moment.
pub(crate) async fn failing(db: &Db, now: Timestamp) -> Result<HashSet<ContainerId>, ObjectError> {
    let ids = sqlx::query_scalar("SELECT container_id FROM object_syncs WHERE failures > 0 AND next_at > $1")
        .bind(now)
        .fetch_all(db.read())
        .await?;
    parsed(ids)
}

/// All of them.
pub(crate) async fn all(db: &Db) -> Result<Vec<ContainerId>, ObjectError> {
    let ids = sqlx::query_scalar("SELECT container_id FROM object_syncs ORDER BY container_id")
        .fetch_all(db.read())
        .await?;
    parsed(ids)
}

/// Takes a container, or keeps it, until `until`, unless another process has it; how far its sync has come.
pub(crate) async fn claim(
    db: &Db,
    id: ContainerId,
    me: &str,
    until: Timestamp,
) -> Result<Option<Progress>, ObjectError> {
    let mut tx = db.begin().await?;
    let claimed = sqlx::query(
        "UPDATE object_syncs SET worker = $2, until = $3 WHERE container_id = $1 AND (worker = $2 OR until < $4)",
    )
    .bind(id.to_string())
    .bind(me.to_owned())
    .bind(until)
    .bind(Timestamp::now())
    .execute(tx.conn())
    .await?;
    if claimed.rows_affected() == 0 {
        return Ok(None);
    }
    let (target, marker, Flag(listed), failures): (String, Vec<u8>, Flag, i64) =
        sqlx::query_as("SELECT target, marker, listed, failures FROM object_syncs WHERE container_id = $1")
            .bind(id.to_string())
            .fetch_one(tx.conn())
            .await?;
    tx.commit().await?;
    let marker = String::from_utf8(marker).map_err(|_| StateError::Corrupt("object_syncs.marker".into()))?;
    Ok(Some(Progress { target, marker, listed, failures }))
}

/// Notes how far it has come; whether this process still has the container, and it is for the same target.
pub(crate) async fn note(
    db: &Db,
    id: ContainerId,
    me: &str,
    progress: &Progress,
) -> Result<bool, ObjectError> {
    let mut tx = db.begin().await?;
    let noted = sqlx::query(
        "UPDATE object_syncs SET marker = $4, listed = $5 WHERE container_id = $1 AND worker = $2 AND target = $3",
    )
    .bind(id.to_string())
    .bind(me.to_owned())
    .bind(progress.target.clone())
    .bind(progress.marker.as_bytes().to_vec())
    .bind(progress.listed)
    .execute(tx.conn())
    .await?;
    tx.commit().await?;
    Ok(noted.rows_affected() > 0)
}

/// Gives a container back until its next turn.
pub(crate) async fn release(
    db: &Db,
    id: ContainerId,
    me: &str,
    next: Timestamp,
    failures: i64,
) -> Result<(), ObjectError> {
    let mut tx = db.begin().await?;
    sqlx::query(
        "UPDATE object_syncs SET until = 0, next_at = $3, failures = $4 WHERE container_id = $1 AND worker = $2",
    )
    .bind(id.to_string())
    .bind(me.to_owned())
    .bind(next)
    .bind(failures)
    .execute(tx.conn())
    .await?;
    Ok(tx.commit().await?)
}
