//! Listing versions: the rows of objects and those of the versions behind them, merged.

use super::Index;
use super::entry::{self, Entry, ShardId};
use super::merge::{Merge, Row, Wanted};
use super::roll::Roll;
use crate::ObjectError;
use crate::names::Tag;
use crate::version::VersionId;
use pool::Pool;
use state::Timestamp;

/// Which versions to list.
#[derive(Debug, Clone, Default)]
pub struct VersionQuery {
    pub prefix: String,
    /// Names after this one; with `version_marker` also its versions behind that.
    pub key_marker: String,
    pub version_marker: Option<VersionId>,
    pub delimiter: String,
    /// Most items.
    pub limit: usize,
}

/// One line of a listing of versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionItem {
    Version { name: String, entry: Box<Entry>, latest: bool },
    Prefix(String),
}

/// A page of versions.
#[derive(Debug, Clone, Default)]
pub struct VersionPage {
    pub items: Vec<VersionItem>,
    /// There is more behind the last item.
    pub truncated: bool,
}

/// Where, in the name of the marker, a page begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum From {
    /// Behind all versions of that name.
    NextName,
    /// Behind the one that is shown as the object.
    Behind,
    /// Behind this one.
    Version(Tag),
}

pub(crate) async fn list(
    index: &Index,
    pool: &Pool,
    shards: Vec<ShardId>,
    query: &VersionQuery,
    from: From,
) -> Result<VersionPage, ObjectError> {
    let mut page = VersionPage::default();
    if query.limit == 0 {
        return Ok(page);
    }
    let now = Timestamp::now();
    // Of the marker's name the latest has been listed before.
    let mut last = query.version_marker.map(|_| query.key_marker.clone());
    let key = &query.key_marker;
    let after = match from {
        _ if key.is_empty() => "v".to_owned(),
        From::NextName => format!("{}~", entry::versions_prefix(key)),
        From::Behind => entry::versions_prefix(key),
        From::Version(order) => entry::version_key(key, order),
    };
    let mut merge = Merge::new(index, pool);
    let roll = Roll::new(&query.prefix, &query.delimiter, false);
    let wanted = |prefix, after| Wanted { prefix, after, until: None, most: query.limit, roll: roll.clone() };
    merge.add(shards.clone(), wanted(format!("o{}", query.prefix), format!("o{key}")));
    merge.add(shards, wanted(format!("v{}", entry::folded(&query.prefix)), after));
    while let Some(Row { name, rolled, behind, value, .. }) = merge.next().await? {
        let item = if rolled {
            if name == query.key_marker {
                continue;
            }
            VersionItem::Prefix(name)
        } else {
            let entry = Entry::decode(&value)?;
            let expired = entry.expired(now);
            if expired && entry.id() == VersionId::Null {
                continue;
            }
            let first = last.as_ref() != Some(&name);
            last = Some(name.clone());
            // A marker that nothing shown stands before is the latest.
            let latest = !expired && (!behind || (first && entry.marker));
            VersionItem::Version { latest, name, entry: Box::new(entry) }
        };
        if page.items.len() == query.limit {
            page.truncated = true;
            break;
        }
        page.items.push(item);
    }
    merge.remember();
    Ok(page)
}
