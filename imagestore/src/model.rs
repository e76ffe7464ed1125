//! The nouns: an image, its states, who sees it, and what other services are handed.

use serde::{Deserialize, Serialize};
use state::Timestamp;
use std::collections::BTreeMap;
use std::fmt;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$inner])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }

            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some($name::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// Where an image stands.
    ///
    /// ```text
    ///            PUT file             bytes are safe
    ///  queued ─────────────► saving ─────────────────► active ◄──► deactivated
    ///   │  ▲                   │                          ▲
    ///   │  ├── refused, ───────┘                          │
    ///   │  │   aborted, crashed                           │
    ///   │  └─────────────────────────────┐ refused        │
    ///   │ PUT stage        POST import   │                │
    ///   └───────────► uploading ───► importing ───────────┘
    ///
    ///  saving ──► killed       a clone of a volume or a server could not be made
    ///  queued ──► killed       its signature cannot be verified
    ///  any ──► deleted         invisible; the row stays until its bytes are gone
    /// ```
    Status {
        Queued = "queued", Saving = "saving", Uploading = "uploading", Importing = "importing",
        Active = "active", Deactivated = "deactivated", Killed = "killed", Deleted = "deleted",
    }
}

impl Status {
    /// Which steps are legal.
    pub fn may_become(self, next: Status) -> bool {
        use Status::*;
        match (self, next) {
            (Deleted, _) => false,
            (_, Deleted) => true,
            (Queued, Saving | Uploading | Importing | Killed) => true,
            (Saving, Active | Queued | Killed) => true,
            (Uploading, Importing | Queued) => true,
            (Importing, Active | Queued) => true,
            (Active, Deactivated) | (Deactivated, Active) => true,
            _ => false,
        }
    }
}

words! {
    /// Who sees an image: everybody (`public` in their lists, `community` where they ask for it), the members
    /// that its owner names (`shared`), or its owner alone.
    Visibility { Public = "public", Community = "community", Shared = "shared", Private = "private" }
}

words! {
    /// What a member has said to an image that was shared with its project.
    MemberStatus { Pending = "pending", Accepted = "accepted", Rejected = "rejected" }
}

words! {
    /// How an image's bytes are kept.
    ///
    /// `<id>` is an RBD image with the snapshot `snap`. `<id>.orig`, where there is one, holds the bytes as they
    /// were uploaded: a download, `size` and the hashes speak of those.
    Form {
        /// none yet
        Empty = "empty",
        /// `<id>` is what was uploaded, and a disk
        Disk = "disk",
        /// `<id>` is the disk, converted; `<id>.orig` is what was uploaded
        Converted = "converted",
        /// `<id>` is what was uploaded, and no disk: an archive in a container
        Opaque = "opaque",
    }
}

/// An image, as its row has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    pub id: String,
    pub name: Option<String>,
    pub status: Status,
    pub visibility: Visibility,
    /// The owning project's id; an image of the cloud itself may have none.
    pub owner: Option<String>,
    /// Bytes, as uploaded.
    pub size: Option<u64>,
    /// Bytes of the disk inside.
    pub virtual_size: Option<u64>,
    pub disk_format: Option<String>,
    pub container_format: Option<String>,
    /// MD5 of the bytes as uploaded, in hexadecimal digits. An image cloned from a volume has none.
    pub checksum: Option<String>,
    pub os_hash_algo: Option<String>,
    pub os_hash_value: Option<String>,
    /// GiB
    pub min_disk: u32,
    /// MiB
    pub min_ram: u32,
    pub protected: bool,
    pub os_hidden: bool,
    pub properties: BTreeMap<String, String>,
    pub tags: Vec<String>,
    /// The tier that holds its bytes.
    pub store: String,
    /// The tiers that hold them, too.
    pub copies: Vec<String>,
    pub form: Form,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Image {
    /// Bytes of the disk that a volume or a server gets from this image.
    pub fn disk_bytes(&self) -> Option<u64> {
        self.virtual_size.or(self.size)
    }

    /// Every tier that holds its bytes, in the order in which they got them.
    pub(crate) fn stores(&self) -> Vec<&str> {
        std::iter::once(&self.store).chain(&self.copies).map(String::as_str).collect()
    }

    /// It has no bytes any more, or still none.
    pub(crate) fn emptied(&mut self, status: Status) {
        (self.status, self.form, self.updated_at) = (status, Form::Empty, Timestamp::now());
        (self.size, self.virtual_size, self.checksum) = (None, None, None);
        (self.os_hash_algo, self.os_hash_value) = (None, None);
        self.copies.clear();
    }
}

/// What a new image is to be; everything has upstream's default.
#[derive(Debug, Clone, Default)]
pub struct NewImage {
    /// Made before the call, where the caller must know it; else a new one.
    pub id: Option<String>,
    pub name: Option<String>,
    /// `shared` where absent, as upstream.
    pub visibility: Option<Visibility>,
    /// The caller's project where absent. Only an administrator may name another.
    pub owner: Option<String>,
    pub disk_format: Option<String>,
    pub container_format: Option<String>,
    /// GiB
    pub min_disk: u32,
    /// MiB
    pub min_ram: u32,
    pub protected: bool,
    pub os_hidden: bool,
    pub properties: BTreeMap<String, String>,
    pub tags: Vec<String>,
}

/// Where a copy-on-write clone of an image is made from.
#[derive(Debug, Clone)]
pub struct ImageSource {
    pub tier: pool::Tier,
    /// The RBD image's name.
    pub image: String,
    /// Its snapshot.
    pub snap: &'static str,
    /// Bytes of the disk.
    pub size_bytes: u64,
}

/// A snapshot of an RBD image that becomes an image: a volume's or a server's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RbdSource {
    /// The tier's name.
    pub tier: String,
    pub image: String,
    pub snap: String,
}

/// A project that an image is shared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub image_id: String,
    pub member_id: String,
    pub status: MemberStatus,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// The hashes and length of what was uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Bytes.
    pub size: u64,
    /// In hexadecimal digits; absent where the operator does without.
    pub md5: Option<String>,
    /// What `hash` is of.
    pub algorithm: HashAlgorithm,
    /// In hexadecimal digits.
    pub hash: String,
}

/// What `os_hash_value` may be made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashAlgorithm {
    Sha256,
    Sha384,
    Sha512,
}

impl HashAlgorithm {
    /// Hexadecimal digits of a hash.
    pub(crate) fn digits(self) -> usize {
        match self {
            HashAlgorithm::Sha256 => 64,
            HashAlgorithm::Sha384 => 96,
            HashAlgorithm::Sha512 => 128,
        }
    }

    /// Its name in `os_hash_algo`, as Python's hashlib has it.
    pub fn as_str(self) -> &'static str {
        match self {
            HashAlgorithm::Sha256 => "sha256",
            HashAlgorithm::Sha384 => "sha384",
            HashAlgorithm::Sha512 => "sha512",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for s in Status::ALL {
            assert_eq!(Status::parse(s.as_str()), Some(*s));
        }
        assert_eq!(Visibility::parse("secret"), None);
    }

    #[test]
    fn deleted_is_final_and_active_never_saves_again() {
        assert!(Status::ALL.iter().all(|s| !Status::Deleted.may_become(*s)));
        assert!(!Status::Active.may_become(Status::Saving));
        assert!(!Status::Queued.may_become(Status::Active));
        assert!(Status::ALL.iter().filter(|s| **s != Status::Deleted).all(|s| s.may_become(Status::Deleted)));
    }
}
