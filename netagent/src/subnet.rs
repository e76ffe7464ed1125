//! Subnets: an address range of a network, with its pools and what DHCP tells guests.

use std::net::IpAddr;

use ipnet::IpNet;
use state::Tx;

use crate::ipam::{self, WantedIp};
use crate::model::{FixedIp, HostRoute, Meta, Network, Pool, Port, Subnet, owner};
use crate::network::{self, set};
use crate::ovn::Unit;
use crate::service::check_revision;
use crate::store::{self, addresses, is_conflict};
use crate::{Context, NetError, Networks, quota};

const MAX_NAMESERVERS: usize = 5;
const MAX_ROUTES: usize = 20;

/// What a request may set; absent is unchanged, or the default.
#[derive(Debug, Clone, Default)]
pub struct SubnetFields {
    pub project_id: Option<String>,
    pub network_id: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub ip_version: Option<i64>,
    pub cidr: Option<IpNet>,
    /// `Some(None)` is explicitly none.
    pub gateway_ip: Option<Option<IpAddr>>,
    pub enable_dhcp: Option<bool>,
    pub allocation_pools: Option<Vec<Pool>>,
    pub dns_nameservers: Option<Vec<IpAddr>>,
    pub host_routes: Option<Vec<HostRoute>>,
    pub ipv6_ra_mode: Option<String>,
    pub ipv6_address_mode: Option<String>,
    pub service_types: Option<Vec<String>>,
    pub dns_publish_fixed_ip: Option<bool>,
}

/// What the rules know of a subnet: whose it is, and what its network is.
fn target(subnet: &Subnet, network: &Network) -> Vec<(&'static str, String)> {
    let mut target = network::target(network);
    target.retain(|(key, _)| *key != "project_id");
    target.push(("project_id", subnet.meta.project_id.clone()));
    target
}

impl Networks {
    /// The subnet, if the caller may see it.
    pub async fn subnet(&self, ctx: &Context, id: &str) -> Result<Subnet, NetError> {
        let found = store::get::<Subnet>(self.db().read(), id).await?;
        let network = match &found {
            Some(subnet) => store::get::<Network>(self.db().read(), &subnet.network_id).await?,
            None => None,
        };
        self.authorised(ctx, found, id, ("get_subnet", "get_subnet"), |subnet| {
            network.map(|n| target(subnet, &n)).unwrap_or_default()
        })
    }

    /// Every subnet of the networks that the caller may see.
    pub async fn subnets(&self, ctx: &Context) -> Result<Vec<Subnet>, NetError> {
        if self.allows(ctx, "admin_only", &[]) || self.allows(ctx, "service_role", &[]) {
            return store::find(self.db().read(), "1 = 1", &[]).await;
        }
        let project = ctx.project().map_or("", |p| p.id.as_str());
        let condition = "project_id = $1 OR network_id IN (SELECT id FROM net_networks \
             WHERE project_id = $1 OR shared = '1' OR external = '1')";
        store::find(self.db().read(), condition, &[project]).await
    }

    /// The subnets of one network, for views that the caller may already see.
    pub async fn subnets_of(&self, network: &str) -> Result<Vec<Subnet>, NetError> {
        let mut subnets = store::find::<Subnet>(self.db().read(), "network_id = $1", &[network]).await?;
        subnets.sort_by_key(|s| s.meta.created_at);
        Ok(subnets)
    }

    pub async fn create_subnet(&self, ctx: &Context, fields: SubnetFields) -> Result<Subnet, NetError> {
        let mut tx = self.db().begin().await?;
        let network_id = fields.network_id.clone().unwrap_or_default();
        let network = network::lock_visible(self, ctx, &mut tx, &network_id).await?;
        let owned = network::target(&network);
        let known: Vec<(&str, &str)> = owned.iter().map(|(k, v)| (*k, v.as_str())).collect();
        self.enforce(ctx, "create_subnet", &known)?;
        if fields.service_types.as_ref().is_some_and(|t| !t.is_empty()) {
            self.enforce(ctx, "create_subnet:service_types", &known)?;
        }
        let project = match fields.project_id.as_deref() {
            Some(asked) => self.owner(ctx, Some(asked))?,
            None => ctx.project().map_or_else(|| network.meta.project_id.clone(), |p| p.id.clone()),
        };
        quota::spend(&mut tx, &project, "subnet", 1).await?;
        let subnet = build(&project, &network, fields)?;
        no_overlap(&mut tx, &subnet).await?;
        store::insert(&mut tx, &subnet).await?;
        let mut units = vec![Unit::Network(network_id.clone())];
        units.extend(serve_metadata(&mut tx, &network, &subnet).await?);
        self.commit(tx, units).await?;
        Ok(subnet)
    }

    pub async fn update_subnet(
        &self,
        ctx: &Context,
        id: &str,
        fields: SubnetFields,
        revision: Option<i64>,
    ) -> Result<Subnet, NetError> {
        let mut tx = self.db().begin().await?;
        let (mut subnet, network) = self.lock_subnet(ctx, &mut tx, id, "update_subnet").await?;
        check_revision(&subnet, revision)?;
        let gateway = fields.gateway_ip.unwrap_or(subnet.gateway_ip);
        if gateway != subnet.gateway_ip {
            check_gateway(&subnet.cidr, gateway)?;
            gateway_is_free(&mut tx, &subnet).await?;
            if fields.allocation_pools.is_none() {
                ipam::check_pools(&subnet.cidr, gateway, &subnet.allocation_pools)?;
            }
        }
        if let Some(pools) = &fields.allocation_pools {
            ipam::check_pools(&subnet.cidr, gateway, pools)?;
        }
        let before = subnet.clone();
        subnet.gateway_ip = gateway;
        set(&mut subnet.meta.name, fields.name);
        set(&mut subnet.meta.description, fields.description);
        set(&mut subnet.enable_dhcp, fields.enable_dhcp);
        set(&mut subnet.allocation_pools, fields.allocation_pools);
        set(&mut subnet.dns_nameservers, fields.dns_nameservers);
        set(&mut subnet.host_routes, fields.host_routes);
        set(&mut subnet.service_types, fields.service_types);
        set(&mut subnet.dns_publish_fixed_ip, fields.dns_publish_fixed_ip);
        check_options(&subnet)?;
        store::update(&mut tx, &mut subnet).await?;
        let mut units = vec![Unit::Network(network.meta.id.clone())];
        if before.enable_dhcp != subnet.enable_dhcp {
            units.extend(serve_metadata(&mut tx, &network, &subnet).await?);
            // ports refer to the options row that comes or goes
            let condition = "id IN (SELECT port_id FROM net_addresses WHERE subnet_id = $1)";
            let ports = store::find::<Port>(tx.conn(), condition, &[id]).await?;
            units.extend(ports.into_iter().map(|p| Unit::Port(p.meta.id)));
        }
        units.extend(routers_on(&mut tx, id).await?);
        self.commit(tx, units).await?;
        Ok(subnet)
    }

    /// Deletes a subnet that no port has an address of, but those that serve the network itself.
    pub async fn delete_subnet(
        &self,
        ctx: &Context,
        id: &str,
        revision: Option<i64>,
    ) -> Result<(), NetError> {
        let mut tx = self.db().begin().await?;
        let (subnet, network) = self.lock_subnet(ctx, &mut tx, id, "delete_subnet").await?;
        check_revision(&subnet, revision)?;
        let condition = "id IN (SELECT port_id FROM net_addresses WHERE subnet_id = $1)";
        let mut units = vec![Unit::Network(network.meta.id)];
        for mut port in store::find::<Port>(tx.conn(), condition, &[id]).await? {
            let slaac_only = subnet.is_slaac() && !owner::is_router(&port.device_owner);
            if !owner::AUTO_DELETE.contains(&port.device_owner.as_str()) && !slaac_only {
                return Err(NetError::subnet_in_use(id));
            }
            port.fixed_ips.retain(|f| f.subnet_id != id);
            addresses::release_all(&mut tx, &port.meta.id).await?;
            for fixed in &port.fixed_ips {
                addresses::take(&mut tx, &port.meta.id, &port.network_id, fixed).await?;
            }
            store::update(&mut tx, &mut port).await?;
            units.push(Unit::Port(port.meta.id));
        }
        store::delete::<Subnet>(&mut tx, id)
            .await
            .map_err(|e| if is_conflict(&e) { NetError::subnet_in_use(id) } else { e })?;
        self.commit(tx, units).await
    }

    async fn lock_subnet(
        &self,
        ctx: &Context,
        tx: &mut Tx,
        id: &str,
        action: &str,
    ) -> Result<(Subnet, Network), NetError> {
        let found = store::get::<Subnet>(tx.conn(), id).await?;
        let Some(seen) = &found else { return Err(crate::Noun::Subnet.not_found(id)) };
        let network = store::get_locked::<Network>(tx, &seen.network_id)
            .await?
            .ok_or_else(|| crate::Noun::Subnet.not_found(id))?;
        // again, now that nobody else changes it
        let found = store::get::<Subnet>(tx.conn(), id).await?;
        let subnet = self.authorised(ctx, found, id, ("get_subnet", action), |s| target(s, &network))?;
        Ok((subnet, network))
    }
}

fn build(project: &str, network: &Network, fields: SubnetFields) -> Result<Subnet, NetError> {
    let cidr = fields
        .cidr
        .ok_or_else(|| NetError::bad("subnets", "a subnetpool must be specified in the absence of a cidr"))?
        .trunc();
    let version: i64 = if cidr.addr().is_ipv4() { 4 } else { 6 };
    if fields.ip_version.is_some_and(|asked| asked != version) {
        return Err(NetError::invalid_input(format!(
            "cidr '{cidr}' does not match the ip_version '{}'",
            fields.ip_version.unwrap_or_default()
        )));
    }
    let gateway_ip = match fields.gateway_ip {
        Some(gateway) => gateway,
        None if ipam::is_point_to_point(&cidr) => Some(cidr.network()),
        None => ipam::plus(cidr.network(), 1),
    };
    check_gateway(&cidr, gateway_ip)?;
    let allocation_pools = match fields.allocation_pools {
        Some(pools) => {
            ipam::check_pools(&cidr, gateway_ip, &pools)?;
            pools
        }
        None => ipam::default_pools(&cidr, gateway_ip),
    };
    let subnet = Subnet {
        meta: Meta {
            name: fields.name.unwrap_or_default(),
            description: fields.description.unwrap_or_default(),
            ..Meta::new(project)
        },
        network_id: network.meta.id.clone(),
        cidr,
        gateway_ip,
        enable_dhcp: fields.enable_dhcp.unwrap_or(true),
        allocation_pools,
        dns_nameservers: fields.dns_nameservers.unwrap_or_default(),
        host_routes: fields.host_routes.unwrap_or_default(),
        ipv6_ra_mode: fields.ipv6_ra_mode,
        ipv6_address_mode: fields.ipv6_address_mode,
        service_types: fields.service_types.unwrap_or_default(),
        dns_publish_fixed_ip: fields.dns_publish_fixed_ip.unwrap_or(false),
    };
    check_options(&subnet)?;
    Ok(subnet)
}

fn check_gateway(cidr: &IpNet, gateway: Option<IpAddr>) -> Result<(), NetError> {
    let Some(gateway) = gateway else { return Ok(()) };
    let wrong_version = gateway.is_ipv4() != cidr.addr().is_ipv4();
    if wrong_version {
        return Err(NetError::invalid_input(format!(
            "gateway_ip '{gateway}' does not match the ip_version '{}'",
            if cidr.addr().is_ipv4() { 4 } else { 6 }
        )));
    }
    if gateway.is_ipv4() && !ipam::is_point_to_point(cidr) && ipam::is_edge(cidr, gateway) {
        return Err(NetError::invalid_input("Gateway is not valid on subnet"));
    }
    Ok(())
}

fn check_options(subnet: &Subnet) -> Result<(), NetError> {
    let version = subnet.ip_version();
    let of_version = |ip: &IpAddr| ip.is_ipv4() == (version == 4);
    if subnet.dns_nameservers.len() > MAX_NAMESERVERS {
        return Err(NetError::refused(
            400,
            "DNSNameServersExhausted",
            format!(
                "Unable to complete operation for {}. The number of DNS nameservers exceeds the limit {MAX_NAMESERVERS}.",
                subnet.meta.id
            ),
        ));
    }
    let mut seen = std::collections::HashSet::new();
    if !subnet.dns_nameservers.iter().all(|ip| seen.insert(ip)) {
        return Err(NetError::bad_request(
            "Invalid input for dns_nameservers. Reason: duplicate nameservers.",
        ));
    }
    if subnet.host_routes.len() > MAX_ROUTES {
        return Err(NetError::refused(
            400,
            "HostRoutesExhausted",
            format!(
                "Unable to complete operation for {}. The number of host routes exceeds the limit {MAX_ROUTES}.",
                subnet.meta.id
            ),
        ));
    }
    if !subnet.host_routes.iter().all(|r| of_version(&r.nexthop)) {
        return Err(NetError::invalid_input("host_routes do not match the ip_version"));
    }
    let modes = [subnet.ipv6_ra_mode.as_deref(), subnet.ipv6_address_mode.as_deref()];
    if modes.iter().any(Option::is_some) {
        if version == 4 {
            return Err(NetError::invalid_input("ipv6_ra_mode is not valid when ip_version is 4"));
        }
        if !subnet.enable_dhcp {
            return Err(NetError::invalid_input(
                "ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False",
            ));
        }
        if let (Some(ra), Some(address)) = (modes[0], modes[1])
            && ra != address
        {
            return Err(NetError::invalid_input(format!(
                "ipv6_ra_mode set to '{ra}' with ipv6_address_mode set to '{address}' is not valid. If both attributes are set, they must be the same value"
            )));
        }
        if subnet.is_slaac() && subnet.cidr.prefix_len() != 64 {
            return Err(NetError::invalid_input(format!(
                "Invalid CIDR {} for IPv6 address mode. OpenStack uses the EUI-64 address format, which requires the prefix to be /64",
                subnet.cidr
            )));
        }
    }
    Ok(())
}

async fn no_overlap(tx: &mut Tx, subnet: &Subnet) -> Result<(), NetError> {
    let overlaps = |other: &Subnet| {
        other.cidr.contains(&subnet.cidr.network()) || subnet.cidr.contains(&other.cidr.network())
    };
    match ipam::subnets_of(tx, &subnet.network_id).await?.iter().find(|s| overlaps(s)) {
        Some(_) => Err(NetError::invalid_input(format!(
            "Requested subnet with cidr: {} for network: {} overlaps with another subnet",
            subnet.cidr, subnet.network_id
        ))),
        None => Ok(()),
    }
}

/// Gives the network's metadata port an address in an IPv4 subnet with DHCP, and takes it away without.
async fn serve_metadata(tx: &mut Tx, network: &Network, subnet: &Subnet) -> Result<Option<Unit>, NetError> {
    let Some(mut port) = network::metadata_port_of(tx, &network.meta.id).await? else { return Ok(None) };
    let has = port.fixed_ips.iter().any(|f| f.subnet_id == subnet.meta.id);
    let should = subnet.enable_dhcp && subnet.ip_version() == 4;
    match (has, should) {
        (false, true) => {
            let wanted = [WantedIp { subnet_id: Some(subnet.meta.id.clone()), ip_address: None }];
            match ipam::allocate(tx, network, std::slice::from_ref(subnet), &port, Some(&wanted)).await {
                Ok(mut taken) => port.fixed_ips.append(&mut taken),
                // A pool without an address to spare serves no metadata.
                Err(NetError::Refused(r)) if r.kind == "IpAddressGenerationFailure" => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        (true, false) => {
            let keep: Vec<FixedIp> =
                port.fixed_ips.iter().filter(|f| f.subnet_id != subnet.meta.id).cloned().collect();
            addresses::release_all(tx, &port.meta.id).await?;
            for fixed in &keep {
                addresses::take(tx, &port.meta.id, &network.meta.id, fixed).await?;
            }
            port.fixed_ips = keep;
        }
        _ => return Ok(None),
    }
    store::update(tx, &mut port).await?;
    Ok(Some(Unit::Port(port.meta.id)))
}

async fn gateway_is_free(tx: &mut Tx, subnet: &Subnet) -> Result<(), NetError> {
    let Some(old) = subnet.gateway_ip else { return Ok(()) };
    if let Some(port) = addresses::holder(tx.conn(), &subnet.network_id, old).await? {
        return Err(NetError::refused(
            409,
            "GatewayIpInUse",
            format!("Current gateway ip {old} already in use by port {port}. Unable to update."),
        ));
    }
    Ok(())
}

/// The routers that have a port in a subnet.
pub(crate) async fn routers_on(tx: &mut Tx, subnet: &str) -> Result<Vec<Unit>, NetError> {
    let condition = "device_owner LIKE 'network:router_%' AND id IN (SELECT port_id FROM net_addresses WHERE subnet_id = $1)";
    let ports = store::find::<Port>(tx.conn(), condition, &[subnet]).await?;
    Ok(ports.into_iter().map(|p| Unit::Router(p.device_id)).collect())
}
