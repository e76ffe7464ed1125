//! What is known here of users and groups that directories keep: their public ids, and a mirror of those seen.

use super::record::MANY;
use crate::IdentityError;
use crate::ldap::SOURCE;
use crate::store::{Cond, Kind, Record, SHADOW_GROUP, SHADOW_USER};
use sqlx::{Any, AnyConnection, AssertSqlSafe, Executor};
use state::Tx;

/// A kind of what directories keep, as the table of ids names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entity {
    User,
    Group,
}

impl Entity {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Entity::User => "user",
            Entity::Group => "group",
        }
    }

    pub(crate) fn kind(self) -> &'static Kind {
        match self {
            Entity::User => &SHADOW_USER,
            Entity::Group => &SHADOW_GROUP,
        }
    }
}

/// Public ids of a domain's users or groups, of all or of these local ids: `(local id, public id)`.
pub(crate) async fn ids(
    on: &mut AnyConnection,
    domain: &str,
    entity: Entity,
    among: Option<&[&str]>,
) -> Result<Vec<(String, String)>, IdentityError> {
    let all =
        "SELECT local_id, public_id FROM identity_id_mappings WHERE domain_id = $1 AND entity_type = $2";
    let Some(among) = among else {
        return Ok(sqlx::query_as(all).bind(domain.to_owned()).bind(entity.as_str()).fetch_all(on).await?);
    };
    let mut out = Vec::new();
    for some in among.chunks(MANY) {
        let places: Vec<String> = (0..some.len()).map(|i| format!("${}", i + 3)).collect();
        let sql = format!("{all} AND local_id IN ({})", places.join(", "));
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(domain.to_owned()).bind(entity.as_str());
        let query = some.iter().fold(query, |q, local| q.bind((*local).to_owned()));
        let found: Vec<(String, String)> = query.fetch_all(&mut *on).await?;
        out.extend(found);
    }
    Ok(out)
}

/// Whose public id this is: its domain and its local id.
pub(crate) async fn whose<'e>(
    on: impl Executor<'e, Database = Any>,
    public: &str,
    entity: Entity,
) -> Result<Option<(String, String)>, IdentityError> {
    let sql =
        "SELECT domain_id, local_id FROM identity_id_mappings WHERE public_id = $1 AND entity_type = $2";
    Ok(sqlx::query_as(sql).bind(public.to_owned()).bind(entity.as_str()).fetch_optional(on).await?)
}

pub(crate) async fn add_id(
    on: &mut AnyConnection,
    domain: &str,
    local: &str,
    entity: Entity,
    public: &str,
) -> Result<(), IdentityError> {
    let sql = "INSERT INTO identity_id_mappings (public_id, domain_id, local_id, entity_type) VALUES ($1, $2, $3, $4)";
    let query = sqlx::query(sql).bind(public.to_owned()).bind(domain.to_owned());
    query.bind(local.to_owned()).bind(entity.as_str()).execute(on).await?;
    Ok(())
}

/// The mirror of a domain's users or groups.
pub(crate) async fn mirrored(
    on: &mut AnyConnection,
    domain: &str,
    entity: Entity,
) -> Result<Vec<Record>, IdentityError> {
    let of = [Cond::eq("domain_id", domain), Cond::eq("source", SOURCE)];
    entity.kind().find(on, &of, 0).await
}

/// Those with one of these ids or names.
pub(crate) async fn mirrored_among(
    on: &mut AnyConnection,
    domain: &str,
    entity: Entity,
    ids: &[&str],
    names: &[&str],
) -> Result<Vec<Record>, IdentityError> {
    let mut out: Vec<Record> = Vec::new();
    for (column, values) in [("id", ids), ("name", names)] {
        for some in values.chunks(MANY) {
            let some = some.iter().map(|v| (*v).to_owned()).collect();
            let of = [Cond::eq("domain_id", domain), Cond::eq("source", SOURCE), Cond::In(column, some)];
            out.extend(entity.kind().find(&mut *on, &of, 0).await?);
        }
    }
    Ok(out)
}

/// Gives up a name, so that another may take it before this one gets its new one.
pub(crate) async fn free_name(on: &mut AnyConnection, entity: Entity, id: &str) -> Result<(), IdentityError> {
    let sql = match entity {
        Entity::User => "UPDATE identity_users SET name = id WHERE id = $1",
        Entity::Group => "UPDATE identity_groups SET name = id WHERE id = $1",
    };
    sqlx::query(sql).bind(id.to_owned()).execute(on).await?;
    Ok(())
}

/// What is no longer in the directory is no longer here. Its roles stay for when it comes back, as upstream has it.
pub(crate) async fn unmirror(on: &mut AnyConnection, entity: Entity, id: &str) -> Result<(), IdentityError> {
    let (members, row) = match entity {
        Entity::User => {
            ("DELETE FROM identity_members WHERE user_id = $1", "DELETE FROM identity_users WHERE id = $1")
        }
        Entity::Group => {
            ("DELETE FROM identity_members WHERE group_id = $1", "DELETE FROM identity_groups WHERE id = $1")
        }
    };
    for sql in [members, row] {
        sqlx::query(sql).bind(id.to_owned()).execute(&mut *on).await?;
    }
    Ok(())
}

/// A domain has no directory any more: nobody of it is here. The ids stay for when it has one again.
pub(crate) async fn unmirror_domain(tx: &mut Tx, domain: &str) -> Result<(), IdentityError> {
    for sql in [
        "DELETE FROM identity_members WHERE user_id IN \
         (SELECT id FROM identity_users WHERE domain_id = $1 AND source = $2)",
        "DELETE FROM identity_members WHERE group_id IN \
         (SELECT id FROM identity_groups WHERE domain_id = $1 AND source = $2)",
        "DELETE FROM identity_users WHERE domain_id = $1 AND source = $2",
        "DELETE FROM identity_groups WHERE domain_id = $1 AND source = $2",
    ] {
        sqlx::query(sql).bind(domain.to_owned()).bind(SOURCE).execute(tx.conn()).await?;
    }
    Ok(())
}

/// Memberships as they are kept here.
pub(crate) async fn groups_of<'e>(
    on: impl Executor<'e, Database = Any>,
    user: &str,
) -> Result<Vec<String>, IdentityError> {
    let sql = "SELECT group_id FROM identity_members WHERE user_id = $1";
    Ok(sqlx::query_scalar(sql).bind(user.to_owned()).fetch_all(on).await?)
}

pub(crate) async fn users_in<'e>(
    on: impl Executor<'e, Database = Any>,
    group: &str,
) -> Result<Vec<String>, IdentityError> {
    let sql = "SELECT user_id FROM identity_members WHERE group_id = $1";
    Ok(sqlx::query_scalar(sql).bind(group.to_owned()).fetch_all(on).await?)
}

pub(crate) async fn forget_domain(tx: &mut Tx, id: &str) -> Result<(), IdentityError> {
    for sql in [
        // Also of those that are not mirrored now.
        "DELETE FROM identity_assignments WHERE actor_id IN \
         (SELECT public_id FROM identity_id_mappings WHERE domain_id = $1)",
        "DELETE FROM identity_id_mappings WHERE domain_id = $1",
    ] {
        sqlx::query(sql).bind(id.to_owned()).execute(tx.conn()).await?;
    }
    Ok(())
}
