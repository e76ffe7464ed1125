//! The doors, tried with the clients that people have: swift, boto3, s3cmd, aws, rclone, restic.
//!
//! `AQUIFER_TEST_BIN` names a folder with the Python ones, if they are not on the path. With
//! `OBJECTSTORE_HOLD=<seconds>` the last test only serves, for trying by hand.

#![allow(clippy::unwrap_used)]

mod common;

use api::server::HeaderNames;
use common::*;
use std::net::SocketAddr;
use std::process::Stdio;
use tokio_util::sync::CancellationToken;

struct Doors {
    room: Room,
    swift: SocketAddr,
    s3: SocketAddr,
    stop: CancellationToken,
}

async fn doors(config: objectstore::Config) -> Doors {
    let room = Room::with(config).await;
    let stop = CancellationToken::new();
    let serve = async |router: axum::Router, names: HeaderNames| {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(api::server::serve_named(listener, router, stop.clone(), names));
        at
    };
    let (swift, s3) = (
        serve(room.store.remapped(room.store.swift_router()), HeaderNames::Title).await,
        serve(room.store.s3_router(), HeaderNames::Lower).await,
    );
    let (store, ended) = (room.store.clone(), stop.clone());
    tokio::spawn(async move { store.sweep(ended).await });
    Doors { room, swift, s3, stop }
}

/// Runs a script of `tests/clients` against the doors; what it prints is shown if it fails.
async fn run(doors: &Doors, program: &str, script: &str) {
    let path = format!("{}/tests/clients/{script}", env!("CARGO_MANIFEST_DIR"));
    let bin = std::env::var("AQUIFER_TEST_BIN").unwrap_or_default();
    let work = tempfile::tempdir().unwrap();
    let output = tokio::process::Command::new(program)
        .arg(path)
        .current_dir(work.path())
        .env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap_or_default()))
        .env("HOME", work.path())
        .env_remove("AWS_CA_BUNDLE")
        .env("SWIFT_URL", format!("http://{}/v1/AUTH_p", doors.swift))
        .env("SWIFT_ROOT", format!("http://{}", doors.swift))
        .env("S3_HOST", doors.s3.to_string())
        .env("AWS_ENDPOINT_URL", format!("http://{}", doors.s3))
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_DEFAULT_REGION", "RegionOne")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    assert!(output.status.success(), "{script}:\n{}\n{}", text(&output.stdout), text(&output.stderr));
}

fn config() -> objectstore::Config {
    objectstore::Config {
        garbage_grace_s: 1,
        s3_hosts: vec!["s3.example".into()],
        s3_website_hosts: vec!["web.example".into()],
        lifecycle_interval_s: 1,
        lifecycle_day_s: 1,
        swift_domains: vec!["swift.example".into()],
        access_log_interval_s: 1,
        notification_networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..common::config()
    }
}

macro_rules! scripts {
    ($($name:ident $program:literal $script:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let doors = doors(config()).await;
            run(&doors, $program, $script).await;
            doors.stop.cancel();
        }
    )*};
}

scripts! {
    swift_wire "python3" "swift_wire.py";
    swift_client "bash" "swift.sh";
    boto3 "python3" "boto3_walk.py";
    boto3_versions "python3" "boto3_versions.py";
    boto3_lock "python3" "boto3_lock.py";
    boto3_lifecycle "python3" "boto3_lifecycle.py";
    boto3_classes "python3" "boto3_classes.py";
    boto3_events "python3" "boto3_events.py";
    boto3_paying "python3" "boto3_paying.py";
    boto3_checksums "python3" "boto3_checksums.py";
    boto3_hosts "python3" "boto3_hosts.py";
    s3_wire "python3" "s3_wire.py";
    swift_versions "python3" "swift_versions.py";
    swift_client_versions "bash" "swift_versions.sh";
    aws_versions "bash" "aws_versions.sh";
    aws "bash" "aws.sh";
    s3cmd "bash" "s3cmd.sh";
    s3_access "python3" "s3_access.py";
    s3_form "python3" "s3_form.py";
    s3_website "python3" "s3_website.py";
    s3_encryption "python3" "s3_encryption.py";
    swift_access "python3" "swift_access.py";
    swift_web "python3" "swift_web.py";
    swift_account "python3" "swift_account.py";
    rclone "bash" "rclone.sh";
    restic "bash" "restic.sh";
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swift_limits() {
    let ratelimit =
        objectstore::RateLimits { account: 2, container: 4, max_sleep_s: 1, ..Default::default() };
    let doors = doors(objectstore::Config { ratelimit, ..config() }).await;
    run(&doors, "python3", "swift_limits.py").await;
    doors.stop.cancel();
}

/// s3fs mounts a bucket as a file system: where this machine lets nobody mount, there is nothing to try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3fs() {
    let mountable = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok();
    if !mountable || std::process::Command::new("s3fs").arg("--version").output().is_err() {
        eprintln!("skipped: s3fs needs /dev/fuse, which this machine does not give, or is not installed");
        return;
    }
    let doors = doors(config()).await;
    run(&doors, "bash", "s3fs.sh").await;
    doors.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold() {
    let Some(seconds) = std::env::var("OBJECTSTORE_HOLD").ok().and_then(|s| s.parse().ok()) else { return };
    let doors = doors(config()).await;
    println!("SWIFT_ROOT=http://{} AWS_ENDPOINT_URL=http://{} # token p:member", doors.swift, doors.s3);
    println!("namespace {}", doors.room.namespace);
    tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
    doors.stop.cancel();
}
