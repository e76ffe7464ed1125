//! Storage that is away or full, and clients that are slow, lie or leave: what was acknowledged is there, what was not
//! is whole or absent, and the index says so by itself when all is well again.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use index::ListQuery;
use objectstore::*;
use pool::{Cluster, ClusterConfig, Clusters, TierConfig, Tiers};
use serde_json::json;
use state::Db;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// A store whose content and index have pools of their own, which something may happen to.
struct Fragile {
    room: Room,
    tiers: Tiers,
    cluster: Cluster,
    pools: [String; 2],
    stop: CancellationToken,
}

async fn made(db: &Db, tiers: &Tiers, config: Config) -> ObjectStore {
    ObjectStore::new(db.clone(), tiers, Arc::new(Seam), Arc::new(Seam), config).await.unwrap()
}

impl Fragile {
    async fn new(config: Config) -> Fragile {
        let mut to = ClusterConfig::new("main", &testbed::ceph().conf);
        to.timeout_s = 4;
        let clusters = Clusters::connect(&[to]).await.unwrap();
        let cluster = clusters.get("main").unwrap();
        let pools = ["objects", "index"].map(testbed::unique);
        for pool in &pools {
            cluster.create_pool(pool, "aquifer").await.unwrap();
        }
        let tier = |name: &str, pool: &str| TierConfig {
            name: name.into(),
            cluster: "main".into(),
            pool: pool.into(),
            data_pool: None,
            namespace: None,
        };
        let tiers = [tier("objects", &pools[0]), tier("index", &pools[1]), tier("cold", &pools[0])];
        let tiers = Tiers::new(&clusters, &tiers).unwrap();
        let db = testbed::databases().await.remove(0);
        let config = Config { garbage_grace_s: 0, sweep_interval_s: 1, ..config };
        let store = made(&db, &tiers, config).await;
        let access = Access::of(caller("p", "member"));
        let (room, stop) = (Room { store, db, namespace: String::new(), access }, CancellationToken::new());
        let (s, ended) = (room.store.clone(), stop.clone());
        tokio::spawn(async move { s.sweep(ended).await });
        Fragile { room, tiers, cluster, pools, stop }
    }

    /// Another process.
    async fn another(&self, config: Config) -> ObjectStore {
        made(&self.room.db, &self.tiers, config).await
    }

    async fn set(&self, pool: &str, what: &str, value: &str) {
        let yes = what == "size";
        let mut command = json!({"prefix": "osd pool set", "pool": pool, "var": what, "val": value});
        if yes {
            command["yes_i_really_mean_it"] = true.into();
        }
        self.cluster.mon_command(command).await.unwrap();
    }

    async fn quota(&self, pool: &str, bytes: &str) {
        let command =
            json!({"prefix": "osd pool set-quota", "pool": pool, "field": "max_bytes", "val": bytes});
        self.cluster.mon_command(command).await.unwrap();
    }

    /// What lies in the pool of content.
    async fn content(&self) -> BTreeSet<String> {
        use futures::TryStreamExt;
        self.cluster.pool(&self.pools[0], None).list().try_collect().await.unwrap()
    }

    async fn end(self) {
        self.stop.cancel();
        for pool in &self.pools {
            self.cluster.delete_pool(pool).await.unwrap();
        }
    }
}

async fn try_put(
    s: &ObjectStore,
    c: &Arc<Container>,
    name: &str,
    data: Vec<u8>,
) -> Result<Written, ObjectError> {
    let new = NewObject { name: name.into(), ..NewObject::default() };
    s.put_object(c, new, Body::of(data), Condition::Always).await
}

/// Waits until the index says of every name what its head says, and counts exactly that.
async fn agrees(s: &ObjectStore, c: &Arc<Container>, all: &[String]) -> BTreeMap<String, Vec<u8>> {
    let end = Instant::now() + Duration::from_secs(150);
    loop {
        let mut there = BTreeMap::new();
        for name in all {
            match get(s, c, name).await {
                Ok(data) => drop(there.insert(name.clone(), data.to_vec())),
                Err(ObjectError::NoSuchObject) => {}
                Err(e) => panic!("{name}: {e:?}"),
            }
        }
        let bytes = there.values().map(|d| d.len() as u64).sum();
        let listed = names(s, c).await;
        let counts = s.counts(c).await.unwrap();
        if listed == there.keys().cloned().collect::<Vec<_>>()
            && counts == (Counts { objects: there.len() as u64, bytes })
        {
            return there;
        }
        assert!(Instant::now() < end, "{listed:?} {counts:?}, but there are {:?}", there.keys());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_away_for_a_while_comes_back_whole() {
    let f = Fragile::new(config()).await;
    let (s, c) = (&f.room.store, f.room.container("c").await);
    for i in 0..10 {
        put(s, &c, &format!("kept-{i}"), noise(100 + i, i as u64)).await;
    }
    // With fewer copies than it needs the index's placement group is not active: whoever asks it waits.
    f.set(&f.pools[1], "size", "2").await;
    f.set(&f.pools[1], "min_size", "2").await;
    let end = Instant::now() + Duration::from_secs(60);
    let query = ListQuery { limit: 10, ..Default::default() };
    while s.list_objects(&c, &query).await.is_ok() {
        assert!(Instant::now() < end, "the index does not go away");
    }
    let lost = Instant::now();
    let away = |e: &ObjectError| matches!(e, ObjectError::Unavailable(_));
    for round in 0..4 {
        let (new, over, gone) =
            (format!("new-{round}"), format!("kept-{round}"), format!("kept-{}", round + 4));
        let (a, b, d, l) = tokio::join!(
            try_put(s, &c, &new, noise(900, 50 + round)),
            try_put(s, &c, &over, noise(800, 60 + round)),
            s.delete_object(&c, &gone, Condition::Always),
            s.list_objects(&c, &query),
        );
        assert!(a.as_ref().is_err_and(away), "{a:?}");
        assert!(b.as_ref().is_err_and(away), "{b:?}");
        assert!(d.as_ref().is_err_and(away), "{d:?}");
        assert!(l.as_ref().is_err_and(away), "{l:?}");
        // What needs no index goes on.
        assert_eq!(get(s, &c, "kept-9").await.unwrap(), noise(109, 9));
    }
    assert!(lost.elapsed() > Duration::from_secs(12));
    f.set(&f.pools[1], "min_size", "1").await;
    let all: Vec<String> =
        (0..10).map(|i| format!("kept-{i}")).chain((0..4).map(|i| format!("new-{i}"))).collect();
    let there = agrees(s, &c, &all).await;
    assert_eq!(there["kept-8"], noise(108, 8));
    for round in 0..4 {
        // None of these was acknowledged: each is as before or as after, whole.
        let over = &there[&format!("kept-{round}")];
        assert!(*over == noise(800, 60 + round) || *over == noise(100 + round as usize, round));
        let gone = there.get(&format!("kept-{}", round + 4));
        assert!(gone.is_none_or(|g| *g == noise(104 + round as usize, round + 4)));
        assert!(there.get(&format!("new-{round}")).is_none_or(|n| *n == noise(900, 50 + round)));
    }
    put(s, &c, "after", noise(10, 1)).await;
    assert!(names(s, &c).await.contains(&"after".to_owned()));
    f.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pool_is_told_and_nothing_is_half_written() {
    let small = Config { head_bytes: 65_536, stripe_bytes: 1 << 20, piece_bytes: 1 << 18, ..config() };
    let f = Fragile::new(small).await;
    let (s, c) = (&f.room.store, f.room.container("c").await);
    put(s, &c, "kept", noise(2_000_000, 1)).await;
    f.quota(&f.pools[0], "1000000").await;
    let end = Instant::now() + Duration::from_secs(60);
    let mut all = vec!["kept".to_owned()];
    let told = loop {
        let name = format!("n{}", all.len());
        all.push(name.clone());
        match try_put(s, &c, &name, noise(300_000, all.len() as u64)).await {
            Ok(_) => assert!(Instant::now() < end, "the pool takes writes beyond its quota"),
            Err(e) => break e,
        }
    };
    assert!(matches!(told, ObjectError::NoSpace(_)), "{told:?}");
    for (i, size) in [10, 60_000, 300_000, 3_000_000].into_iter().enumerate() {
        let name = format!("full-{i}");
        let put = try_put(s, &c, &name, noise(size, 9)).await;
        assert!(matches!(put, Err(ObjectError::NoSpace(_))), "{put:?}");
        all.push(name);
    }
    // What is there is read; and what is deleted makes room.
    assert_eq!(get(s, &c, "kept").await.unwrap(), noise(2_000_000, 1));
    assert!(agrees(s, &c, &all).await.keys().all(|k| !k.starts_with("full")));
    f.quota(&f.pools[0], "0").await;
    let end = Instant::now() + Duration::from_secs(60);
    while try_put(s, &c, "room again", noise(300_000, 3)).await.is_err() {
        assert!(Instant::now() < end, "the pool stays full");
    }
    all.push("room again".into());
    let there = agrees(s, &c, &all).await;
    s.sweep_once().await.unwrap();
    let heads = f.content().await.iter().filter(|o| o.starts_with("h.")).count();
    assert_eq!(heads, there.len());
    for name in there.keys() {
        s.delete_object(&c, name, Condition::Always).await.unwrap();
    }
    // Bodies that found no room are cleared up when they are taken for abandoned: at once, for this one.
    f.stop.cancel();
    f.another(Config { abandoned_s: 0, garbage_grace_s: 0, ..config() }).await.sweep_once().await.unwrap();
    assert!(f.content().await.is_empty(), "{:?}", f.content().await);
    f.end().await;
}

/// Sends a request's head and some of its body, and leaves or waits for the answer.
async fn send(at: std::net::SocketAddr, head: &str, parts: &[&[u8]], pause: Duration, wait: bool) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    for part in parts {
        stream.write_all(part).await.unwrap();
        stream.flush().await.unwrap();
        tokio::time::sleep(pause).await;
    }
    let mut answer = Vec::new();
    if wait {
        // The server may close the connection behind its answer.
        let _ = stream.read_to_end(&mut answer).await;
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_are_slow_or_lie_or_leave() {
    let tight = Config { head_bytes: 4096, stripe_bytes: 65_536, piece_bytes: 65_536, ..config() };
    let room = Room::with(Config { body_idle_s: 1, garbage_grace_s: 0, abandoned_s: 0, ..tight }).await;
    let c = room.container("c").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let server = tokio::spawn(api::server::serve(listener, room.store.swift_router(), stop.clone()));
    let head = |name: &str, rest: &str| {
        format!(
            "PUT /v1/AUTH_p/c/{name} HTTP/1.1\r\nhost: x\r\nx-auth-token: p:member\r\nconnection: close\r\n{rest}\r\n\r\n"
        )
    };
    let (data, moment, none) = (noise(200_000, 1), Duration::from_millis(20), Duration::ZERO);
    let (half, rest) = data.split_at(100_000);
    let status = |answer: &str| answer.get(9..12).unwrap_or_default().to_owned();
    // Slow, but never idle: it is waited for.
    let pieces: Vec<&[u8]> = data.chunks(4_000).collect();
    let slow = send(at, &head("slow", "content-length: 200000"), &pieces, moment * 2, true).await;
    assert_eq!(status(&slow), "201", "{slow}");
    // Stops in the middle and holds the connection: given up.
    let began = Instant::now();
    let idle = send(at, &head("idle", "content-length: 200000"), &[half], none, true).await;
    assert_eq!(status(&idle), "408", "{idle}");
    assert!(began.elapsed() < Duration::from_secs(10));
    // Promises more than it sends, and leaves.
    send(at, &head("lies", "content-length: 200000"), &[half], moment, false).await;
    send(at, &head("leaves", "transfer-encoding: chunked"), &[b"4000\r\n", &half[..0x1000]], moment, false)
        .await;
    // Its chunks are no chunks.
    let bad = send(at, &head("chunks", "transfer-encoding: chunked"), &[b"zz\r\nabc"], none, true).await;
    assert!(matches!(status(&bad).as_str(), "400" | "499"), "{bad}");
    let wrong = "content-length: 200000\r\netag: 00000000000000000000000000000000";
    let wrong = send(at, &head("wrong", wrong), &[half, rest], none, true).await;
    assert_eq!(status(&wrong), "422", "{wrong}");
    // Sends everything and does not stay for the answer: it may have happened, then wholly.
    send(at, &head("gone", "content-length: 200000"), &[half, rest], none, false).await;
    put(&room.store, &c, "other", "x").await;
    // Two kinds of answers cannot be mixed up by a length that lies the other way: the rest is no request.
    let more = send(at, &head("less", "content-length: 10"), &[half], none, true).await;
    assert_eq!(status(&more), "201", "{more}");
    stop.cancel();
    server.await.unwrap();
    let mut wanted = vec!["less", "other", "slow"];
    if get(&room.store, &c, "gone").await.is_ok() {
        wanted.insert(0, "gone");
    }
    let names_are = |all: &[String]| all.iter().map(String::as_str).eq(wanted.iter().copied());
    let listed = names(&room.store, &c).await;
    assert!(names_are(&listed), "{listed:?}");
    assert_eq!(get(&room.store, &c, "slow").await.unwrap(), data);
    // Nothing stays of what did not come to be.
    room.store.sweep_once().await.unwrap();
    let tails =
        wanted.iter().filter(|n| matches!(**n, "slow" | "gone")).count() * data.len().div_ceil(65_536);
    let all = everything(&room).await;
    assert_eq!(all.iter().filter(|o| o.starts_with("t.")).count(), tails, "{all:?}");
    assert_eq!(all.iter().filter(|o| o.starts_with("h.")).count(), wanted.len(), "{all:?}");
}
