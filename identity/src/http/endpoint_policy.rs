//! `/v3/policies/{policy_id}/OS-ENDPOINT-POLICY` and `/v3/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy`.

use super::{Answer, App, done};
use crate::Identity;
use crate::catalogue_rules::shown_endpoint;
use crate::store::policy_associations::Target;
use api::{Context, Path, Query, Routes};
use axum::extract::State;
use http::StatusCode;
use std::sync::Arc;

const ENDPOINT: &str = "/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}";
const SERVICE: &str = "/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}";
const REGION: &str = "/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}";

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    r.get("/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints", endpoints)
        .put(ENDPOINT, put_endpoint)
        .get(ENDPOINT, check_endpoint)
        .delete(ENDPOINT, delete_endpoint)
        .put(SERVICE, put_service)
        .get(SERVICE, check_service)
        .delete(SERVICE, delete_service)
        .put(REGION, put_region)
        .get(REGION, check_region)
        .delete(REGION, delete_region)
        .get("/v3/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy", policy)
}

type Two = Path<(String, String)>;
type Three = Path<(String, String, String)>;

async fn endpoints(State(identity): App, ctx: Context, Path(id): Path<String>, query: Query) -> Answer {
    let found = identity.endpoints_for_policy(&ctx, &id).await?;
    let found: Vec<_> = found.into_iter().map(shown_endpoint).collect();
    let at = format!("policies/{id}/OS-ENDPOINT-POLICY/endpoints");
    Ok(identity.many_at(&at, "endpoints", "endpoints", &query, found))
}

async fn policy(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let found = identity.policy_for_endpoint(&ctx, &id).await?;
    Ok(identity.one(StatusCode::OK, "policy", "policies", found))
}

async fn put_endpoint(State(identity): App, ctx: Context, Path((policy, id)): Two) -> Answer {
    identity.associate_policy(&ctx, &policy, &Target::Endpoint(id)).await?;
    Ok(done())
}

async fn check_endpoint(State(identity): App, ctx: Context, Path((policy, id)): Two) -> Answer {
    identity.check_policy_association(&ctx, &policy, &Target::Endpoint(id)).await?;
    Ok(done())
}

async fn delete_endpoint(State(identity): App, ctx: Context, Path((policy, id)): Two) -> Answer {
    identity.dissociate_policy(&ctx, &policy, &Target::Endpoint(id)).await?;
    Ok(done())
}

async fn put_service(State(identity): App, ctx: Context, Path((policy, id)): Two) -> Answer {
    identity.associate_policy(&ctx, &policy, &Target::Service(id)).await?;
    Ok(done())
}

async fn check_service(State(identity): App, ctx: Context, Path((policy, id)): Two) -> Answer {
    identity.check_policy_association(&ctx, &policy, &Target::Service(id)).await?;
    Ok(done())
}

async fn delete_service(State(identity): App, ctx: Context, Path((policy, id)): Two) -> Answer {
    identity.dissociate_policy(&ctx, &policy, &Target::Service(id)).await?;
    Ok(done())
}

async fn put_region(State(identity): App, ctx: Context, Path((policy, service, region)): Three) -> Answer {
    identity.associate_policy(&ctx, &policy, &Target::ServiceIn { service, region }).await?;
    Ok(done())
}

async fn check_region(State(identity): App, ctx: Context, Path((policy, service, region)): Three) -> Answer {
    identity.check_policy_association(&ctx, &policy, &Target::ServiceIn { service, region }).await?;
    Ok(done())
}

async fn delete_region(State(identity): App, ctx: Context, Path((policy, service, region)): Three) -> Answer {
    identity.dissociate_policy(&ctx, &policy, &Target::ServiceIn { service, region }).await?;
    Ok(done())
}
