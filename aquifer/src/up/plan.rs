//! The configuration of a cloud that `up` runs: everything follows from its directory and its engines.

use crate::cli::UpArgs;
use crate::cloud::Cloud;
use crate::config::{Bootstrap, Config, Listen, Services};
use crate::error::AquiferError;
use crate::secrets::{Secrets, write_private};
use compute::{Agent, AgentConfig, CephAccess};
use engines::Endpoints;
use objectstore::{PolicyConfig, Realm, SyncConfig, SyncKey};
use pool::{ClusterConfig, TierConfig};
use std::path::Path;
use std::sync::Arc;

/// The private cluster's name in tiers and on hosts.
const CLUSTER: &str = "ceph";

/// The pools that `engines` makes; each is a tier of the same name.
const TIERS: [&str; 5] = ["images", "volumes", "vms", "objects", "objects.index"];

/// Where the objects of the second storage policy are: a namespace in the pool of the first.
const SECOND_OBJECTS: &str = "objects.silver";

pub(super) fn config(
    args: &UpArgs,
    services: Services,
    secrets: &Secrets,
    dir: &Path,
    engines: &Endpoints,
) -> Config {
    let tier = |name: &&str| TierConfig {
        name: (*name).into(),
        cluster: CLUSTER.into(),
        pool: (*name).into(),
        data_pool: None,
        namespace: None,
    };
    let second_tier =
        TierConfig { name: SECOND_OBJECTS.into(), namespace: Some("silver".into()), ..tier(&"objects") };
    let mut cluster = ClusterConfig::new(CLUSTER, &engines.ceph_conf);
    cluster.user.clone_from(&engines.ceph_user);
    cluster.keyring = Some(engines.ceph_keyring.clone());
    let Services { trash_sweep_s, identity, mut image, volume, mut object, network, compute } = services;
    // A second store of images, so that there is something to try what is about several with.
    let mut stores = std::mem::take(&mut image.stores);
    if stores.is_empty() {
        stores.push("volumes".into());
    }
    // A second class of objects, for the same reason: beside the first in its pool.
    if object.policies == objectstore::Config::default().policies {
        object.policies.push(second_policy());
    }
    for policy in &mut object.policies {
        policy.index_tier.get_or_insert_with(|| "objects.index".into());
    }
    if object.sync == SyncConfig::default() {
        object.sync = in_step(args, secrets);
    }
    let database =
        args.database.clone().unwrap_or_else(|| format!("sqlite://{}", dir.join("aquifer.sqlite").display()));
    Config {
        node: "up".into(),
        database,
        listen: Listen { api: args.listen, s3: args.s3_listen, public_url: args.public_url.clone() },
        region: "RegionOne".into(),
        trash_sweep_s: trash_sweep_s.unwrap_or_else(crate::config::trash_sweep_s),
        clusters: vec![cluster],
        tiers: TIERS.iter().map(tier).chain([second_tier]).collect(),
        identity: identity::Config {
            token_keys: dir.join("token-keys"),
            jws_keys: dir.join("jws-keys"),
            credential_keys: dir.join("credential-keys"),
            ..identity
        },
        bootstrap: Bootstrap::default(),
        image: imagestore::Config { node: "up".into(), stores, ..image },
        volume: blockstore::Config { guest_user: engines.ceph_user.clone(), ..volume },
        object,
        network: netagent::Config {
            ovn_nb: format!("unix:{}", engines.nb_socket.display()),
            ovn_sb: format!("unix:{}", engines.sb_socket.display()),
            ..network
        },
        compute,
        agent: None,
    }
}

/// The storage policy `silver`, which S3 calls `STANDARD_IA`. OpenStack's integration tests look for its name.
fn second_policy() -> PolicyConfig {
    PolicyConfig {
        name: "silver".into(),
        tier: SECOND_OBJECTS.into(),
        index_tier: None,
        storage_class: "STANDARD_IA".into(),
        aliases: Vec::new(),
        deprecated: false,
    }
}

/// A realm of this cloud alone, so that its users can keep containers of theirs in step. The names are those that
/// OpenStack's integration tests look for.
fn in_step(args: &UpArgs, secrets: &Secrets) -> SyncConfig {
    let realm = Realm {
        name: "realm1".into(),
        key: SyncKey(secrets.sync_key.clone()),
        key2: SyncKey::default(),
        clusters: [("name1".to_owned(), format!("{}/v1/", controller(args)))].into(),
    };
    SyncConfig { realms: vec![realm], current: "realm1/name1".into(), ..SyncConfig::default() }
}

/// The host agent of this machine. It talks to the controller over HTTP like any other.
pub(super) async fn agent(
    args: &UpArgs,
    dir: &Path,
    engines: &Endpoints,
    cloud: &Cloud,
) -> Result<Arc<Agent>, AquiferError> {
    let host = engines.chassis.clone();
    let secret = cloud.compute.register_host(&host).await.map_err(AquiferError::service("the host agent"))?;
    let secret_file = dir.join("agent.secret");
    write_private(&secret_file, &format!("{}\n", secret.0))?;
    let kvm = engines::kvm_works(dir).await?;
    let config = AgentConfig {
        controller: controller(args),
        host,
        secret_file,
        libvirt_uri: engines.libvirt_uri.clone(),
        ceph: vec![CephAccess {
            name: CLUSTER.into(),
            conf: engines.ceph_conf.clone(),
            user: engines.ceph_user.clone(),
            keyring: Some(engines.ceph_keyring.clone()),
        }],
        state_dir: dir.join("agent"),
        accelerator: compute::Accelerator::Auto,
        kvm_works: kvm.works,
        cpu: None,
        reserved_memory_mib: 1024,
        address: engines.netns_address.to_string(),
        bridge: "br-int".into(),
        ovs: format!("unix:{}", engines.ovs_socket.display()),
        network_namespace: Some(engines.netns.clone()),
        spare_ports: 12,
    };
    Agent::new(config).await.map(Arc::new).map_err(AquiferError::service("the host agent"))
}

/// This process's own listener, whatever address it has to the outside.
fn controller(args: &UpArgs) -> String {
    let mut address = args.listen;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{address}")
}
