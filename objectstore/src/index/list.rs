//! Listing a container: its shards' ordered rows, merged.
//!
//! The cost of a page is that of the rows on it: every shard is read from where the page begins, and names that
//! share a delimiter's prefix are jumped over rather than read.

use super::entry::{Entry, ShardId};
use crate::ObjectError;
use bytes::Bytes;
use futures::future::try_join_all;
use pool::{OptionalExt, Pool, ReadOp};
use state::Timestamp;
use std::collections::VecDeque;

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    pub prefix: String,
    /// Names after this one (before it, in reverse); empty for all.
    pub marker: String,
    /// Names before this one (after it, in reverse).
    pub end_marker: Option<String>,
    /// Names that go on after this, behind the prefix, are rolled up into one item.
    pub delimiter: String,
    /// Rolled-up names are left out instead (Swift's `path`).
    pub hide_prefixes: bool,
    /// Most items.
    pub limit: usize,
    pub reverse: bool,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    Object(String, Entry),
    /// All the names that begin with this.
    Prefix(String),
}

impl Item {
    pub fn name(&self) -> &str {
        match self {
            Item::Object(name, _) | Item::Prefix(name) => name,
        }
    }
}

/// A page of a listing.
#[derive(Debug, Clone, Default)]
pub struct ListPage {
    pub items: Vec<Item>,
    /// There is more behind the last item.
    pub truncated: bool,
}

/// The OSD gives no more rows than this in one operation.
const MOST_ROWS: usize = 1000;

/// Rows of one kind in one shard, being read.
pub(super) struct Cursor {
    oid: String,
    prefix: String,
    pub(super) rows: VecDeque<(String, Bytes)>,
    /// The row key behind which to read on.
    after: String,
    more: bool,
    chunk: usize,
}

impl Cursor {
    /// `prefix` begins with the letter of the rows' kind, as `after` does.
    pub(super) fn new(shard: &ShardId, prefix: String, after: String, chunk: usize) -> Self {
        let chunk = chunk.clamp(1, MOST_ROWS);
        Cursor { oid: shard.oid(), prefix, rows: VecDeque::new(), after, more: true, chunk }
    }

    pub(super) async fn fill(&mut self, pool: &Pool) -> Result<(), ObjectError> {
        while self.rows.is_empty() && self.more {
            let op = ReadOp::new().omap_get(self.after.clone(), self.prefix.clone(), self.chunk as u64);
            let Some(mut outcome) = pool.read_op(&self.oid, op).await.optional()? else {
                self.more = false;
                return Ok(());
            };
            let page = outcome.omap().ok_or(ObjectError::Damaged("an index shard gave no rows"))?;
            self.more = page.more && !page.entries.is_empty();
            if let Some((last, _)) = page.entries.last() {
                self.after.clone_from(last);
            }
            self.rows = page.entries.into();
            self.chunk = (self.chunk * 2).min(MOST_ROWS);
        }
        Ok(())
    }

    /// The next name, without taking it. Rows begin with the letter of their kind.
    pub(super) fn peek(&self) -> Option<&str> {
        self.rows.front().map(|(key, _)| &key[1..])
    }

    /// Leaves out everything that begins with `prefix`, as keys have it.
    pub(super) fn skip(&mut self, prefix: &str) {
        while self.peek().is_some_and(|name| name.starts_with(prefix)) {
            self.rows.pop_front();
        }
        if self.rows.is_empty() && self.more && self.after[1..].starts_with(prefix) {
            // The greatest character there is: nothing with this prefix is behind it but names that go on with
            // that very character, and those are met and left out one by one.
            let past = format!("{}{prefix}\u{10ffff}", &self.prefix[..1]);
            if past > self.after {
                self.after = past;
            }
            self.chunk = (self.chunk / 2).max(16);
        }
    }
}

/// Lists what `query` asks for from the shards of one container.
pub(crate) async fn list(
    pool: &Pool,
    shards: &[ShardId],
    query: &ListQuery,
) -> Result<ListPage, ObjectError> {
    if query.limit == 0 {
        return Ok(ListPage::default());
    }
    let now = Timestamp::now();
    let mut merge = Merge::start(pool, shards, query).await?;
    let mut items: VecDeque<Item> = VecDeque::new();
    let mut truncated = false;
    while let Some((name, value)) = merge.next(pool).await? {
        if is_past(query, &name) {
            break;
        }
        let item = match rolled(query, &name) {
            Some(prefix) => {
                merge.skip(&prefix);
                if query.hide_prefixes || prefix == query.marker {
                    continue;
                }
                Item::Prefix(prefix)
            }
            None => {
                if query.hide_prefixes && name == query.prefix {
                    continue;
                }
                let entry = Entry::decode(&value)?;
                if entry.expired(now) {
                    continue;
                }
                Item::Object(name, entry)
            }
        };
        if items.len() < query.limit {
            items.push_back(item);
        } else if query.reverse {
            // Rows cannot be read backwards: the last `limit` of the range are kept while it is read forwards.
            items.pop_front();
            items.push_back(item);
            truncated = true;
        } else {
            truncated = true;
            break;
        }
    }
    let mut items = Vec::from(items);
    if query.reverse {
        items.reverse();
    }
    Ok(ListPage { items, truncated })
}

/// Whether the page ends before `name`.
fn is_past(query: &ListQuery, name: &str) -> bool {
    if query.reverse {
        return !query.marker.is_empty() && name >= query.marker.as_str();
    }
    query.end_marker.as_deref().is_some_and(|end| !end.is_empty() && name >= end)
}

/// The item that `name` is rolled up into.
fn rolled(query: &ListQuery, name: &str) -> Option<String> {
    if query.delimiter.is_empty() {
        return None;
    }
    let rest = name.strip_prefix(query.prefix.as_str())?;
    let at = rest.find(query.delimiter.as_str())? + query.delimiter.len();
    if query.hide_prefixes && at == rest.len() {
        return None; // Swift's `path` shows a directory's own marker object
    }
    Some(name[..query.prefix.len() + at].to_owned())
}

struct Merge {
    cursors: Vec<Cursor>,
}

impl Merge {
    async fn start(pool: &Pool, shards: &[ShardId], query: &ListQuery) -> Result<Self, ObjectError> {
        let from = if query.reverse { query.end_marker.as_deref().unwrap_or("") } else { &query.marker };
        let share = if query.reverse { MOST_ROWS } else { query.limit / shards.len().max(1) + 2 };
        let first = if query.delimiter.is_empty() { share } else { share.min(64) };
        let cursor = |s| Cursor::new(s, format!("o{}", query.prefix), format!("o{from}"), first);
        let mut merge = Merge { cursors: shards.iter().map(cursor).collect() };
        try_join_all(merge.cursors.iter_mut().map(|c| c.fill(pool))).await?;
        Ok(merge)
    }

    /// Takes the least name of all shards. A name is in one shard only.
    async fn next(&mut self, pool: &Pool) -> Result<Option<(String, Bytes)>, ObjectError> {
        for cursor in &mut self.cursors {
            if cursor.rows.is_empty() && cursor.more {
                cursor.fill(pool).await?;
            }
        }
        let least =
            self.cursors.iter_mut().filter(|c| !c.rows.is_empty()).min_by(|a, b| a.peek().cmp(&b.peek()));
        let Some((mut key, value)) = least.and_then(|c| c.rows.pop_front()) else { return Ok(None) };
        key.remove(0);
        Ok(Some((key, value)))
    }

    fn skip(&mut self, prefix: &str) {
        self.cursors.iter_mut().for_each(|c| c.skip(prefix));
    }
}
