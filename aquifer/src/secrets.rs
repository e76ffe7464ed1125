//! The secrets of a cloud that `up` made: generated at the first start, kept in one file that only root reads.

use crate::error::AquiferError;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Secrets {
    pub(crate) admin_password: String,
    pub(crate) demo_password: String,
    pub(crate) s3_access_key: String,
    pub(crate) s3_secret_key: String,
    /// The host agent's own credential.
    pub(crate) agent_secret: String,
    /// What the object store's container sync proves itself with to itself. Clouds made before it had any get it later.
    #[serde(default)]
    pub(crate) sync_key: String,
}

impl Secrets {
    /// Reads the file, or makes it.
    pub(crate) fn load_or_make(file: &Path) -> Result<Self, AquiferError> {
        match fs::read_to_string(file) {
            Ok(text) => {
                let mut read: Secrets = toml::from_str(&text)
                    .map_err(|e| AquiferError::Config(format!("{}: {}", file.display(), e.message())))?;
                if read.sync_key.is_empty() {
                    read.sync_key = random(40);
                    read.keep(file)?;
                }
                Ok(read)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let made = Secrets::make();
                made.keep(file)?;
                Ok(made)
            }
            Err(e) => Err(AquiferError::file(file, e)),
        }
    }

    fn keep(&self, file: &Path) -> Result<(), AquiferError> {
        write_private(file, &toml::to_string(self).map_err(AquiferError::service("secrets"))?)
    }

    fn make() -> Self {
        Secrets {
            admin_password: random(24),
            demo_password: random(24),
            s3_access_key: random(20).to_uppercase(),
            s3_secret_key: random(40),
            agent_secret: random(64),
            sync_key: random(40),
        }
    }
}

/// Letters and digits from the operating system's randomness.
fn random(len: usize) -> String {
    let mut rng = rand::rng();
    (0..len).map(|_| char::from(rng.sample(rand::distr::Alphanumeric))).collect()
}

/// Replaces a file in one step; only its owner may read it.
pub(crate) fn write_private(file: &Path, text: &str) -> Result<(), AquiferError> {
    let part = file.with_extension("part");
    let write = || {
        let mut f = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&part)?;
        f.write_all(text.as_bytes())?;
        f.sync_all()?;
        fs::rename(&part, file)
    };
    write().map_err(|e| AquiferError::file(file, e))
}
