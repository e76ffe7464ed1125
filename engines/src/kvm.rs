//! Whether guests really run under KVM here. That `/dev/kvm` opens proves nothing: on some machines
//! (nested virtualisation without the instructions that a kernel needs) guests are created and then stop
//! at their first unusual instruction. So a guest is booted, once, and what came of it is remembered.

use crate::error::{EngineError, Result};
use crate::files;
use crate::test_image;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

/// A guest that has not reached user space by then does not get there.
const LIMIT: Duration = Duration::from_secs(15);
const EMULATOR: &str = "qemu-system-x86_64";

/// What the probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kvm {
    pub works: bool,
    /// Why, in plain words.
    pub detail: String,
    /// What it was found for; a change asks for a new probe.
    machine: String,
}

/// Whether guests run under KVM. The answer of the first call is kept in `dir` until the kernel, the
/// processor or the emulator changes. Without the test image nothing can be tried: then it does not work,
/// `detail` says why, and the next call tries again.
pub async fn kvm_works(dir: &Path) -> Result<Kvm> {
    let machine = machine();
    let path = dir.join("kvm.json");
    let known = files::read_if_there(&path)?.and_then(|text| serde_json::from_str::<Kvm>(&text).ok());
    if let Some(known) = known.filter(|known| known.machine == machine) {
        return Ok(known);
    }
    let (works, detail) = match probe().await {
        Ok(found) => found,
        Err(error) => {
            return Ok(Kvm { works: false, detail: format!("it could not be tried: {error}"), machine });
        }
    };
    let found = Kvm { works, detail, machine };
    let text = serde_json::to_string(&found).map_err(|error| EngineError::file(&path)(error.into()))?;
    files::write_atomic(&path, &text, 0o644)?;
    Ok(found)
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo").lines().find(|line| line.starts_with("model name")).map(str::to_owned);
    let emulator = crate::process::find(EMULATOR).and_then(|path| path.metadata().ok()?.modified().ok());
    let device = Path::new("/dev/kvm").exists();
    format!("{} {} {emulator:?} {device}", read("/proc/sys/kernel/osrelease").trim(), cpu.unwrap_or_default())
}

async fn probe() -> Result<(bool, String)> {
    if !Path::new("/dev/kvm").exists() {
        return Ok((false, "there is no /dev/kvm".into()));
    }
    boots("kvm", "host", LIMIT).await
}

/// Boots the test image's kernel under `accelerator` until it reports its user space.
pub(crate) async fn boots(accelerator: &str, cpu: &str, limit: Duration) -> Result<(bool, String)> {
    let image = test_image::cached().await?;
    let mut command = Command::new(EMULATOR);
    command.args(["-accel", accelerator, "-cpu", cpu, "-m", "192", "-display", "none", "-no-reboot"]);
    command.args(["-nic", "none", "-monitor", "none", "-serial", "stdio"]);
    command.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(&image.initrd);
    command.args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let spawn_error = |source| EngineError::Spawn { command: EMULATOR.into(), source };
    let mut child = command.spawn().map_err(spawn_error)?;
    let (Some(console), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(spawn_error(std::io::Error::other("no pipes")));
    };
    let outcome = tokio::time::timeout(limit, async {
        tokio::select! {
            true = holds(console, "TESTIMG-USERSPACE") => (true, "a guest reached user space".into()),
            said = last_words(errors) => (false, format!("a guest stopped before its user space: {said}")),
        }
    });
    let found = outcome
        .await
        .unwrap_or_else(|_| (false, format!("no guest reached user space in {} s", limit.as_secs())));
    child.kill().await.map_err(spawn_error)?;
    Ok(found)
}

/// Whether a line with `text` comes before the end.
async fn holds(stream: impl tokio::io::AsyncRead + Unpin, text: &str) -> bool {
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        if String::from_utf8_lossy(&line).contains(text) {
            return true;
        }
    }
    false
}

/// What the emulator says last, or when it stops a guest that goes on existing.
async fn last_words(stream: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut lines = BufReader::new(stream).split(b'\n');
    let mut last = String::new();
    while let Ok(Some(line)) = lines.next_segment().await {
        last = String::from_utf8_lossy(&line).trim().to_owned();
        if last.contains("internal error") {
            break;
        }
    }
    last
}
