//! Opening an object's content as a reader sees it: large objects as the sum of their segments.

use super::content::Content;
use crate::container::Container;
use crate::meta::{Kind, ObjectMeta};
use crate::object::Object;
use crate::{Access, Need, ObjectError, ObjectStore};
use percent_encoding::percent_decode_str;
use std::sync::Arc;

/// The header that makes an object a dynamic large one.
pub(crate) const DLO: &str = "x-object-manifest";

/// Content, and what is to be said of it.
pub(crate) struct Opened {
    pub(crate) meta: ObjectMeta,
    pub(crate) content: Content,
    pub(crate) size: u64,
    pub(crate) etag: String,
    /// The content is segments: Swift quotes such ETags.
    pub(crate) large: bool,
}

/// `container/prefix` of a dynamic large object.
pub(crate) fn dlo_target(value: &str) -> Option<(String, String)> {
    let (container, prefix) = value.trim_start_matches('/').split_once('/')?;
    let decode = |s: &str| String::from_utf8(percent_decode_str(s).collect()).ok();
    let (container, prefix) = (decode(container)?, decode(prefix)?);
    (!container.is_empty() && !prefix.is_empty()).then_some((container, prefix))
}

/// Opens what a reader gets. With `raw`, a manifest is what is stored.
pub(crate) async fn open(
    store: &ObjectStore,
    access: &Access,
    container: &Arc<Container>,
    object: Object,
    raw: bool,
) -> Result<Opened, ObjectError> {
    let meta = object.meta.clone();
    if !raw && meta.kind == Kind::Slo {
        let assembly = store.assemble_static(access, object).await?;
        let (size, etag) = (assembly.size, assembly.etag.clone());
        return Ok(Opened { meta, content: Content::Large(assembly), size, etag, large: true });
    }
    if !raw && let Some((source, prefix)) = meta.header(DLO).and_then(dlo_target) {
        let assembly = dynamic(store, access, &container.project_id, &source, &prefix).await?;
        let (size, etag) = (assembly.size, assembly.etag.clone());
        return Ok(Opened { meta, content: Content::Large(assembly), size, etag, large: true });
    }
    let (size, etag) = (meta.size, meta.etag.clone());
    let content = Content::Object(store.source(object).await?);
    Ok(Opened { meta, content, size, etag, large: false })
}

async fn dynamic(
    store: &ObjectStore,
    access: &Access,
    project: &str,
    container: &str,
    prefix: &str,
) -> Result<crate::large::Assembly, ObjectError> {
    let source = store.container(access, project, container, Need::Read).await?;
    store.assemble_dynamic(access, &source, prefix).await
}
