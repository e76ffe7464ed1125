//! What operators watch. Metrics are the process's: this test has one of its own.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;

fn value(name: &str) -> f64 {
    let text = api::metrics::text();
    let line = text.lines().find(|l| l.starts_with(name) && !l.starts_with('#'));
    line.and_then(|l| l.rsplit_once(' ')).map_or(-1.0, |(_, v)| v.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_a_metric() {
    api::metrics::install();
    let room = Room::with(objectstore::Config { scrub_bytes_per_s: 1 << 40, ..config() }).await;
    let (s, c) = (&room.store, room.container("c").await);
    put(s, &c, "sound", noise(1000, 1)).await;
    put(s, &c, "damaged", noise(1000, 2)).await;
    s.scrub_once().await.unwrap();
    assert_eq!(
        (value("aquifer_object_damaged"), value("aquifer_object_scrubbed_bytes_total")),
        (0.0, 2000.0)
    );
    let pool = tiers(&room.namespace).await.get("objects").unwrap().pool;
    let oid = everything(&room).await.into_iter().find(|o| o.ends_with(".damaged")).unwrap();
    let byte = pool.read(&oid, 7, 1).await.unwrap()[0];
    pool.write(&oid, 7, vec![byte ^ 4].into()).await.unwrap();
    s.scrub_once().await.unwrap();
    assert_eq!(value("aquifer_object_damaged"), 1.0);
    // It is replaced, and sound again.
    put(s, &c, "damaged", noise(1000, 3)).await;
    s.scrub_once().await.unwrap();
    assert_eq!(value("aquifer_object_damaged"), 0.0);
}
