//! The `compute_actions` table: what was done to a server, by whom, and how it ended.

use crate::ComputeError;
use state::{Db, Timestamp, Tx};

#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Action {
    pub(crate) server_id: String,
    pub(crate) request_id: String,
    pub(crate) action: String,
    pub(crate) project_id: String,
    pub(crate) user_id: String,
    pub(crate) started_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) finished_at: Timestamp,
    pub(crate) result: String,
    pub(crate) message: String,
}

/// Begins an action of the request's caller.
pub(crate) async fn begin(
    tx: &mut Tx,
    ctx: &api::Context,
    server: &str,
    action: &str,
) -> Result<(), ComputeError> {
    let project = ctx.project().map(|p| p.id.as_str()).unwrap_or_default();
    begin_by(tx, (ctx.request_id.as_str(), project, &ctx.user.id), server, action).await
}

/// Begins an action of a request's, a project's and a user's id.
pub(crate) async fn begin_by(
    tx: &mut Tx,
    (request, project, user): (&str, &str, &str),
    server: &str,
    action: &str,
) -> Result<(), ComputeError> {
    let now = Timestamp::now();
    sqlx::query(
        "INSERT INTO compute_actions (id, server_id, request_id, action, project_id, user_id, started_at, \
         updated_at, finished_at, result, message) VALUES ($1, $2, $3, $4, $5, $6, $7, $7, 0, '', '')",
    )
    .bind(state::new_id())
    .bind(server)
    .bind(request)
    .bind(action)
    .bind(project)
    .bind(user)
    .bind(now)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Ends whatever of a server's actions still runs.
pub(crate) async fn end(tx: &mut Tx, server: &str, error: Option<&str>) -> Result<(), ComputeError> {
    end_where(tx, server, "TRUE", error).await
}

/// Ends the actions that are done when the host says so. How the others end only their tasks know.
pub(crate) async fn settled(tx: &mut Tx, server: &str, error: Option<&str>) -> Result<(), ComputeError> {
    let own = "action NOT IN ('attach_volume', 'detach_volume', 'extend_volume', 'detach_interface', 'createImage')";
    end_where(tx, server, own, error).await
}

/// Ends a server's actions of one name.
pub(crate) async fn end_one(
    tx: &mut Tx,
    server: &str,
    action: &'static str,
    error: Option<&str>,
) -> Result<(), ComputeError> {
    end_where(tx, server, &format!("action = '{action}'"), error).await
}

/// `which` is an SQL condition of this file's own making.
async fn end_where(tx: &mut Tx, server: &str, which: &str, error: Option<&str>) -> Result<(), ComputeError> {
    let sql = format!(
        "UPDATE compute_actions SET finished_at = $1, updated_at = $1, result = $2, message = $3 \
         WHERE server_id = $4 AND finished_at = 0 AND {which}"
    );
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(Timestamp::now())
        .bind(if error.is_some() { "Error" } else { "Success" })
        .bind(error.unwrap_or_default())
        .bind(server)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Newest first.
pub(crate) async fn list(db: &Db, server: &str) -> Result<Vec<Action>, ComputeError> {
    Ok(sqlx::query_as(
        "SELECT server_id, request_id, action, project_id, user_id, started_at, updated_at, finished_at, \
         result, message FROM compute_actions WHERE server_id = $1 ORDER BY started_at DESC, id DESC",
    )
    .bind(server)
    .fetch_all(db.read())
    .await?)
}
