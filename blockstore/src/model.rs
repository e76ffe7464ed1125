//! The nouns as the rest of the program sees them: what rows hold, typed.

use crate::status::{AttachStatus, ReplicationStatus, SnapshotStatus, VolumeStatus};
use serde::{Deserialize, Serialize};
use state::Timestamp;
use std::collections::BTreeMap;

/// Free words on a resource. Sorted, so that equal maps have equal JSON.
pub type Metadata = BTreeMap<String, String>;

/// A volume.
#[derive(Debug, Clone)]
pub struct Volume {
    pub id: String,
    pub project_id: String,
    pub user_id: String,
    pub size_gib: i64,
    /// GiB that a running extend adds.
    pub growth: i64,
    pub status: VolumeStatus,
    /// Where an extend, upload or retype came from.
    pub previous_status: Option<VolumeStatus>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub type_id: String,
    pub type_name: String,
    /// Where its bytes are.
    pub tier: String,
    pub zone: String,
    pub bootable: bool,
    pub multiattach: bool,
    pub metadata: Metadata,
    /// `readonly`, `attached_mode`: shown among the metadata, set by actions only.
    pub admin_metadata: Metadata,
    /// What is known of the image it was made from (`image_id`, `min_disk`, `os_type` …); empty without one.
    pub image_metadata: Metadata,
    pub snapshot_id: Option<String>,
    pub source_volid: Option<String>,
    /// The group it belongs to.
    pub group_id: Option<String>,
    /// Whether that is a consistency group, which old clients see under this name.
    pub in_consistency_group: bool,
    /// The passphrase's id, where the volume is encrypted.
    pub encryption_key_id: Option<String>,
    pub migration_status: Option<String>,
    /// `None` where its tier has no replica.
    pub replication_status: Option<ReplicationStatus>,
    /// The tier it belongs to, while another one, that one's replica, serves it.
    pub home_tier: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
    /// Unfinished ones too, oldest first.
    pub attachments: Vec<Attachment>,
}

impl Volume {
    /// The name of its RBD image.
    pub fn image_name(&self) -> String {
        image_name(&self.id)
    }

    pub fn readonly(&self) -> bool {
        self.admin_metadata.get("readonly").is_some_and(|v| v == "True")
    }
}

/// `volume-<id>`, as Cinder names it.
pub(crate) fn image_name(volume_id: &str) -> String {
    format!("volume-{volume_id}")
}

/// `snapshot-<id>`, as Cinder names it.
pub(crate) fn snap_name(snapshot_id: &str) -> String {
    format!("snapshot-{snapshot_id}")
}

/// A snapshot.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub id: String,
    pub volume_id: String,
    pub project_id: String,
    pub user_id: String,
    pub size_gib: i64,
    pub status: SnapshotStatus,
    /// `80%`.
    pub progress: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub type_id: String,
    pub metadata: Metadata,
    /// The snapshot of a whole group that it is a part of.
    pub group_snapshot_id: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
}

/// A server's hold on a volume.
#[derive(Debug, Clone)]
pub struct Attachment {
    pub id: String,
    pub volume_id: String,
    pub project_id: String,
    pub server_id: Option<String>,
    pub host: Option<String>,
    /// `/dev/vdb`, once known.
    pub device: Option<String>,
    pub mode: AttachMode,
    pub status: AttachStatus,
    /// What the host said of itself; empty while only reserved.
    pub connector: serde_json::Map<String, serde_json::Value>,
    pub attached_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

/// Whether a server may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    Rw,
    Ro,
}

impl AttachMode {
    pub fn as_str(self) -> &'static str {
        match self {
            AttachMode::Rw => "rw",
            AttachMode::Ro => "ro",
        }
    }
}

/// A volume type.
#[derive(Debug, Clone)]
pub struct VolumeType {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub is_public: bool,
    pub extra_specs: Metadata,
    pub qos_specs_id: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Option<Timestamp>,
}

impl VolumeType {
    /// Whether its volumes may be attached to several servers (`multiattach` is `<is> True`).
    pub fn multiattach(&self) -> bool {
        self.extra_specs.get("multiattach").is_some_and(|v| v.eq_ignore_ascii_case("<is> true"))
    }
}

/// Where a volume's bytes are, for QEMU: everything but the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RbdLocation {
    /// The cluster's name in the configuration.
    pub cluster: String,
    pub pool: String,
    /// libvirt cannot name one: a tier that guests use has none.
    pub namespace: Option<String>,
    pub image: String,
}

/// What a volume starts from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    #[default]
    Empty,
    Image(String),
    Snapshot(String),
    Volume(String),
    Backup(String),
}

/// A volume that is asked for.
#[derive(Debug, Clone, Default)]
pub struct NewVolume {
    /// An id of the caller's choice: asking twice for the same one makes one volume.
    pub id: Option<String>,
    /// GiB; where absent, the source's size.
    pub size_gib: Option<i64>,
    pub source: Source,
    pub name: Option<String>,
    pub description: Option<String>,
    /// A type's id or name; where absent, the source's, the project's or the cloud's default.
    pub volume_type: Option<String>,
    pub zone: Option<String>,
    pub metadata: Metadata,
    /// The group it joins.
    pub group_id: Option<String>,
    pub hints: crate::scheduler::Hints,
}
