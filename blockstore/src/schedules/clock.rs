//! When a schedule is due.
//!
//! Times are by the clocks of the schedule's zone: a name of the IANA database or an offset such as `+02:00`. A time that
//! the clocks skip is meant an hour later (what is due at 02:30 is done at 03:30), one that they show twice is meant the
//! first time. Hours are counted one by one, so an hour that comes twice is two.

use crate::VolumeError;
use jiff::civil::Time;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp as Instant, ToSpan};
use serde::{Deserialize, Serialize};
use state::Timestamp;

/// What a run counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Class {
    Hourly,
    Daily,
    Weekly,
    Monthly,
}

impl Class {
    pub(crate) const ALL: [Class; 4] = [Class::Hourly, Class::Daily, Class::Weekly, Class::Monthly];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Class::Hourly => "hourly",
            Class::Daily => "daily",
            Class::Weekly => "weekly",
            Class::Monthly => "monthly",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|c| c.as_str() == word)
    }
}

pub(crate) const WEEKDAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// The instants that a schedule is due at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clock {
    /// 0 to 59.
    pub(crate) minute: i64,
    /// 0 to 23.
    pub(crate) hour: i64,
    /// 0 is Monday.
    pub(crate) weekday: i64,
    /// 1 to 28: every month has it.
    pub(crate) day: i64,
    pub(crate) zone: String,
}

impl Clock {
    /// The first instant after another one that a class is due at. Fails where the zone is none.
    pub(crate) fn next(&self, class: Class, after: Timestamp) -> Result<Timestamp, VolumeError> {
        let zone = zone(&self.zone)?;
        let instant = Instant::from_microsecond(after.micros()).map_err(|_| beyond())?;
        let local = zone.to_datetime(instant);
        if class == Class::Hourly {
            let into = 60 * (i64::from(local.minute()) - self.minute) + i64::from(local.second());
            // Whole seconds; what is left of one does not make it earlier.
            let mut at = after.secs() - into;
            while at <= after.secs() {
                at += 3600;
            }
            return Ok(Timestamp::from_secs(at));
        }
        let small = |n: i64| i8::try_from(n).map_err(|_| beyond());
        let time = Time::new(small(self.hour)?, small(self.minute)?, 0, 0).map_err(|_| beyond())?;
        let mut date = local.date();
        // From the day before: a skipped midnight moves a time into the next day.
        date = date.checked_sub(1.day()).map_err(|_| beyond())?;
        loop {
            let fits = match class {
                Class::Weekly => i64::from(date.weekday().to_monday_zero_offset()) == self.weekday,
                Class::Monthly => i64::from(date.day()) == self.day,
                _ => true,
            };
            if fits {
                let due = zone.to_ambiguous_timestamp(date.to_datetime(time));
                let due = Timestamp(due.compatible().map_err(|_| beyond())?.as_microsecond());
                if due > after {
                    return Ok(due);
                }
            }
            date = date.tomorrow().map_err(|_| beyond())?;
        }
    }

    /// The instant as the zone's clocks show it, to the minute.
    pub(crate) fn shown(&self, at: Timestamp) -> Result<String, VolumeError> {
        let instant = Instant::from_microsecond(at.micros()).map_err(|_| beyond())?;
        Ok(zone(&self.zone)?.to_datetime(instant).strftime("%Y-%m-%d %H:%M").to_string())
    }
}

/// A zone by name or offset.
pub(crate) fn zone(name: &str) -> Result<TimeZone, VolumeError> {
    let unknown = || VolumeError::InvalidInput(format!("There is no time zone {name}."));
    let Some(sign) = name.chars().next().filter(|c| matches!(c, '+' | '-')) else {
        return TimeZone::get(name).map_err(|_| unknown());
    };
    let parts = name[1..].split_once(':').ok_or_else(unknown)?;
    let number = |text: &str, most: i32| match text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse().ok().filter(|n: &i32| *n <= most),
        false => None,
    };
    let (hours, minutes) =
        (number(parts.0, 14).ok_or_else(unknown)?, number(parts.1, 59).ok_or_else(unknown)?);
    let seconds = (hours * 60 + minutes) * 60 * if sign == '-' { -1 } else { 1 };
    Ok(TimeZone::fixed(Offset::from_seconds(seconds).map_err(|_| unknown())?))
}

fn beyond() -> VolumeError {
    VolumeError::InvalidInput("The schedule's time is outside of what clocks know.".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(hour: i64, minute: i64, zone: &str) -> Clock {
        Clock { minute, hour, weekday: 6, day: 28, zone: zone.into() }
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn days_weeks_and_months() {
        let c = clock(3, 15, "+02:00");
        for (class, after, want) in [
            (Class::Daily, "2026-03-01T01:14:59Z", "2026-03-01T01:15:00Z"),
            (Class::Daily, "2026-03-01T01:15:00Z", "2026-03-02T01:15:00Z"),
            (Class::Weekly, "2026-03-01T01:15:00Z", "2026-03-08T01:15:00Z"),
            (Class::Monthly, "2026-12-28T01:15:00Z", "2027-01-28T01:15:00Z"),
            (Class::Hourly, "2026-03-01T00:15:00Z", "2026-03-01T01:15:00Z"),
            (Class::Hourly, "2026-03-01T00:14:59.999999Z", "2026-03-01T00:15:00Z"),
            (Class::Hourly, "2026-03-01T00:15:00.000001Z", "2026-03-01T01:15:00Z"),
        ] {
            assert_eq!(c.next(class, at(after)).unwrap(), at(want), "{class:?} after {after}");
        }
        // Half hours' zones.
        let c = clock(0, 0, "Asia/Kolkata");
        assert_eq!(c.next(Class::Hourly, at("2026-03-01T00:00:00Z")).unwrap(), at("2026-03-01T00:30:00Z"));
    }

    #[test]
    fn clocks_that_are_changed() {
        let c = clock(2, 30, "Europe/Berlin");
        // Spring: 02:30 is not there, and is meant an hour later; the next day it is itself again.
        let first = c.next(Class::Daily, at("2026-03-28T12:00:00Z")).unwrap();
        assert_eq!(first, at("2026-03-29T01:30:00Z"));
        assert_eq!(c.next(Class::Daily, first).unwrap(), at("2026-03-30T00:30:00Z"));
        // Autumn: 02:30 comes twice; once is enough for a day, both are hours.
        let first = c.next(Class::Daily, at("2026-10-24T12:00:00Z")).unwrap();
        assert_eq!(first, at("2026-10-25T00:30:00Z"));
        assert_eq!(c.next(Class::Daily, first).unwrap(), at("2026-10-26T01:30:00Z"));
        assert_eq!(c.next(Class::Hourly, first).unwrap(), at("2026-10-25T01:30:00Z"));
        assert_eq!(c.shown(first).unwrap(), "2026-10-25 02:30");
        // A midnight that is skipped.
        let c = clock(0, 0, "America/Santiago");
        let due = c.next(Class::Daily, at("2026-09-06T03:59:00Z")).unwrap();
        assert_eq!(due, at("2026-09-06T04:00:00Z"));
        assert_eq!(c.next(Class::Daily, due).unwrap(), at("2026-09-07T03:00:00Z"));
    }

    #[test]
    fn zones_that_are_none() {
        for good in ["UTC", "Europe/Berlin", "+14:00", "-03:30"] {
            assert!(zone(good).is_ok(), "{good}");
        }
        for bad in ["", "Mars/Olympus", "+1:00", "+15:00", "+02:60", "+02", "+ü:00", "../etc/passwd"] {
            assert!(zone(bad).is_err(), "{bad}");
        }
    }
}
