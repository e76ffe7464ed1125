//! Which URLs may be imported from: upstream's `import_filtering_opts`, and the networks beside the public internet.

use api::address::is_allowed;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use url::{Host, Url};

/// The `[image.import_filter]` table of the configuration. Of each pair of lists the one of what is allowed wins where
/// it names anything; an empty one allows all that the other does not name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportFilter {
    pub allowed_schemes: Vec<String>,
    pub disallowed_schemes: Vec<String>,
    pub allowed_hosts: Vec<String>,
    pub disallowed_hosts: Vec<String>,
    /// A URL without a port has its scheme's.
    pub allowed_ports: Vec<u16>,
    pub disallowed_ports: Vec<u16>,
    /// Networks that may be fetched from though they are not of the public internet. A name is no way around this:
    /// what counts is the address that is connected to.
    pub allowed_networks: Vec<IpNet>,
    /// Seconds that one fetch may take.
    pub timeout_s: u64,
}

impl Default for ImportFilter {
    fn default() -> Self {
        ImportFilter {
            allowed_schemes: vec!["http".into(), "https".into()],
            disallowed_schemes: Vec::new(),
            allowed_hosts: Vec::new(),
            disallowed_hosts: Vec::new(),
            allowed_ports: vec![80, 443],
            disallowed_ports: Vec::new(),
            allowed_networks: Vec::new(),
            timeout_s: 6 * 3600,
        }
    }
}

/// What is allowed wins over what is not.
fn passes<T: PartialEq<U>, U: ?Sized>(value: &U, allowed: &[T], disallowed: &[T]) -> bool {
    let named = |list: &[T]| list.iter().any(|v| *v == *value);
    if allowed.is_empty() { !named(disallowed) } else { named(allowed) }
}

/// Names of hosts are in lower case in a URL, whatever the operator writes.
fn lower(hosts: &[String]) -> Vec<String> {
    hosts.iter().map(|h| h.to_ascii_lowercase()).collect()
}

impl ImportFilter {
    /// The URL, if it may be asked as far as can be told without asking.
    pub(crate) fn admit(&self, uri: &str) -> Option<Url> {
        let url = Url::parse(uri).ok()?;
        self.passes(&url).then_some(url)
    }

    pub(super) fn passes(&self, url: &Url) -> bool {
        let Some(host) = url.host() else { return false };
        // Nothing else is spoken here, whatever the lists say; and no credentials are passed on.
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some()
        {
            return false;
        }
        let literal = match host {
            Host::Domain(_) => None,
            Host::Ipv4(a) => Some(IpAddr::V4(a)),
            Host::Ipv6(a) => Some(IpAddr::V6(a)),
        };
        let name = host.to_string();
        let name = name.trim_end_matches('.').trim_matches(['[', ']']);
        let port = url.port_or_known_default().unwrap_or_default();
        passes(url.scheme(), &self.allowed_schemes, &self.disallowed_schemes)
            && passes(name, &lower(&self.allowed_hosts), &lower(&self.disallowed_hosts))
            && passes(&port, &self.allowed_ports, &self.disallowed_ports)
            && literal.is_none_or(|a| self.reaches(a))
    }

    pub(super) fn reaches(&self, address: IpAddr) -> bool {
        is_allowed(address, &self.allowed_networks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults() {
        let f = ImportFilter::default();
        for good in [
            "http://example.org/a.qcow2",
            "https://example.org/",
            "https://8.8.8.8/x",
            "http://example.org:443/",
        ] {
            assert!(f.admit(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "example.org/x",
            "ftp://example.org/x",
            "file:///etc/passwd",
            "http://example.org:22/",
            "http://user:secret@example.org/",
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://169.254.169.254/latest/",
            "http://10.0.0.1/",
        ] {
            assert!(f.admit(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn lists() {
        let f = ImportFilter {
            allowed_hosts: vec!["mirror.example.org".into()],
            disallowed_hosts: vec!["mirror.example.org".into()],
            allowed_ports: Vec::new(),
            disallowed_ports: vec![25],
            ..ImportFilter::default()
        };
        assert!(f.admit("http://MIRROR.example.org:8080/x").is_some());
        assert!(f.admit("http://mirror.example.org.:8080/x").is_some());
        assert!(f.admit("http://mirror.example.org:25/x").is_none());
        assert!(f.admit("http://example.org/x").is_none());
        let f = ImportFilter { disallowed_hosts: vec!["Evil.example.org".into()], ..ImportFilter::default() };
        assert!(f.admit("http://evil.example.org./x").is_none() && f.admit("http://example.org/x").is_some());
        let f = ImportFilter { allowed_schemes: vec!["https".into()], ..ImportFilter::default() };
        assert!(f.admit("http://example.org/x").is_none());
        let f = ImportFilter {
            allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
            ..ImportFilter::default()
        };
        assert!(f.admit("http://127.0.0.1/x").is_some() && f.admit("http://[::1]/x").is_none());
    }
}
