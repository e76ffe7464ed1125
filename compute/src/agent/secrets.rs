//! The keys with which QEMU opens disks: read from each cluster's keyring, handed to libvirt as secrets whose
//! ids follow from cluster and user, so that doing it again changes nothing.

use super::domain::CephAuth;
use super::hypervisor::Hypervisor;
use crate::ComputeError;
use crate::config::CephAccess;
use base64::Engine;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Tells libvirt every cluster's key; what comes back is how domains refer to them.
pub(crate) async fn install(
    hypervisor: &Hypervisor,
    clusters: &[CephAccess],
) -> Result<HashMap<String, CephAuth>, ComputeError> {
    let mut known = HashMap::new();
    for c in clusters {
        let key = key(c).await?;
        let usage = format!("aquifer {} client.{}", c.name, c.user);
        let secret = Uuid::new_v5(&Uuid::NAMESPACE_OID, usage.as_bytes()).to_string();
        hypervisor.set_secret(&secret, &usage, key).await?;
        known.insert(c.name.clone(), CephAuth { conf: c.conf.clone(), user: c.user.clone(), secret });
    }
    Ok(known)
}

/// libvirt's secret that holds a volume's passphrase.
pub(crate) fn of_volume(volume: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("aquifer volume {volume}").as_bytes()).to_string()
}

async fn key(c: &CephAccess) -> Result<Vec<u8>, ComputeError> {
    let file = match &c.keyring {
        Some(file) => file.clone(),
        None => keyring_of(&read(&c.conf).await?, &c.user)
            .unwrap_or_else(|| PathBuf::from(format!("/etc/ceph/ceph.client.{}.keyring", c.user))),
    };
    let text = read(&file).await?;
    let missing = || ComputeError::Config(format!("{} has no key for client.{}", file.display(), c.user));
    let encoded = key_of(&text, &c.user).ok_or_else(missing)?;
    base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|_| missing())
}

async fn read(file: &Path) -> Result<String, ComputeError> {
    tokio::fs::read_to_string(file)
        .await
        .map_err(|source| ComputeError::Io { what: file.display().to_string(), source })
}

/// The `keyring` of a `ceph.conf`, the section of the user before `[client]` before `[global]`.
fn keyring_of(conf: &str, user: &str) -> Option<PathBuf> {
    let mine = format!("client.{user}");
    let value = [mine.as_str(), "client", "global"].iter().find_map(|s| setting(conf, s, "keyring"))?;
    let first = value.split(',').next()?.trim();
    Some(first.replace("$name", &mine).replace("$cluster", "ceph").replace("$id", user).into())
}

fn key_of<'a>(keyring: &'a str, user: &str) -> Option<&'a str> {
    setting(keyring, &format!("client.{user}"), "key")
}

fn setting<'a>(text: &'a str, section: &str, name: &str) -> Option<&'a str> {
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(head) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            inside = head.trim() == section;
        } else if inside
            && let Some((k, v)) = line.split_once('=')
            && k.trim().replace(' ', "_") == name
        {
            return Some(v.trim());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keyring_is_where_the_conf_says() {
        let conf = "[global]\nfsid = x\nkeyring = /d/$name.keyring\n[mon]\nkeyring = /d/mon/keyring\n";
        assert_eq!(keyring_of(conf, "admin"), Some("/d/client.admin.keyring".into()));
        let own = format!("{conf}[client.vms]\n keyring=/e/$cluster.client.$id\n");
        assert_eq!(keyring_of(&own, "vms"), Some("/e/ceph.client.vms".into()));
        assert_eq!(keyring_of("[mon]\nkeyring=/x\n", "admin"), None);
    }

    #[test]
    fn each_user_has_its_own_key() {
        let ring = "[client.a]\n\tkey = AAAA==\n\tcaps mon = \"allow *\"\n[client.b]\nkey=BBBB==\n";
        assert_eq!(key_of(ring, "a"), Some("AAAA=="));
        assert_eq!(key_of(ring, "b"), Some("BBBB=="));
        assert_eq!(key_of(ring, "c"), None);
    }
}
