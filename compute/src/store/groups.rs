//! The `compute_server_groups` table; members are the servers that name the group.

use super::{of_doc, of_docs, to_doc};
use crate::ComputeError;
use crate::model::ServerGroup;
use state::{Db, Timestamp, Tx};

pub(crate) async fn insert(tx: &mut Tx, g: &ServerGroup) -> Result<(), ComputeError> {
    sqlx::query(
        "INSERT INTO compute_server_groups (id, project_id, user_id, name, created_at, doc) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&g.id)
    .bind(&g.project_id)
    .bind(&g.user_id)
    .bind(&g.name)
    .bind(Timestamp::now())
    .bind(to_doc(g)?)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn get(db: &Db, id: &str) -> Result<Option<ServerGroup>, ComputeError> {
    let doc: Option<String> = sqlx::query_scalar("SELECT doc FROM compute_server_groups WHERE id = $1")
        .bind(id)
        .fetch_optional(db.read())
        .await?;
    doc.map(|d| of_doc(&d)).transpose()
}

/// Oldest first; of every project where none is named.
pub(crate) async fn list(db: &Db, project: Option<&str>) -> Result<Vec<ServerGroup>, ComputeError> {
    of_docs(
        sqlx::query_scalar(
            "SELECT doc FROM compute_server_groups WHERE $1 = '' OR project_id = $1 ORDER BY created_at, id",
        )
        .bind(project.unwrap_or_default())
        .fetch_all(db.read())
        .await?,
    )
}

pub(crate) async fn count(tx: &mut Tx, project: &str) -> Result<i64, ComputeError> {
    Ok(sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM compute_server_groups WHERE project_id = $1")
        .bind(project)
        .fetch_one(tx.conn())
        .await?)
}

pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<(), ComputeError> {
    sqlx::query("DELETE FROM compute_server_groups WHERE id = $1").bind(id).execute(tx.conn()).await?;
    Ok(())
}

/// `(server, its user, its host)` of a group's living members, oldest first.
pub(crate) async fn members(db: &Db, group: &str) -> Result<Vec<(String, String, String)>, ComputeError> {
    Ok(sqlx::query_as(MEMBERS).bind(group).fetch_all(db.read()).await?)
}

pub(crate) async fn members_tx(
    tx: &mut Tx,
    group: &str,
) -> Result<Vec<(String, String, String)>, ComputeError> {
    Ok(sqlx::query_as(MEMBERS).bind(group).fetch_all(tx.conn()).await?)
}

const MEMBERS: &str = "SELECT id, user_id, host FROM compute_servers WHERE group_id = $1 AND deleted_at = 0 \
    ORDER BY created_at, id";
