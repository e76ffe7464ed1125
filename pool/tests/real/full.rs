//! A pool without room: what is refused says so, and what is said to be done is done.

use std::time::{Duration, Instant};

use pool::{CreateOptions, Error, Pool};

use crate::cluster;

const MIB: u64 = 1 << 20;

async fn quota(pool: &str, bytes: u64) {
    let c = cluster().await;
    let command = serde_json::json!({"prefix": "osd pool set-quota", "pool": pool, "field": "max_bytes",
        "val": bytes.to_string()});
    c.mon_command(command).await.unwrap();
}

/// Writes objects until a write is refused, or until none is.
async fn until_full(p: &Pool, full: bool) {
    let end = Instant::now() + Duration::from_secs(60);
    for n in 0.. {
        match p.write_full(&format!("filler-{full}-{n}"), vec![1; 1 << 16].into()).await {
            Err(Error::NoSpace { .. }) if full => return,
            Ok(()) if !full => return,
            Ok(()) | Err(Error::NoSpace { .. }) => {}
            Err(e) => panic!("{e}"),
        }
        assert!(Instant::now() < end, "the pool does not hear of its quota");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_full_pool_says_so_and_takes_what_needs_no_room() {
    let c = cluster().await;
    let name = testbed::unique("full");
    c.create_pool_with(&name, "rbd", serde_json::json!({"pg_num": 1})).await.unwrap();
    let p = c.pool(&name, None);
    let rbd = p.rbd();
    rbd.init().await.unwrap();
    rbd.create("i", 64 * MIB, CreateOptions::default()).await.unwrap();
    let i = rbd.open("i").await.unwrap();
    i.write_at(0, vec![7; 4096].into()).await.unwrap();
    i.snap_create("s").await.unwrap();
    i.close().await.unwrap();
    quota(&name, 1).await;
    until_full(&p, true).await;

    let i = rbd.open("i").await.unwrap();
    let refused = i.snap_create("late").await;
    assert!(
        matches!(refused, Err(Error::NoSpace { .. })),
        "librbd itself says Ok, and it can never be opened"
    );
    assert!(!i.snap_exists("late").await.unwrap());
    i.close().await.unwrap();
    let clone = || rbd.clone_image("i", "s", &p, "c", CreateOptions::default());
    assert!(matches!(clone().await, Err(Error::NoSpace { .. })), "librbd itself says NotFound");
    let none = rbd.clone_image("i", "none", &p, "c", CreateOptions::default()).await;
    assert!(none.unwrap_err().is_not_found());

    quota(&name, 0).await;
    until_full(&p, false).await;
    let i = rbd.open("i").await.unwrap();
    i.snap_create("late").await.unwrap();
    i.close().await.unwrap();
    rbd.open_snapshot("i", "late").await.unwrap().close().await.unwrap();
    clone().await.unwrap();
    c.delete_pool(&name).await.unwrap();
}
