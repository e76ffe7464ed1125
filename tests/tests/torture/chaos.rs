//! The trouble: one thing at a time, at random.

use crate::cloud::Cloud;
use crate::cloud::wire::Wire;
use pool::{ClusterConfig, Clusters, Pool};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::RwLock;

/// What is full at once.
const POOLS: [&str; 3] = ["volumes", "vms", "images"];

#[derive(Clone)]
pub struct Chaos {
    cloud: Arc<Mutex<Cloud>>,
    wire: Arc<Wire>,
    random: Arc<Mutex<StdRng>>,
    told: Arc<Mutex<BTreeMap<&'static str, u32>>>,
    /// Counted up when the pools get full, and when they are not any more.
    fulls: Arc<AtomicU32>,
    /// Whoever writes a disk as a guest would holds it: a guest's own writes are not what is tested.
    pub calm: Arc<RwLock<()>>,
}

/// A number of the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |v| v.parse().unwrap())
}

/// The cloud's pools of these names, through a connection of the test's own.
pub async fn pools<const N: usize>(cloud: &Cloud, names: [&str; N]) -> (Clusters, [Pool; N]) {
    let conf = ClusterConfig::new("torture", cloud.path("ceph/ceph.conf"));
    let clusters = Clusters::connect(&[conf]).await.unwrap();
    let cluster = clusters.get("torture").unwrap();
    (clusters, names.map(|name| cluster.pool(name, None)))
}

/// A cloud whose database is behind a wire.
pub async fn wired(args: &[&str]) -> (Cloud, Wire) {
    let url = testbed::database_url().await;
    let target = url.split('@').nth(1).unwrap().split('/').next().unwrap();
    let wire = Wire::to(target).await;
    let through = url.replacen(target, &format!("127.0.0.1:{}", wire.port), 1);
    (Cloud::up_with(&[&["--database", &through], args].concat()), wire)
}

impl Chaos {
    pub fn new(cloud: Cloud, wire: Wire, seed: u64) -> Chaos {
        Chaos {
            cloud: Arc::new(Mutex::new(cloud)),
            wire: Arc::new(wire),
            random: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))),
            told: Arc::default(),
            fulls: Arc::default(),
            calm: Arc::default(),
        }
    }

    pub fn told(&self) -> String {
        format!("{:?}", self.told.lock().unwrap())
    }

    /// Odd while the pools are full.
    pub fn fulls(&self) -> u32 {
        self.fulls.load(Ordering::SeqCst)
    }

    /// Whether the pools were full at some moment since [`Chaos::fulls`] was `before`.
    pub fn full_since(&self, before: u32) -> bool {
        before % 2 == 1 || self.fulls() != before
    }

    fn draw(&self, below: u64) -> u64 {
        self.random.lock().unwrap().random_range(0..below)
    }

    /// Troubles the cloud while clients work on it: what these have made of it. Each is told when to end.
    pub async fn with<T: Send + 'static, C: Future<Output = T> + Send + 'static>(
        &self,
        seconds: u64,
        clients: impl Iterator<Item = impl FnOnce(Instant) -> C>,
    ) -> Vec<T> {
        let end = Instant::now() + Duration::from_secs(seconds);
        let work: Vec<_> = clients.map(|client| tokio::spawn(client(end))).collect();
        let trouble = tokio::spawn(self.clone().run(end));
        let mut models = Vec::new();
        for client in work {
            models.push(
                client.await.unwrap_or_else(|e| panic!("{e}\n{}", self.cloud.lock().unwrap().output())),
            );
        }
        trouble.await.unwrap();
        models
    }

    async fn run(self, end: Instant) {
        while Instant::now() < end {
            self.pause(2000 + self.draw(3000)).await;
            let _storm = self.calm.clone().write_owned().await;
            match self.draw(4) {
                0 => self.kill().await,
                1 => self.hung_osd().await,
                2 => self.no_database().await,
                _ => self.full().await,
            }
        }
    }

    async fn pause(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    fn note(&self, what: &'static str) {
        *self.told.lock().unwrap().entry(what).or_default() += 1;
    }

    /// `kill -9` of the program, and its start.
    async fn kill(&self) {
        self.note("kill -9");
        let cloud = self.cloud.clone();
        let again = move || {
            let mut cloud = cloud.lock().unwrap();
            cloud.kill();
            cloud.start();
        };
        tokio::task::spawn_blocking(again).await.unwrap();
    }

    async fn hung_osd(&self) {
        self.note("hung OSD");
        let osd = std::fs::read_to_string(self.cloud.lock().unwrap().path("run/ceph-osd.0.pid")).unwrap();
        let signal = |name: &str| {
            assert!(Command::new("kill").args([name, osd.trim()]).status().unwrap().success());
        };
        signal("-STOP");
        self.pause(1000 + self.draw(3000)).await;
        signal("-CONT");
    }

    async fn no_database(&self) {
        self.note("no database");
        self.wire.cut();
        self.pause(500 + self.draw(3000)).await;
        self.wire.mend();
    }

    async fn full(&self) {
        self.note("full pools");
        self.fulls.fetch_add(1, Ordering::SeqCst);
        self.quota("1").await;
        self.pause(3000 + self.draw(3000)).await;
        self.quota("0").await;
        self.room().await;
        self.fulls.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until the OSD has heard that there is room: a write waits as long.
    async fn room(&self) {
        let conf = self.cloud.lock().unwrap().path("ceph/ceph.conf");
        let write = move || {
            for pool in POOLS {
                for what in [&["put", "torture-probe", "/etc/hostname"][..], &["rm", "torture-probe"]] {
                    let mut rados = Command::new("rados");
                    rados.arg("-c").arg(&conf).args(["-p", pool]).args(what);
                    let out = rados.output().unwrap();
                    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
                }
            }
        };
        tokio::task::spawn_blocking(write).await.unwrap();
    }

    async fn quota(&self, bytes: &'static str) {
        let conf = self.cloud.lock().unwrap().path("ceph/ceph.conf");
        let set = move || {
            for pool in POOLS {
                let mut ceph = Command::new("ceph");
                ceph.arg("-c").arg(&conf).args(["osd", "pool", "set-quota", pool, "max_bytes", bytes]);
                let out = ceph.output().unwrap();
                assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            }
        };
        tokio::task::spawn_blocking(set).await.unwrap();
    }
}
