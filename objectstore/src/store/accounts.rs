//! Rows of `object_accounts`.

use crate::ObjectError;
use crate::account::AccountInfo;
use state::{Db, StateError, Timestamp, Tx};

/// When the account came to be and what is said of it; `None` where nothing ever was.
pub(crate) async fn find(db: &Db, project: &str) -> Result<Option<(Timestamp, AccountInfo)>, ObjectError> {
    let row: Option<(i64, String)> =
        sqlx::query_as("SELECT created_at, info FROM object_accounts WHERE project_id = $1")
            .bind(project.to_owned())
            .fetch_optional(db.read())
            .await?;
    row.map(|(at, info)| Ok((Timestamp(at), parse(&info)?))).transpose()
}

/// Makes the account if there is none yet.
pub(crate) async fn ensure(tx: &mut Tx, project: &str) -> Result<(), ObjectError> {
    sqlx::query(
        "INSERT INTO object_accounts (project_id, created_at, info) VALUES ($1, $2, '{}') \
         ON CONFLICT (project_id) DO NOTHING",
    )
    .bind(project.to_owned())
    .bind(Timestamp::now())
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn info(tx: &mut Tx, project: &str) -> Result<AccountInfo, ObjectError> {
    let text: String = sqlx::query_scalar("SELECT info FROM object_accounts WHERE project_id = $1")
        .bind(project.to_owned())
        .fetch_one(tx.conn())
        .await?;
    parse(&text)
}

pub(crate) async fn set_info(tx: &mut Tx, project: &str, info: &AccountInfo) -> Result<(), ObjectError> {
    let text = serde_json::to_string(info).map_err(StateError::from)?;
    sqlx::query("UPDATE object_accounts SET info = $2 WHERE project_id = $1")
        .bind(project.to_owned())
        .bind(text)
        .execute(tx.conn())
        .await?;
    Ok(())
}

fn parse(text: &str) -> Result<AccountInfo, ObjectError> {
    Ok(serde_json::from_str(text).map_err(StateError::from)?)
}
