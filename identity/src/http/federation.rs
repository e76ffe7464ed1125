//! `/v3/OS-FEDERATION/…`: identity providers with their protocols, mappings, service providers, and the door through
//! which the bearer of a provider's token comes.

use super::auth::{Source, issued};
use super::{Answer, App, Body, done, json};
use crate::Identity;
use crate::audit::{self, Claimed};
use crate::auth::{Entrance, Outcome};
use crate::federation::Federal;
use crate::store::Record;
use crate::store::federation::Protocol;
use crate::store::record::Fields;
use api::{Context, Error, Origin, Path, Query, Routes};
use axum::extract::{MatchedPath, State};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json as object};
use std::sync::Arc;

const PROVIDERS: &str = "/v3/OS-FEDERATION/identity_providers";

pub(super) fn routes(mut r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    for (list_path, path) in [
        (PROVIDERS, "/v3/OS-FEDERATION/identity_providers/{id}"),
        ("/v3/OS-FEDERATION/mappings", "/v3/OS-FEDERATION/mappings/{id}"),
        ("/v3/OS-FEDERATION/service_providers", "/v3/OS-FEDERATION/service_providers/{id}"),
    ] {
        r = r.get(list_path, list).put(path, create).get(path, show).patch(path, update).delete(path, delete);
    }
    let protocol = "/v3/OS-FEDERATION/identity_providers/{id}/protocols/{protocol_id}";
    let door = "/v3/OS-FEDERATION/identity_providers/{id}/protocols/{protocol_id}/auth";
    r.get("/v3/OS-FEDERATION/identity_providers/{id}/protocols", list_protocols)
        .put(protocol, put_protocol)
        .get(protocol, show_protocol)
        .patch(protocol, update_protocol)
        .delete(protocol, delete_protocol)
        .open(|r| {
            r.get(door, enter)
                .post(door, enter)
                .get("/v3/OS-FEDERATION/saml2/metadata", no_saml)
                .post("/v3/auth/OS-FEDERATION/saml2", no_saml)
                .post("/v3/auth/OS-FEDERATION/saml2/ecp", no_saml)
        })
}

/// Which of them a path is about.
fn what(path: &MatchedPath) -> Federal {
    let path = path.as_str();
    match () {
        () if path.contains("/mappings") => Federal::Mapping,
        () if path.contains("/service_providers") => Federal::Service,
        () => Federal::Provider,
    }
}

/// The words of an envelope, of one and of many.
fn words(what: Federal) -> (&'static str, &'static str) {
    match what {
        Federal::Provider => ("identity_provider", "identity_providers"),
        Federal::Mapping => ("mapping", "mappings"),
        Federal::Service => ("service_provider", "service_providers"),
    }
}

impl Identity {
    fn federal(&self, what: Federal, mut record: Record) -> Value {
        let url = self.url(&format!("OS-FEDERATION/{}/{}", words(what).1, segment(record.text("id"))));
        let links = match what {
            Federal::Provider => object!({"self": url, "protocols": format!("{url}/protocols")}),
            _ => object!({"self": url}),
        };
        record.insert("links".into(), links);
        record.into()
    }

    fn protocol_view(&self, p: &Protocol) -> Value {
        let idp = self.url(&format!("OS-FEDERATION/identity_providers/{}", segment(&p.idp)));
        let mut view = object!({"id": p.id, "mapping_id": p.mapping,
            "links": {"self": format!("{idp}/protocols/{}", segment(&p.id)), "identity_provider": idp}});
        if let Some(attribute) = &p.remote_id_attribute {
            view["remote_id_attribute"] = attribute.as_str().into();
        }
        view
    }
}

/// An id as a part of a URL.
fn segment(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, crate::http::IN_PATH).to_string()
}

async fn list(State(identity): App, ctx: Context, path: MatchedPath, query: Query) -> Answer {
    let what = what(&path);
    let found = identity.list_federal(&ctx, what, &query).await?;
    let (_, many) = words(what);
    let all: Vec<Value> = found.records.into_iter().map(|r| identity.federal(what, r)).collect();
    let own = identity.url(&format!("OS-FEDERATION/{many}"));
    let links = object!({"self": own, "next": null, "previous": null});
    Ok(json(StatusCode::OK, &object!({many: all, "links": links})))
}

async fn create(
    State(identity): App,
    ctx: Context,
    path: MatchedPath,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer {
    let what = what(&path);
    let made = identity.create_federal(&ctx, what, &id, &body).await?;
    Ok(json(StatusCode::CREATED, &object!({words(what).0: identity.federal(what, made)})))
}

async fn show(State(identity): App, ctx: Context, path: MatchedPath, Path(id): Path<String>) -> Answer {
    let what = what(&path);
    let found = identity.show_federal(&ctx, what, &id).await?;
    Ok(json(StatusCode::OK, &object!({words(what).0: identity.federal(what, found)})))
}

async fn update(
    State(identity): App,
    ctx: Context,
    path: MatchedPath,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer {
    let what = what(&path);
    let changed = identity.update_federal(&ctx, what, &id, &body).await?;
    Ok(json(StatusCode::OK, &object!({words(what).0: identity.federal(what, changed)})))
}

async fn delete(State(identity): App, ctx: Context, path: MatchedPath, Path(id): Path<String>) -> Answer {
    identity.delete_federal(&ctx, what(&path), &id).await?;
    Ok(done())
}

async fn list_protocols(State(identity): App, ctx: Context, Path(idp): Path<String>) -> Answer {
    let found = identity.list_protocols(&ctx, &idp).await?;
    let own = identity.url(&format!("OS-FEDERATION/identity_providers/{}/protocols", segment(&idp)));
    let all = found.iter().map(|p| {
        let mut view = identity.protocol_view(p);
        view["idp_id"] = p.idp.as_str().into();
        view["remote_id_attribute"] = p.remote_id_attribute.as_deref().into();
        view
    });
    let links = object!({"self": own, "next": null, "previous": null});
    Ok(json(StatusCode::OK, &object!({"protocols": all.collect::<Vec<_>>(), "links": links})))
}

type Pair = Path<(String, String)>;

async fn put_protocol(State(identity): App, ctx: Context, Path((idp, id)): Pair, Body(body): Body) -> Answer {
    let made = identity.put_protocol(&ctx, (&idp, &id), &body).await?;
    Ok(json(StatusCode::CREATED, &object!({"protocol": identity.protocol_view(&made)})))
}

async fn show_protocol(State(identity): App, ctx: Context, Path((idp, id)): Pair) -> Answer {
    let found = identity.show_protocol(&ctx, &idp, &id).await?;
    Ok(json(StatusCode::OK, &object!({"protocol": identity.protocol_view(&found)})))
}

async fn update_protocol(
    State(identity): App,
    ctx: Context,
    Path((idp, id)): Pair,
    Body(body): Body,
) -> Answer {
    let changed = identity.update_protocol(&ctx, (&idp, &id), &body).await?;
    Ok(json(StatusCode::OK, &object!({"protocol": identity.protocol_view(&changed)})))
}

async fn delete_protocol(State(identity): App, ctx: Context, Path((idp, id)): Pair) -> Answer {
    identity.delete_protocol(&ctx, &idp, &id).await?;
    Ok(done())
}

/// SAML is not spoken here.
async fn no_saml() -> Answer {
    Err(Error::not_found("This cloud does not speak SAML 2.0."))
}

/// Who shows a provider's token gets one of ours.
async fn enter(
    State(identity): App,
    Source(from): Source,
    origin: Origin,
    headers: HeaderMap,
    Path((idp, protocol)): Pair,
) -> Answer {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let bearer =
        bearer.and_then(|v| v.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    let Some((_, token)) = bearer else {
        return Err(Error::unauthenticated().with_header(header::WWW_AUTHENTICATE, "Bearer"));
    };
    let entrance = Entrance { from, receipt: None, catalogue: true };
    let outcome = identity.federated_login(&idp, &protocol, token.trim(), &entrance).await;
    let origin = Origin { address: from, ..origin };
    audit::authenticated(&origin, Claimed::vouched_by(&idp), outcome.as_ref().map(Outcome::body));
    issued(outcome.map_err(|e| identity.challenge(e))?)
}
