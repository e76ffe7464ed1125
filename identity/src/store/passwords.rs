//! Passwords and what is counted about their use. Nothing here is remembered elsewhere, so that a failed login is
//! one small write.

use crate::IdentityError;
use crate::store::subjects::PasswordHash;
use sqlx::{Any, AssertSqlSafe, Executor, Row};
use state::{Flag, Timestamp, Tx};

/// What is known of a user's logins.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) failed_logins: i64,
    pub(crate) failed_login_at: Timestamp,
    pub(crate) changed_at: Timestamp,
    /// The user chose the password.
    pub(crate) own_password: bool,
    pub(crate) last_active_at: Timestamp,
}

/// A password to be set.
#[derive(Debug)]
pub(crate) struct NewPassword {
    pub(crate) hash: PasswordHash,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) own: bool,
}

pub(crate) async fn account<'e>(
    on: impl Executor<'e, Database = Any>,
    user: &str,
) -> Result<Option<Account>, IdentityError> {
    let row = sqlx::query(
        "SELECT failed_logins, failed_login_at, password_changed_at, own_password, last_active_at \
         FROM identity_users WHERE id = $1",
    )
    .bind(user.to_owned())
    .fetch_optional(on)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Account {
        failed_logins: row.try_get(0)?,
        failed_login_at: Timestamp(row.try_get(1)?),
        changed_at: Timestamp(row.try_get(2)?),
        own_password: row.try_get::<Flag, _>(3)?.0,
        last_active_at: Timestamp(row.try_get(4)?),
    }))
}

/// What happens to an account, at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark {
    Created,
    Active,
    FailedLogin,
    /// Failed logins are forgotten.
    Forgiven,
}

/// Notes it. For a user that does not exist this costs the same and changes nothing.
pub(crate) async fn mark<'e>(
    on: impl Executor<'e, Database = Any>,
    user: &str,
    mark: Mark,
    now: Timestamp,
) -> Result<(), IdentityError> {
    let change = match mark {
        Mark::Created => "created_at = $2",
        Mark::Active => "last_active_at = $2",
        Mark::FailedLogin => "failed_logins = failed_logins + 1, failed_login_at = $2",
        Mark::Forgiven => "failed_logins = 0, failed_login_at = $2",
    };
    let sql = format!("UPDATE identity_users SET {change} WHERE id = $1");
    sqlx::query(AssertSqlSafe(sql)).bind(user.to_owned()).bind(now).execute(on).await?;
    Ok(())
}

/// Which of these users were last active, or made, before `since`.
pub(crate) async fn inactive(
    on: &sqlx::AnyPool,
    users: &[String],
    since: Timestamp,
) -> Result<Vec<String>, IdentityError> {
    let mut out = Vec::new();
    for some in users.chunks(super::record::MANY) {
        let places: Vec<String> = (0..some.len()).map(|i| format!("${}", i + 2)).collect();
        let sql = format!(
            "SELECT id FROM identity_users WHERE CASE WHEN last_active_at > 0 THEN last_active_at \
             WHEN created_at > 0 THEN created_at ELSE $1 END < $1 AND source <> 'ldap' AND id IN ({})",
            places.join(", ")
        );
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(since);
        let query = some.iter().fold(query, |q, id| q.bind(id.clone()));
        let found: Vec<String> = query.fetch_all(on).await?;
        out.extend(found);
    }
    Ok(out)
}

/// The passwords that a user had before, the latest first.
pub(crate) async fn former<'e>(
    on: impl Executor<'e, Database = Any>,
    user: &str,
) -> Result<Vec<PasswordHash>, IdentityError> {
    let sql = "SELECT password_hash FROM identity_former_passwords WHERE user_id = $1 ORDER BY ended_at DESC";
    let found: Vec<String> = sqlx::query_scalar(sql).bind(user.to_owned()).fetch_all(on).await?;
    Ok(found.into_iter().map(PasswordHash).collect())
}

/// Sets a password and forgives failed logins. Of the former ones, `keep` are kept.
pub(crate) async fn set(
    tx: &mut Tx,
    user: &str,
    new: &NewPassword,
    now: Timestamp,
    keep: u32,
) -> Result<(), IdentityError> {
    if keep > 0 {
        sqlx::query(
            "INSERT INTO identity_former_passwords (user_id, ended_at, password_hash) \
             SELECT id, CAST($2 AS BIGINT), password_hash FROM identity_users \
             WHERE id = $1 AND password_hash IS NOT NULL ON CONFLICT DO NOTHING",
        )
        .bind(user.to_owned())
        .bind(now)
        .execute(tx.conn())
        .await?;
    }
    let sql = format!(
        "DELETE FROM identity_former_passwords WHERE user_id = $1 AND ended_at NOT IN (SELECT ended_at \
         FROM identity_former_passwords WHERE user_id = $1 ORDER BY ended_at DESC LIMIT {keep})"
    );
    sqlx::query(AssertSqlSafe(sql)).bind(user.to_owned()).execute(tx.conn()).await?;
    sqlx::query(
        "UPDATE identity_users SET password_hash = $2, password_changed_at = $3, password_expires_at = $4, \
         own_password = $5, failed_logins = 0 WHERE id = $1",
    )
    .bind(user.to_owned())
    .bind(new.hash.0.clone())
    .bind(now)
    .bind(new.expires_at)
    .bind(new.own)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The same password, hashed anew: unless it was changed meanwhile.
pub(crate) async fn rehash<'e>(
    on: impl Executor<'e, Database = Any>,
    user: &str,
    old: &PasswordHash,
    new: &str,
) -> Result<(), IdentityError> {
    let sql = "UPDATE identity_users SET password_hash = $3 WHERE id = $1 AND password_hash = $2";
    sqlx::query(sql).bind(user.to_owned()).bind(old.0.clone()).bind(new.to_owned()).execute(on).await?;
    Ok(())
}

pub(crate) async fn forget<'e>(
    on: impl Executor<'e, Database = Any>,
    user: &str,
) -> Result<(), IdentityError> {
    let sql = "DELETE FROM identity_former_passwords WHERE user_id = $1";
    sqlx::query(sql).bind(user.to_owned()).execute(on).await?;
    Ok(())
}

/// Notes that the passcode of this time step was used, and forgets those before `oldest`. False where it had been.
pub(crate) async fn use_passcode(
    tx: &mut Tx,
    credential: &str,
    step: i64,
    oldest: i64,
) -> Result<bool, IdentityError> {
    sqlx::query("DELETE FROM identity_passcodes WHERE step < $1").bind(oldest).execute(tx.conn()).await?;
    let sql = "INSERT INTO identity_passcodes (credential_id, step) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    let done = sqlx::query(sql).bind(credential.to_owned()).bind(step).execute(tx.conn()).await?;
    Ok(done.rows_affected() > 0)
}
