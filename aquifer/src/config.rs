//! The configuration of a process: one TOML file, each table read by the crate it is for. Unknown keys are
//! refused with their name and line. `aquifer config` prints [`EXAMPLE`], which a test keeps true.

use crate::error::AquiferError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::Path;

/// Every key with its meaning.
pub(crate) const EXAMPLE: &str = include_str!("config/example.toml");

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// This process's name: stable over its restarts, unlike any other process's of the cloud.
    pub(crate) node: String,
    /// `sqlite:///path/to/file` or `postgres://user@host/database`.
    pub(crate) database: String,
    #[serde(default)]
    pub(crate) listen: Listen,
    /// The region all endpoints are listed in.
    #[serde(default = "region")]
    pub(crate) region: String,
    /// Seconds between two sweeps of RBD's trash, for what removals that were cut short have left there.
    #[serde(default = "trash_sweep_s")]
    pub(crate) trash_sweep_s: u64,
    /// Ceph clusters, `[[cluster]]`.
    #[serde(rename = "cluster", default)]
    pub(crate) clusters: Vec<pool::ClusterConfig>,
    /// Places in them, `[[tier]]`.
    #[serde(rename = "tier", default)]
    pub(crate) tiers: Vec<pool::TierConfig>,
    #[serde(default)]
    pub(crate) identity: identity::Config,
    #[serde(default)]
    pub(crate) bootstrap: Bootstrap,
    #[serde(default)]
    pub(crate) image: imagestore::Config,
    #[serde(default)]
    pub(crate) volume: blockstore::Config,
    #[serde(default)]
    pub(crate) object: objectstore::Config,
    #[serde(default)]
    pub(crate) network: netagent::Config,
    #[serde(default)]
    pub(crate) compute: compute::Config,
    /// Needed by the role `agent` alone.
    #[serde(default)]
    pub(crate) agent: Option<compute::AgentConfig>,
}

/// The tables of a file for `up`: the services' own. Where things are, `up` knows itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Services {
    /// As in [`Config`].
    pub(crate) trash_sweep_s: Option<u64>,
    pub(crate) identity: identity::Config,
    pub(crate) image: imagestore::Config,
    pub(crate) volume: blockstore::Config,
    pub(crate) object: objectstore::Config,
    pub(crate) network: netagent::Config,
    pub(crate) compute: compute::Config,
}

/// Where this process listens, and how clients reach it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Listen {
    /// The OpenStack APIs.
    pub(crate) api: SocketAddr,
    /// S3.
    pub(crate) s3: SocketAddr,
    /// The address of the APIs as clients see it; every link and catalogue entry begins with it.
    /// Default: `http://` and the listener's own address.
    pub(crate) public_url: Option<String>,
}

impl Default for Listen {
    fn default() -> Self {
        Listen {
            api: SocketAddr::from(([127, 0, 0, 1], 5000)),
            s3: SocketAddr::from(([127, 0, 0, 1], 7480)),
            public_url: None,
        }
    }
}

impl Listen {
    pub(crate) fn base_url(&self) -> String {
        self.public_url.clone().unwrap_or_else(|| format!("http://{}", self.api))
    }
}

/// What the role `api` makes sure exists when it starts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Bootstrap {
    /// A file whose first line is the password of the user `admin`. Without it nothing is made.
    pub(crate) admin_password_file: Option<std::path::PathBuf>,
}

pub(crate) fn trash_sweep_s() -> u64 {
    600
}

fn region() -> String {
    "RegionOne".into()
}

impl Config {
    pub(crate) fn read(file: &Path) -> Result<Config, AquiferError> {
        read(file)
    }
}

impl Services {
    pub(crate) fn read(file: &Path) -> Result<Services, AquiferError> {
        read(file)
    }
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<T, AquiferError> {
    let text = std::fs::read_to_string(file).map_err(|e| AquiferError::file(file, e))?;
    toml::from_str(&text).map_err(|e| AquiferError::Config(format!("{}: {e}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, toml::de::Error> {
        toml::from_str(text)
    }

    /// The lines of the example with their keys uncommented: `#key = value` is a key, `# text` is prose.
    fn uncommented() -> String {
        let line = |l: &str| match l.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => key.to_owned(),
            _ => l.to_owned(),
        };
        EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_example_is_accepted_as_printed_and_with_every_key() {
        parse(EXAMPLE).unwrap();
        parse(&uncommented()).unwrap();
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        for (table, key) in
            [("", "nod"), ("[listen]\n", "apy"), ("[identity]\n", "lifetime"), ("[volume]\n", "x")]
        {
            let text = format!("node = \"n\"\ndatabase = \"sqlite:///x\"\n{table}{key} = 1\n");
            let e = parse(&text).unwrap_err().to_string();
            assert!(e.contains(key), "{e}");
        }
        assert!(toml::from_str::<Services>("[image]\nmd5_checksum = false\n").is_ok());
        assert!(toml::from_str::<Services>("[listen]\n").is_err());
    }
}
