//! Rows of `object_containers` and `object_buckets`.

use crate::ObjectError;
use crate::container::{ContainerInfo, Counts};
use crate::names::ContainerId;
use sqlx::FromRow;
use state::{Db, StateError, Timestamp, Tx};

/// A container's row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: ContainerId,
    pub(crate) project_id: String,
    pub(crate) name: String,
    pub(crate) policy: String,
    pub(crate) created_at: Timestamp,
    pub(crate) changed_at: Timestamp,
    pub(crate) info: ContainerInfo,
    pub(crate) generation: u32,
    pub(crate) shards: u32,
    /// To how many shards the index grows at the moment; zero if it does not.
    pub(crate) growing: u32,
    pub(crate) counts: Counts,
}

#[derive(FromRow)]
struct Raw {
    id: String,
    project_id: String,
    name: Vec<u8>,
    policy: String,
    created_at: i64,
    changed_at: i64,
    info: String,
    generation: i64,
    shards: i64,
    growing: i64,
    objects: i64,
    bytes: i64,
}

const COLUMNS: &str = "id, project_id, name, policy, created_at, changed_at, info, generation, shards, growing, \
     objects, bytes";

impl Raw {
    fn read(self) -> Result<Row, ObjectError> {
        let corrupt = |what: &str| StateError::Corrupt(format!("object_containers.{what}"));
        Ok(Row {
            id: ContainerId::parse(&self.id).ok_or_else(|| corrupt("id"))?,
            project_id: self.project_id,
            name: String::from_utf8(self.name).map_err(|_| corrupt("name"))?,
            policy: self.policy,
            created_at: Timestamp(self.created_at),
            changed_at: Timestamp(self.changed_at),
            info: serde_json::from_str(&self.info).map_err(StateError::from)?,
            generation: u32::try_from(self.generation).map_err(|_| corrupt("generation"))?,
            shards: u32::try_from(self.shards).map_err(|_| corrupt("shards"))?,
            growing: u32::try_from(self.growing).map_err(|_| corrupt("growing"))?,
            counts: Counts { objects: self.objects.max(0) as u64, bytes: self.bytes.max(0) as u64 },
        })
    }
}

fn select(rest: &str) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM object_containers {rest}"))
}

pub(crate) async fn find(db: &Db, project: &str, name: &str) -> Result<Option<Row>, ObjectError> {
    let raw: Option<Raw> = sqlx::query_as(select("WHERE project_id = $1 AND name = $2"))
        .bind(project.to_owned())
        .bind(name.as_bytes().to_vec())
        .fetch_optional(db.read())
        .await?;
    raw.map(Raw::read).transpose()
}

/// The container that has a bucket name.
pub(crate) async fn find_bucket(db: &Db, name: &str) -> Result<Option<Row>, ObjectError> {
    let raw: Option<Raw> =
        sqlx::query_as(select("WHERE id = (SELECT container_id FROM object_buckets WHERE name = $1)"))
            .bind(name.to_owned())
            .fetch_optional(db.read())
            .await?;
    raw.map(Raw::read).transpose()
}

pub(crate) async fn find_id(db: &Db, id: ContainerId) -> Result<Option<Row>, ObjectError> {
    let raw: Option<Raw> =
        sqlx::query_as(select("WHERE id = $1")).bind(id.to_string()).fetch_optional(db.read()).await?;
    raw.map(Raw::read).transpose()
}

/// The same row inside of a transaction that may change it.
pub(crate) async fn find_for_change(
    tx: &mut Tx,
    project: &str,
    name: &str,
) -> Result<Option<Row>, ObjectError> {
    tx.lock(&format!("container:{project}:{name}")).await?;
    let raw: Option<Raw> = sqlx::query_as(select("WHERE project_id = $1 AND name = $2"))
        .bind(project.to_owned())
        .bind(name.as_bytes().to_vec())
        .fetch_optional(tx.conn())
        .await?;
    raw.map(Raw::read).transpose()
}

pub(crate) async fn insert(tx: &mut Tx, row: &Row) -> Result<(), ObjectError> {
    sqlx::query(
        "INSERT INTO object_containers \
         (id, project_id, name, policy, created_at, changed_at, info, generation, shards, objects, bytes) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0)",
    )
    .bind(row.id.to_string())
    .bind(row.project_id.clone())
    .bind(row.name.as_bytes().to_vec())
    .bind(row.policy.clone())
    .bind(row.created_at)
    .bind(row.changed_at)
    .bind(serde_json::to_string(&row.info).map_err(StateError::from)?)
    .bind(i64::from(row.generation))
    .bind(i64::from(row.shards))
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Takes a bucket name for a container, if it is free. Whose it is then.
pub(crate) async fn claim_bucket(
    tx: &mut Tx,
    name: &str,
    id: ContainerId,
) -> Result<ContainerId, ObjectError> {
    sqlx::query(
        "INSERT INTO object_buckets (name, container_id) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
    )
    .bind(name.to_owned())
    .bind(id.to_string())
    .execute(tx.conn())
    .await?;
    let owner: String = sqlx::query_scalar("SELECT container_id FROM object_buckets WHERE name = $1")
        .bind(name.to_owned())
        .fetch_one(tx.conn())
        .await?;
    Ok(ContainerId::parse(&owner).ok_or_else(|| StateError::Corrupt("object_buckets.container_id".into()))?)
}

pub(crate) async fn set_info(
    tx: &mut Tx,
    id: ContainerId,
    info: &ContainerInfo,
    now: Timestamp,
) -> Result<(), ObjectError> {
    sqlx::query("UPDATE object_containers SET info = $2, changed_at = $3 WHERE id = $1")
        .bind(id.to_string())
        .bind(serde_json::to_string(info).map_err(StateError::from)?)
        .bind(now)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Notes that a container was put again as it is; whether it is so still.
pub(crate) async fn touch(
    tx: &mut Tx,
    id: ContainerId,
    info: &ContainerInfo,
    now: Timestamp,
) -> Result<bool, ObjectError> {
    let done = sqlx::query("UPDATE object_containers SET changed_at = $3 WHERE id = $1 AND info = $2")
        .bind(id.to_string())
        .bind(serde_json::to_string(info).map_err(StateError::from)?)
        .bind(now)
        .execute(tx.conn())
        .await?;
    Ok(done.rows_affected() > 0)
}

pub(crate) async fn set_counts(tx: &mut Tx, id: ContainerId, counts: Counts) -> Result<(), ObjectError> {
    sqlx::query("UPDATE object_containers SET objects = $2, bytes = $3 WHERE id = $1")
        .bind(id.to_string())
        .bind(i64::try_from(counts.objects).unwrap_or(i64::MAX))
        .bind(i64::try_from(counts.bytes).unwrap_or(i64::MAX))
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub(crate) async fn delete(tx: &mut Tx, id: ContainerId) -> Result<(), ObjectError> {
    for sql in
        ["DELETE FROM object_buckets WHERE container_id = $1", "DELETE FROM object_containers WHERE id = $1"]
    {
        sqlx::query(sql).bind(id.to_string()).execute(tx.conn()).await?;
    }
    Ok(())
}

/// Which rows of an account to list: names in `(after, before)` that begin with `prefix`.
#[derive(Debug, Clone)]
pub(crate) struct NameRange {
    pub(crate) after: String,
    /// Empty for no bound.
    pub(crate) before: String,
    pub(crate) prefix: String,
    pub(crate) reverse: bool,
}

/// Up to `limit` containers of an account, in order.
pub(crate) async fn list(
    db: &Db,
    project: &str,
    range: &NameRange,
    limit: usize,
) -> Result<Vec<Row>, ObjectError> {
    let raw: Vec<Raw> = list_as(COLUMNS, db, project, range, limit).await?;
    raw.into_iter().map(Raw::read).collect()
}

/// The same, but only their names, and when they were made: a third of the columns' price.
pub(crate) async fn list_names(
    db: &Db,
    project: &str,
    range: &NameRange,
    limit: usize,
) -> Result<Vec<(String, Timestamp)>, ObjectError> {
    let rows: Vec<(Vec<u8>, i64)> = list_as("name, created_at", db, project, range, limit).await?;
    let corrupt = |_| StateError::Corrupt("object_containers.name".into());
    let row = |(name, at)| Ok((String::from_utf8(name).map_err(corrupt)?, Timestamp(at)));
    rows.into_iter().map(row).collect()
}

async fn list_as<T>(
    columns: &str,
    db: &Db,
    project: &str,
    range: &NameRange,
    limit: usize,
) -> Result<Vec<T>, ObjectError>
where
    T: for<'r> FromRow<'r, sqlx::any::AnyRow> + Send + Unpin,
{
    // No name contains the byte FF: it is UTF-8.
    let past = |text: &str| if text.is_empty() { vec![0xff] } else { text.as_bytes().to_vec() };
    let mut prefix_end = range.prefix.as_bytes().to_vec();
    prefix_end.push(0xff);
    let order = if range.reverse { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT {columns} FROM object_containers WHERE project_id = $1 AND name > $2 AND name < $3 \
         AND name >= $4 AND name < $5 ORDER BY name {order} LIMIT $6"
    );
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(project.to_owned())
        .bind(range.after.as_bytes().to_vec())
        .bind(past(&range.before))
        .bind(range.prefix.as_bytes().to_vec())
        .bind(prefix_end)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(db.read())
        .await?)
}

/// What an account holds by storage policy, as the rows know it: (policy, containers, objects, bytes).
pub(crate) async fn usage(db: &Db, project: &str) -> Result<Vec<(String, u64, Counts)>, ObjectError> {
    let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "SELECT policy, CAST(COUNT(*) AS BIGINT), CAST(SUM(objects) AS BIGINT), CAST(SUM(bytes) AS BIGINT) \
         FROM object_containers WHERE project_id = $1 GROUP BY policy ORDER BY policy",
    )
    .bind(project.to_owned())
    .fetch_all(db.read())
    .await?;
    let count = |n: i64| n.max(0) as u64;
    Ok(rows
        .into_iter()
        .map(|(p, n, o, b)| (p, count(n), Counts { objects: count(o), bytes: count(b) }))
        .collect())
}

/// Containers by id, after `after`: for the sweep's round.
pub(crate) async fn round(db: &Db, after: &str, limit: usize) -> Result<Vec<Row>, ObjectError> {
    let raw: Vec<Raw> = sqlx::query_as(select("WHERE id > $1 ORDER BY id LIMIT $2"))
        .bind(after.to_owned())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(db.read())
        .await?;
    raw.into_iter().map(Raw::read).collect()
}
