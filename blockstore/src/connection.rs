//! What a client that attaches by itself is told: how to reach a volume's image (`os-initialize_connection`, and an
//! attachment's `connection_info`), in the form of upstream's RBD driver. The key is not part of it: a host has its own.

use crate::model::{AttachMode, Volume};
use crate::{VolumeError, Volumes};
use api::Context;
use serde_json::{Map, Value, json};

impl Volumes {
    /// The connection of a volume for a host. `attachment` is named in it where there is one.
    pub(crate) async fn connection_info(
        &self,
        volume: &Volume,
        mode: AttachMode,
        attachment: Option<&str>,
    ) -> Result<Map<String, Value>, VolumeError> {
        let tier = self.tiers.get(&volume.tier)?;
        let out = tier.cluster.mon_command(json!({"prefix": "mon dump", "format": "json"})).await?;
        let dump: Value = serde_json::from_slice(&out)?;
        let (hosts, ports): (Vec<String>, Vec<String>) = monitors(&dump).into_iter().unzip();
        let pool = tier.pool.name();
        let name = match tier.pool.namespace() {
            "" => format!("{pool}/{}", volume.image_name()),
            ns => format!("{pool}/{ns}/{}", volume.image_name()),
        };
        let qos = self.qos_of_type(&volume.type_id).await?;
        let readonly = mode == AttachMode::Ro || volume.readonly();
        let mut info = json!({
            "driver_volume_type": "rbd",
            "name": name,
            "hosts": hosts,
            "ports": ports,
            "cluster_name": tier.cluster.name(),
            "auth_enabled": true,
            "auth_username": self.config.guest_user,
            "secret_type": "ceph",
            "secret_uuid": self.config.guest_secret,
            "volume_id": volume.id,
            "discard": true,
            "qos_specs": qos.and_then(|q| q.of_front_end(volume.size_gib)),
            "access_mode": if readonly { "ro" } else { "rw" },
            "encrypted": volume.encryption_key_id.is_some(),
            "cacheable": false,
            "keyring": null,
        });
        if let Some(id) = attachment {
            info["attachment_id"] = id.into();
        }
        Ok(match info {
            Value::Object(map) => map,
            _ => Map::new(),
        })
    }

    /// `os-initialize_connection`.
    pub(crate) async fn initialize_connection(
        &self,
        ctx: &Context,
        id: &str,
    ) -> Result<Map<String, Value>, VolumeError> {
        let rule = "volume_extension:volume_actions:initialize_connection";
        let volume = self.find(ctx, id, rule).await?;
        let mut data = self.connection_info(&volume, AttachMode::Rw, None).await?;
        let kind = data.remove("driver_volume_type").unwrap_or(Value::Null);
        Ok(Map::from_iter([
            ("driver_volume_type".to_owned(), kind),
            ("data".to_owned(), Value::Object(data)),
        ]))
    }

    /// `os-terminate_connection`: nothing was set up on the storage's side, so there is nothing to take down.
    pub(crate) async fn terminate_connection(&self, ctx: &Context, id: &str) -> Result<(), VolumeError> {
        self.find(ctx, id, "volume_extension:volume_actions:terminate_connection").await.map(drop)
    }
}

/// `(address, port)` of every monitor, by the older protocol where it is offered: every client speaks it.
fn monitors(dump: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for mon in dump["mons"].as_array().into_iter().flatten() {
        let all = mon["public_addrs"]["addrvec"].as_array().cloned().unwrap_or_default();
        let best = all.iter().find(|a| a["type"] == "v1").or(all.first());
        if let Some((host, port)) = best.and_then(|a| a["addr"].as_str()).and_then(|a| a.rsplit_once(':')) {
            found.push((host.trim_matches(['[', ']']).to_owned(), port.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_monitor_by_its_older_address() {
        let dump = json!({"mons": [{"public_addrs": {"addrvec": [
            {"type": "v2", "addr": "10.0.0.1:3300", "nonce": 0}, {"type": "v1", "addr": "10.0.0.1:6789", "nonce": 0}]}},
            {"public_addrs": {"addrvec": [{"type": "v2", "addr": "[fd00::1]:3300"}]}}]});
        let pair = |h: &str, p: &str| (h.to_owned(), p.to_owned());
        assert_eq!(monitors(&dump), [pair("10.0.0.1", "6789"), pair("fd00::1", "3300")]);
    }
}
