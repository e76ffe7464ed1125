//! Volumes as clients see them, by microversion.

use super::{Ask, Link};
use crate::model::{Attachment, Volume};
use crate::status::AttachStatus;
use crate::{Volumes, model};
use serde::Serialize;
use serde_json::{Value, json};
use state::Timestamp;
use std::borrow::Cow;

pub(super) fn time(t: Option<Timestamp>) -> Value {
    t.map_or(Value::Null, |t| t.micros_naive().into())
}

/// Only administrators see hosts.
fn attachment(ask: &Ask, a: &Attachment) -> Value {
    let host = ask.ctx.is_admin().then(|| a.host.clone()).flatten();
    json!({
        "id": a.volume_id,
        "attachment_id": a.id,
        "volume_id": a.volume_id,
        "server_id": a.server_id,
        "host_name": host,
        "device": a.device,
        "attached_at": time(a.attached_at),
    })
}

pub(super) fn summary(ask: &Ask, v: &Volume) -> Value {
    json!({"id": v.id, "name": v.name, "links": ask.site.pair(&format!("/volumes/{}", v.id))})
}

/// A volume, written without a tree of values between: lists are long. What the microversion or the caller does not
/// see is `None`, and absent.
#[derive(Serialize)]
pub(super) struct View<'a> {
    id: &'a str,
    status: &'static str,
    size: i64,
    availability_zone: &'a str,
    created_at: String,
    updated_at: Option<String>,
    name: Option<&'a str>,
    description: Option<&'a str>,
    volume_type: &'a str,
    snapshot_id: Option<&'a str>,
    source_volid: Option<&'a str>,
    metadata: Cow<'a, model::Metadata>,
    links: [Link; 2],
    user_id: &'a str,
    bootable: &'static str,
    encrypted: bool,
    replication_status: Option<&'static str>,
    consistencygroup_id: Option<&'a str>,
    multiattach: bool,
    attachments: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    migration_status: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_id: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_id: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_uuid: Option<()>,
    /// Attaching needs no lock on the host: librbd shares no target.
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_targets: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_name: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume_type_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumes_quota: Option<bool>,
    #[serde(rename = "os-vol-tenant-attr:tenant_id", skip_serializing_if = "Option::is_none")]
    project_id: Option<&'a str>,
    #[serde(rename = "os-vol-host-attr:host", skip_serializing_if = "Option::is_none")]
    host: Option<Option<String>>,
    #[serde(rename = "os-vol-mig-status-attr:migstat", skip_serializing_if = "Option::is_none")]
    migstat: Option<Option<&'a str>>,
    #[serde(rename = "os-vol-mig-status-attr:name_id", skip_serializing_if = "Option::is_none")]
    name_id: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume_image_metadata: Option<&'a model::Metadata>,
}

/// What create and update answer; the base of every other view.
pub(super) fn plain<'a>(ask: &Ask, v: &'a Volume) -> View<'a> {
    let mut metadata = Cow::Borrowed(&v.metadata);
    if !v.admin_metadata.is_empty() {
        metadata.to_mut().extend(v.admin_metadata.clone());
    }
    let admin = ask.ctx.is_admin();
    // An attachment is seen until it is gone: who waits for that may then use the volume.
    let seen = |a: &&Attachment| matches!(a.status, AttachStatus::Attached | AttachStatus::Detaching);
    let attached = v.attachments.iter().filter(seen);
    View {
        id: &v.id,
        status: v.status.as_str(),
        size: v.size_gib,
        availability_zone: &v.zone,
        created_at: v.created_at.micros_naive(),
        updated_at: v.updated_at.map(Timestamp::micros_naive),
        name: v.name.as_deref(),
        description: v.description.as_deref(),
        volume_type: &v.type_name,
        snapshot_id: v.snapshot_id.as_deref(),
        source_volid: v.source_volid.as_deref(),
        metadata,
        links: ask.site.links_of(&format!("/volumes/{}", v.id)),
        user_id: &v.user_id,
        bootable: if v.bootable { "true" } else { "false" },
        encrypted: v.encryption_key_id.is_some(),
        replication_status: v.replication_status.map(|s| s.as_str()),
        consistencygroup_id: v.group_id.as_deref().filter(|_| v.in_consistency_group),
        multiattach: v.multiattach,
        attachments: attached.map(|a| attachment(ask, a)).collect(),
        migration_status: admin.then_some(v.migration_status.as_deref()),
        group_id: ask.at(13).then_some(v.group_id.as_deref()),
        provider_id: (ask.at(21) && admin).then_some(()),
        service_uuid: ask.at(48).then_some(()),
        shared_targets: ask.at(48).then_some(false),
        cluster_name: (ask.at(61) && admin).then_some(()),
        volume_type_id: ask.at(63).then_some(v.type_id.as_str()),
        consumes_quota: ask.at(65).then_some(true),
        project_id: None,
        host: None,
        migstat: None,
        name_id: None,
        encryption_key_id: None,
        volume_image_metadata: None,
    }
}

/// What show and the detailed list answer.
pub(super) fn detail<'a>(volumes: &Volumes, ask: &Ask, v: &'a Volume) -> View<'a> {
    let admin = ask.ctx.is_admin();
    View {
        project_id: Some(&v.project_id),
        host: admin.then(|| volumes.host_of(v)),
        migstat: admin.then_some(v.migration_status.as_deref()),
        name_id: admin.then_some(()),
        encryption_key_id: v.encryption_key_id.as_deref().filter(|_| ask.at(64)),
        volume_image_metadata: Some(&v.image_metadata).filter(|m| !m.is_empty()),
        ..plain(ask, v)
    }
}

/// What the brief list shows of a snapshot.
pub(super) fn snapshot_summary(s: &model::Snapshot) -> Value {
    json!({
        "id": s.id,
        "name": s.name,
        "description": s.description,
        "created_at": s.created_at.micros_naive(),
        "updated_at": time(s.updated_at),
        "volume_id": s.volume_id,
        "status": s.status.as_str(),
        "size": s.size_gib,
        "metadata": s.metadata,
    })
}

/// What create and update answer.
pub(super) fn snapshot(ask: &Ask, s: &model::Snapshot) -> Value {
    let mut view = snapshot_summary(s);
    if ask.at(14) {
        view["group_snapshot_id"] = json!(s.group_snapshot_id);
    }
    if ask.at(41) {
        view["user_id"] = json!(s.user_id);
    }
    if ask.at(65) {
        view["consumes_quota"] = json!(true);
    }
    view
}

/// What show and the detailed list answer.
pub(super) fn snapshot_detail(ask: &Ask, s: &model::Snapshot) -> Value {
    let mut view = snapshot(ask, s);
    view["os-extended-snapshot-attributes:progress"] = json!(s.progress);
    view["os-extended-snapshot-attributes:project_id"] = json!(s.project_id);
    view
}
