//! A statement's conditions: an operator, a key of the request, and the values that it is compared with.

use super::pattern::{Facts, Pattern};
use chrono::{DateTime, NaiveDate};
use ipnet::IpNet;
use std::net::IpAddr;

/// The keys that a request is asked for. Names are compared without case.
const KEYS: [&str; 47] = [
    "aws:CurrentTime",
    "aws:EpochTime",
    "aws:PrincipalAccount",
    "aws:PrincipalArn",
    "aws:PrincipalIsAWSService",
    "aws:PrincipalType",
    "aws:Referer",
    "aws:RequestedRegion",
    "aws:ResourceAccount",
    "aws:SecureTransport",
    "aws:SourceAccount",
    "aws:SourceArn",
    "aws:SourceIp",
    "aws:UserAgent",
    "aws:ViaAWSService",
    "aws:userid",
    "aws:username",
    "s3:RequestObjectTagKeys",
    "s3:ResourceAccount",
    "s3:VersionId",
    "s3:authType",
    "s3:delimiter",
    "s3:if-match",
    "s3:if-none-match",
    "s3:locationconstraint",
    "s3:max-keys",
    "s3:object-lock-legal-hold",
    "s3:object-lock-mode",
    "s3:object-lock-retain-until-date",
    "s3:prefix",
    "s3:signatureAge",
    "s3:signatureversion",
    "s3:x-amz-acl",
    "s3:x-amz-content-sha256",
    "s3:x-amz-copy-source",
    "s3:x-amz-grant-full-control",
    "s3:x-amz-grant-read",
    "s3:x-amz-grant-read-acp",
    "s3:x-amz-grant-write",
    "s3:x-amz-grant-write-acp",
    "s3:x-amz-metadata-directive",
    "s3:x-amz-object-ownership",
    "s3:x-amz-server-side-encryption",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
    "s3:x-amz-server-side-encryption-customer-algorithm",
    "s3:x-amz-storage-class",
    "s3:x-amz-website-redirect-location",
];
/// Keys with a tag's name behind them.
pub(super) const EXISTING_TAG: &str = "s3:existingobjecttag/";
pub(super) const REQUEST_TAG: &str = "s3:requestobjecttag/";

/// A key as it is asked for: in lower case but for a tag's name. `None` where nobody would answer.
pub(super) fn known_key(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    for prefix in [EXISTING_TAG, REQUEST_TAG] {
        if lower.starts_with(prefix) && name.len() > prefix.len() {
            return Some(format!("{prefix}{}", &name[prefix.len()..]));
        }
    }
    KEYS.iter().any(|k| k.eq_ignore_ascii_case(name)).then_some(lower)
}

/// One condition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    pub(super) key: String,
    set: Set,
    /// Holds where the request has no such key.
    if_exists: bool,
    negated: bool,
    test: Test,
}

/// What is asked of a key with several values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    None,
    Any,
    All,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    /// Any of these; with `fold`, without case.
    Text {
        patterns: Vec<Pattern>,
        fold: bool,
    },
    Number {
        values: Vec<f64>,
        order: Order,
    },
    /// Seconds since the epoch.
    Date {
        values: Vec<f64>,
        order: Order,
    },
    Bool(Vec<bool>),
    Address(Vec<IpNet>),
    /// Whether the key is absent.
    Null(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds(self, a: f64, b: f64) -> bool {
        match self {
            Order::Equal => a == b,
            Order::Less => a < b,
            Order::LessOrEqual => a <= b,
            Order::Greater => a > b,
            Order::GreaterOrEqual => a >= b,
        }
    }

    fn of(name: &str) -> Option<(Order, bool)> {
        Some(match name {
            "Equals" => (Order::Equal, false),
            "NotEquals" => (Order::Equal, true),
            "LessThan" => (Order::Less, false),
            "LessThanEquals" => (Order::LessOrEqual, false),
            "GreaterThan" => (Order::Greater, false),
            "GreaterThanEquals" => (Order::GreaterOrEqual, false),
            _ => return None,
        })
    }
}

/// What is wrong with a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    Operator,
    Key,
    Value,
}

impl Condition {
    pub(super) fn read(operator: &str, key: &str, values: &[String], variables: bool) -> Result<Self, Wrong> {
        let (set, rest) = match operator.split_once(':') {
            None => (Set::None, operator),
            Some(("ForAnyValue", rest)) => (Set::Any, rest),
            Some(("ForAllValues", rest)) => (Set::All, rest),
            Some(_) => return Err(Wrong::Operator),
        };
        let (name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        if name == "Null" && (if_exists || set != Set::None) {
            return Err(Wrong::Operator);
        }
        let (test, negated) = test(name, values, variables)?;
        let key = known_key(key).ok_or(Wrong::Key)?;
        Ok(Condition { key, set, if_exists, negated, test })
    }

    pub(super) fn holds(&self, facts: &Facts<'_>) -> bool {
        let values = facts(&self.key);
        if let Test::Null(absent) = self.test {
            return values.is_empty() == absent;
        }
        if values.is_empty() {
            return self.if_exists || self.set == Set::All || (self.negated && self.set == Set::None);
        }
        let hit = |value: &String| self.test.fits(value, facts);
        match self.set {
            Set::None => values.iter().any(hit) != self.negated,
            Set::Any => values.iter().any(|v| hit(v) != self.negated),
            Set::All => values.iter().all(|v| hit(v) != self.negated),
        }
    }

    /// Whether it narrows a statement down to somebody, or to somewhere: what makes an allowance to all not public.
    pub(super) fn names_somebody(&self) -> bool {
        if self.negated || self.if_exists || self.set == Set::All {
            return false;
        }
        match &self.test {
            // A range of half the world is no place.
            Test::Address(nets) => nets.iter().all(|n| match n {
                IpNet::V4(n) => n.prefix_len() >= 8,
                IpNet::V6(n) => n.prefix_len() >= 32,
            }),
            Test::Text { patterns, .. } => {
                let whose = ["aws:userid", "aws:username", "aws:principalarn", "aws:principalaccount"];
                whose.contains(&self.key.as_str()) && !patterns.iter().any(Pattern::has_wildcard)
            }
            _ => false,
        }
    }
}

impl Test {
    fn fits(&self, value: &str, facts: &Facts<'_>) -> bool {
        let number = || value.trim().parse::<f64>().ok();
        match self {
            Test::Text { patterns, fold: false } => patterns.iter().any(|p| p.fits(value, facts)),
            Test::Text { patterns, fold: true } => {
                let lower = |key: &str| facts(key).iter().map(|v| v.to_lowercase()).collect();
                patterns.iter().any(|p| p.fits(&value.to_lowercase(), &lower))
            }
            Test::Number { values, order } => {
                number().is_some_and(|n| values.iter().any(|v| order.holds(n, *v)))
            }
            Test::Date { values, order } => {
                date(value).is_some_and(|n| values.iter().any(|v| order.holds(n, *v)))
            }
            Test::Bool(values) => {
                values.iter().any(|b| value.eq_ignore_ascii_case(if *b { "true" } else { "false" }))
            }
            Test::Address(nets) => {
                value.parse::<IpAddr>().is_ok_and(|a| nets.iter().any(|n| n.contains(&a.to_canonical())))
            }
            Test::Null(_) => false,
        }
    }
}

/// The test of an operator, and whether its outcome is turned round.
fn test(name: &str, values: &[String], variables: bool) -> Result<(Test, bool), Wrong> {
    if values.is_empty() {
        return Err(Wrong::Value);
    }
    let each = |read: fn(&str) -> Option<f64>| -> Result<Vec<f64>, Wrong> {
        values.iter().map(|v| read(v.trim()).ok_or(Wrong::Value)).collect()
    };
    let texts = |fold: bool, wild: bool| -> Result<Test, Wrong> {
        let one = |v: &String| {
            let v = if fold { v.to_lowercase() } else { v.clone() };
            let pattern = Pattern::read(&v, variables).ok_or(Wrong::Value)?;
            Ok(if wild { pattern } else { pattern.exact() })
        };
        Ok(Test::Text { patterns: values.iter().map(one).collect::<Result<_, _>>()?, fold })
    };
    if let Some((order, negated)) = name.strip_prefix("Numeric").and_then(Order::of) {
        return Ok((Test::Number { values: each(|v| v.parse().ok())?, order }, negated));
    }
    if let Some((order, negated)) = name.strip_prefix("Date").and_then(Order::of) {
        return Ok((Test::Date { values: each(date)?, order }, negated));
    }
    let bools = || values.iter().map(|v| boolean(v).ok_or(Wrong::Value)).collect::<Result<Vec<bool>, _>>();
    Ok(match name {
        "StringEquals" => (texts(false, false)?, false),
        "StringNotEquals" => (texts(false, false)?, true),
        "StringEqualsIgnoreCase" => (texts(true, false)?, false),
        "StringNotEqualsIgnoreCase" => (texts(true, false)?, true),
        "StringLike" | "ArnLike" | "ArnEquals" => (texts(false, true)?, false),
        "StringNotLike" | "ArnNotLike" | "ArnNotEquals" => (texts(false, true)?, true),
        "Bool" => (Test::Bool(bools()?), false),
        "Null" => match bools()?.as_slice() {
            [absent] => (Test::Null(*absent), false),
            _ => return Err(Wrong::Value),
        },
        "IpAddress" | "NotIpAddress" => {
            let nets = values.iter().map(|v| net(v.trim()).ok_or(Wrong::Value)).collect::<Result<_, _>>()?;
            (Test::Address(nets), name == "NotIpAddress")
        }
        _ => return Err(Wrong::Operator),
    })
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn net(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// A date as W3C writes it, or seconds since the epoch.
fn date(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Some(seconds);
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.timestamp_millis() as f64 / 1000.0);
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp() as f64)
}
