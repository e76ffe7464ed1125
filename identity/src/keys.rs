//! A repository of Fernet keys: a directory with one file a key, named by number.
//!
//! Key 0 is staged: known to every process, used to sign by none. The highest number signs. A rotation renames
//! the staged key to the next number and stages a new one, so a process that has not looked yet still knows
//! the key that another one already signs with. Processes look again when the directory changes.

use crate::IdentityError;
use arc_swap::ArcSwap;
use fernet::Fernet;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

/// How often the directory's time of change is looked at, microseconds.
const LOOK: i64 = 1_000_000;

pub(crate) struct KeyRing {
    dir: PathBuf,
    keys: ArcSwap<Keys>,
    looked_at: AtomicI64,
}

struct Keys {
    /// Highest number first: that is the one that signs.
    all: Vec<Fernet>,
    changed: SystemTime,
}

impl KeyRing {
    /// Opens the repository; a new one gets a staged and a signing key.
    pub(crate) fn open(dir: &Path) -> Result<Self, IdentityError> {
        let failed = |e| IdentityError::Keys(dir.display().to_string(), e);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        if numbers(dir).map_err(failed)?.is_empty() {
            write_key(dir, 1).map_err(failed)?;
            write_key(dir, 0).map_err(failed)?;
        }
        let keys = load(dir)?;
        Ok(KeyRing { dir: dir.to_owned(), keys: ArcSwap::from_pointee(keys), looked_at: AtomicI64::new(0) })
    }

    pub(crate) fn encrypt(&self, plain: &[u8]) -> String {
        self.look();
        let keys = self.keys.load();
        keys.all.first().map(|k| k.encrypt(plain)).unwrap_or_default()
    }

    /// The plain text, or `None` for what no key of ours has made.
    pub(crate) fn decrypt(&self, text: &str) -> Option<Vec<u8>> {
        self.look();
        self.keys.load().all.iter().find_map(|k| k.decrypt(text).ok())
    }

    /// Makes the staged key the one that signs, stages a new one, and removes the oldest beyond `keep`.
    pub(crate) fn rotate(&self, keep: usize) -> Result<(), IdentityError> {
        let failed = |e| IdentityError::Keys(self.dir.display().to_string(), e);
        let present = numbers(&self.dir).map_err(failed)?;
        let next = present.last().map_or(1, |n| n + 1);
        if present.contains(&0) {
            fs::rename(self.dir.join("0"), self.dir.join(next.to_string())).map_err(failed)?;
        } else {
            write_key(&self.dir, next).map_err(failed)?;
        }
        write_key(&self.dir, 0).map_err(failed)?;
        let signing: Vec<u64> = present.into_iter().filter(|n| *n != 0).chain([next]).collect();
        let excess = signing.len().saturating_sub(keep.max(2) - 1);
        for old in &signing[..excess] {
            fs::remove_file(self.dir.join(old.to_string())).map_err(failed)?;
        }
        sync(&self.dir).map_err(failed)?;
        self.keys.store(load(&self.dir)?.into());
        Ok(())
    }

    /// Reads the keys again where the directory has changed; what cannot be read leaves the old ones in force.
    fn look(&self) {
        let now = state::Timestamp::now().micros();
        let last = self.looked_at.load(Ordering::Relaxed);
        if now.saturating_sub(last).abs() < LOOK
            || self.looked_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let changed = fs::metadata(&self.dir).and_then(|m| m.modified());
        match changed {
            Ok(t) if t == self.keys.load().changed => {}
            Ok(_) => match load(&self.dir) {
                Ok(keys) => self.keys.store(keys.into()),
                Err(e) => tracing::warn!(error = %e, "the changed keys cannot be read; the old ones stay"),
            },
            Err(e) => tracing::warn!(error = %e, dir = %self.dir.display(), "no look at the keys"),
        }
    }
}

/// The key files' numbers, ascending. Other files are not ours.
fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir)? {
        out.extend(entry?.file_name().to_str().and_then(|n| n.parse::<u64>().ok()));
    }
    out.sort_unstable();
    Ok(out)
}

fn load(dir: &Path) -> Result<Keys, IdentityError> {
    let failed = |e| IdentityError::Keys(dir.display().to_string(), e);
    // The time is taken first: a change while we read is seen at the next look.
    let changed = fs::metadata(dir).and_then(|m| m.modified()).map_err(failed)?;
    let mut keys = BTreeMap::new();
    for number in numbers(dir).map_err(failed)? {
        let path = dir.join(number.to_string());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // Rotated away between the listing and the reading.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(failed(e)),
        };
        let key = Fernet::new(text.trim())
            .ok_or_else(|| IdentityError::BadKey(path.display().to_string(), "it is not a Fernet key"))?;
        keys.insert(number, key);
    }
    if keys.is_empty() {
        return Err(IdentityError::BadKey(dir.display().to_string(), "it holds no keys"));
    }
    Ok(Keys { all: keys.into_values().rev().collect(), changed })
}

/// Writes a new key so that a crash leaves either no file or a whole one, readable by us alone.
fn write_key(dir: &Path, number: u64) -> io::Result<()> {
    let temporary = dir.join(format!(".new-{}-{number}", std::process::id()));
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(Fernet::generate_key().as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(number.to_string()))?;
    sync(dir)
}

fn sync(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_keeps_what_it_should() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::open(dir.path()).unwrap();
        let first = ring.encrypt(b"one");
        // Another process, which has not looked since.
        let other = KeyRing::open(dir.path()).unwrap();
        other.looked_at.store(i64::MAX / 2, Ordering::Relaxed);
        ring.rotate(3).unwrap();
        let second = ring.encrypt(b"two");
        other.looked_at.store(state::Timestamp::now().micros(), Ordering::Relaxed);
        assert_eq!(other.decrypt(&second).as_deref(), Some(&b"two"[..]), "the staged key was known");
        assert_eq!(ring.decrypt(&first).as_deref(), Some(&b"one"[..]));
        ring.rotate(3).unwrap();
        assert!(ring.decrypt(&first).is_none(), "three keys: staged, signing, one before");
        assert!(ring.decrypt(&second).is_some());
        assert_eq!(numbers(dir.path()).unwrap(), [0, 2, 3]);
    }

    #[test]
    fn a_restart_finds_the_same_keys_and_another_directory_does_not() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let text = KeyRing::open(a.path()).unwrap().encrypt(b"x");
        assert!(KeyRing::open(a.path()).unwrap().decrypt(&text).is_some());
        assert!(KeyRing::open(b.path()).unwrap().decrypt(&text).is_none());
    }

    #[test]
    fn bad_keys_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("1"), "short").unwrap();
        assert!(matches!(KeyRing::open(dir.path()), Err(IdentityError::BadKey(..))));
    }
}
