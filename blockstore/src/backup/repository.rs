//! The driver of chunked backups: in a directory or in the object store. See [`super::format`] for what is where.
//!
//! Every backup lists all its chunks, so each is whole by itself and may go from anywhere in a chain; an incremental one
//! begins with its parent's list and reads what changed on the volume since. A list is written when its 4 GiB are, so
//! that work begun again goes on behind it. Chunks that no list names any more are taken out by [`super::collect`].

use super::data::{self, CHUNK, Cost, DEPTH, DataError, From, Place};
use super::driver::Driver;
use super::format::{self, Coder, Head, ID, Id, Key, VERSION, ZEROES};
use super::objects::{BackupStore, Repository};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use pool::Image;
use std::sync::Arc;

/// What one list covers.
const WINDOW: u64 = 4 << 30;

pub(super) struct Chunked {
    pub(super) store: Arc<dyn BackupStore>,
    pub(super) at: Repository,
    pub(super) root: Key,
    /// The repository's key, wrapped, where new backups are sealed.
    pub(super) key: Option<String>,
    pub(super) compress: bool,
}

/// What ties a repository's key to it.
pub(super) fn context(at: &Repository) -> String {
    format!("backups of {} in {}", at.project_id, at.container)
}

async fn cpu<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, DataError> {
    let cancelled = |_| DataError::Storage(pool::Error::Cancelled { what: "chunk".into() });
    tokio::task::spawn_blocking(work).await.map_err(cancelled)
}

impl Chunked {
    fn coder(&self, wrapped: Option<&str>) -> Result<Arc<Coder>, DataError> {
        let unwrap = |w| Key::unwrap(w, &self.root, &context(&self.at)).map_err(|_| DataError::NoKey);
        let key = wrapped.map(unwrap).transpose()?;
        Ok(Arc::new(Coder::new(key.as_ref(), self.compress)))
    }

    async fn head(&self, backup: &str) -> Result<Option<Head>, DataError> {
        let Some(text) = self.store.get(&self.at, &format::head_name(backup)).await? else { return Ok(None) };
        let head: Head = serde_json::from_slice(&text).map_err(|_| DataError::NoSums)?;
        if head.version == VERSION { Ok(Some(head)) } else { Err(DataError::NoSums) }
    }

    /// A list, checked against the head.
    async fn list(&self, coder: &Coder, backup: &str, head: &Head, n: u64) -> Result<Vec<Id>, DataError> {
        let index = usize::try_from(n).unwrap_or(usize::MAX);
        let Some(wanted) = head.lists.get(index) else { return Ok(Vec::new()) };
        let list = self.store.get(&self.at, &format::list_name(backup, n)).await?.ok_or(DataError::NoSums)?;
        let is = hex::encode(coder.sum_of_list(backup, head.bytes, n, &list));
        if &is != wanted {
            return Err(DataError::Damaged(n * WINDOW));
        }
        Ok(list.as_chunks::<ID>().0.to_vec())
    }

    async fn store_window(
        &self,
        coder: &Arc<Coder>,
        from: &From,
        (off, len): (u64, u64),
        all: &mut [Id],
    ) -> Result<Cost, DataError> {
        let known: Arc<[Id]> = all.into();
        let work = data::suspects(from, off, len).await?.into_iter().map(|chunk| {
            let (image, coder, known) = (from.image.clone(), coder.clone(), known.clone());
            async move {
                let index = usize::try_from((chunk - off) / CHUNK).unwrap_or(usize::MAX);
                let n = CHUNK.min(off + len - chunk);
                let data = image.read_at(chunk, usize::try_from(n).unwrap_or(usize::MAX)).await?;
                let (sums, content) = (coder.clone(), data.clone());
                let id = cpu(move || sums.id(&content)).await?;
                let differs = known.get(index) != Some(&id);
                if differs && id != ZEROES {
                    self.put_chunk(&coder, id, data).await?;
                }
                Ok::<_, DataError>((index, id, differs))
            }
        });
        let mut cost = Cost::default();
        let mut done = stream::iter(work).buffer_unordered(DEPTH);
        while let Some((index, id, differs)) = done.try_next().await? {
            all[index] = id;
            cost.read += 1;
            cost.changed += u64::from(differs);
        }
        Ok(cost)
    }

    async fn put_chunk(&self, coder: &Arc<Coder>, id: Id, data: Bytes) -> Result<(), DataError> {
        let name = format::chunk_name(&id);
        if self.store.has(&self.at, &name).await? {
            return Ok(());
        }
        let coder = coder.clone();
        let packed = cpu(move || coder.pack(&id, &data)).await?.map_err(|_| DataError::NoKey)?;
        Ok(self.store.put(&self.at, &name, packed).await?)
    }

    async fn chunk(&self, coder: &Arc<Coder>, id: Id, at: u64, len: u64) -> Result<Bytes, DataError> {
        let stored = self.store.get(&self.at, &format::chunk_name(&id)).await?;
        let stored = stored.ok_or(DataError::Damaged(at))?;
        let most = usize::try_from(len).unwrap_or(usize::MAX);
        let coder = coder.clone();
        match cpu(move || coder.unpack(&id, &stored, most)).await? {
            Ok(data) if data.len() == most => Ok(data.into()),
            _ => Err(DataError::Damaged(at)),
        }
    }
}

#[async_trait]
impl Driver for Chunked {
    async fn store(&self, from: &From, place: &Place) -> Result<Cost, DataError> {
        let mut cost = Cost::default();
        if self.head(&place.data).await?.is_some() {
            return Ok(cost);
        }
        let coder = self.coder(self.key.as_deref())?;
        let parent = match &from.parent {
            Some((parent, _)) => Some((parent, self.head(parent).await?.ok_or(DataError::NoParent)?)),
            None => None,
        };
        // A list under another key says nothing here: everything is read then.
        let parent = parent.filter(|(_, head)| head.key == self.key);
        let from = &match parent {
            Some(_) => from.clone(),
            None => From { since: None, parent: None, ..from.clone() },
        };
        let mut lists = Vec::new();
        for (n, off, len) in data::windows(from.bytes, WINDOW) {
            let name = format::list_name(&place.data, n);
            let chunks = usize::try_from(len.div_ceil(CHUNK)).unwrap_or(usize::MAX);
            let list = match self.store.get(&self.at, &name).await? {
                Some(list) if list.len() == chunks * ID => list,
                _ => {
                    let mut all = match &parent {
                        Some((parent, head)) => self.list(&coder, parent, head, n).await?,
                        None => Vec::new(),
                    };
                    all.resize(chunks, ZEROES);
                    let took = self.store_window(&coder, from, (off, len), &mut all).await?;
                    cost = Cost { read: cost.read + took.read, changed: cost.changed + took.changed };
                    let list = Bytes::from(all.concat());
                    self.store.put(&self.at, &name, list.clone()).await?;
                    list
                }
            };
            lists.push(hex::encode(coder.sum_of_list(&place.data, from.bytes, n, &list)));
        }
        let head = Head { version: VERSION, bytes: from.bytes, lists, key: self.key.clone() };
        let head = serde_json::to_vec(&head).map_err(|_| DataError::NoSums)?;
        self.store.put(&self.at, &format::head_name(&place.data), head.into()).await?;
        Ok(cost)
    }

    async fn fill(&self, place: &Place, bytes: u64, target: &Image) -> Result<(), DataError> {
        let head = self.head(&place.data).await?.ok_or(DataError::NoSums)?;
        if head.bytes != bytes {
            return Err(DataError::NoSums);
        }
        let coder = self.coder(head.key.as_deref())?;
        for (n, off, len) in data::windows(bytes, WINDOW) {
            let list = self.list(&coder, &place.data, &head, n).await?;
            if list.len() as u64 != len.div_ceil(CHUNK) {
                return Err(DataError::NoSums);
            }
            let stored = list.into_iter().enumerate().filter(|(_, id)| *id != ZEROES);
            let work = stored.map(|(index, id)| {
                let (coder, target) = (coder.clone(), target.clone());
                async move {
                    let at = off + index as u64 * CHUNK;
                    let data = self.chunk(&coder, id, at, CHUNK.min(off + len - at)).await?;
                    Ok::<_, DataError>(target.write_at(at, data).await?)
                }
            });
            stream::iter(work).buffer_unordered(DEPTH).try_collect::<Vec<()>>().await?;
        }
        Ok(())
    }

    /// Without its head it is a backup no more; its lists and chunks are for the collector.
    async fn remove(&self, place: &Place, _: u64) -> Result<(), DataError> {
        Ok(self.store.remove(&self.at, &format::head_name(&place.data)).await?)
    }

    async fn holds(&self, place: &Place) -> Result<bool, DataError> {
        Ok(self.head(&place.data).await?.is_some())
    }
}
