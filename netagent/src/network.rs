//! Networks: who may make, see, change and delete them, and what comes and goes with one.
//!
//! Every network has a metadata port (`network:distributed`) from its first moment: OVN's localport, through
//! which each hypervisor answers 169.254.169.254. It goes with the network.

use state::Tx;

use crate::error::Noun;
use crate::model::{FloatingIp, Meta, Network, NetworkType, Port, Subnet, owner};
use crate::ovn::Unit;
use crate::service::{check_revision, owned_by};
use crate::store::{self, addresses, is_conflict};
use crate::{Context, NetError, Networks, port, quota};

/// Tunnel ids, as upstream's default `vni_ranges` has them.
const VNI_MAX: i64 = 65_536;
const VLAN_MAX: i64 = 4094;

/// What a request may set; absent is unchanged, or the default.
#[derive(Debug, Clone, Default)]
pub struct NetworkFields {
    pub project_id: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub admin_state_up: Option<bool>,
    pub shared: Option<bool>,
    pub external: Option<bool>,
    pub is_default: Option<bool>,
    pub mtu: Option<i64>,
    pub port_security_enabled: Option<bool>,
    pub network_type: Option<NetworkType>,
    pub physical_network: Option<String>,
    pub segmentation_id: Option<i64>,
    pub dns_domain: Option<String>,
    pub availability_zone_hints: Option<Vec<String>>,
}

impl NetworkFields {
    fn has_provider(&self) -> bool {
        self.network_type.is_some() || self.physical_network.is_some() || self.segmentation_id.is_some()
    }
}

/// What the rules know of a network.
pub(crate) fn target(network: &Network) -> Vec<(&'static str, String)> {
    let flag = |b: bool| if b { "True" } else { "False" }.to_owned();
    let mut target = owned_by(&network.meta.project_id);
    target.push(("network:project_id", network.meta.project_id.clone()));
    target.push(("shared", flag(network.shared)));
    target.push(("router:external", flag(network.external)));
    target
}

impl Networks {
    /// The network, if the caller may see it.
    pub async fn network(&self, ctx: &Context, id: &str) -> Result<Network, NetError> {
        let found = store::get::<Network>(self.db().read(), id).await?;
        self.authorised(ctx, found, id, ("get_network", "get_network"), target)
    }

    /// Every network that the caller may see.
    pub async fn networks(&self, ctx: &Context) -> Result<Vec<Network>, NetError> {
        if self.allows(ctx, "admin_only", &[]) || self.allows(ctx, "service_role", &[]) {
            return store::find(self.db().read(), "1 = 1", &[]).await;
        }
        let project = ctx.project().map_or("", |p| p.id.as_str());
        store::find(self.db().read(), "project_id = $1 OR shared = '1' OR external = '1'", &[project]).await
    }

    /// The networks that a server of the caller's project may be put on without being told: its own and the
    /// shared ones, not the external ones of others.
    pub async fn project_networks(&self, ctx: &Context) -> Result<Vec<Network>, NetError> {
        let project = ctx.project().map_or("", |p| p.id.as_str());
        store::find(self.db().read(), "project_id = $1 OR (shared = '1' AND external = '0')", &[project])
            .await
    }

    pub async fn create_network(&self, ctx: &Context, fields: NetworkFields) -> Result<Network, NetError> {
        let project = self.owner(ctx, fields.project_id.as_deref())?;
        let own: Vec<(&str, &str)> = vec![("project_id", &project)];
        self.enforce(ctx, "create_network", &own)?;
        self.check_admin_attributes(ctx, "create_network", &fields, &own)?;
        let mut tx = self.db().begin().await?;
        quota::spend(&mut tx, &project, "network", 1).await?;
        let (network_type, segmentation_id) = place(&mut tx, &fields).await?;
        let physical = matches!(network_type, NetworkType::Flat | NetworkType::Vlan);
        let limit = if physical { self.config().physical_mtu } else { self.config().overlay_mtu };
        let network = Network {
            meta: Meta {
                name: fields.name.unwrap_or_default(),
                description: fields.description.unwrap_or_default(),
                revision_number: 1,
                ..Meta::new(&project)
            },
            admin_state_up: fields.admin_state_up.unwrap_or(true),
            shared: fields.shared.unwrap_or(false),
            external: fields.external.unwrap_or(false),
            is_default: fields.is_default.unwrap_or(false),
            mtu: check_mtu(fields.mtu, limit)?,
            port_security_enabled: fields.port_security_enabled.unwrap_or(true),
            network_type,
            physical_network: fields.physical_network,
            segmentation_id,
            dns_domain: fields.dns_domain.unwrap_or_default(),
            availability_zone_hints: fields.availability_zone_hints.unwrap_or_default(),
        };
        store::insert(&mut tx, &network)
            .await
            .map_err(|e| if is_conflict(&e) { segment_in_use(&network) } else { e })?;
        let metadata = metadata_port(&network);
        store::insert(&mut tx, &metadata).await?;
        self.commit(tx, vec![Unit::Network(network.meta.id.clone()), Unit::Port(metadata.meta.id)]).await?;
        Ok(network)
    }

    pub async fn update_network(
        &self,
        ctx: &Context,
        id: &str,
        fields: NetworkFields,
        revision: Option<i64>,
    ) -> Result<Network, NetError> {
        let mut tx = self.db().begin().await?;
        let found = store::get_locked::<Network>(&mut tx, id).await?;
        let mut network = self.authorised(ctx, found, id, ("get_network", "update_network"), target)?;
        check_revision(&network, revision)?;
        let own: Vec<(&str, &str)> = vec![("project_id", &network.meta.project_id)];
        self.check_admin_attributes(ctx, "update_network", &fields, &own)?;
        if fields.has_provider() {
            return Err(NetError::invalid_input("Plugin does not support updating provider attributes"));
        }
        if network.shared && fields.shared == Some(false) {
            used_by_others(&mut tx, &network).await?;
        }
        if network.external && fields.external == Some(false) {
            no_gateways(&mut tx, id).await?;
        }
        let limit = match network.network_type {
            NetworkType::Flat | NetworkType::Vlan => self.config().physical_mtu,
            NetworkType::Geneve | NetworkType::Local => self.config().overlay_mtu,
        };
        if fields.mtu.is_some() {
            network.mtu = check_mtu(fields.mtu, limit)?;
        }
        set(&mut network.meta.name, fields.name);
        set(&mut network.meta.description, fields.description);
        set(&mut network.admin_state_up, fields.admin_state_up);
        set(&mut network.shared, fields.shared);
        set(&mut network.external, fields.external);
        set(&mut network.is_default, fields.is_default);
        set(&mut network.port_security_enabled, fields.port_security_enabled);
        set(&mut network.dns_domain, fields.dns_domain);
        store::update(&mut tx, &mut network).await?;
        self.commit(tx, vec![Unit::Network(id.to_owned())]).await?;
        Ok(network)
    }

    /// Deletes a network with its subnets. Ports that only serve the network itself go with it, and so do floating
    /// IPs that nobody uses; any other port holds it back.
    pub async fn delete_network(
        &self,
        ctx: &Context,
        id: &str,
        revision: Option<i64>,
    ) -> Result<(), NetError> {
        let mut tx = self.db().begin().await?;
        let found = store::get_locked::<Network>(&mut tx, id).await?;
        let network = self.authorised(ctx, found, id, ("get_network", "delete_network"), target)?;
        check_revision(&network, revision)?;
        let ports = store::find::<Port>(tx.conn(), "network_id = $1", &[id]).await?;
        let idle =
            store::find::<FloatingIp>(tx.conn(), "floating_network_id = $1 AND port_id IS NULL", &[id])
                .await?;
        let goes = |port: &Port| {
            owner::AUTO_DELETE.contains(&port.device_owner.as_str())
                || idle.iter().any(|fip| fip.floating_port_id == port.meta.id)
        };
        if !ports.iter().all(goes) {
            return Err(NetError::network_in_use(id));
        }
        for fip in &idle {
            store::delete::<FloatingIp>(&mut tx, &fip.meta.id).await?;
        }
        let mut units = vec![Unit::Network(id.to_owned())];
        for port in ports {
            port::erase(&mut tx, &port.meta.id).await?;
            units.push(Unit::Port(port.meta.id));
        }
        for subnet in store::find::<Subnet>(tx.conn(), "network_id = $1", &[id]).await? {
            store::delete::<Subnet>(&mut tx, &subnet.meta.id).await?;
        }
        store::delete::<Network>(&mut tx, id)
            .await
            .map_err(|e| if is_conflict(&e) { NetError::network_in_use(id) } else { e })?;
        self.commit(tx, units).await
    }

    fn check_admin_attributes(
        &self,
        ctx: &Context,
        action: &str,
        fields: &NetworkFields,
        target: api::policy::Target<'_>,
    ) -> Result<(), NetError> {
        let creating = action == "create_network";
        let asked = |value: Option<bool>| value.is_some_and(|v| v || !creating);
        for (given, attribute) in [
            (asked(fields.shared), "shared"),
            (asked(fields.external), "router:external"),
            (asked(fields.is_default), "is_default"),
            (fields.has_provider(), "provider"),
        ] {
            if given {
                self.enforce(ctx, &format!("{action}:{attribute}"), target)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn check_mtu(asked: Option<i64>, limit: i64) -> Result<i64, NetError> {
    match asked {
        None | Some(0) => Ok(limit),
        Some(mtu) if mtu > limit => {
            Err(NetError::invalid_input(format!("Requested MTU is too big, maximum is {limit}")))
        }
        Some(mtu) => Ok(mtu),
    }
}

/// What kind of network the provider attributes ask for; its tunnel id or tag.
async fn place(tx: &mut Tx, fields: &NetworkFields) -> Result<(NetworkType, Option<i64>), NetError> {
    let kind = fields.network_type.unwrap_or(NetworkType::Geneve);
    if fields.network_type.is_none()
        && (fields.physical_network.is_some() || fields.segmentation_id.is_some())
    {
        return Err(NetError::invalid_input("network_type required"));
    }
    let physical = fields.physical_network.is_some();
    match kind {
        NetworkType::Flat if !physical => {
            Err(NetError::invalid_input("physical_network required for flat provider network"))
        }
        NetworkType::Flat if fields.segmentation_id.is_some() => {
            Err(NetError::invalid_input("segmentation_id prohibited for flat provider network"))
        }
        NetworkType::Flat => Ok((kind, None)),
        NetworkType::Vlan => match fields.segmentation_id {
            _ if !physical => {
                Err(NetError::invalid_input("physical_network required for VLAN provider network"))
            }
            Some(tag) if (1..=VLAN_MAX).contains(&tag) => Ok((kind, Some(tag))),
            Some(tag) => Err(NetError::invalid_input(format!(
                "segmentation_id out of range (1 through {VLAN_MAX}): {tag}"
            ))),
            None => Err(NetError::invalid_input("segmentation_id required for VLAN provider network")),
        },
        NetworkType::Local if physical || fields.segmentation_id.is_some() => Err(NetError::invalid_input(
            "physical_network and segmentation_id prohibited for local provider network",
        )),
        NetworkType::Local => Ok((kind, None)),
        NetworkType::Geneve if physical => {
            Err(NetError::invalid_input("provider:physical_network specified for geneve network"))
        }
        NetworkType::Geneve => match fields.segmentation_id {
            Some(id) if (1..=VNI_MAX).contains(&id) => Ok((kind, Some(id))),
            Some(id) => Err(NetError::invalid_input(format!(
                "segmentation_id out of range (1 through {VNI_MAX}): {id}"
            ))),
            None => Ok((kind, Some(free_vni(tx).await?))),
        },
    }
}

/// A tunnel id that no network has. Few are taken, so a random one is nearly always free.
async fn free_vni(tx: &mut Tx) -> Result<i64, NetError> {
    tx.lock("net-segments").await?;
    for _ in 0..64 {
        let id = rand::random_range(1..=VNI_MAX);
        let taken =
            store::count(tx.conn(), "net_networks", "segment = $1", &[&format!("geneve//{id}")]).await?;
        if taken == 0 {
            return Ok(id);
        }
    }
    Err(NetError::refused(
        503,
        "NoNetworkAvailable",
        "Unable to create the network. No tenant network is available for allocation.",
    ))
}

fn segment_in_use(network: &Network) -> NetError {
    let physical = network.physical_network.as_deref().unwrap_or("");
    match (network.network_type, network.segmentation_id) {
        (NetworkType::Flat, _) => NetError::refused(
            409,
            "FlatNetworkInUse",
            format!("Unable to create the flat network. Physical network {physical} is in use."),
        ),
        (NetworkType::Vlan, Some(tag)) => NetError::refused(
            409,
            "VlanIdInUse",
            format!("Unable to create the network. The VLAN {tag} on physical network {physical} is in use."),
        ),
        (_, id) => NetError::refused(
            409,
            "TunnelIdInUse",
            format!("Unable to create the network. The tunnel ID {} is in use.", id.unwrap_or_default()),
        ),
    }
}

fn metadata_port(network: &Network) -> Port {
    let meta = Meta { revision_number: 1, ..Meta::new(&network.meta.project_id) };
    Port {
        network_id: network.meta.id.clone(),
        mac_address: crate::ovn::rows::mac_of(&meta.id),
        admin_state_up: true,
        device_id: format!("ovnmeta-{}", network.meta.id),
        device_owner: owner::METADATA.to_owned(),
        fixed_ips: Vec::new(),
        security_groups: Vec::new(),
        allowed_address_pairs: Vec::new(),
        port_security_enabled: false,
        extra_dhcp_opts: Vec::new(),
        dns_name: String::new(),
        host_id: String::new(),
        vnic_type: "normal".to_owned(),
        profile: std::collections::BTreeMap::default(),
        up: false,
        meta,
    }
}

async fn used_by_others(tx: &mut Tx, network: &Network) -> Result<(), NetError> {
    let condition =
        "network_id = $1 AND project_id <> $2 AND project_id <> '' AND device_owner NOT LIKE 'network:%'";
    let others =
        store::count(tx.conn(), "net_ports", condition, &[&network.meta.id, &network.meta.project_id])
            .await?;
    if others == 0 {
        return Ok(());
    }
    Err(NetError::refused(
        409,
        "InvalidSharedSetting",
        format!(
            "Unable to reconfigure sharing settings for network {}. Multiple tenants are using it.",
            network.meta.id
        ),
    ))
}

async fn no_gateways(tx: &mut Tx, id: &str) -> Result<(), NetError> {
    let condition = "network_id = $1 AND device_owner IN ('network:router_gateway', 'network:floatingip')";
    if store::count(tx.conn(), "net_ports", condition, &[id]).await? == 0 {
        return Ok(());
    }
    Err(NetError::refused(
        409,
        "ExternalNetworkInUse",
        format!(
            "External network {id} cannot be updated to be made non-external, since it has existing gateway ports."
        ),
    ))
}

/// The network of a port or a subnet that is being made, locked, if the caller may see it.
pub(crate) async fn lock_visible(
    networks: &Networks,
    ctx: &Context,
    tx: &mut Tx,
    id: &str,
) -> Result<Network, NetError> {
    let found = store::get_locked::<Network>(tx, id).await?;
    networks.authorised(ctx, found, id, ("get_network", "get_network"), target)
}

/// The metadata port of a network.
pub(crate) async fn metadata_port_of(tx: &mut Tx, network: &str) -> Result<Option<Port>, NetError> {
    let condition = "network_id = $1 AND device_owner = 'network:distributed'";
    Ok(store::find::<Port>(tx.conn(), condition, &[network]).await?.into_iter().next())
}

/// Who holds an address, for a message-free look-up by the metadata service.
pub(crate) async fn holder_of(
    networks: &Networks,
    network: &str,
    ip: std::net::IpAddr,
) -> Result<Option<Port>, NetError> {
    match addresses::holder(networks.db().read(), network, ip).await? {
        Some(port) => store::get(networks.db().read(), &port).await,
        None => Ok(None),
    }
}

/// The network of an id that is known to exist.
pub(crate) async fn expect(tx: &mut Tx, id: &str) -> Result<Network, NetError> {
    store::get(tx.conn(), id).await?.ok_or_else(|| Noun::Network.not_found(id))
}
