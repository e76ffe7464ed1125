//! Backups in a directory, such as a mounted NFS share: an object is a file, written beside its place and renamed to it.

use super::objects::{BackupStore, Repository, StoreError};
use async_trait::async_trait;
use bytes::Bytes;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

pub(super) struct Directory(pub(super) PathBuf);

/// What is being written; such files are nobody's objects.
const PART: &str = ".part-";

fn away(e: io::Error) -> StoreError {
    StoreError::Unavailable(Box::new(e))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(away),
        Err(e) => Err(StoreError::Unavailable(Box::new(e))),
    }
}

fn absent<T: Default>(e: io::Error) -> io::Result<T> {
    if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) { Ok(T::default()) } else { Err(e) }
}

fn write(path: &Path, data: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)?;
    let part = folder.join(format!("{PART}{}", state::new_id()));
    let written = || {
        let mut file = File::create_new(&part)?;
        file.write_all(data)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        File::open(folder)?.sync_all()
    };
    written().inspect_err(|_| drop(fs::remove_file(&part)))
}

/// The files below a folder, named from `root`.
fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(root, &path, found)?;
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str)
            && !name.contains(PART)
        {
            found.push(name.to_owned());
        }
    }
    Ok(())
}

impl Directory {
    /// The repository's folder. The directory itself is never made: what is not mounted must not be filled.
    fn folder(&self, at: &Repository) -> Result<PathBuf, StoreError> {
        if !self.0.is_dir() {
            return Err(away(io::Error::new(ErrorKind::NotFound, "the directory of backups is not there")));
        }
        Ok(self.0.join(&at.container).join(&at.project_id))
    }
}

#[async_trait]
impl BackupStore for Directory {
    async fn put(&self, at: &Repository, name: &str, data: Bytes) -> Result<(), StoreError> {
        let path = self.folder(at)?.join(name);
        blocking(move || write(&path, &data)).await
    }

    async fn get(&self, at: &Repository, name: &str) -> Result<Option<Bytes>, StoreError> {
        let path = self.folder(at)?.join(name);
        blocking(move || fs::read(path).map(|data| Some(data.into())).or_else(absent)).await
    }

    async fn has(&self, at: &Repository, name: &str) -> Result<bool, StoreError> {
        let path = self.folder(at)?.join(name);
        blocking(move || fs::exists(path)).await
    }

    async fn remove(&self, at: &Repository, name: &str) -> Result<(), StoreError> {
        let root = self.folder(at)?;
        let path = root.join(name);
        blocking(move || {
            fs::remove_file(&path).or_else(absent)?;
            // Folders that are empty now go too; one that is not stays.
            let folders = path.ancestors().skip(1).take_while(|f| **f != root);
            folders.take_while(|f| fs::remove_dir(f).is_ok()).for_each(drop);
            Ok(())
        })
        .await
    }

    async fn list(&self, at: &Repository, prefix: &str) -> Result<Vec<String>, StoreError> {
        let root = self.folder(at)?;
        let folder = root.join(prefix.trim_end_matches('/'));
        blocking(move || {
            let mut found = Vec::new();
            walk(&root, &folder, &mut found).or_else(absent)?;
            Ok(found)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_by_name() {
        let place = tempfile::tempdir().unwrap();
        let store = Directory(place.path().to_owned());
        let at = Repository { project_id: "p".into(), container: "c".into() };
        assert!(store.list(&at, "a/").await.unwrap().is_empty());
        assert!(store.get(&at, "a/b/c").await.unwrap().is_none());
        store.put(&at, "a/b/c", "x".into()).await.unwrap();
        store.put(&at, "a/b/c", "y".into()).await.unwrap();
        store.put(&at, "a/d", "z".into()).await.unwrap();
        fs::write(place.path().join("c/p/a/.part-1"), "half").unwrap();
        assert_eq!(store.get(&at, "a/b/c").await.unwrap().unwrap(), "y");
        let mut all = store.list(&at, "a/").await.unwrap();
        all.sort();
        assert_eq!(all, ["a/b/c", "a/d"]);
        for _ in 0..2 {
            store.remove(&at, "a/b/c").await.unwrap();
        }
        assert!(!store.has(&at, "a/b/c").await.unwrap() && store.has(&at, "a/d").await.unwrap());
        assert!(!place.path().join("c/p/a/b").exists());
        // What is not mounted is not filled.
        let gone = Directory(place.path().join("nowhere"));
        assert!(matches!(gone.put(&at, "a", "x".into()).await, Err(StoreError::Unavailable(_))));
        assert!(!place.path().join("nowhere").exists());
    }
}
