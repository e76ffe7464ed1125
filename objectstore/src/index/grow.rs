//! Moving one shard's rows to its children in the next generation: the steps of [`super::moves`], in order.

use super::entry::{self, Entry, Header, ShardId};
use super::moves::{self, Standing, swap};
use crate::codec;
use crate::names::Tag;
use crate::{ObjectError, fail};
use bytes::Bytes;
use futures::future::try_join_all;
use pool::{Cmp, OptionalExt, Pool, ReadOp, ReadOutcome, WriteOp};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Rows that are copied in one operation; the OSD gives about as many.
const PAGE: u64 = 1000;
/// Log rows that are read in one operation: each may tell of many keys.
const LOG_PAGE: u64 = 64;
/// With no more of the log than this to be copied the shard is frozen.
const LITTLE: usize = 4;
/// Times that the log is caught up with before the shard is frozen all the same.
const ROUNDS: usize = 50;
/// Times that a shard is begun anew because others got in between.
const ATTEMPTS: usize = 8;

/// How one attempt ended.
enum End {
    Moved,
    /// Somebody got in between: from the beginning.
    Again,
    /// Another mover has claimed the shard.
    Lost,
}

/// Moves a shard's rows to the children that it has among `shards`. Nothing is done where they have moved before. Whether
/// they have moved: if not, another mover is at work.
pub(crate) async fn move_shard(pool: &Pool, shard: ShardId, shards: u32) -> Result<bool, ObjectError> {
    for _ in 0..ATTEMPTS {
        let mut mover = match Mover::claim(pool, shard, shards).await? {
            Ok(mover) => mover,
            Err(End::Again) => continue,
            Err(end) => return Ok(matches!(end, End::Moved)),
        };
        match mover.run().await {
            Ok(End::Moved) => return Ok(true),
            Ok(End::Lost) => return Ok(false),
            Ok(End::Again) => {}
            // A write that asserted what is not so any more: somebody got in between.
            Err(ObjectError::Storage(e)) if e.is_cancelled() || e.is_not_found() || e.is_exists() => {
                match mover.standing().await? {
                    Standing::Moved { .. } => return Ok(true),
                    Standing::Moving { by, .. } if by == mover.by => {}
                    _ => return Ok(false),
                }
            }
            Err(e) => {
                mover.thaw().await;
                return Err(e);
            }
        }
    }
    Err(ObjectError::Contended)
}

struct Child {
    id: ShardId,
    oid: String,
    /// What has been copied adds up to this.
    header: Header,
}

struct Mover<'a> {
    pool: &'a Pool,
    from: ShardId,
    oid: String,
    shards: u32,
    by: Tag,
    children: Vec<Child>,
    /// The log has been caught up with to here.
    caught_up: String,
}

/// Changes of one child: what its rows are to be.
type Delta = BTreeMap<String, Option<Bytes>>;

impl<'a> Mover<'a> {
    async fn claim(pool: &'a Pool, from: ShardId, shards: u32) -> Result<Result<Self, End>, ObjectError> {
        let children: Vec<ShardId> = from.children(shards).collect();
        let seen = try_join_all(children.iter().map(|c| version_of(pool, *c))).await?;
        let (oid, by) = (from.oid(), Tag::new());
        let claim = Standing::Moving { by, shards, frozen: false };
        let set = [(entry::STANDING.to_owned(), claim.encode())];
        let claimed = match read_standing(pool, &oid).await? {
            Some(Standing::Moved { .. }) => return Ok(Err(End::Moved)),
            Some(Standing::Filling { .. }) => return Err(moves::FILLING),
            None => {
                moves::absent(from)?;
                pool.write_op(&oid, WriteOp::new().create_exclusive().omap_set(set)).await
            }
            Some(was) => {
                let op = WriteOp::new().assert_exists().omap_cmp(entry::STANDING, Cmp::Eq, was.encode());
                pool.write_op(&oid, op.omap_set(set)).await
            }
        };
        let version = match claimed {
            Ok(outcome) => outcome.version,
            Err(e) if e.is_cancelled() || e.is_exists() || e.is_not_found() => return Ok(Err(End::Again)),
            Err(e) => return Err(e.into()),
        };
        fail("index.grow:claimed").await?;
        let child = |id: ShardId| Child { id, oid: id.oid(), header: Header::default() };
        let mover = Mover {
            pool,
            from,
            oid,
            shards,
            by,
            children: children.into_iter().map(child).collect(),
            // Changes log the version that they found: this one or a later one.
            caught_up: entry::log_key(version.saturating_sub(1)),
        };
        match mover.reset(&seen).await {
            Ok(()) => Ok(Ok(mover)),
            Err(e) if e.is_cancelled() || e.is_exists() || e.is_not_found() => Ok(Err(End::Again)),
            Err(e) => Err(e.into()),
        }
    }

    fn filling(&self) -> Standing {
        Standing::Filling { by: self.by }
    }

    /// Empties the children, if they are what they were before the claim.
    async fn reset(&self, seen: &[Option<u64>]) -> Result<(), pool::Error> {
        let resets = self.children.iter().zip(seen).map(|(child, seen)| {
            let op = match seen {
                Some(version) => WriteOp::new().assert_version(*version).omap_clear(),
                None => WriteOp::new().create_exclusive(),
            };
            let op = op.omap_set([(entry::STANDING.to_owned(), self.filling().encode())]);
            async move { self.pool.write_op(&child.oid, op).await }
        });
        try_join_all(resets).await.map(drop)
    }

    async fn run(&mut self) -> Result<End, ObjectError> {
        if let Some(end) = self.fill().await? {
            return Ok(end);
        }
        for _ in 0..ROUNDS {
            match self.catch_up().await? {
                Ok(copied) if copied <= LITTLE => break,
                Ok(_) => {}
                Err(end) => return Ok(end),
            }
        }
        fail("index.grow:filled").await?;
        let (by, shards) = (self.by, self.shards);
        let state = |frozen| Standing::Moving { by, shards, frozen };
        swap(self.pool, &self.oid, state(false), state(true), |op| op).await?;
        fail("index.grow:frozen").await?;
        loop {
            match self.catch_up().await? {
                Ok(0) => break,
                Ok(_) => {}
                Err(end) => return Ok(end),
            }
        }
        self.settle_counts().await?;
        let live = self.children.iter().map(|child| {
            let header = (entry::HEADER.to_owned(), Bytes::from(child.header.encode()));
            let set = |op: WriteOp| op.omap_set([header]);
            swap(self.pool, &child.oid, self.filling(), Standing::Live, set)
        });
        try_join_all(live).await?;
        fail("index.grow:live").await?;
        let moved = Standing::Moved { shards };
        swap(self.pool, &self.oid, state(true), moved, WriteOp::omap_clear).await?;
        Ok(End::Moved)
    }

    async fn standing(&self) -> Result<Standing, ObjectError> {
        Ok(read_standing(self.pool, &self.oid).await?.unwrap_or_default())
    }

    /// Lets changes go on after a failure, so that they need not wait until they do so themselves.
    async fn thaw(&self) {
        let state = |frozen| Standing::Moving { by: self.by, shards: self.shards, frozen };
        if let Err(e) = swap(self.pool, &self.oid, state(true), state(false), |op| op).await {
            tracing::debug!(error = ?e, "a shard was not frozen, or stays so for a moment");
        }
    }

    /// Reads from the parent; how the attempt ended, if it is not this mover's any more.
    async fn read(
        &self,
        more: impl FnOnce(ReadOp) -> ReadOp,
    ) -> Result<Result<ReadOutcome, End>, ObjectError> {
        let op = ReadOp::new().assert_exists().omap_get_by_keys([entry::STANDING.to_owned()]);
        let mut outcome = self.pool.read_op(&self.oid, more(op)).await?;
        let rows = outcome.omap().unwrap_or_default().entries;
        Ok(match Standing::of(&rows)? {
            Standing::Moving { by, .. } if by == self.by => Ok(outcome),
            Standing::Moved { .. } => Err(End::Moved),
            _ => Err(End::Lost),
        })
    }

    fn child_of(&self, key: &str, value: &[u8]) -> Option<usize> {
        let child = self.from.child(self.shards, &entry::name_of(key, value)?);
        self.children.iter().position(|c| c.id == child)
    }

    /// Copies all rows, in order, while changes go on.
    async fn fill(&mut self) -> Result<Option<End>, ObjectError> {
        let mut after = String::new();
        loop {
            let mut outcome = match self.read(|op| op.omap_get(after.clone(), "", PAGE)).await? {
                Ok(outcome) => outcome,
                Err(end) => return Ok(Some(end)),
            };
            let page = outcome.omap().unwrap_or_default();
            let more = page.more;
            let Some((last, _)) = page.entries.last() else { return Ok(None) };
            match last.starts_with(entry::LOG) {
                true => after = format!("{}~", entry::LOG), // the log grows while it is read
                false => after.clone_from(last),
            }
            let mut parts: Vec<Vec<(String, Bytes)>> = vec![Vec::new(); self.children.len()];
            for (key, value) in page.entries {
                if key == entry::HEADER || key == entry::STANDING || key.starts_with(entry::LOG) {
                    continue;
                }
                // Rows that are bound to no name stay with the first child.
                let n = self.child_of(&key, &value).unwrap_or(0);
                weigh(&mut self.children[n].header, &key, &value, true)?;
                parts[n].push((key, value));
            }
            let (pool, filling) = (self.pool, self.filling().encode());
            let writes = self.children.iter().zip(parts).filter(|(_, rows)| !rows.is_empty());
            let writes = writes.map(|(child, rows)| {
                let op = WriteOp::new().assert_exists().omap_cmp(entry::STANDING, Cmp::Eq, filling.clone());
                async move { pool.write_op(&child.oid, op.omap_set(rows)).await }
            });
            try_join_all(writes).await?;
            if !more {
                return Ok(None);
            }
        }
    }

    /// Copies again what the log tells of; how many changes that were.
    async fn catch_up(&mut self) -> Result<Result<usize, End>, ObjectError> {
        let log = match self.read(|op| op.omap_get(self.caught_up.clone(), entry::LOG, LOG_PAGE)).await? {
            Ok(mut outcome) => outcome.omap().unwrap_or_default().entries,
            Err(end) => return Ok(Err(end)),
        };
        let Some((last, _)) = log.last() else { return Ok(Ok(0)) };
        let (last, changes) = (last.clone(), log.len());
        let mut keys = BTreeSet::new();
        for (_, touched) in &log {
            codec::decode(touched, |f| {
                keys.insert(f.text()?);
                Ok(())
            })?;
        }
        let keys: Vec<String> = keys.into_iter().collect();
        for some in keys.chunks(PAGE as usize / 2) {
            if let Err(end) = self.copy_again(some).await? {
                return Ok(Err(end));
            }
        }
        self.caught_up = last;
        Ok(Ok(changes))
    }

    /// Makes the children's rows of these keys what the parent's are now.
    async fn copy_again(&mut self, keys: &[String]) -> Result<Result<(), End>, ObjectError> {
        let now = match self.read(|op| op.omap_get_by_keys(keys.to_vec())).await? {
            Ok(mut outcome) => outcome.omap().unwrap_or_default().entries,
            Err(end) => return Ok(Err(end)),
        };
        let now: HashMap<String, Bytes> = now.into_iter().collect();
        let mut deltas: Vec<Delta> = vec![Delta::new(); self.children.len()];
        for key in keys {
            let value = now.get(key);
            let home = self.child_of(key, value.map_or(b"", |v| v.as_ref()));
            match (home, value) {
                (Some(n), value) => drop(deltas[n].insert(key.clone(), value.cloned())),
                (None, Some(value)) => drop(deltas[0].insert(key.clone(), Some(value.clone()))),
                (None, None) => deltas.iter_mut().for_each(|d| drop(d.insert(key.clone(), None))),
            }
        }
        let (pool, filling) = (self.pool, self.filling().encode());
        let writes = self.children.iter_mut().zip(deltas).filter(|(_, delta)| !delta.is_empty());
        try_join_all(writes.map(|(child, delta)| child.take(pool, &filling, delta))).await?;
        Ok(Ok(()))
    }

    /// The children's counts must add up to the parent's, which nobody changes now.
    async fn settle_counts(&mut self) -> Result<(), ObjectError> {
        let mut outcome = match self.read(|op| op.omap_get_by_keys([entry::HEADER.to_owned()])).await? {
            Ok(outcome) => outcome,
            Err(_) => return Ok(()), // the last step will be refused
        };
        let rows = outcome.omap().unwrap_or_default().entries;
        let whole = rows.first().map(|(_, v)| Header::decode(v)).transpose()?.unwrap_or_default();
        let mut sum = Header { closed: whole.closed, ..Header::default() };
        for child in &mut self.children {
            child.header.closed = whole.closed;
            sum.objects += child.header.objects;
            sum.bytes += child.header.bytes;
            sum.versions += child.header.versions;
            sum.version_bytes += child.header.version_bytes;
        }
        if sum != whole {
            tracing::error!(
                shard = self.oid,
                ?sum,
                ?whole,
                "an index shard does not add up; it stays as it is"
            );
            return Err(ObjectError::Damaged("an index shard does not add up"));
        }
        Ok(())
    }
}

impl Child {
    /// Changes rows, and the counts by what was there before.
    async fn take(&mut self, pool: &Pool, filling: &Bytes, delta: Delta) -> Result<(), ObjectError> {
        let counted = delta.keys().filter(|k| k.starts_with(['o', 'v'])).cloned();
        let op = ReadOp::new().assert_exists().omap_get_by_keys(counted);
        let old = pool.read_op(&self.oid, op).await?.omap().unwrap_or_default().entries;
        for (key, value) in &old {
            weigh(&mut self.header, key, value, false)?;
        }
        let (mut set, mut remove) = (Vec::new(), Vec::new());
        for (key, value) in delta {
            match value {
                Some(value) => {
                    weigh(&mut self.header, &key, &value, true)?;
                    set.push((key, value));
                }
                None => remove.push(key),
            }
        }
        let op = WriteOp::new().assert_exists().omap_cmp(entry::STANDING, Cmp::Eq, filling.clone());
        let op = if set.is_empty() { op } else { op.omap_set(set) };
        let op = if remove.is_empty() { op } else { op.omap_remove(remove) };
        Ok(pool.write_op(&self.oid, op).await.map(drop)?)
    }
}

/// Adds what a row counts for, or takes it off.
fn weigh(header: &mut Header, key: &str, value: &[u8], add: bool) -> Result<(), ObjectError> {
    let (count, bytes) = match key.as_bytes().first() {
        Some(b'o') => (&mut header.objects, &mut header.bytes),
        Some(b'v') => (&mut header.versions, &mut header.version_bytes),
        _ => return Ok(()),
    };
    let size = Entry::decode(value)?.size;
    let step = |n: u64, by: u64| if add { n.checked_add(by) } else { n.checked_sub(by) };
    let wrong = ObjectError::Damaged("a count of index rows is below zero");
    (*count, *bytes) = step(*count, 1).zip(step(*bytes, size)).ok_or(wrong)?;
    Ok(())
}

async fn version_of(pool: &Pool, shard: ShardId) -> Result<Option<u64>, ObjectError> {
    let op = ReadOp::new().assert_exists().omap_get_by_keys([entry::STANDING.to_owned()]);
    Ok(pool.read_op(&shard.oid(), op).await.optional()?.map(|outcome| outcome.version))
}

async fn read_standing(pool: &Pool, oid: &str) -> Result<Option<Standing>, ObjectError> {
    let op = ReadOp::new().assert_exists().omap_get_by_keys([entry::STANDING.to_owned()]);
    let Some(mut outcome) = pool.read_op(oid, op).await.optional()? else { return Ok(None) };
    Ok(Some(Standing::of(&outcome.omap().unwrap_or_default().entries)?))
}
