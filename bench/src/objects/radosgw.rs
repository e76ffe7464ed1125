//! Upstream's gateway on the cloud's own cluster, in the engines' network, and `rados bench` beside it. Both end with
//! the value.

use super::s3::Door;
use crate::cloud::Cloud;
use crate::command::run;
use crate::{BenchError, Result};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const ACCESS_KEY: &str = "AQUIFERBENCH";
const SECRET: &str = "aquifer-bench-secret";
const PORT: u16 = 7480;
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct RadosGw {
    child: Child,
    pub(super) door: Door,
}

impl RadosGw {
    pub(super) fn start(cloud: &Cloud) -> Result<RadosGw> {
        // As many placement groups as the pool that the cloud's objects are in.
        for pool in ["default.rgw.buckets.data", "default.rgw.buckets.index"] {
            run(cloud.tool("ceph")?.args(["osd", "pool", "create", pool, "16", "16"]))?;
        }
        let admin = ["user", "create", "--uid=bench", "--display-name=bench", "--max-buckets=1000000"];
        let keys = [format!("--access-key={ACCESS_KEY}"), format!("--secret-key={SECRET}")];
        run(cloud.tool("radosgw-admin")?.args(admin).args(keys))?;
        let log: PathBuf = cloud.dir.path().join("log/radosgw.log");
        let child = cloud
            .tool("radosgw")?
            .arg("-f")
            .arg(format!("--rgw_frontends=beast port={PORT} tcp_nodelay=1"))
            .arg("--rgw_enable_usage_log=false")
            .arg(format!("--log-file={}", log.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let door = Door {
            name: "radosgw",
            address: format!("{}:{PORT}", cloud.engines_address()?),
            access_key: ACCESS_KEY.into(),
            secret: SECRET.into(),
            pid: child.id(),
        };
        let mut gateway = RadosGw { child, door };
        let began = Instant::now();
        while TcpStream::connect(&gateway.door.address).is_err() {
            if gateway.child.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                return Err(BenchError::Said(format!("radosgw did not come up: see {}", log.display())));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(gateway)
    }
}

impl Drop for RadosGw {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Removes now what radosgw would remove hours after it was deleted.
pub(super) fn collect_garbage(cloud: &Cloud) -> Result<()> {
    run(cloud.tool("radosgw-admin")?.args(["gc", "process", "--include-all"])).map(drop)
}

/// What `rados bench` makes of it: operations a second written and read, of so many bytes, so many at once. It writes
/// `most` objects at most.
pub(super) fn rados_bench(
    cloud: &Cloud,
    bytes: usize,
    at_once: usize,
    seconds: u64,
    most: u64,
) -> Result<(f64, f64)> {
    let bench = |mode: &[&str]| -> Result<f64> {
        let mut command = cloud.tool("rados")?;
        command.args(["-p", "objects", "-N", "bench", "bench", &seconds.to_string()]).args(mode);
        let said = run(command.args(["-t", &at_once.to_string()]))?;
        let iops = said.lines().find_map(|l| l.strip_prefix("Average IOPS:")?.trim().parse().ok());
        iops.ok_or_else(|| BenchError::Said(format!("rados bench said {said}")))
    };
    let most = format!("--max-objects={most}");
    let write = bench(&["write", "-b", &bytes.to_string(), "--no-cleanup", &most])?;
    let read = bench(&["rand"])?;
    run(cloud.tool("rados")?.args(["-p", "objects", "-N", "bench", "cleanup"]))?;
    Ok((write, read))
}
