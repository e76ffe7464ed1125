//! Listing what is under way: a container's uploads, and the parts of one.

use super::checksum::FULL_OBJECT;
use super::{CLOSING, OPEN, Upload, part_key};
use crate::container::Container;
use crate::index::entry::{self, ShardId};
use crate::index::{Index, Roll};
use crate::meta::Part;
use crate::names::{self, Tag};
use crate::policy::PolicyId;
use crate::{ObjectError, ObjectStore};
use futures::future::try_join_all;
use pool::{OptionalExt, ReadOp};

/// A page of parts.
#[derive(Debug, Clone, Default)]
pub struct PartPage {
    pub parts: Vec<Part>,
    pub truncated: bool,
    pub algorithm: Option<String>,
    /// The object's checksum will be over its content, not over its parts' sums.
    pub full_checksum: bool,
    /// The project that the object will be of; empty for the bucket's.
    pub owner: String,
    pub(crate) place: Option<PolicyId>,
}

/// Which uploads to list.
#[derive(Debug, Clone, Default)]
pub struct UploadQuery {
    pub prefix: String,
    pub key_marker: String,
    pub id_marker: Option<Tag>,
    pub delimiter: String,
    pub limit: usize,
}

#[derive(Debug, Clone, Default)]
pub struct UploadPage {
    pub uploads: Vec<Upload>,
    pub prefixes: Vec<String>,
    /// The last name, and the upload of that name, where there is more behind it.
    pub next: Option<(String, Option<Tag>)>,
}

impl ObjectStore {
    /// Lists the parts of an upload with numbers after `after`.
    pub async fn list_parts(
        &self,
        container: &Container,
        name: &str,
        id: Tag,
        after: u32,
        limit: usize,
    ) -> Result<PartPage, ObjectError> {
        let record = self.upload_record(container, name, id).await?;
        if !matches!(record.state.as_str(), OPEN | CLOSING) {
            return Err(ObjectError::NoSuchUpload);
        }
        let op = ReadOp::new().omap_get(part_key(after), "n", limit as u64 + 1);
        let oid = names::upload(container.id, id);
        let mut read =
            container.policy.index.read_op(&oid, op).await.optional()?.ok_or(ObjectError::NoSuchUpload)?;
        let rows = read.omap().unwrap_or_default();
        let truncated = rows.more || rows.entries.len() > limit;
        let parts =
            rows.entries.iter().take(limit).map(|(_, v)| Part::decode(v)).collect::<Result<_, _>>()?;
        let place = record.meta.place;
        let full_checksum = record.meta.checksum.as_ref().is_some_and(|c| c.value == FULL_OBJECT);
        let algorithm = record.meta.checksum.map(|c| c.algorithm);
        let owner = record.meta.owner;
        Ok(PartPage { parts, truncated, algorithm, full_checksum, owner, place })
    }

    /// Lists the uploads in progress, by name and then by age.
    pub async fn list_uploads(
        &self,
        container: &Container,
        query: &UploadQuery,
    ) -> Result<UploadPage, ObjectError> {
        let (mut page, mut last) = (UploadPage::default(), None);
        if query.limit == 0 {
            return Ok(page);
        }
        let roll = Roll::new(&query.prefix, &query.delimiter, false);
        let (prefix, most) = (format!("u{}", query.prefix), query.limit + 1);
        let mut after = match query.id_marker {
            _ if query.key_marker.is_empty() => "u".to_owned(),
            _ if roll.as_ref().and_then(|r| r.up(&query.key_marker)) == Some(&query.key_marker[..]) => {
                behind(&query.key_marker)
            }
            Some(id) => entry::upload_key(&query.key_marker, id),
            None => format!("u{}\u{1}~", query.key_marker), // behind all ids of that very name
        };
        loop {
            let pages = try_join_all(container.shards().into_iter().map(|shard| {
                let (index, pool) = (&self.inner.index, &container.policy.index);
                uploads_of(index, pool, shard, &after, &prefix, most)
            }))
            .await?;
            let mut all: Vec<Upload> = pages.into_iter().flatten().collect();
            all.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
            // A shard may have more, but none before these.
            let more = all.len() >= most;
            all.truncate(most);
            for upload in all {
                after = entry::upload_key(&upload.name, upload.id);
                let rolled = roll.as_ref().and_then(|r| r.up(&upload.name)).map(str::to_owned);
                if let Some(prefix) = &rolled {
                    after = behind(prefix);
                    if page.prefixes.last() == Some(prefix) || *prefix == query.key_marker {
                        continue;
                    }
                }
                if page.uploads.len() + page.prefixes.len() == query.limit {
                    page.next = last;
                    return Ok(page);
                }
                match rolled {
                    Some(prefix) => {
                        last = Some((prefix.clone(), None));
                        page.prefixes.push(prefix);
                    }
                    None => {
                        last = Some((upload.name.clone(), Some(upload.id)));
                        page.uploads.push(upload);
                    }
                }
            }
            if !more {
                return Ok(page);
            }
        }
    }
}

/// The key behind those of all uploads whose names begin so.
fn behind(prefix: &str) -> String {
    format!("u{prefix}\u{10ffff}")
}

/// Uploads on record in what was one shard, after a row key: at least the first `most`.
async fn uploads_of(
    index: &Index,
    pool: &pool::Pool,
    shard: ShardId,
    after: &str,
    prefix: &str,
    most: usize,
) -> Result<Vec<Upload>, ObjectError> {
    let mut uploads = Vec::new();
    let mut todo = vec![(shard, after.to_owned())];
    while let Some((shard, after)) = todo.pop() {
        let more = |op: ReadOp| op.omap_get(after.clone(), prefix.to_owned(), most as u64);
        for (shard, mut read) in index.read_all(pool, shard, more).await? {
            let page = read.omap().unwrap_or_default();
            for (key, value) in &page.entries {
                if let Some((name, id)) = entry::parse_upload_key(&key[1..]) {
                    uploads.push(Upload::of_row(name, id, value));
                }
            }
            if let Some((last, _)) = page.entries.last().filter(|_| page.more && page.entries.len() < most) {
                todo.push((shard, last.clone()));
            }
        }
    }
    Ok(uploads)
}
