//! Lifecycle: rules of a container by which objects, versions and unfinished uploads go after a time.
//!
//! What is due when is decided here, from what the index says of a version and, where a rule asks for tags, from its
//! metadata; [`crate::sweep`] does it. Days end at midnight, as S3 has them: what is due is due from the first
//! midnight after its time.

use crate::index::Entry;
use crate::meta::ObjectMeta;
use serde::{Deserialize, Serialize};
use state::Timestamp;

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LifecycleRule {
    pub id: String,
    pub enabled: bool,
    pub filter: Filter,
    pub expiration: Option<Expiration>,
    pub noncurrent: Option<Noncurrent>,
    /// To which storage classes the latest version moves, and when.
    pub transitions: Vec<Transition>,
    /// The same for versions that are not the latest.
    pub noncurrent_transitions: Vec<NoncurrentTransition>,
    /// Days after which an unfinished upload goes.
    pub abort_days: Option<u32>,
}

/// What a rule is for: everything, or what meets all of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    pub form: FilterForm,
    pub prefix: Option<String>,
    pub tags: Vec<(String, String)>,
    /// Bytes that an object must be larger, or smaller, than.
    pub larger: Option<u64>,
    pub smaller: Option<u64>,
}

/// How the owner wrote a filter, which is how it is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilterForm {
    /// `<Prefix>` in the rule itself.
    Prefix,
    /// `<Filter>` with one condition, or none.
    #[default]
    Single,
    /// `<Filter><And>`
    And,
}

/// When the latest version goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiration {
    Days(u32),
    /// Microseconds since the epoch, a midnight.
    Date(i64),
    /// Not at all, but for a delete marker behind which there is nothing any more.
    MarkersOnly,
}

/// A move of the latest version to another storage class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    pub when: When,
    pub class: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    Days(u32),
    /// Microseconds since the epoch, a midnight.
    Date(i64),
}

/// A move of versions that are not the latest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoncurrentTransition {
    pub after: Noncurrent,
    pub class: String,
}

/// Bytes of an object from which on it moves to any class.
const LARGE: u64 = 128 << 10;

/// To which classes smaller objects move, by rules whose filters say nothing of size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SmallMoves {
    /// To none.
    #[default]
    None,
    /// To archives.
    Archives,
}

impl SmallMoves {
    const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

    /// Whether an object of so many bytes moves to a class by a rule with this filter.
    pub(crate) fn admit(self, filter: &Filter, class: &str, size: u64) -> bool {
        let asked = filter.larger.is_some() || filter.smaller.is_some();
        asked || size >= LARGE || (self == SmallMoves::Archives && Self::ARCHIVES.contains(&class))
    }
}

/// When versions go that are not the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noncurrent {
    /// Days since another became the latest.
    pub days: u32,
    /// The newest of them stay all the same.
    pub keep: u32,
}

impl Noncurrent {
    /// When it is the turn of a version that has not been the latest `since`, with `newer` others before it.
    fn due(self, since: Timestamp, newer: u32, day: Day) -> Option<Timestamp> {
        (newer >= self.keep).then(|| day.after(since, self.days))
    }
}

impl Filter {
    pub(crate) fn is_for(&self, name: &str, size: u64) -> bool {
        self.prefix.as_deref().is_none_or(|p| name.starts_with(p))
            && self.larger.is_none_or(|n| size > n)
            && self.smaller.is_none_or(|n| size < n)
    }

    pub(crate) fn has_tags(&self, tags: &[(String, String)]) -> bool {
        self.tags.iter().all(|t| tags.contains(t))
    }
}

/// How long a day is: a parameter, so that tests need not wait for one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Day(pub(crate) i64);

impl Day {
    /// The first midnight that is not before `days` after `at`.
    pub(crate) fn after(self, at: Timestamp, days: u32) -> Timestamp {
        let day = self.0.max(1).saturating_mul(1_000_000);
        let due = at.micros().saturating_add(day.saturating_mul(i64::from(days)));
        Timestamp(due.div_euclid(day).saturating_add(i64::from(due.rem_euclid(day) > 0)).saturating_mul(day))
    }
}

impl LifecycleRule {
    /// When the latest version goes by this rule.
    pub(crate) fn expires(&self, modified: Timestamp, day: Day) -> Option<Timestamp> {
        match self.expiration.filter(|_| self.enabled)? {
            Expiration::Days(days) => Some(day.after(modified, days)),
            Expiration::Date(at) => Some(Timestamp(at)),
            Expiration::MarkersOnly => None,
        }
    }

    /// Whether a delete marker that is all there is of a name goes by this rule.
    pub(crate) fn clears_marker(&self, modified: Timestamp, now: Timestamp, day: Day) -> bool {
        match self.expiration.filter(|_| self.enabled) {
            Some(Expiration::MarkersOnly) => true,
            Some(_) => self.expires(modified, day).is_some_and(|at| at <= now),
            None => false,
        }
    }

    /// Whether a version goes that has not been the latest `since`, with `newer` others between it and the latest.
    pub(crate) fn drops(&self, since: Timestamp, newer: u32, now: Timestamp, day: Day) -> bool {
        self.noncurrent
            .filter(|_| self.enabled)
            .is_some_and(|n| n.due(since, newer, day).is_some_and(|at| at <= now))
    }

    pub(crate) fn aborts(&self, name: &str, started: Timestamp, day: Day) -> Option<Timestamp> {
        let days = self.abort_days.filter(|_| self.enabled && self.filter.is_for(name, 0))?;
        Some(day.after(started, days))
    }
}

/// When an object goes that is the latest version, and by which rule.
pub(crate) fn expiry<'a>(
    rules: &'a [LifecycleRule],
    name: &str,
    meta: &ObjectMeta,
    day: Day,
) -> Option<(Timestamp, &'a str)> {
    let size = meta.large.as_ref().map_or(meta.size, |l| l.size);
    let fits = |r: &&LifecycleRule| r.filter.is_for(name, size) && r.filter.has_tags(&meta.tags);
    let due = |r: &'a LifecycleRule| Some((r.expires(meta.modified.0, day)?, r.id.as_str()));
    rules.iter().filter(fits).filter_map(due).min()
}

/// Which rules let `versions[n]` of a name go, but for their tags. The versions are in the order of the listing;
/// `latest` tells whether the first of them is the latest.
pub(crate) fn due<'a>(
    rules: &'a [LifecycleRule],
    name: &str,
    versions: &[Entry],
    n: usize,
    latest: bool,
    now: Timestamp,
    day: Day,
) -> Vec<&'a LifecycleRule> {
    let e = &versions[n];
    let for_it = rules.iter().filter(|r| r.filter.is_for(name, e.shown_size()));
    let (since, newer) = standing(versions, n, latest);
    if n == 0 && latest {
        return match e.marker {
            false => {
                let due = |r: &&LifecycleRule| r.expires(e.modified(), day).is_some_and(|at| at <= now);
                for_it.filter(due).collect()
            }
            true if versions.len() == 1 => {
                for_it.filter(|r| r.clears_marker(e.modified(), now, day)).collect()
            }
            true => Vec::new(),
        };
    }
    for_it.filter(|r| r.drops(since, newer, now, day)).collect()
}

/// Since when `versions[n]` has not been the latest, and how many there are between it and the latest.
fn standing(versions: &[Entry], n: usize, latest: bool) -> (Timestamp, u32) {
    let own = versions[n].modified();
    // It stopped being the latest when the one before it in the list was written.
    let since = n.checked_sub(1).map_or(own, |before| versions[before].modified().max(own));
    (since, u32::try_from(n.saturating_sub(usize::from(latest))).unwrap_or(u32::MAX))
}

/// The storage classes that `versions[n]` of a name is to be in, by rules that are for it but for their tags: the one
/// whose time came last is first.
pub(crate) fn moves<'a>(
    rules: &'a [LifecycleRule],
    name: &str,
    versions: &[Entry],
    n: usize,
    latest: bool,
    now: Timestamp,
    day: Day,
) -> Vec<(&'a LifecycleRule, &'a str)> {
    let e = &versions[n];
    if e.marker {
        return Vec::new();
    }
    let (since, newer) = standing(versions, n, latest);
    let mut due: Vec<(Timestamp, &LifecycleRule, &str)> = Vec::new();
    for rule in rules.iter().filter(|r| r.enabled && r.filter.is_for(name, e.shown_size())) {
        match n == 0 && latest {
            true => due.extend(rule.transitions.iter().map(|t| {
                let at = match t.when {
                    When::Days(days) => day.after(e.modified(), days),
                    When::Date(at) => Timestamp(at),
                };
                (at, rule, t.class.as_str())
            })),
            false => due.extend(
                rule.noncurrent_transitions
                    .iter()
                    .filter_map(|t| Some((t.after.due(since, newer, day)?, rule, t.class.as_str()))),
            ),
        }
    }
    due.retain(|(at, _, _)| *at <= now);
    due.sort_by_key(|(at, _, _)| std::cmp::Reverse(*at));
    due.into_iter().map(|(_, rule, class)| (rule, class)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Day = Day(86_400);

    fn days(n: i64) -> Timestamp {
        Timestamp(n * 86_400_000_000)
    }

    fn rule() -> LifecycleRule {
        LifecycleRule { id: "r".into(), enabled: true, ..LifecycleRule::default() }
    }

    #[test]
    fn a_day_ends_at_midnight() {
        assert_eq!(DAY.after(days(3), 1), days(4));
        assert_eq!(DAY.after(Timestamp(days(3).0 + 1), 1), days(5));
        assert_eq!(Day(10).after(Timestamp(12_000_000), 2), Timestamp(40_000_000));
    }

    #[test]
    fn filters() {
        let f = Filter {
            prefix: Some("log/".into()),
            tags: vec![("a".into(), "1".into())],
            larger: Some(10),
            smaller: Some(20),
            ..Filter::default()
        };
        assert!(f.is_for("log/x", 11) && !f.is_for("log/x", 10) && !f.is_for("log/x", 20));
        assert!(!f.is_for("x", 11) && Filter::default().is_for("", 0));
        assert!(f.has_tags(&[("b".into(), "2".into()), ("a".into(), "1".into())]));
        assert!(!f.has_tags(&[("a".into(), "2".into())]));
    }

    #[test]
    fn what_is_due_of_a_name() {
        let at = |n, marker| Entry { modified: days(n).0, marker, ..Entry::default() };
        let versions = [at(9, false), at(7, true), at(5, false), at(1, false)];
        let due = |rule: LifecycleRule, n: usize, now: i64| {
            !due(&[rule], "k", &versions, n, true, days(now), DAY).is_empty()
        };
        let expire = LifecycleRule { expiration: Some(Expiration::Days(2)), ..rule() };
        assert!(due(expire.clone(), 0, 11) && !due(expire.clone(), 0, 10));
        assert!((1..4).all(|n| !due(expire.clone(), n, 99)));
        let drop = LifecycleRule { noncurrent: Some(Noncurrent { days: 3, keep: 0 }), ..rule() };
        assert!(due(drop.clone(), 1, 12) && !due(drop.clone(), 1, 11));
        assert!(due(drop.clone(), 2, 10) && !due(drop.clone(), 2, 9));
        assert!(!due(drop.clone(), 0, 99));
        let keep = LifecycleRule { noncurrent: Some(Noncurrent { days: 1, keep: 2 }), ..rule() };
        assert!(!due(keep.clone(), 1, 99) && !due(keep.clone(), 2, 99) && due(keep.clone(), 3, 99));
        assert!(!due(LifecycleRule { enabled: false, ..expire }, 0, 99));
    }

    #[test]
    fn the_class_whose_time_came_last_is_the_one_to_be_in() {
        let at = |n| Entry { modified: days(n).0, ..Entry::default() };
        let versions = [at(9), at(5), at(1)];
        let to = |days, class: &str| Transition { when: When::Days(days), class: class.into() };
        let old = |days, keep, class: &str| NoncurrentTransition {
            after: Noncurrent { days, keep },
            class: class.into(),
        };
        let rules = [LifecycleRule {
            transitions: vec![to(10, "COLD"), to(2, "WARM")],
            noncurrent_transitions: vec![old(1, 0, "WARM"), old(3, 1, "COLD")],
            ..rule()
        }];
        let class = |n: usize, now: i64| {
            let moves = moves(&rules, "k", &versions, n, true, days(now), DAY);
            moves.first().map(|(_, class)| (*class).to_owned())
        };
        assert_eq!(
            [class(0, 10), class(0, 11), class(0, 19)].map(Option::unwrap_or_default),
            ["", "WARM", "COLD"]
        );
        assert_eq!(
            [class(1, 9), class(1, 10), class(1, 99)].map(Option::unwrap_or_default),
            ["", "WARM", "WARM"]
        );
        assert_eq!([class(2, 6), class(2, 8)].map(Option::unwrap_or_default), ["WARM", "COLD"]);
    }

    #[test]
    fn small_objects_move_where_they_may() {
        let moves = |small: SmallMoves, filter: &Filter, class: &str| {
            [0, LARGE - 1, LARGE].map(|size| small.admit(filter, class, size))
        };
        let (any, sized) = (Filter::default(), Filter { smaller: Some(9), ..Filter::default() });
        let (from_large, all) = ([false, false, true], [true; 3]);
        assert_eq!(moves(SmallMoves::None, &any, "GLACIER"), from_large);
        assert_eq!(moves(SmallMoves::Archives, &any, "STANDARD_IA"), from_large);
        assert_eq!(moves(SmallMoves::Archives, &any, "GLACIER"), all);
        assert_eq!(moves(SmallMoves::Archives, &any, "DEEP_ARCHIVE"), all);
        assert_eq!(moves(SmallMoves::None, &sized, "STANDARD_IA"), all);
        assert_eq!(moves(SmallMoves::None, &Filter { larger: Some(0), ..any }, "GLACIER"), all);
    }

    #[test]
    fn markers_that_hide_nothing() {
        let marker = Entry { modified: days(1).0, marker: true, ..Entry::default() };
        let due =
            |rule, versions: &[Entry], now| !due(&[rule], "k", versions, 0, true, days(now), DAY).is_empty();
        let only = LifecycleRule { expiration: Some(Expiration::MarkersOnly), ..rule() };
        assert!(due(only.clone(), std::slice::from_ref(&marker), 1));
        assert!(!due(only, &[marker.clone(), Entry::default()], 1));
        let in_time = LifecycleRule { expiration: Some(Expiration::Days(3)), ..rule() };
        assert!(due(in_time.clone(), std::slice::from_ref(&marker), 4) && !due(in_time, &[marker], 3));
    }

    #[test]
    fn the_earliest_rule_is_told() {
        let a = LifecycleRule { expiration: Some(Expiration::Days(9)), ..rule() };
        let b = LifecycleRule { id: "b".into(), expiration: Some(Expiration::Date(days(5).0)), ..rule() };
        let meta = ObjectMeta::default();
        assert_eq!(expiry(&[a.clone(), b], "k", &meta, DAY), Some((days(5), "b")));
        let tagged = Filter { tags: vec![("a".into(), "1".into())], ..Filter::default() };
        assert_eq!(expiry(&[LifecycleRule { filter: tagged, ..a }], "k", &meta, DAY), None);
    }
}
