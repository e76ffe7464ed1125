//! What one cloud must remember about its engines: the identities and address ranges that were chosen on
//! its first start. `engines.toml` in the data directory.

use crate::error::{EngineError, Result};
use crate::files;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Unix socket paths end at 107 bytes; the longest below the data directory takes 40.
const LONGEST_DIR: usize = 66;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cloud {
    /// What the hypervisor calls itself to its guests and to OVN.
    pub(crate) host: Uuid,
    /// The host's and the namespace's address for control traffic: a /30.
    pub(crate) control: Ipv4Net,
    /// The external network `public`.
    pub(crate) public: Ipv4Net,
}

impl Cloud {
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join("engines.toml")
    }

    pub(crate) fn read(dir: &Path) -> Result<Option<Self>> {
        let path = Self::path(dir);
        let Some(text) = files::read_if_there(&path)? else { return Ok(None) };
        let parsed = toml::from_str(&text);
        parsed.map(Some).map_err(|error| EngineError::Corrupt { path, reason: error.to_string() })
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let path = Self::path(dir);
        let text = toml::to_string(self)
            .map_err(|error| EngineError::Corrupt { path: path.clone(), reason: error.to_string() })?;
        files::write_atomic(&path, &text, 0o600)
    }
}

/// Eight hex digits that are this data directory's own: they name its namespace and its links.
pub(crate) fn short_hash(dir: &Path) -> String {
    hex::encode(&Sha256::digest(dir.as_os_str().as_encoded_bytes())[..4])
}

/// The data directory, made if need be, as an absolute path without symbolic links.
pub(crate) fn prepare(dir: &Path) -> Result<PathBuf> {
    files::make_dir(dir)?;
    let dir = dir.canonicalize().map_err(EngineError::file(dir))?;
    let Some(text) = dir.to_str() else {
        return Err(EngineError::Refused(format!(
            "{} is not UTF-8; choose another data directory",
            dir.display()
        )));
    };
    if text.len() > LONGEST_DIR {
        return Err(EngineError::Refused(format!(
            "the path {text} is too long for the sockets below it: choose a data directory of at most \
             {LONGEST_DIR} bytes"
        )));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || "'\"\\$`;#,%:".contains(c)) {
        return Err(EngineError::Refused(format!(
            "the path {text:?} holds characters that the engines' configuration cannot: choose a data \
             directory of letters, digits, '.', '_' and '-'"
        )));
    }
    for part in ["run", "log"] {
        files::make_dir(&dir.join(part))?;
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Cloud::read(dir.path()).unwrap().is_none());
        let cloud = Cloud {
            host: Uuid::new_v4(),
            control: "100.127.0.4/30".parse().unwrap(),
            public: "172.24.7.0/24".parse().unwrap(),
        };
        cloud.write(dir.path()).unwrap();
        let again = Cloud::read(dir.path()).unwrap().unwrap();
        assert_eq!((again.host, again.control, again.public), (cloud.host, cloud.control, cloud.public));
        std::fs::write(Cloud::path(dir.path()), "host = 1").unwrap();
        assert!(matches!(Cloud::read(dir.path()), Err(EngineError::Corrupt { .. })));
    }

    #[test]
    fn refuses_paths_that_no_socket_can_have() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(prepare(&dir.path().join("x".repeat(80))), Err(EngineError::Refused(_))));
        assert!(matches!(prepare(&dir.path().join("a b")), Err(EngineError::Refused(_))));
        assert!(prepare(&dir.path().join("ok")).unwrap().join("run").is_dir());
    }
}
