//! Clusters, tiers, and what can be wrong with their configuration.

use std::time::{Duration, Instant};

use pool::{ClusterConfig, Clusters, Error, TierConfig, Tiers};

use crate::cluster;

#[tokio::test]
async fn what_a_cluster_tells() {
    let c = cluster().await;
    assert!(c.is_connected());
    assert_eq!(c.fsid().await.unwrap().len(), 36);
    let usage = c.usage().await.unwrap();
    assert!(usage.total > 0 && usage.available <= usage.total);
    let pool = c.pool_usage("rbd").await.unwrap();
    assert!(pool.available > 0);
    assert!(c.pool_usage("none").await.unwrap_err().is_not_found());
    assert!(c.health().await.unwrap().status.starts_with("HEALTH_"));
    assert!(c.pools().await.unwrap().contains(&"rbd".to_owned()));
    let out = c.mon_command(serde_json::json!({"prefix": "osd stat", "format": "json"})).await.unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&out).unwrap()["num_osds"].as_u64() >= Some(1));
    let e = c.mon_command(serde_json::json!({"prefix": "no such command"})).await.unwrap_err();
    assert!(matches!(e, Error::Invalid { .. }), "{e:?}");
    assert_eq!(c.conf("rbd_cache").await.unwrap(), "false");
    assert_eq!(pool::librados_version().0, 3);
}

#[tokio::test]
async fn pools_come_and_go() {
    let c = cluster().await;
    let name = testbed::unique("pool");
    assert!(!c.pool_exists(&name).await.unwrap());
    let p = c.pool(&name, None);
    assert!(p.write_full("o", "x".into()).await.unwrap_err().is_not_found());
    c.create_pool_with(&name, "rbd", serde_json::json!({"pg_num": 1})).await.unwrap();
    c.create_pool(&name, "rbd").await.unwrap();
    assert!(c.pool_exists(&name).await.unwrap());
    p.write_full("o", "x".into()).await.unwrap();
    p.rbd().init().await.unwrap();
    assert!(p.id().await.unwrap() > 0);
    c.delete_pool(&name).await.unwrap();
    c.delete_pool(&name).await.unwrap();
    assert!(!c.pool_exists(&name).await.unwrap());
    // A handle finds a new pool of the old name, after one answer from the old one.
    assert!(p.write_full("o", "y".into()).await.unwrap_err().is_not_found());
    c.create_pool_with(&name, "rbd", serde_json::json!({"pg_num": 1})).await.unwrap();
    p.write_full("o", "z".into()).await.unwrap();
    assert_eq!(p.read("o", 0, 1).await.unwrap(), "z");
    c.delete_pool(&name).await.unwrap();
}

#[tokio::test]
async fn a_full_pool_says_so() {
    let c = cluster().await;
    let name = testbed::unique("full");
    c.create_pool_with(&name, "rbd", serde_json::json!({"pg_num": 1})).await.unwrap();
    let p = c.pool(&name, None);
    p.rbd().create("i", 1 << 30, Default::default()).await.unwrap();
    let i = p.rbd().open("i").await.unwrap();
    let quota = |value: &str| serde_json::json!({"prefix": "osd pool set-quota", "pool": name, "field": "max_bytes", "val": value});
    c.mon_command(quota("1000000")).await.unwrap();
    // The monitors notice with the next statistics: write until they have.
    let started = Instant::now();
    let mut n = 0u64;
    let e = loop {
        n += 1;
        match p.write_full(&format!("o{n}"), vec![1u8; 100_000].into()).await {
            Ok(()) => assert!(started.elapsed() < Duration::from_secs(60), "the quota is not noticed"),
            Err(e) => break e,
        }
    };
    assert!(matches!(e, Error::NoSpace { .. }), "{e:?}");
    let e = i.write_at(0, vec![1u8; 4096].into()).await.unwrap_err();
    assert!(matches!(e, Error::NoSpace { .. }), "{e:?}");
    // What is there can be read, and removed.
    assert_eq!(p.stat("o1").await.unwrap().size, 100_000);
    p.remove("o1").await.unwrap();
    i.close().await.unwrap();
    let e = p.rbd().remove_or_trash("i").await.unwrap_err();
    assert!(matches!(e, Error::NoSpace { .. }), "{e:?}");
    c.mon_command(quota("0")).await.unwrap();
    let started = Instant::now();
    while let Err(e) = p.rbd().remove("i").await {
        assert!(matches!(e, Error::NoSpace { .. }) && started.elapsed() < Duration::from_secs(60), "{e:?}");
    }
    c.delete_pool(&name).await.unwrap();
}

#[tokio::test]
async fn tiers() {
    let conf = &testbed::ceph().conf;
    let clusters =
        Clusters::connect(&[ClusterConfig::new("a", conf), ClusterConfig::new("b", conf)]).await.unwrap();
    let tier = |name: &str, cluster: &str| TierConfig {
        name: name.into(),
        cluster: cluster.into(),
        pool: "rbd".into(),
        data_pool: None,
        namespace: Some("ns".into()),
    };
    let tiers = Tiers::new(&clusters, &[tier("x", "a"), tier("y", "a"), tier("z", "b")]).unwrap();
    assert_eq!(tiers.names(), ["x", "y", "z"]);
    let [x, y, z] = ["x", "y", "z"].map(|n| tiers.get(n).unwrap());
    assert!(x.same_cluster(&y) && !x.same_cluster(&z));
    assert_eq!(x.pool.namespace(), "ns");
    assert!(tiers.get("none").unwrap_err().is_not_found());
    assert!(matches!(Tiers::new(&clusters, &[tier("x", "a"), tier("x", "b")]), Err(Error::Invalid { .. })));
    assert!(matches!(Tiers::new(&clusters, &[tier("x", "c")]), Err(Error::Invalid { .. })));
}

#[test]
fn configuration_is_strict() {
    let c: ClusterConfig = toml::from_str("name = 'a'\nconf = '/etc/ceph/ceph.conf'").unwrap();
    assert_eq!((c.user.as_str(), c.timeout_s, c.keyring), ("admin", 30, None));
    assert!(toml::from_str::<ClusterConfig>("name = 'a'\nconf = '/x'\ntimeout = 3").is_err());
    assert!(toml::from_str::<TierConfig>("name = 'a'\ncluster = 'c'").is_err());
}

#[tokio::test]
async fn what_cannot_work_is_said_at_once() {
    let absent = ClusterConfig::new("a", "/nonexistent/ceph.conf");
    assert!(matches!(Clusters::connect(&[absent]).await, Err(Error::Invalid { .. })));
    let conf = &testbed::ceph().conf;
    let twice = [ClusterConfig::new("a", conf), ClusterConfig::new("a", conf)];
    assert!(matches!(Clusters::connect(&twice).await, Err(Error::Invalid { .. })));
    // A user that does not exist: the cluster is configured, and every operation says why it fails.
    let stranger = ClusterConfig { user: "stranger".into(), ..ClusterConfig::new("a", conf) };
    let c = Clusters::connect(&[stranger]).await.unwrap().get("a").unwrap();
    let e = c.pool("rbd", None).stat("o").await.unwrap_err();
    assert!(matches!(e, Error::NotFound { .. } | Error::Permission { .. } | Error::Invalid { .. }), "{e:?}");
    assert!(e.what().contains("connect"), "{e}");
}

#[tokio::test]
async fn a_cluster_that_is_away_is_an_error_within_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("ceph.conf");
    // Nobody listens there; the socket is ours, so nobody will.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let text = format!("[global]\nmon_host = [v2:127.0.0.1:{port}]\nauth_client_required = none\n");
    std::fs::write(&conf, text).unwrap();
    let config = ClusterConfig { timeout_s: 2, ..ClusterConfig::new("a", &conf) };
    let started = Instant::now();
    let clusters = Clusters::connect(&[config]).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    let c = clusters.get("a").unwrap();
    assert!(!c.is_connected());
    let p = c.pool("rbd", None);
    let tries = (0..20).map(|_| p.read("o", 0, 1));
    for r in futures::future::join_all(tries).await {
        assert!(r.unwrap_err().is_unavailable());
    }
    assert!(started.elapsed() < Duration::from_secs(10), "attempts were not shared");
}
