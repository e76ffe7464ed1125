//! What authentication reads: users and projects with their domains, password hashes, roles, revocations.

use crate::IdentityError;
use crate::store::assignments::TargetKind;
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Executor, Row};
use state::{Flag, Timestamp};

/// A user as authentication sees one.
#[derive(Debug, Clone)]
pub(crate) struct UserRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) domain_id: String,
    pub(crate) domain_name: String,
    /// Both the user and its domain.
    pub(crate) enabled: bool,
    pub(crate) password_expires_at: Option<Timestamp>,
    pub(crate) default_project_id: Option<String>,
    /// The later of the user's and its domain's.
    pub(crate) valid_from: Timestamp,
    pub(crate) password_hash: Option<PasswordHash>,
}

/// Not for logs.
#[derive(Clone)]
pub(crate) struct PasswordHash(pub(crate) String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

const USERS: &str = "SELECT u.id, u.name, u.domain_id, d.name, u.enabled, d.enabled, u.password_expires_at, \
    u.default_project_id, u.valid_from, d.valid_from, u.password_hash \
    FROM identity_users u JOIN identity_projects d ON d.id = u.domain_id";

fn user(row: &AnyRow) -> Result<UserRow, sqlx::Error> {
    let valid: (i64, i64) = (row.try_get(8)?, row.try_get(9)?);
    Ok(UserRow {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        domain_id: row.try_get(2)?,
        domain_name: row.try_get(3)?,
        enabled: row.try_get::<Flag, _>(4)?.0 && row.try_get::<Flag, _>(5)?.0,
        password_expires_at: row.try_get::<Option<i64>, _>(6)?.map(Timestamp),
        default_project_id: row.try_get(7)?,
        valid_from: Timestamp(valid.0.max(valid.1)),
        password_hash: row.try_get::<Option<String>, _>(10)?.map(PasswordHash),
    })
}

pub(crate) async fn user_by_id<'e>(
    on: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<Option<UserRow>, IdentityError> {
    let sql = format!("{USERS} WHERE u.id = $1");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id.to_owned()).fetch_optional(on).await?;
    Ok(row.map(|r| user(&r)).transpose()?)
}

/// How a request names a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DomainBy {
    Id(String),
    Name(String),
}

impl DomainBy {
    fn column(&self) -> (&'static str, String) {
        match self {
            DomainBy::Id(id) => ("d.id", id.clone()),
            DomainBy::Name(name) => ("d.domain_id = '' AND d.name", name.clone()),
        }
    }
}

pub(crate) async fn user_by_name<'e>(
    on: impl Executor<'e, Database = Any>,
    name: &str,
    domain: &DomainBy,
) -> Result<Option<UserRow>, IdentityError> {
    let (column, value) = domain.column();
    let sql = format!("{USERS} WHERE u.name = $1 AND {column} = $2");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(name.to_owned()).bind(value).fetch_optional(on).await?;
    Ok(row.map(|r| user(&r)).transpose()?)
}

/// A project as authentication sees one; a domain acting as a project too.
#[derive(Debug, Clone)]
pub(crate) struct ProjectRow {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Empty for a domain.
    pub(crate) domain_id: String,
    pub(crate) domain_name: String,
    pub(crate) parent_id: Option<String>,
    pub(crate) is_domain: bool,
    /// Both the project and its domain.
    pub(crate) enabled: bool,
    pub(crate) valid_from: Timestamp,
}

const PROJECTS: &str = "SELECT p.id, p.name, p.domain_id, d.name, p.parent_id, p.is_domain, p.enabled, d.enabled, \
    p.valid_from, d.valid_from FROM identity_projects p LEFT JOIN identity_projects d ON d.id = p.domain_id";

fn project(row: &AnyRow) -> Result<ProjectRow, sqlx::Error> {
    let own: i64 = row.try_get(8)?;
    Ok(ProjectRow {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        domain_id: row.try_get(2)?,
        domain_name: row.try_get::<Option<String>, _>(3)?.unwrap_or_default(),
        parent_id: row.try_get(4)?,
        is_domain: row.try_get::<Flag, _>(5)?.0,
        enabled: row.try_get::<Flag, _>(6)?.0 && row.try_get::<Option<Flag>, _>(7)?.is_none_or(|f| f.0),
        valid_from: Timestamp(own.max(row.try_get::<Option<i64>, _>(9)?.unwrap_or(0))),
    })
}

pub(crate) async fn project_by_id<'e>(
    on: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<Option<ProjectRow>, IdentityError> {
    let sql = format!("{PROJECTS} WHERE p.id = $1");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id.to_owned()).fetch_optional(on).await?;
    Ok(row.map(|r| project(&r)).transpose()?)
}

pub(crate) async fn project_by_name<'e>(
    on: impl Executor<'e, Database = Any>,
    name: &str,
    domain: &DomainBy,
) -> Result<Option<ProjectRow>, IdentityError> {
    let (column, value) = domain.column();
    let sql = format!("{PROJECTS} WHERE p.name = $1 AND {column} = $2");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(name.to_owned()).bind(value).fetch_optional(on).await?;
    Ok(row.map(|r| project(&r)).transpose()?)
}

pub(crate) async fn domain<'e>(
    on: impl Executor<'e, Database = Any>,
    by: &DomainBy,
) -> Result<Option<ProjectRow>, IdentityError> {
    let (column, value) = match by {
        DomainBy::Id(id) => ("p.id", id),
        DomainBy::Name(name) => ("p.name", name),
    };
    let sql = format!("{PROJECTS} WHERE p.is_domain = $1 AND {column} = $2");
    let query = sqlx::query(AssertSqlSafe(sql)).bind(true).bind(value.clone());
    Ok(query.fetch_optional(on).await?.map(|r| project(&r)).transpose()?)
}

/// The roles a user was given on a target, directly or through groups, and the inherited ones on `above`. A role on
/// a domain is none on the project that the domain also is, nor the other way round.
pub(crate) async fn role_ids<'e>(
    on: impl Executor<'e, Database = Any>,
    user: &str,
    kind: TargetKind,
    target: &str,
    above: &[String],
) -> Result<Vec<String>, IdentityError> {
    let mut sql = String::from(
        "SELECT DISTINCT role_id FROM identity_assignments WHERE (actor_id = $1 OR actor_id IN \
         (SELECT group_id FROM identity_members WHERE user_id = $1)) \
         AND ((target_id = $2 AND inherited = $3 AND target_kind = $4)",
    );
    if !above.is_empty() {
        let list: Vec<String> = (0..above.len()).map(|i| format!("${}", i + 6)).collect();
        sql.push_str(&format!(" OR (inherited = $5 AND target_id IN ({}))", list.join(", ")));
    }
    sql.push(')');
    let mut query = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(user.to_owned())
        .bind(target.to_owned())
        .bind(false)
        .bind(kind.as_str());
    if !above.is_empty() {
        query = query.bind(true);
        for id in above {
            query = query.bind(id.clone());
        }
    }
    Ok(query.fetch_all(on).await?)
}

/// Sets a password's hash and refuses the tokens issued so far.
pub(crate) async fn set_password<'e>(
    on: impl Executor<'e, Database = Any>,
    user: &str,
    hash: &str,
    now: Timestamp,
) -> Result<(), IdentityError> {
    sqlx::query(
        "UPDATE identity_users SET password_hash = $2, password_changed_at = $3, valid_from = $3 WHERE id = $1",
    )
    .bind(user.to_owned())
    .bind(hash.to_owned())
    .bind(now)
    .execute(on)
    .await?;
    Ok(())
}

/// Whose tokens are refused.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holder {
    User,
    Project,
}

/// Refuses the tokens issued before `now`.
pub(crate) async fn refuse_tokens<'e>(
    on: impl Executor<'e, Database = Any>,
    holder: Holder,
    id: &str,
    now: Timestamp,
) -> Result<(), IdentityError> {
    let sql = match holder {
        Holder::User => "UPDATE identity_users SET valid_from = $2 WHERE id = $1",
        Holder::Project => "UPDATE identity_projects SET valid_from = $2 WHERE id = $1",
    };
    sqlx::query(sql).bind(id.to_owned()).bind(now).execute(on).await?;
    Ok(())
}

pub(crate) async fn revoke<'e>(
    on: impl Executor<'e, Database = Any>,
    audit_id: &str,
    expires_at: Timestamp,
) -> Result<(), IdentityError> {
    sqlx::query(
        "INSERT INTO identity_revocations (audit_id, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    )
    .bind(audit_id.to_owned())
    .bind(expires_at)
    .execute(on)
    .await?;
    Ok(())
}

pub(crate) async fn forget_revocations<'e>(
    on: impl Executor<'e, Database = Any>,
    now: Timestamp,
) -> Result<(), IdentityError> {
    sqlx::query("DELETE FROM identity_revocations WHERE expires_at < $1").bind(now).execute(on).await?;
    Ok(())
}

pub(crate) async fn is_revoked<'e>(
    on: impl Executor<'e, Database = Any>,
    audit_id: &str,
) -> Result<bool, IdentityError> {
    let row = sqlx::query("SELECT audit_id FROM identity_revocations WHERE audit_id = $1")
        .bind(audit_id.to_owned())
        .fetch_optional(on)
        .await?;
    Ok(row.is_some())
}

pub(crate) async fn epoch<'e>(on: impl Executor<'e, Database = Any>) -> Result<i64, IdentityError> {
    Ok(sqlx::query_scalar("SELECT epoch FROM identity_epoch WHERE id = 1").fetch_one(on).await?)
}

/// Counts the epoch up; the new one.
pub(crate) async fn next_epoch<'e>(on: impl Executor<'e, Database = Any>) -> Result<i64, IdentityError> {
    let sql = "UPDATE identity_epoch SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch";
    Ok(sqlx::query_scalar(sql).fetch_one(on).await?)
}

/// The hash of an application credential's secret.
pub(crate) async fn app_secret<'e>(
    on: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<Option<PasswordHash>, IdentityError> {
    let sql = "SELECT secret_hash FROM identity_app_credentials WHERE id = $1";
    let hash: Option<String> = sqlx::query_scalar(sql).bind(id.to_owned()).fetch_optional(on).await?;
    Ok(hash.map(PasswordHash))
}

pub(crate) async fn set_app_secret<'e>(
    on: impl Executor<'e, Database = Any>,
    id: &str,
    hash: &str,
) -> Result<(), IdentityError> {
    sqlx::query("UPDATE identity_app_credentials SET secret_hash = $2 WHERE id = $1")
        .bind(id.to_owned())
        .bind(hash.to_owned())
        .execute(on)
        .await?;
    Ok(())
}
