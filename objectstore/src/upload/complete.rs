//! Completing an upload: its parts become an object.

use super::checksum::{check_part, etag_of};
use super::{ABORTED, CLOSING, DONE, OPEN, Record};
use crate::container::Container;
use crate::meta::{Checksum, Kind, Layout, Modified, ObjectMeta, Part};
use crate::names::{self, Tag};
use crate::object::{Condition, Written};
use crate::policy::PolicyId;
use crate::{ObjectError, ObjectStore, cause, fail};
use bytes::Bytes;
use pool::{Cmp, WriteOp};
use state::Timestamp;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// S3's limit of an object, in bytes.
const MOST_BYTES: u64 = 5 << 40;

/// A part as the client names it when it completes an upload.
#[derive(Debug, Clone)]
pub struct NamedPart {
    pub number: u32,
    /// Without quotes.
    pub etag: String,
    pub checksum: Option<Checksum>,
}

/// What a client says, when it completes an upload, that the object will be.
#[derive(Debug, Clone, Default)]
pub struct Whole {
    pub size: Option<u64>,
    pub checksum: Option<Checksum>,
    /// Its checksum is over its content, not over the sums of its parts.
    pub full: Option<bool>,
}

impl ObjectStore {
    /// Makes an object of an upload's parts.
    pub async fn complete_upload(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: Tag,
        named: Vec<NamedPart>,
        condition: Condition,
    ) -> Result<Written, ObjectError> {
        self.complete_upload_as(container, name, id, named, condition, Whole::default()).await
    }

    /// As `complete_upload`, if the object will be what the client says.
    pub async fn complete_upload_as(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: Tag,
        named: Vec<NamedPart>,
        condition: Condition,
        whole: Whole,
    ) -> Result<Written, ObjectError> {
        let record = self.upload_record(container, name, id).await?;
        if record.state == DONE {
            return self.completed_before(container, name, id, &named).await;
        }
        if record.state == ABORTED {
            return Err(ObjectError::NoSuchUpload);
        }
        let oid = names::upload(container.id, id);
        let rows = container.policy.index.omap_get_all(&oid, "n").await?;
        let mut there: BTreeMap<u32, Part> = BTreeMap::new();
        for (_, value) in rows {
            let part = Part::decode(&value)?;
            there.insert(part.number, part);
        }
        let parts = self.choose_parts(there, &named, record.meta.checksum.as_ref())?;
        whole.check(&parts, record.checksum(&parts).as_ref(), record.meta.checksum.as_ref())?;
        let (this, container, name) = (self.clone(), container.clone(), name.to_owned());
        cause::spawn(async move { this.finish_upload(&container, &name, id, record, parts, condition).await })
            .await
            .map_err(|_| ObjectError::Damaged("a completion was cut off"))?
    }

    /// The client did not hear of its completion and asks again: for the same parts, or for what is no upload any more.
    async fn completed_before(
        &self,
        container: &Container,
        name: &str,
        id: Tag,
        named: &[NamedPart],
    ) -> Result<Written, ObjectError> {
        let made = match self.stat_object(container, name).await {
            Ok((meta, _)) if meta.layout.tag == Some(id) => Some(meta),
            Ok(_) | Err(ObjectError::NoSuchObject) => {
                self.version_of_tag(container, name, id).await?.map(|found| found.meta)
            }
            Err(e) => return Err(e),
        };
        let etag = etag_of(named.iter().map(|p| p.etag.as_str()));
        let made = made.filter(|meta| etag.is_ok_and(|etag| etag == meta.etag));
        made.map(|meta| Written::of(container, meta)).ok_or(ObjectError::NoSuchUpload)
    }

    /// The parts that a client names. `wanted` is the checksum that it named when it began.
    fn choose_parts(
        &self,
        mut there: BTreeMap<u32, Part>,
        named: &[NamedPart],
        wanted: Option<&Checksum>,
    ) -> Result<Vec<Part>, ObjectError> {
        if named.windows(2).any(|w| w[0].number >= w[1].number) {
            return Err(ObjectError::PartOrder);
        }
        let mut parts = Vec::with_capacity(named.len());
        for (i, want) in named.iter().enumerate() {
            let part = there.remove(&want.number).ok_or(ObjectError::InvalidPart(want.number))?;
            if !part.etag.eq_ignore_ascii_case(&want.etag) {
                return Err(ObjectError::InvalidPart(want.number));
            }
            check_part(&part, want.checksum.as_ref(), wanted)?;
            if i + 1 < named.len() && part.size < self.inner.config.limits.min_part_size {
                return Err(ObjectError::PartTooSmall(want.number));
            }
            parts.push(part);
        }
        Ok(parts)
    }

    async fn finish_upload(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: Tag,
        record: Record,
        parts: Vec<Part>,
        condition: Condition,
    ) -> Result<Written, ObjectError> {
        let size: u64 = parts.iter().map(|p| p.size).sum();
        if size > MOST_BYTES {
            return Err(ObjectError::TooLarge(MOST_BYTES));
        }
        let index = &container.policy.index;
        let oid = names::upload(container.id, id);
        let step = |from: &str, to: &'static str| {
            WriteOp::new()
                .assert_exists()
                .omap_cmp("s", Cmp::Eq, from.to_owned())
                .omap_set([("s".to_owned(), Bytes::from_static(to.as_bytes()))])
        };
        match index.write_op(&oid, step(&record.state, CLOSING)).await {
            Err(e) if e.is_cancelled() || e.is_not_found() => return Err(ObjectError::NoSuchUpload),
            done => done?,
        };
        fail("object.complete:head:before").await?;
        let data = Bytes::from(Part::encode_all(&parts));
        let checksum = record.checksum(&parts);
        let meta = ObjectMeta {
            size,
            etag: etag_of(parts.iter().map(|p| p.etag.as_str()))?,
            modified: Modified(Timestamp::now()),
            kind: Kind::Multipart,
            layout: Layout { head: data.len() as u64, tag: Some(id), stripe: 0 },
            checksum,
            parts: u32::try_from(parts.len()).unwrap_or(u32::MAX),
            ..record.meta
        };
        let container = &self.refreshed(container).await?;
        if container.info.history.is_some() {
            let _one = self.inner.histories.lock(container, name).await;
            self.keep_history(container, name).await?;
        }
        let meta = match self.write_head(container, name, meta, data, condition, Some(id)).await {
            Ok(meta) => meta,
            Err(e) => {
                if matches!(e, ObjectError::PreconditionFailed | ObjectError::NoSpace(_)) {
                    index.write_op(&oid, step(CLOSING, OPEN)).await?;
                }
                return Err(e);
            }
        };
        fail("object.complete:done:before").await?;
        index.write_op(&oid, step(CLOSING, DONE)).await?;
        self.drop_unused_parts(container, id, &parts, meta.place).await?;
        Ok(Written::of(container, meta))
    }

    /// Removes the parts that the object does not use: replaced, left out, or cut short.
    async fn drop_unused_parts(
        &self,
        container: &Arc<Container>,
        id: Tag,
        used: &[Part],
        place: Option<PolicyId>,
    ) -> Result<(), ObjectError> {
        let used: HashSet<Tag> = used.iter().map(|p| p.tag).collect();
        let oid = names::upload(container.id, id);
        let rows = container.policy.index.omap_get_all(&oid, "p").await?;
        let unused: Vec<Tag> =
            rows.iter().filter_map(|(k, _)| Tag::parse(&k[1..])).filter(|t| !used.contains(t)).collect();
        if unused.is_empty() {
            return Ok(());
        }
        let (this, container) = (self.clone(), container.clone());
        // In the background: should it not come to an end, the rows are still there when the object goes.
        tokio::spawn(async move {
            for tag in unused {
                if let Err(e) = this.remove_part(&container, &oid, tag, place).await {
                    tracing::warn!(error = ?e, "the tails of an unused part stay until the object goes");
                }
            }
        });
        Ok(())
    }
}
