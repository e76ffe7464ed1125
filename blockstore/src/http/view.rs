//! Volumes as clients see them, by microversion.

use super::Ask;
use crate::model::{Attachment, Volume};
use crate::status::AttachStatus;
use crate::{Volumes, model};
use serde_json::{Map, Value, json};
use state::Timestamp;

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

/// What create and update answer; the base of every other view.
pub(super) fn plain(ask: &Ask, v: &Volume) -> Map<String, Value> {
    let mut metadata = v.metadata.clone();
    metadata.extend(v.admin_metadata.clone());
    // An attachment is seen until it is gone: who waits for that may then use the volume.
    let seen = |a: &&Attachment| matches!(a.status, AttachStatus::Attached | AttachStatus::Detaching);
    let attached = v.attachments.iter().filter(seen);
    let view = json!({
        "id": v.id,
        "status": v.status.as_str(),
        "size": v.size_gib,
        "availability_zone": v.zone,
        "created_at": v.created_at.micros_naive(),
        "updated_at": time(v.updated_at),
        "name": v.name,
        "description": v.description,
        "volume_type": v.type_name,
        "snapshot_id": v.snapshot_id,
        "source_volid": v.source_volid,
        "metadata": metadata,
        "links": ask.site.pair(&format!("/volumes/{}", v.id)),
        "user_id": v.user_id,
        "bootable": if v.bootable { "true" } else { "false" },
        "encrypted": v.encryption_key_id.is_some(),
        "replication_status": v.replication_status.map(|s| s.as_str()),
        "consistencygroup_id": null,
        "multiattach": v.multiattach,
        "attachments": attached.map(|a| attachment(ask, a)).collect::<Vec<_>>(),
    });
    let mut view = match view {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let admin = ask.ctx.is_admin();
    let mut put = |yes: bool, key: &str, value: Value| {
        if yes {
            view.insert(key.to_owned(), value);
        }
    };
    put(admin, "migration_status", json!(v.migration_status));
    put(ask.at(13), "group_id", json!(v.group_id));
    put(ask.at(21) && admin, "provider_id", Value::Null);
    put(ask.at(48), "service_uuid", Value::Null);
    // Attaching needs no lock on the host: librbd shares no target.
    put(ask.at(48), "shared_targets", json!(false));
    put(ask.at(61) && admin, "cluster_name", Value::Null);
    put(ask.at(63), "volume_type_id", json!(v.type_id));
    put(ask.at(65), "consumes_quota", json!(true));
    view
}

/// What show and the detailed list answer.
pub(super) fn detail(volumes: &Volumes, ask: &Ask, v: &Volume) -> Value {
    let mut view = plain(ask, v);
    view.insert("os-vol-tenant-attr:tenant_id".into(), json!(v.project_id));
    if ask.ctx.is_admin() {
        view.insert("os-vol-host-attr:host".into(), json!(volumes.host_of(v)));
        view.insert("os-vol-mig-status-attr:migstat".into(), json!(v.migration_status));
        view.insert("os-vol-mig-status-attr:name_id".into(), Value::Null);
    }
    if let Some(key) = v.encryption_key_id.as_ref().filter(|_| ask.at(64)) {
        view.insert("encryption_key_id".into(), json!(key));
    }
    if !v.image_metadata.is_empty() {
        view.insert("volume_image_metadata".into(), json!(v.image_metadata));
    }
    Value::Object(view)
}

pub(super) fn snapshot(ask: &Ask, s: &model::Snapshot, detailed: bool) -> Value {
    let mut view = json!({
        "id": s.id,
        "name": s.name,
        "description": s.description,
        "created_at": s.created_at.micros_naive(),
        "updated_at": time(s.updated_at),
        "volume_id": s.volume_id,
        "status": s.status.as_str(),
        "size": s.size_gib,
        "metadata": s.metadata,
    });
    if detailed {
        view["os-extended-snapshot-attributes:progress"] = json!(s.progress);
        view["os-extended-snapshot-attributes:project_id"] = json!(s.project_id);
    }
    if ask.at(14) && detailed {
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
