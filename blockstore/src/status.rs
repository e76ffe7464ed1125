//! The states of volumes, snapshots and attachments, and which step leads from which to which.
//!
//! Every change of a state goes through [`VolumeStatus::after`] or [`SnapshotStatus::after`]; what they do not
//! allow cannot happen. An administrator's `reset_status` is the one way around them.

use std::fmt;
use std::str::FromStr;

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($variant),* }

        impl $name {
            /// The word of the API and of the row.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownStatus;
            fn from_str(s: &str) -> Result<Self, UnknownStatus> {
                match s {
                    $($word => Ok($name::$variant),)*
                    _ => Err(UnknownStatus(s.to_owned())),
                }
            }
        }
    };
}

/// A word that names no state.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0:?} is not a status")]
pub struct UnknownStatus(pub String);

words! {
/// What a volume's replication, or a group's or a backend's, is.
///
/// ```text
///  (none) | disabled ──► enabling ──► enabled ──► failed-over ──► enabled
///      ▲                    └─► error    │ ▲            │
///      └──────── disabling ◄─────────────┘ └────────────┴──► failover-error
/// ```
/// A backend on its way is `failing-over`, and a group with its volumes. A volume without a copy is `not-capable` while its
/// backend is failed over.
ReplicationStatus {
    Enabling = "enabling",
    Enabled = "enabled",
    Disabling = "disabling",
    Disabled = "disabled",
    NotCapable = "not-capable",
    FailingOver = "failing-over",
    FailedOver = "failed-over",
    FailoverError = "failover-error",
    Error = "error",
}
}

words! {
/// ```text
///              ┌────────► error ◄──────┐ (also from extending: error_extending,
///              │                       │  deleting: error_deleting)
///  creating ───┴──► available ◄────────┴── extending | uploading | retyping | reverting | awaiting-transfer
///                    │  ▲ │ └──────────────────────────────▲ (and back to where it was)
///                    │  │ └─► reserved ─► attaching ─► in-use ─► detaching ─► available
///                    ▼  └───────┴────────────┘ (given back)
///                  deleting ──► (row removed)
/// ```
/// `maintenance` is a volume being moved that nobody may attach meanwhile. The `error…` states end only by delete or an administrator's reset.
VolumeStatus {
    Creating = "creating",
    Available = "available",
    Reserved = "reserved",
    Attaching = "attaching",
    Detaching = "detaching",
    InUse = "in-use",
    Maintenance = "maintenance",
    Deleting = "deleting",
    AwaitingTransfer = "awaiting-transfer",
    Error = "error",
    ErrorDeleting = "error_deleting",
    ErrorExtending = "error_extending",
    BackingUp = "backing-up",
    RestoringBackup = "restoring-backup",
    ErrorBackingUp = "error_backing-up",
    ErrorRestoring = "error_restoring",
    Downloading = "downloading",
    Uploading = "uploading",
    Retyping = "retyping",
    Extending = "extending",
    Managing = "managing",
    ErrorManaging = "error_managing",
    ErrorManagingDeleting = "error_managing_deleting",
    Reverting = "reverting",
}
}

/// What may be done to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The image is there.
    Created,
    /// The operation under way cannot be finished.
    Failed,
    /// The operation under way is finished or taken back: on to the state that the attachments give.
    Settled(VolumeStatus),
    Delete,
    /// Delete whatever the state, as an administrator may.
    ForceDelete,
    Extend,
    Upload,
    /// Upload also while attached.
    ForceUpload,
    Retype,
    /// An image takes the place of what it holds.
    Reimage,
    /// Nobody is to use it for a while.
    Lock,
    /// Back to the latest snapshot.
    Revert,
    /// Copy the volume into a backup.
    BackUp,
    /// Back up also while attached.
    ForceBackUp,
    /// Write a backup over the volume.
    Restore,
    OfferTransfer,
    EndTransfer,
    /// Promise the volume to a server.
    Reserve,
    /// The server's host is about to connect.
    Attach,
    Attached,
    BeginDetach,
    /// Nothing holds the volume any more.
    Released,
}

impl VolumeStatus {
    /// The state after `step`, or `None` where the step is not allowed now.
    pub fn after(self, step: Step) -> Option<VolumeStatus> {
        use Step as S;
        use VolumeStatus as V;
        Some(match (step, self) {
            (S::Created, V::Creating | V::Downloading | V::Managing) => V::Available,
            (S::Failed, V::Managing) => V::ErrorManaging,
            (S::Failed, V::Creating | V::Downloading) => V::Error,
            (S::Failed, V::Deleting) => V::ErrorDeleting,
            (S::Failed, V::Extending) => V::ErrorExtending,
            (S::Failed, V::Retyping | V::Uploading | V::Reverting) => V::Error,
            (S::Failed, V::RestoringBackup) => V::ErrorRestoring,
            (
                S::Settled(to),
                V::Extending
                | V::Uploading
                | V::Retyping
                | V::Maintenance
                | V::Downloading
                | V::Reverting
                | V::BackingUp
                | V::RestoringBackup,
            ) if matches!(to, V::Available | V::InUse | V::Reserved | V::Attaching | V::Detaching) => to,
            (
                S::Delete,
                V::Available
                | V::Error
                | V::ErrorRestoring
                | V::ErrorExtending
                | V::ErrorManaging
                | V::ErrorDeleting,
            ) => V::Deleting,
            (S::ForceDelete, _) => V::Deleting,
            (S::Extend, V::Available | V::InUse) => V::Extending,
            (S::Upload, V::Available) => V::Uploading,
            (S::ForceUpload, V::Available | V::InUse) => V::Uploading,
            (S::Retype, V::Available | V::InUse) => V::Retyping,
            (S::Lock, V::Available) => V::Maintenance,
            (S::Reimage, V::Available | V::Error | V::Reserved) => V::Downloading,
            (S::Revert, V::Available) => V::Reverting,
            (S::BackUp, V::Available) | (S::ForceBackUp, V::Available | V::InUse) => V::BackingUp,
            (S::Restore, V::Available) => V::RestoringBackup,
            (S::OfferTransfer, V::Available) => V::AwaitingTransfer,
            (S::EndTransfer, V::AwaitingTransfer) => V::Available,
            (S::Reserve, V::Available | V::Downloading) => V::Reserved,
            (S::Attach, V::Available | V::Reserved | V::Attaching) => V::Attaching,
            (S::Attached, V::Available | V::Reserved | V::Attaching | V::InUse) => V::InUse,
            (S::BeginDetach, V::InUse) => V::Detaching,
            (S::Released, V::Reserved | V::Attaching | V::InUse | V::Detaching | V::Error) => V::Available,
            _ => return None,
        })
    }

    /// Whether a snapshot may be taken: `attached_too` is the old `force` flag, the rule since 3.66.
    pub fn may_snapshot(self, attached_too: bool) -> bool {
        self == VolumeStatus::Available || (attached_too && self == VolumeStatus::InUse)
    }

    /// Whether another volume may be cloned from it.
    pub fn may_clone(self) -> bool {
        matches!(self, VolumeStatus::Available | VolumeStatus::InUse)
    }
}

words! {
/// ```text
///   creating ──► available ──► deleting ──► (row removed)
///      │         ▲ │              │
///      │         │ └► restoring ──┘ (available again, whatever becomes of the volume)
///      └──► error ──► deleting    └──► error_deleting ──► deleting
/// ```
SnapshotStatus {
    Creating = "creating",
    Available = "available",
    BackingUp = "backing-up",
    Deleting = "deleting",
    Error = "error",
    ErrorDeleting = "error_deleting",
    Unmanaging = "unmanaging",
    Restoring = "restoring",
    Deleted = "deleted",
}
}

impl SnapshotStatus {
    /// The state after `step`, or `None` where the step is not allowed now.
    pub fn after(self, step: Step) -> Option<SnapshotStatus> {
        use SnapshotStatus as T;
        Some(match (step, self) {
            (Step::Created, T::Creating) => T::Available,
            (Step::Failed, T::Creating) => T::Error,
            (Step::Failed, T::Deleting) => T::ErrorDeleting,
            (Step::Delete, T::Available | T::Error | T::ErrorDeleting) => T::Deleting,
            (Step::Revert, T::Available) => T::Restoring,
            (Step::ForceDelete, _) => T::Deleting,
            _ => return None,
        })
    }
}

words! {
/// ```text
///   creating ──► available ──► deleting ──► (row removed)
///      │            │ ▲           │
///      │            ▼ │           ▼
///      └──► error   restoring   error ──► deleting
/// ```
BackupStatus {
    Creating = "creating",
    Available = "available",
    Restoring = "restoring",
    Deleting = "deleting",
    Error = "error",
}
}

words! {
/// Of a group and of a group's snapshot:
/// ```text
///   creating ──► available ──► deleting ──► (row removed)
///      │                          │
///      └──► error ──► deleting    └──► error_deleting ──► deleting
/// ```
GroupStatus {
    Creating = "creating",
    Available = "available",
    Updating = "updating",
    Deleting = "deleting",
    Error = "error",
    ErrorDeleting = "error_deleting",
    Deleted = "deleted",
}
}

impl GroupStatus {
    /// The state after `step`, or `None` where the step is not allowed now.
    pub fn after(self, step: Step) -> Option<GroupStatus> {
        use GroupStatus as G;
        Some(match (step, self) {
            (Step::Created, G::Creating) => G::Available,
            (Step::Failed, G::Creating) => G::Error,
            (Step::Failed, G::Deleting) => G::ErrorDeleting,
            (Step::Delete, G::Available | G::Error | G::ErrorDeleting) => G::Deleting,
            _ => return None,
        })
    }
}

words! {
/// ```text
///   reserved ──► attaching ──► attached ──► detaching ──► (row removed)
///      └─────────────┴────────────┴───────────────────────────▲ (given back)
/// ```
AttachStatus {
    Reserved = "reserved",
    Attaching = "attaching",
    Attached = "attached",
    Detaching = "detaching",
    ErrorAttaching = "error_attaching",
    ErrorDetaching = "error_detaching",
    Detached = "detached",
    Deleted = "deleted",
}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_drawn_is_refused() {
        use VolumeStatus as V;
        for busy in [V::Creating, V::InUse, V::Attaching, V::Detaching, V::AwaitingTransfer, V::Maintenance] {
            assert_eq!(busy.after(Step::Delete), None, "{busy}");
            assert_eq!(busy.after(Step::ForceDelete), Some(V::Deleting));
        }
        assert_eq!(V::Available.after(Step::Reserve), Some(V::Reserved));
        assert_eq!(V::Reserved.after(Step::Reserve), None);
        assert_eq!(V::Available.after(Step::Settled(V::Available)), None);
        assert_eq!(V::Extending.after(Step::Settled(V::InUse)), Some(V::InUse));
        assert_eq!(V::Extending.after(Step::Settled(V::Deleting)), None);
        assert_eq!("in-use".parse::<V>().unwrap(), V::InUse);
        assert!("used".parse::<V>().is_err());
        assert_eq!(SnapshotStatus::Creating.after(Step::Delete), None);
    }
}
