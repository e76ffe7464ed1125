//! What an operator may say about container sync.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A key that never shows in logs.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SyncKey(pub String);

impl fmt::Debug for SyncKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "…" })
    }
}

/// The `[object.sync]` table of the configuration. Without realms nothing is sent and nothing accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyncConfig {
    /// Clouds that have agreed to keep containers in step with each other.
    pub realms: Vec<Realm>,
    /// Which of them this cloud is, as `realm/cluster`: said in `/info`.
    pub current: String,
    /// Hosts (`name`, or `name:port`) that `X-Container-Sync-To` may name in a URL of its own, outside of all realms.
    pub allowed_hosts: Vec<String>,
    /// Requests are accepted that have nothing but the container's key to show (`X-Container-Sync-Key`), as they come
    /// from clouds that send outside of a realm. It travels as it is: only where nobody listens.
    pub accept_plain_keys: bool,
    /// Networks that objects may be sent to beside the public internet. What counts is the address that is connected
    /// to, not the name that led there; addresses that stand in `realms` and `allowed_hosts` are allowed by that.
    pub networks: Vec<IpNet>,
    /// Seconds from one look at a container that is in step to the next. What a process changes itself it sends within a
    /// second or so.
    pub interval_s: u64,
    /// Seconds for which one container is worked at before others have their turn.
    pub container_time_s: u64,
}

/// Clouds that trust each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Realm {
    /// In any case.
    pub name: String,
    /// The secret that all its clouds know.
    pub key: SyncKey,
    /// Another one that is accepted too: the last or the next, while keys are changed.
    #[serde(default)]
    pub key2: SyncKey,
    /// The object stores of its clouds by name, as URLs to which an account's name is added: `https://host/v1/`.
    #[serde(default)]
    pub clusters: BTreeMap<String, String>,
}

impl Default for SyncConfig {
    fn default() -> Self {
        SyncConfig {
            realms: Vec::new(),
            current: String::new(),
            allowed_hosts: Vec::new(),
            accept_plain_keys: false,
            networks: Vec::new(),
            interval_s: 10,
            container_time_s: 60,
        }
    }
}

impl SyncConfig {
    pub(crate) fn realm(&self, name: &str) -> Option<&Realm> {
        self.realms.iter().find(|r| r.name.eq_ignore_ascii_case(name) && !r.key.0.is_empty())
    }
}

impl Realm {
    pub(crate) fn cluster(&self, name: &str) -> Option<&str> {
        self.clusters.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, url)| url.as_str())
    }
}
