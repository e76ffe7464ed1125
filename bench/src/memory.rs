//! Idle memory: the program's own, and of all that `up` started.

use crate::cloud::Cloud;
use crate::report::Report;
use crate::{BenchError, Result};
use std::time::Duration;

/// Measured after the cloud has been left alone for a while: caches of the first start have settled.
const SETTLE: Duration = Duration::from_secs(20);

pub(crate) async fn idle(cloud: &Cloud, report: &mut Report) -> Result<()> {
    tokio::time::sleep(SETTLE).await;
    let own = mib(cloud.pid())?;
    report.size("aquifer, idle RSS", own, "60 MiB");
    let mut all = own;
    for entry in std::fs::read_dir(cloud.dir.path().join("run"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "pid") {
            let pid = std::fs::read_to_string(&path)?.trim().parse().unwrap_or_default();
            all += mib(pid).unwrap_or_default();
        }
    }
    report.size("the whole of `up` with its engines, idle RSS", all, "350 MiB");
    Ok(())
}

fn mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .and_then(|v| v.trim().split(' ').next()?.parse::<f64>().ok());
    kib.map(|k| k / 1024.0).ok_or_else(|| BenchError::Said(format!("pid {pid} has no VmRSS")))
}
