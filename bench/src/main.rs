//! Side-by-side measurements: what Aquifer does, and what the engine alone does, on the same machine, in the
//! same run, in turn. Prints a Markdown table of medians and ratios; a single absolute time means little on a
//! shared machine, a ratio means something.
//!
//! `make bench` builds the release binary and runs all of it; `--only` picks measurements.
#![allow(clippy::print_stdout)]

mod boot;
mod cloud;
mod command;
mod identity;
mod images;
mod jobs;
mod lists;
mod memory;
mod objects;
mod report;
mod upstream;
mod volumes;
mod wrk;

use clap::{Parser, ValueEnum};
use cloud::Cloud;
use report::Report;
use std::path::PathBuf;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Nothing → ready, stop → ready, idle memory.
    Start,
    /// Volumes from image, snapshot and volume against bare librbd clones.
    Volume,
    /// Volumes in numbers: many at once, long lists, large ones; images of them and backups against copies.
    Volumes,
    /// Lists of volumes and images against upstream's Cinder and Glance, which are installed for it.
    Lists,
    /// Image upload and download against `rbd import`, `rbd export` and `qemu-img convert`.
    Image,
    /// POST server → user space against plain QEMU on a clone.
    Boot,
    /// Identity against upstream's Keystone, which is installed for it.
    Identity,
    /// Objects against radosgw and `rados bench`.
    Objects,
    /// Identity with a million users against an empty one.
    Users,
}

/// Measures a cloud of its own, in a scratch directory.
#[derive(Debug, Parser)]
struct Args {
    /// The program under test.
    #[arg(long, default_value = "target/release/aquifer")]
    aquifer: PathBuf,
    /// Counted runs of each side, after one that is not counted.
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Seconds of each load on identity, lists and objects.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The users of `--only users`; each has a tenth of the assignments, at least one.
    #[arg(long, default_value_t = 1_000_000)]
    users: u64,
    #[arg(long, default_value_t = 10_000_000)]
    assignments: u64,
    /// Of `--only objects`: how many objects there are in the bucket that is listed, and how many buckets.
    #[arg(long, default_value_t = 1_000_000)]
    objects: u64,
    #[arg(long, default_value_t = 10_000)]
    buckets: u64,
    /// Of `--only objects`: these loads alone.
    #[arg(long, value_delimiter = ',')]
    loads: Vec<objects::Load>,
    /// Measure these alone.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("{0}")]
    Said(String),
    #[error("I/O")]
    Io(#[from] std::io::Error),
    #[error("HTTP")]
    Http(#[from] reqwest::Error),
    #[error("Ceph")]
    Pool(#[from] pool::Error),
}

pub(crate) type Result<T> = std::result::Result<T, BenchError>;

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let wanted = |p: Part| args.only.is_empty() || args.only.contains(&p);
    let mut report = Report::default();
    if wanted(Part::Users) {
        identity::many::users(args.users, args.assignments, &mut report).await?;
    }
    if args.only.iter().all(|p| *p == Part::Users) && !args.only.is_empty() {
        report.print();
        return Ok(());
    }
    let mut cloud = Cloud::start_new(&args.aquifer)?;
    if wanted(Part::Start) {
        report.plain("nothing → cloud ready", &[cloud.first_start], "15 s");
        memory::idle(&cloud, &mut report).await?;
        let again = (0..3).map(|_| cloud.restart()).collect::<Result<Vec<_>>>()?;
        report.plain("stopped → cloud ready again", &again, "8 s");
    }
    let session = cloud.session().await?;
    if wanted(Part::Volume) {
        volumes::clones(&mut cloud, args.runs, &mut report).await?;
    }
    if wanted(Part::Volumes) {
        jobs::volumes(&mut cloud, args.runs, &mut report).await?;
    }
    if wanted(Part::Lists) {
        lists::against_upstream(&mut cloud, args.seconds, &mut report).await?;
    }
    if wanted(Part::Image) {
        images::transfers(&mut cloud, args.runs.min(3), &mut report).await?;
    }
    if wanted(Part::Boot) {
        boot::to_user_space(&cloud, &session, args.runs.min(5), &mut report).await?;
    }
    if wanted(Part::Identity) {
        identity::against_keystone(&cloud, args.seconds, &mut report).await?;
    }
    let mut objects = objects::Table::default();
    if wanted(Part::Objects) {
        let scale = objects::Scale { seconds: args.seconds, objects: args.objects, buckets: args.buckets };
        objects = objects::against_radosgw(&cloud, scale, &args.loads).await?;
    }
    cloud.stop()?;
    report.print();
    objects.print();
    Ok(())
}
