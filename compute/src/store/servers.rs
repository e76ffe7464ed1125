//! The `compute_servers` table. A server is changed only between [`lock`] and [`save`] in one transaction.

use super::{of_doc, of_docs, to_doc};
use crate::ComputeError;
use crate::model::Server;
use sqlx::AssertSqlSafe;
use state::{Db, Timestamp, Tx};

/// What a listing asks for that the database can answer; the rest is asked of each row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Find<'a> {
    pub(crate) project: Option<&'a str>,
    pub(crate) host: Option<&'a str>,
    pub(crate) group: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
    /// Only what was deleted, instead of only what lives.
    pub(crate) deleted: bool,
}

pub(crate) async fn insert(tx: &mut Tx, s: &Server, user_data: &str) -> Result<(), ComputeError> {
    sqlx::query(
        "INSERT INTO compute_servers (id, project_id, user_id, name, host, vm_state, group_id, vcpus, ram_mib, \
         created_at, updated_at, deleted_at, user_data, doc) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, $12, $13)",
    )
    .bind(&s.id)
    .bind(&s.project_id)
    .bind(&s.user_id)
    .bind(&s.name)
    .bind(&s.host)
    .bind(s.vm_state.as_str())
    .bind(s.group_id.as_deref().unwrap_or_default())
    .bind(s.flavor.vcpus)
    .bind(s.flavor.ram_mib)
    .bind(s.created_at)
    .bind(s.updated_at)
    .bind(user_data)
    .bind(to_doc(s)?)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// A server that lives, or `None`.
pub(crate) async fn get(db: &Db, id: &str) -> Result<Option<Server>, ComputeError> {
    let doc: Option<String> =
        sqlx::query_scalar("SELECT doc FROM compute_servers WHERE id = $1 AND deleted_at = 0")
            .bind(id)
            .fetch_optional(db.read())
            .await?;
    doc.map(|d| of_doc(&d)).transpose()
}

/// A server whether it lives or not.
pub(crate) async fn get_ever(db: &Db, id: &str) -> Result<Option<Server>, ComputeError> {
    let doc: Option<String> = sqlx::query_scalar("SELECT doc FROM compute_servers WHERE id = $1")
        .bind(id)
        .fetch_optional(db.read())
        .await?;
    doc.map(|d| of_doc(&d)).transpose()
}

/// A server that lives, held against every other change until the transaction ends.
pub(crate) async fn lock(tx: &mut Tx, id: &str) -> Result<Option<Server>, ComputeError> {
    tx.lock(&format!("server:{id}")).await?;
    let doc: Option<String> =
        sqlx::query_scalar("SELECT doc FROM compute_servers WHERE id = $1 AND deleted_at = 0")
            .bind(id)
            .fetch_optional(tx.conn())
            .await?;
    doc.map(|d| of_doc(&d)).transpose()
}

pub(crate) async fn save(tx: &mut Tx, s: &Server) -> Result<(), ComputeError> {
    sqlx::query(
        "UPDATE compute_servers SET name = $1, host = $2, vm_state = $3, group_id = $4, vcpus = $5, \
         ram_mib = $6, updated_at = $7, deleted_at = $8, doc = $9 WHERE id = $10",
    )
    .bind(&s.name)
    .bind(&s.host)
    .bind(s.vm_state.as_str())
    .bind(s.group_id.as_deref().unwrap_or_default())
    .bind(s.flavor.vcpus)
    .bind(s.flavor.ram_mib)
    .bind(s.updated_at)
    .bind(s.deleted_at.unwrap_or(Timestamp(0)))
    .bind(to_doc(s)?)
    .bind(&s.id)
    .execute(tx.conn())
    .await?;
    tx.wake(topic(&s.id));
    Ok(())
}

/// The topic that is woken when a server changes.
pub(crate) fn topic(id: &str) -> String {
    format!("server:{id}")
}

pub(crate) async fn user_data(db: &Db, id: &str) -> Result<String, ComputeError> {
    Ok(sqlx::query_scalar("SELECT user_data FROM compute_servers WHERE id = $1")
        .bind(id)
        .fetch_optional(db.read())
        .await?
        .unwrap_or_default())
}

/// Newest first.
pub(crate) async fn list(db: &Db, find: &Find<'_>) -> Result<Vec<Server>, ComputeError> {
    let mut sql = String::from("SELECT doc FROM compute_servers WHERE ");
    sql.push_str(if find.deleted { "deleted_at > 0" } else { "deleted_at = 0" });
    let wanted =
        [("project_id", find.project), ("host", find.host), ("group_id", find.group), ("user_id", find.user)];
    let wanted: Vec<_> = wanted.into_iter().filter_map(|(c, v)| Some((c, v?))).collect();
    for (n, (column, _)) in wanted.iter().enumerate() {
        sql.push_str(&format!(" AND {column} = ${}", n + 1));
    }
    sql.push_str(" ORDER BY created_at DESC, id DESC");
    let mut query = sqlx::query_scalar(AssertSqlSafe(sql));
    for (_, value) in wanted {
        query = query.bind(value.to_owned());
    }
    of_docs(query.fetch_all(db.read()).await?)
}

/// Ids of the servers of a host, for whoever looks at each under its lock.
pub(crate) async fn ids_of_host(tx: &mut Tx, host: &str) -> Result<Vec<String>, ComputeError> {
    Ok(sqlx::query_scalar("SELECT id FROM compute_servers WHERE host = $1 AND deleted_at = 0")
        .bind(host)
        .fetch_all(tx.conn())
        .await?)
}

/// What a project's servers use: (instances, cores, MiB of memory).
pub(crate) async fn usage(tx: &mut Tx, project: &str) -> Result<(i64, i64, i64), ComputeError> {
    Ok(sqlx::query_as(USAGE).bind(project).fetch_one(tx.conn()).await?)
}

pub(crate) async fn usage_read(db: &Db, project: &str) -> Result<(i64, i64, i64), ComputeError> {
    Ok(sqlx::query_as(USAGE).bind(project).fetch_one(db.read()).await?)
}

const USAGE: &str = "SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(vcpus), 0) AS BIGINT), \
    CAST(COALESCE(SUM(ram_mib), 0) AS BIGINT) FROM compute_servers WHERE project_id = $1 AND deleted_at = 0";

/// Servers that were deleted before a point in time leave no row any more.
pub(crate) async fn forget_deleted(tx: &mut Tx, before: Timestamp) -> Result<(), ComputeError> {
    const OLD: &str = "deleted_at > 0 AND deleted_at < $1";
    let actions = format!(
        "DELETE FROM compute_actions WHERE server_id IN (SELECT id FROM compute_servers WHERE {OLD})"
    );
    sqlx::query(AssertSqlSafe(actions)).bind(before).execute(tx.conn()).await?;
    sqlx::query(AssertSqlSafe(format!("DELETE FROM compute_servers WHERE {OLD}")))
        .bind(before)
        .execute(tx.conn())
        .await?;
    Ok(())
}
