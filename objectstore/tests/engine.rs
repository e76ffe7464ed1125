//! The engine on a real cluster: what is acknowledged is there, whole, listed and counted.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use index::{Item, ListQuery};
use objectstore::*;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_every_size_come_back() {
    let room =
        Room::with(Config { head_bytes: 1 << 20, stripe_bytes: 1 << 20, piece_bytes: 300_000, ..config() })
            .await;
    let c = room.container("sizes").await;
    for size in [0usize, 1, 4096, 131_071, 131_072, 131_073, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_001]
    {
        let data = noise(size, size as u64);
        let name = format!("o{size} ü/{size}");
        let written = put(&room.store, &c, &name, data.clone()).await;
        assert_eq!(written.etag, md5_hex(&data));
        assert_eq!(get(&room.store, &c, &name).await.unwrap(), data, "{size}");
    }
    let counts = room.store.counts(&c).await.unwrap();
    assert_eq!(counts.objects, 10);
    assert_eq!(names(&room.store, &c).await.len(), 10);
    // Overwritten by a small one, then deleted: what it had is on record to be removed.
    put(&room.store, &c, "o5000001 ü/5000001", "small").await;
    assert_eq!(get(&room.store, &c, "o5000001 ü/5000001").await.unwrap(), "small");
    for name in names(&room.store, &c).await {
        room.store.delete_object(&c, &name, Condition::Always).await.unwrap();
    }
    assert_eq!(room.store.counts(&c).await.unwrap(), Counts::default());
    assert!(matches!(get(&room.store, &c, "o0 ü/0").await, Err(ObjectError::NoSuchObject)));
    room.store.delete_container(&room.access, "p", "sizes").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_collected_and_only_garbage() {
    let room = Room::with(Config {
        head_bytes: 4096,
        stripe_bytes: 65536,
        piece_bytes: 65536,
        garbage_grace_s: 0,
        ..config()
    })
    .await;
    let c = room.container("bin").await;
    put(&room.store, &c, "a", noise(300_000, 1)).await;
    put(&room.store, &c, "a", noise(200_000, 2)).await;
    put(&room.store, &c, "b", noise(300_000, 3)).await;
    room.store.delete_object(&c, "b", Condition::Always).await.unwrap();
    assert!(everything(&room).await.len() > 12);
    room.store.sweep_once().await.unwrap();
    // One head and its four tails are left.
    let left = everything(&room).await;
    assert_eq!(left.len(), 5, "{left:?}");
    assert_eq!(get(&room.store, &c, "a").await.unwrap(), noise(200_000, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_hold() {
    let room = Room::new().await;
    let c = room.container("cond").await;
    let new = || NewObject { name: "k".into(), ..NewObject::default() };
    let put = |condition| room.store.put_object(&c, new(), Body::of("x"), condition);
    assert!(matches!(put(Condition::Match(vec!["*".into()])).await, Err(ObjectError::NoSuchObject)));
    let first = put(Condition::Absent).await.unwrap();
    assert!(matches!(put(Condition::Absent).await, Err(ObjectError::PreconditionFailed)));
    put(Condition::Match(vec![first.etag.clone()])).await.unwrap();
    assert!(matches!(put(Condition::Match(vec!["no".into()])).await, Err(ObjectError::PreconditionFailed)));
    // Of many that all want to be the first, one is.
    let room2 = room.another(config()).await;
    let tries = (0..20).map(|i| {
        let (s, c) = (if i % 2 == 0 { room.store.clone() } else { room2.clone() }, c.clone());
        tokio::spawn(async move {
            let new = NewObject { name: "once".into(), ..NewObject::default() };
            s.put_object(&c, new, Body::of(format!("{i}")), Condition::Absent).await.is_ok()
        })
    });
    let won = futures::future::join_all(tries).await.into_iter().filter(|r| *r.as_ref().unwrap()).count();
    assert_eq!(won, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_with_a_condition_takes_nothing_else_away() {
    let room = Room::new().await;
    let other = room.another(config()).await;
    for (name, versioning) in [("plain", Versioning::Unset), ("versions", Versioning::Enabled)] {
        room.container(name).await;
        let keep = |info: &mut ContainerInfo| {
            info.versioning = versioning;
            Ok(())
        };
        room.store.change_container(&room.access, "p", name, &keep).await.unwrap();
        let c = room.store.container(&room.access, "p", name, Need::Read).await.unwrap();
        let mut taken = 0;
        for round in 0..40u64 {
            let first = put(&room.store, &c, "k", noise(100, 4 * round)).await;
            let newer = noise(100, 4 * round + 2);
            let condition = match round % 2 {
                0 => Condition::Match(vec![first.etag]),
                _ => Condition::Like { etags: Some(vec![first.etag]), modified: None, size: Some(100) },
            };
            let (deleted, _) = tokio::join!(
                room.store.delete_object(&c, "k", condition),
                put(&other, &c, "k", newer.clone()),
            );
            match deleted {
                Ok(_) => taken += 1,
                Err(e) => assert!(matches!(e, ObjectError::PreconditionFailed), "{e:?}"),
            }
            assert_eq!(get(&room.store, &c, "k").await.unwrap(), newer, "round {round}");
        }
        assert_eq!(names(&room.store, &c).await, ["k"], "{taken} of 40 came first");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_overwrite_delete_and_list_the_same_names() {
    let room = Room::new().await;
    let c = room.container("race").await;
    let other = room.another(config()).await;
    let tasks = (0..8u64).map(|t| {
        let (s, c) = (if t % 2 == 0 { room.store.clone() } else { other.clone() }, c.clone());
        tokio::spawn(async move {
            for i in 0..30u64 {
                let name = format!("k{}", (t * 7 + i) % 5);
                if (t + i) % 3 == 0 {
                    match s.delete_object(&c, &name, Condition::Always).await {
                        Ok(_) | Err(ObjectError::NoSuchObject) => {}
                        Err(e) => panic!("{e:?}"),
                    }
                } else {
                    put(&s, &c, &name, noise(100 + (t * 100 + i) as usize, t * 1000 + i)).await;
                }
            }
        })
    });
    for t in futures::future::join_all(tasks).await {
        t.unwrap();
    }
    // When all is quiet, the index says of every name exactly what its head says.
    let page = other.list_objects(&c, &ListQuery { limit: 100, ..Default::default() }).await.unwrap();
    let mut bytes = 0;
    for item in &page.items {
        let Item::Object(name, entry) = item else { panic!() };
        let data = get(&room.store, &c, name).await.unwrap();
        assert_eq!((entry.size, &entry.etag), (data.len() as u64, &md5_hex(&data)), "{name}");
        bytes += entry.size;
    }
    for i in 0..5 {
        let name = format!("k{i}");
        let listed = page.items.iter().any(|x| x.name() == name);
        assert_eq!(listed, get(&room.store, &c, &name).await.is_ok(), "{name}");
    }
    let counts = room.store.counts(&c).await.unwrap();
    assert_eq!(counts, Counts { objects: page.items.len() as u64, bytes });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_page_roll_up_and_reverse_across_shards() {
    for shards in [1, 7] {
        let room = Room::with(Config { index_shards: shards, ..config() }).await;
        let c = room.container("list").await;
        let mut all: Vec<String> = Vec::new();
        for d in 0..6 {
            all.extend((0..20).map(|i| format!("d{d}/f{i:02}")));
        }
        all.extend(["a".into(), "d1".into(), "d2/".into(), "z\u{10ffff}".into(), "ü".into()]);
        futures::future::join_all(all.iter().map(|n| put(&room.store, &c, n, n.clone()))).await;
        all.sort();
        assert_eq!(names(&room.store, &c).await, all);
        // Page by page, of any size.
        for limit in [1, 3, 50] {
            let (mut got, mut query) = (Vec::new(), ListQuery { limit, ..Default::default() });
            loop {
                let page = room.store.list_objects(&c, &query).await.unwrap();
                got.extend(page.items.iter().map(|i| i.name().to_owned()));
                if !page.truncated {
                    break;
                }
                query.marker = got.last().unwrap().clone();
            }
            assert_eq!(got, all, "{limit}");
        }
        let list = async |q: ListQuery| -> Vec<String> {
            let page = room.store.list_objects(&c, &q).await.unwrap();
            page.items.iter().map(|i| i.name().to_owned()).collect()
        };
        let q = |f: fn(&mut ListQuery)| {
            let mut q = ListQuery { limit: 1000, ..Default::default() };
            f(&mut q);
            q
        };
        let rolled = ["a", "d0/", "d1", "d1/", "d2/", "d3/", "d4/", "d5/", "z\u{10ffff}", "ü"];
        assert_eq!(list(q(|q| q.delimiter = "/".into())).await, rolled);
        let after = q(|q| {
            q.delimiter = "/".into();
            q.marker = "d2/".into();
        });
        assert_eq!(list(after).await, rolled[5..]);
        let mut back = rolled.to_vec();
        back.reverse();
        assert_eq!(
            list(q(|q| {
                q.delimiter = "/".into();
                q.reverse = true;
            }))
            .await,
            back
        );
        assert_eq!(
            list(q(|q| {
                q.prefix = "d3/".into();
                q.reverse = true;
                q.limit = 2;
            }))
            .await,
            ["d3/f19", "d3/f18"]
        );
        assert_eq!(
            list(q(|q| {
                q.prefix = "d2/".into();
                q.delimiter = "/".into();
                q.hide_prefixes = true;
            }))
            .await
            .len(),
            20
        );
        assert_eq!(
            list(q(|q| {
                q.delimiter = "/f".into();
                q.prefix = "d1".into();
            }))
            .await,
            ["d1", "d1/f"]
        );
        assert_eq!(
            list(q(|q| {
                q.marker = "d1".into();
                q.end_marker = Some("d1/f02".into());
            }))
            .await,
            ["d1/f00", "d1/f01"]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_in_parts() {
    let mut cfg = Config { garbage_grace_s: 0, stripe_bytes: 40_000, piece_bytes: 30_000, ..config() };
    cfg.limits.min_part_size = 100_000;
    let room = Room::with(cfg).await;
    let (s, c) = (&room.store, room.container("parts").await);
    let new = NewObject {
        name: "big".into(),
        content_type: "x/y".into(),
        user: vec![("k".into(), "v".into())],
        ..Default::default()
    };
    let id = s.begin_upload(&c, new, None, false).await.unwrap();
    let part = async |n: u32, data: Vec<u8>| s.put_part(&c, "big", id, n, Body::of(data)).await;
    let two = part(2, noise(150_000, 2)).await.unwrap();
    part(1, noise(120_000, 9)).await.unwrap();
    let one = part(1, noise(110_000, 1)).await.unwrap();
    let three = part(3, noise(7, 3)).await.unwrap();
    part(4, noise(1000, 4)).await.unwrap();
    assert!(matches!(part(0, vec![]).await, Err(ObjectError::Invalid(_))));
    assert_eq!(s.list_parts(&c, "big", id, 0, 2).await.unwrap().parts.len(), 2);
    let page = s.list_uploads(&c, &UploadQuery { limit: 10, ..Default::default() }).await.unwrap();
    assert_eq!((page.uploads.len(), page.uploads[0].id), (1, id));
    assert!(names(s, &c).await.is_empty());
    let named = |parts: &[&Part]| -> Vec<NamedPart> {
        parts.iter().map(|p| NamedPart { number: p.number, etag: p.etag.clone(), checksum: None }).collect()
    };
    let complete =
        async |parts: Vec<NamedPart>| s.complete_upload(&c, "big", id, parts, Condition::Always).await;
    assert!(matches!(complete(named(&[&two, &one])).await, Err(ObjectError::PartOrder)));
    let mut wrong = named(&[&one]);
    wrong[0].etag = two.etag.clone();
    assert!(matches!(complete(wrong).await, Err(ObjectError::InvalidPart(1))));
    let done = complete(named(&[&one, &two, &three])).await.unwrap();
    assert!(done.etag.ends_with("-3"));
    assert_eq!(complete(named(&[&one, &two, &three])).await.unwrap().etag, done.etag);
    assert!(matches!(part(5, vec![1]).await, Err(ObjectError::NoSuchUpload)));
    let want = [noise(110_000, 1), noise(150_000, 2), noise(7, 3)].concat();
    assert_eq!(get(s, &c, "big").await.unwrap(), want);
    let object = s.open_object(&c, "big", 10).await.unwrap();
    assert_eq!(object.meta.user, [("k".to_owned(), "v".to_owned())]);
    use futures::TryStreamExt;
    let span = Span { start: 109_990, end: 260_003 };
    let got: Vec<bytes::Bytes> = s.source(object).await.unwrap().stream(span).try_collect().await.unwrap();
    assert_eq!(got.concat(), want[109_990..260_003]);
    assert_eq!(s.counts(&c).await.unwrap(), Counts { objects: 1, bytes: want.len() as u64 });
    // Aborted and replaced uploads leave nothing.
    let id2 =
        s.begin_upload(&c, NewObject { name: "no".into(), ..Default::default() }, None, false).await.unwrap();
    s.put_part(&c, "no", id2, 1, Body::of(noise(90_000, 5))).await.unwrap();
    s.abort_upload(&c, "no", id2).await.unwrap();
    assert!(matches!(s.abort_upload(&c, "no", id2).await, Err(ObjectError::NoSuchUpload)));
    put(s, &c, "big", "small").await;
    tokio::time::timeout(Duration::from_secs(20), async {
        while everything(&room).await.len() > 1 {
            s.sweep_once().await.unwrap();
        }
    })
    .await
    .unwrap();
    assert_eq!(get(s, &c, "big").await.unwrap(), "small");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_is_deleted_only_when_it_is_empty() {
    let room = Room::with(Config { index_shards: 3, ..config() }).await;
    let c = room.container("gone").await;
    put(&room.store, &c, "x", "y").await;
    let delete = || room.store.delete_container(&room.access, "p", "gone");
    assert!(matches!(delete().await, Err(ObjectError::NotEmpty)));
    for i in 0..10 {
        put(&room.store, &c, &format!("still open {i}"), "y").await;
    }
    for name in names(&room.store, &c).await {
        room.store.delete_object(&c, &name, Condition::Always).await.unwrap();
    }
    delete().await.unwrap();
    // Somebody who still has the container at hand can't put anything into it.
    let new = NewObject { name: "late".into(), ..NewObject::default() };
    let late = room.store.put_object(&c, new, Body::of("z"), Condition::Always).await;
    assert!(matches!(late, Err(ObjectError::NoSuchContainer)), "{late:?}");
    assert!(everything(&room).await.is_empty());
    let again = room.container("gone").await;
    assert_ne!(again.id, c.id);
    put(&room.store, &again, "x", "y").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_lie_leave_nothing() {
    let room =
        Room::with(Config { head_bytes: 4096, stripe_bytes: 65536, piece_bytes: 65536, ..config() }).await;
    let c = room.container("liars").await;
    let attempt = async |mut body: Body, edit: fn(&mut Body)| {
        edit(&mut body);
        let new = NewObject { name: "k".into(), ..NewObject::default() };
        room.store.put_object(&c, new, body, Condition::Always).await
    };
    let big = || Body::of(noise(200_000, 1));
    assert!(matches!(attempt(big(), |b| b.length = Some(200_001)).await, Err(ObjectError::Incomplete)));
    let md5 = attempt(big(), |b| b.expect.md5 = Some("0".repeat(32))).await;
    assert!(matches!(md5, Err(ObjectError::EtagMismatch)));
    let sum = attempt(big(), |b| {
        b.expect.algorithm = Some(Algorithm::Crc32);
        b.expect.claim.set("AAAAAA==".into());
    });
    assert!(matches!(sum.await, Err(ObjectError::ChecksumMismatch(_))));
    assert!(matches!(attempt(big(), |b| b.length = Some(6 << 30)).await, Err(ObjectError::TooLarge(_))));
    assert!(names(&room.store, &c).await.is_empty());
    assert!(matches!(get(&room.store, &c, "k").await, Err(ObjectError::NoSuchObject)));
    for bad in ["", "a\0b", &"x".repeat(1025)] {
        let new = NewObject { name: bad.into(), ..NewObject::default() };
        let put = room.store.put_object(&c, new, Body::of("x"), Condition::Always).await;
        assert!(matches!(put, Err(ObjectError::BadName(_))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_expire() {
    let room = Room::new().await;
    let c = room.container("expiry").await;
    let at = state::Timestamp::now().secs() - 1;
    let new = NewObject { name: "old".into(), delete_at: Some(at), ..NewObject::default() };
    room.store.put_object(&c, new, Body::of("x"), Condition::Always).await.unwrap();
    assert!(matches!(get(&room.store, &c, "old").await, Err(ObjectError::NoSuchObject)));
    assert!(names(&room.store, &c).await.is_empty());
    assert_eq!(room.store.counts(&c).await.unwrap().objects, 1);
    room.store.sweep_once().await.unwrap();
    assert_eq!(room.store.counts(&c).await.unwrap().objects, 0);
    assert!(everything(&room).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_add_up() {
    let room = Room::new().await;
    let (a, _b) = (room.container("a").await, room.container("b/".trim_end_matches('/')).await);
    put(&room.store, &a, "x", noise(10, 1)).await;
    let usage = room.store.account_usage("p").await.unwrap();
    assert_eq!((usage.containers, usage.counts), (2, Counts { objects: 1, bytes: 10 }));
    let query = AccountQuery { limit: 10, ..Default::default() };
    let items = room.store.list_account(&room.access, "p", &query).await.unwrap();
    assert_eq!(items.len(), 2);
    assert!(matches!(&items[0], AccountItem::Container(c, n) if c.name == "a" && n.objects == 1));
    let stranger = Access::of(caller("q", "member"));
    let denied = room.store.list_account(&stranger, "p", &query).await;
    assert!(matches!(denied, Err(ObjectError::Forbidden)));
}
