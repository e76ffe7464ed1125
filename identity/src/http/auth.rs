//! `/v3/auth/…`: tokens, and what the bearer of one may reach.

use super::{Answer, App, Body, Touched, done, json, rendered};
use crate::audit::{self, Claimed};
use crate::auth::{AuthBody, Entrance, Issued, Outcome};
use crate::listing::flag;
use crate::store::assignments::TargetKind;
use crate::subject::Validated;
use crate::{Identity, IdentityError};
use api::{Context, Error, Origin, Query, Routes, Scope};
use axum::extract::{FromRequestParts, State};
use axum::response::IntoResponse;
use http::header::{CONTENT_TYPE, VARY, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json as object;
use std::net::IpAddr;
use std::sync::Arc;

const SUBJECT: HeaderName = HeaderName::from_static("x-subject-token");
const RECEIPT: HeaderName = HeaderName::from_static("openstack-auth-receipt");
/// A service that sends it knows of access rules and checks them; the value is the version it knows.
const ACCESS_RULES: HeaderName = HeaderName::from_static("openstack-identity-access-rules");

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    r.open(|r| r.post("/v3/auth/tokens", issue))
        .get("/v3/auth/tokens", show)
        .head("/v3/auth/tokens", check)
        .delete("/v3/auth/tokens", revoke)
        .get("/v3/OS-REVOKE/events", revocations)
        .get("/v3/auth/catalog", catalogue)
        .get("/v3/auth/projects", projects)
        .get("/v3/auth/domains", domains)
        .get("/v3/auth/system", system)
        .get("/v3/OS-FEDERATION/projects", projects)
        .get("/v3/OS-FEDERATION/domains", domains)
        .post("/v3/ec2tokens", ec2)
        .post("/v3/s3tokens", s3)
}

fn with_token(status: StatusCode, issued: Issued) -> Answer {
    with_header(status, SUBJECT, &issued)
}

fn with_header(status: StatusCode, name: HeaderName, issued: &Issued) -> Answer {
    let mut response = rendered(issued.body.render()?);
    *response.status_mut() = status;
    let value = HeaderValue::from_str(&issued.token).map_err(Error::internal)?;
    response.headers_mut().insert(name, value);
    Ok(response)
}

/// Where a request comes from; `None` where it came by no connection.
pub(super) struct Source(pub(super) Option<IpAddr>);

impl FromRequestParts<Arc<Identity>> for Source {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, identity: &Arc<Identity>) -> Result<Self, Error> {
        let forwarded = parts.headers.get_all("x-forwarded-for").into_iter().filter_map(|v| v.to_str().ok());
        let peer = parts.extensions.get::<api::server::Peer>();
        Ok(Source(peer.map(|p| identity.limiter.rules().source(p.0.ip(), forwarded))))
    }
}

impl Identity {
    /// A refusal that says where to log in.
    pub(super) fn challenge(&self, e: impl Into<Error>) -> Error {
        let e = e.into();
        match e.status() {
            StatusCode::UNAUTHORIZED => {
                e.with_header(WWW_AUTHENTICATE, &format!("Keystone uri=\"{}\"", self.links.to("/identity")))
            }
            _ => e,
        }
    }
}

async fn issue(
    State(identity): App,
    Source(from): Source,
    origin: Origin,
    headers: HeaderMap,
    query: Query,
    Body(body): Body,
) -> Answer {
    let asked = AuthBody::read(&body)?;
    let receipt = headers.get(RECEIPT).map(|v| v.to_str().unwrap_or_default());
    let entrance = Entrance { from, receipt, catalogue: !query.has("nocatalog") };
    let outcome = identity.authenticate(asked, &entrance).await;
    let origin = Origin { address: from, ..origin };
    audit::authenticated(&origin, Claimed::of(&body), outcome.as_ref().map(Outcome::body));
    issued(outcome.map_err(|e| identity.challenge(e))?)
}

/// What a login comes to, on the wire.
pub(super) fn issued(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Token(issued) => with_token(StatusCode::CREATED, issued),
        Outcome::Receipt(issued) => with_header(StatusCode::UNAUTHORIZED, RECEIPT, &issued),
    }
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
    let version = headers.get(ACCESS_RULES).and_then(|v| v.to_str().ok()?.trim().parse::<f64>().ok());
    if found.access_rules().is_some() && rule != "identity:revoke_token" && !version.is_some_and(|v| v >= 1.0)
    {
        // Whoever does not know of the rules would let the token do everything.
        return Err(Error::not_found("Failed to validate token."));
    }
    Ok(found)
}

async fn show(State(identity): App, ctx: Context, headers: HeaderMap, query: Query) -> Answer {
    let found = subject(&identity, &ctx, &headers, &query, "identity:validate_token").await?;
    let body = found.body(&identity, !query.has("nocatalog")).await?;
    let token = HeaderValue::from_str(&found.caller.token.0).map_err(Error::internal)?;
    let kind = HeaderValue::from_static("application/json");
    let vary = HeaderValue::from_static("X-Auth-Token");
    Ok(([(SUBJECT, token), (CONTENT_TYPE, kind), (VARY, vary)], body).into_response())
}

async fn check(State(identity): App, ctx: Context, headers: HeaderMap, query: Query) -> Answer {
    subject(&identity, &ctx, &headers, &query, "identity:check_token").await?;
    Ok(StatusCode::OK.into_response())
}

async fn revoke(State(identity): App, ctx: Context, headers: HeaderMap) -> Answer {
    let found = subject(&identity, &ctx, &headers, &Query::default(), "identity:revoke_token").await?;
    identity.revoke(&found.claims).await?;
    let mut response = done();
    response.extensions_mut().insert(Touched(found.claims.audit[0].clone()));
    Ok(response)
}

async fn revocations(State(identity): App, ctx: Context, query: Query) -> Answer {
    let events = identity.revocation_events(&ctx, query.get("since")).await?;
    let links = object!({"self": identity.url("OS-REVOKE/events"), "next": null, "previous": null});
    Ok(json(StatusCode::OK, &object!({"events": events, "links": links})))
}

async fn catalogue(State(identity): App, ctx: Context) -> Answer {
    if ctx.scope == Scope::Unscoped {
        return Err(Error::forbidden("The catalogue needs a scoped token."));
    }
    let token = identity.validated(&ctx.token.0).await?;
    let catalogue = identity.catalogue_for(&token.subject).await?;
    let links = object!({"self": identity.url("auth/catalog"), "next": null, "previous": null});
    Ok(rendered(format!(r#"{{"catalog":{catalogue},"links":{links}}}"#).into()))
}

/// The groups that the caller's token carries.
async fn vouched(identity: &Identity, ctx: &Context) -> Result<Vec<String>, IdentityError> {
    let token = identity.validated(&ctx.token.0).await?;
    Ok(token.claims.federated.as_ref().map(|f| f.groups.clone()).unwrap_or_default())
}

async fn projects(State(identity): App, ctx: Context, query: Query) -> Answer {
    let mut found = identity.projects_of(&ctx.user.id, &vouched(&identity, &ctx).await?).await?;
    found.retain(|p| p["enabled"] == true);
    Ok(identity.many_at("auth/projects", "projects", "projects", &query, found))
}

async fn domains(State(identity): App, ctx: Context, query: Query) -> Answer {
    let mut found = identity.domains_of(&ctx.user.id, &vouched(&identity, &ctx).await?).await?;
    found.retain(|d| d["enabled"] == true);
    let found: Vec<_> = found.into_iter().map(crate::domains::shown).collect();
    Ok(identity.many_at("auth/domains", "domains", "domains", &query, found))
}

async fn system(State(identity): App, ctx: Context) -> Answer {
    let groups = vouched(&identity, &ctx).await?;
    let began = identity.facts.now();
    let roles = identity.roles_on(&ctx.user.id, &groups, TargetKind::System, "system", &[], began).await?;
    let system = if roles.is_empty() { object!([]) } else { object!([{"all": true}]) };
    let links = object!({"self": identity.url("auth/system"), "next": null, "previous": null});
    Ok(json(StatusCode::OK, &object!({"system": system, "links": links})))
}

async fn ec2(State(identity): App, ctx: Context, origin: Origin, Body(body): Body) -> Answer {
    identity.enforce(&ctx, "identity:ec2tokens_validate", &[])?;
    let issued = identity.ec2_token(&body).await;
    audit::authenticated(&origin, Claimed::key(&body), issued.as_ref().map(|i| &i.body.value));
    with_token(StatusCode::OK, issued?)
}

async fn s3(State(identity): App, ctx: Context, origin: Origin, Body(body): Body) -> Answer {
    identity.enforce(&ctx, "identity:s3tokens_validate", &[])?;
    let issued = identity.s3_token(&body).await;
    audit::authenticated(&origin, Claimed::key(&body), issued.as_ref().map(|i| &i.body.value));
    with_token(StatusCode::OK, issued?)
}
