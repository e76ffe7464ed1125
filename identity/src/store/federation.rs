//! Providers of identities: what they are called elsewhere, their protocols, and who came from them.

use crate::IdentityError;
use sqlx::{Any, Executor, Row};
use state::{Timestamp, Tx};

/// A protocol of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) idp: String,
    pub(crate) id: String,
    pub(crate) mapping: String,
    pub(crate) remote_id_attribute: Option<String>,
}

/// A membership that a provider has vouched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vouched {
    pub(crate) group: String,
    pub(crate) expires_at: Timestamp,
}

/// The remote ids of a provider, or of all: `(provider, remote id)`.
pub(crate) async fn remote_ids<'e>(
    on: impl Executor<'e, Database = Any>,
    idp: Option<&str>,
) -> Result<Vec<(String, String)>, IdentityError> {
    let sql =
        "SELECT idp_id, remote_id FROM identity_remote_ids WHERE $1 = '' OR idp_id = $1 ORDER BY remote_id";
    Ok(sqlx::query_as(sql).bind(idp.unwrap_or_default().to_owned()).fetch_all(on).await?)
}

/// Replaces a provider's remote ids; the one that another provider has already is the error.
pub(crate) async fn set_remote_ids(tx: &mut Tx, idp: &str, ids: &[String]) -> Result<(), IdentityError> {
    forget_remote_ids(tx, idp).await?;
    for id in ids {
        let sql =
            "INSERT INTO identity_remote_ids (remote_id, idp_id) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        let done = sqlx::query(sql).bind(id.clone()).bind(idp.to_owned()).execute(tx.conn()).await?;
        if done.rows_affected() == 0 {
            let detail = format!("Duplicate remote ID: {id}");
            return Err(IdentityError::Conflict { noun: "identity_provider", detail });
        }
    }
    Ok(())
}

async fn forget_remote_ids(tx: &mut Tx, idp: &str) -> Result<(), IdentityError> {
    let sql = "DELETE FROM identity_remote_ids WHERE idp_id = $1";
    sqlx::query(sql).bind(idp.to_owned()).execute(tx.conn()).await?;
    Ok(())
}

fn protocol(row: &sqlx::any::AnyRow) -> Result<Protocol, IdentityError> {
    Ok(Protocol {
        idp: row.try_get(0)?,
        id: row.try_get(1)?,
        mapping: row.try_get(2)?,
        remote_id_attribute: row.try_get(3)?,
    })
}

pub(crate) async fn protocols<'e>(
    on: impl Executor<'e, Database = Any>,
    idp: &str,
) -> Result<Vec<Protocol>, IdentityError> {
    let sql = "SELECT idp_id, id, mapping_id, remote_id_attribute FROM identity_protocols WHERE idp_id = $1 ORDER BY id";
    sqlx::query(sql).bind(idp.to_owned()).fetch_all(on).await?.iter().map(protocol).collect()
}

pub(crate) async fn protocol_of<'e>(
    on: impl Executor<'e, Database = Any>,
    idp: &str,
    id: &str,
) -> Result<Option<Protocol>, IdentityError> {
    let sql = "SELECT idp_id, id, mapping_id, remote_id_attribute FROM identity_protocols \
        WHERE idp_id = $1 AND id = $2";
    let row = sqlx::query(sql).bind(idp.to_owned()).bind(id.to_owned()).fetch_optional(on).await?;
    row.as_ref().map(protocol).transpose()
}

/// False where there is one already and `replace` is not set.
pub(crate) async fn put_protocol(tx: &mut Tx, p: &Protocol, replace: bool) -> Result<bool, IdentityError> {
    let sql = match replace {
        true => {
            "INSERT INTO identity_protocols (idp_id, id, mapping_id, remote_id_attribute) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (idp_id, id) DO UPDATE SET mapping_id = excluded.mapping_id, \
             remote_id_attribute = excluded.remote_id_attribute"
        }
        false => {
            "INSERT INTO identity_protocols (idp_id, id, mapping_id, remote_id_attribute) VALUES ($1, $2, $3, $4) \
             ON CONFLICT DO NOTHING"
        }
    };
    let query = sqlx::query(sql).bind(p.idp.clone()).bind(p.id.clone()).bind(p.mapping.clone());
    let done = query.bind(p.remote_id_attribute.clone()).execute(tx.conn()).await?;
    Ok(done.rows_affected() > 0)
}

/// The ids of the users that came by this protocol, or from this provider at all.
pub(crate) async fn users_from(
    tx: &mut Tx,
    idp: &str,
    protocol: Option<&str>,
) -> Result<Vec<String>, IdentityError> {
    let sql = "SELECT DISTINCT user_id FROM identity_federated_users WHERE idp_id = $1 \
        AND ($2 = '' OR protocol_id = $2) ORDER BY user_id";
    let query = sqlx::query_scalar(sql).bind(idp.to_owned()).bind(protocol.unwrap_or_default().to_owned());
    Ok(query.fetch_all(tx.conn()).await?)
}

/// The provider's rows but for its own, or only those of a protocol.
pub(crate) async fn forget(tx: &mut Tx, idp: &str, protocol: Option<&str>) -> Result<(), IdentityError> {
    if protocol.is_none() {
        forget_remote_ids(tx, idp).await?;
        let sql = "DELETE FROM identity_expiring_members WHERE idp_id = $1";
        sqlx::query(sql).bind(idp.to_owned()).execute(tx.conn()).await?;
    }
    for sql in [
        "DELETE FROM identity_protocols WHERE idp_id = $1 AND ($2 = '' OR id = $2)",
        "DELETE FROM identity_federated_users WHERE idp_id = $1 AND ($2 = '' OR protocol_id = $2)",
    ] {
        let query = sqlx::query(sql).bind(idp.to_owned()).bind(protocol.unwrap_or_default().to_owned());
        query.execute(tx.conn()).await?;
    }
    Ok(())
}

/// Whom the provider calls this.
pub(crate) async fn known<'e>(
    on: impl Executor<'e, Database = Any>,
    idp: &str,
    protocol: &str,
    unique: &str,
) -> Result<Option<String>, IdentityError> {
    let sql = "SELECT user_id FROM identity_federated_users WHERE idp_id = $1 AND protocol_id = $2 \
        AND unique_id = $3";
    let query = sqlx::query_scalar(sql).bind(idp.to_owned()).bind(protocol.to_owned());
    Ok(query.bind(unique.to_owned()).fetch_optional(on).await?)
}

/// What a user is called by a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tie {
    pub(crate) idp: String,
    pub(crate) protocol: String,
    pub(crate) unique: String,
}

/// Ties a user to what a provider calls it; 409 where that is another user.
pub(crate) async fn remember(tx: &mut Tx, tie: &Tie, user: &str) -> Result<(), IdentityError> {
    let sql = "INSERT INTO identity_federated_users (idp_id, protocol_id, unique_id, user_id) VALUES ($1, $2, $3, $4) \
        ON CONFLICT DO NOTHING";
    let query = sqlx::query(sql).bind(tie.idp.clone()).bind(tie.protocol.clone());
    let done = query.bind(tie.unique.clone()).bind(user.to_owned()).execute(tx.conn()).await?;
    match done.rows_affected() {
        0 => Err(IdentityError::Conflict {
            noun: "federated_user",
            detail: format!("Duplicate entry found with unique id {}", tie.unique),
        }),
        _ => Ok(()),
    }
}

/// Unties a user from what all providers call it.
pub(crate) async fn untie(tx: &mut Tx, user: &str) -> Result<(), IdentityError> {
    let sql = "DELETE FROM identity_federated_users WHERE user_id = $1";
    sqlx::query(sql).bind(user.to_owned()).execute(tx.conn()).await?;
    Ok(())
}

/// What a user is called where it comes from, by provider.
pub(crate) async fn names_of<'e>(
    on: impl Executor<'e, Database = Any>,
    user: &str,
) -> Result<Vec<Tie>, IdentityError> {
    let sql = "SELECT idp_id, protocol_id, unique_id FROM identity_federated_users WHERE user_id = $1 \
        ORDER BY idp_id, protocol_id, unique_id";
    let rows = sqlx::query(sql).bind(user.to_owned()).fetch_all(on).await?;
    rows.iter()
        .map(|r| Ok(Tie { idp: r.try_get(0)?, protocol: r.try_get(1)?, unique: r.try_get(2)? }))
        .collect()
}

/// The memberships of a user that this provider has vouched for, or any provider.
pub(crate) async fn vouched<'e>(
    on: impl Executor<'e, Database = Any>,
    user: &str,
    idp: Option<&str>,
) -> Result<Vec<Vouched>, IdentityError> {
    let sql = "SELECT group_id, expires_at FROM identity_expiring_members WHERE user_id = $1 \
        AND ($2 = '' OR idp_id = $2) ORDER BY group_id";
    let query = sqlx::query(sql).bind(user.to_owned()).bind(idp.unwrap_or_default().to_owned());
    let rows = query.fetch_all(on).await?;
    rows.iter().map(|r| Ok(Vouched { group: r.try_get(0)?, expires_at: Timestamp(r.try_get(1)?) })).collect()
}

/// What a provider vouches for from now on: these groups, until `expires_at`.
pub(crate) async fn set_vouched(
    tx: &mut Tx,
    user: &str,
    idp: &str,
    groups: &[String],
    (now, expires_at): (Timestamp, Timestamp),
) -> Result<(), IdentityError> {
    let sql = "DELETE FROM identity_expiring_members WHERE user_id = $1 AND idp_id = $2";
    sqlx::query(sql).bind(user.to_owned()).bind(idp.to_owned()).execute(tx.conn()).await?;
    for group in groups {
        let sql = "INSERT INTO identity_expiring_members (user_id, group_id, idp_id, verified_at, expires_at) \
            VALUES ($1, $2, $3, $4, $5)";
        let query = sqlx::query(sql).bind(user.to_owned()).bind(group.clone()).bind(idp.to_owned());
        query.bind(now).bind(expires_at).execute(tx.conn()).await?;
    }
    Ok(())
}

/// How long the memberships vouched for so far hold: so many microseconds after they were.
pub(crate) async fn set_ttl(tx: &mut Tx, idp: &str, ttl: i64) -> Result<(), IdentityError> {
    let sql = "UPDATE identity_expiring_members SET expires_at = verified_at + $2 WHERE idp_id = $1";
    sqlx::query(sql).bind(idp.to_owned()).bind(ttl).execute(tx.conn()).await?;
    Ok(())
}

pub(crate) async fn forget_user(tx: &mut Tx, user: &str) -> Result<(), IdentityError> {
    untie(tx, user).await?;
    let sql = "DELETE FROM identity_expiring_members WHERE user_id = $1";
    sqlx::query(sql).bind(user.to_owned()).execute(tx.conn()).await?;
    Ok(())
}

pub(crate) async fn forget_group(tx: &mut Tx, group: &str) -> Result<(), IdentityError> {
    let sql = "DELETE FROM identity_expiring_members WHERE group_id = $1";
    sqlx::query(sql).bind(group.to_owned()).execute(tx.conn()).await?;
    Ok(())
}

/// Notes that the state of a browser's login was used; false where it had been.
pub(crate) async fn use_state(tx: &mut Tx, id: &str, forget_at: Timestamp) -> Result<bool, IdentityError> {
    let sql = "DELETE FROM identity_used_states WHERE forget_at < $1";
    sqlx::query(sql).bind(Timestamp::now()).execute(tx.conn()).await?;
    let sql = "INSERT INTO identity_used_states (id, forget_at) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    let done = sqlx::query(sql).bind(id.to_owned()).bind(forget_at).execute(tx.conn()).await?;
    Ok(done.rows_affected() > 0)
}
