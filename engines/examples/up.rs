//! Runs the engines alone: `cargo run -p engines --example up -- DIR [stop | doctor]`.
//!
//! Brings them up, writes DIR/ENDPOINTS, and supervises them until SIGINT or SIGTERM stops them. After
//! SIGKILL they run on, and the next start takes them up again.

#![allow(clippy::print_stderr)]

use engines::{Engines, EnginesConfig, Progress};
use std::path::PathBuf;
use std::time::{Duration, Instant};

struct Lines(Instant);

impl Progress for Lines {
    fn begin(&self, step: &str) {
        eprintln!("{:7.2} s  … {step}", self.0.elapsed().as_secs_f64());
    }
    fn done(&self, step: &str, elapsed: Duration) {
        eprintln!("{:7.2} s  ✓ {step} ({:.2} s)", self.0.elapsed().as_secs_f64(), elapsed.as_secs_f64());
    }
    fn note(&self, text: &str) {
        eprintln!("           {text}");
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().ok_or("usage: up DIR [stop | doctor]")?);
    match args.next().as_deref() {
        Some("stop") => return Ok(engines::stop(&dir).await?),
        Some("doctor") => {
            for check in engines::doctor(&dir).await {
                eprintln!(
                    "{:?} {}: {} {}",
                    check.state,
                    check.name,
                    check.detail,
                    check.remedy.unwrap_or_default()
                );
            }
            return Ok(());
        }
        _ => {}
    }
    let from = Instant::now();
    let running = Engines::up(&dir, &EnginesConfig::default(), &Lines(from)).await?;
    eprintln!("{:7.2} s  ready, {} MiB", from.elapsed().as_secs_f64(), running.rss() >> 20);
    std::fs::write(dir.join("ENDPOINTS"), format!("{:#?}\n", running.endpoints()))?;
    for engine in running.status() {
        eprintln!("  {:<16} pid {:?} {} MiB", engine.name, engine.pid, engine.rss >> 20);
    }
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
    }
    let from = Instant::now();
    running.stop().await?;
    eprintln!("stopped in {:.2} s", from.elapsed().as_secs_f64());
    Ok(())
}
