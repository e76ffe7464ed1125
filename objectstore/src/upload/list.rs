//! Listing what is under way: a container's uploads, and the parts of one.

use super::checksum::FULL_OBJECT;
use super::{CLOSING, OPEN, Upload, part_key};
use crate::container::Container;
use crate::index::Index;
use crate::index::entry::{self, ShardId};
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
    pub truncated: bool,
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
        let after = match query.id_marker {
            Some(id) => entry::upload_key(&query.key_marker, id),
            None if query.key_marker.is_empty() => "u".to_owned(),
            None => format!("u{}\u{1}~", query.key_marker), // behind all ids of that very name
        };
        let prefix = format!("u{}", query.prefix);
        let pages = try_join_all(container.shards().into_iter().map(|shard| {
            let (index, pool) = (&self.inner.index, &container.policy.index);
            uploads_of(index, pool, shard, &after, &prefix, query.limit + 1)
        }))
        .await?;
        let mut all: Vec<Upload> = pages.into_iter().flatten().collect();
        all.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        let mut page = UploadPage::default();
        for upload in all {
            let rest = upload.name.strip_prefix(query.prefix.as_str()).unwrap_or_default();
            let roll = rest.find(query.delimiter.as_str()).filter(|_| !query.delimiter.is_empty());
            let rolled =
                roll.map(|at| upload.name[..query.prefix.len() + at + query.delimiter.len()].to_owned());
            if rolled.as_ref().is_some_and(|r| page.prefixes.last() == Some(r)) {
                continue;
            }
            if page.uploads.len() + page.prefixes.len() == query.limit {
                page.truncated = true;
                break;
            }
            match rolled {
                Some(prefix) => page.prefixes.push(prefix),
                None => page.uploads.push(upload),
            }
        }
        Ok(page)
    }
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
