//! Storage classes on a real cluster: content lies in the tier of its class, and moves there without becoming another.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use objectstore::index::{VersionItem, VersionQuery};
use objectstore::*;
use state::Timestamp;
use state::failpoint::{self, Action};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Failpoints are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

fn config() -> Config {
    let small = Config { head_bytes: 4096, stripe_bytes: 65_536, piece_bytes: 65_536, ..common::config() };
    let limits = Limits { min_part_size: 1, ..Limits::default() };
    Config { garbage_grace_s: 0, abandoned_s: 0, limits, ..small }
}

/// A container whose latest versions go to the cold tier after a day, and older ones after another.
async fn aging(room: &Room, versioning: Versioning) -> Arc<Container> {
    room.container("aging").await;
    let rules = vec![LifecycleRule {
        id: "cold".into(),
        enabled: true,
        transitions: vec![Transition { when: When::Days(1), class: "GLACIER".into() }],
        noncurrent_transitions: vec![NoncurrentTransition {
            after: Noncurrent { days: 2, keep: 0 },
            class: "GLACIER".into(),
        }],
        ..LifecycleRule::default()
    }];
    let rule = |info: &mut ContainerInfo| {
        info.versioning = versioning;
        info.lifecycle.clone_from(&rules);
        info.small_moves = SmallMoves::Archives;
        Ok(())
    };
    room.store.change_container(&room.access, "p", "aging", &rule).await.unwrap();
    room.store.container(&room.access, "p", "aging", Need::Read).await.unwrap()
}

fn in_days(days: i64) -> Timestamp {
    Timestamp(Timestamp::now().micros() + days * 86_400_000_000)
}

async fn put_in(room: &Room, c: &Arc<Container>, name: &str, data: Vec<u8>, class: &str) -> Written {
    let policy = Some(room.store.policies().of_class(&c.policy, class).unwrap());
    let new = NewObject { name: name.into(), policy, ..NewObject::default() };
    room.store.put_object(c, new, Body::of(data), Condition::Always).await.unwrap()
}

async fn multipart(room: &Room, c: &Arc<Container>, name: &str, class: &str) -> Vec<u8> {
    let s = &room.store;
    let policy = Some(s.policies().of_class(&c.policy, class).unwrap());
    let new = NewObject { name: name.into(), policy, ..NewObject::default() };
    let id = s.begin_upload(c, new, None, false).await.unwrap();
    let (mut all, mut named) = (Vec::new(), Vec::new());
    for number in 1..=3 {
        let data = noise(50_000 * number as usize, u64::from(number));
        all.extend_from_slice(&data);
        let part = s.put_part(c, name, id, number, Body::of(data)).await.unwrap();
        named.push(NamedPart { number, etag: part.etag, checksum: None });
    }
    s.complete_upload(c, name, id, named, Condition::Always).await.unwrap();
    all
}

async fn tails(room: &Room, tier: &str) -> usize {
    everything_in(room, tier).await.iter().filter(|o| o.starts_with("t.")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_lies_in_the_tier_of_its_class() {
    let _alone = ALONE.lock().await;
    let room = Room::with(config()).await;
    let (s, c) = (&room.store, room.container("classes").await);
    put_in(&room, &c, "empty", Vec::new(), "GLACIER").await;
    put_in(&room, &c, "small", noise(100, 1), "GLACIER").await;
    put_in(&room, &c, "large", noise(200_000, 2), "GLACIER").await;
    put_in(&room, &c, "usual", noise(200_000, 3), "STANDARD").await;
    let parts = multipart(&room, &c, "parts", "GLACIER").await;
    assert_eq!((tails(&room, "objects").await, tails(&room, "cold").await), (4, 1 + 4 + 1 + 2 + 3));
    let other = room.another(config()).await;
    for (name, data) in
        [("empty", Vec::new()), ("small", noise(100, 1)), ("large", noise(200_000, 2)), ("parts", parts)]
    {
        assert!(get(&other, &c, name).await.unwrap() == data, "{name}");
    }
    // One that is replaced by one of another class, and one that is deleted, leave nothing.
    put_in(&room, &c, "large", noise(10, 4), "STANDARD").await;
    for name in ["parts", "small", "empty", "usual"] {
        s.delete_object(&c, name, Condition::Always).await.unwrap();
    }
    s.sweep_once().await.unwrap();
    s.sweep_once().await.unwrap();
    assert_eq!(everything(&room).await.len(), 1);
    assert!(everything_in(&room, "cold").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_given_up_leaves_nothing_in_its_class() {
    let _alone = ALONE.lock().await;
    let room = Room::with(config()).await;
    let (s, c) = (&room.store, room.container("given-up").await);
    let policy = Some(s.policies().of_class(&c.policy, "GLACIER").unwrap());
    let new = NewObject { name: "n".into(), policy, ..NewObject::default() };
    let id = s.begin_upload(&c, new, None, false).await.unwrap();
    for seed in 0..2 {
        s.put_part(&c, "n", id, 1, Body::of(noise(100_000, seed))).await.unwrap();
    }
    assert_eq!(tails(&room, "cold").await, 4);
    s.abort_upload(&c, "n", id).await.unwrap();
    s.sweep_once().await.unwrap();
    assert!(everything_in(&room, "cold").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_moves_and_the_object_stays_what_it_is() {
    let _alone = ALONE.lock().await;
    let room = Room::with(config()).await;
    let (s, c) = (&room.store, aging(&room, Versioning::Unset).await);
    put(s, &c, "small", noise(100, 1)).await;
    put(s, &c, "large", noise(200_000, 2)).await;
    let parts = multipart(&room, &c, "parts", "STANDARD").await;
    let sealed = NewObject { name: "sealed".into(), seal: Some(SealWith::Root), ..NewObject::default() };
    s.put_object(&c, sealed, Body::of(noise(150_000, 9)), Condition::Always).await.unwrap();
    let before = s.open_object(&c, "parts", 0).await.unwrap().meta;
    s.lifecycle_once(Timestamp::now()).await.unwrap();
    assert_eq!(tails(&room, "cold").await, 0);
    s.lifecycle_once(in_days(2)).await.unwrap();
    assert_eq!(tails(&room, "cold").await, 1 + 4 + 6 + 3);
    s.sweep_once().await.unwrap();
    assert_eq!(tails(&room, "objects").await, 0);
    let other = room.another(config()).await;
    for (name, data) in [
        ("small", noise(100, 1)),
        ("large", noise(200_000, 2)),
        ("parts", parts),
        ("sealed", noise(150_000, 9)),
    ] {
        assert!(get(&other, &c, name).await.unwrap() == data, "{name}");
    }
    let after = s.open_object(&c, "parts", 0).await.unwrap();
    assert_eq!(s.parts(&after).await.unwrap().len(), 3);
    let after = after.meta;
    assert_eq!((&after.etag, after.modified, after.parts), (&before.etag, before.modified, before.parts));
    assert_eq!(s.counts(&c).await.unwrap(), Counts { objects: 4, bytes: 100 + 200_000 + 300_000 + 150_000 });
    // A second time there is nothing to do.
    let all = everything_in(&room, "cold").await;
    s.lifecycle_once(in_days(3)).await.unwrap();
    assert_eq!(everything_in(&room, "cold").await, all);
    for name in ["small", "large", "parts", "sealed"] {
        s.delete_object(&c, name, Condition::Always).await.unwrap();
    }
    s.sweep_once().await.unwrap();
    s.sweep_once().await.unwrap();
    assert!(everything(&room).await.is_empty() && everything_in(&room, "cold").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_small_stays() {
    let _alone = ALONE.lock().await;
    let room = Room::with(config()).await;
    let (s, c) = (&room.store, aging(&room, Versioning::Unset).await);
    let usual = |info: &mut ContainerInfo| {
        info.small_moves = SmallMoves::None;
        let filter = Filter { prefix: Some("any".into()), larger: Some(50), ..Filter::default() };
        let sized = LifecycleRule { id: "any".into(), filter, ..info.lifecycle[0].clone() };
        info.lifecycle.push(sized);
        Ok(())
    };
    s.change_container(&room.access, "p", "aging", &usual).await.unwrap();
    for (name, size) in [("small", (128 << 10) - 1), ("large", 128 << 10), ("any-50", 50), ("any-51", 51)] {
        put(s, &c, name, noise(size, 1)).await;
    }
    s.lifecycle_once(in_days(3)).await.unwrap();
    assert_eq!(tails(&room, "cold").await, 3);
    for name in ["any-51", "large"] {
        s.delete_object(&c, name, Condition::Always).await.unwrap();
    }
    s.sweep_once().await.unwrap();
    s.sweep_once().await.unwrap();
    assert!(everything_in(&room, "cold").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_move_in_turn() {
    let _alone = ALONE.lock().await;
    let room = Room::with(config()).await;
    let (s, c) = (&room.store, aging(&room, Versioning::Enabled).await);
    let mut ids = Vec::new();
    for seed in 1..=3 {
        let new = NewObject { name: "k".into(), ..NewObject::default() };
        let data = noise(100_000 * seed as usize, seed);
        ids.push(s.put_object(&c, new, Body::of(data), Condition::Always).await.unwrap().version.unwrap());
    }
    let other = multipart(&room, &c, "parts", "STANDARD").await;
    put(s, &c, "parts", "x").await;
    s.lifecycle_once(in_days(1)).await.unwrap();
    s.lifecycle_once(in_days(4)).await.unwrap();
    assert_eq!(tails(&room, "cold").await, 2 + 4 + 5 + 6 + 1);
    let page = s.list_versions(&c, &VersionQuery { limit: 10, ..VersionQuery::default() }).await.unwrap();
    assert_eq!(page.items.len(), 5);
    s.sweep_once().await.unwrap();
    assert_eq!(tails(&room, "objects").await, 0);
    let read = async |name: &str, id| {
        use futures::TryStreamExt;
        let object = s.open_version(&c, name, id, 0).await.unwrap();
        let span = Span { start: 0, end: object.meta.size };
        let parts: Vec<bytes::Bytes> =
            s.source(object).await.unwrap().stream(span).try_collect().await.unwrap();
        parts.concat()
    };
    for (n, id) in ids.iter().enumerate() {
        assert!(read("k", *id).await == noise(100_000 * (n + 1), n as u64 + 1), "{n}");
    }
    let VersionItem::Version { entry, .. } = page.items.last().unwrap() else { panic!() };
    assert!(read("parts", entry.id()).await == other);
    // What moved behind the head comes to the front again, and all of it goes in the end.
    let promote = DeleteVersion { promote: true, ..DeleteVersion::default() };
    s.delete_version(&c, "k", ids[2], promote.clone()).await.unwrap();
    assert!(get(s, &c, "k").await.unwrap() == noise(200_000, 2));
    s.reconcile().await.unwrap();
    for item in page.items {
        let VersionItem::Version { name, entry, .. } = item else { panic!() };
        match s.delete_version(&c, &name, entry.id(), promote.clone()).await {
            Ok(_) | Err(ObjectError::NoSuchVersion) => {}
            Err(e) => panic!("{e}"),
        }
    }
    s.sweep_once().await.unwrap();
    s.sweep_once().await.unwrap();
    assert!(everything(&room).await.is_empty() && everything_in(&room, "cold").await.is_empty());
    s.delete_container(&room.access, "p", "aging").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_cut_short_loses_nothing() {
    let _alone = ALONE.lock().await;
    for point in ["object.move:head:before", "object.move:index:before"] {
        for versioning in [Versioning::Unset, Versioning::Enabled] {
            let room = Room::with(config()).await;
            let (s, c) = (&room.store, aging(&room, versioning).await);
            put(s, &c, "plain", noise(200_000, 2)).await;
            let parts = multipart(&room, &c, "zz", "STANDARD").await;
            failpoint::set(point, Action::Fail);
            assert!(s.lifecycle_once(in_days(2)).await.is_err());
            failpoint::clear(point);
            // Another process takes up, and carries the rule out.
            let next = room.another(config()).await;
            next.reconcile().await.unwrap();
            next.sweep_once().await.unwrap();
            next.lifecycle_once(in_days(2)).await.unwrap();
            next.sweep_once().await.unwrap();
            assert_eq!((tails(&room, "objects").await, tails(&room, "cold").await), (0, 4 + 6), "{point}");
            assert!(get(&next, &c, "plain").await.unwrap() == noise(200_000, 2));
            assert!(get(&next, &c, "zz").await.unwrap() == parts);
        }
    }
}
