//! Cinder's tables as this cloud's volumes, snapshots and types.

use super::dump::{Dump, Row, flag, text};
use super::{Backends, time};
use blockstore::{
    AttachMode, AttachStatus, Attachment, Metadata, Snapshot, SnapshotStatus, Volume, VolumeStatus,
    VolumeType,
};
use std::collections::HashMap;

pub(super) const TABLES: [&str; 11] = [
    "volumes",
    "volume_types",
    "volume_type_extra_specs",
    "volume_type_projects",
    "snapshots",
    "volume_metadata",
    "volume_admin_metadata",
    "volume_glance_metadata",
    "snapshot_metadata",
    "volume_attachment",
    "backups",
];

/// The pairs of each owner.
fn pairs(dump: &Dump, table: &str, owner: &str) -> HashMap<String, Metadata> {
    let mut all: HashMap<String, Metadata> = HashMap::new();
    for row in dump.live(table) {
        if let (Some(id), Some(key)) = (text(row, owner), text(row, "key")) {
            all.entry(id).or_default().insert(key, text(row, "value").unwrap_or_default());
        }
    }
    all
}

fn must(row: &Row, column: &str) -> Result<String, String> {
    text(row, column).filter(|v| !v.is_empty()).ok_or_else(|| format!("it has no {column}"))
}

fn number(row: &Row, column: &str) -> Result<i64, String> {
    must(row, column)?.parse().map_err(|_| format!("its {column} is no number"))
}

/// Types with the projects that may use them. A backend's name becomes its tier's.
pub(super) fn types(dump: &Dump, backends: &Backends) -> Vec<(VolumeType, Vec<String>)> {
    let mut specs = pairs(dump, "volume_type_extra_specs", "volume_type_id");
    let of = |id: &str| {
        let mine = |r: &&Row| text(r, "volume_type_id").as_deref() == Some(id);
        dump.live("volume_type_projects").filter(mine).filter_map(|r| text(r, "project_id")).collect()
    };
    dump.live("volume_types")
        .filter_map(|row| {
            let id = text(row, "id")?;
            let mut extra_specs = specs.remove(&id).unwrap_or_default();
            if let Some(backend) = extra_specs.get_mut("volume_backend_name")
                && let Some(tier) = backends.by_name(backend)
            {
                *backend = tier;
            }
            let kind = VolumeType {
                name: text(row, "name").unwrap_or_else(|| id.clone()),
                description: text(row, "description"),
                is_public: flag(row, "is_public"),
                extra_specs,
                qos_specs_id: None,
                created_at: time(row, "created_at"),
                updated_at: None,
                id: id.clone(),
            };
            Some((kind, of(&id)))
        })
        .collect()
}

/// What a row of a table is, or why it cannot be taken over.
pub(super) type Found<T> = (String, Result<T, String>);

/// Volumes with their attachments. `types` are the ids and names that theirs have here.
pub(super) fn volumes(
    dump: &Dump,
    backends: &Backends,
    types: &HashMap<String, (String, String)>,
) -> Vec<Found<Volume>> {
    let mut metadata = pairs(dump, "volume_metadata", "volume_id");
    let mut admin = pairs(dump, "volume_admin_metadata", "volume_id");
    let mut image = pairs(dump, "volume_glance_metadata", "volume_id");
    let mut attachments: HashMap<String, Vec<&Row>> = HashMap::new();
    for row in dump.live("volume_attachment") {
        if let Some(id) = text(row, "volume_id") {
            attachments.entry(id).or_default().push(row);
        }
    }
    let one = |row: &Row| {
        let id = text(row, "id").unwrap_or_default();
        let mut maps = [&mut metadata, &mut admin, &mut image].map(|m| m.remove(&id).unwrap_or_default());
        let held = attachments.remove(&id).unwrap_or_default();
        (id, volume(row, backends, types, &mut maps, &held))
    };
    dump.live("volumes").map(one).collect()
}

fn volume(
    row: &Row,
    backends: &Backends,
    types: &HashMap<String, (String, String)>,
    [metadata, admin_metadata, image_metadata]: &mut [Metadata; 3],
    held: &[&Row],
) -> Result<Volume, String> {
    let id = must(row, "id")?;
    if let Some(name) = text(row, "_name_id").filter(|n| *n != id) {
        return Err(format!(
            "after a migration its image is called volume-{name}: detach it, rename it to volume-{id} and clear _name_id"
        ));
    }
    if text(row, "encryption_key_id").is_some() {
        return Err("it is encrypted, and its key is in another key manager".into());
    }
    let host = must(row, "host")?;
    let tier =
        backends.by_host(&host).ok_or_else(|| format!("its host {host} is no tier here: give --backend"))?;
    let status = match text(row, "status").unwrap_or_default().as_str() {
        "available" => VolumeStatus::Available,
        "in-use" => VolumeStatus::InUse,
        "error" | "error_deleting" | "error_extending" | "error_restoring" => VolumeStatus::Error,
        other => return Err(format!("it is {other}: wait for that to end, or reset its state")),
    };
    let wanted = text(row, "volume_type_id").ok_or("it has no type")?;
    let (type_id, type_name) = types.get(&wanted).cloned().ok_or("its type is not taken over")?;
    let project_id = must(row, "project_id")?;
    let attachments = held.iter().filter_map(|a| attachment(a, &project_id)).collect::<Vec<_>>();
    if (status == VolumeStatus::InUse) == attachments.is_empty() {
        return Err(format!("it is {status} and has {} attachments", attachments.len()));
    }
    Ok(Volume {
        project_id,
        user_id: text(row, "user_id").unwrap_or_default(),
        size_gib: number(row, "size")?,
        growth: 0,
        status,
        previous_status: None,
        name: text(row, "display_name"),
        description: text(row, "display_description"),
        type_id,
        type_name,
        tier,
        zone: text(row, "availability_zone").unwrap_or_else(|| "nova".into()),
        bootable: flag(row, "bootable"),
        multiattach: flag(row, "multiattach"),
        metadata: std::mem::take(metadata),
        admin_metadata: std::mem::take(admin_metadata),
        image_metadata: std::mem::take(image_metadata),
        snapshot_id: text(row, "snapshot_id"),
        source_volid: text(row, "source_volid"),
        group_id: None,
        in_consistency_group: false,
        encryption_key_id: None,
        migration_status: None,
        replication_status: None,
        home_tier: None,
        created_at: time(row, "created_at"),
        updated_at: None,
        attachments,
        id,
    })
}

/// What holds a volume now; what has ended, or never came to be, does not.
fn attachment(row: &Row, project_id: &str) -> Option<Attachment> {
    if text(row, "attach_status").as_deref() != Some("attached") {
        return None;
    }
    let connector = text(row, "connector").and_then(|c| serde_json::from_str(&c).ok()).unwrap_or_default();
    Some(Attachment {
        id: text(row, "id")?,
        volume_id: text(row, "volume_id")?,
        project_id: project_id.to_owned(),
        server_id: text(row, "instance_uuid"),
        host: text(row, "attached_host"),
        device: text(row, "mountpoint"),
        mode: if text(row, "attach_mode").as_deref() == Some("ro") { AttachMode::Ro } else { AttachMode::Rw },
        status: AttachStatus::Attached,
        connector,
        attached_at: Some(time(row, "attach_time")),
        created_at: time(row, "created_at"),
    })
}

/// Snapshots of volumes that are this cloud's then: `volumes` has their tiers and types.
pub(super) fn snapshots(
    dump: &Dump,
    volumes: &HashMap<String, (String, String)>,
) -> Vec<Found<(Snapshot, String)>> {
    let mut metadata = pairs(dump, "snapshot_metadata", "snapshot_id");
    let mut one = |row: &Row| -> Result<(Snapshot, String), String> {
        let id = must(row, "id")?;
        let volume_id = must(row, "volume_id")?;
        let (tier, type_id) = volumes.get(&volume_id).cloned().ok_or("its volume is not taken over")?;
        let status = match text(row, "status").unwrap_or_default().as_str() {
            "available" => SnapshotStatus::Available,
            other => return Err(format!("it is {other}")),
        };
        let snapshot = Snapshot {
            volume_id,
            project_id: must(row, "project_id")?,
            user_id: text(row, "user_id").unwrap_or_default(),
            size_gib: number(row, "volume_size")?,
            status,
            progress: "100%".into(),
            name: text(row, "display_name"),
            description: text(row, "display_description"),
            type_id,
            metadata: metadata.remove(&id).unwrap_or_default(),
            group_snapshot_id: None,
            created_at: time(row, "created_at"),
            updated_at: None,
            id,
        };
        Ok((snapshot, tier))
    };
    dump.live("snapshots").map(|row| (text(row, "id").unwrap_or_default(), one(row))).collect()
}

/// Backups, and why they stay: they are in a format of Cinder's own, which nothing here reads.
pub(super) fn backups(dump: &Dump) -> Vec<(String, String)> {
    let why = |row: &Row| {
        let service = text(row, "service").unwrap_or_default();
        format!("it is of {service}, whose format is not read here: keep that Cinder, or back up again")
    };
    dump.live("backups").map(|row| (text(row, "id").unwrap_or_default(), why(row))).collect()
}
