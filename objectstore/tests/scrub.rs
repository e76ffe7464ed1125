//! Damage that no one told of is found, and only damage.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use objectstore::*;
use std::sync::Arc;

/// Flips one bit of an object in the cluster, behind the store's back.
async fn flip(room: &Room, oid: &str, at: u64) {
    let pool = tiers(&room.namespace).await.get("objects").unwrap().pool;
    let byte = pool.read(oid, at, 1).await.unwrap()[0];
    pool.write(oid, at, vec![byte ^ 4].into()).await.unwrap();
}

async fn found(s: &ObjectStore) -> Vec<(String, String)> {
    s.scrub_once().await.unwrap();
    let mut all: Vec<_> = s.damage().await.unwrap().into_iter().map(|d| (d.name, d.what)).collect();
    all.sort();
    all
}

async fn put_with(
    s: &ObjectStore,
    c: &Arc<Container>,
    name: &str,
    data: Vec<u8>,
    edit: fn(&mut NewObject, &mut Body),
) {
    let (mut new, mut body) = (NewObject { name: name.into(), ..NewObject::default() }, Body::of(data));
    edit(&mut new, &mut body);
    s.put_object(c, new, body, Condition::Always).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_is_found_wherever_it_is() {
    let small = Config {
        head_bytes: 4096,
        stripe_bytes: 65_536,
        piece_bytes: 65_536,
        garbage_grace_s: 0,
        ..config()
    };
    let fast = Config {
        scrub_bytes_per_s: 1 << 40,
        limits: Limits { min_part_size: 1, ..Limits::default() },
        ..small
    };
    let room = Room::with(fast).await;
    let (s, c) = (&room.store, room.container("c").await);
    put(s, &c, "small", noise(1000, 1)).await;
    put(s, &c, "large", noise(300_000, 2)).await;
    put(s, &c, "empty", "").await;
    put_with(s, &c, "sealed", noise(100_000, 3), |new, _| new.seal = Some(SealWith::Root)).await;
    put_with(s, &c, "summed", noise(1000, 4), |_, body| body.expect.algorithm = Some(Algorithm::Crc32c))
        .await;
    let new = NewObject { name: "parts".into(), ..NewObject::default() };
    let id = s.begin_upload(&c, new, None, false).await.unwrap();
    let mut named = Vec::new();
    for number in 1..=3 {
        let part =
            s.put_part(&c, "parts", id, number, Body::of(noise(90_000, u64::from(number)))).await.unwrap();
        named.push(NamedPart { number, etag: part.etag, checksum: None });
    }
    s.complete_upload(&c, "parts", id, named, Condition::Always).await.unwrap();
    room.container("versions").await;
    let on = |info: &mut ContainerInfo| {
        info.versioning = Versioning::Enabled;
        Ok(())
    };
    s.change_container(&room.access, "p", "versions", &on).await.unwrap();
    let v = s.container(&room.access, "p", "versions", Need::Write).await.unwrap();
    for n in 0..3 {
        put(s, &v, "k", noise(500, 10 + n)).await;
    }
    s.delete_object(&v, "k", Condition::Always).await.unwrap();
    assert!(found(s).await.is_empty());

    flip(&room, &format!("h.{}.small", c.id), 500).await;
    let all = everything(&room).await;
    let old = all.iter().find(|o| o.starts_with("v.")).unwrap();
    flip(&room, old, 499).await;
    let tail = async |name: &str| {
        let object = s.open_object(&c, name, 0).await.unwrap();
        format!("t.{}.{}.0", c.id, object.meta.layout.tag.unwrap())
    };
    for name in ["large", "sealed"] {
        let oid = tail(name).await;
        flip(&room, &oid, 100).await;
    }
    // A part's tail, whichever: what is left of the tails.
    let others = [tail("large").await, tail("sealed").await];
    let tags: Vec<&str> = others.iter().map(|o| &o[..o.len() - 2]).collect();
    let part = all.iter().find(|o| o.starts_with("t.") && !tags.iter().any(|t| o.starts_with(t))).unwrap();
    flip(&room, part, 7).await;
    // And one that is gone without a word.
    put(s, &c, "lost", noise(10, 1)).await;
    let pool = tiers(&room.namespace).await.get("objects").unwrap().pool;
    pool.remove(&format!("h.{}.lost", c.id)).await.unwrap();
    let damage = found(s).await;
    let named: Vec<&str> = damage.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(named, ["k", "large", "lost", "parts", "sealed", "small"], "{damage:?}");
    let what = |name: &str| damage.iter().find(|(n, _)| n == name).unwrap().1.clone();
    assert_eq!(what("small"), "its bytes 0 to 1000 are not what was written");
    assert_eq!(what("lost"), "it is listed, and is not there");
    assert!(what("parts").contains("000 are not"), "{}", what("parts"));

    // What is written anew is sound; what is deleted is no damage.
    put(s, &c, "small", noise(1000, 1)).await;
    s.delete_object(&c, "large", Condition::Always).await.unwrap();
    flip(&room, part, 7).await;
    let named: Vec<String> = found(s).await.into_iter().map(|(n, _)| n).collect();
    assert_eq!(named, ["k", "lost", "sealed"]);
}
