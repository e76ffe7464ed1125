//! One load: so many connections, each with one request at a time, for a while or until all is done; and what it took.

use super::s3::{Door, Request};
use crate::{BenchError, Result, memory};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Much {
    /// So long, but no more requests than this.
    For(Duration, u64),
    Requests(u64),
}

/// What a load took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Took {
    pub(super) requests: u64,
    pub(super) seconds: f64,
    pub(super) p99_ms: f64,
    /// Processor seconds of the server for 10,000 requests.
    pub(super) cpu: f64,
    /// The server's greatest resident size meanwhile, MiB.
    pub(super) peak_mib: f64,
}

impl Took {
    pub(super) fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds.max(1e-9)
    }
}

/// Runs a load; `make` gives the request with a number that is used once.
pub(super) async fn run(
    door: &Door,
    connections: usize,
    much: Much,
    make: impl Fn(u64) -> Request + Send + Sync + 'static,
) -> Result<Took> {
    let (next, make) = (Arc::new(AtomicU64::new(0)), Arc::new(make));
    memory::reset_peak(door.pid)?;
    let (cpu, began) = (memory::cpu_seconds(door.pid)?, Instant::now());
    let mut tasks: JoinSet<Result<Vec<u32>>> = JoinSet::new();
    for _ in 0..connections {
        let (door, next, make) = (door.clone(), next.clone(), make.clone());
        tasks.spawn(async move {
            let mut connection = door.connect().await?;
            let mut times = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let over = match much {
                    Much::For(time, most) => began.elapsed() >= time || n >= most,
                    Much::Requests(all) => n >= all,
                };
                if over {
                    return Ok(times);
                }
                let request = make(n);
                let sent = Instant::now();
                connection.call(&request).await?;
                times.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done.map_err(|e| BenchError::Said(e.to_string()))??);
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu = memory::cpu_seconds(door.pid)? - cpu;
    times.sort_unstable();
    let requests = times.len() as u64;
    let p99 = times.get((times.len() * 99 / 100).min(times.len().saturating_sub(1)));
    Ok(Took {
        requests,
        seconds,
        p99_ms: p99.copied().map_or(0.0, f64::from) / 1e3,
        cpu: cpu * 1e4 / requests.max(1) as f64,
        peak_mib: memory::peak_mib(door.pid)?,
    })
}
