//! One process per data directory: a lock on `aquifer.pid`, which also tells scripts whom to signal.

use crate::error::AquiferError;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Held for the life of the process; the kernel lets go of it however the process ends.
pub(super) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    pub(super) fn take(dir: &Path) -> Result<Self, AquiferError> {
        let path = dir.join("aquifer.pid");
        let failed = |e| AquiferError::file(&path, e);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                let write = |f: &mut File| {
                    f.set_len(0)?;
                    f.rewind()?;
                    writeln!(f, "{}", std::process::id())?;
                    f.sync_all()
                };
                write(&mut held).map_err(failed)?;
                Ok(Lock { _file: held })
            }
            Err((mut file, _)) => {
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(failed)?;
                Err(AquiferError::InUse { dir: dir.to_owned(), pid: text.trim().parse().unwrap_or_default() })
            }
        }
    }
}

/// The pid of the process that holds the directory, if one does.
pub(super) fn holder(dir: &Path) -> Option<i32> {
    let file = File::open(dir.join("aquifer.pid")).ok()?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_) => None,
        Err((mut file, _)) => {
            let mut text = String::new();
            file.read_to_string(&mut text).ok()?;
            text.trim().parse().ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(holder(dir.path()), None);
        let lock = Lock::take(dir.path()).unwrap();
        assert!(
            matches!(Lock::take(dir.path()), Err(AquiferError::InUse { pid, .. }) if pid == std::process::id())
        );
        assert_eq!(holder(dir.path()), i32::try_from(std::process::id()).ok());
        drop(lock);
        Lock::take(dir.path()).unwrap();
    }
}
