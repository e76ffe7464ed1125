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

/// A process and all its children, MiB. What workers share counts once for each, on both sides of a comparison.
pub(crate) fn of_tree(pid: u32) -> Result<f64> {
    let mut all = mib(pid)?;
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?;
    for task in tasks {
        let children = std::fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|c| c.parse().ok()) {
            all += of_tree(child).unwrap_or_default();
        }
    }
    Ok(all)
}

/// Forgets how large a process has been.
pub(crate) fn reset_peak(pid: u32) -> Result<()> {
    Ok(std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

/// The greatest that a process has been since it was forgotten, MiB.
pub(crate) fn peak_mib(pid: u32) -> Result<f64> {
    status(pid, "VmHWM:")
}

/// Processor seconds that a process has used.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything; user and system time are the 14th and 15th field.
    let rest = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
    let ticks: u64 = rest.split(' ').skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}

pub(crate) fn mib(pid: u32) -> Result<f64> {
    status(pid, "VmRSS:")
}

fn status(pid: u32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status
        .lines()
        .find_map(|l| l.strip_prefix(field))
        .and_then(|v| v.trim().split(' ').next()?.parse::<f64>().ok());
    kib.map(|k| k / 1024.0).ok_or_else(|| BenchError::Said(format!("pid {pid} has no {field}")))
}
