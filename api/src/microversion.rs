//! Microversions: `OpenStack-API-Version: volume 3.60` and Nova's older header.

use crate::Error;
use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use std::convert::Infallible;
use std::fmt;

/// The version a request is served in. An extractor; without negotiation it is 0.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Microversion(pub u16, pub u16);

impl fmt::Display for Microversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Microversion {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Microversion>().copied().unwrap_or_default())
    }
}

/// What a service speaks.
#[derive(Debug, Clone, Copy)]
pub struct Microversions {
    /// The name in the header: `compute`, `volume`, `placement`.
    pub service: &'static str,
    /// Other names that upstream's service takes for its own there (gophercloud 1 says `volumev3`).
    pub aliases: &'static [&'static str],
    pub min: Microversion,
    pub max: Microversion,
    /// Nova's header from before there was a common one.
    pub legacy: Option<&'static str>,
}

const HEADER: &str = "openstack-api-version";

impl Microversions {
    /// The version a request asks for; `min` where it names none, 400 where it cannot be read and 406 where it is
    /// not served.
    pub(crate) fn negotiate(&self, headers: &HeaderMap) -> Result<Microversion, Error> {
        let common = headers.get_all(HEADER).iter().filter_map(|v| v.to_str().ok());
        let named = common.flat_map(|v| v.split(',')).filter_map(|v| v.trim().split_once(' '));
        let me = |s: &str| self.aliases.iter().chain([&self.service]).any(|n| s.eq_ignore_ascii_case(n));
        let mine = named.filter(|(s, _)| me(s)).map(|(_, v)| v.trim()).next_back();
        let legacy = self.legacy.and_then(|h| headers.get(h)).and_then(|v| v.to_str().ok());
        let Some(asked) = mine.or(legacy) else { return Ok(self.min) };
        if asked.eq_ignore_ascii_case("latest") {
            return Ok(self.max);
        }
        let version = asked.split_once('.').and_then(|(a, b)| Some(Microversion(strict(a)?, strict(b)?)));
        let version = version.ok_or_else(|| {
            Error::bad_request(format!(
                "API Version String {asked} is of invalid format. Must be of format MajorNum.MinorNum."
            ))
        })?;
        if version < self.min || version > self.max {
            return Err(Error::new(
                StatusCode::NOT_ACCEPTABLE,
                format!(
                    "Version {version} is not supported by the API. Minimum is {} and maximum is {}.",
                    self.min, self.max
                ),
            ));
        }
        Ok(version)
    }

    /// Says in the response which version it is.
    pub(crate) fn announce(&self, version: Microversion, headers: &mut HeaderMap) {
        let set = |headers: &mut HeaderMap, name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
                headers.append(http::header::VARY, HeaderValue::from_static(name));
            }
        };
        set(headers, HEADER, format!("{} {version}", self.service));
        if let Some(legacy) = self.legacy {
            set(headers, legacy, version.to_string());
        }
    }
}

fn strict(digits: &str) -> Option<u16> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    (plain && (digits.len() == 1 || !digits.starts_with('0'))).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOVA: Microversions = Microversions {
        service: "compute",
        aliases: &["computev2.1"],
        min: Microversion(2, 1),
        max: Microversion(2, 96),
        legacy: Some("x-openstack-nova-api-version"),
    };

    fn asked(name: &'static str, value: &str) -> Result<Microversion, StatusCode> {
        let mut h = HeaderMap::new();
        h.insert(name, HeaderValue::from_str(value).unwrap());
        NOVA.negotiate(&h).map_err(|e| e.status())
    }

    #[test]
    fn negotiation() {
        assert_eq!(NOVA.negotiate(&HeaderMap::new()).unwrap(), Microversion(2, 1));
        assert_eq!(asked(HEADER, "compute 2.79"), Ok(Microversion(2, 79)));
        assert_eq!(asked(HEADER, "volume 3.60, compute latest"), Ok(Microversion(2, 96)));
        assert_eq!(asked(HEADER, "volume 3.60"), Ok(Microversion(2, 1)));
        assert_eq!(asked(HEADER, "computev2.1 2.60"), Ok(Microversion(2, 60)));
        assert_eq!(asked("x-openstack-nova-api-version", "2.10"), Ok(Microversion(2, 10)));
        assert_eq!(asked(HEADER, "compute 2.97"), Err(StatusCode::NOT_ACCEPTABLE));
        for bad in ["compute 2", "compute 2.x", "compute 2.01", "compute 2.1.1", "compute -2.1"] {
            assert_eq!(asked(HEADER, bad), Err(StatusCode::BAD_REQUEST), "{bad}");
        }
    }
}
