//! Listing versions: the rows of objects and those of the versions behind them, merged.

use super::entry::{self, Entry, ShardId};
use super::list::Cursor;
use crate::ObjectError;
use crate::names::Tag;
use crate::version::VersionId;
use futures::future::try_join_all;
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
    Version { name: String, entry: Entry, latest: bool },
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

/// The rows of all shards, in order.
struct Merge {
    /// Rows of objects, and rows of versions.
    cursors: Vec<(Cursor, bool)>,
}

impl Merge {
    async fn start(
        pool: &Pool,
        shards: &[ShardId],
        query: &VersionQuery,
        from: From,
    ) -> Result<Self, ObjectError> {
        let key = &query.key_marker;
        let after = match from {
            _ if key.is_empty() => "v".to_owned(),
            From::NextName => format!("{}~", entry::versions_prefix(key)),
            From::Behind => entry::versions_prefix(key),
            From::Version(order) => entry::version_key(key, order),
        };
        let chunk = query.limit / shards.len().max(1) + 2;
        let mut cursors = Vec::with_capacity(shards.len() * 2);
        for shard in shards {
            let objects = (format!("o{}", query.prefix), format!("o{key}"));
            let versions = (format!("v{}", entry::folded(&query.prefix)), after.clone());
            cursors.push((Cursor::new(shard, objects.0, objects.1, chunk), false));
            cursors.push((Cursor::new(shard, versions.0, versions.1, chunk), true));
        }
        try_join_all(cursors.iter_mut().map(|(c, _)| c.fill(pool))).await?;
        Ok(Merge { cursors })
    }

    /// The next row: its name, whether it is of a version behind the object, and its entry.
    async fn next(&mut self, pool: &Pool) -> Result<Option<(String, bool, Entry)>, ObjectError> {
        let mut least: Option<(String, bool, String, usize)> = None;
        for (n, (cursor, behind)) in self.cursors.iter_mut().enumerate() {
            cursor.fill(pool).await?;
            let Some(rest) = cursor.peek() else { continue };
            let name = match behind {
                false => rest.to_owned(),
                true => entry::parse_version_key(rest)
                    .ok_or(ObjectError::Damaged("a version's row has a bad key"))?,
            };
            let key = (name, *behind, rest.to_owned(), n);
            if least.as_ref().is_none_or(|l| key < *l) {
                least = Some(key);
            }
        }
        let Some((name, behind, _, n)) = least else { return Ok(None) };
        let Some((_, value)) = self.cursors[n].0.rows.pop_front() else { return Ok(None) };
        Ok(Some((name, behind, Entry::decode(&value)?)))
    }

    fn skip(&mut self, prefix: &str) {
        let folded = entry::folded(prefix);
        self.cursors.iter_mut().for_each(|(c, behind)| c.skip(if *behind { &folded } else { prefix }));
    }
}

pub(crate) async fn list(
    pool: &Pool,
    shards: &[ShardId],
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
    let mut merge = Merge::start(pool, shards, query, from).await?;
    while let Some((name, behind, entry)) = merge.next(pool).await? {
        let rest = name.strip_prefix(query.prefix.as_str()).unwrap_or_default();
        let roll = rest.find(query.delimiter.as_str()).filter(|_| !query.delimiter.is_empty());
        let item = match roll {
            Some(at) => {
                let prefix = name[..query.prefix.len() + at + query.delimiter.len()].to_owned();
                merge.skip(&prefix);
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
                VersionItem::Version { latest: !behind || (first && entry.marker), name, entry }
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
