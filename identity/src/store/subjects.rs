//! What authentication reads: users and projects with their domains, password hashes, roles, revocations.

use crate::IdentityError;
use crate::store::assignments::TargetKind;
use serde_json::Value;
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
    pub(crate) options: Value,
    /// Where the user is kept: '' is here.
    pub(crate) source: String,
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
    u.default_project_id, u.valid_from, d.valid_from, u.password_hash, u.options, u.source \
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
        options: serde_json::from_str(row.try_get(11)?).map_err(|e| sqlx::Error::Decode(e.into()))?,
        source: row.try_get(12)?,
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

/// A user that this cloud keeps itself; the names of federated ones say nothing, and directories are asked themselves.
pub(crate) async fn user_by_name<'e>(
    on: impl Executor<'e, Database = Any>,
    name: &str,
    domain: &DomainBy,
) -> Result<Option<UserRow>, IdentityError> {
    let (column, value) = domain.column();
    let sql = format!("{USERS} WHERE u.name = $1 AND {column} = $2 AND u.source = ''");
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

/// Both the actors and the targets are lists, so that the primary key finds the rows: neither a user with many
/// assignments nor a project with many costs more than it must.
fn role_ids_sql(groups: usize, above: usize) -> String {
    let groups_too: String = (0..groups).map(|i| format!(" UNION ALL SELECT ${}", i + 6)).collect();
    let list: Vec<String> = (0..above).map(|i| format!("${}", i + groups + 7)).collect();
    let (targets, inherited) = match list.is_empty() {
        true => ("$2".to_owned(), String::new()),
        false => {
            let (list, flag) = (list.join(", "), groups + 6);
            (format!("$2, {list}"), format!(" OR (inherited = ${flag} AND target_id IN ({list}))"))
        }
    };
    format!(
        "SELECT DISTINCT role_id FROM identity_assignments WHERE actor_id IN \
         (SELECT $1 UNION ALL SELECT group_id FROM identity_members WHERE user_id = $1 \
         UNION ALL SELECT group_id FROM identity_expiring_members WHERE user_id = $1 AND expires_at > $5{groups_too}) \
         AND target_id IN ({targets}) \
         AND ((target_id = $2 AND inherited = $3 AND target_kind = $4){inherited})"
    )
}

/// The roles a user was given on a target, directly or through its groups and these, and the inherited ones on `above`. A role on
/// a domain is none on the project that the domain also is, nor the other way round.
pub(crate) async fn role_ids<'e>(
    on: impl Executor<'e, Database = Any>,
    user: &str,
    groups: &[String],
    kind: TargetKind,
    target: &str,
    above: &[String],
) -> Result<Vec<String>, IdentityError> {
    let sql = role_ids_sql(groups.len(), above.len());
    let mut query = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(user.to_owned())
        .bind(target.to_owned())
        .bind(false)
        .bind(kind.as_str())
        .bind(Timestamp::now());
    for id in groups {
        query = query.bind(id.clone());
    }
    if !above.is_empty() {
        query = query.bind(true);
        for id in above {
            query = query.bind(id.clone());
        }
    }
    Ok(query.fetch_all(on).await?)
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

pub(crate) async fn epoch<'e>(on: impl Executor<'e, Database = Any>) -> Result<i64, IdentityError> {
    Ok(sqlx::query_scalar("SELECT epoch FROM identity_epoch WHERE id = 1").fetch_one(on).await?)
}

/// Numbers of which every change counts up one.
pub(crate) async fn revision<'e>(on: impl Executor<'e, Database = Any>) -> Result<(i64, i64), IdentityError> {
    let sql = "SELECT a.epoch, b.epoch FROM identity_epoch a, identity_epoch b WHERE a.id = 1 AND b.id = 2";
    Ok(sqlx::query_as(sql).fetch_one(on).await?)
}

/// Counts a change that alters no token's meaning.
pub(crate) async fn count_aside<'e>(on: impl Executor<'e, Database = Any>) -> Result<(), IdentityError> {
    sqlx::query("UPDATE identity_epoch SET epoch = epoch + 1 WHERE id = 2").execute(on).await?;
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use state::{Db, Engine};

    /// How SQLite goes about a statement: `SEARCH … USING INDEX …`, or `SCAN …` for all rows.
    async fn plan(db: &Db, sql: &str) -> String {
        let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")))
            .fetch_all(db.read())
            .await
            .unwrap();
        rows.iter().map(|r| r.try_get::<String, _>(3).unwrap()).collect::<Vec<_>>().join("; ")
    }

    #[tokio::test]
    async fn what_logins_and_lists_ask_reads_no_whole_table() {
        for db in testbed::databases().await {
            db.migrate(&crate::MIGRATIONS).await.unwrap();
            if db.engine() != Engine::Sqlite {
                continue;
            }
            let grants = "SELECT role_id FROM identity_assignments WHERE actor_id IN ('a', 'b')";
            let by_column = |table: &str, column: &str| {
                format!("SELECT id FROM {table} WHERE {column} = 'x' ORDER BY id")
            };
            let mut all = vec![
                format!("{USERS} WHERE u.id = 'x'"),
                format!("{USERS} WHERE u.name = 'x' AND d.id = 'y'"),
                format!("{USERS} WHERE u.name = 'x' AND d.domain_id = '' AND d.name = 'y'"),
                format!("{PROJECTS} WHERE p.name = 'x' AND d.id = 'y'"),
                role_ids_sql(0, 0),
                role_ids_sql(0, 3),
                role_ids_sql(2, 3),
                grants.to_owned(),
                format!("{grants} AND target_id IN ('x') ORDER BY actor_id, target_id, role_id, inherited"),
                "SELECT role_id FROM identity_assignments WHERE target_id IN ('x')".to_owned(),
                "SELECT id FROM identity_users WHERE domain_id = 'x' AND id > 'y' ORDER BY id LIMIT 9"
                    .to_owned(),
                "UPDATE identity_users SET default_project_id = NULL WHERE default_project_id = 'x'"
                    .to_owned(),
                "DELETE FROM identity_revoked WHERE forget_at < 5".to_owned(),
                "SELECT id FROM identity_revoked WHERE id IN ('a', 'b')".to_owned(),
            ];
            for (table, column) in [
                ("identity_users", "name"),
                ("identity_projects", "name"),
                ("identity_projects", "parent_id"),
                ("identity_groups", "name"),
                ("identity_credentials", "user_id"),
                ("identity_credentials", "project_id"),
                ("identity_credentials", "access_hash"),
                ("identity_app_credentials", "user_id"),
                ("identity_app_credentials", "project_id"),
                ("identity_trusts", "trustor_user_id"),
                ("identity_trusts", "trustee_user_id"),
                ("identity_trusts", "project_id"),
            ] {
                all.push(by_column(table, column));
            }
            for sql in all {
                let plan = plan(&db, &sql).await;
                let scans =
                    plan.split("; ").any(|step| step.starts_with("SCAN") && !step.contains("CONSTANT"));
                assert!(!scans, "{sql}\n{plan}");
            }
            // With many assignments of a user as with many on a project, both are in the index.
            let plan = plan(&db, &role_ids_sql(2, 2)).await;
            assert!(plan.contains("(actor_id=? AND target_id=?"), "{plan}");
        }
    }
}
