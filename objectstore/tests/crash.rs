//! What a process leaves that ends at the worst moment: the next one makes it whole.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use objectstore::*;
use state::failpoint::{self, Action};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Failpoints are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn put_some(
    s: &ObjectStore,
    c: &Arc<Container>,
    name: &str,
    data: Vec<u8>,
) -> Result<Written, ObjectError> {
    let new = NewObject { name: name.into(), ..NewObject::default() };
    s.put_object(c, new, Body::of(data), Condition::Always).await
}

fn config() -> Config {
    let small = Config { head_bytes: 4096, stripe_bytes: 65536, piece_bytes: 65536, ..common::config() };
    Config { garbage_grace_s: 0, abandoned_s: 0, ..small }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_a_line_and_a_line_without_a_head_are_repaired() {
    let _alone = ALONE.lock().await;
    let room = Room::with(config()).await;
    let c = room.container("crash").await;
    put(&room.store, &c, "kept", noise(200_000, 1)).await;
    put(&room.store, &c, "overwritten", noise(200_000, 2)).await;
    put(&room.store, &c, "deleted", noise(200_000, 3)).await;
    failpoint::set("object.put:index:before", Action::Fail);
    for (name, data) in
        [("new", noise(100, 4)), ("large", noise(100_000, 5)), ("overwritten", noise(90_000, 6))]
    {
        assert!(matches!(put_some(&room.store, &c, name, data).await, Err(ObjectError::Failpoint)));
    }
    failpoint::clear("object.put:index:before");
    failpoint::set("object.delete:index:before", Action::Fail);
    assert!(room.store.delete_object(&c, "deleted", Condition::Always).await.is_err());
    failpoint::clear("object.delete:index:before");
    // As after a crash: heads and lines differ; each object is whole or absent all the same.
    assert_eq!(get(&room.store, &c, "overwritten").await.unwrap(), noise(90_000, 6));
    assert!(get(&room.store, &c, "deleted").await.is_err());
    assert_eq!(names(&room.store, &c).await, ["deleted", "kept", "overwritten"]);
    // Another process takes up.
    let next = room.another(config()).await;
    next.reconcile().await.unwrap();
    assert_eq!(names(&next, &c).await, ["kept", "large", "new", "overwritten"]);
    let counts = next.counts(&c).await.unwrap();
    assert_eq!(counts, Counts { objects: 4, bytes: 200_000 + 100 + 100_000 + 90_000 });
    next.sweep_once().await.unwrap();
    next.sweep_once().await.unwrap();
    let (heads, tails): (Vec<String>, Vec<String>) =
        everything(&room).await.into_iter().partition(|o| o.starts_with("h."));
    assert_eq!((heads.len(), tails.len()), (4, 4 + 2 + 2), "{tails:?}");
    for (name, data) in [("kept", noise(200_000, 1)), ("large", noise(100_000, 5)), ("new", noise(100, 4))] {
        assert_eq!(get(&next, &c, name).await.unwrap(), data);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tails_of_a_body_that_never_became_an_object_go() {
    let _alone = ALONE.lock().await;
    let room = Room::with(config()).await;
    let c = room.container("abandoned").await;
    failpoint::set("object.put:head:before", Action::Fail);
    assert!(put_some(&room.store, &c, "never", noise(300_000, 1)).await.is_err());
    failpoint::clear("object.put:head:before");
    assert_eq!(everything(&room).await.len(), 5);
    assert!(names(&room.store, &c).await.is_empty());
    room.store.sweep_once().await.unwrap();
    assert!(everything(&room).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_that_was_cut_short_can_be_repeated() {
    let _alone = ALONE.lock().await;
    let room = Room::with(config()).await;
    let (s, c) = (&room.store, room.container("upload").await);
    for point in ["object.complete:head:before", "object.put:index:before", "object.complete:done:before"] {
        let new = NewObject { name: "big".into(), ..NewObject::default() };
        let id = s.begin_upload(&c, new, None, false).await.unwrap();
        let part = s.put_part(&c, "big", id, 1, Body::of(noise(100_000, 1))).await.unwrap();
        let named = vec![NamedPart { number: 1, etag: part.etag, checksum: None }];
        failpoint::set(point, Action::Fail);
        assert!(s.complete_upload(&c, "big", id, named.clone(), Condition::Always).await.is_err(), "{point}");
        failpoint::clear(point);
        s.complete_upload(&c, "big", id, named, Condition::Always).await.unwrap();
        assert_eq!(get(s, &c, "big").await.unwrap(), noise(100_000, 1), "{point}");
        assert_eq!(names(s, &c).await, ["big"]);
        s.delete_object(&c, "big", Condition::Always).await.unwrap();
        s.sweep_once().await.unwrap();
        assert!(everything(&room).await.is_empty(), "{point}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_leaves_no_head_without_a_line() {
    let _alone = ALONE.lock().await;
    let room = Room::with(config()).await;
    let c = room.container("hangup").await;
    failpoint::set("object.put:index:before", Action::Pause);
    let (s, c2) = (room.store.clone(), c.clone());
    let request = tokio::spawn(async move { put_some(&s, &c2, "k", noise(100, 1)).await });
    while get(&room.store, &c, "k").await.is_err() {
        tokio::task::yield_now().await;
    }
    request.abort(); // what the server does to a request whose client has gone
    failpoint::clear("object.put:index:before");
    while names(&room.store, &c).await.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(room.store.counts(&c).await.unwrap().objects, 1);
}
