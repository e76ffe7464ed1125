//! Where in the cluster an object lies: for programs that would rather compute there than move bytes.
//!
//! The cluster's own map is asked, which is a question to its monitors: few of them at once, and what is known of an OSD
//! is remembered for a while.

use crate::meta::{Kind, ObjectMeta};
use crate::{ObjectError, ObjectStore, names};
use pool::Pool;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Questions to the monitors that are under way at once.
const AT_ONCE: usize = 2;
/// How long an OSD's address is believed.
const AGE: Duration = Duration::from_secs(60);

/// A place that holds a copy, or a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The OSD's address in the cluster's public network.
    pub address: SocketAddr,
    /// `osd.3`
    pub device: String,
    /// `2.1f`
    pub placement_group: String,
}

/// What is known of the clusters' OSDs, by cluster and number.
pub(crate) struct Locations {
    permits: Semaphore,
    known: Mutex<HashMap<(String, i64), (SocketAddr, Instant)>>,
}

impl Default for Locations {
    fn default() -> Self {
        Locations { permits: Semaphore::new(AT_ONCE), known: Mutex::default() }
    }
}

impl ObjectStore {
    /// The places of an object's first bytes, the primary first; without a name, those of the container's index. What
    /// an object of this name would have, if there is none.
    pub async fn locations(
        &self,
        account: &str,
        container: &str,
        object: Option<&str>,
    ) -> Result<Vec<Location>, ObjectError> {
        let container = self.find_container(account, container).await?;
        let Some(name) = object else {
            let (shard, index) = (container.shard_of(""), &container.policy.index);
            return self.places(index, &shard.oid()).await;
        };
        let meta = match self.stat_object(&container, name).await {
            Ok((meta, _)) => meta,
            Err(ObjectError::NoSuchObject) => ObjectMeta::default(),
            Err(e) => return Err(e),
        };
        let first = match meta.layout.tag {
            Some(tag) if meta.layout.head == 0 && meta.kind != Kind::Multipart => Some(tag),
            _ => None,
        };
        match first {
            Some(tag) => {
                let pool = self.inner.policies.pool_at(&container.policy, meta.place)?;
                self.places(pool, &names::tail(container.id, tag, 0)).await
            }
            None => self.places(&container.policy.data, &names::head(container.id, name)).await,
        }
    }

    async fn places(&self, pool: &Pool, oid: &str) -> Result<Vec<Location>, ObjectError> {
        let _permit = self.inner.locations.permits.acquire().await;
        let command = json!({
            "prefix": "osd map", "pool": pool.name(), "object": oid, "nspace": pool.namespace(), "format": "json",
        });
        let map = read(&pool.cluster().mon_command(command).await?)?;
        let group = map["pgid"].as_str().ok_or(STRANGE)?.to_owned();
        let mut places = Vec::new();
        for osd in map["acting"].as_array().ok_or(STRANGE)?.iter().filter_map(Value::as_i64) {
            // A hole in a group that has too few OSDs.
            if !(0..i64::from(i32::MAX)).contains(&osd) {
                continue;
            }
            let (device, address) = (format!("osd.{osd}"), self.osd(pool, osd).await?);
            places.push(Location { address, device, placement_group: group.clone() });
        }
        Ok(places)
    }

    async fn osd(&self, pool: &Pool, osd: i64) -> Result<SocketAddr, ObjectError> {
        let key = (pool.cluster().name().to_owned(), osd);
        let known = &self.inner.locations.known;
        if let Some((address, at)) = known.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && at.elapsed() < AGE
        {
            return Ok(*address);
        }
        let command = json!({"prefix": "osd find", "id": osd, "format": "json"});
        let found = read(&pool.cluster().mon_command(command).await?)?;
        let address = first_address(&found).ok_or(STRANGE)?;
        known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (address, Instant::now()));
        Ok(address)
    }
}

const STRANGE: ObjectError = ObjectError::Damaged("the cluster's map cannot be read");

fn read(text: &[u8]) -> Result<Value, ObjectError> {
    serde_json::from_slice(text).map_err(|_| STRANGE)
}

/// An OSD has an address for each protocol; clusters from before Nautilus name one.
fn first_address(found: &Value) -> Option<SocketAddr> {
    let listed = found["addrs"]["addrvec"].as_array().and_then(|all| all.first()?["addr"].as_str());
    let single = || found["ip"].as_str().and_then(|ip| ip.split('/').next());
    listed.or_else(single)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_the_map() {
        let new =
            json!({"osd": 0, "addrs": {"addrvec": [{"type": "v2", "addr": "10.0.0.1:6800", "nonce": 1}]}});
        assert_eq!(first_address(&new), Some("10.0.0.1:6800".parse().unwrap()));
        let old = json!({"osd": 0, "ip": "[fd00::1]:6801/77"});
        assert_eq!(first_address(&old), Some("[fd00::1]:6801".parse().unwrap()));
        assert_eq!(first_address(&json!({"osd": 0})), None);
    }
}
