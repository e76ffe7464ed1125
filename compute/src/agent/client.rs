//! The agent's side of the conversation with the controller: HTTP, with the host's own secret.

use crate::ComputeError;
use crate::wire::{ConsoleReply, Desired, Passphrase, PollRequest, Report};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use std::time::Duration;

/// Longer than the controller holds a poll open.
const POLL: Duration = Duration::from_secs(60);
const CALL: Duration = Duration::from_secs(20);

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Controller {
    http: Client,
    base: String,
    secret: api::Secret,
}

/// A file that the metadata service has, or has not.
pub(crate) type MetadataBody = Option<(String, Vec<u8>)>;

impl Controller {
    pub(crate) fn new(url: &str, host: &str, secret: api::Secret) -> Result<Self, ComputeError> {
        // Loopback and the operator's own network: never by way of a proxy from the environment.
        let http = Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|e| ComputeError::Config(format!("the agent's HTTP client: {e}")))?;
        let base = format!("{}/compute/agent/v1/hosts/{host}", url.trim_end_matches('/'));
        Ok(Controller { http, base, secret })
    }

    /// Returns when the desired state differs from what is known, or after the controller's patience.
    pub(crate) async fn poll(&self, known: &str) -> Result<Desired, ComputeError> {
        let ask = PollRequest { known: known.to_owned() };
        let request = self.request(Method::POST, "/poll").timeout(POLL).json(&ask);
        sent(request).await?.json().await.map_err(away)
    }

    pub(crate) async fn report(&self, report: &Report) -> Result<(), ComputeError> {
        sent(self.request(Method::POST, "/report").timeout(CALL).json(report)).await.map(drop)
    }

    pub(crate) async fn console(&self, reply: &ConsoleReply) -> Result<(), ComputeError> {
        sent(self.request(Method::POST, "/consoles").timeout(CALL).json(reply)).await.map(drop)
    }

    /// What opens an encrypted volume of a server here.
    pub(crate) async fn passphrase(&self, volume: &str) -> Result<Vec<u8>, ComputeError> {
        let request = self.request(Method::GET, &format!("/secrets/{volume}")).timeout(CALL);
        let found: Passphrase = sent(request).await?.json().await.map_err(away)?;
        Ok(found.passphrase.into_bytes())
    }

    /// What a guest at `address` of `network` reads at `path`: content type and bytes.
    pub(crate) async fn metadata(
        &self,
        network: &str,
        address: &str,
        path: &str,
    ) -> Result<MetadataBody, ComputeError> {
        let query = [("network", network), ("address", address), ("path", path)];
        let request = self.request(Method::GET, "/metadata").timeout(CALL).query(&query);
        let response = request.send().await.map_err(away)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = response.error_for_status().map_err(away)?;
        let kind = response.headers().get("content-type").and_then(|v| v.to_str().ok());
        let kind = kind.unwrap_or("text/plain").to_owned();
        Ok(Some((kind, response.bytes().await.map_err(away)?.to_vec())))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.secret.0)
    }
}

async fn sent(request: RequestBuilder) -> Result<reqwest::Response, ComputeError> {
    request.send().await.and_then(reqwest::Response::error_for_status).map_err(away)
}

fn away(e: reqwest::Error) -> ComputeError {
    let what = match e.status() {
        Some(StatusCode::UNAUTHORIZED) => "The controller does not accept this host's secret.",
        _ => "The controller does not answer.",
    };
    ComputeError::Unavailable(what.into(), Some(e.without_url().into()))
}
