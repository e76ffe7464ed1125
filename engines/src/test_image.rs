//! The bootable test image: Debian's cloud kernel and busybox on a small disk.
//!
//! It is made by a script that this crate carries, once a machine, in a cache; a data directory gets a
//! copy. Its kernel and initial RAM disk are also what the KVM probe boots.

use crate::error::{EngineError, Result};
use crate::process::run_with;
use std::path::{Path, PathBuf};
use tokio::sync::Mutex;

const SCRIPT: &str = include_str!("../../scripts/make-test-image");
const CACHE: &str = "/var/cache/aquifer/test-image";

/// The image's files.
#[derive(Debug, Clone)]
pub struct TestImage {
    /// A disk that boots by itself.
    pub qcow2: PathBuf,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
}

/// The image in the data directory (`test-image.qcow2`), made and put there if need be. Making it needs
/// Debian's archive, or the packages that `scripts/install` has left in the cache.
pub async fn ensure(dir: &Path) -> Result<TestImage> {
    let image = cached().await?;
    let own = dir.join("test-image.qcow2");
    if !own.exists() {
        let fresh = dir.join("test-image.qcow2.new");
        tokio::fs::copy(&image.qcow2, &fresh).await.map_err(EngineError::file(&fresh))?;
        tokio::fs::rename(&fresh, &own).await.map_err(EngineError::file(&own))?;
    }
    Ok(TestImage { qcow2: own, ..image })
}

/// The image in the machine's cache, made there if need be.
pub async fn cached() -> Result<TestImage> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    let _turn = ONE_AT_A_TIME.lock().await;
    let at = |name: &str| Path::new(CACHE).join(name);
    // The disk is put there last.
    let image = TestImage { qcow2: at("test-image.qcow2"), kernel: at("vmlinuz"), initrd: at("initrd.gz") };
    if !image.qcow2.exists() {
        run_with(&["bash", "-s", "--", CACHE], &[], Some(SCRIPT)).await?;
    }
    Ok(image)
}
