//! A repository of keys: a directory with one file a key, named by number.
//!
//! Key 0 is staged: known to every process, used to sign by none. The highest number signs. A rotation renames
//! the staged key to the next number and stages a new one, so a process that has not looked yet still knows
//! the key that another one already signs with. Processes look again every second where the directory has changed,
//! and at once for what no key of theirs opens, so nothing is restarted for a rotation.
//!
//! A file's time of change is when its key began to sign. The key before it is needed for as long as what it
//! signed lives after that, whatever the number of keys to keep says: a rotation breaks no running client.

use crate::IdentityError;
use arc_swap::ArcSwap;
use fernet::Fernet;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// How often the directory's time of change is looked at, microseconds.
const LOOK: i64 = 1_000_000;
/// Two changes within a clock tick have one time: a change this young is not taken for the last one.
const TICK: Duration = Duration::from_secs(2);

/// What a repository may hold.
pub(crate) trait Key: Sized + Send + Sync + 'static {
    /// A new key as its file holds it.
    fn generate() -> String;
    /// The key that a file holds, or what is wrong with it.
    fn parse(text: &str) -> Result<Self, &'static str>;
    /// A name for the key that does not give it away.
    fn id(&self) -> &str;
    /// Whether it is a whole key; others only check what another machine has signed.
    fn signs(&self) -> bool {
        true
    }
}

/// The keys of a directory, always those that it holds now.
pub(crate) struct Ring<K> {
    dir: PathBuf,
    keys: ArcSwap<Keys<K>>,
    looked_at: AtomicI64,
    version: AtomicU64,
}

/// A repository of Fernet keys.
pub(crate) type KeyRing = Ring<FernetKey>;

pub(crate) struct Keys<K> {
    /// Highest number first: that is the one that signs. Those without a number come last.
    all: Vec<K>,
    changed: SystemTime,
    /// No change can have the same time any more.
    settled: bool,
}

impl<K: Key> Keys<K> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &K> {
        self.all.iter()
    }

    pub(crate) fn signing(&self) -> Option<&K> {
        self.all.iter().find(|k| k.signs())
    }
}

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The number of the key that signs from now on.
    pub signs: u64,
    /// The numbers of the keys that are gone.
    pub removed: Vec<u64>,
    /// Keys beyond the number to keep that stay because what they signed may still be in use.
    pub kept: Vec<u64>,
}

impl<K: Key> Ring<K> {
    /// Opens the repository; a new one gets a staged and a signing key.
    pub(crate) fn open(dir: &Path) -> Result<Self, IdentityError> {
        let failed = |e| IdentityError::Keys(dir.display().to_string(), e);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        if is_empty(dir).map_err(failed)? {
            let _lock = lock(dir).map_err(failed)?;
            // Another process may just have been here.
            if is_empty(dir).map_err(failed)? {
                write_key::<K>(dir, 1).map_err(failed)?;
                write_key::<K>(dir, 0).map_err(failed)?;
            }
        }
        let keys = ArcSwap::from_pointee(load(dir)?);
        Ok(Ring { dir: dir.to_owned(), keys, looked_at: AtomicI64::new(0), version: AtomicU64::new(0) })
    }

    /// The keys in force.
    pub(crate) fn keys(&self) -> Arc<Keys<K>> {
        let now = state::Timestamp::now().micros();
        let last = self.looked_at.load(Ordering::Relaxed);
        if now.saturating_sub(last).abs() >= LOOK
            && self.looked_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.look();
        }
        self.keys.load_full()
    }

    /// Counts up with every set of other keys that was read.
    pub(crate) fn version(&self) -> u64 {
        self.keys();
        self.version.load(Ordering::Acquire)
    }

    fn put(&self, keys: Keys<K>) {
        let same = keys.iter().map(Key::id).eq(self.keys.load().iter().map(Key::id));
        self.keys.store(keys.into());
        if !same {
            self.version.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// What `open` makes of any of the keys. What none of them opens may be of a key that is newer than our last
    /// look.
    pub(crate) fn any<T>(&self, open: impl Fn(&K) -> Option<T>) -> Option<T> {
        let keys = self.keys();
        keys.iter().find_map(&open).or_else(|| {
            self.look();
            let newer = self.keys.load_full();
            if Arc::ptr_eq(&keys, &newer) { None } else { newer.iter().find_map(&open) }
        })
    }

    /// The id of the key that signs.
    pub(crate) fn signing_id(&self) -> String {
        self.keys().signing().map(|k| k.id().to_owned()).unwrap_or_default()
    }

    /// Makes the staged key the one that signs, stages a new one, and removes the oldest of those beyond `keep` whose
    /// successor has signed for at least `lifetime`.
    pub(crate) fn rotate(&self, keep: usize, lifetime: Duration) -> Result<Rotated, IdentityError> {
        let failed = |e| IdentityError::Keys(self.dir.display().to_string(), e);
        let _lock = lock(&self.dir).map_err(failed)?;
        let present = numbers(&self.dir).map_err(failed)?;
        let next = present.last().map_or(1, |n| n + 1);
        let path = |n: u64| self.dir.join(n.to_string());
        if present.contains(&0) {
            let began = File::open(path(0)).and_then(|f| f.set_modified(SystemTime::now()));
            began.and_then(|()| fs::rename(path(0), path(next))).map_err(failed)?;
        } else {
            write_key::<K>(&self.dir, next).map_err(failed)?;
        }
        write_key::<K>(&self.dir, 0).map_err(failed)?;
        let signing: Vec<u64> = present.into_iter().filter(|n| *n != 0).chain([next]).collect();
        let excess = signing.len().saturating_sub(keep.max(2) - 1);
        let mut done = Rotated { signs: next, removed: Vec::new(), kept: Vec::new() };
        for pair in signing.windows(2).take(excess) {
            let since = fs::metadata(path(pair[1])).and_then(|m| m.modified()).map_err(failed)?;
            // A file from the future is as young as can be.
            if since.elapsed().unwrap_or_default() >= lifetime && done.kept.is_empty() {
                fs::remove_file(path(pair[0])).map_err(failed)?;
                done.removed.push(pair[0]);
            } else {
                done.kept.push(pair[0]);
            }
        }
        sync(&self.dir).map_err(failed)?;
        self.put(load(&self.dir)?);
        Ok(done)
    }

    /// Removes every key but a new one and a newly staged one: nothing that was signed before is good any more.
    pub(crate) fn renew(&self) -> Result<Rotated, IdentityError> {
        let failed = |e| IdentityError::Keys(self.dir.display().to_string(), e);
        let _lock = lock(&self.dir).map_err(failed)?;
        let old = numbers(&self.dir).map_err(failed)?;
        let next = old.last().map_or(1, |n| n + 1);
        // The staged key is replaced as well: who has one of them has them all.
        write_key::<K>(&self.dir, next).map_err(failed)?;
        write_key::<K>(&self.dir, 0).map_err(failed)?;
        let removed: Vec<u64> = old.into_iter().filter(|n| *n != 0).collect();
        for n in &removed {
            fs::remove_file(self.dir.join(n.to_string())).map_err(failed)?;
        }
        sync(&self.dir).map_err(failed)?;
        self.put(load(&self.dir)?);
        Ok(Rotated { signs: next, removed, kept: Vec::new() })
    }

    /// Reads the keys again where the directory has changed; what cannot be read leaves the old ones in force.
    fn look(&self) {
        let known = self.keys.load();
        match fs::metadata(&self.dir).and_then(|m| m.modified()) {
            Ok(t) if t == known.changed && known.settled => {}
            Ok(_) => match load(&self.dir) {
                Ok(keys) => self.put(keys),
                Err(e) => tracing::warn!(error = %e, "the changed keys cannot be read; the old ones stay"),
            },
            Err(e) => tracing::warn!(error = %e, dir = %self.dir.display(), "no look at the keys"),
        }
    }
}

/// A key that encrypts.
pub(crate) struct FernetKey {
    fernet: Fernet,
    id: String,
}

impl Key for FernetKey {
    fn generate() -> String {
        Fernet::generate_key()
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let fernet = Fernet::new(text).ok_or("it is not a Fernet key")?;
        Ok(FernetKey { fernet, id: hex::encode(&Sha256::digest(text.as_bytes())[..16]) })
    }

    fn id(&self) -> &str {
        &self.id
    }
}

impl Ring<FernetKey> {
    pub(crate) fn encrypt(&self, plain: &[u8]) -> String {
        self.sealed(plain).0
    }

    /// The encrypted text, and the id of the key that it was encrypted with.
    pub(crate) fn sealed(&self, plain: &[u8]) -> (String, String) {
        // A repository without keys is not opened.
        self.keys().signing().map(|k| (k.fernet.encrypt(plain), k.id.clone())).unwrap_or_default()
    }

    /// The plain text, or `None` for what no key of ours has made.
    pub(crate) fn decrypt(&self, text: &str) -> Option<Vec<u8>> {
        self.any(|k| k.fernet.decrypt(text).ok())
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

/// Files `NAME.pub` hold keys that only check what others sign.
fn public(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir)? {
        out.extend(Some(entry?.path()).filter(|p| p.extension().is_some_and(|e| e == "pub")));
    }
    out.sort();
    Ok(out)
}

fn is_empty(dir: &Path) -> io::Result<bool> {
    Ok(numbers(dir)?.is_empty() && public(dir)?.is_empty())
}

fn load<K: Key>(dir: &Path) -> Result<Keys<K>, IdentityError> {
    let failed = |e| IdentityError::Keys(dir.display().to_string(), e);
    // The times are taken first: a change while we read is seen at the next look.
    let now = SystemTime::now();
    let changed = fs::metadata(dir).and_then(|m| m.modified()).map_err(failed)?;
    let numbered = numbers(dir).map_err(failed)?.into_iter().rev().map(|n| dir.join(n.to_string()));
    let mut all = Vec::new();
    for path in numbered.chain(public(dir).map_err(failed)?) {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // Rotated away between the listing and the reading.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(failed(e)),
        };
        all.push(K::parse(text.trim()).map_err(|e| IdentityError::BadKey(path.display().to_string(), e))?);
    }
    if all.is_empty() {
        return Err(IdentityError::BadKey(dir.display().to_string(), "it holds no keys"));
    }
    let settled = now.duration_since(changed).is_ok_and(|age| age > TICK);
    Ok(Keys { all, changed, settled })
}

/// One process at a time changes a repository.
fn lock(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(dir.join(".lock"))?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

/// Writes a new key so that a crash leaves either no file or a whole one, readable by us alone.
fn write_key<K: Key>(dir: &Path, number: u64) -> io::Result<()> {
    let temporary = dir.join(format!(".new-{}-{number}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(K::generate().as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(number.to_string()))?;
    sync(dir)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &tempfile::TempDir) -> KeyRing {
        Ring::open(dir.path()).unwrap()
    }

    #[test]
    fn rotation_keeps_what_it_should() {
        let dir = tempfile::tempdir().unwrap();
        let ring = open(&dir);
        let first = ring.encrypt(b"one");
        // Another process, which does not look.
        let other = open(&dir);
        let known = other.keys.load_full();
        assert_eq!(ring.rotate(3, Duration::ZERO).unwrap().signs, 2);
        let second = ring.encrypt(b"two");
        assert!(known.iter().any(|k| k.fernet.decrypt(&second).is_ok()), "the staged key was known");
        assert_eq!(ring.decrypt(&first).as_deref(), Some(&b"one"[..]));
        assert_eq!(ring.rotate(3, Duration::ZERO).unwrap().removed, [1]);
        assert!(ring.decrypt(&first).is_none(), "three keys: staged, signing, one before");
        assert!(ring.decrypt(&second).is_some());
        assert_eq!(numbers(dir.path()).unwrap(), [0, 2, 3]);
        assert_eq!(
            other.decrypt(&ring.encrypt(b"three")).as_deref(),
            Some(&b"three"[..]),
            "it looks when it must"
        );
    }

    #[test]
    fn a_key_stays_as_long_as_what_it_signed() {
        let dir = tempfile::tempdir().unwrap();
        let ring = open(&dir);
        let first = ring.encrypt(b"one");
        for round in 2..6 {
            let done = ring.rotate(3, Duration::from_secs(3600)).unwrap();
            assert_eq!((done.signs, done.removed.len()), (round, 0));
            assert!(ring.decrypt(&first).is_some(), "rotation {round}");
        }
        // An hour later.
        let hour = SystemTime::now() - Duration::from_secs(3601);
        for n in 2..6u64 {
            File::open(dir.path().join(n.to_string())).unwrap().set_modified(hour).unwrap();
        }
        let done = ring.rotate(3, Duration::from_secs(3600)).unwrap();
        assert_eq!((done.removed, done.kept), (vec![1, 2, 3, 4], vec![]));
        assert!(ring.decrypt(&first).is_none());
    }

    #[test]
    fn renewed_keys_open_nothing_old() {
        let dir = tempfile::tempdir().unwrap();
        let ring = open(&dir);
        let text = ring.encrypt(b"x");
        assert_eq!(ring.renew().unwrap().removed, [1]);
        assert!(ring.decrypt(&text).is_none() && ring.decrypt(&ring.encrypt(b"y")).is_some());
        assert_eq!(numbers(dir.path()).unwrap(), [0, 2]);
    }

    #[test]
    fn two_processes_rotate_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let text = open(&dir).encrypt(b"x");
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    let ring = open(&dir);
                    for _ in 0..5 {
                        ring.rotate(3, Duration::from_secs(60)).unwrap();
                    }
                });
            }
        });
        assert_eq!(numbers(dir.path()).unwrap(), (0..=21).collect::<Vec<_>>());
        assert!(open(&dir).decrypt(&text).is_some());
    }

    #[test]
    fn a_restart_finds_the_same_keys_and_another_directory_does_not() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let text = open(&a).encrypt(b"x");
        assert!(open(&a).decrypt(&text).is_some());
        assert!(open(&b).decrypt(&text).is_none());
    }

    #[test]
    fn bad_keys_are_refused_and_leave_the_old_ones_in_force() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("1"), "short").unwrap();
        assert!(matches!(KeyRing::open(dir.path()), Err(IdentityError::BadKey(..))));
        let dir = tempfile::tempdir().unwrap();
        let ring = open(&dir);
        let text = ring.encrypt(b"x");
        fs::write(dir.path().join("7"), "short").unwrap();
        ring.look();
        assert_eq!(ring.decrypt(&text).as_deref(), Some(&b"x"[..]));
    }
}
