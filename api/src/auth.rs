//! Tokens at the door: every route but the open ones passes here first.

use crate::observe::By;
use crate::{Caller, Error};
use async_trait::async_trait;
use axum::extract::{OriginalUri, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::WWW_AUTHENTICATE;
use std::sync::Arc;

/// Identity, as the other services see it.
#[async_trait]
pub trait TokenValidator: Send + Sync {
    /// What the token says, or 401 (and 503 where identity itself is away).
    async fn validate(&self, token: &str) -> Result<Arc<Caller>, Error>;

    /// The same, for one request: a token may be good for some requests only. Where this is not asked, such a token
    /// is good for none.
    async fn validate_for(&self, token: &str, request: &Asking<'_>) -> Result<Arc<Caller>, Error> {
        let _ = request;
        self.validate(token).await
    }
}

/// The request that a token is shown for.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The service's name, as in [`crate::Service`].
    pub service: &'a str,
    pub method: &'a str,
    /// As the client sent it.
    pub path: &'a str,
}

/// The project named in the request's path, where the service has one there.
#[derive(Debug, Clone)]
pub(crate) struct UrlProject(pub(crate) String);

#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) tokens: Arc<dyn TokenValidator>,
    pub(crate) service: &'static str,
    pub(crate) realm: String,
}

/// Puts the [`Caller`] of a valid token into the request, or answers 401.
pub(crate) async fn require_token(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    match door.admit(&mut request).await {
        Ok(caller) => {
            let mut response = next.run(request).await;
            response.extensions_mut().insert(By(caller));
            response
        }
        Err(e) => e.into_response(),
    }
}

impl Door {
    async fn admit(&self, request: &mut Request) -> Result<Arc<Caller>, Error> {
        let denied = |e: Error| match e.status() {
            http::StatusCode::UNAUTHORIZED => {
                e.with_header(WWW_AUTHENTICATE, &format!("Keystone uri=\"{}\"", self.realm))
            }
            _ => e,
        };
        let token = request
            .headers()
            .get("x-auth-token")
            .and_then(|v| v.to_str().ok())
            .ok_or_else(|| denied(Error::unauthenticated()))?;
        let path = request.extensions().get::<OriginalUri>().map_or(request.uri(), |u| &u.0).path();
        let asking = Asking { service: self.service, method: request.method().as_str(), path };
        let caller = self.tokens.validate_for(token, &asking).await.map_err(denied)?;
        if let Some(UrlProject(id)) = request.extensions().get::<UrlProject>() {
            same_project(&caller, id)?;
        }
        request.extensions_mut().insert(caller.clone());
        Ok(caller)
    }
}

/// Nova and Cinder refuse a path that names another project than the token.
fn same_project(caller: &Caller, in_url: &str) -> Result<(), Error> {
    match caller.project() {
        Some(p) if p.id != in_url => Err(Error::bad_request(format!(
            "Malformed request URL: URL's project_id '{in_url}' doesn't match Context's project_id '{}'",
            p.id
        ))),
        _ => Ok(()),
    }
}
