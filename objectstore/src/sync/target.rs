//! Where a container's objects are sent, and how a request proves that it may be: by a signature over its method, path
//! and time with the realm's key, over the container's. As upstream's, so that either end may be of another kind.

use super::config::{SyncConfig, SyncKey};
use crate::http::encode;
use hmac::{Hmac, KeyInit, Mac};
use http::Uri;
use sha1::Sha1;
use subtle::ConstantTimeEq;
use url::{Host, Url};

/// The other end of a container's sync.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The container's URL, without a slash behind it.
    pub(super) url: String,
    /// The realm that it is in, and its key.
    pub(super) realm: Option<(String, SyncKey)>,
}

impl Target {
    /// Reads `X-Container-Sync-To`; what is wrong with it, for the owner.
    pub(crate) fn resolve(config: &SyncConfig, to: &str) -> Result<Target, String> {
        let whole = to.trim_end_matches('/');
        let Some(inside) = whole.strip_prefix("//") else { return Target::of_url(config, whole) };
        let parts: Vec<&str> = inside.split('/').collect();
        let [realm, cluster, account, container] = parts.as_slice() else {
            return Err(format!("Invalid X-Container-Sync-To format '{to}'"));
        };
        let (realm, cluster) = (realm.to_uppercase(), cluster.to_uppercase());
        let found = config.realm(&realm).ok_or_else(|| format!("No realm key for '{realm}'"))?;
        let endpoint = found.cluster(&cluster);
        let endpoint = endpoint.ok_or_else(|| format!("No cluster endpoint for '{realm}' '{cluster}'"))?;
        let mut url = format!("{}/", endpoint.trim_end_matches('/'));
        encode(&mut url, format!("{account}/{container}").as_bytes(), true);
        Ok(Target { url, realm: Some((realm, found.key.clone())) })
    }

    fn of_url(config: &SyncConfig, text: &str) -> Result<Target, String> {
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        if !matches!(scheme, "http" | "https") {
            return Err(format!(
                "Invalid scheme '{scheme}' in X-Container-Sync-To, must be \"//\", \"http\", or \"https\"."
            ));
        }
        let url = Url::parse(text).map_err(|_| "Invalid URL in X-Container-Sync-To".to_owned())?;
        if url.path().trim_end_matches('/').is_empty() {
            return Err("Path required in X-Container-Sync-To".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("Params, queries, and fragments not allowed in X-Container-Sync-To".to_owned());
        }
        let host = url.host_str().unwrap_or_default();
        let with_port = format!("{host}:{}", url.port_or_known_default().unwrap_or(0));
        let named = |h: &String| h.eq_ignore_ascii_case(host) || h.eq_ignore_ascii_case(&with_port);
        let plain = url.username().is_empty() && url.password().is_none();
        if !plain || !config.allowed_hosts.iter().any(named) {
            return Err(format!("Invalid host '{host}' in X-Container-Sync-To"));
        }
        Ok(Target { url: url.as_str().trim_end_matches('/').to_owned(), realm: None })
    }

    /// The URL of an object, exactly as its name has it, and its path as it is signed.
    pub(super) fn object(&self, name: &str) -> Option<(Uri, String)> {
        let mut text = format!("{}/", self.url);
        encode(&mut text, name.as_bytes(), true);
        let path = {
            let rest = text.split_once("://")?.1;
            rest[rest.find('/')?..].to_owned()
        };
        Some((text.parse().ok()?, path))
    }
}

/// The addresses that an operator has written down: in the URLs of realms, and as hosts.
pub(crate) fn literals(config: &SyncConfig) -> Vec<std::net::IpAddr> {
    let clusters = config.realms.iter().flat_map(|r| r.clusters.values().cloned());
    let hosts = config.allowed_hosts.iter().map(|h| format!("http://{h}/"));
    clusters.chain(hosts).filter_map(|url| address(&Url::parse(&url).ok()?)).collect()
}

/// The address that stands in a URL, if it is not a name.
pub(super) fn address(url: &Url) -> Option<std::net::IpAddr> {
    match url.host()? {
        Host::Domain(_) => None,
        Host::Ipv4(a) => Some(a.into()),
        Host::Ipv6(a) => Some(a.into()),
    }
}

/// What a request is signed with.
#[derive(Clone, Copy)]
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a str,
    /// URL-encoded.
    pub(crate) path: &'a str,
    /// `X-Timestamp` as it is sent; `0` where there is none.
    pub(crate) timestamp: &'a str,
    pub(crate) nonce: &'a str,
}

impl Signed<'_> {
    fn mac(&self, realm: &SyncKey, container: &SyncKey) -> Option<Hmac<Sha1>> {
        let Signed { method, path, timestamp, nonce } = self;
        let text = format!("{method}\n{path}\n{timestamp}\n{nonce}\n{}", container.0);
        let mac = Hmac::<Sha1>::new_from_slice(realm.0.as_bytes()).ok()?;
        Some(mac.chain_update(text.as_bytes()))
    }

    /// In hexadecimal.
    pub(crate) fn signature(&self, realm: &SyncKey, container: &SyncKey) -> Option<String> {
        Some(hex::encode(self.mac(realm, container)?.finalize().into_bytes()))
    }

    /// Compares in constant time. Nothing is signed with an empty key.
    pub(crate) fn matches(&self, realm: &SyncKey, container: &SyncKey, signature: &str) -> bool {
        let computed =
            self.signature(realm, container).filter(|_| !realm.0.is_empty() && !container.0.is_empty());
        computed.is_some_and(|c| c.as_bytes().ct_eq(signature.to_ascii_lowercase().as_bytes()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Realm;
    use super::*;

    fn config() -> SyncConfig {
        let clusters = [("Here", "http://10.1.2.3:8080/v1/"), ("there", "https://swift.example.org/v1")];
        let realm = Realm {
            name: "Realm1".into(),
            key: SyncKey("rk".into()),
            key2: SyncKey::default(),
            clusters: clusters.map(|(n, u)| (n.to_owned(), u.to_owned())).into(),
        };
        let hosts = ["swift.example.com", "[::1]:8080", "192.0.2.7"].map(str::to_owned).into();
        SyncConfig { realms: vec![realm], allowed_hosts: hosts, ..SyncConfig::default() }
    }

    #[test]
    fn where_a_container_is_sent() {
        let of = |to: &str| Target::resolve(&config(), to).map(|t| (t.url, t.realm.map(|(r, _)| r)));
        let realm = Some("REALM1".to_owned());
        assert_eq!(
            of("//realm1/here/AUTH_a/c d"),
            Ok(("http://10.1.2.3:8080/v1/AUTH_a/c%20d".into(), realm.clone()))
        );
        assert_eq!(
            of("//REALM1/THERE/AUTH_a/c/"),
            Ok(("https://swift.example.org/v1/AUTH_a/c".into(), realm))
        );
        let url = "http://swift.example.com:99/v1/AUTH_a/c";
        assert_eq!(of(url), Ok((url.into(), None)));
        for (bad, told) in [
            ("//realm1/here/c", "Invalid X-Container-Sync-To format '//realm1/here/c'"),
            ("//realm2/here/a/c", "No realm key for 'REALM2'"),
            ("//realm1/nowhere/a/c", "No cluster endpoint for 'REALM1' 'NOWHERE'"),
            (
                "ftp://swift.example.com/v1",
                "Invalid scheme 'ftp' in X-Container-Sync-To, must be \"//\", \"http\", or \"https\".",
            ),
            ("http://swift.example.com/", "Path required in X-Container-Sync-To"),
            (
                "http://swift.example.com/v1?x=1",
                "Params, queries, and fragments not allowed in X-Container-Sync-To",
            ),
            ("http://evil.example.com/v1/a/c", "Invalid host 'evil.example.com' in X-Container-Sync-To"),
            ("http://swift.example.com@evil.org/v1/a", "Invalid host 'evil.org' in X-Container-Sync-To"),
            ("http://u:p@swift.example.com/v1/a", "Invalid host 'swift.example.com' in X-Container-Sync-To"),
            ("http://[::1]:9090/v1/a", "Invalid host '[::1]' in X-Container-Sync-To"),
        ] {
            assert_eq!(of(bad), Err(told.to_owned()), "{bad}");
        }
        assert!(of("http://[::1]:8080/v1/a").is_ok());
        let known: Vec<String> = literals(&config()).iter().map(ToString::to_string).collect();
        assert_eq!(known, ["10.1.2.3", "::1", "192.0.2.7"]);
    }

    #[test]
    fn paths_are_signed_as_they_are_sent() {
        let target = Target { url: "http://h/v1/AUTH_a/c".into(), realm: None };
        for (name, path) in [
            ("o", "/v1/AUTH_a/c/o"),
            ("a b/ü?#%", "/v1/AUTH_a/c/a%20b/%C3%BC%3F%23%25"),
            ("x/../y", "/v1/AUTH_a/c/x/../y"),
        ] {
            let (url, signed) = target.object(name).unwrap();
            assert_eq!((url.path(), signed.as_str()), (path, path));
        }
    }

    /// HMAC-SHA1 over what upstream's documentation says, computed with another program.
    #[test]
    fn signatures() {
        let signed = Signed { method: "PUT", path: "/v1/a/c/o", timestamp: "1.00000", nonce: "n" };
        let (realm, own) = (SyncKey("rk".into()), SyncKey("uk".into()));
        let signature = signed.signature(&realm, &own).unwrap();
        assert_eq!(signature, "6d0fef357b43f94052d014d5a7823cbb0b56c173");
        assert!(signed.matches(&realm, &own, &signature));
        assert!(!Signed { method: "DELETE", ..signed }.matches(&realm, &own, &signature));
        assert!(!signed.matches(&realm, &SyncKey("other".into()), &signature));
        let empty = SyncKey::default();
        let open = signed.signature(&realm, &empty).unwrap();
        assert!(!signed.matches(&realm, &empty, &open) && !signed.matches(&realm, &own, ""));
    }
}
