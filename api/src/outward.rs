//! Connecting to servers that somebody else names: a user's image to fetch, a webhook, another cloud.
//!
//! A name is resolved once, by the connector itself, and only what came of it and may be connected to is connected to:
//! an answer that changes between the check and the connection (rebinding) changes nothing. Proxies of the environment
//! are not used, cookies and credentials are not kept, and redirects are not followed: who wants to follow one asks
//! again, and is checked again.

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::{Builder, Client};
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Says whether an address may be connected to.
pub type Reaches = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// A client that connects to what its [`Reaches`] allows, over http or https.
pub type Outward<B> = Client<HttpsConnector<HttpConnector<Resolver>>, B>;

/// Resolves a name and keeps what may be connected to. An address that stands in a URL is never resolved: whoever takes
/// the URL in asks about it.
#[derive(Clone)]
pub struct Resolver(Reaches);

impl tower::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let reaches = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<_> = found.filter(|a| reaches(a.ip())).collect();
            match allowed.is_empty() {
                true => Err(std::io::Error::other("the name has no address that may be connected to")),
                false => Ok(allowed.into_iter()),
            }
        })
    }
}

/// A client for what `reaches` allows. A connection is made within `connect`; idle ones are kept as hyper's own client
/// keeps them, unless `pool` says otherwise.
pub fn client<B>(
    reaches: Reaches,
    connect: Duration,
    pool: impl FnOnce(&mut Builder) -> &mut Builder,
) -> Result<Outward<B>, rustls::Error>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    let mut http = HttpConnector::new_with_resolver(Resolver(reaches));
    http.enforce_http(false);
    http.set_connect_timeout(Some(connect));
    let tls = HttpsConnectorBuilder::new().with_tls_config(tls(system_roots())?).https_or_http();
    let https = tls.enable_http1().wrap_connector(http);
    Ok(pool(&mut Client::builder(TokioExecutor::new())).build(https))
}

/// The certificates that this machine trusts.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// TLS that believes servers by these certificates.
pub fn tls(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
