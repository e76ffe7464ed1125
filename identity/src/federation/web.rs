//! Asking a provider's servers: JSON over https, a bounded answer in bounded time, and never elsewhere than asked.
//!
//! Redirects are not followed and proxies of the environment are not used: what a provider's document says is an address
//! is the only one that is asked.

use crate::IdentityError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use url::Url;

/// A whole exchange takes no longer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longer answers are none.
const LONGEST: usize = 512 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum WebError {
    #[error("{0} is neither https nor an address of this machine")]
    Insecure(String),
    #[error("not a request")]
    Request(#[from] http::Error),
    #[error("no answer in {} seconds", TIMEOUT.as_secs())]
    TimedOut,
    #[error("no connection")]
    Connection(#[from] hyper_util::client::legacy::Error),
    #[error("the answer broke off or was too long")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("status {0}")]
    Status(u16),
    #[error("the answer is not JSON")]
    Json(#[from] serde_json::Error),
}

#[derive(Clone)]
pub(super) struct Web {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What TLS trusts: the system's certificates and those in a file.
fn trusted(ca_file: Option<&Path>) -> Result<ClientConfig, IdentityError> {
    let mut roots = api::outward::system_roots();
    if let Some(file) = ca_file {
        let unreadable = |e: &dyn std::fmt::Display| {
            IdentityError::Config(format!("{} holds no certificates in PEM: {e}", file.display()))
        };
        let certs = CertificateDer::pem_file_iter(file).map_err(|e| unreadable(&e))?;
        for cert in certs {
            roots.add(cert.map_err(|e| unreadable(&e))?).map_err(|e| unreadable(&e))?;
        }
    }
    api::outward::tls(roots).map_err(|e| IdentityError::Config(e.to_string()))
}

/// Whether a token may be sent there, or keys be believed that come from there.
pub(super) fn is_safe(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.host().is_some(),
        "http" => match url.host() {
            Some(url::Host::Ipv4(a)) => a.is_loopback(),
            Some(url::Host::Ipv6(a)) => a.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        },
        _ => false,
    }
}

impl Web {
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Web, IdentityError> {
        let https = HttpsConnectorBuilder::new().with_tls_config(trusted(ca_file)?).https_or_http();
        // No connection is kept: its server may close it in the moment of its use, and a form cannot be sent twice.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(https.enable_http1().build());
        Ok(Web { client })
    }

    pub(super) async fn get(&self, url: &Url, bearer: Option<&str>) -> Result<Value, WebError> {
        let mut request = Request::builder().method(Method::GET);
        if let Some(token) = bearer {
            request = request.header(header::AUTHORIZATION, sensitive(format!("Bearer {token}"))?);
        }
        self.send(url, request, Bytes::new()).await
    }

    /// Sends a form; a client's id and secret go as OAuth has them.
    pub(super) async fn post(
        &self,
        url: &Url,
        fields: &[(&str, &str)],
        client: (&str, Option<&str>),
    ) -> Result<Value, WebError> {
        let mut fields = fields.to_vec();
        let mut request = Request::builder()
            .method(Method::POST)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let encoded = |s: &str| url::form_urlencoded::byte_serialize(s.as_bytes()).collect::<String>();
        match client {
            (id, Some(secret)) => {
                let basic = STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret)));
                request = request.header(header::AUTHORIZATION, sensitive(format!("Basic {basic}"))?);
            }
            (id, None) => fields.push(("client_id", id)),
        }
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.send(url, request, form.into()).await
    }

    async fn send(&self, url: &Url, request: http::request::Builder, body: Bytes) -> Result<Value, WebError> {
        if !is_safe(url) {
            return Err(WebError::Insecure(url.to_string()));
        }
        let request =
            request.uri(url.as_str()).header(header::ACCEPT, "application/json").body(Full::new(body))?;
        let exchange = async {
            let response = self.client.request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST).collect().await.map_err(WebError::Body)?;
            if !status.is_success() {
                return Err(WebError::Status(status.as_u16()));
            }
            Ok(serde_json::from_slice(&body.to_bytes())?)
        };
        tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_| WebError::TimedOut)?
    }
}

fn sensitive(value: String) -> Result<HeaderValue, WebError> {
    let mut value = HeaderValue::from_str(&value).map_err(http::Error::from)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_tokens_go() {
        let safe = |s: &str| is_safe(&Url::parse(s).unwrap());
        for url in ["https://idp.example/x", "http://127.0.0.1:8080/", "http://[::1]/", "http://localhost:1/"]
        {
            assert!(safe(url), "{url}");
        }
        for url in [
            "http://idp.example/",
            "http://127.0.0.1.evil.example/",
            "http://10.0.0.1/",
            "file:///etc/passwd",
            "http://localhost.evil.example/",
            "ftp://127.0.0.1/",
        ] {
            assert!(!safe(url), "{url}");
        }
    }
}
