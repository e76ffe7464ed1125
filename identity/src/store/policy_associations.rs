//! Which policy document holds for what.

use crate::IdentityError;
use sqlx::{Any, AnyConnection, Executor};

/// What a policy can be associated with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Endpoint(String),
    Service(String),
    ServiceIn { service: String, region: String },
}

/// Something whose associations end when it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gone {
    Policy,
    Endpoint,
    Service,
    Region,
}

impl Target {
    /// The values of `endpoint_id, service_id, region_id`.
    fn columns(&self) -> [String; 3] {
        match self {
            Target::Endpoint(id) => [id.clone(), String::new(), String::new()],
            Target::Service(id) => [String::new(), id.clone(), String::new()],
            Target::ServiceIn { service, region } => [String::new(), service.clone(), region.clone()],
        }
    }
}

/// A target has one policy: the last that was put.
pub(crate) async fn put(on: &mut AnyConnection, policy: &str, target: &Target) -> Result<(), IdentityError> {
    let sql = "INSERT INTO identity_policy_associations (endpoint_id, service_id, region_id, policy_id) \
        VALUES ($1, $2, $3, $4) \
        ON CONFLICT (endpoint_id, service_id, region_id) DO UPDATE SET policy_id = excluded.policy_id";
    let query = target.columns().into_iter().fold(sqlx::query(sql), |q, c| q.bind(c));
    query.bind(policy.to_owned()).execute(on).await?;
    Ok(())
}

pub(crate) async fn take(on: &mut AnyConnection, policy: &str, target: &Target) -> Result<(), IdentityError> {
    let sql = "DELETE FROM identity_policy_associations \
        WHERE endpoint_id = $1 AND service_id = $2 AND region_id = $3 AND policy_id = $4";
    let query = target.columns().into_iter().fold(sqlx::query(sql), |q, c| q.bind(c));
    query.bind(policy.to_owned()).execute(on).await?;
    Ok(())
}

/// The policy of exactly this target.
pub(crate) async fn policy_of<'e>(
    on: impl Executor<'e, Database = Any>,
    target: &Target,
) -> Result<Option<String>, IdentityError> {
    let sql = "SELECT policy_id FROM identity_policy_associations \
        WHERE endpoint_id = $1 AND service_id = $2 AND region_id = $3";
    let query = target.columns().into_iter().fold(sqlx::query_scalar(sql), |q, c| q.bind(c));
    Ok(query.fetch_optional(on).await?)
}

pub(crate) async fn targets_of<'e>(
    on: impl Executor<'e, Database = Any>,
    policy: &str,
) -> Result<Vec<Target>, IdentityError> {
    let sql = "SELECT endpoint_id, service_id, region_id FROM identity_policy_associations \
        WHERE policy_id = $1 ORDER BY endpoint_id, service_id, region_id";
    let rows: Vec<(String, String, String)> =
        sqlx::query_as(sql).bind(policy.to_owned()).fetch_all(on).await?;
    let target = |(endpoint, service, region): (String, String, String)| match (endpoint, region) {
        (endpoint, _) if !endpoint.is_empty() => Target::Endpoint(endpoint),
        (_, region) if region.is_empty() => Target::Service(service),
        (_, region) => Target::ServiceIn { service, region },
    };
    Ok(rows.into_iter().map(target).collect())
}

/// After it has gone, with what went with it: a service's endpoints, the regions in a region.
pub(crate) async fn forget(on: &mut AnyConnection, what: Gone, id: &str) -> Result<(), IdentityError> {
    let sql = match what {
        Gone::Policy => "DELETE FROM identity_policy_associations WHERE policy_id = $1",
        Gone::Endpoint => "DELETE FROM identity_policy_associations WHERE endpoint_id = $1",
        Gone::Service => {
            "DELETE FROM identity_policy_associations WHERE service_id = $1 \
             OR endpoint_id <> '' AND endpoint_id NOT IN (SELECT id FROM identity_endpoints)"
        }
        Gone::Region => {
            "DELETE FROM identity_policy_associations WHERE region_id = $1 \
             OR region_id <> '' AND region_id NOT IN (SELECT id FROM identity_regions)"
        }
    };
    sqlx::query(sql).bind(id.to_owned()).execute(on).await?;
    Ok(())
}
