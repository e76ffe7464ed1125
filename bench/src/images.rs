//! Image upload: raw against `rbd import`, qcow2 against `qemu-img convert`, of the same file on the same cluster.

use crate::cloud::{Cloud, Session, id};
use crate::report::Report;
use crate::{BenchError, Result};
use rand::Rng;
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio_util::io::ReaderStream;

/// Half of it random, half zeroes, as images are.
const MIB: usize = 512;

/// Without MD5 and with the hash that machines have instructions for.
const FAST_HASHES: &str = "[image]\nhashing_algorithm = \"sha256\"\nmd5_checksum = false\n";

pub(crate) async fn upload(cloud: &mut Cloud, runs: usize, report: &mut Report) -> Result<()> {
    let raw = cloud.dir.path().join("bench.raw");
    let qcow2 = cloud.dir.path().join("bench.qcow2");
    fill(&raw)?;
    run(Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&qcow2))?;
    pairs(cloud, "image upload, raw (`rbd import`)", &raw, "raw", runs, report).await?;
    pairs(cloud, "image upload, qcow2 (`qemu-img convert`)", &qcow2, "qcow2", runs, report).await?;
    cloud.configure(FAST_HASHES)?;
    pairs(cloud, "the same with SHA-256 alone, raw", &raw, "raw", runs, report).await?;
    pairs(cloud, "the same with SHA-256 alone, qcow2", &qcow2, "qcow2", runs, report).await?;
    cloud.configure("")
}

/// One format, both sides in turn.
async fn pairs(
    cloud: &Cloud,
    what: &str,
    file: &Path,
    format: &str,
    runs: usize,
    report: &mut Report,
) -> Result<()> {
    let (session, conf) = (cloud.session().await?, cloud.ceph_conf());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..=runs {
        let bare =
            if format == "raw" { rbd_import(cloud, &conf, file)? } else { convert(cloud, &conf, file)? };
        let took = put(&session, file, format).await?;
        if n > 0 {
            theirs.push(bare);
            ours.push(took);
        }
    }
    report.against(what, &ours, &theirs, "1.25×");
    Ok(())
}

fn fill(path: &Path) -> Result<()> {
    let mut file = std::fs::File::create(path)?;
    let mut block = vec![0u8; 1 << 20];
    for i in 0..MIB {
        if (i / 4) % 2 == 0 {
            rand::rng().fill_bytes(&mut block);
        } else {
            block.fill(0);
        }
        file.write_all(&block)?;
    }
    Ok(())
}

fn rbd_import(cloud: &Cloud, conf: &Path, file: &Path) -> Result<Duration> {
    let rbd = |args: &[&str]| -> Result<Command> {
        let mut c = cloud.beside_engines("rbd")?;
        c.arg("-c").arg(conf).args(["--no-progress"]).args(args);
        Ok(c)
    };
    let began = Instant::now();
    run(rbd(&["import"])?.arg(file).arg("images/bench-import"))?;
    let took = began.elapsed();
    run(&mut rbd(&["rm", "images/bench-import"])?)?;
    Ok(took)
}

fn convert(cloud: &Cloud, conf: &Path, file: &Path) -> Result<Duration> {
    let target = format!("rbd:images/bench-convert:conf={}", conf.display());
    let began = Instant::now();
    run(cloud
        .beside_engines("qemu-img")?
        .args(["convert", "-f", "qcow2", "-O", "raw"])
        .arg(file)
        .arg(&target))?;
    let took = began.elapsed();
    run(cloud.beside_engines("rbd")?.arg("-c").arg(conf).args([
        "--no-progress",
        "rm",
        "images/bench-convert",
    ]))?;
    Ok(took)
}

/// Create, upload, wait until active.
async fn put(session: &Session, file: &Path, format: &str) -> Result<Duration> {
    let began = Instant::now();
    let body = json!({"name": "bench", "disk_format": format, "container_format": "bare"});
    let image = id(&session.call("POST", "/image/v2/images", Some(body)).await?)?;
    let body =
        reqwest::Body::wrap_stream(ReaderStream::with_capacity(tokio::fs::File::open(file).await?, 1 << 20));
    let path = format!("/image/v2/images/{image}");
    let put =
        session.request("PUT", &format!("{path}/file"))?.header("content-type", "application/octet-stream");
    put.body(body).send().await?.error_for_status()?;
    session.until(&path, "/status", "active").await?;
    let took = began.elapsed();
    session.call("DELETE", &path, None).await?;
    Ok(took)
}

pub(crate) fn run(command: &mut Command) -> Result<()> {
    let out = command.output()?;
    if out.status.success() {
        return Ok(());
    }
    Err(BenchError::Said(format!("{command:?}: {}", String::from_utf8_lossy(&out.stderr))))
}
