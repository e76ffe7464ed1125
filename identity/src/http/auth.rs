//! `/v3/auth/…`: tokens, and what the bearer of one may reach.

use super::{Answer, App, Body, done, json};
use crate::auth::{AuthBody, Issued};
use crate::listing::flag;
use crate::store::assignments::TargetKind;
use crate::subject::Validated;
use crate::{Identity, IdentityError};
use api::{Context, Error, Query, Routes, Scope};
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json as object;
use std::sync::Arc;

const SUBJECT: HeaderName = HeaderName::from_static("x-subject-token");

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    r.open(|r| r.post("/v3/auth/tokens", issue))
        .get("/v3/auth/tokens", show)
        .head("/v3/auth/tokens", check)
        .delete("/v3/auth/tokens", revoke)
        .get("/v3/auth/catalog", catalogue)
        .get("/v3/auth/projects", projects)
        .get("/v3/auth/domains", domains)
        .get("/v3/auth/system", system)
        .post("/v3/ec2tokens", ec2)
        .post("/v3/s3tokens", s3)
}

fn with_token(status: StatusCode, issued: Issued) -> Answer {
    let mut response = json(status, &issued.body);
    let value = HeaderValue::from_str(&issued.token).map_err(Error::internal)?;
    response.headers_mut().insert(SUBJECT, value);
    Ok(response)
}

async fn issue(State(identity): App, query: Query, Body(body): Body) -> Answer {
    let body = AuthBody::read(&body)?;
    with_token(StatusCode::CREATED, identity.authenticate(body, !query.has("nocatalog")).await?)
}

/// The token in the header, if the caller may do this with it.
async fn subject(
    identity: &Identity,
    ctx: &Context,
    headers: &HeaderMap,
    query: &Query,
    rule: &str,
) -> Result<Arc<Validated>, Error> {
    let token = headers.get(SUBJECT).and_then(|v| v.to_str().ok());
    let token = token.ok_or_else(|| Error::bad_request("The X-Subject-Token header is missing."))?;
    let found = match identity.subject_token(token, flag(query, "allow_expired")).await {
        Ok(found) => found,
        Err(e @ IdentityError::Absent(_)) => {
            // Whether a token exists is only for those who may ask.
            identity.enforce(ctx, rule, &[("target.token.user_id", &ctx.user.id)])?;
            return Err(e.into());
        }
        Err(e) => return Err(e.into()),
    };
    identity.enforce(ctx, rule, &[("target.token.user_id", &found.subject.user.id)])?;
    Ok(found)
}

async fn show(State(identity): App, ctx: Context, headers: HeaderMap, query: Query) -> Answer {
    let found = subject(&identity, &ctx, &headers, &query, "identity:validate_token").await?;
    let body = identity.token_body(&found.claims, &found.subject, !query.has("nocatalog")).await?;
    with_token(StatusCode::OK, Issued { token: found.caller.token.0.clone(), body })
}

async fn check(State(identity): App, ctx: Context, headers: HeaderMap, query: Query) -> Answer {
    subject(&identity, &ctx, &headers, &query, "identity:check_token").await?;
    Ok(StatusCode::OK.into_response())
}

async fn revoke(State(identity): App, ctx: Context, headers: HeaderMap) -> Answer {
    let found = subject(&identity, &ctx, &headers, &Query::default(), "identity:revoke_token").await?;
    identity.revoke(&found.claims).await?;
    Ok(done())
}

async fn catalogue(State(identity): App, ctx: Context) -> Answer {
    if ctx.scope == Scope::Unscoped {
        return Err(Error::forbidden("The catalogue needs a scoped token."));
    }
    let token = identity.validated(&ctx.token.0).await?;
    let catalogue = identity.catalogue_for(&token.subject).await?;
    let links = object!({"self": identity.url("auth/catalog"), "next": null, "previous": null});
    Ok(json(StatusCode::OK, &object!({"catalog": catalogue, "links": links})))
}

async fn projects(State(identity): App, ctx: Context, query: Query) -> Answer {
    let mut found = identity.projects_of(&ctx.user.id).await?;
    found.retain(|p| p["enabled"] == true);
    Ok(identity.many_at("auth/projects", "projects", "projects", &query, found))
}

async fn domains(State(identity): App, ctx: Context, query: Query) -> Answer {
    let mut found = identity.domains_of(&ctx.user.id).await?;
    found.retain(|d| d["enabled"] == true);
    let found: Vec<_> = found.into_iter().map(crate::domains::shown).collect();
    Ok(identity.many_at("auth/domains", "domains", "domains", &query, found))
}

async fn system(State(identity): App, ctx: Context) -> Answer {
    let roles =
        identity.roles_on(&ctx.user.id, TargetKind::System, "system", &[], identity.facts.now()).await?;
    let system = if roles.is_empty() { object!([]) } else { object!([{"all": true}]) };
    let links = object!({"self": identity.url("auth/system"), "next": null, "previous": null});
    Ok(json(StatusCode::OK, &object!({"system": system, "links": links})))
}

async fn ec2(State(identity): App, ctx: Context, Body(body): Body) -> Answer {
    identity.enforce(&ctx, "identity:ec2tokens_validate", &[])?;
    with_token(StatusCode::OK, identity.ec2_token(&body).await?)
}

async fn s3(State(identity): App, ctx: Context, Body(body): Body) -> Answer {
    identity.enforce(&ctx, "identity:s3tokens_validate", &[])?;
    with_token(StatusCode::OK, identity.s3_token(&body).await?)
}
