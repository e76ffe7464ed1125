//! Query strings as OpenStack reads them: keys may repeat, booleans have many spellings.

use crate::Error;
use axum::extract::FromRequestParts;
use http::request::Parts;
use percent_encoding::percent_decode_str;

/// The decoded pairs of a query string, in order. An extractor that never fails but on bad encoding.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: &str) -> Result<Self, Error> {
        let decode = |s: &str| {
            percent_decode_str(&s.replace('+', " "))
                .decode_utf8()
                .ok()
                .map(|s| s.into_owned())
                // No database column takes a NUL, and no name has one.
                .filter(|s| !s.contains('\0'))
                .ok_or_else(|| Error::bad_request("The query string is not UTF-8, or holds a NUL."))
        };
        query
            .split('&')
            .filter(|p| !p.is_empty())
            .map(|p| {
                let (k, v) = p.split_once('=').unwrap_or((p, ""));
                Ok((decode(k)?, decode(v)?))
            })
            .collect::<Result<_, _>>()
            .map(Query)
    }

    /// The last value of a key, as OpenStack takes it when a single one is meant.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Every value of a repeated key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// A number, or 400.
    pub fn int(&self, key: &str) -> Result<Option<i64>, Error> {
        self.get(key)
            .map(|v| {
                v.trim()
                    .parse()
                    .map_err(|_| Error::bad_request(format!("{key} must be an integer, not '{v}'.")))
            })
            .transpose()
    }

    /// oslo.utils' spellings; anything else is 400.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.get(key)
            .map(|v| match v.trim().to_ascii_lowercase().as_str() {
                "1" | "t" | "true" | "on" | "y" | "yes" => Ok(true),
                "0" | "f" | "false" | "off" | "n" | "no" => Ok(false),
                _ => Err(Error::bad_request(format!("{key} must be a boolean, not '{v}'."))),
            })
            .transpose()
    }

    /// The query string again, without the keys that a paging link replaces.
    pub(crate) fn encode_without(&self, skip: &[&str]) -> String {
        use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode as enc};
        let kept = self.0.iter().filter(|(k, _)| !skip.contains(&k.as_str()));
        kept.map(|(k, v)| format!("{}={}", enc(k, NON_ALPHANUMERIC), enc(v, NON_ALPHANUMERIC)))
            .collect::<Vec<_>>()
            .join("&")
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        Query::parse(parts.uri.query().unwrap_or_default())
    }
}
