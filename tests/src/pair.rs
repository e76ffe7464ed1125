//! Two Ceph clusters of a test's own that mirror their pool `volumes` to each other, with a real rbd-mirror beside each.
//!
//! They are the test's own and not the run's, so that it may stop one. They take some seconds to start: a test binary
//! has few tests that ask for them. Everything ends with the [`Pair`], by pid, also when the test fails.

use engines::ceph::{self, Ceph};
use nix::sys::signal::Signal;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What rbd-mirror is told so that it looks more often than every half minute, as tests are in a hurry.
const HURRY: [&str; 7] = [
    "--rbd_mirror_pool_replayers_refresh_interval=1",
    "--rbd_mirror_image_state_check_interval=1",
    "--rbd_mirror_leader_heartbeat_interval=1",
    "--rbd_mirror_image_policy_update_throttle_interval=1",
    "--rbd_mirror_journal_poll_age=0.2",
    "--rbd_journal_commit_age=0.5",
    "--rbd_mirror_sync_point_update_age=1",
];

/// The two clusters.
pub struct Pair {
    pub first: Site,
    pub second: Site,
    // Last: the folder goes after what runs in it.
    _dir: tempfile::TempDir,
}

/// A cluster and, once [`Pair::mirror`] was called, its rbd-mirror.
pub struct Site {
    home: PathBuf,
    ceph: Option<Ceph>,
    mirror: Option<Child>,
}

impl Pair {
    /// Starts both clusters.
    ///
    /// # Panics
    /// When one cannot be started: a test cannot go on without.
    pub async fn start() -> Pair {
        let dir =
            tempfile::Builder::new().prefix("aquifer-pair-").tempdir().unwrap_or_else(|e| panic!("{e}"));
        // One after the other: at once they could take the same ports.
        let first = Site::start(dir.path().join("first")).await;
        let second = Site::start(dir.path().join("second")).await;
        Pair { first, second, _dir: dir }
    }

    /// Starts an rbd-mirror beside each cluster.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn mirror(&mut self) {
        self.quiet();
        for site in [&mut self.first, &mut self.second] {
            site.mirror = Some(site.rbd_mirror());
        }
    }

    /// Ends both rbd-mirror daemons, which give back what they hold: from now on nothing comes over.
    pub fn quiet(&mut self) {
        self.first.quiet();
        self.second.quiet();
    }
}

impl Site {
    async fn start(home: PathBuf) -> Site {
        let options = ceph::Options { osd_size: Some(40 << 30), ..ceph::Options::default() };
        let ceph = ceph::start(&home, &options, &engines::Silent).await;
        let ceph = ceph.unwrap_or_else(|e| panic!("{}: {e}", home.display()));
        Site { home, ceph: Some(ceph), mirror: None }
    }

    /// The path of its ceph.conf; `admin` may do everything.
    ///
    /// # Panics
    /// Never: a site has its cluster until it is dropped.
    pub fn conf(&self) -> PathBuf {
        self.ceph().conf()
    }

    /// Holds the cluster still: nobody gets an answer from it.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let ceph = self.ceph();
        assert!(ceph.signal_osd(0, signal) && ceph.signal_mon(signal), "the cluster does not run");
    }

    fn ceph(&self) -> &Ceph {
        self.ceph.as_ref().unwrap_or_else(|| unreachable!("taken by drop only"))
    }

    fn rbd_mirror(&self) -> Child {
        // It reads no `-c` for the connections that it makes beside its first.
        Command::new("rbd-mirror")
            .env("CEPH_CONF", self.conf())
            .args(["-n", "client.admin", "-f"])
            .args(HURRY)
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("rbd-mirror: {e}; run `make test-install`"))
    }
}

impl Site {
    fn quiet(&mut self) {
        let Some(mut mirror) = self.mirror.take() else { return };
        let pid = i32::try_from(mirror.id()).map(nix::unistd::Pid::from_raw);
        if let Ok(pid) = pid {
            let _ = nix::sys::signal::kill(pid, Signal::SIGTERM);
        }
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(20) && matches!(mirror.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        end(mirror);
    }
}

fn end(mut mirror: Child) {
    drop(mirror.kill());
    drop(mirror.wait());
}

impl Drop for Site {
    fn drop(&mut self) {
        // One that waits for a cluster that is held still would not end by itself.
        if let Some(mirror) = self.mirror.take() {
            end(mirror);
        }
        let Some(ceph) = self.ceph.take() else { return };
        ceph.signal_osd(0, Signal::SIGCONT);
        ceph.signal_mon(Signal::SIGCONT);
        // Ends its supervision: what is stopped now stays so.
        drop(ceph);
        let home = self.home.clone();
        let stop = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(ceph::stop(&home)).is_ok())
        });
        drop(stop.join());
    }
}
