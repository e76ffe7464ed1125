//! Encryption at rest: what lies in the cluster is not the content, and opens for every process that has the secret.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use futures::TryStreamExt;
use objectstore::*;

/// Every byte that a room's objects have in the cluster, metadata too.
async fn at_rest(room: &Room) -> Vec<u8> {
    let mut all = Vec::new();
    for tier in ["objects", "index"] {
        let pool = tiers(&room.namespace).await.get(tier).unwrap().pool.clone();
        let names: Vec<String> = pool.list().try_collect().await.unwrap();
        for name in names {
            let size = pool.stat(&name).await.unwrap().size;
            all.extend_from_slice(&pool.read(&name, 0, usize::try_from(size).unwrap()).await.unwrap());
            for (_, value) in pool.get_xattrs(&name).await.unwrap() {
                all.extend_from_slice(&value);
            }
        }
    }
    all
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

async fn put_sealed(room: &Room, c: &std::sync::Arc<Container>, name: &str, data: &[u8], seal: SealWith) {
    let new = NewObject { name: name.into(), seal: Some(seal), ..NewObject::default() };
    room.store.put_object(c, new, Body::of(data.to_vec()), Condition::Always).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_in_the_cluster_is_not_the_content() {
    let room = Room::new().await;
    let c = room.container("c").await;
    let (small, large) = (noise(100_000, 3), noise(6_000_000, 5));
    put(&room.store, &c, "plain", small.clone()).await;
    assert!(holds(&at_rest(&room).await, &small[70_000..70_032]), "this test sees what is not sealed");
    room.store.delete_object(&c, "plain", Condition::Always).await.unwrap();
    put_sealed(&room, &c, "small", &small, SealWith::Root).await;
    put_sealed(&room, &c, "large", &large, SealWith::Root).await;
    put_sealed(&room, &c, "theirs", &small, SealWith::Customer(CustomerKey::new([9; 32]))).await;
    let stored = at_rest(&room).await;
    for at in [0, 1000, 65_536, 99_000] {
        assert!(!holds(&stored, &small[at..at + 32]), "{at}");
    }
    assert!(!holds(&stored, &large[5_000_000..5_000_032]));
    assert!(!holds(&stored, &[9; 32]), "a client's key is kept nowhere");
    // Another process has the same secret; sizes are those of the content.
    let other = room.another(config()).await;
    assert_eq!(get(&other, &c, "small").await.unwrap(), small);
    assert_eq!(get(&other, &c, "large").await.unwrap(), large);
    assert_eq!(other.counts(&c).await.unwrap(), Counts { objects: 3, bytes: 6_200_000 });
    assert!(matches!(get(&other, &c, "theirs").await, Err(ObjectError::Sealed)));
    // One with another secret has nothing.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").unwrap();
    let stranger = room.another(Config { encryption_key_file: Some(file), ..config() }).await;
    assert!(matches!(get(&stranger, &c, "small").await, Err(ObjectError::Damaged(_))));
    // What is replaced leaves nothing behind.
    put_sealed(&room, &c, "large", b"", SealWith::Root).await;
    assert_eq!(get(&room.store, &c, "large").await.unwrap(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_is_made_once_on_every_database() {
    for db in testbed::databases().await {
        let namespace = testbed::unique("seal");
        let (one, two) =
            (store(db.clone(), &namespace, config()).await, store(db, &namespace, config()).await);
        let access = Access::of(caller("p", "member"));
        let made =
            one.make_container(&access, "p", "c", &NewContainer::default(), &|_| Ok(())).await.unwrap();
        let c = made.container;
        let write = async |s: &ObjectStore, name: &str| {
            let new = NewObject { name: name.into(), seal: Some(SealWith::Root), ..NewObject::default() };
            s.put_object(&c, new, Body::of(name.to_owned()), Condition::Always).await.unwrap();
        };
        tokio::join!(write(&one, "by one"), write(&two, "by two"));
        assert_eq!(get(&two, &c, "by one").await.unwrap(), "by one");
        assert_eq!(get(&one, &c, "by two").await.unwrap(), "by two");
    }
}
