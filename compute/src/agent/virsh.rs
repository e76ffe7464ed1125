//! What the `virt` crate has no call for: libvirt's block jobs, by way of its own client.

use super::domain::Machine;
use super::hypervisor::Hypervisor;
use crate::ComputeError;
use crate::wire::MirrorTo;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A pivot waits until what is under way is written.
const PATIENCE: Duration = Duration::from_secs(60);

impl Hypervisor {
    /// Begins to copy a disk to an image that is as large. From when the copy is whole, a write of the guest's is done when
    /// both images have it.
    pub(crate) async fn copy_disk(
        &self,
        machine: &Machine,
        id: &str,
        device: &str,
        to: &MirrorTo,
    ) -> Result<(), ComputeError> {
        let xml = machine.copy(to).map_err(ComputeError::Config)?.render();
        let flags = ["--reuse-external", "--transient-job", "--synchronous-writes"];
        let command = ["blockcopy", id, device, "--xml", "/dev/stdin"];
        self.virsh(&[&command[..], &flags].concat(), &xml).await.map(drop)
    }

    /// The guest lets go of the old image.
    pub(crate) async fn pivot_disk(&self, id: &str, device: &str) -> Result<(), ComputeError> {
        self.virsh(&["blockjob", id, device, "--pivot"], "").await.map(drop)
    }

    /// Ends a copy: the guest goes on at the old image.
    pub(crate) async fn end_copy(&self, id: &str, device: &str) -> Result<(), ComputeError> {
        self.virsh(&["blockjob", id, device, "--abort"], "").await.map(drop)
    }

    /// Percent of a copy that are there.
    pub(crate) async fn copied(&self, id: &str, device: &str) -> Result<u8, ComputeError> {
        self.virsh(&["blockjob", id, device, "--raw"], "").await.map(|text| percent(&text))
    }

    async fn virsh(&self, command: &[&str], input: &str) -> Result<String, ComputeError> {
        let io = |source| ComputeError::Io { what: "virsh".into(), source };
        let mut child = Command::new("virsh")
            .args(["-q", "-c", self.uri()])
            .args(command)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(io)?;
        let stdin = child.stdin.take();
        let ended = async {
            if let Some(mut stdin) = stdin {
                // One that ends before it has read says why.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let late = |_| ComputeError::Unavailable("libvirt does not answer.".into(), None);
        let out = tokio::time::timeout(PATIENCE, ended).await.map_err(late)?.map_err(io)?;
        if out.status.success() {
            return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
        }
        let text = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        if text.contains("failed to connect to the hypervisor") {
            return Err(ComputeError::Unavailable("libvirt does not answer.".into(), Some(text.into())));
        }
        Err(ComputeError::Conflict(format!("virsh {}: {text}", command[0])))
    }
}

/// From `cur=…` and `end=…`; 100 is only what is ready.
fn percent(text: &str) -> u8 {
    let number = |key: &str| {
        let line = text.lines().find_map(|l| l.trim().strip_prefix(key)?.strip_prefix('='));
        line.and_then(|v| v.trim().parse::<u64>().ok())
    };
    match (number("cur"), number("end")) {
        (Some(cur), Some(end)) if end > 0 => {
            u8::try_from(cur.saturating_mul(100) / end).unwrap_or(99).min(99)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_whole_only_when_it_is_ready() {
        let of = |cur: &str, end: &str| {
            percent(&format!(" type=Block Copy\n bandwidth=0\n cur={cur}\n end={end}\n"))
        };
        assert_eq!(of("512", "1024"), 50);
        assert_eq!(of("1024", "1024"), 99);
        assert_eq!((of("0", "0"), percent("")), (0, 0));
    }
}
