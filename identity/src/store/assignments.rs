//! Role assignments, group membership and implied roles.

use crate::IdentityError;
use crate::store::record::MANY;
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Executor, Row};
use state::Flag;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ActorKind {
    User,
    Group,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TargetKind {
    Project,
    Domain,
    System,
}

impl ActorKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ActorKind::User => "user",
            ActorKind::Group => "group",
        }
    }
}

impl TargetKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            TargetKind::Project => "project",
            TargetKind::Domain => "domain",
            TargetKind::System => "system",
        }
    }
}

/// One assignment: an actor has a role on a target, or, inherited, on the projects below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Grant {
    pub(crate) actor: ActorKind,
    pub(crate) actor_id: String,
    pub(crate) target: TargetKind,
    /// `system` for the system.
    pub(crate) target_id: String,
    pub(crate) role: String,
    pub(crate) inherited: bool,
}

/// Which assignments to read; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub(crate) struct GrantFilter {
    /// Any of these users or groups.
    pub(crate) actors: Option<Vec<String>>,
    pub(crate) targets: Option<Vec<String>>,
    pub(crate) target_kind: Option<TargetKind>,
    pub(crate) roles: Option<Vec<String>>,
    pub(crate) inherited: Option<bool>,
}

fn grant(row: &AnyRow) -> Result<Grant, IdentityError> {
    let corrupt = |v: &str| IdentityError::State(state::StateError::Corrupt(format!("assignment of {v}")));
    let actor = match row.try_get::<String, _>(0)?.as_str() {
        "user" => ActorKind::User,
        "group" => ActorKind::Group,
        other => return Err(corrupt(other)),
    };
    let target = match row.try_get::<String, _>(2)?.as_str() {
        "project" => TargetKind::Project,
        "domain" => TargetKind::Domain,
        "system" => TargetKind::System,
        other => return Err(corrupt(other)),
    };
    Ok(Grant {
        actor,
        actor_id: row.try_get(1)?,
        target,
        target_id: row.try_get(3)?,
        role: row.try_get(4)?,
        inherited: row.try_get::<Flag, _>(5)?.0,
    })
}

/// `$n, $n+1, …` and counts on.
fn places(at: &mut usize, count: usize) -> String {
    let list: Vec<String> = (0..count).map(|i| format!("${}", *at + i)).collect();
    *at += count;
    if list.is_empty() { "NULL".into() } else { list.join(", ") }
}

/// The assignments that the filter lets through, ordered by actor, target and role where it names few targets.
pub(crate) async fn find(on: &sqlx::AnyPool, filter: &GrantFilter) -> Result<Vec<Grant>, IdentityError> {
    let Some(targets) = filter.targets.as_ref().filter(|t| t.len() > MANY) else {
        return find_few(on, filter).await;
    };
    let mut out = Vec::new();
    for some in targets.chunks(MANY) {
        let part = GrantFilter { targets: Some(some.to_vec()), ..filter.clone() };
        out.extend(find_few(on, &part).await?);
    }
    Ok(out)
}

async fn find_few(on: &sqlx::AnyPool, filter: &GrantFilter) -> Result<Vec<Grant>, IdentityError> {
    let mut sql = String::from(
        "SELECT actor_kind, actor_id, target_kind, target_id, role_id, inherited \
         FROM identity_assignments WHERE 1 = 1",
    );
    let mut at = 1;
    let mut values: Vec<String> = Vec::new();
    let lists = [("actor_id", &filter.actors), ("target_id", &filter.targets), ("role_id", &filter.roles)];
    for (column, list) in lists {
        if let Some(list) = list {
            sql.push_str(&format!(" AND {column} IN ({})", places(&mut at, list.len())));
            values.extend(list.iter().cloned());
        }
    }
    if let Some(kind) = filter.target_kind {
        sql.push_str(&format!(" AND target_kind = ${at}"));
        values.push(kind.as_str().to_owned());
        at += 1;
    }
    if filter.inherited.is_some() {
        sql.push_str(&format!(" AND inherited = ${at}"));
    }
    sql.push_str(" ORDER BY actor_id, target_id, role_id, inherited");
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for v in values {
        query = query.bind(v);
    }
    if let Some(inherited) = filter.inherited {
        query = query.bind(inherited);
    }
    query.fetch_all(on).await?.iter().map(grant).collect()
}

/// Makes an assignment; one that exists stays as it is.
pub(crate) async fn add<'e>(on: impl Executor<'e, Database = Any>, g: &Grant) -> Result<(), IdentityError> {
    sqlx::query(
        "INSERT INTO identity_assignments (actor_kind, actor_id, target_kind, target_id, role_id, inherited) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(g.actor.as_str())
    .bind(g.actor_id.clone())
    .bind(g.target.as_str())
    .bind(g.target_id.clone())
    .bind(g.role.clone())
    .bind(g.inherited)
    .execute(on)
    .await?;
    Ok(())
}

/// True where there was one.
pub(crate) async fn remove<'e>(
    on: impl Executor<'e, Database = Any>,
    g: &Grant,
) -> Result<bool, IdentityError> {
    let done = sqlx::query(
        "DELETE FROM identity_assignments WHERE actor_kind = $1 AND actor_id = $2 AND target_kind = $3 \
         AND target_id = $4 AND role_id = $5 AND inherited = $6",
    )
    .bind(g.actor.as_str())
    .bind(g.actor_id.clone())
    .bind(g.target.as_str())
    .bind(g.target_id.clone())
    .bind(g.role.clone())
    .bind(g.inherited)
    .execute(on)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Forgets every assignment that names the actor, target or role.
pub(crate) async fn forget<'e>(
    on: impl Executor<'e, Database = Any>,
    column: Forget,
    id: &str,
) -> Result<(), IdentityError> {
    let sql = match column {
        Forget::Actor => "DELETE FROM identity_assignments WHERE actor_id = $1",
        Forget::Target => "DELETE FROM identity_assignments WHERE target_id = $1",
        Forget::Role => "DELETE FROM identity_assignments WHERE role_id = $1",
    };
    sqlx::query(sql).bind(id.to_owned()).execute(on).await?;
    Ok(())
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Forget {
    Actor,
    Target,
    Role,
}

pub(crate) async fn groups_of<'e>(
    on: impl Executor<'e, Database = Any>,
    user: &str,
) -> Result<Vec<String>, IdentityError> {
    let sql = "SELECT group_id FROM identity_members WHERE user_id = $1 UNION \
        SELECT group_id FROM identity_expiring_members WHERE user_id = $1 AND expires_at > $2 ORDER BY group_id";
    let query = sqlx::query_scalar(sql).bind(user.to_owned()).bind(state::Timestamp::now());
    Ok(query.fetch_all(on).await?)
}

pub(crate) async fn users_in<'e>(
    on: impl Executor<'e, Database = Any>,
    group: &str,
) -> Result<Vec<String>, IdentityError> {
    let sql = "SELECT user_id FROM identity_members WHERE group_id = $1 UNION \
        SELECT user_id FROM identity_expiring_members WHERE group_id = $1 AND expires_at > $2 ORDER BY user_id";
    let query = sqlx::query_scalar(sql).bind(group.to_owned()).bind(state::Timestamp::now());
    Ok(query.fetch_all(on).await?)
}

pub(crate) async fn join<'e>(
    on: impl Executor<'e, Database = Any>,
    group: &str,
    user: &str,
) -> Result<(), IdentityError> {
    sqlx::query("INSERT INTO identity_members (group_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(group.to_owned())
        .bind(user.to_owned())
        .execute(on)
        .await?;
    Ok(())
}

pub(crate) async fn is_member<'e>(
    on: impl Executor<'e, Database = Any>,
    group: &str,
    user: &str,
) -> Result<bool, IdentityError> {
    let found = sqlx::query("SELECT user_id FROM identity_members WHERE group_id = $1 AND user_id = $2")
        .bind(group.to_owned())
        .bind(user.to_owned())
        .fetch_optional(on)
        .await?;
    Ok(found.is_some())
}

/// True where the user was a member.
pub(crate) async fn leave<'e>(
    on: impl Executor<'e, Database = Any>,
    group: &str,
    user: &str,
) -> Result<bool, IdentityError> {
    let done = sqlx::query("DELETE FROM identity_members WHERE group_id = $1 AND user_id = $2")
        .bind(group.to_owned())
        .bind(user.to_owned())
        .execute(on)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Every `(prior, implied)`.
pub(crate) async fn implied<'e>(
    on: impl Executor<'e, Database = Any>,
) -> Result<Vec<(String, String)>, IdentityError> {
    let sql = "SELECT prior_id, implied_id FROM identity_implied_roles ORDER BY prior_id, implied_id";
    Ok(sqlx::query_as(sql).fetch_all(on).await?)
}

pub(crate) async fn imply<'e>(
    on: impl Executor<'e, Database = Any>,
    prior: &str,
    implied: &str,
) -> Result<(), IdentityError> {
    let sql =
        "INSERT INTO identity_implied_roles (prior_id, implied_id) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    sqlx::query(sql).bind(prior.to_owned()).bind(implied.to_owned()).execute(on).await?;
    Ok(())
}

/// True where there was such a rule.
pub(crate) async fn unimply<'e>(
    on: impl Executor<'e, Database = Any>,
    prior: &str,
    implied: &str,
) -> Result<bool, IdentityError> {
    let sql = "DELETE FROM identity_implied_roles WHERE prior_id = $1 AND implied_id = $2";
    let done = sqlx::query(sql).bind(prior.to_owned()).bind(implied.to_owned()).execute(on).await?;
    Ok(done.rows_affected() > 0)
}
