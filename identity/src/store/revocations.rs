//! What tokens are refused for beyond what they name being gone: one row a revocation, until all tokens that it can
//! mean have ended anyway.

use crate::IdentityError;
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Executor, Row};
use state::Timestamp;

/// What is revoked by one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// One token, by its own audit id.
    Token,
    /// A token and all that were made from it, by the audit id that its chain begins with.
    Chain,
    User,
    Project,
    /// Tokens for the domain, for its projects and of its users.
    Domain,
    /// Tokens that hold the role.
    Role,
    Trust,
    AppCredential,
}

impl By {
    const ALL: [By; 8] =
        [By::Token, By::Chain, By::User, By::Project, By::Domain, By::Role, By::Trust, By::AppCredential];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            By::Token => "token",
            By::Chain => "chain",
            By::User => "user",
            By::Project => "project",
            By::Domain => "domain",
            By::Role => "role",
            By::Trust => "trust",
            By::AppCredential => "app_credential",
        }
    }
}

/// One revocation.
#[derive(Debug, Clone)]
pub(crate) struct Revocation {
    pub(crate) by: By,
    pub(crate) id: String,
    /// Tokens issued before are refused.
    pub(crate) issued_before: Timestamp,
    /// No token that it means lives longer.
    pub(crate) forget_at: Timestamp,
}

fn revocation(row: &AnyRow) -> Result<Revocation, IdentityError> {
    let by: String = row.try_get(0)?;
    let corrupt = || IdentityError::State(state::StateError::Corrupt(format!("revocation by {by}")));
    Ok(Revocation {
        by: By::ALL.into_iter().find(|b| b.as_str() == by).ok_or_else(corrupt)?,
        id: row.try_get(1)?,
        issued_before: row.try_get(2)?,
        forget_at: row.try_get(3)?,
    })
}

/// Adds it, and forgets those whose time is over.
pub(crate) async fn add(tx: &mut state::Tx, r: &Revocation) -> Result<(), IdentityError> {
    sqlx::query("DELETE FROM identity_revoked WHERE forget_at < $1")
        .bind(Timestamp::now())
        .execute(tx.conn())
        .await?;
    sqlx::query(
        "INSERT INTO identity_revoked (id, kind, issued_before, forget_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (id, kind) DO UPDATE SET issued_before = excluded.issued_before, forget_at = excluded.forget_at",
    )
    .bind(r.id.clone())
    .bind(r.by.as_str())
    .bind(r.issued_before)
    .bind(r.forget_at)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The revocations of any of these ids, whatever they are the ids of.
pub(crate) async fn of<'e>(
    on: impl Executor<'e, Database = Any>,
    ids: &[&str],
) -> Result<Vec<Revocation>, IdentityError> {
    let places: Vec<String> = (1..=ids.len()).map(|i| format!("${i}")).collect();
    let sql = format!(
        "SELECT kind, id, issued_before, forget_at FROM identity_revoked WHERE id IN ({})",
        places.join(", ")
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for id in ids {
        query = query.bind((*id).to_owned());
    }
    query.fetch_all(on).await?.iter().map(revocation).collect()
}

/// Those of tokens issued since, or all, oldest first.
pub(crate) async fn since<'e>(
    on: impl Executor<'e, Database = Any>,
    then: Timestamp,
) -> Result<Vec<Revocation>, IdentityError> {
    let sql = "SELECT kind, id, issued_before, forget_at FROM identity_revoked WHERE issued_before >= $1 \
        ORDER BY issued_before, id";
    sqlx::query(sql).bind(then).fetch_all(on).await?.iter().map(revocation).collect()
}
