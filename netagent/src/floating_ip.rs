//! Floating IPs: an address of an external network that a router translates to a port's.

use std::net::IpAddr;

use state::Tx;

use crate::ipam::WantedIp;
use crate::model::{FloatingIp, Meta, Network, Port, owner};
use crate::network::{self, set};
use crate::ovn::Unit;
use crate::port::{self, make_service_port};
use crate::service::{check_revision, owned_by};
use crate::store::{self, is_conflict};
use crate::{Context, NetError, Networks, quota, router};

/// What a request may set; absent is unchanged, or the default.
#[derive(Debug, Clone, Default)]
pub struct FloatingIpFields {
    pub project_id: Option<String>,
    pub description: Option<String>,
    pub floating_network_id: Option<String>,
    pub floating_ip_address: Option<IpAddr>,
    pub subnet_id: Option<String>,
    /// `Some(None)` ends the association.
    pub port_id: Option<Option<String>>,
    pub fixed_ip_address: Option<IpAddr>,
    pub dns_name: Option<String>,
    pub dns_domain: Option<String>,
}

fn target(fip: &FloatingIp) -> Vec<(&'static str, String)> {
    owned_by(&fip.meta.project_id)
}

impl Networks {
    /// The floating IP, if the caller may see it.
    pub async fn floating_ip(&self, ctx: &Context, id: &str) -> Result<FloatingIp, NetError> {
        let found = store::get(self.db().read(), id).await?;
        self.authorised(ctx, found, id, ("get_floatingip", "get_floatingip"), target)
    }

    /// Every floating IP that the caller may see.
    pub async fn floating_ips(&self, ctx: &Context) -> Result<Vec<FloatingIp>, NetError> {
        self.owned(ctx).await
    }

    /// The floating IPs of a port, for a server's view.
    pub async fn floating_ips_of_port(&self, port: &str) -> Result<Vec<FloatingIp>, NetError> {
        store::find(self.db().read(), "port_id = $1", &[port]).await
    }

    pub async fn create_floating_ip(
        &self,
        ctx: &Context,
        fields: FloatingIpFields,
    ) -> Result<FloatingIp, NetError> {
        let project = self.owner(ctx, fields.project_id.as_deref())?;
        self.enforce(ctx, "create_floatingip", &[("project_id", &project)])?;
        if fields.floating_ip_address.is_some() {
            self.enforce(ctx, "create_floatingip:floating_ip_address", &[("project_id", &project)])?;
        }
        let mut tx = self.db().begin().await?;
        let network_id = fields.floating_network_id.clone().unwrap_or_default();
        let network = network::lock_visible(self, ctx, &mut tx, &network_id).await?;
        if !network.external {
            return Err(NetError::bad(
                "floatingip",
                format!("Network {network_id} is not a valid external network"),
            ));
        }
        quota::spend(&mut tx, &project, "floatingip", 1).await?;
        let meta = Meta {
            description: fields.description.clone().unwrap_or_default(),
            revision_number: 1,
            ..Meta::new(&project)
        };
        let wanted = (fields.subnet_id.is_some() || fields.floating_ip_address.is_some()).then(|| {
            [WantedIp { subnet_id: fields.subnet_id.clone(), ip_address: fields.floating_ip_address }]
        });
        let device = (meta.id.as_str(), owner::FLOATING_IP);
        let port =
            make_service_port(&mut tx, "", &network, device, wanted.as_ref().map(<[_; 1]>::as_slice)).await?;
        let Some(address) = port.fixed_ips.iter().map(|f| f.ip_address).find(IpAddr::is_ipv4) else {
            return Err(NetError::refused(
                409,
                "ExternalIpAddressExhausted",
                format!("Unable to find any IP address on external network {network_id}."),
            ));
        };
        let mut fip = FloatingIp {
            meta,
            floating_network_id: network_id,
            floating_ip_address: address,
            floating_port_id: port.meta.id,
            port_id: None,
            fixed_ip_address: None,
            router_id: None,
            dns_name: fields.dns_name.unwrap_or_default(),
            dns_domain: fields.dns_domain.unwrap_or_default(),
        };
        if let Some(Some(port)) = &fields.port_id {
            self.associate(ctx, &mut tx, &mut fip, &network, port, fields.fixed_ip_address).await?;
        }
        store::insert(&mut tx, &fip).await.map_err(|e| if is_conflict(&e) { associated(&fip) } else { e })?;
        let units = fip.router_id.clone().map(Unit::Router).into_iter().collect();
        self.commit(tx, units).await?;
        Ok(fip)
    }

    pub async fn update_floating_ip(
        &self,
        ctx: &Context,
        id: &str,
        fields: FloatingIpFields,
        revision: Option<i64>,
    ) -> Result<FloatingIp, NetError> {
        let mut tx = self.db().begin().await?;
        let mut fip = self.lock_fip(ctx, &mut tx, id, "update_floatingip").await?;
        check_revision(&fip, revision)?;
        let mut units: Vec<Unit> = fip.router_id.clone().map(Unit::Router).into_iter().collect();
        let network = network::expect(&mut tx, &fip.floating_network_id).await?;
        match (&fields.port_id, fip.port_id.clone()) {
            (Some(Some(port)), _) => {
                self.associate(ctx, &mut tx, &mut fip, &network, port, fields.fixed_ip_address).await?;
            }
            (Some(None), _) => {
                fip.port_id = None;
                fip.fixed_ip_address = None;
                fip.router_id = None;
            }
            (None, Some(port)) if fields.fixed_ip_address.is_some() => {
                self.associate(ctx, &mut tx, &mut fip, &network, &port, fields.fixed_ip_address).await?;
            }
            (None, _) => {}
        }
        units.extend(fip.router_id.clone().map(Unit::Router));
        set(&mut fip.meta.description, fields.description);
        store::update(&mut tx, &mut fip)
            .await
            .map_err(|e| if is_conflict(&e) { associated(&fip) } else { e })?;
        self.commit(tx, units).await?;
        Ok(fip)
    }

    pub async fn delete_floating_ip(
        &self,
        ctx: &Context,
        id: &str,
        revision: Option<i64>,
    ) -> Result<(), NetError> {
        let mut tx = self.db().begin().await?;
        let fip = self.lock_fip(ctx, &mut tx, id, "delete_floatingip").await?;
        check_revision(&fip, revision)?;
        store::delete::<FloatingIp>(&mut tx, id).await?;
        port::erase(&mut tx, &fip.floating_port_id).await?;
        let units = fip.router_id.map(Unit::Router).into_iter().collect();
        self.commit(tx, units).await
    }

    async fn lock_fip(
        &self,
        ctx: &Context,
        tx: &mut Tx,
        id: &str,
        action: &str,
    ) -> Result<FloatingIp, NetError> {
        let found = store::get_locked::<FloatingIp>(tx, id).await?;
        self.authorised(ctx, found, id, ("get_floatingip", action), target)
    }

    /// Points a floating IP at one of a port's addresses; the first IPv4 one where none is named.
    async fn associate(
        &self,
        ctx: &Context,
        tx: &mut Tx,
        fip: &mut FloatingIp,
        external: &Network,
        port_id: &str,
        fixed: Option<IpAddr>,
    ) -> Result<(), NetError> {
        let found = store::get::<Port>(tx.conn(), port_id).await?;
        let port =
            self.authorised(ctx, found, port_id, ("get_port", "get_port"), |p| owned_by(&p.meta.project_id))?;
        let fixed = match fixed {
            Some(ip) if port.fixed_ips.iter().any(|f| f.ip_address == ip) => ip,
            Some(ip) => {
                return Err(NetError::bad(
                    "floatingip",
                    format!("Port {port_id} does not have fixed ip {ip}"),
                ));
            }
            None => {
                let mut own = port.fixed_ips.iter().map(|f| f.ip_address).filter(IpAddr::is_ipv4);
                match (own.next(), own.next()) {
                    (Some(ip), None) => ip,
                    (Some(_), Some(_)) => {
                        return Err(NetError::bad(
                            "floatingip",
                            format!(
                                "Port {port_id} has multiple fixed IPv4 addresses. Must provide a specific IPv4 address when assigning a floating IP"
                            ),
                        ));
                    }
                    (None, _) => {
                        return Err(NetError::bad(
                            "floatingip",
                            format!(
                                "Cannot add floating IP to port {port_id} that has no fixed IPv4 addresses"
                            ),
                        ));
                    }
                }
            }
        };
        let Some(router) = router::between(tx, &port, fixed, external).await? else {
            let subnet =
                port.fixed_ips.iter().find(|f| f.ip_address == fixed).map_or("", |f| f.subnet_id.as_str());
            return Err(NetError::refused(
                404,
                "ExternalGatewayForFloatingIPNotFound",
                format!(
                    "External network {} is not reachable from subnet {subnet}.  Therefore, cannot associate Port {port_id} with a Floating IP.",
                    external.meta.id
                ),
            ));
        };
        fip.port_id = Some(port_id.to_owned());
        fip.fixed_ip_address = Some(fixed);
        fip.router_id = Some(router);
        Ok(())
    }
}

fn associated(fip: &FloatingIp) -> NetError {
    NetError::refused(
        409,
        "FloatingIPPortAlreadyAssociated",
        format!(
            "Cannot associate floating IP {} ({}) with port {} using fixed IP {}, as that fixed IP already has a floating IP on external network {}.",
            fip.floating_ip_address,
            fip.meta.id,
            fip.port_id.as_deref().unwrap_or_default(),
            fip.fixed_ip_address.map(|ip| ip.to_string()).unwrap_or_default(),
            fip.floating_network_id
        ),
    )
}
