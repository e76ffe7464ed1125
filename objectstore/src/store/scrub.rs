//! Rows of `object_scrub`, how far the scrub has come, and of `object_damage`, what it found.

use crate::ObjectError;
use crate::names::ContainerId;
use crate::version::VersionId;
use state::{Db, StateError, Timestamp};

/// How far the scrub has come. Between two rounds, `container` is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) began_at: i64,
    pub(crate) ended_at: i64,
    pub(crate) container: String,
    /// The object name that was done last.
    pub(crate) marker: String,
}

/// An object that is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub container: ContainerId,
    pub name: String,
    pub version: VersionId,
    /// What is wrong, for people.
    pub what: String,
    pub found_at: Timestamp,
}

/// Takes charge of the scrub, unless another process was at it after `stale`; how far it has come.
pub(crate) async fn claim(db: &Db, process: &str, stale: Timestamp) -> Result<Option<Progress>, ObjectError> {
    let mut tx = db.begin().await?;
    sqlx::query(
        "INSERT INTO object_scrub (id, process, word_at, began_at, ended_at, container_id, marker) \
         VALUES (1, '', 0, 0, 0, '', $1) ON CONFLICT (id) DO NOTHING",
    )
    .bind(Vec::<u8>::new())
    .execute(tx.conn())
    .await?;
    let claimed = sqlx::query(
        "UPDATE object_scrub SET process = $1, word_at = $2 WHERE id = 1 AND (process = $1 OR word_at < $3)",
    )
    .bind(process.to_owned())
    .bind(Timestamp::now())
    .bind(stale)
    .execute(tx.conn())
    .await?;
    if claimed.rows_affected() == 0 {
        return Ok(None);
    }
    let (began_at, ended_at, container, marker): (i64, i64, String, Vec<u8>) =
        sqlx::query_as("SELECT began_at, ended_at, container_id, marker FROM object_scrub WHERE id = 1")
            .fetch_one(tx.conn())
            .await?;
    tx.commit().await?;
    let marker = String::from_utf8(marker).map_err(|_| StateError::Corrupt("object_scrub.marker".into()))?;
    Ok(Some(Progress { began_at, ended_at, container, marker }))
}

/// Notes how far the scrub has come; whether this process is still the one that is at it.
pub(crate) async fn note(db: &Db, process: &str, progress: &Progress) -> Result<bool, ObjectError> {
    let mut tx = db.begin().await?;
    let noted = sqlx::query(
        "UPDATE object_scrub SET word_at = $2, began_at = $3, ended_at = $4, container_id = $5, marker = $6 \
         WHERE id = 1 AND process = $1",
    )
    .bind(process.to_owned())
    .bind(Timestamp::now())
    .bind(progress.began_at)
    .bind(progress.ended_at)
    .bind(progress.container.clone())
    .bind(progress.marker.as_bytes().to_vec())
    .execute(tx.conn())
    .await?;
    tx.commit().await?;
    Ok(noted.rows_affected() > 0)
}

/// Puts damage on record, or takes what is sound again, or gone, off it.
pub(crate) async fn record(
    db: &Db,
    container: ContainerId,
    name: &str,
    version: VersionId,
    what: Option<&str>,
) -> Result<(), ObjectError> {
    let mut tx = db.begin().await?;
    let sql = match what {
        Some(_) => {
            "INSERT INTO object_damage (container_id, name, version, what, found_at) \
             VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (container_id, name, version) DO UPDATE SET what = excluded.what"
        }
        None => "DELETE FROM object_damage WHERE container_id = $1 AND name = $2 AND version = $3",
    };
    let query =
        sqlx::query(sql).bind(container.to_string()).bind(name.as_bytes().to_vec()).bind(version.to_string());
    let query = match what {
        Some(what) => query.bind(what.to_owned()).bind(Timestamp::now()),
        None => query,
    };
    query.execute(tx.conn()).await?;
    Ok(tx.commit().await?)
}

/// How much is on record.
pub(crate) async fn count(db: &Db) -> Result<i64, ObjectError> {
    let count = sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM object_damage");
    Ok(count.fetch_one(db.read()).await?)
}

/// All that is on record, the oldest first.
pub(crate) async fn damage(db: &Db) -> Result<Vec<Damage>, ObjectError> {
    let rows: Vec<(String, Vec<u8>, String, String, i64)> = sqlx::query_as(
        "SELECT container_id, name, version, what, found_at FROM object_damage ORDER BY found_at, name",
    )
    .fetch_all(db.read())
    .await?;
    let corrupt = || StateError::Corrupt("object_damage".into());
    rows.into_iter()
        .map(|(container, name, version, what, found_at)| {
            Ok(Damage {
                container: ContainerId::parse(&container).ok_or_else(corrupt)?,
                name: String::from_utf8(name).map_err(|_| corrupt())?,
                version: VersionId::parse(&version).ok_or_else(corrupt)?,
                what,
                found_at: Timestamp(found_at),
            })
        })
        .collect()
}
