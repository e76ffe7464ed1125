//! The rows of many shards, read and merged in the order of their names.
//!
//! A page costs the same whatever the number of shards: each is asked for its share of the page and a little more, all
//! at once, and the least of their next rows is found in a heap. A shard whose rows move while they are read is
//! replaced by those that have them, from the same place on.

use super::Index;
use super::entry::{self, ShardId};
use super::moves::{Seen, look};
use super::roll::Roll;
use super::scan::{Item, Known, Scan};
use crate::ObjectError;
use bytes::Bytes;
use futures::future::try_join_all;
use lru::LruCache;
use pool::Pool;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

/// Shards of listings that are remembered.
const REMEMBERED: usize = 64;

/// A row, of those in order: by name, an object before its older versions, the newest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    /// Of rows that are rolled up, what all their names begin with.
    pub(super) name: String,
    pub(super) rolled: bool,
    /// Of a version behind the object.
    pub(super) behind: bool,
    /// Its key, without the letter of its kind, where that is not the name.
    rest: String,
    cursor: usize,
    pub(super) value: Bytes,
}

/// Rows of one kind that are wanted.
pub(super) struct Wanted {
    /// What their keys begin with, behind which key they are, and which ends them. All begin with the letter of the
    /// kind.
    pub(super) prefix: String,
    pub(super) after: String,
    pub(super) until: Option<String>,
    /// How many.
    pub(super) most: usize,
    pub(super) roll: Option<Roll>,
}

/// What was asked of a shard by a listing that rolls names up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asked {
    shard: ShardId,
    prefix: String,
    after: String,
    until: Option<String>,
    roll: Roll,
}

/// What such listings came to. It is used as long as the shard has not changed, and says where to look if it has.
pub(super) struct Memory(Mutex<LruCache<Asked, Arc<Known>>>);

impl Default for Memory {
    fn default() -> Self {
        Memory(Mutex::new(LruCache::new(NonZeroUsize::new(REMEMBERED).unwrap_or(NonZeroUsize::MIN))))
    }
}

impl Memory {
    fn get(&self, asked: &Asked) -> Option<Arc<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(asked).cloned()
    }

    fn put(&self, asked: Asked, known: Known) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(asked, Arc::new(known));
    }
}

/// Rows of one kind in one shard, being read.
struct Cursor {
    shard: ShardId,
    scan: Scan,
    /// To be remembered by this.
    asked: Option<Asked>,
}

impl Cursor {
    /// Reads on until there is something at hand, or nothing more. Where the rows have moved, among how many shards they
    /// are now.
    async fn fill(&mut self, pool: &Pool) -> Result<Option<u32>, ObjectError> {
        while self.scan.is_dry() {
            let looks = self.scan.looks();
            let (prefix, wanted) = (self.scan.prefix(), looks.clone());
            let ask = |op| {
                wanted.into_iter().fold(op, |op: pool::ReadOp, l| op.omap_get(l.after, prefix, l.most as u64))
            };
            match look(pool, self.shard, ask).await? {
                Seen::Rows(mut outcome) => {
                    let pages = std::iter::from_fn(|| outcome.omap()).collect();
                    self.scan.take(looks, pages, outcome.version)?;
                }
                Seen::Moved(shards) => return Ok(Some(shards)),
                Seen::Absent => self.scan.end(),
            }
        }
        Ok(None)
    }
}

/// Cursors, and the next row of each that has one.
pub(super) struct Merge<'a> {
    index: &'a Index,
    pool: &'a Pool,
    cursors: Vec<Cursor>,
    heap: BinaryHeap<Reverse<Row>>,
    /// Cursors whose next row is not in the heap yet, if they have one.
    pending: Vec<usize>,
}

impl<'a> Merge<'a> {
    pub(super) fn new(index: &'a Index, pool: &'a Pool) -> Self {
        Merge { index, pool, cursors: Vec::new(), heap: BinaryHeap::new(), pending: Vec::new() }
    }

    /// Adds rows of one kind in a container's shards.
    pub(super) fn add(&mut self, shards: Vec<ShardId>, wanted: Wanted) {
        let Wanted { prefix, after, until, most, roll } = wanted;
        let shards = self.index.moves.leaves(shards);
        // Names are spread evenly, but for chance: three deviations more than its share, and most shards are read once.
        let share = most / shards.len().max(1);
        let spread = if shards.len() > 1 { share.isqrt().saturating_mul(3) } else { 0 };
        let share = share.saturating_add(spread).saturating_add(2);
        let rolled = roll.clone().map(Arc::new);
        let scan = Scan::new(prefix.clone(), after.clone(), until.clone(), rolled, share);
        for shard in shards {
            let (prefix, after, until) = (prefix.clone(), after.clone(), until.clone());
            let asked = roll.clone().map(|roll| Asked { shard, prefix, after, until, roll });
            let known = asked.as_ref().and_then(|asked| self.index.listings.get(asked));
            self.push_cursor(shard, scan.clone().recall(known), asked);
        }
    }

    fn push_cursor(&mut self, shard: ShardId, scan: Scan, asked: Option<Asked>) {
        self.pending.push(self.cursors.len());
        self.cursors.push(Cursor { shard, scan, asked });
    }

    /// Has what the shards came to remembered for the next that asks the same.
    pub(super) fn remember(&mut self) {
        for cursor in &mut self.cursors {
            if let (Some(asked), Some(known)) = (cursor.asked.take(), cursor.scan.learned()) {
                self.index.listings.put(asked, known);
            }
        }
    }

    /// Takes the least row of all; rows that are rolled up alike are one.
    pub(super) async fn next(&mut self) -> Result<Option<Row>, ObjectError> {
        self.show().await?;
        let Some(Reverse(row)) = self.heap.pop() else { return Ok(None) };
        self.pending.push(row.cursor);
        while row.rolled && self.heap.peek().is_some_and(|Reverse(r)| r.rolled && r.name == row.name) {
            self.pending.extend(self.heap.pop().map(|Reverse(same)| same.cursor));
        }
        Ok(Some(row))
    }

    /// Has the next row of every cursor in the heap that has one.
    async fn show(&mut self) -> Result<(), ObjectError> {
        while self.pending.iter().any(|n| self.cursors[*n].scan.is_dry()) {
            let (pool, pending) = (self.pool, &self.pending);
            let dry = self.cursors.iter_mut().enumerate().filter(|(_, c)| c.scan.is_dry());
            // Where names are rolled up all shards have much the same, and run dry at the same time.
            let dry = dry.filter(|(n, c)| c.scan.rolls_up() || pending.contains(n));
            let fills = dry.map(|(n, c)| async move { Ok::<_, ObjectError>((n, c.fill(pool).await?)) });
            for (n, moved) in try_join_all(fills).await? {
                let Some(shards) = moved else { continue };
                let Cursor { shard, scan, asked } = &mut self.cursors[n];
                let (from, anew) = (*shard, scan.anew());
                scan.end();
                *asked = None;
                self.index.moves.learn(from, shards);
                from.children(shards).for_each(|shard| self.push_cursor(shard, anew.clone(), None));
            }
        }
        for n in std::mem::take(&mut self.pending) {
            if let Some(item) = self.cursors[n].scan.pop() {
                self.push(n, item)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, n: usize, item: Item) -> Result<(), ObjectError> {
        let behind = self.cursors[n].scan.is_of_versions();
        let Item { mut key, rolled, value } = item;
        key.remove(0);
        let (name, rest) = match (behind, rolled) {
            (false, _) => (key, String::new()),
            (true, true) => (entry::unfolded(&key), String::new()),
            (true, false) => {
                let name = entry::parse_version_key(&key);
                (name.ok_or(ObjectError::Damaged("a version's row has a bad key"))?, key)
            }
        };
        self.heap.push(Reverse(Row { name, rolled, behind, rest, cursor: n, value }));
        Ok(())
    }
}
