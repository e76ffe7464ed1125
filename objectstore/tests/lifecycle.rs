//! Lifecycle rules on a real cluster, by a clock that the tests set.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use index::{VersionItem, VersionQuery};
use objectstore::*;
use state::Timestamp;
use std::sync::Arc;

async fn with_rules(
    room: &Room,
    name: &str,
    versioning: Versioning,
    rules: Vec<LifecycleRule>,
) -> Arc<Container> {
    room.container(name).await;
    let rule = |info: &mut ContainerInfo| {
        info.versioning = versioning;
        info.lifecycle.clone_from(&rules);
        Ok(())
    };
    room.store.change_container(&room.access, "p", name, &rule).await.unwrap();
    room.store.container(&room.access, "p", name, Need::Read).await.unwrap()
}

fn rule(id: &str) -> LifecycleRule {
    LifecycleRule { id: id.into(), enabled: true, ..LifecycleRule::default() }
}

fn in_days(days: i64) -> Timestamp {
    Timestamp(Timestamp::now().micros() + days * 86_400_000_000)
}

/// The versions of a container: name, and whether each is a delete marker.
async fn versions(s: &ObjectStore, c: &Container) -> Vec<(String, bool)> {
    let query = VersionQuery { limit: 1000, ..VersionQuery::default() };
    let page = s.list_versions(c, &query).await.unwrap();
    let line = |item| match item {
        VersionItem::Version { name, entry, .. } => (name, entry.marker),
        VersionItem::Prefix(name) => panic!("{name}"),
    };
    page.items.into_iter().map(line).collect()
}

async fn tagged(s: &ObjectStore, c: &Arc<Container>, name: &str, tag: &str, size: usize) {
    let tags = vec![("keep".to_owned(), tag.to_owned())];
    let new = NewObject { name: name.into(), tags, ..NewObject::default() };
    s.put_object(c, new, Body::of(noise(size, 1)), Condition::Always).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_expire_by_prefix_size_and_tag() {
    let room = Room::new().await;
    let s = &room.store;
    let expiring = |id: &str, days, filter| LifecycleRule {
        expiration: Some(Expiration::Days(days)),
        filter,
        ..rule(id)
    };
    let prefix = Filter { prefix: Some("log/".into()), ..Filter::default() };
    let no = Filter { tags: vec![("keep".into(), "no".into())], larger: Some(10), ..Filter::default() };
    let disabled = LifecycleRule { enabled: false, ..expiring("off", 1, Filter::default()) };
    let rules = vec![expiring("a", 3, prefix), expiring("b", 5, no), disabled];
    let c = with_rules(&room, "expire", Versioning::Unset, rules).await;
    for (name, tag, size) in
        [("log/1", "x", 5), ("log/2", "x", 5), ("large", "no", 11), ("small", "no", 10), ("kept", "yes", 11)]
    {
        tagged(s, &c, name, tag, size).await;
    }
    s.lifecycle_once(in_days(2)).await.unwrap();
    assert_eq!(names(s, &c).await.len(), 5);
    s.lifecycle_once(in_days(4)).await.unwrap();
    assert_eq!(names(s, &c).await, ["kept", "large", "small"]);
    s.lifecycle_once(in_days(6)).await.unwrap();
    assert_eq!(names(s, &c).await, ["kept", "small"]);
    s.lifecycle_once(in_days(999)).await.unwrap();
    assert_eq!(names(s, &c).await, ["kept", "small"]);
    assert_eq!(s.counts(&c).await.unwrap(), Counts { objects: 2, bytes: 21 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_expire_in_turn() {
    let room = Room::with(Config { index_shards: 2, ..config() }).await;
    let s = &room.store;
    let rules = vec![LifecycleRule {
        expiration: Some(Expiration::Days(10)),
        noncurrent: Some(Noncurrent { days: 2, keep: 1 }),
        ..rule("r")
    }];
    let c = with_rules(&room, "versions", Versioning::Enabled, rules).await;
    for _ in 0..4 {
        put(s, &c, "k", "x").await;
    }
    put(s, &c, "other", "x").await;
    // One of the older ones is kept by number, the other two go.
    s.lifecycle_once(in_days(1)).await.unwrap();
    assert_eq!(versions(s, &c).await.len(), 5);
    s.lifecycle_once(in_days(4)).await.unwrap();
    assert_eq!(versions(s, &c).await.len(), 3);
    assert_eq!(get(s, &c, "k").await.unwrap(), "x");
    // The latest expire: delete markers.
    s.lifecycle_once(in_days(12)).await.unwrap();
    assert!(names(s, &c).await.is_empty());
    let after = versions(s, &c).await;
    let markers = after.iter().filter(|(_, marker)| *marker).count();
    assert_eq!(markers, 2, "{after:?}");
    // What they hide goes, one kept by number; a marker that hides nothing goes too.
    let rules = vec![LifecycleRule {
        expiration: Some(Expiration::MarkersOnly),
        noncurrent: Some(Noncurrent { days: 1, keep: 0 }),
        ..rule("r")
    }];
    let rule = |info: &mut ContainerInfo| {
        info.lifecycle.clone_from(&rules);
        Ok(())
    };
    s.change_container(&room.access, "p", "versions", &rule).await.unwrap();
    s.lifecycle_once(in_days(40)).await.unwrap();
    s.lifecycle_once(in_days(40)).await.unwrap();
    assert_eq!(versions(s, &c).await, []);
    s.delete_container(&room.access, "p", "versions").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_stronger_than_a_rule() {
    let room = Room::new().await;
    let s = &room.store;
    let rules = vec![LifecycleRule {
        expiration: Some(Expiration::Days(1)),
        noncurrent: Some(Noncurrent { days: 1, keep: 0 }),
        ..rule("r")
    }];
    let c = with_rules(&room, "locked", Versioning::Enabled, rules).await;
    let lock = Lock { legal_hold: Some(true), ..Lock::default() };
    let new = NewObject { name: "k".into(), lock, ..NewObject::default() };
    let written = s.put_object(&c, new, Body::of("kept"), Condition::Always).await.unwrap();
    for _ in 0..3 {
        s.lifecycle_once(in_days(100)).await.unwrap();
    }
    assert_eq!(versions(s, &c).await, [("k".to_owned(), true), ("k".to_owned(), false)]);
    s.set_legal_hold(&c, "k", written.version, false).await.unwrap();
    for _ in 0..3 {
        s.lifecycle_once(in_days(100)).await.unwrap();
    }
    assert_eq!(versions(s, &c).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_uploads_go() {
    let room = Room::with(Config { garbage_grace_s: 0, ..config() }).await;
    let s = &room.store;
    let filter = Filter { prefix: Some("a".into()), ..Filter::default() };
    let rules = vec![LifecycleRule { abort_days: Some(3), filter, ..rule("r") }];
    let c = with_rules(&room, "uploads", Versioning::Unset, rules).await;
    for name in ["a1", "a2", "b"] {
        let new = NewObject { name: name.into(), ..NewObject::default() };
        let id = s.begin_upload(&c, new, None, false).await.unwrap();
        s.put_part(&c, name, id, 1, Body::of(noise(1000, 1))).await.unwrap();
    }
    let uploads = async || {
        let page = s.list_uploads(&c, &UploadQuery { limit: 10, ..UploadQuery::default() }).await.unwrap();
        page.uploads.into_iter().map(|u| u.name).collect::<Vec<_>>()
    };
    s.lifecycle_once(in_days(2)).await.unwrap();
    assert_eq!(uploads().await.len(), 3);
    s.lifecycle_once(in_days(4)).await.unwrap();
    assert_eq!(uploads().await, ["b"]);
    s.sweep_once().await.unwrap();
    assert_eq!(everything(&room).await.len(), 1);
}
