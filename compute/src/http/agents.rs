//! The agents' door. A host shows its own secret, never a user's token, and sees its own servers only.

use super::App;
use crate::ComputeError;
use crate::wire::{ConsoleReply, Desired, Passphrase, PollRequest, Report};
use api::{Error, Json, Path, Query, Routes};
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::header;
use http::request::Parts;
use serde_json::{Value, json};

pub(super) fn routes() -> Routes<App> {
    Routes::new().open(|r| {
        r.post("/hosts/{host}/poll", poll)
            .post("/hosts/{host}/report", report)
            .post("/hosts/{host}/consoles", console)
            .get("/hosts/{host}/metadata", metadata)
            .get("/hosts/{host}/secrets/{volume}", passphrase)
    })
}

/// The host that the request's secret proves.
struct Agent(String);

impl FromRequestParts<App> for Agent {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Error> {
        let Path(path) =
            Path::<std::collections::HashMap<String, String>>::from_request_parts(parts, app).await?;
        let host = path.get("host").cloned().unwrap_or_default();
        let given = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let secret = given.and_then(|v| v.strip_prefix("Bearer ")).ok_or_else(Error::unauthenticated)?;
        if app.is_agent(&host, secret).await? { Ok(Agent(host)) } else { Err(Error::unauthenticated()) }
    }
}

async fn poll(app: State<App>, agent: Agent, Json(ask): Json<PollRequest>) -> Result<Json<Desired>, Error> {
    Ok(Json(app.poll(&agent.0, &ask.known).await?))
}

async fn report(app: State<App>, agent: Agent, Json(report): Json<Report>) -> Result<Json<Value>, Error> {
    app.report(&agent.0, report).await?;
    Ok(Json(json!({})))
}

async fn console(
    app: State<App>,
    agent: Agent,
    Json(reply): Json<ConsoleReply>,
) -> Result<Json<Value>, Error> {
    app.console_reply(&agent.0, &reply).await?;
    Ok(Json(json!({})))
}

/// Only the volumes of a host's own servers are opened for it.
async fn passphrase(
    app: State<App>,
    agent: Agent,
    Path((_, volume)): Path<(String, String)>,
) -> Result<Json<Passphrase>, Error> {
    Ok(Json(app.passphrase(&agent.0, &volume).await?))
}

async fn metadata(app: State<App>, agent: Agent, query: Query) -> Result<Response, Error> {
    let ask = |key: &str| query.get(key).unwrap_or_default().to_owned();
    let found = app.metadata(&agent.0, &ask("network"), &ask("address"), &ask("path")).await?;
    let (kind, bytes) = found.ok_or_else(|| ComputeError::NotFound("404 Not Found".into()))?;
    Ok(([(header::CONTENT_TYPE, kind)], bytes).into_response())
}
