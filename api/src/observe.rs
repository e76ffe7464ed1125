//! What a service may see of every request that it has answered, for records of who did what.

use crate::server::Peer;
use crate::{Caller, RequestId};
use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::response::Response;
use http::request::Parts;
use http::{Method, header};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

/// Where a request comes from. An extractor.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    pub request_id: RequestId,
    pub address: Option<IpAddr>,
    /// The client's name for itself, cut to 200 characters.
    pub agent: Option<String>,
}

impl Origin {
    fn of(extensions: &http::Extensions, headers: &http::HeaderMap) -> Self {
        let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
        Origin {
            request_id: extensions.get::<RequestId>().cloned().unwrap_or_default(),
            address: extensions.get::<Peer>().map(|p| p.0.ip()),
            agent: agent.map(|a| a.chars().take(200).collect()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Origin::of(&parts.extensions, &parts.headers))
    }
}

/// One answered request. Those that only read are not shown.
pub struct Observed<'a> {
    pub origin: &'a Origin,
    pub method: &'a Method,
    /// As declared, `/v3/users/{user_id}`, below whatever it is mounted at.
    pub route: &'a str,
    pub path: &'a str,
    /// Whose token it was; `None` where none was good.
    pub caller: Option<&'a Caller>,
    pub response: &'a Response,
}

/// The caller of a request, in its response's extensions.
#[derive(Clone)]
pub(crate) struct By(pub(crate) Arc<Caller>);

/// What must be kept of a request until it is answered.
pub(crate) struct Kept {
    origin: Origin,
    method: Method,
    route: String,
    path: String,
}

impl Kept {
    pub(crate) fn of(request: &Request) -> Option<Kept> {
        if request.method().is_safe() {
            return None;
        }
        let route = request.extensions().get::<MatchedPath>()?.as_str().to_owned();
        Some(Kept {
            origin: Origin::of(request.extensions(), request.headers()),
            method: request.method().clone(),
            route,
            path: request.uri().path().to_owned(),
        })
    }

    pub(crate) fn show(&self, to: fn(&Observed<'_>), response: &Response) {
        to(&Observed {
            origin: &self.origin,
            method: &self.method,
            route: &self.route,
            path: &self.path,
            caller: response.extensions().get::<By>().map(|by| &*by.0),
            response,
        });
    }
}
