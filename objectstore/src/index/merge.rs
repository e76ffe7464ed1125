//! The rows of many shards, read and merged in the order of their names.
//!
//! A page costs the same whatever the number of shards: each is asked for its share of the page and a little more, all
//! at once, and the least of their next rows is found in a heap. A shard whose rows move while they are read is
//! replaced by those that have them, from the same place on.

use super::Index;
use super::entry::{self, ShardId};
use super::moves::{Seen, look};
use crate::ObjectError;
use bytes::Bytes;
use futures::future::try_join_all;
use pool::Pool;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// The OSD gives no more rows than this in one operation.
const MOST_ROWS: usize = 1000;
/// Rows that are read at once where most of them may be jumped over. Another read costs about as much as so many rows.
const FEW_ROWS: usize = 64;
/// Jumps until it is looked again whether jumping is still cheaper than reading.
const JUMPS: usize = 16;

/// A row, of those in order: by name, an object before its older versions, the newest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) name: String,
    /// Of a version behind the object.
    pub(super) behind: bool,
    /// Its key, without the letter of its kind, where that is not the name.
    rest: String,
    cursor: usize,
    pub(super) value: Bytes,
}

/// Rows of one kind in one shard, being read.
#[derive(Clone)]
struct Cursor {
    shard: ShardId,
    prefix: String,
    rows: VecDeque<(String, Bytes)>,
    /// The row key behind which to read on.
    after: String,
    more: bool,
    chunk: usize,
    /// Jumps to be made yet: the rows that share a prefix are more than another read costs.
    jumps: usize,
}

impl Cursor {
    /// Reads on if there is nothing at hand. Where the rows have moved, among how many shards they are now.
    async fn fill(&mut self, pool: &Pool) -> Result<Option<u32>, ObjectError> {
        while self.rows.is_empty() && self.more {
            let (after, prefix, most) = (self.after.clone(), self.prefix.clone(), self.chunk as u64);
            let mut outcome = match look(pool, self.shard, |op| op.omap_get(after, prefix, most)).await? {
                Seen::Rows(outcome) => outcome,
                Seen::Moved(shards) => return Ok(Some(shards)),
                Seen::Absent => {
                    self.more = false;
                    return Ok(None);
                }
            };
            let page = outcome.omap().ok_or(ObjectError::Damaged("an index shard gave no rows"))?;
            self.more = page.more && !page.entries.is_empty();
            if let Some((last, _)) = page.entries.last() {
                self.after.clone_from(last);
            }
            self.rows = page.entries.into();
            self.chunk = (self.chunk * 2).min(MOST_ROWS);
        }
        Ok(None)
    }

    fn is_behind(&self) -> bool {
        self.prefix.starts_with('v')
    }

    /// Leaves out everything that begins with `prefix`, as keys have it.
    fn skip(&mut self, prefix: &str) {
        let at_hand = self.rows.len();
        while self.rows.front().is_some_and(|(key, _)| key[1..].starts_with(prefix)) {
            self.rows.pop_front();
        }
        let left_out = at_hand - self.rows.len() + 1;
        if self.rows.is_empty() && self.more && self.after[1..].starts_with(prefix) {
            // The greatest character there is: nothing with this prefix is behind it but names that go on with
            // that very character, and those are met and left out one by one.
            let past = format!("{}{prefix}\u{10ffff}", &self.prefix[..1]);
            if past > self.after {
                self.after = past;
            }
            if left_out >= FEW_ROWS {
                self.jumps = JUMPS;
            }
            // Until it jumps, it reads on in ever larger steps.
            if let Some(left) = self.jumps.checked_sub(1) {
                (self.jumps, self.chunk) = (left, if left == 0 { FEW_ROWS } else { 2 });
            }
        }
    }
}

/// Cursors, and the next row of each that has one.
pub(super) struct Merge<'a> {
    index: &'a Index,
    pool: &'a Pool,
    cursors: Vec<Cursor>,
    heap: BinaryHeap<Reverse<Row>>,
    /// The cursor whose row was taken last: its next is fetched when it is known not to be jumped over.
    taken: Option<usize>,
}

impl<'a> Merge<'a> {
    pub(super) fn new(index: &'a Index, pool: &'a Pool) -> Self {
        Merge { index, pool, cursors: Vec::new(), heap: BinaryHeap::new(), taken: None }
    }

    /// Adds the rows of one kind in a container's shards: those whose keys begin with `prefix` and are behind `after`.
    /// Both begin with the letter of the kind. `most` of them will be wanted, or, if they are jumped over, a few.
    pub(super) fn add(
        &mut self,
        shards: Vec<ShardId>,
        prefix: String,
        after: String,
        most: usize,
        jumps: bool,
    ) {
        let shards = self.index.moves.leaves(shards);
        // Names are spread evenly, but for chance: three deviations more than its share, and most shards are read once.
        let share = (most / shards.len().max(1)).min(MOST_ROWS);
        let spread = if shards.len() > 1 { 3 * share.isqrt() } else { 0 };
        let chunk = (share + spread + 2).min(if jumps { FEW_ROWS } else { MOST_ROWS });
        let cursor = |shard| Cursor {
            shard,
            prefix: prefix.clone(),
            rows: VecDeque::new(),
            after: after.clone(),
            more: true,
            chunk,
            jumps: 0,
        };
        self.cursors.extend(shards.into_iter().map(cursor));
    }

    pub(super) async fn start(&mut self) -> Result<(), ObjectError> {
        self.refill((0..self.cursors.len()).collect()).await
    }

    /// Takes the least row of all.
    pub(super) async fn next(&mut self) -> Result<Option<Row>, ObjectError> {
        if let Some(n) = self.taken.take() {
            match self.cursors[n].rows.is_empty() {
                true => self.refill(vec![n]).await?,
                false => self.push(n)?,
            }
        }
        let row = self.heap.pop().map(|Reverse(row)| row);
        self.taken = row.as_ref().map(|r| r.cursor);
        Ok(row)
    }

    /// Leaves out all names that begin with `prefix`, which the last row's name did.
    pub(super) async fn skip(&mut self, prefix: &str) -> Result<(), ObjectError> {
        let (left_out, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.heap).into_iter().partition(|Reverse(row)| row.name.starts_with(prefix));
        self.heap = kept.into();
        let folded = entry::folded(prefix);
        let jumped = left_out.into_iter().map(|Reverse(row)| row.cursor).chain(self.taken.take());
        let jumped: Vec<usize> = jumped.collect();
        for n in &jumped {
            let cursor = &mut self.cursors[*n];
            let prefix = if cursor.is_behind() { &folded } else { prefix };
            cursor.skip(prefix);
        }
        self.refill(jumped).await
    }

    /// Has the next rows of these cursors, which have none in the heap, read and put there.
    async fn refill(&mut self, mut which: Vec<usize>) -> Result<(), ObjectError> {
        while !which.is_empty() {
            which.sort_unstable();
            let pool = self.pool;
            let chosen = self.cursors.iter_mut().enumerate().filter(|(n, _)| which.binary_search(n).is_ok());
            let fills =
                chosen.map(|(n, cursor)| async move { Ok::<_, ObjectError>((n, cursor.fill(pool).await?)) });
            let filled: Vec<(usize, Option<u32>)> = try_join_all(fills).await?;
            which.clear();
            for (n, moved) in filled {
                let Some(shards) = moved else {
                    self.push(n)?;
                    continue;
                };
                let cursor = self.cursors[n].clone();
                self.index.moves.learn(cursor.shard, shards);
                self.cursors[n].more = false;
                for shard in cursor.shard.children(shards) {
                    which.push(self.cursors.len());
                    self.cursors.push(Cursor { shard, ..cursor.clone() });
                }
            }
        }
        Ok(())
    }

    /// Puts the next row of a cursor into the heap, if it has one at hand.
    fn push(&mut self, n: usize) -> Result<(), ObjectError> {
        let cursor = &mut self.cursors[n];
        let Some((mut key, value)) = cursor.rows.pop_front() else { return Ok(()) };
        key.remove(0);
        let row = match cursor.is_behind() {
            false => Row { name: key, behind: false, rest: String::new(), cursor: n, value },
            true => {
                let name = entry::parse_version_key(&key)
                    .ok_or(ObjectError::Damaged("a version's row has a bad key"))?;
                Row { name, behind: true, rest: key, cursor: n, value }
            }
        };
        self.heap.push(Reverse(row));
        Ok(())
    }
}
