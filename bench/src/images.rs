//! Images on their way in and out: raw against `rbd import` and `rbd export`, qcow2 against `qemu-img convert`, of the same
//! file on the same cluster; and that the program does not grow with them.

use crate::Result;
use crate::cloud::{Cloud, Session, id};
use crate::command::run;
use crate::report::Report;
use rand::Rng;
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio_util::io::ReaderStream;

/// Half of it random, half zeroes, as images are.
const MIB: usize = 512;
/// Beside which the program's memory must be flat.
const LARGE_MIB: usize = 4 << 10;

/// Without MD5 and with the hash that machines have instructions for.
const FAST_HASHES: &str = "[image]\nhashing_algorithm = \"sha256\"\nmd5_checksum = false\n";

pub(crate) async fn transfers(cloud: &mut Cloud, runs: usize, report: &mut Report) -> Result<()> {
    let raw = cloud.dir.path().join("bench.raw");
    let qcow2 = cloud.dir.path().join("bench.qcow2");
    fill(&raw, MIB)?;
    run(Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&qcow2))?;
    pairs(cloud, "image upload, raw (`rbd import`)", &raw, "raw", runs, report).await?;
    pairs(cloud, "image upload, qcow2 (`qemu-img convert`)", &qcow2, "qcow2", runs, report).await?;
    downloads(cloud, &raw, runs, report).await?;
    memory(cloud, &raw, report).await?;
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
    let session = cloud.session().await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..=runs {
        let bare = if format == "raw" { rbd_import(cloud, file)? } else { convert(cloud, file)? };
        let (image, took) = put(&session, file, format).await?;
        session.call("DELETE", &format!("/image/v2/images/{image}"), None).await?;
        if n > 0 {
            theirs.push(bare);
            ours.push(took);
        }
    }
    // At least 0.9 of the one's speed, and all of the other's.
    report.against(what, &ours, &theirs, if format == "raw" { "1.11×" } else { "1×" });
    Ok(())
}

async fn downloads(cloud: &Cloud, file: &Path, runs: usize, report: &mut Report) -> Result<()> {
    let session = cloud.session().await?;
    let (image, _) = put(&session, file, "raw").await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..=runs {
        let began = Instant::now();
        let spec = format!("images/{image}@snap");
        // Into a pipe whose other end keeps nothing, as the client of the API does.
        let pipe =
            format!("rbd -c {} --no-progress export {spec} - | cat >/dev/null", cloud.ceph_conf().display());
        run(cloud.beside_engines("bash")?.args(["-o", "pipefail", "-c", &pipe]))?;
        let bare = began.elapsed();
        let took = get(&session, &image).await?;
        if n > 0 {
            theirs.push(bare);
            ours.push(took);
        }
    }
    session.call("DELETE", &format!("/image/v2/images/{image}"), None).await?;
    report.against("image download, raw (`rbd export`)", &ours, &theirs, "1.11×");
    Ok(())
}

/// The greatest resident size while a small and a large image go in and out.
async fn memory(cloud: &Cloud, small: &Path, report: &mut Report) -> Result<()> {
    let session = cloud.session().await?;
    let large = cloud.dir.path().join("bench-large.raw");
    fill(&large, LARGE_MIB)?;
    let mut peaks = [0.0; 2];
    for (file, peak) in [small, large.as_path()].into_iter().zip(&mut peaks) {
        crate::memory::reset_peak(cloud.pid())?;
        let (image, _) = put(&session, file, "raw").await?;
        get(&session, &image).await?;
        *peak = crate::memory::peak_mib(cloud.pid())?;
        session.call("DELETE", &format!("/image/v2/images/{image}"), None).await?;
    }
    std::fs::remove_file(&large)?;
    let [small, large] = peaks;
    report.sizes("peak RSS, 4 GiB up and down again (512 MiB)", large, small, "1.1×");
    Ok(())
}

/// All of its content.
async fn get(session: &Session, image: &str) -> Result<Duration> {
    let began = Instant::now();
    let mut answer = session
        .request("GET", &format!("/image/v2/images/{image}/file"))?
        .send()
        .await?
        .error_for_status()?;
    while answer.chunk().await?.is_some() {}
    Ok(began.elapsed())
}

fn fill(path: &Path, mib: usize) -> Result<()> {
    let mut file = std::fs::File::create(path)?;
    let mut block = vec![0u8; 1 << 20];
    for i in 0..mib {
        if (i / 4) % 2 == 0 {
            rand::rng().fill_bytes(&mut block);
        } else {
            block.fill(0);
        }
        file.write_all(&block)?;
    }
    Ok(())
}

fn rbd_import(cloud: &Cloud, file: &Path) -> Result<Duration> {
    let began = Instant::now();
    run(cloud.tool("rbd")?.args(["--no-progress", "import"]).arg(file).arg("images/bench-import"))?;
    let took = began.elapsed();
    run(cloud.tool("rbd")?.args(["--no-progress", "rm", "images/bench-import"]))?;
    Ok(took)
}

fn convert(cloud: &Cloud, file: &Path) -> Result<Duration> {
    let target = format!("rbd:images/bench-convert:conf={}", cloud.ceph_conf().display());
    let began = Instant::now();
    run(cloud
        .beside_engines("qemu-img")?
        .args(["convert", "-f", "qcow2", "-O", "raw"])
        .arg(file)
        .arg(&target))?;
    let took = began.elapsed();
    run(cloud.tool("rbd")?.args(["--no-progress", "rm", "images/bench-convert"]))?;
    Ok(took)
}

/// Create, upload, wait until active; its id.
async fn put(session: &Session, file: &Path, format: &str) -> Result<(String, Duration)> {
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
    Ok((image, began.elapsed()))
}
