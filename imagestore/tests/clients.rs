//! The API as the clients that people have ask for it. `AQUIFER_TEST_BIN` names the folder with them, if they are not
//! on the path.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::Cloud;
use std::process::Stdio;

/// Runs a script of `tests/clients` against a service of its own; what it prints is shown if it fails.
async fn run(program: &str, script: &str) {
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    let bin = std::env::var("AQUIFER_TEST_BIN").unwrap_or_default();
    let work = tempfile::tempdir().unwrap();
    let output = tokio::process::Command::new(program)
        .arg(format!("{}/tests/clients/{script}", env!("CARGO_MANIFEST_DIR")))
        .current_dir(work.path())
        .env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap_or_default()))
        .env("HOME", work.path())
        .env("PYTHONWARNINGS", "ignore")
        .env("IMAGE_URL", format!("{}/image", c.url))
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    assert!(output.status.success(), "{script}:\n{}\n{}", text(&output.stdout), text(&output.stderr));
    c.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn glance() {
    run("bash", "glance.sh").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openstacksdk() {
    run("python3", "sdk.py").await;
}
