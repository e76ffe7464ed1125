//! What an operator may say about images.

use crate::{HashAlgorithm, ImportFilter};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The `[image]` table of the configuration. Every key has a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The tier that new images are stored in.
    pub tier: String,
    /// Further tiers that images may be put in. With one or more, imports may name stores, and `copy-image` is offered.
    pub stores: Vec<String>,
    /// The tier that images whose stores are other ones are cached in; empty: `tier`. It need not be a store.
    pub cache_tier: String,
    /// The most bytes of copies that are there for the cache alone; the least recently used go first. 0: there is no
    /// cache, and what an earlier one has goes.
    pub cache_bytes: u64,
    /// Seconds for which a copy stays that has left the cache: somebody may just be copying from it. Such copies take
    /// `cache_bytes` again at most.
    pub cache_grace_s: u64,
    /// An image of a disk that stands on as many parents as this, or more, is a copy of it, not a clone.
    pub max_clone_depth: u32,
    /// The most bytes an upload may have.
    pub size_cap: u64,
    /// The most bytes the disk inside an image may have.
    pub virtual_size_cap: u64,
    /// A conversion is given up as a bomb when it has written more than this many times the upload's bytes (and
    /// more than 1 GiB).
    pub expansion_cap: u64,
    /// The most bytes that one project's images may have together; 0 is no limit.
    pub project_quota: u64,
    /// Keep what was uploaded beside the disk that it was converted to, so that a download gives back the same
    /// bytes and `size` and the hashes stay those of the upload. It costs the upload's size again. Without it a
    /// converted image becomes `raw`, as with upstream's conversion.
    pub keep_original: bool,
    /// What `os_hash_value` is made with: `sha512` as upstream, or `sha384`, or `sha256`, which most machines make
    /// at twice the speed. Images keep what they were made with.
    pub hashing_algorithm: HashAlgorithm,
    /// Make the MD5 `checksum`, too, as upstream does. Without it `checksum` is null and uploads are faster.
    pub md5_checksum: bool,
    /// Images a page of a listing has where the caller names no limit.
    pub page: usize,
    /// The most images a page may have.
    pub page_max: usize,
    /// The most additional properties an image may have.
    pub property_quota: usize,
    /// The most tags an image may have.
    pub tag_quota: usize,
    /// The most members an image may have.
    pub member_quota: usize,
    pub disk_formats: Vec<String>,
    pub container_formats: Vec<String>,
    /// The ways to import that users have: `glance-direct`, `web-download`, `copy-image` where there are several stores,
    /// and `glance-download` from the image service of this or another region of the catalogue.
    pub import_methods: Vec<String>,
    /// What the names of properties begin with that `glance-download` takes over.
    pub download_properties: Vec<String>,
    /// Imports that one process carries out at once; half of them at most are of one project.
    pub imports_at_once: usize,
    /// What `web-download` may ask.
    pub import_filter: ImportFilter,
    /// An oslo.policy-style file whose rules replace the defaults.
    pub policy_file: Option<PathBuf>,
    /// Who may do what with which additional properties: a file in upstream's format. Without it all are free.
    pub property_protection_file: Option<PathBuf>,
    /// What its rules name: roles, or each one rule of the policy.
    pub property_protection_rule_format: RuleFormat,
    /// The directory with the X.509 certificates that signed images name in `img_signature_certificate_uuid`: `<uuid>.pem`,
    /// `.crt` or `.der`. Without it no signed image becomes active.
    pub signature_certificates: Option<PathBuf>,
    /// Seconds after which an upload whose process has not been heard of is taken back.
    pub upload_lease_s: u64,
    /// This process's name: stable over its restarts, unlike any other process's. Set by the program.
    #[serde(skip)]
    pub node: String,
}

/// What the rules of a property protection file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleFormat {
    Roles,
    Policies,
}

impl Default for Config {
    fn default() -> Self {
        let list = |words: &str| words.split(' ').map(str::to_owned).collect();
        Config {
            tier: "images".into(),
            stores: Vec::new(),
            cache_tier: String::new(),
            cache_bytes: 10 << 30,
            cache_grace_s: 3600,
            max_clone_depth: 5,
            size_cap: 1 << 40,
            virtual_size_cap: 64 << 40,
            expansion_cap: 1100,
            project_quota: 0,
            keep_original: true,
            hashing_algorithm: HashAlgorithm::Sha512,
            md5_checksum: true,
            page: 25,
            page_max: 1000,
            property_quota: 128,
            tag_quota: 128,
            member_quota: 128,
            disk_formats: list("ami ari aki vhd vhdx vmdk raw qcow2 vdi iso ploop gpt"),
            container_formats: list("ami ari aki bare ovf ova docker compressed"),
            import_methods: list("glance-direct web-download copy-image glance-download"),
            download_properties: list("hw_ trait: os_distro os_secure_boot os_type"),
            imports_at_once: 8,
            import_filter: ImportFilter::default(),
            policy_file: None,
            property_protection_file: None,
            property_protection_rule_format: RuleFormat::Roles,
            signature_certificates: None,
            upload_lease_s: 30,
            node: "local".into(),
        }
    }
}

impl Config {
    /// The tiers that hold images, the one of new images first.
    pub(crate) fn all_stores(&self) -> impl Iterator<Item = &str> {
        let others = self.stores.iter().filter(|s| **s != self.tier);
        std::iter::once(self.tier.as_str()).chain(others.map(String::as_str))
    }

    /// The tier of the cache; `None`: there is none.
    pub(crate) fn cache(&self) -> Option<&str> {
        let tier = if self.cache_tier.is_empty() { &self.tier } else { &self.cache_tier };
        (self.cache_bytes > 0).then_some(tier)
    }

    /// The tiers that images may be in, as stores or as the cache.
    pub(crate) fn all_tiers(&self) -> impl Iterator<Item = &str> {
        let cache = self.cache().filter(|c| !self.all_stores().any(|s| s == *c));
        self.all_stores().chain(cache)
    }
}
