//! Ceph's admin sockets: a command in JSON ended by a zero byte, answered by a big-endian length and JSON.

use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// An answer is a few kilobytes.
const LARGEST: u32 = 16 << 20;

pub(super) fn path(dir: &Path, daemon: &str) -> PathBuf {
    dir.join("run").join(format!("ceph-{daemon}.asok"))
}

/// Whether the daemon answers `command` with the state `state`. No answer within two seconds is a no.
pub(super) async fn state_is(socket: &Path, command: &str, state: &str) -> bool {
    let answer = tokio::time::timeout(Duration::from_secs(2), ask(socket, command)).await;
    matches!(answer, Ok(Ok(answer)) if answer["state"] == state)
}

async fn ask(socket: &Path, command: &str) -> std::io::Result<serde_json::Value> {
    let mut stream = UnixStream::connect(socket).await?;
    let request = serde_json::json!({ "prefix": command, "format": "json" });
    stream.write_all(format!("{request}\0").as_bytes()).await?;
    let length = stream.read_u32().await?;
    if length > LARGEST {
        return Err(std::io::Error::other("answer too long"));
    }
    let mut answer = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut answer).await?;
    serde_json::from_slice(&answer).map_err(std::io::Error::other)
}
