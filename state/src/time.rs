//! Points in time as rows hold them: microseconds since the epoch, UTC.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// A point in time. Each OpenStack API writes it in its own way; the three ways are methods here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub fn now() -> Self {
        Timestamp(Utc::now().timestamp_micros())
    }

    pub fn from_secs(secs: i64) -> Self {
        Timestamp(secs.saturating_mul(1_000_000))
    }

    pub fn secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    pub fn micros(self) -> i64 {
        self.0
    }

    pub fn plus(self, d: std::time::Duration) -> Self {
        Timestamp(self.0.saturating_add(i64::try_from(d.as_micros()).unwrap_or(i64::MAX)))
    }

    fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }

    /// `2026-11-21T01:02:03Z` (Nova, Neutron, Glance).
    pub fn seconds_z(self) -> String {
        self.utc().to_rfc3339_opts(SecondsFormat::Secs, true)
    }

    /// `2026-11-21T01:02:03.000004` (Cinder).
    pub fn micros_naive(self) -> String {
        let mut text = self.micros_z();
        text.truncate(text.len() - 1);
        text
    }

    /// `2026-11-21T01:02:03.000004Z` (Keystone).
    pub fn micros_z(self) -> String {
        self.utc().to_rfc3339_opts(SecondsFormat::Micros, true)
    }

    /// Reads ISO 8601 with or without a zone; without one it is UTC, as OpenStack's clients mean it.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(t) = DateTime::parse_from_rfc3339(text) {
            return Some(Timestamp(t.timestamp_micros()));
        }
        ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
            .iter()
            .find_map(|f| chrono::NaiveDateTime::parse_from_str(text, f).ok())
            .map(|t| Timestamp(t.and_utc().timestamp_micros()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms() {
        let t = Timestamp(1_792_544_523_000_004);
        assert_eq!(t.seconds_z(), "2026-10-21T01:02:03Z");
        assert_eq!(t.micros_naive(), "2026-10-21T01:02:03.000004");
        assert_eq!(t.micros_z(), "2026-10-21T01:02:03.000004Z");
        for form in [t.micros_naive(), t.micros_z(), "2026-10-21T03:02:03.000004+02:00".into()] {
            assert_eq!(Timestamp::parse(&form), Some(t), "{form}");
        }
        assert_eq!(Timestamp::parse("yesterday"), None);
    }
}
