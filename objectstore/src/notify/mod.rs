//! Event notifications: who wants to hear of what happens in a container, and what they are told.
//!
//! An event is a row of the index shard, written in the very operation that lists or removes the object: it costs a
//! write nothing but its bytes, and is there if and only if the write was acknowledged. [`deliver`] takes the rows to
//! their topics' addresses and removes those that were taken: an event arrives at least once, also when a process dies
//! in between.
//!
//! Topics are managed as over SNS, with `push-endpoint` as an attribute: [`topic`], `http/s3/sns.rs`.

mod deliver;
mod record;
pub(crate) mod topic;
mod webhook;

pub(crate) use deliver::{Deliverer, ORPHANS};
pub use topic::Topic;

use crate::cause::{self, Cause, Doing};
use crate::container::Container;
use crate::index::entry::{self, Entry};
use crate::index::{Change, VersionChange};
use crate::names::Tag;
use bytes::Bytes;
use record::Event;
use serde::{Deserialize, Serialize};
use state::Timestamp;

/// The events that may be asked for, as S3 names them behind `s3:`.
pub(crate) const EVENTS: [&str; 12] = [
    PUT,
    POST,
    COPY,
    COMPLETE,
    DELETED,
    MARKED,
    "ObjectTagging:Put",
    "ObjectTagging:Delete",
    "ObjectAcl:Put",
    "LifecycleExpiration:Delete",
    "LifecycleExpiration:DeleteMarkerCreated",
    "LifecycleTransition",
];
pub(crate) const PUT: &str = "ObjectCreated:Put";
pub(crate) const POST: &str = "ObjectCreated:Post";
pub(crate) const COPY: &str = "ObjectCreated:Copy";
pub(crate) const COMPLETE: &str = "ObjectCreated:CompleteMultipartUpload";
const DELETED: &str = "ObjectRemoved:Delete";
const MARKED: &str = "ObjectRemoved:DeleteMarkerCreated";

/// A container's wish to tell a topic of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    pub id: String,
    pub topic: Topic,
    /// `s3:ObjectCreated:*` and the like; none is all.
    pub events: Vec<String>,
    pub prefix: Option<String>,
    pub suffix: Option<String>,
}

impl Notification {
    fn wants(&self, event: &str, key: &str) -> bool {
        let asked = |pattern: &str| {
            let pattern = pattern.strip_prefix("s3:").unwrap_or(pattern);
            pattern == event || pattern.strip_suffix('*').is_some_and(|start| event.starts_with(start))
        };
        (self.events.is_empty() || self.events.iter().any(|e| asked(e)))
            && self.prefix.as_deref().is_none_or(|p| key.starts_with(p))
            && self.suffix.as_deref().is_none_or(|s| key.ends_with(s))
    }
}

/// Whether an event, or a family of them (`s3:ObjectCreated:*`), is one that can be asked for.
pub(crate) fn is_event(name: &str) -> bool {
    let Some(name) = name.strip_prefix("s3:") else { return false };
    EVENTS.contains(&name)
        || name
            .strip_suffix(":*")
            .is_some_and(|family| EVENTS.iter().any(|e| e.split_once(':').is_some_and(|(f, _)| f == family)))
}

/// A change with the rows that tell of it, for those who want to hear.
pub(crate) fn told(container: &Container, change: Change) -> Change {
    if container.info.notifications.is_empty() {
        return change;
    }
    let Some(cause) = cause::current() else { return change };
    let Some((event, name, entry)) = happens(&cause, &change) else { return change };
    let now = Timestamp::now();
    let rows: Vec<(String, Bytes)> = container
        .info
        .notifications
        .iter()
        .filter(|n| n.wants(event, name))
        .filter_map(|n| {
            let event = Event::of(container, n, event, name, entry, &cause, now);
            Some((entry::event_key(Tag::new()), Bytes::from(serde_json::to_vec(&event).ok()?)))
        })
        .collect();
    match rows.is_empty() {
        true => change,
        false => Change::Told(Box::new(change), rows),
    }
}

/// The event that a change is, the object's name, and what the index says of the version that it is about.
fn happens<'a>(cause: &Cause, change: &'a Change) -> Option<(&'static str, &'a str, Option<&'a Entry>)> {
    let aging = cause.doing == Doing::Age;
    let written = |upload: bool| match cause.doing {
        _ if upload => Some(COMPLETE),
        Doing::Write(event) | Doing::Change(event) => Some(event),
        Doing::Delete => Some(COPY), // what was kept is put back
        Doing::Age => Some("LifecycleTransition"),
    };
    let removed = if aging { "LifecycleExpiration:Delete" } else { DELETED };
    let marked = if aging { "LifecycleExpiration:DeleteMarkerCreated" } else { MARKED };
    match change {
        Change::Put { name, entry, upload } => Some((written(upload.is_some())?, name, Some(entry))),
        Change::Delete { name, .. } => Some((removed, name, None)),
        Change::Versions(change) => {
            let VersionChange { name, head, behind, gone, moved, upload, .. } = &**change;
            let newer = |head: &&Entry| gone.iter().all(|g| head.order() > g.order());
            if let Some((moved, _)) = moved {
                return Some((written(false)?, name, Some(moved)));
            }
            match head.as_ref().filter(newer) {
                Some(head) if head.marker => Some((marked, name, Some(head))),
                Some(head) => Some((written(upload.is_some())?, name, Some(head))),
                None => Some((removed, name, gone.first().or(behind.first()))),
            }
        }
        Change::Rows { .. } | Change::Told(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_asked_for() {
        for good in ["s3:ObjectCreated:*", "s3:ObjectCreated:Put", "s3:LifecycleTransition", "s3:ObjectAcl:*"]
        {
            assert!(is_event(good), "{good}");
        }
        for bad in
            ["ObjectCreated:Put", "s3:*", "s3:ObjectCreated", "s3:Object*", "s3:ObjectRestore:*", "s3::*", ""]
        {
            assert!(!is_event(bad), "{bad}");
        }
    }

    #[test]
    fn who_wants_what() {
        let wish = |events: &[&str]| Notification {
            id: "n".into(),
            topic: Topic { region: "r".into(), project: "p".into(), name: "t".into() },
            events: events.iter().map(|e| (*e).to_owned()).collect(),
            prefix: Some("a/".into()),
            suffix: Some(".jpg".into()),
        };
        let n = wish(&["s3:ObjectCreated:*"]);
        assert!(n.wants(PUT, "a/b.jpg") && n.wants(COMPLETE, "a/.jpg"));
        assert!(!n.wants(PUT, "b/a.jpg") && !n.wants(PUT, "a/b.png") && !n.wants(DELETED, "a/b.jpg"));
        assert!(!wish(&["s3:ObjectRemoved:Delete"]).wants(MARKED, "a/b.jpg"));
        assert!(wish(&[]).wants(MARKED, "a/b.jpg"));
    }

    #[test]
    fn a_change_is_an_event() {
        let cause =
            |doing| Cause { doing, who: String::new(), source: None, request_id: String::new(), at: None };
        let at = |micros, marker| Entry { modified: micros, marker, ..Entry::default() };
        let versions = |head: Option<Entry>, gone: Vec<Entry>| {
            let change =
                VersionChange { name: "k".into(), written: 1, head, gone, ..VersionChange::default() };
            Change::Versions(Box::new(change))
        };
        let event = |doing, change: &Change| happens(&cause(doing), change).map(|(e, _, _)| e);
        let put = |upload| Change::Put { name: "k".into(), entry: at(1, false), upload };
        assert_eq!(event(Doing::Write(PUT), &put(None)), Some(PUT));
        assert_eq!(event(Doing::Write(PUT), &put(Some(Tag::new()))), Some(COMPLETE));
        assert_eq!(event(Doing::Age, &put(None)), Some("LifecycleTransition"));
        let delete = Change::Delete { name: "k".into(), version: 1 };
        assert_eq!(event(Doing::Delete, &delete), Some(DELETED));
        assert_eq!(event(Doing::Age, &delete), Some("LifecycleExpiration:Delete"));
        // A null version that a newer one replaces, a marker that comes, and one that comes to the front again.
        assert_eq!(event(Doing::Write(COPY), &versions(Some(at(2, false)), vec![at(1, false)])), Some(COPY));
        assert_eq!(event(Doing::Delete, &versions(Some(at(2, true)), vec![at(1, false)])), Some(MARKED));
        assert_eq!(event(Doing::Delete, &versions(Some(at(1, true)), vec![at(2, false)])), Some(DELETED));
        assert_eq!(event(Doing::Delete, &versions(None, vec![at(2, false)])), Some(DELETED));
    }
}
