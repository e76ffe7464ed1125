//! `testbed exec COMMAND…`: starts one private Ceph and one private PostgreSQL in a scratch directory, runs
//! the command with their names in its environment, stops them, and ends with the command's exit code.
#![allow(clippy::print_stderr)]

mod postgres;

use engines::ceph;
use postgres::Postgres;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((verb, command)) if verb == "exec" && !command.is_empty() => match exec(command).await {
            Ok(code) => code,
            Err(e) => {
                eprintln!("testbed: {e}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: testbed exec COMMAND [ARGUMENT …]");
            ExitCode::FAILURE
        }
    }
}

async fn exec(command: &[String]) -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    let began = Instant::now();
    let dir = tempfile::Builder::new().prefix("aquifer-testbed-").tempdir()?;
    // PostgreSQL's own user must reach its folder below.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let options = ceph::Options { osd_size: Some(40 << 30), ..ceph::Options::default() };
    let home = dir.path().join("cluster");
    let cluster = ceph::start(&home, &options, &engines::Silent);
    let (cluster, postgres) = tokio::join!(cluster, Postgres::start(dir.path()));
    let outcome = match (&cluster, &postgres) {
        (Ok(cluster), Ok(postgres)) => {
            eprintln!(
                "testbed: Ceph and PostgreSQL are up after {:.1} s, with {} GB of disk left",
                began.elapsed().as_secs_f64(),
                disk_left(dir.path())?
            );
            rbd_pool(&cluster.conf()).await?;
            let scratch = dir.path().join("tmp");
            std::fs::create_dir(&scratch)?;
            run(
                command,
                &[
                    ("AQUIFER_TEST_CEPH", cluster.conf().display().to_string()),
                    ("AQUIFER_TEST_PG", postgres.url()),
                    ("TMPDIR", scratch.display().to_string()),
                ],
            )
            .await
        }
        (Err(e), _) => Err(format!("Ceph: {e}").into()),
        (_, Err(e)) => Err(format!("PostgreSQL: {e}").into()),
    };
    if let Ok(postgres) = postgres {
        postgres.stop().await?;
    }
    if let Ok(cluster) = cluster {
        cluster.stop().await?;
    }
    outcome
}

/// In GB. A full disk looks like broken tests: no further monitor starts on the last hundredth.
fn disk_left(dir: &Path) -> Result<u64, nix::Error> {
    let disk = nix::sys::statvfs::statvfs(dir)?;
    Ok(disk.blocks_available() * disk.fragment_size() / 1_000_000_000)
}

/// The pool `rbd`, in which every test takes a namespace of its own.
async fn rbd_pool(conf: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    for argv in ["ceph osd pool create rbd 16", "rbd pool init rbd"] {
        let words: Vec<&str> = argv.split(' ').collect();
        let out =
            tokio::process::Command::new(words[0]).arg("-c").arg(conf).args(&words[1..]).output().await?;
        if !out.status.success() {
            return Err(format!("{argv}: {}", String::from_utf8_lossy(&out.stderr)).into());
        }
    }
    Ok(())
}

/// Runs the command; an interrupt is passed on by the terminal, so it is only awaited here.
async fn run(command: &[String], env: &[(&str, String)]) -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut child = tokio::process::Command::new(&command[0])
        .args(&command[1..])
        .envs(env.iter().map(|(k, v)| (*k, v.as_str())))
        .spawn()
        .map_err(|e| format!("{}: {e}", command[0]))?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => child.start_kill()?,
        }
    };
    Ok(status.code().and_then(|c| u8::try_from(c).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
