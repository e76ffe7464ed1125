//! The end of a guest's console log, as the API shows it.

use std::io::SeekFrom;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// The most that is ever read.
const MOST: u64 = 512 << 10;

/// The last `bytes` bytes of the log; `None` where there is none. A log that was just rotated is continued
/// with the end of the one before.
pub(crate) async fn tail(log: &Path, bytes: u64) -> Option<String> {
    let bytes = bytes.min(MOST);
    let mut text = end_of(log, bytes).await.ok()?;
    let missing = bytes.saturating_sub(text.len() as u64);
    if missing > 0 {
        let mut before = log.as_os_str().to_owned();
        before.push(".0");
        if let Ok(mut older) = end_of(Path::new(&before), missing).await {
            older.append(&mut text);
            text = older;
        }
    }
    Some(String::from_utf8_lossy(&text).into_owned())
}

async fn end_of(file: &Path, bytes: u64) -> std::io::Result<Vec<u8>> {
    let mut file = tokio::fs::File::open(file).await?;
    let size = file.metadata().await?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(bytes))).await?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text).await?;
    Ok(text)
}

/// Removes a guest's logs; that there are none is fine.
pub(crate) async fn forget(log: &Path) {
    for suffix in ["", ".0", ".1", ".2", ".3"] {
        let mut name = log.as_os_str().to_owned();
        name.push(suffix);
        if let Err(e) = tokio::fs::remove_file(Path::new(&name)).await
            && e.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(error = %e, file = %Path::new(&name).display(), "a console log is left behind");
        }
    }
}
