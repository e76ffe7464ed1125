//! How an index grows while any number of processes use it.
//!
//! A container's row names its index by generation and number of shards. When a shard has become too long, the next
//! generation is made, with a multiple of the shards: a name's shard is its hash modulo their number, so the names of
//! one shard are divided among *its* children and among no others', and every shard moves by itself. Growth goes up
//! only: an emptied container costs a read of a few empty shards, and shards that could be merged would need two
//! objects to change at once, which storage cannot do.
//!
//! What a shard is at the moment stands in its row `#` ([`Standing`]):
//!
//! ```text
//! parent:   (none) ──► Moving ◄──► Moving, frozen ──► Moved      for good: a stub that says where to go
//! child:    Filling ──► (none)                                   lives, and may be a parent one day
//! ```
//!
//! 1. **Claim.** The mover has seen the children's versions; now it makes the parent *Moving*, under a fresh tag. From
//!    here on every change of the parent logs the keys that it touched (`l<version>`), in the same operation.
//! 2. **Reset.** Every child is emptied and becomes *Filling* under the tag, if it still has the version seen before.
//! 3. **Fill.** The parent's rows are copied page by page, counted as they go; then what the log tells of is copied
//!    again, until little is left. Every write to a child asserts that it is *Filling* under the mover's tag.
//! 4. **Freeze.** Changes of the parent wait. What the log still tells of is copied. Now nothing is missing, and the
//!    children's counts must add up to the parent's.
//! 5. **Children live.** Nobody looks for them yet.
//! 6. **Moved.** The parent is emptied and says where its rows are, if it is still frozen under the tag.
//!
//! When all shards have moved the container's row names the new generation, and the processes are told.
//!
//! **Why a stale map does no harm.** Whoever reads or changes a shard reads `#` in the same operation as the rows, and
//! a change asserts the version that it read: against a stub nothing is read or written but the way to the children,
//! which each process remembers, for it never changes. A stub is an empty object and stays as long as the container:
//! so a missing shard of a later generation is damage, never an empty one, and no late writer makes a shard again.
//!
//! **Why two movers do no harm.** Of two claims the later one counts. The earlier mover's writes to the children fail,
//! since the later one has reset them; its *Moved* fails, since the parent is no longer frozen under its tag; and its
//! own late reset fails, since the children have changed since it saw them. So a mover may be killed, or stopped and
//! woken, at any step; whoever comes next begins that shard again.
//!
//! **Why a dead mover blocks nobody.** Changes that wait for a frozen shard thaw it after [`THAW`]; the mover, should
//! it live, finds its last step refused and begins again.

use super::entry::{self, ShardId};
use crate::ObjectError;
use crate::codec::{self, Damaged, Encoder};
use crate::names::Tag;
use bytes::Bytes;
use lru::LruCache;
use pool::{Cmp, OptionalExt, Pool, ReadOp, ReadOutcome, WriteOp};
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A change that has waited this long for a frozen shard thaws it. Far longer than what is done to a frozen shard.
pub(super) const THAW: Duration = Duration::from_secs(3);
/// Between two looks at a frozen shard.
const LOOK: Duration = Duration::from_millis(4);
/// Rows that are read at once.
const ROWS: u64 = 1000;
/// Stubs whose children are remembered.
const MOST_MOVES: usize = 1 << 16;

/// Where a shard stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Standing {
    /// It has its rows, and nobody moves them.
    #[default]
    Live,
    /// Its rows are being copied to the children that it has among `shards`.
    Moving { by: Tag, shards: u32, frozen: bool },
    /// It has none: they are in the children that it has among `shards`.
    Moved { shards: u32 },
    /// It is a child that is not in use yet.
    Filling { by: Tag },
}

impl Standing {
    pub(super) fn encode(&self) -> Bytes {
        let mut e = Encoder::new();
        match self {
            Standing::Live => return Bytes::new(),
            Standing::Moving { by, shards, frozen } => {
                e.number(1, 1).bytes(2, by.as_bytes()).number(3, u64::from(*shards));
                e.number_opt(4, u64::from(*frozen));
            }
            Standing::Moved { shards } => {
                e.number(1, 2).number(3, u64::from(*shards));
            }
            Standing::Filling { by } => {
                e.number(1, 3).bytes(2, by.as_bytes());
            }
        }
        e.done().into()
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Damaged> {
        if value.is_empty() {
            return Ok(Standing::Live);
        }
        let (mut kind, mut by, mut shards, mut frozen) = (0, None, 0, false);
        codec::decode(value, |f| {
            match f.id {
                1 => kind = f.number()?,
                2 => by = Some(Tag::from_bytes(f.bytes)?),
                3 => shards = u32::try_from(f.number()?).map_err(|_| Damaged)?,
                4 => frozen = f.number()? != 0,
                _ => {}
            }
            Ok(())
        })?;
        match (kind, by) {
            (1, Some(by)) if shards > 0 => Ok(Standing::Moving { by, shards, frozen }),
            (2, _) if shards > 0 => Ok(Standing::Moved { shards }),
            (3, Some(by)) => Ok(Standing::Filling { by }),
            _ => Err(Damaged),
        }
    }

    /// Of rows that were read with the key [`entry::STANDING`].
    pub(super) fn of(rows: &[(String, Bytes)]) -> Result<Self, ObjectError> {
        let row = rows.iter().find(|(k, _)| k == entry::STANDING);
        Ok(row.map(|(_, v)| Standing::decode(v)).transpose()?.unwrap_or_default())
    }
}

/// What was found where a shard should be.
pub(super) enum Seen {
    /// Nothing: it was never written to.
    Absent,
    /// The shard. What was asked for is in the outcome, its omap steps in order.
    Rows(ReadOutcome),
    /// A stub: the rows are in the children among so many shards.
    Moved(u32),
}

/// Reads from one shard, and in the same operation where it stands.
pub(super) async fn look(
    pool: &Pool,
    shard: ShardId,
    more: impl FnOnce(ReadOp) -> ReadOp,
) -> Result<Seen, ObjectError> {
    let op = ReadOp::new().assert_exists().omap_get_by_keys([entry::STANDING.to_owned()]);
    let Some(mut outcome) = pool.read_op(&shard.oid(), more(op)).await.optional()? else {
        return absent(shard).map(|()| Seen::Absent);
    };
    let rows = outcome.omap().ok_or(ObjectError::Damaged("an index shard gave no rows"))?;
    match Standing::of(&rows.entries)? {
        Standing::Live | Standing::Moving { .. } => Ok(Seen::Rows(outcome)),
        Standing::Moved { shards } => Ok(Seen::Moved(shards)),
        Standing::Filling { .. } => Err(FILLING),
    }
}

pub(super) const FILLING: ObjectError = ObjectError::Damaged("an index shard is in use that is not whole");

/// Shards of the first generation are made by their first row, all others before anyone looks for them.
pub(super) fn absent(shard: ShardId) -> Result<(), ObjectError> {
    match shard.generation {
        0 | 1 => Ok(()),
        _ => Err(ObjectError::Damaged("an index shard is missing")),
    }
}

/// A change that finds its shard frozen.
#[derive(Default)]
pub(super) struct Frozen(Option<(Standing, Instant)>);

impl Frozen {
    /// Waits a moment; thaws the shard if it has been as it is for too long.
    pub(super) async fn wait(&mut self, pool: &Pool, oid: &str, now: Standing) -> Result<(), ObjectError> {
        let Standing::Moving { by, shards, .. } = now else { return Ok(()) };
        let since = match self.0 {
            Some((before, since)) if before == now => since,
            _ => self.0.insert((now, Instant::now())).1,
        };
        if since.elapsed() > THAW {
            let thawed = Standing::Moving { by, shards, frozen: false };
            match swap(pool, oid, now, thawed, |op| op).await {
                Err(e) if e.is_cancelled() || e.is_not_found() => {}
                done => done?,
            }
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
        Ok(())
    }
}

/// Changes where a shard stands, and what `also` says, if it stands where it is thought to. `Cancelled` if not.
pub(super) async fn swap(
    pool: &Pool,
    oid: &str,
    from: Standing,
    to: Standing,
    also: impl FnOnce(WriteOp) -> WriteOp,
) -> Result<(), pool::Error> {
    let op = also(WriteOp::new().assert_exists().omap_cmp(entry::STANDING, Cmp::Eq, from.encode()));
    let op = match to {
        Standing::Live => op.omap_remove([entry::STANDING.to_owned()]),
        to => op.omap_set([(entry::STANDING.to_owned(), to.encode())]),
    };
    pool.write_op(oid, op).await.map(drop)
}

/// What this process knows of stubs. They are for good, so nothing here is ever wrong.
pub(super) struct Moves(Mutex<LruCache<ShardId, u32>>);

impl Default for Moves {
    fn default() -> Self {
        let most = NonZeroUsize::new(MOST_MOVES).unwrap_or(NonZeroUsize::MIN);
        Moves(Mutex::new(LruCache::new(most)))
    }
}

impl Moves {
    pub(super) fn learn(&self, shard: ShardId, shards: u32) {
        tracing::debug!(shard = shard.oid(), shards, "an index shard has moved");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(shard, shards);
    }

    fn of(&self, shard: ShardId) -> Option<u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&shard).copied()
    }

    /// Where the rows of `name` are that were in `shard` once.
    pub(super) fn leaf(&self, mut shard: ShardId, name: &str) -> ShardId {
        while let Some(shards) = self.of(shard) {
            shard = shard.child(shards, name);
        }
        shard
    }

    /// The shards that have the rows of `shards` now.
    pub(super) fn leaves(&self, shards: Vec<ShardId>) -> Vec<ShardId> {
        let (mut leaves, mut todo) = (Vec::with_capacity(shards.len()), shards);
        while let Some(shard) = todo.pop() {
            match self.of(shard) {
                Some(shards) => todo.extend(shard.children(shards)),
                None => leaves.push(shard),
            }
        }
        leaves
    }
}

impl super::Index {
    /// Reads from the shard that lists `name`, wherever that is by now; nothing where nothing was ever listed.
    /// `shard` is where it was once.
    pub(crate) async fn read(
        &self,
        pool: &Pool,
        shard: ShardId,
        name: &str,
        more: impl Fn(ReadOp) -> ReadOp,
    ) -> Result<Option<ReadOutcome>, ObjectError> {
        loop {
            let leaf = self.moves.leaf(shard, name);
            match look(pool, leaf, &more).await? {
                Seen::Absent => return Ok(None),
                Seen::Rows(outcome) => return Ok(Some(outcome)),
                Seen::Moved(shards) => self.moves.learn(leaf, shards),
            }
        }
    }

    /// Reads from all shards that have the rows of `shard` by now.
    pub(crate) async fn read_all(
        &self,
        pool: &Pool,
        shard: ShardId,
        more: impl Fn(ReadOp) -> ReadOp,
    ) -> Result<Vec<(ShardId, ReadOutcome)>, ObjectError> {
        let (mut found, mut todo) = (Vec::new(), self.moves.leaves(vec![shard]));
        while let Some(shard) = todo.pop() {
            match look(pool, shard, &more).await? {
                Seen::Absent => {}
                Seen::Rows(outcome) => found.push((shard, outcome)),
                Seen::Moved(shards) => {
                    self.moves.learn(shard, shards);
                    todo.extend(shard.children(shards));
                }
            }
        }
        Ok(found)
    }

    /// All rows whose keys begin with `prefix`, of the shards that have the rows of `shard` by now.
    pub(crate) async fn rows(
        &self,
        pool: &Pool,
        shard: ShardId,
        prefix: &str,
    ) -> Result<Vec<(String, Bytes)>, ObjectError> {
        let (mut all, mut todo) = (Vec::new(), vec![(shard, String::new())]);
        while let Some((shard, after)) = todo.pop() {
            let more = |op: ReadOp| op.omap_get(after.clone(), prefix, ROWS);
            for (shard, mut outcome) in self.read_all(pool, shard, more).await? {
                let page = outcome.omap().unwrap_or_default();
                if let Some((last, _)) = page.entries.last().filter(|_| page.more) {
                    todo.push((shard, last.clone()));
                }
                all.extend(page.entries);
            }
        }
        Ok(all)
    }
}
