//! Versions on a real cluster: every acknowledged one is kept, whole, in order and counted, and one is the latest.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use index::{VersionItem, VersionQuery};
use objectstore::*;
use state::failpoint::{self, Action};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Failpoints are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn versioned(room: &Room, name: &str) -> Arc<Container> {
    room.container(name).await;
    set(room, name, Versioning::Enabled).await
}

async fn set(room: &Room, name: &str, versioning: Versioning) -> Arc<Container> {
    let rule = |info: &mut ContainerInfo| {
        info.versioning = versioning;
        Ok(())
    };
    room.store.change_container(&room.access, "p", name, &rule).await.unwrap();
    room.store.container(&room.access, "p", name, Need::Read).await.unwrap()
}

async fn put_version(s: &ObjectStore, c: &Arc<Container>, name: &str, data: Vec<u8>) -> VersionId {
    put(s, c, name, data).await.version.unwrap()
}

async fn get_version(
    s: &ObjectStore,
    c: &Arc<Container>,
    name: &str,
    id: VersionId,
) -> Result<Vec<u8>, ObjectError> {
    use futures::TryStreamExt;
    let object = s.open_version(c, name, id, s.first_read()).await?;
    let span = Span { start: 0, end: object.meta.size };
    let parts: Vec<bytes::Bytes> = s.source(object).await?.stream(span).try_collect().await?;
    Ok(parts.concat())
}

/// What a listing says of every version: (name, id, latest, marker), page by page.
async fn list(s: &ObjectStore, c: &Container, limit: usize) -> Vec<(String, VersionId, bool, bool)> {
    let mut query = VersionQuery { limit, ..VersionQuery::default() };
    let mut all = Vec::new();
    loop {
        let page = s.list_versions(c, &query).await.unwrap();
        for item in &page.items {
            let VersionItem::Version { name, entry, latest } = item else { panic!("a prefix") };
            all.push((name.clone(), entry.id(), *latest, entry.marker));
        }
        match page.items.last() {
            Some(VersionItem::Version { name, entry, .. }) if page.truncated => {
                (query.key_marker, query.version_marker) = (name.clone(), Some(entry.id()));
            }
            _ => return all,
        }
    }
}

async fn delete(s: &ObjectStore, c: &Arc<Container>, name: &str, id: VersionId) -> Deleted {
    let how = DeleteVersion { promote: true, ..DeleteVersion::default() };
    s.delete_version(c, name, id, how).await.unwrap()
}

fn small() -> Config {
    Config { head_bytes: 4096, stripe_bytes: 65536, piece_bytes: 65536, garbage_grace_s: 0, ..config() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_pile_up_are_read_and_go() {
    let _alone = ALONE.lock().await;
    let room = Room::with(Config { index_shards: 3, ..small() }).await;
    let s = &room.store;
    let c = room.container("v").await;
    put(s, &c, "k", noise(100_000, 1)).await; // before there were versions
    let c = set(&room, "v", Versioning::Enabled).await;
    let two = put_version(s, &c, "k", noise(3_000, 2)).await;
    let three = put_version(s, &c, "k", noise(200_000, 3)).await;
    let other = put_version(s, &c, "k\u{1}", noise(10, 4)).await;
    let marker = s.delete_object(&c, "k", Condition::Always).await.unwrap();
    assert!(marker.marker && marker.existed);
    assert!(matches!(get(s, &c, "k").await, Err(ObjectError::NoSuchObject)));
    let null = VersionId::Null;
    for (id, data) in [(null, noise(100_000, 1)), (two, noise(3_000, 2)), (three, noise(200_000, 3))] {
        assert_eq!(get_version(s, &c, "k", id).await.unwrap(), data, "{id}");
    }
    assert!(matches!(get_version(s, &c, "k", other).await, Err(ObjectError::NoSuchVersion)));
    let gone = marker.version.unwrap();
    let k = || "k".to_owned();
    let expected = vec![
        (k(), gone, true, true),
        (k(), three, false, false),
        (k(), two, false, false),
        (k(), null, false, false),
        ("k\u{1}".to_owned(), other, true, false),
    ];
    for limit in [1, 2, 100] {
        assert_eq!(list(s, &c, limit).await, expected, "{limit}");
    }
    assert_eq!(names(s, &c).await, ["k\u{1}"]);
    assert_eq!(s.counts(&c).await.unwrap(), Counts { objects: 1, bytes: 303_010 });
    // The marker goes, then the latest, then one in the middle: what is behind comes forward.
    assert!(delete(s, &c, "k", gone).await.marker);
    assert_eq!(get(s, &c, "k").await.unwrap(), noise(200_000, 3));
    assert!(!delete(s, &c, "k", three).await.marker);
    assert_eq!(get(s, &c, "k").await.unwrap(), noise(3_000, 2));
    assert!(matches!(get_version(s, &c, "k", three).await, Err(ObjectError::NoSuchVersion)));
    assert_eq!(get_version(s, &c, "k", null).await.unwrap(), noise(100_000, 1));
    delete(s, &c, "k", null).await;
    assert_eq!(list(s, &c, 100).await.len(), 2);
    let busy = s.delete_container(&room.access, "p", "v").await;
    assert!(matches!(busy, Err(ObjectError::NotEmpty)));
    delete(s, &c, "k", two).await;
    delete(s, &c, "k\u{1}", other).await;
    assert_eq!(s.counts(&c).await.unwrap(), Counts::default());
    s.sweep_once().await.unwrap();
    assert!(everything(&room).await.is_empty(), "{:?}", everything(&room).await);
    s.delete_container(&room.access, "p", "v").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_suspended_there_is_one_null_version() {
    let _alone = ALONE.lock().await;
    let room = Room::with(small()).await;
    let s = &room.store;
    let c = versioned(&room, "s").await;
    let one = put_version(s, &c, "k", noise(9_000, 1)).await;
    let c = set(&room, "s", Versioning::Suspended).await;
    assert_eq!(put_version(s, &c, "k", noise(9_000, 2)).await, VersionId::Null);
    assert_eq!(put_version(s, &c, "k", noise(9_000, 3)).await, VersionId::Null);
    assert_eq!(list(s, &c, 1).await.len(), 2);
    let c = set(&room, "s", Versioning::Enabled).await;
    let four = put_version(s, &c, "k", noise(9_000, 4)).await;
    let c = set(&room, "s", Versioning::Suspended).await;
    // The null version is not the head now; a marker takes its place all the same.
    let marker = s.delete_object(&c, "k", Condition::Always).await.unwrap();
    assert_eq!(marker.version, Some(VersionId::Null));
    let k = || "k".to_owned();
    let expected = [(k(), VersionId::Null, true, true), (k(), four, false, false), (k(), one, false, false)];
    assert_eq!(list(s, &c, 1).await, expected);
    assert_eq!(s.counts(&c).await.unwrap(), Counts { objects: 0, bytes: 18_000 });
    put_version(s, &c, "k", noise(9_000, 5)).await;
    assert_eq!(get(s, &c, "k").await.unwrap(), noise(9_000, 5));
    // Put back, then taken away again: nothing is lost by either.
    s.restore_version(&c, "k", one).await.unwrap();
    assert_eq!(get(s, &c, "k").await.unwrap(), noise(9_000, 1));
    assert_eq!(list(s, &c, 1).await.len(), 3);
    assert_eq!(list(s, &c, 100).await[0], (k(), one, true, false));
    s.sweep_once().await.unwrap();
    for (id, seed) in [(VersionId::Null, 5), (four, 4), (one, 1)] {
        assert_eq!(get_version(s, &c, "k", id).await.unwrap(), noise(9_000, seed), "{id}");
        delete(s, &c, "k", id).await;
    }
    s.sweep_once().await.unwrap();
    assert!(everything(&room).await.is_empty(), "{:?}", everything(&room).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_goes_on_when_its_version_is_replaced() {
    use futures::StreamExt;
    let _alone = ALONE.lock().await;
    let config = Config { read_bytes: 10_000, read_window: 1, first_read_bytes: 10_000, ..config() };
    let room = Room::with(config).await;
    let s = &room.store;
    let c = versioned(&room, "r").await;
    let data = noise(200_000, 1);
    let id = put_version(s, &c, "k", data.clone()).await;
    let object = s.open_object(&c, "k", s.first_read()).await.unwrap();
    let mut stream = Box::pin(s.source(object).await.unwrap().stream(Span { start: 0, end: 200_000 }));
    let mut got = Vec::new();
    let mut latest = id;
    for round in 0.. {
        match stream.next().await {
            Some(piece) => got.extend_from_slice(&piece.unwrap()),
            None => break,
        }
        // Replaced, and the latest again, in turn.
        match round % 2 {
            0 => latest = put_version(s, &c, "k", noise(9_000, round)).await,
            _ => drop(delete(s, &c, "k", latest).await),
        }
    }
    assert!(got == data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_whose_time_has_run_out_leaves_its_versions() {
    let _alone = ALONE.lock().await;
    let room = Room::with(small()).await;
    let (s, c) = (&room.store, versioned(&room, "due").await);
    let at = Some(state::Timestamp::now().secs() - 1);
    let lock = Lock { legal_hold: Some(true), ..Lock::default() };
    let mut ids = Vec::new();
    for (name, delete_at, lock) in [
        ("k", at, Lock::default()),
        ("k", None, Lock::default()),
        ("l", at, Lock::default()),
        ("held", at, lock),
    ] {
        let new = NewObject { name: name.into(), delete_at, lock, ..NewObject::default() };
        let put = s.put_object(&c, new, Body::of(noise(9_000, 1)), Condition::Always).await.unwrap();
        ids.push((name, put.version.unwrap()));
    }
    // The same before and after it is taken away: the object is gone, whatever holds it is not, and all versions are there.
    for _ in 0..3 {
        let listed = list(s, &c, 10).await;
        let latest: Vec<&str> = listed.iter().filter(|v| v.2).map(|v| v.0.as_str()).collect();
        assert_eq!((listed.len(), latest), (4, vec!["held", "k"]));
        assert_eq!(names(s, &c).await, ["held", "k"]);
        assert!(get(s, &c, "l").await.is_err());
        for (name, id) in &ids {
            assert!(get_version(s, &c, name, *id).await.unwrap() == noise(9_000, 1), "{name}");
        }
        s.sweep_once().await.unwrap();
    }
    delete(s, &c, "l", ids[2].1).await;
    let left = everything(&room).await;
    assert_eq!(left.iter().filter(|o| o.starts_with("h.") || o.starts_with("v.")).count(), 3, "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_versions_open_wherever_they_are() {
    let _alone = ALONE.lock().await;
    let room = Room::with(Config { head_bytes: 200_000, version_head_bytes: 200_000, ..small() }).await;
    let (s, c) = (&room.store, versioned(&room, "sealed").await);
    let mut ids = Vec::new();
    for (n, size) in [(0, 100), (1, 150_000), (2, 300_000)] {
        let new = NewObject { name: "k".into(), seal: Some(SealWith::Root), ..NewObject::default() };
        let written = s.put_object(&c, new, Body::of(noise(size, n)), Condition::Always).await.unwrap();
        ids.push((written.version.unwrap(), size, n));
    }
    while let Some((latest, ..)) = ids.last() {
        for (id, size, n) in &ids {
            assert!(get_version(s, &c, "k", *id).await.unwrap() == noise(*size, *n), "{size}");
        }
        delete(s, &c, "k", *latest).await;
        ids.pop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_versions_the_next_comes_forward() {
    let _alone = ALONE.lock().await;
    let room = Room::with(small()).await;
    let (s, c) = (&room.store, versioned(&room, "many").await);
    let mut ids = Vec::new();
    for n in 0..40 {
        ids.push(put_version(s, &c, "k", noise(10, n)).await);
    }
    while let Some(id) = ids.pop() {
        delete(s, &c, "k", id).await;
        let left = get(s, &c, "k").await.ok();
        assert_eq!(left, ids.len().checked_sub(1).map(|n| noise(10, n as u64).into()));
    }
    assert!(everything(&room).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_multipart_upload_makes_a_version() {
    let _alone = ALONE.lock().await;
    let room =
        Room::with(Config { limits: Limits { min_part_size: 1, ..Limits::default() }, ..small() }).await;
    let s = &room.store;
    let c = versioned(&room, "m").await;
    let mut ids = Vec::new();
    for seed in 1..3 {
        let new = NewObject { name: "big".into(), ..NewObject::default() };
        let id = s.begin_upload(&c, new, None, false).await.unwrap();
        let part = s.put_part(&c, "big", id, 1, Body::of(noise(100_000, seed))).await.unwrap();
        let named = vec![NamedPart { number: 1, etag: part.etag, checksum: None }];
        let written = s.complete_upload(&c, "big", id, named.clone(), Condition::Always).await.unwrap();
        ids.push((written.version.unwrap(), seed, id, named));
    }
    // Asked again, also when another version is the latest by now.
    for (version, seed, id, named) in &ids {
        let again = s.complete_upload(&c, "big", *id, named.clone(), Condition::Always).await.unwrap();
        assert_eq!(again.version, Some(*version));
        assert_eq!(get_version(s, &c, "big", *version).await.unwrap(), noise(100_000, *seed));
    }
    s.sweep_once().await.unwrap();
    for (version, seed, ..) in &ids {
        assert_eq!(get_version(s, &c, "big", *version).await.unwrap(), noise(100_000, *seed));
        delete(s, &c, "big", *version).await;
    }
    s.sweep_once().await.unwrap();
    assert!(everything(&room).await.is_empty());
}

/// Checks one container: the listing, the heads and what was acknowledged agree.
async fn check(s: &ObjectStore, c: &Arc<Container>, acked: &HashMap<(String, VersionId), Vec<u8>>) {
    let mut by_name: BTreeMap<String, Vec<(VersionId, bool, bool)>> = BTreeMap::new();
    let listed = list(s, c, 7).await;
    let mut bytes = 0;
    for (name, id, latest, marker) in &listed {
        by_name.entry(name.clone()).or_default().push((*id, *latest, *marker));
        if !marker {
            let data = get_version(s, c, name, *id).await.unwrap();
            bytes += data.len() as u64;
            if let Some(wanted) = acked.get(&(name.clone(), *id)) {
                assert_eq!(data, *wanted, "{name} {id}");
            }
        }
    }
    for (name, id) in acked.keys() {
        assert!(listed.iter().any(|(n, i, ..)| n == name && i == id), "{name} {id} is lost");
    }
    for (name, versions) in &by_name {
        let order: Vec<String> = versions.iter().map(|(id, ..)| id.to_string()).collect();
        assert!(order.is_sorted_by(|a, b| a > b), "{name}: {order:?}");
        let latest: Vec<bool> = versions.iter().map(|v| v.1).collect();
        assert!(latest[0] && !latest[1..].contains(&true), "{name}: {latest:?}");
        match (get(s, c, name).await, versions[0].2) {
            (Ok(data), false) => assert_eq!(data, get_version(s, c, name, versions[0].0).await.unwrap()),
            (Err(ObjectError::NoSuchObject), true) => {}
            (found, marker) => panic!("{name}: {found:?}, marker: {marker}"),
        }
    }
    let counts = s.counts(c).await.unwrap();
    let shown = by_name.values().filter(|v| !v[0].2).count() as u64;
    assert_eq!(counts, Counts { objects: shown, bytes });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_of_one_name_in_two_processes_lose_nothing() {
    let _alone = ALONE.lock().await;
    let room = Room::with(Config { index_shards: 2, ..small() }).await;
    let c = versioned(&room, "race").await;
    let other = room.another(Config { index_shards: 2, ..small() }).await;
    let acked = Arc::new(std::sync::Mutex::new(HashMap::new()));
    let writers = (0..24u64).map(|w| {
        let s = if w % 2 == 0 { room.store.clone() } else { other.clone() };
        let (c, acked) = (c.clone(), acked.clone());
        tokio::spawn(async move {
            for round in 0..6u64 {
                let name = format!("k{}", (w + round) % 3);
                let data = noise(if round % 3 == 0 { 20_000 } else { 500 }, w * 100 + round);
                match (w + round) % 5 {
                    4 => drop(s.delete_object(&c, &name, Condition::Always).await.unwrap()),
                    3 => {
                        // One of its own goes again.
                        let id = put_version(&s, &c, &name, data).await;
                        delete(&s, &c, &name, id).await;
                        assert!(get_version(&s, &c, &name, id).await.is_err());
                    }
                    _ => {
                        let id = put_version(&s, &c, &name, data.clone()).await;
                        assert_eq!(get_version(&s, &c, &name, id).await.unwrap(), data);
                        acked.lock().unwrap().insert((name, id), data);
                    }
                }
            }
        })
    });
    for done in futures::future::join_all(writers).await {
        done.unwrap();
    }
    let acked = acked.lock().unwrap().clone();
    check(&room.store, &c, &acked).await;
    check(&other, &c, &acked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_enables_the_others_know_at_once() {
    let _alone = ALONE.lock().await;
    let room = Room::with(small()).await;
    let other = room.another(small()).await;
    room.container("known").await;
    let mut stale = other.container(&room.access, "p", "known", Need::Write).await.unwrap();
    for round in 0..5 {
        let first = put(&other, &stale, "k", noise(100, round)).await;
        assert_eq!(first.version, stale.info.versioning.is_set().then_some(VersionId::Null));
        set(&room, "known", Versioning::Enabled).await;
        // Also for a request that began before.
        let second = put(&other, &stale, "k", noise(100, round + 100)).await;
        assert!(matches!(second.version, Some(VersionId::Own(_))), "{round}: {:?}", second.version);
        assert_eq!(
            get_version(&other, &stale_now(&other, &room).await, "k", VersionId::Null).await.unwrap(),
            noise(100, round)
        );
        set(&room, "known", Versioning::Suspended).await;
        stale = stale_now(&other, &room).await;
    }
}

async fn stale_now(s: &ObjectStore, room: &Room) -> Arc<Container> {
    s.container(&room.access, "p", "known", Need::Write).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_leaves_is_made_whole() {
    let _alone = ALONE.lock().await;
    let room = Room::with(small()).await;
    let s = &room.store;
    let c = versioned(&room, "crash").await;
    let mut acked = HashMap::new();
    for (i, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        for seed in 0..3 {
            let data = noise(5_000 + seed, i as u64 * 10 + seed as u64);
            let id = put_version(s, &c, name, data.clone()).await;
            acked.insert((name.to_owned(), id), data);
        }
    }
    let latest = |name: &str| acked.keys().filter(|(n, _)| n == name).map(|(_, id)| *id).max().unwrap();
    let new = |name: &str| NewObject { name: name.into(), ..NewObject::default() };
    let cut = async |point: &str, name: &str| {
        failpoint::set(point, Action::Fail);
        let put = s.put_object(&c, new(name), Body::of(noise(5_000, 99)), Condition::Always).await;
        failpoint::clear(point);
        assert!(matches!(put, Err(ObjectError::Failpoint)), "{put:?}");
    };
    cut("object.version:moved", "a").await;
    cut("object.put:index:before", "b").await;
    failpoint::set("object.delete:index:before", Action::Fail);
    let how = DeleteVersion { promote: true, ..DeleteVersion::default() };
    let (c_latest, d_oldest) =
        (latest("c"), acked.keys().filter(|(n, _)| n == "d").map(|(_, i)| *i).min().unwrap());
    assert!(s.delete_version(&c, "c", c_latest, how.clone()).await.is_err());
    assert!(s.delete_version(&c, "d", d_oldest, how).await.is_err());
    failpoint::clear("object.delete:index:before");
    acked.remove(&("c".to_owned(), c_latest));
    acked.remove(&("d".to_owned(), d_oldest));
    // A marker whose writer did not come to tell of it.
    failpoint::set("object.put:index:before", Action::Fail);
    assert!(s.delete_object(&c, "e", Condition::Always).await.is_err());
    failpoint::clear("object.put:index:before");
    let next = room.another(Config { abandoned_s: 0, ..small() }).await;
    next.reconcile().await.unwrap();
    check(&next, &c, &acked).await;
    assert!(matches!(get(&next, &c, "e").await, Err(ObjectError::NoSuchObject)));
    // Unacknowledged, but written: it is there, whole.
    assert_eq!(get(&next, &c, "b").await.unwrap(), noise(5_000, 99));
    next.sweep_once().await.unwrap();
    check(&next, &c, &acked).await;
    // And all of it can be deleted.
    for (name, id, ..) in list(&next, &c, 100).await {
        delete(&next, &c, &name, id).await;
    }
    next.sweep_once().await.unwrap();
    assert!(everything(&room).await.is_empty(), "{:?}", everything(&room).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_version_stays_where_it_was_written() {
    let _alone = ALONE.lock().await;
    let room = Room::with(config()).await;
    let (s, data) = (&room.store, tiers(&room.namespace).await.get("objects").unwrap().pool);
    // From before versions were kept: all of it is in the head.
    let before = room.container("c").await;
    put(s, &before, "k", noise(300_000, 1)).await;
    assert_eq!(everything(&room).await.len(), 1);
    let c = set(&room, "c", Versioning::Enabled).await;
    let mut ids = vec![VersionId::Null];
    for n in 2..6 {
        ids.push(put_version(s, &c, "k", noise(300_000, n)).await);
    }
    let mut copied = Vec::new();
    for oid in everything(&room).await.iter().filter(|o| o.starts_with("v.")) {
        copied.push(data.stat(oid).await.unwrap().size);
    }
    copied.sort();
    assert_eq!(copied, [0, 0, 0, 300_000], "only what lay in a head is copied");
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(get_version(s, &c, "k", *id).await.unwrap(), noise(300_000, n as u64 + 1));
    }
    assert_eq!(get(s, &c, "k").await.unwrap(), noise(300_000, 5));
    // Its bytes go when it goes.
    for id in ids {
        s.delete_version(&c, "k", id, DeleteVersion { promote: true, ..Default::default() }).await.unwrap();
    }
    let room = Room { store: room.another(small()).await, ..room };
    room.store.sweep_once().await.unwrap();
    assert!(everything(&room).await.is_empty());
}
