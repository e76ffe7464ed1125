//! What S3's owners say of a bucket's use by others, beside Swift's ACLs: grants, ownership, public access, a bucket
//! policy, CORS, a website. Kept with the container's facts; the rules that follow from it are in [`crate::access`].

use crate::access_log::AccessLog;
use crate::grants::Grant;
use crate::seal::SealWith;
use serde::{Deserialize, Serialize};

/// All of it. Everything is absent from a container that was made through Swift.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sharing {
    pub cors: Vec<CorsRule>,
    /// Grants of the bucket that Swift's ACLs have no words for; the others are kept as those.
    pub grants: Vec<Grant>,
    /// Absent: as the configuration says.
    pub ownership: Option<Ownership>,
    pub public_access: Option<PublicAccessBlock>,
    /// The bucket policy as it was put.
    pub policy: Option<String>,
    pub website: Option<Website>,
    /// Objects are encrypted with the store's own keys, unless they say otherwise.
    pub encrypts: bool,
    /// Whoever is not of the bucket's project must say that they pay for what they ask.
    pub requester_pays: bool,
    /// Where the access log goes.
    pub log: Option<AccessLog>,
}

impl Sharing {
    /// How an object is encrypted that says nothing of it.
    pub(crate) fn default_seal(&self) -> Option<&'static SealWith> {
        self.encrypts.then_some(&SealWith::Root)
    }
}

/// One rule of a bucket's CORS configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorsRule {
    pub id: String,
    /// Each with at most one `*`.
    pub origins: Vec<String>,
    pub methods: Vec<String>,
    pub headers: Vec<String>,
    pub exposed: Vec<String>,
    /// Seconds.
    pub max_age: Option<u32>,
}

/// Whose the objects of a bucket are, and whether S3's ACLs count for anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ownership {
    /// The bucket's owner's; ACLs can't be set through S3.
    BucketOwnerEnforced,
    /// The bucket's owner's where the writer grants it full control, else the writer's.
    BucketOwnerPreferred,
    /// The writer's.
    #[default]
    ObjectWriter,
}

impl Ownership {
    pub const ALL: [Ownership; 3] =
        [Ownership::BucketOwnerEnforced, Ownership::BucketOwnerPreferred, Ownership::ObjectWriter];

    /// As S3 writes it.
    pub fn name(self) -> &'static str {
        match self {
            Ownership::BucketOwnerEnforced => "BucketOwnerEnforced",
            Ownership::BucketOwnerPreferred => "BucketOwnerPreferred",
            Ownership::ObjectWriter => "ObjectWriter",
        }
    }

    pub fn of(name: &str) -> Option<Ownership> {
        Ownership::ALL.into_iter().find(|o| o.name() == name)
    }
}

/// What keeps a bucket from being opened to everybody, whatever its ACLs and its policy say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublicAccessBlock {
    /// ACLs that open it are refused.
    pub block_acls: bool,
    /// ACLs that open it do not count.
    pub ignore_acls: bool,
    /// Policies that open it are refused.
    pub block_policy: bool,
    /// A policy that opens it counts only for the bucket's own project.
    pub restrict_buckets: bool,
}

/// A bucket that is served as a web site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Website {
    /// Everything is somewhere else: (host, protocol).
    pub redirect_all: Option<(String, Option<String>)>,
    /// What stands for a folder.
    pub index: String,
    /// The object that is sent with an error.
    pub error: String,
    pub rules: Vec<RoutingRule>,
}

/// One redirection of a web site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoutingRule {
    pub prefix: Option<String>,
    /// The status of the error that it is for.
    pub error_code: Option<u16>,
    pub host: Option<String>,
    pub protocol: Option<String>,
    pub replace_prefix: Option<String>,
    pub replace_key: Option<String>,
    pub status: Option<u16>,
}
