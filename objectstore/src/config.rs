//! What an operator may say about the object store.

use crate::http::{CnameConfig, RateLimits};
use crate::sharing::Ownership;
use crate::sync::SyncConfig;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The `[object]` table of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Storage policies (Swift) and storage classes (S3); the first is the default.
    pub policies: Vec<PolicyConfig>,
    /// An object up to this many bytes is one RADOS object, written and read in one operation.
    pub head_bytes: u64,
    /// The same in a container that keeps versions: what is replaced there is copied first, but not what is not in the
    /// one object.
    pub version_head_bytes: u64,
    /// A larger one is cut into pieces of this many bytes.
    pub stripe_bytes: u64,
    /// A large body goes to the cluster in operations of this many bytes, and how many of these are under way.
    pub piece_bytes: usize,
    pub write_window: usize,
    /// Bytes asked for in one operation when a large object is read, and how many of these are under way.
    pub read_bytes: u64,
    pub read_window: usize,
    /// Bytes that a GET asks for together with the metadata. Objects up to this size take one operation.
    pub first_read_bytes: u64,
    /// Bytes of bodies that all requests together may hold in memory as whole objects. When they are spent,
    /// further uploads wait, and are written in small pieces if nothing comes back.
    pub buffer_bytes: usize,
    /// Index shards of a new container.
    pub index_shards: u32,
    /// Objects and older versions that one index shard may list before the index grows; zero if it is not to grow.
    /// Fewer shards make listings cheaper: a page looks into all. Ceph warns of index objects of 200,000 rows.
    pub index_shard_rows: u64,
    /// Seconds that a container's facts may be used without asking the database, if no change was announced.
    pub container_cache_s: u64,
    /// Containers whose facts are kept in memory.
    pub container_cache: usize,
    /// Seconds that an access key's secret is remembered.
    pub credential_cache_s: u64,
    /// Seconds for which replaced or deleted content is kept, so that reads which have begun can finish.
    pub garbage_grace_s: u64,
    /// Seconds after which content that was never finished is taken for abandoned.
    pub abandoned_s: u64,
    /// Seconds from one sweep of all containers to the next.
    pub sweep_interval_s: u64,
    /// Seconds from one look at the containers with lifecycle rules to the next.
    pub lifecycle_interval_s: u64,
    /// Seconds of a day, as lifecycle rules count them: 86,400 but for trying rules out.
    pub lifecycle_day_s: u64,
    /// Networks that events may be sent to (`push-endpoint` of a topic) beside the public internet. What counts is the
    /// address that is connected to, not the name that led there.
    pub notification_networks: Vec<IpNet>,
    /// Events of one container that wait for a topic that takes none: of more the oldest are given up.
    pub notification_backlog: usize,
    /// Seconds after which an event that could not be delivered is given up.
    pub notification_keep_s: u64,
    /// Seconds for which lines of S3's access logs are gathered before they become an object.
    pub access_log_interval_s: u64,
    /// Seconds from one look at all content for silent damage to the next (zero: never), and bytes that are read for it
    /// in a second at most.
    pub scrub_interval_s: u64,
    pub scrub_bytes_per_s: u64,
    /// A client that sends nothing for this many seconds in the middle of a body is given up.
    pub body_idle_s: u64,
    pub limits: Limits,
    pub ratelimit: RateLimits,
    pub sync: SyncConfig,
    /// Domains below which a host name names an account, and a container in it, of Swift:
    /// `container.AUTH_project.domain` (upstream's domain remap).
    pub swift_domains: Vec<String>,
    /// Other names of such accounts (upstream's CNAME lookup). Whatever comes by a name that is neither one nor below one
    /// of `swift_domains` is then looked up, and refused where that leads nowhere: the API's own host name belongs there
    /// too.
    pub cname: CnameConfig,
    /// `/endpoints/account/container/object` tells which OSDs have an object's first bytes (upstream's list_endpoints), to
    /// whoever asks: for listeners in the cluster's own network.
    pub list_endpoints: bool,
    /// ETags are quoted in Swift's answers too, unless an account or a container says otherwise.
    pub quoted_etags: bool,
    /// What names of accounts begin with beside `AUTH_`: accounts of their own, one for each project (upstream's
    /// reseller prefixes). One for `AUTH` says what those ask for.
    pub reseller_prefixes: Vec<ResellerPrefix>,
    /// Nothing is changed through either door (405), but in accounts of which a reseller admin says otherwise with
    /// `X-Account-Sysmeta-Read-Only: false`; with `true` that account alone is so. And whether deletions go on.
    pub read_only: bool,
    pub read_only_allows_deletes: bool,
    /// Whoever may read or change an object through Swift may do so after its time has run out (`X-Delete-At`), until a
    /// sweep removes it, with `X-Open-Expired: true` in a GET, HEAD, POST or copy; a new time brings it back. Not by
    /// signed URLs.
    pub allow_open_expired: bool,
    /// Roles that own the account of a project (any of them).
    pub operator_roles: Vec<String>,
    /// Roles that may read in the account of a project.
    pub reader_roles: Vec<String>,
    /// The role that owns every account.
    pub reseller_admin_role: String,
    /// Host names of the S3 door below which `bucket.host` addresses a bucket.
    pub s3_hosts: Vec<String>,
    /// Host names of the S3 door below which `bucket.host` addresses a bucket's web site.
    pub s3_website_hosts: Vec<String>,
    /// Whose the objects of a bucket are that says nothing of it: `ObjectWriter` (ACLs count, as tools expect that set
    /// them), `BucketOwnerPreferred`, or `BucketOwnerEnforced` (S3's ACLs are refused, as AWS does for new buckets).
    pub s3_object_ownership: Ownership,
    /// Origins whose pages may use every container through Swift, whatever it says itself; `*` is all.
    pub cors_allow_origin: Vec<String>,
    /// Headers that such pages may see beside those that they always may.
    pub cors_expose_headers: Vec<String>,
    /// A file with the secret that wraps the keys of encrypted objects: 32 bytes in base64. Absent, one is made at first
    /// use and kept in the database: what lies in the cluster alone is then of no use to whoever has it.
    pub encryption_key_file: Option<PathBuf>,
    /// Networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed: what bucket policies and signed
    /// URLs take for a request's source.
    pub trusted_proxies: Vec<IpNet>,
    /// The region that S3 clients sign for; other regions are accepted and answered with this one.
    pub s3_region: String,
}

/// Accounts whose names begin alike: `SERVICE_<project>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResellerPrefix {
    /// Without the underscore: `SERVICE`.
    pub name: String,
    /// Roles of which the service must have one whose token comes in `X-Service-Token` beside the user's. None: no such
    /// token is asked for.
    #[serde(default)]
    pub service_roles: Vec<String>,
    /// Roles that own such an account of their project, in the place of the common `operator_roles`.
    #[serde(default)]
    pub operator_roles: Vec<String>,
}

/// One storage policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// Swift's `X-Storage-Policy`.
    pub name: String,
    /// The tier that holds content.
    pub tier: String,
    /// The tier that holds the index: a replicated pool on fast devices. The same one if absent.
    #[serde(default)]
    pub index_tier: Option<String>,
    /// S3's name for it. Objects of any container may be of it (`x-amz-storage-class`, lifecycle transitions): their
    /// content is then kept in this policy's tier. Of several policies of one class the first is meant, unless the
    /// container's own is of it.
    #[serde(default = "standard")]
    pub storage_class: String,
    /// Other names that Swift's clients may give it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// No container is made with it any more, and `/info` does not name it; what has it keeps it.
    #[serde(default)]
    pub deprecated: bool,
}

fn standard() -> String {
    "STANDARD".into()
}

/// What one request may bring, as `/info` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one object that is uploaded in one piece.
    pub max_file_size: u64,
    pub max_meta_name_length: usize,
    pub max_meta_value_length: usize,
    pub max_meta_count: usize,
    pub max_meta_overall_size: usize,
    pub max_container_name_length: usize,
    pub container_listing_limit: usize,
    pub account_listing_limit: usize,
    /// Segments of a static large object, and bytes of its manifest.
    pub max_manifest_segments: usize,
    pub max_manifest_size: usize,
    pub max_deletes_per_request: usize,
    /// S3: bytes of a part that is not the last, and of an XML body.
    pub min_part_size: u64,
    pub max_xml_size: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            policies: vec![PolicyConfig {
                name: "default".into(),
                tier: "objects".into(),
                index_tier: None,
                storage_class: standard(),
                aliases: Vec::new(),
                deprecated: false,
            }],
            head_bytes: 4 << 20,
            version_head_bytes: 64 << 10,
            stripe_bytes: 4 << 20,
            piece_bytes: 1 << 20,
            write_window: 4,
            read_bytes: 1 << 20,
            read_window: 2,
            first_read_bytes: 128 << 10,
            buffer_bytes: 16 << 20,
            index_shards: 1,
            index_shard_rows: 160_000,
            container_cache_s: 30,
            container_cache: 10_000,
            credential_cache_s: 10,
            garbage_grace_s: 60,
            abandoned_s: 24 * 3600,
            sweep_interval_s: 600,
            lifecycle_interval_s: 3600,
            lifecycle_day_s: 86_400,
            notification_networks: Vec::new(),
            notification_backlog: 10_000,
            notification_keep_s: 4 * 86_400,
            access_log_interval_s: 300,
            scrub_interval_s: 14 * 86_400,
            scrub_bytes_per_s: 8 << 20,
            body_idle_s: 60,
            limits: Limits::default(),
            ratelimit: RateLimits::default(),
            sync: SyncConfig::default(),
            swift_domains: Vec::new(),
            cname: CnameConfig::default(),
            list_endpoints: false,
            quoted_etags: false,
            reseller_prefixes: Vec::new(),
            read_only: false,
            read_only_allows_deletes: false,
            allow_open_expired: false,
            operator_roles: vec!["member".into(), "manager".into(), "admin".into()],
            reader_roles: vec!["reader".into()],
            reseller_admin_role: "ResellerAdmin".into(),
            s3_hosts: Vec::new(),
            s3_website_hosts: Vec::new(),
            s3_object_ownership: Ownership::ObjectWriter,
            cors_allow_origin: Vec::new(),
            cors_expose_headers: Vec::new(),
            encryption_key_file: None,
            trusted_proxies: Vec::new(),
            s3_region: "RegionOne".into(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_file_size: 5 << 30,
            max_meta_name_length: 128,
            max_meta_value_length: 256,
            max_meta_count: 90,
            max_meta_overall_size: 4096,
            max_container_name_length: 256,
            container_listing_limit: 10_000,
            account_listing_limit: 10_000,
            max_manifest_segments: 1000,
            max_manifest_size: 8 << 20,
            max_deletes_per_request: 10_000,
            min_part_size: 5 << 20,
            max_xml_size: 2 << 20,
        }
    }
}
