//! Listing a container: its shards' ordered rows, merged.
//!
//! The cost of a page is that of the rows on it: every shard is read from where the page begins, and names that
//! share a delimiter's prefix are jumped over rather than read.

use super::Index;
use super::entry::{Entry, ShardId};
use super::merge::{Merge, Row, Wanted};
use super::roll::Roll;
use crate::ObjectError;
use pool::Pool;
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

/// Lists what `query` asks for from the shards of one container.
pub(crate) async fn list(
    index: &Index,
    pool: &Pool,
    shards: Vec<ShardId>,
    query: &ListQuery,
) -> Result<ListPage, ObjectError> {
    if query.limit == 0 {
        return Ok(ListPage::default());
    }
    let now = Timestamp::now();
    let end = query.end_marker.as_deref().unwrap_or("");
    let (from, until) =
        if query.reverse { (end, query.marker.as_str()) } else { (query.marker.as_str(), end) };
    let mut merge = Merge::new(index, pool);
    let wanted = Wanted {
        prefix: format!("o{}", query.prefix),
        after: format!("o{from}"),
        until: (!until.is_empty()).then(|| format!("o{until}")),
        most: if query.reverse { usize::MAX } else { query.limit },
        roll: Roll::new(&query.prefix, &query.delimiter, query.hide_prefixes),
    };
    merge.add(shards, wanted);
    let mut items: VecDeque<Item> = VecDeque::new();
    let mut truncated = false;
    while let Some(Row { name, rolled, value, .. }) = merge.next().await? {
        let item = if rolled {
            if query.hide_prefixes || name == query.marker {
                continue;
            }
            Item::Prefix(name)
        } else {
            if query.hide_prefixes && name == query.prefix {
                continue;
            }
            let entry = Entry::decode(&value)?;
            if entry.expired(now) {
                continue;
            }
            Item::Object(name, entry)
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
    merge.remember();
    let mut items = Vec::from(items);
    if query.reverse {
        items.reverse();
    }
    Ok(ListPage { items, truncated })
}
