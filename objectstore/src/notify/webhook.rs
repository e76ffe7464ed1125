//! Taking an event to an address that a user named, with care: it must be of the public internet, or in a network that
//! the operator allows. A name is resolved once, and only what came of it is connected to; redirects are not followed;
//! credentials, cookies and proxies of the environment are never used, and nothing of the answer but its status.

use api::address::is_allowed;
use api::outward::Outward;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

const CONNECT: Duration = Duration::from_secs(3);
/// For the whole of one delivery.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why an event was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum WebhookError {
    #[error("the address is none that may be connected to")]
    Refused,
    #[error("it could not be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("it answered with status {0}")]
    Status(u16),
    #[error("it did not answer in time")]
    TimedOut,
}

/// What takes events to their addresses.
pub(super) struct Webhook {
    client: Outward<Full<Bytes>>,
    networks: Arc<[IpNet]>,
}

impl Webhook {
    pub(super) fn new(networks: &[IpNet]) -> Result<Self, rustls::Error> {
        let networks: Arc<[IpNet]> = networks.into();
        let allowed = networks.clone();
        let reaches = Arc::new(move |a| is_allowed(a, &allowed));
        Ok(Webhook { client: api::outward::client(reaches, CONNECT, |pool| pool)?, networks })
    }

    /// Posts a message. It was taken when the answer's status says so.
    pub(super) async fn post(&self, endpoint: &str, message: Vec<u8>) -> Result<(), WebhookError> {
        let url = Url::parse(endpoint).map_err(|_| WebhookError::Refused)?;
        // An address that stands in the URL is not resolved.
        let literal = match url.host() {
            None => return Err(WebhookError::Refused),
            Some(Host::Domain(_)) => None,
            Some(Host::Ipv4(a)) => Some(IpAddr::V4(a)),
            Some(Host::Ipv6(a)) => Some(IpAddr::V6(a)),
        };
        if literal.is_some_and(|a| !is_allowed(a, &self.networks)) {
            return Err(WebhookError::Refused);
        }
        let request = Request::post(url.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(message.into()))
            .map_err(|e| WebhookError::Unreachable(e.into()))?;
        let answer = tokio::time::timeout(PATIENCE, self.client.request(request)).await;
        let answer = answer.map_err(|_| WebhookError::TimedOut)?;
        match answer.map_err(|e| WebhookError::Unreachable(e.into()))?.status() {
            status if status.is_success() => Ok(()),
            status => Err(WebhookError::Status(status.as_u16())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_inside_is_asked() {
        let webhook = Webhook::new(&[]).unwrap();
        for inside in
            ["http://127.0.0.1:1/", "http://169.254.169.254/latest", "http://[::1]:1/", "http://2130706433/"]
        {
            let refused = webhook.post(inside, Vec::new()).await;
            assert!(matches!(refused, Err(WebhookError::Refused)), "{inside}: {refused:?}");
        }
        let refused = webhook.post("http://localhost:1/", Vec::new()).await;
        assert!(matches!(refused, Err(WebhookError::Unreachable(_))), "{refused:?}");
    }
}
