//! Listing versions: the rows of objects and those of the versions behind them, merged.

use super::Index;
use super::entry::{self, Entry, ShardId};
use super::merge::{Merge, Row};
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
    let jumps = !query.delimiter.is_empty();
    merge.add(shards.clone(), format!("o{}", query.prefix), format!("o{key}"), query.limit, jumps);
    let prefix = format!("v{}", entry::folded(&query.prefix));
    merge.add(shards, prefix, after, query.limit, jumps);
    merge.start().await?;
    while let Some(Row { name, behind, value, .. }) = merge.next().await? {
        let entry = Entry::decode(&value)?;
        let rest = name.strip_prefix(query.prefix.as_str()).unwrap_or_default();
        let roll = rest.find(query.delimiter.as_str()).filter(|_| !query.delimiter.is_empty());
        let item = match roll {
            Some(at) => {
                let prefix = name[..query.prefix.len() + at + query.delimiter.len()].to_owned();
                merge.skip(&prefix).await?;
                if prefix == query.key_marker {
                    continue;
                }
                VersionItem::Prefix(prefix)
            }
            None if entry.expired(now) => continue,
            None => {
                let first = last.as_ref() != Some(&name);
                last = Some(name.clone());
                // A marker that nothing shown stands before is the latest.
                VersionItem::Version {
                    latest: !behind || (first && entry.marker),
                    name,
                    entry: Box::new(entry),
                }
            }
        };
        if page.items.len() == query.limit {
            page.truncated = true;
            break;
        }
        page.items.push(item);
    }
    Ok(page)
}
