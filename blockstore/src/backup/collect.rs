//! `backup.collect`: takes out of a repository what no backup in it has any more.
//!
//! Chunks are shared, so it may only look while nobody writes; that is agreed upon in two tables, under one lock. A
//! backup that is being written, or waits to be tried again, is on record as a writer until it is done or undone. So
//! whatever has no head when the collector looks is dead. (Two clouds must not write into one container.)

use super::data::{DEPTH, DataError, Place};
use super::format::{ID, Id, ZEROES, chunk_name};
use super::objects::{BackupStore, Repository, StoreError};
use super::{create::moving, store};
use crate::tasks::failed;
use crate::{VolumeError, Volumes};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

const KIND: &str = "backup.collect";
/// When it looks again whether writers are done.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(500);

#[derive(Serialize, Deserialize)]
struct Params {
    place: Place,
    /// Also chunks that no list ever named: a backup was given up on.
    all: bool,
}

/// Has a place's repository looked through, where it has one.
pub(super) async fn spawn(tx: &mut Tx, place: &Place, all: bool) -> Result<(), VolumeError> {
    if let Some(name) = place.repository_name() {
        let params = Params { place: place.clone(), all };
        NewTask { kind: KIND, subject: &format!("backup-repository/{name}") }.spawn(tx, &params).await?;
    }
    Ok(())
}

pub(crate) struct Collect(pub(crate) Arc<Volumes>);

#[async_trait]
impl Operation for Collect {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["begin", "sweep", "end"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        let (Some(name), Some(at)) = (params.place.repository_name(), params.place.repository()) else {
            return Ok(());
        };
        match step {
            "begin" => match store::begin_collecting(&self.0.db, &name, &job.id).await.map_err(failed)? {
                true => Ok(()),
                false => Err(StepError::Wait(LOOK_AGAIN)),
            },
            "sweep" => {
                let store = self.0.backup_store(params.place.driver).map_err(failed)?;
                let gone = sweep(&*store, &at, params.all).await.map_err(moving)?;
                tracing::info!(repository = name, chunks = gone, "chunks of deleted backups are gone");
                Ok(())
            }
            _ => store::end_collecting(&self.0.db, &name).await.map_err(failed),
        }
    }

    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        match params.place.repository_name() {
            Some(name) if step == "begin" => store::end_collecting(&self.0.db, &name).await.map_err(failed),
            _ => Ok(()),
        }
    }

    /// What was not taken out is found by the next one.
    async fn unwound(&self, _: &mut Job, reason: &str) -> Result<(), StepError> {
        tracing::error!(reason, "a backup repository cannot be cleaned up");
        Ok(())
    }
}

/// The ids in a list that was written by us.
fn ids(list: &Bytes) -> impl Iterator<Item = Id> {
    list.as_chunks::<ID>().0.iter().copied().filter(|id| *id != ZEROES)
}

/// How many chunks have gone.
async fn sweep(store: &dyn BackupStore, at: &Repository, all: bool) -> Result<usize, DataError> {
    let mut backups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in store.list(at, "backups/").await? {
        let backup = name.split('/').nth(1).unwrap_or_default().to_owned();
        backups.entry(backup).or_default().push(name);
    }
    let is_live = |names: &[String]| names.iter().any(|n| n.ends_with("/head"));
    let (live, dead): (Vec<_>, Vec<_>) = backups.into_values().partition(|names| is_live(names));
    let dead: Vec<String> = dead.into_iter().flatten().collect();
    let mut chunks: HashSet<Id> = HashSet::new();
    for name in &dead {
        chunks.extend(store.get(at, name).await?.iter().flat_map(|l| ids(l).collect::<Vec<_>>()));
    }
    if all {
        let names = store.list(at, "chunks/").await?;
        let named = names.iter().filter_map(|n| n.rsplit('/').next());
        chunks.extend(named.filter_map(|n| Id::try_from(hex::decode(n).ok()?).ok()));
    }
    if !chunks.is_empty() {
        for name in live.iter().flatten().filter(|n| !n.ends_with("/head")) {
            // A list that is missing might have named anything: nothing is deleted then.
            let list = store.get(at, name).await?.ok_or(DataError::NoSums)?;
            for id in ids(&list) {
                chunks.remove(&id);
            }
        }
    }
    let gone = chunks.len();
    remove_all(store, at, chunks.iter().map(chunk_name).collect()).await?;
    // The lists last: whoever begins again must know what they named.
    remove_all(store, at, dead).await?;
    Ok(gone)
}

async fn remove_all(store: &dyn BackupStore, at: &Repository, names: Vec<String>) -> Result<(), StoreError> {
    let names = stream::iter(names.into_iter().map(Ok));
    names.try_for_each_concurrent(DEPTH, |name| async move { store.remove(at, &name).await }).await
}
