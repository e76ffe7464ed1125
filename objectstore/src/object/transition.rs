//! Moving an object's content to another storage class. The object stays what it is: its ETag, its time, its versions.
//!
//! The bytes are copied as they are stored, sealed ones too, under tags of their own, which an intent keeps on record;
//! then the head, or the object of a version behind it, is replaced by one that names them, if it is still what was
//! copied. Readers that have begun find the old tails until the sweep's grace is over.

use crate::container::Container;
use crate::index::entry::{self, Entry};
use crate::index::{Change, VersionChange};
use crate::meta::{Kind, Layout, META_XATTR, ObjectMeta, Part};
use crate::names::{self, Tag};
use crate::object::Home;
use crate::object::{Body, Object};
use crate::policy::StoragePolicy;
use crate::range::Span;
use crate::sweep::Debris;
use crate::version::VersionId;
use crate::{ObjectError, ObjectStore, cause, fail};
use bytes::Bytes;
use pool::WriteOp;
use std::sync::Arc;

/// Content that has been copied: what the metadata say of it, what the head holds, and what removes it again.
struct Copied {
    layout: Layout,
    data: Bytes,
    debris: Option<Debris>,
}

/// A version whose content has been copied: where its metadata are, what they were there, and what they become.
struct Moving {
    oid: String,
    version: u64,
    before: ObjectMeta,
    after: ObjectMeta,
    data: Bytes,
}

impl ObjectStore {
    /// Moves the content of one version to `to`; of the null version, which may have been replaced, the one that was
    /// written in `order`. `PreconditionFailed`, `NoSuchObject` or `NoSuchVersion` where it was
    /// changed or removed meanwhile.
    pub(crate) async fn move_version(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: VersionId,
        order: Tag,
        to: &Arc<StoragePolicy>,
    ) -> Result<(), ObjectError> {
        super::check_name(name)?;
        self.mark_writing().await?;
        let object = self.open_version(container, name, id, self.first_read()).await?;
        let (oid, version, before) = (object.oid.clone(), object.version, object.meta.clone());
        if before.order() != order {
            return Err(ObjectError::PreconditionFailed);
        }
        let place = to.place_from(&container.policy);
        if before.place == place || before.is_marker() {
            return Ok(());
        }
        let copied = match before.kind {
            Kind::Multipart => self.copy_parts(container, name, object, to).await?,
            Kind::Plain | Kind::Slo | Kind::Marker => self.copy_body(container, name, object, to).await?,
        };
        let after = ObjectMeta { layout: copied.layout, place, ..before.clone() };
        let moving = Moving { oid, version, before, after, data: copied.data };
        fail("object.move:head:before").await?;
        let (this, container, name) = (self.clone(), container.clone(), name.to_owned());
        // A task of its own, as every change of a head that the index must hear of.
        cause::spawn(async move { this.finish_move(&container, &name, moving).await })
            .await
            .map_err(|_| ObjectError::Damaged("a move was cut off"))??;
        if let Some(debris) = copied.debris {
            debris.keep();
        }
        Ok(())
    }

    async fn finish_move(
        &self,
        container: &Arc<Container>,
        name: &str,
        moving: Moving,
    ) -> Result<(), ObjectError> {
        let Moving { oid, version, before, after, data } = moving;
        let container = &self.refreshed(container).await?;
        let _one = self.inner.names.lock(container, name).await;
        let op = WriteOp::new().assert_version(version).write_full(data);
        let op = op.set_xattr(META_XATTR, Bytes::from(after.encode()));
        let written = match container.policy.data.write_op(&oid, op).await {
            Ok(outcome) => outcome.version,
            Err(e) if e.is_cancelled() || e.is_not_found() => return Err(ObjectError::PreconditionFailed),
            Err(e) => {
                self.repair_later(container, name);
                return Err(e.into());
            }
        };
        fail("object.move:index:before").await?;
        let change = match container.info.versioning.is_set() {
            false => Change::Put { name: name.to_owned(), entry: Entry::of(&after, written), upload: None },
            true => {
                let mut change = VersionChange { name: name.to_owned(), ..VersionChange::default() };
                if oid == names::head(container.id, name) {
                    (change.written, change.head) = (written, Some(Entry::of(&after, written)));
                } else {
                    let order = Some(before.order());
                    let of = |meta, version| Entry { order, ..Entry::of(meta, version) };
                    change.moved = Some((of(&after, written), of(&before, version)));
                }
                Change::Versions(Box::new(change))
            }
        };
        self.commit(container, change, name).await.map(drop)
    }

    async fn copy_body(
        &self,
        container: &Arc<Container>,
        name: &str,
        object: Object,
        to: &Arc<StoragePolicy>,
    ) -> Result<Copied, ObjectError> {
        let (len, etag, sealed) =
            (object.meta.stored(), object.meta.etag.clone(), object.meta.seal.is_some());
        let stream = self.stored_source(object).await?.stream(Span { start: 0, end: len });
        let mut body = Body::new(stream, Some(len));
        body.policy = Some(to.clone());
        // What arrived damaged is not to be damaged for good.
        body.expect.md5 = (!sealed).then_some(etag);
        let received = self.receive(container, body, u64::MAX, Home::Name(name)).await?;
        let layout = match received.tag {
            None => Layout { head: received.stored, tag: None, stripe: 0 },
            tag => Layout { head: 0, tag, stripe: self.inner.config.stripe_bytes },
        };
        Ok(Copied { layout, data: received.data, debris: received.debris })
    }

    /// The parts of a multipart object stay parts, of an upload of their own.
    async fn copy_parts(
        &self,
        container: &Arc<Container>,
        name: &str,
        object: Object,
        to: &Arc<StoragePolicy>,
    ) -> Result<Copied, ObjectError> {
        let id = Tag::new();
        let mut parts = self.parts(&object).await?;
        let (shard, intent) = (container.shard_of(name), entry::intent(name, None));
        let row = (entry::intent_key(id), Bytes::from(intent.clone()));
        let change = Change::Rows { set: vec![row], remove: Vec::new(), adds: true };
        self.inner.index.commit(&container.policy.index, shard, change).await?;
        let debris = self.inner.sweeper.debris(container, shard, id, &intent);
        self.record_moved_upload(container, name, id, &object.meta).await?;
        for part in &mut parts {
            let source = self.part_source(container, object.meta.place, part)?;
            let len = part.stored();
            let mut body = Body::new(source.stream(Span { start: 0, end: len }), Some(len));
            body.policy = Some(to.clone());
            body.expect.md5 = part.salt.is_empty().then(|| part.etag.clone());
            let received = self.receive(container, body, u64::MAX, Home::Upload(id)).await?;
            part.tag = received.tag.ok_or(ObjectError::Damaged("a part without a tag"))?;
            part.stripe = self.inner.config.stripe_bytes;
        }
        let data = Bytes::from(Part::encode_all(&parts));
        let layout = Layout { head: data.len() as u64, tag: Some(id), stripe: 0 };
        Ok(Copied { layout, data, debris: Some(debris) })
    }
}
