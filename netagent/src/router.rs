//! Routers: interfaces into subnets, and a gateway to an external network.

use std::net::IpAddr;

use state::Tx;

use crate::error::Noun;
use crate::ipam::{self, WantedIp};
use crate::model::{FloatingIp, Gateway, HostRoute, Meta, Network, Port, Router, Subnet, owner};
use crate::network::{self, set};
use crate::ovn::Unit;
use crate::port::{self, make_service_port};
use crate::service::{check_revision, owned_by};
use crate::store;
use crate::{Context, NetError, Networks, quota};

/// What a request says of the gateway.
#[derive(Debug, Clone, Default)]
pub struct WantedGateway {
    pub network_id: String,
    pub enable_snat: Option<bool>,
    pub external_fixed_ips: Option<Vec<WantedIp>>,
}

/// What a request may set; absent is unchanged, or the default.
#[derive(Debug, Clone, Default)]
pub struct RouterFields {
    pub project_id: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub admin_state_up: Option<bool>,
    /// `Some(None)` takes the gateway away.
    pub gateway: Option<Option<WantedGateway>>,
    pub routes: Option<Vec<HostRoute>>,
    pub availability_zone_hints: Option<Vec<String>>,
}

/// An interface to add or to remove: by its subnet, its port, or both.
#[derive(Debug, Clone, Default)]
pub struct Interface {
    pub subnet_id: Option<String>,
    pub port_id: Option<String>,
}

fn target(router: &Router) -> Vec<(&'static str, String)> {
    owned_by(&router.meta.project_id)
}

impl Networks {
    /// The router, if the caller may see it.
    pub async fn router_of(&self, ctx: &Context, id: &str) -> Result<Router, NetError> {
        let found = store::get(self.db().read(), id).await?;
        self.authorised(ctx, found, id, ("get_router", "get_router"), target)
    }

    pub async fn create_router(&self, ctx: &Context, fields: RouterFields) -> Result<Router, NetError> {
        let project = self.owner(ctx, fields.project_id.as_deref())?;
        self.enforce(ctx, "create_router", &[("project_id", &project)])?;
        let mut tx = self.db().begin().await?;
        quota::spend(&mut tx, &project, "router", 1).await?;
        let mut router = Router {
            meta: Meta {
                name: fields.name.unwrap_or_default(),
                description: fields.description.unwrap_or_default(),
                revision_number: 1,
                ..Meta::new(&project)
            },
            admin_state_up: fields.admin_state_up.unwrap_or(true),
            gateway: None,
            routes: Vec::new(),
            availability_zone_hints: fields.availability_zone_hints.unwrap_or_default(),
        };
        let mut units = Vec::new();
        store::insert(&mut tx, &router).await?;
        if let Some(Some(wanted)) = fields.gateway {
            units.extend(self.set_gateway(ctx, &mut tx, &mut router, "create_router", wanted).await?);
            store::update_quietly(&mut tx, &router).await?;
        }
        units.push(Unit::Router(router.meta.id.clone()));
        self.commit(tx, units).await?;
        Ok(router)
    }

    pub async fn update_router(
        &self,
        ctx: &Context,
        id: &str,
        fields: RouterFields,
        revision: Option<i64>,
    ) -> Result<Router, NetError> {
        let mut tx = self.db().begin().await?;
        let mut router = self.lock_router(ctx, &mut tx, id, "update_router").await?;
        check_revision(&router, revision)?;
        let mut units = Vec::new();
        match fields.gateway {
            Some(Some(wanted)) if !wanted.network_id.is_empty() => {
                units.extend(self.set_gateway(ctx, &mut tx, &mut router, "update_router", wanted).await?);
            }
            Some(_) => units.extend(clear_gateway(&mut tx, &mut router).await?),
            None => {}
        }
        if let Some(routes) = fields.routes {
            check_routes(&mut tx, &router, &routes).await?;
            router.routes = routes;
        }
        set(&mut router.meta.name, fields.name);
        set(&mut router.meta.description, fields.description);
        set(&mut router.admin_state_up, fields.admin_state_up);
        store::update(&mut tx, &mut router).await?;
        units.push(Unit::Router(id.to_owned()));
        self.commit(tx, units).await?;
        Ok(router)
    }

    pub async fn delete_router(
        &self,
        ctx: &Context,
        id: &str,
        revision: Option<i64>,
    ) -> Result<(), NetError> {
        let mut tx = self.db().begin().await?;
        let mut router = self.lock_router(ctx, &mut tx, id, "delete_router").await?;
        check_revision(&router, revision)?;
        if !interfaces(&mut tx, id).await?.is_empty() {
            return Err(NetError::refused(409, "RouterInUse", format!("Router {id} still has ports")));
        }
        let mut units = clear_gateway(&mut tx, &mut router).await?;
        store::delete::<Router>(&mut tx, id).await?;
        units.push(Unit::Router(id.to_owned()));
        self.commit(tx, units).await
    }

    /// Gives the router an interface; the interface's port and subnet.
    pub async fn add_router_interface(
        &self,
        ctx: &Context,
        id: &str,
        interface: &Interface,
    ) -> Result<(Port, String), NetError> {
        let mut tx = self.db().begin().await?;
        let mut router = self.lock_router(ctx, &mut tx, id, "add_router_interface").await?;
        let (port, subnet) = match (&interface.port_id, &interface.subnet_id) {
            (Some(_), Some(_)) => {
                return Err(NetError::bad("router", "Cannot specify both subnet-id and port-id"));
            }
            (None, None) => {
                return Err(NetError::bad("router", "Either subnet_id or port_id must be specified"));
            }
            (Some(port), None) => self.interface_by_port(ctx, &mut tx, &router, port).await?,
            (None, Some(subnet)) => self.interface_by_subnet(ctx, &mut tx, &router, subnet).await?,
        };
        store::update(&mut tx, &mut router).await?;
        let units = vec![Unit::Router(id.to_owned()), Unit::Port(port.meta.id.clone())];
        self.commit(tx, units).await?;
        Ok((port, subnet))
    }

    async fn interface_by_subnet(
        &self,
        ctx: &Context,
        tx: &mut Tx,
        router: &Router,
        id: &str,
    ) -> Result<(Port, String), NetError> {
        let subnet = self.visible_subnet(ctx, tx, id).await?;
        let network = network::lock_visible(self, ctx, tx, &subnet.network_id).await?;
        let gateway = subnet
            .gateway_ip
            .ok_or_else(|| NetError::bad("router", "Subnet for router interface must have a gateway IP"))?;
        no_overlap(tx, router, &subnet).await?;
        let wanted = [WantedIp { subnet_id: Some(id.to_owned()), ip_address: Some(gateway) }];
        let device = (router.meta.id.as_str(), owner::ROUTER_INTERFACE);
        let port = make_service_port(tx, &router.meta.project_id, &network, device, Some(&wanted)).await?;
        Ok((port, id.to_owned()))
    }

    async fn interface_by_port(
        &self,
        ctx: &Context,
        tx: &mut Tx,
        router: &Router,
        id: &str,
    ) -> Result<(Port, String), NetError> {
        let mut port = store::get_locked::<Port>(tx, id).await?.ok_or_else(|| Noun::Port.not_found(id))?;
        let rules = ("get_port", "update_port");
        let found = self.authorised(ctx, Some(port.clone()), id, rules, |p| owned_by(&p.meta.project_id))?;
        if !found.device_id.is_empty() {
            return Err(NetError::port_in_use(id, &found.network_id, &found.device_id));
        }
        let Some(first) = found.fixed_ips.first() else {
            return Err(NetError::bad("router", "Router port must have at least one fixed IP"));
        };
        for fixed in &found.fixed_ips {
            let subnet = store::get::<Subnet>(tx.conn(), &fixed.subnet_id).await?;
            if let Some(subnet) = subnet {
                no_overlap(tx, router, &subnet).await?;
            }
        }
        port.device_id.clone_from(&router.meta.id);
        port.device_owner = owner::ROUTER_INTERFACE.to_owned();
        port.security_groups.clear();
        port.port_security_enabled = false;
        store::update(tx, &mut port).await?;
        store::addresses::set_groups(tx, &port).await?;
        Ok((port, first.subnet_id.clone()))
    }

    async fn visible_subnet(&self, ctx: &Context, tx: &mut Tx, id: &str) -> Result<Subnet, NetError> {
        let subnet = store::get::<Subnet>(tx.conn(), id).await?.ok_or_else(|| Noun::Subnet.not_found(id))?;
        let network = network::expect(tx, &subnet.network_id).await?;
        let owned = network::target(&network);
        let target: Vec<(&str, &str)> = owned.iter().map(|(k, v)| (*k, v.as_str())).collect();
        if self.allows(ctx, "get_subnet", &target) { Ok(subnet) } else { Err(Noun::Subnet.not_found(id)) }
    }

    /// Takes an interface away; its port goes.
    pub async fn remove_router_interface(
        &self,
        ctx: &Context,
        id: &str,
        interface: &Interface,
    ) -> Result<(Port, String), NetError> {
        let mut tx = self.db().begin().await?;
        let mut router = self.lock_router(ctx, &mut tx, id, "remove_router_interface").await?;
        let ports = interfaces(&mut tx, id).await?;
        let (port, subnet) = pick_interface(ports, id, interface)?;
        in_no_use(&mut tx, &router, &port, &subnet).await?;
        port::erase(&mut tx, &port.meta.id).await?;
        store::update(&mut tx, &mut router).await?;
        let units = vec![Unit::Router(id.to_owned()), Unit::Port(port.meta.id.clone())];
        self.commit(tx, units).await?;
        Ok((port, subnet))
    }

    async fn lock_router(
        &self,
        ctx: &Context,
        tx: &mut Tx,
        id: &str,
        action: &str,
    ) -> Result<Router, NetError> {
        let found = store::get_locked::<Router>(tx, id).await?;
        self.authorised(ctx, found, id, ("get_router", action), target)
    }

    async fn set_gateway(
        &self,
        ctx: &Context,
        tx: &mut Tx,
        router: &mut Router,
        action: &str,
        wanted: WantedGateway,
    ) -> Result<Vec<Unit>, NetError> {
        let owned = target(router);
        let known: Vec<(&str, &str)> = owned.iter().map(|(k, v)| (*k, v.as_str())).collect();
        if wanted.enable_snat.is_some() {
            self.enforce(ctx, &format!("{action}:external_gateway_info:enable_snat"), &known)?;
        }
        if wanted.external_fixed_ips.is_some() {
            self.enforce(ctx, &format!("{action}:external_gateway_info:external_fixed_ips"), &known)?;
        }
        let network = network::lock_visible(self, ctx, tx, &wanted.network_id).await?;
        if !network.external {
            let id = &wanted.network_id;
            return Err(NetError::bad("router", format!("Network {id} is not an external network")));
        }
        let same = router
            .gateway
            .as_ref()
            .is_some_and(|g| g.network_id == wanted.network_id && wanted.external_fixed_ips.is_none());
        if same {
            if let Some(gateway) = &mut router.gateway {
                gateway.enable_snat = wanted.enable_snat.unwrap_or(true);
            }
            return Ok(Vec::new());
        }
        let mut units = clear_gateway(tx, router).await?;
        let subnets = ipam::subnets_of(tx, &wanted.network_id).await?;
        for port in interfaces(tx, &router.meta.id).await? {
            for fixed in &port.fixed_ips {
                let inside = store::get::<Subnet>(tx.conn(), &fixed.subnet_id).await?;
                if let Some(clash) = inside.and_then(|i| subnets.iter().find(|s| overlap(s, &i)).cloned()) {
                    return Err(overlapping(&clash, &fixed.subnet_id));
                }
            }
        }
        let device = (router.meta.id.as_str(), owner::ROUTER_GATEWAY);
        let port = make_service_port(tx, "", &network, device, wanted.external_fixed_ips.as_deref()).await?;
        if port.fixed_ips.is_empty() {
            return Err(NetError::bad(
                "router",
                format!("No IPs assigned to the gateway port for router {}", router.meta.id),
            ));
        }
        units.push(Unit::Port(port.meta.id.clone()));
        router.gateway = Some(Gateway {
            network_id: wanted.network_id,
            enable_snat: wanted.enable_snat.unwrap_or(true),
            port_id: port.meta.id,
            external_fixed_ips: port.fixed_ips,
        });
        Ok(units)
    }
}

/// Takes the gateway away, unless floating IPs need it.
async fn clear_gateway(tx: &mut Tx, router: &mut Router) -> Result<Vec<Unit>, NetError> {
    let Some(gateway) = router.gateway.take() else { return Ok(Vec::new()) };
    let id = &router.meta.id;
    if store::count(tx.conn(), "net_floating_ips", "router_id = $1", &[id]).await? > 0 {
        return Err(NetError::refused(
            409,
            "RouterExternalGatewayInUseByFloatingIp",
            format!(
                "Gateway cannot be updated for router {id}, since a gateway to external network {} is required by one or more floating IPs.",
                gateway.network_id
            ),
        ));
    }
    port::erase(tx, &gateway.port_id).await?;
    Ok(vec![Unit::Port(gateway.port_id)])
}

/// The ports of a router's interfaces.
pub(crate) async fn interfaces(tx: &mut Tx, router: &str) -> Result<Vec<Port>, NetError> {
    let condition = "device_id = $1 AND device_owner = 'network:router_interface'";
    store::find(tx.conn(), condition, &[router]).await
}

fn overlap(a: &Subnet, b: &Subnet) -> bool {
    a.meta.id == b.meta.id || a.cidr.contains(&b.cidr.network()) || b.cidr.contains(&a.cidr.network())
}

fn overlapping(new: &Subnet, there: &str) -> NetError {
    NetError::bad(
        "router",
        format!("Cidr {} of subnet {} overlaps with a cidr of subnet {there}", new.cidr, new.meta.id),
    )
}

async fn no_overlap(tx: &mut Tx, router: &Router, subnet: &Subnet) -> Result<(), NetError> {
    let mut ports = interfaces(tx, &router.meta.id).await?;
    if let Some(gateway) = &router.gateway {
        ports.extend(store::get::<Port>(tx.conn(), &gateway.port_id).await?);
    }
    for fixed in ports.iter().flat_map(|p| &p.fixed_ips) {
        if fixed.subnet_id == subnet.meta.id {
            return Err(NetError::bad(
                "router",
                format!("Router already has a port on subnet {}", subnet.meta.id),
            ));
        }
        let there = store::get::<Subnet>(tx.conn(), &fixed.subnet_id).await?;
        if there.is_some_and(|there| overlap(&there, subnet)) {
            return Err(overlapping(subnet, &fixed.subnet_id));
        }
    }
    Ok(())
}

/// Extra routes lead to an address that the router reaches itself.
async fn check_routes(tx: &mut Tx, router: &Router, routes: &[HostRoute]) -> Result<(), NetError> {
    const MAX: usize = 30;
    if routes.len() > MAX {
        return Err(NetError::refused(
            400,
            "RoutesExhausted",
            format!(
                "Unable to complete operation for {}. The number of routes exceeds the maximum {MAX}.",
                router.meta.id
            ),
        ));
    }
    let mut ports = interfaces(tx, &router.meta.id).await?;
    if let Some(gateway) = &router.gateway {
        ports.extend(store::get::<Port>(tx.conn(), &gateway.port_id).await?);
    }
    let mut subnets = Vec::new();
    for fixed in ports.iter().flat_map(|p| &p.fixed_ips) {
        subnets.extend(store::get::<Subnet>(tx.conn(), &fixed.subnet_id).await?);
    }
    let own: Vec<IpAddr> = ports.iter().flat_map(|p| p.fixed_ips.iter().map(|f| f.ip_address)).collect();
    for route in routes {
        let reason = if !subnets.iter().any(|s| s.cidr.contains(&route.nexthop)) {
            "the nexthop is not connected with router"
        } else if own.contains(&route.nexthop) {
            "the nexthop is used by router"
        } else {
            continue;
        };
        return Err(NetError::refused(
            400,
            "InvalidRoutes",
            format!(
                "Invalid format for routes: [{{'destination': '{}', 'nexthop': '{}'}}], {reason}",
                route.destination, route.nexthop
            ),
        ));
    }
    Ok(())
}

fn pick_interface(ports: Vec<Port>, router: &str, by: &Interface) -> Result<(Port, String), NetError> {
    match (&by.port_id, &by.subnet_id) {
        (None, None) => Err(NetError::bad("router", "Either subnet_id or port_id must be specified")),
        (Some(id), subnet) => {
            let port = ports.into_iter().find(|p| p.meta.id == *id).ok_or_else(|| {
                NetError::refused(
                    404,
                    "RouterInterfaceNotFound",
                    format!("Router {router} does not have an interface with id {id}"),
                )
            })?;
            let on = port.fixed_ips.first().map(|f| f.subnet_id.clone()).unwrap_or_default();
            match subnet {
                Some(subnet) if !port.fixed_ips.iter().any(|f| f.subnet_id == *subnet) => {
                    Err(NetError::refused(
                        409,
                        "SubnetMismatchForPort",
                        format!("Subnet on port {id} does not match the requested subnet {subnet}."),
                    ))
                }
                _ => Ok((port, on)),
            }
        }
        (None, Some(subnet)) => ports
            .into_iter()
            .find(|p| p.fixed_ips.iter().any(|f| f.subnet_id == *subnet))
            .map(|port| (port, subnet.clone()))
            .ok_or_else(|| {
                NetError::refused(
                    404,
                    "RouterInterfaceNotFoundForSubnet",
                    format!("Router {router} has no interface on subnet {subnet}"),
                )
            }),
    }
}

/// Floating IPs and routes that go through an interface hold it.
async fn in_no_use(tx: &mut Tx, router: &Router, port: &Port, subnet_id: &str) -> Result<(), NetError> {
    let id = &router.meta.id;
    let subnet = store::get::<Subnet>(tx.conn(), subnet_id).await?;
    let Some(subnet) = subnet else { return Ok(()) };
    for fip in store::find::<FloatingIp>(tx.conn(), "router_id = $1", &[id]).await? {
        if fip.fixed_ip_address.is_some_and(|ip| subnet.cidr.contains(&ip)) {
            return Err(NetError::refused(
                409,
                "RouterInterfaceInUseByFloatingIP",
                format!(
                    "Router interface for subnet {subnet_id} on router {id} cannot be deleted, as it is required by one or more floating IPs."
                ),
            ));
        }
    }
    if router.routes.iter().any(|r| subnet.cidr.contains(&r.nexthop)) {
        return Err(NetError::refused(
            409,
            "RouterInterfaceInUseByRoute",
            format!(
                "Router interface for subnet {subnet_id} on router {id} cannot be deleted, as it is required by one or more routes."
            ),
        ));
    }
    tracing::debug!(router = %id, port = %port.meta.id, "interface goes");
    Ok(())
}

/// The router that joins a port's subnet to an external network.
pub(crate) async fn between(
    tx: &mut Tx,
    port: &Port,
    fixed: IpAddr,
    external: &Network,
) -> Result<Option<String>, NetError> {
    let Some(subnet) = port.fixed_ips.iter().find(|f| f.ip_address == fixed).map(|f| f.subnet_id.clone())
    else {
        return Ok(None);
    };
    let condition = "device_owner = 'network:router_interface' \
         AND id IN (SELECT port_id FROM net_addresses WHERE subnet_id = $1)";
    for interface in store::find::<Port>(tx.conn(), condition, &[&subnet]).await? {
        let router = store::get::<Router>(tx.conn(), &interface.device_id).await?;
        if router.and_then(|r| r.gateway).is_some_and(|g| g.network_id == external.meta.id) {
            return Ok(Some(interface.device_id));
        }
    }
    Ok(None)
}
