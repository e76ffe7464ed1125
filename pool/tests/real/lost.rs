//! A cluster that is lost and comes back: a private one, whose daemons are stopped with signals.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pool::{Cluster, ClusterConfig, CreateOptions, Error, Pool, ReadOp, WatchEvent, WriteOp};

use crate::images::bytes;

/// One monitor and one OSD (in memory) in a folder of their own, as children that end with this.
struct Lab {
    dir: tempfile::TempDir,
    mon: Child,
    osd: Option<Child>,
}

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Lab {
    fn conf(&self) -> PathBuf {
        self.dir.path().join("ceph.conf")
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    fn daemon(program: &str, conf: &str, id: &str) -> Child {
        Command::new(program)
            .args(["-f", "-c", conf, "-i", id])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    async fn start() -> (Self, Cluster) {
        let dir = tempfile::Builder::new().prefix("pool-lost-").tempdir().unwrap();
        let d = dir.path().to_string_lossy().into_owned();
        let (fsid, port) = (uuid::Uuid::new_v4(), free_port());
        let conf = format!(
            "[global]\nfsid = {fsid}\nmon_host = [v2:127.0.0.1:{port}]\nmon_initial_members = a\n\
             auth_cluster_required = none\nauth_service_required = none\nauth_client_required = none\n\
             keyring = {d}/keyring\nrun_dir = {d}\nadmin_socket =\nlog_file = {d}/$name.log\n\
             pid_file =\ncrash_dir = {d}\npublic_addr = 127.0.0.1\npublic_network = 127.0.0.0/8\n\
             osd_crush_chooseleaf_type = 0\nosd_pool_default_size = 1\nosd_pool_default_min_size = 1\n\
             osd_pool_default_pg_num = 8\nosd_pool_default_pg_autoscale_mode = off\n\
             mon_allow_pool_size_one = true\nms_async_op_threads = 1\nosd_heartbeat_grace = 3600\n\
             [mon]\nmon_data = {d}/mon\nmon_data_avail_crit = 1\npaxos_propose_interval = 0.05\n\
             paxos_min_wait = 0.01\nmon_osd_report_timeout = 7200\n\
             [osd]\nosd_data = {d}/osd\nosd_objectstore = memstore\nmemstore_device_bytes = 1073741824\n\
             osd_class_load_list = *\nosd_class_default_list = *\nosd_crush_initial_weight = 1\n\
             osd_op_num_shards = 1\nosd_op_num_threads_per_shard = 2\n"
        );
        let conf_path = format!("{d}/ceph.conf");
        std::fs::write(&conf_path, conf).unwrap();
        let (keyring, monmap) = (format!("{d}/keyring"), format!("{d}/monmap"));
        run(
            "ceph-authtool",
            &["--create-keyring", &keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"],
        );
        let all = ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"];
        run("ceph-authtool", &[&[&keyring, "--gen-key", "-n", "client.admin"][..], &all].concat());
        let addr = format!("[v2:127.0.0.1:{port}]");
        run("monmaptool", &["--create", "--fsid", &fsid.to_string(), "--addv", "a", &addr, &monmap]);
        run("ceph-mon", &["-c", &conf_path, "--mkfs", "-i", "a", "--monmap", &monmap, "--keyring", &keyring]);
        let mon = Self::daemon("ceph-mon", &conf_path, "a");
        let mut lab = Self { dir, mon, osd: None };

        let cluster = lab.connect(60);
        let osd_id = uuid::Uuid::new_v4().to_string();
        let new = serde_json::json!({"prefix": "osd new", "uuid": osd_id, "id": 0});
        if let Err(e) = cluster.mon_command(new).await {
            panic!("{e}; the monitor's end: {:?} (28 is a full disk)", lab.mon.try_wait());
        }
        std::fs::create_dir(lab.path("osd")).unwrap();
        run("ceph-osd", &["-c", &conf_path, "-i", "0", "--mkfs", "--osd-uuid", &osd_id]);
        lab.osd = Some(Self::daemon("ceph-osd", &conf_path, "0"));
        cluster.create_pool("rbd", "rbd").await.unwrap();
        cluster.require_clone_v2().await.unwrap();
        cluster.pool("rbd", None).write_full("ready", "yes".into()).await.unwrap();
        (lab, cluster)
    }

    /// A connection of its own, with this deadline.
    fn connect(&self, timeout_s: u64) -> Cluster {
        Cluster::new(ClusterConfig { timeout_s, ..ClusterConfig::new("lab", self.conf()) })
    }

    /// A stop is over when the last thread stands still: until then one on another processor may answer.
    fn signal(child: &Child, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let began = Instant::now();
        while signal == Signal::SIGSTOP && !stands_still(child.id()) {
            assert!(began.elapsed() < Duration::from_secs(10), "a thread goes on after SIGSTOP");
            std::thread::yield_now();
        }
    }

    fn osd(&self, signal: Signal) {
        Self::signal(self.osd.as_ref().unwrap(), signal);
    }
}

fn stands_still(pid: u32) -> bool {
    let mut threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.all(|thread| {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    })
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in [Some(&mut self.mon), self.osd.as_mut()].into_iter().flatten() {
            let _ = child.kill(); // SIGKILL ends a stopped process too
            let _ = child.wait();
        }
    }
}

/// Starts one operation of each kind and gives the futures, polled once: submitted, and not done.
async fn in_flight<'a>(
    p: &'a Pool,
    image: &'a pool::Image,
    n: usize,
) -> Vec<futures::future::BoxFuture<'a, bool>> {
    let oid = format!("o{n}");
    let data = bytes(64 * 1024, n as u8);
    let (o, d) = (oid.clone(), data.clone());
    let mut all: Vec<futures::future::BoxFuture<'a, bool>> = vec![
        async move { p.write_full(&o, d).await.is_ok() }.boxed(),
        async move { p.read("base", 0, 256 * 1024).await.is_ok() }.boxed(),
        async move { p.stat("base").await.is_ok() }.boxed(),
        async move { p.get_xattr("base", "x").await.is_ok() }.boxed(),
        async move { p.omap_get("base", "", "", 100).await.is_ok() }.boxed(),
        async move {
            let op = ReadOp::new().read(0, 100_000).stat().get_xattrs().omap_get("", "", 10).exec(
                "hello",
                "say_hello",
                "",
            );
            p.read_op("base", op).await.is_ok()
        }
        .boxed(),
        async move {
            let op = WriteOp::new().append(vec![1u8; 10_000]).set_xattr("y", "z").cmp_ext(0, "");
            p.write_op("other", op).await.is_ok()
        }
        .boxed(),
        async move { p.notify("base", "hello".into(), Duration::from_secs(1)).await.is_ok() }.boxed(),
        async move { image.read_at(0, 1 << 20).await.is_ok() }.boxed(),
        async move { image.write_at((n as u64 % 16) << 18, data).await.is_ok() }.boxed(),
        async move { image.write_zeroes(1 << 20, 4096).await.is_ok() }.boxed(),
        async move { p.rbd().open("image").await.is_ok() }.boxed(),
        async move { p.rbd().open_read_only("image").await.is_ok() }.boxed(),
    ];
    for f in &mut all {
        futures::poll!(f.as_mut()).is_ready();
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_operations_leave_memory_alone() {
    let (lab, _) = Lab::start().await;
    for timeout_s in [3, 30] {
        let cluster = lab.connect(timeout_s);
        let p = cluster.pool("rbd", None);
        p.write_full("base", bytes(256 * 1024, 1)).await.unwrap();
        p.set_xattr("base", "x", "y").await.unwrap();
        p.omap_set("base", (0..100).map(|i| (format!("k{i}"), bytes(100, 1)))).await.unwrap();
        if timeout_s == 3 {
            p.rbd().create("image", 16 << 20, CreateOptions::default()).await.unwrap();
        }
        let image = p.rbd().open("image").await.unwrap();
        image.write_at(0, bytes(1 << 20, 2)).await.unwrap();

        for round in 0..6 {
            lab.osd(Signal::SIGSTOP);
            let mut ops = Vec::new();
            for n in 0..8 {
                ops.extend(in_flight(&p, &image, n).await);
            }
            match round {
                // Dropped at once; dropped a little later; waited for past the deadline.
                0 | 1 => drop(ops),
                2 | 3 => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    drop(ops);
                }
                // Dropped while the answers come in.
                4 => {
                    lab.osd(Signal::SIGCONT);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    drop(ops);
                }
                _ if timeout_s == 3 => {
                    let started = Instant::now();
                    let done = futures::future::join_all(ops).await;
                    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
                    assert!(done.iter().all(|ok| !ok), "an operation was done by a stopped OSD");
                }
                _ => drop(ops),
            }
            // Whatever was freed is used again, by somebody who would notice.
            let reused: Vec<Vec<u8>> = (0..200).map(|i| vec![0xAB; 1000 * (i % 70) + 16]).collect();
            lab.osd(Signal::SIGCONT);
            // It heals: every kind of operation works.
            p.write_full("after", bytes(5000, round)).await.unwrap();
            assert_eq!(p.read("after", 0, 10_000).await.unwrap(), bytes(5000, round));
            assert_eq!(p.read("base", 0, 256 * 1024).await.unwrap(), bytes(256 * 1024, 1));
            assert_eq!(p.omap_get("base", "", "", 1000).await.unwrap().0.len(), 100);
            image.write_at(8 << 20, bytes(4096, round)).await.unwrap();
            assert_eq!(image.read_at(8 << 20, 4096).await.unwrap(), bytes(4096, round));
            p.rbd().open("image").await.unwrap().close().await.unwrap();
            assert!(reused.iter().all(|v| v.iter().all(|b| *b == 0xAB)), "freed memory was written to");
        }
        image.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_ends_within_its_deadline_and_heals() {
    let (mut lab, _) = Lab::start().await;
    let cluster = lab.connect(2);
    let p = cluster.pool("rbd", None);
    p.rbd().create("i", 16 << 20, CreateOptions::default()).await.unwrap();
    let image = p.rbd().open("i").await.unwrap();
    image.write_at(0, bytes(100, 1)).await.unwrap();

    let rbd = p.rbd();
    lab.osd(Signal::SIGSTOP);
    let started = Instant::now();
    let (a, b, c, d, e, f, g, h) = tokio::join!(
        p.read("ready", 0, 3),
        p.list_page(None, 10),
        rbd.list(),
        image.snap_create("s"),
        image.read_at(0, 100),
        rbd.create("j", 1 << 20, CreateOptions::default()),
        rbd.remove("i"),
        image.diff_iterate(None, 0, 16 << 20, false),
    );
    // The last two have an hour: it is librados' own time-out that ends them.
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    let errors = [a.err(), b.err(), c.err(), d.err(), e.err(), f.err(), g.err(), h.err()];
    for e in &errors {
        assert!(matches!(e, Some(e) if e.is_unavailable()), "{errors:?}");
    }
    // A hung lane refuses nobody for longer than the deadline; the runtime itself is not held up.
    let more = futures::future::join_all((0..100).map(|_| rbd.list())).await;
    assert!(more.iter().all(|r| matches!(r, Err(e) if e.is_unavailable())));
    lab.osd(Signal::SIGCONT);
    let patient = p.with_deadline(Duration::from_secs(20));
    assert_eq!(patient.read("ready", 0, 3).await.unwrap(), "yes");
    patient.rbd().list().await.unwrap();
    assert_eq!(image.with_deadline(Duration::from_secs(20)).read_at(0, 100).await.unwrap(), bytes(100, 1));

    // The monitor is stopped: commands end, data goes on.
    Lab::signal(&lab.mon, Signal::SIGSTOP);
    let started = Instant::now();
    assert!(cluster.health().await.unwrap_err().is_unavailable());
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(p.read("ready", 0, 3).await.unwrap(), "yes");
    // A connection that is new meanwhile fails, and works later.
    let fresh = lab.connect(2);
    let e = fresh.pool("rbd", None).read("ready", 0, 3).await.unwrap_err();
    assert!(matches!(e, Error::Unreachable { .. } | Error::TimedOut { .. }), "{e:?}");
    Lab::signal(&lab.mon, Signal::SIGCONT);
    let mut healed = Err(e);
    let started = Instant::now();
    while healed.is_err() && started.elapsed() < Duration::from_secs(30) {
        healed = fresh.pool("rbd", None).read("ready", 0, 3).await;
    }
    assert_eq!(healed.unwrap(), "yes");

    // A monitor that dies and comes back (the OSD's store is in its memory, so it stays).
    lab.mon.kill().unwrap();
    lab.mon.wait().unwrap();
    assert!(cluster.health().await.unwrap_err().is_unavailable());
    lab.mon = Lab::daemon("ceph-mon", &lab.path("ceph.conf"), "a");
    let started = Instant::now();
    while cluster.health().await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(40), "the monitor is not found again");
    }
    assert_eq!(p.read("ready", 0, 3).await.unwrap(), "yes");
}

/// A watch outlives an OSD that did not answer for longer than the deadline: what is notified afterwards is
/// heard, perhaps after `Lost` and `Restored`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_outlives_a_hung_osd() {
    let (lab, patient) = Lab::start().await;
    let p = lab.connect(2).pool("rbd", None);
    p.write_full("o", "x".into()).await.unwrap();
    let mut watch = p.watch("o").await.unwrap();
    lab.osd(Signal::SIGSTOP);
    assert!(p.stat("o").await.unwrap_err().is_unavailable());
    tokio::time::sleep(Duration::from_secs(15)).await; // longer than librados' own look at its watches
    lab.osd(Signal::SIGCONT);
    let q = patient.pool("rbd", None);
    let notifier = tokio::spawn(async move {
        loop {
            let outcome = q.notify("o", "hello".into(), Duration::from_secs(5)).await.unwrap();
            if !outcome.acks.is_empty() {
                return;
            }
        }
    });
    let listen = async {
        while let Some(event) = watch.next().await {
            if matches!(event, WatchEvent::Notify(_)) {
                return;
            }
        }
        panic!("the watch has ended");
    };
    tokio::time::timeout(Duration::from_secs(60), listen).await.expect("a notification is heard");
    tokio::time::timeout(Duration::from_secs(60), notifier).await.expect("it is answered").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_watch_is_set_up_anew() {
    let (_lab, cluster) = Lab::start().await;
    let p = cluster.pool("rbd", None);
    p.write_full("o", "x".into()).await.unwrap();
    p.rbd().create("i", 1 << 20, CreateOptions::default()).await.unwrap();
    let image = p.rbd().open("i").await.unwrap();
    let address = image.watchers().await.unwrap().remove(0).address;
    let mut watch = p.watch("o").await.unwrap();

    // Fenced: the connection is lost for good, and with it the watch.
    let admin = _lab.connect(30);
    let fence = serde_json::json!({"prefix": "osd blocklist", "blocklistop": "add", "addr": address, "expire": 600.0});
    admin.mon_command(fence).await.unwrap();
    drop(image);
    // librados notices with the next map; using it makes that soon.
    let _ = p.stat("o").await;
    let minute = Duration::from_secs(60);
    let lost = tokio::time::timeout(minute, watch.next()).await.unwrap();
    assert!(matches!(lost, Some(WatchEvent::Lost(_))), "{lost:?}");
    let back = tokio::time::timeout(minute, watch.next()).await.unwrap();
    assert!(matches!(back, Some(WatchEvent::Restored)), "{back:?}");
    let q = admin.pool("rbd", None);
    let (heard, event) = tokio::join!(q.notify("o", Bytes::from("again"), minute), async {
        match watch.next().await {
            Some(WatchEvent::Notify(n)) => n.ack(b"yes"),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(heard.unwrap().acks[0].answer, "yes");
    let () = event;
}

/// What the process runs whose end is tried: it watches an object as soon as it is told, and is killed meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by a_client_that_dies_while_it_opens_keeps_no_image"]
async fn a_client_that_dies() {
    let (conf, oid) = (std::env::var("POOL_GHOST_CONF").unwrap(), std::env::var("POOL_GHOST_OID").unwrap());
    let cluster = Cluster::new(ClusterConfig::new("ghost", conf));
    let p = cluster.pool("rbd", None);
    p.stat(&oid).await.unwrap();
    eprintln!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let _ = p.watch(&oid).await;
}

/// The client's end and its watch wait for a stopped OSD together. Which of them the OSD's threads see first is theirs
/// to say, so it is tried until the watch was second.
async fn haunted(lab: &Lab, p: &Pool) -> String {
    let ghost = |oid: &str| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "lost::a_client_that_dies", "--ignored", "--nocapture"]);
        child.env("POOL_GHOST_CONF", lab.conf()).env("POOL_GHOST_OID", oid);
        child.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for n in 0..100 {
        let name = format!("haunted-{n}");
        p.rbd().create(&name, 1 << 20, CreateOptions::default()).await.unwrap();
        let image = p.rbd().open(&name).await.unwrap();
        let oid = format!("rbd_header.{}", image.info().await.unwrap().id);
        let mut child = ghost(&oid);
        let said = std::io::BufReader::new(child.stderr.take().unwrap());
        assert!(std::io::BufRead::lines(said).any(|line| line.unwrap().contains("ready")));
        lab.osd(Signal::SIGSTOP);
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"\n").unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await; // its request is on its way, or it is tried again
        child.kill().unwrap();
        child.wait().unwrap();
        lab.osd(Signal::SIGCONT);
        let known = p.notify(&oid, Bytes::new(), Duration::from_secs(1)).await.unwrap();
        let watchers = image.watchers().await.unwrap();
        image.close().await.unwrap();
        if watchers.len() > known.acks.len() + known.timed_out.len() {
            return name;
        }
    }
    panic!("no client has left a ghost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_dies_while_it_opens_keeps_no_image() {
    let (lab, cluster) = Lab::start().await;
    let p = cluster.pool("rbd", None);
    let name = haunted(&lab, &p).await;
    assert!(p.rbd().remove(&name).await.unwrap_err().is_busy(), "librbd itself believes in ghosts");
    assert_eq!(p.rbd().remove_or_trash(&name).await.unwrap(), pool::Removed::Trashed);
    assert!(!p.rbd().list().await.unwrap().contains(&name));
}
