//! Ports: a place on a network, with addresses, security groups and, once bound, a host.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use state::{Signal, Tx};

use crate::error::Noun;
use crate::ipam::{self, WantedIp};
use crate::model::{AddressPair, DhcpOpt, FloatingIp, Meta, Network, Port, SecurityGroup, owner};
use crate::network::{self, set};
use crate::ovn::Unit;
use crate::service::check_revision;
use crate::store::{self, addresses, is_conflict};
use crate::{Context, NetError, Networks, port_topic, quota, security_group};

/// What a request may set; absent is unchanged, or the default.
#[derive(Debug, Clone, Default)]
pub struct PortFields {
    pub project_id: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub admin_state_up: Option<bool>,
    pub mac_address: Option<String>,
    pub device_id: Option<String>,
    pub device_owner: Option<String>,
    pub fixed_ips: Option<Vec<WantedIp>>,
    pub security_groups: Option<Vec<String>>,
    pub allowed_address_pairs: Option<Vec<AddressPair>>,
    pub port_security_enabled: Option<bool>,
    pub extra_dhcp_opts: Option<Vec<DhcpOpt>>,
    pub dns_name: Option<String>,
    /// `binding:host_id`
    pub host_id: Option<String>,
    pub vnic_type: Option<String>,
    pub profile: Option<BTreeMap<String, Value>>,
}

/// A port to make.
#[derive(Debug, Clone, Default)]
pub struct NewPort {
    pub network_id: String,
    pub fields: PortFields,
}

/// Where a port is plugged in, and for whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binding {
    pub host: String,
    pub device_id: String,
    /// `compute:<zone>`, or empty.
    pub device_owner: String,
}

fn target(port: &Port, network: Option<&Network>) -> Vec<(&'static str, String)> {
    let mut target = network.map(network::target).unwrap_or_default();
    target.retain(|(key, _)| *key != "project_id");
    target.push(("project_id", port.meta.project_id.clone()));
    target
}

impl Networks {
    /// The port, if the caller may see it.
    pub async fn port(&self, ctx: &Context, id: &str) -> Result<Port, NetError> {
        let found = store::get::<Port>(self.db().read(), id).await?;
        let network = match &found {
            Some(port) => store::get::<Network>(self.db().read(), &port.network_id).await?,
            None => None,
        };
        self.authorised(ctx, found, id, ("get_port", "get_port"), |p| target(p, network.as_ref()))
    }

    /// Every port that the caller may see: its own, and those on its networks. `by` narrows the search to a
    /// value of one column: `network_id`, `device_id`, `device_owner`, `mac`, `host` or `id`.
    pub async fn ports(&self, ctx: &Context, by: Option<(&str, &str)>) -> Result<Vec<Port>, NetError> {
        let all = self.allows(ctx, "admin_only", &[]) || self.allows(ctx, "service_role", &[]);
        let mine = "(project_id = $1 OR network_id IN (SELECT id FROM net_networks WHERE project_id = $1))";
        let project = ctx.project().map_or("", |p| p.id.as_str());
        let column = |name: &str| {
            ["id", "network_id", "device_id", "device_owner", "mac", "host"]
                .into_iter()
                .find(|known| *known == name)
        };
        match by.and_then(|(name, value)| column(name).map(|known| (known, value))) {
            Some((name, value)) if all => {
                store::find(self.db().read(), &format!("{name} = $1"), &[value]).await
            }
            Some((name, value)) => {
                store::find(self.db().read(), &format!("{mine} AND {name} = $2"), &[project, value]).await
            }
            None if all => store::find(self.db().read(), "1 = 1", &[]).await,
            None => store::find(self.db().read(), mine, &[project]).await,
        }
    }

    /// The ports of a server or another device, in the order of their making.
    pub async fn ports_of_device(&self, device_id: &str) -> Result<Vec<Port>, NetError> {
        let mut ports = store::find::<Port>(self.db().read(), "device_id = $1", &[device_id]).await?;
        ports.sort_by(|a, b| (a.meta.created_at, &a.meta.id).cmp(&(b.meta.created_at, &b.meta.id)));
        Ok(ports)
    }

    /// The ports bound to a host.
    pub async fn ports_of_host(&self, host: &str) -> Result<Vec<Port>, NetError> {
        store::find(self.db().read(), "host = $1", &[host]).await
    }

    /// Who has an address in a network: how a metadata request finds its server.
    pub async fn port_by_network_ip(&self, network: &str, ip: IpAddr) -> Result<Option<Port>, NetError> {
        network::holder_of(self, network, ip).await
    }

    /// Makes a port. It is usable when this returns: OVN has it, if OVN is within reach.
    pub async fn create_port(&self, ctx: &Context, new: NewPort) -> Result<Port, NetError> {
        let NewPort { network_id, fields } = new;
        let project = self.owner(ctx, fields.project_id.as_deref())?;
        let mut tx = self.db().begin().await?;
        let network = network::lock_visible(self, ctx, &mut tx, &network_id).await?;
        self.authorise_port(ctx, "create_port", &project, &network, &fields)?;
        if !fields.device_owner.as_deref().unwrap_or("").starts_with("network:") {
            quota::spend(&mut tx, &project, "port", 1).await?;
        }
        let port = self.build(&mut tx, &project, &network, fields).await?;
        let mut units = vec![Unit::Port(port.meta.id.clone())];
        if !port.dns_name.is_empty() {
            units.push(Unit::Network(network_id));
        }
        self.commit(tx, units).await?;
        Ok(port)
    }

    /// Makes several ports of one request: all of them, or none.
    pub async fn create_ports(&self, ctx: &Context, new: Vec<NewPort>) -> Result<Vec<Port>, NetError> {
        let mut made: Vec<Port> = Vec::with_capacity(new.len());
        for one in new {
            match self.create_port(ctx, one).await {
                Ok(port) => made.push(port),
                Err(error) => {
                    for port in &made {
                        self.delete_port(ctx, &port.meta.id, None).await?;
                    }
                    return Err(error);
                }
            }
        }
        Ok(made)
    }

    async fn build(
        &self,
        tx: &mut Tx,
        project: &str,
        network: &Network,
        fields: PortFields,
    ) -> Result<Port, NetError> {
        let wanted = fields.fixed_ips.clone();
        let given_mac = fields.mac_address.is_some();
        let mut port = Port {
            meta: Meta { revision_number: 1, ..Meta::new(project) },
            network_id: network.meta.id.clone(),
            mac_address: fields.mac_address.clone().unwrap_or_else(random_mac),
            admin_state_up: true,
            device_id: String::new(),
            device_owner: String::new(),
            fixed_ips: Vec::new(),
            security_groups: Vec::new(),
            allowed_address_pairs: Vec::new(),
            port_security_enabled: network.port_security_enabled,
            extra_dhcp_opts: Vec::new(),
            dns_name: String::new(),
            host_id: String::new(),
            vnic_type: "normal".to_owned(),
            profile: BTreeMap::new(),
            up: false,
        };
        let groups = fields.security_groups.clone();
        apply(&mut port, fields)?;
        port.security_groups = match groups {
            Some(groups) => security_group::check_members(tx, &port, &groups).await?,
            None if port.port_security_enabled
                && !port.device_owner.starts_with("network:")
                && !project.is_empty() =>
            {
                vec![security_group::default_group(tx, project).await?.meta.id]
            }
            None => Vec::new(),
        };
        check_security(&port)?;
        free_mac(tx, &mut port, given_mac).await?;
        store::insert(tx, &port).await.map_err(|e| {
            if is_conflict(&e) { NetError::mac_in_use(&port.mac_address, &port.network_id) } else { e }
        })?;
        let subnets = ipam::subnets_of(tx, &network.meta.id).await?;
        port.fixed_ips = ipam::allocate(tx, network, &subnets, &port, wanted.as_deref()).await?;
        store::update_quietly(tx, &port).await?;
        addresses::set_groups(tx, &port).await?;
        Ok(port)
    }

    pub async fn update_port(
        &self,
        ctx: &Context,
        id: &str,
        fields: PortFields,
        revision: Option<i64>,
    ) -> Result<Port, NetError> {
        let mut tx = self.db().begin().await?;
        let (mut port, network) = self.lock_port(ctx, &mut tx, id, "update_port").await?;
        check_revision(&port, revision)?;
        let project = port.meta.project_id.clone();
        self.authorise_port(ctx, "update_port", &project, &network, &fields)?;
        let before = port.clone();
        let wanted = fields.fixed_ips.clone();
        let groups = fields.security_groups.clone();
        if let Some(mac) = fields.mac_address.clone().filter(|mac| *mac != port.mac_address) {
            if !port.host_id.is_empty() {
                return Err(NetError::refused(
                    409,
                    "PortBound",
                    format!(
                        "Unable to complete operation on port {id}, port is already bound, port type: ovs, old_mac {}, new_mac {mac}.",
                        port.mac_address
                    ),
                ));
            }
            port.mac_address = mac;
            free_mac(&mut tx, &mut port, true).await?;
        }
        apply(&mut port, fields)?;
        if let Some(groups) = groups {
            port.security_groups = security_group::check_members(&mut tx, &port, &groups).await?;
        }
        check_security(&port)?;
        if let Some(wanted) = wanted {
            addresses::release_all(&mut tx, id).await?;
            let subnets = ipam::subnets_of(&mut tx, &network.meta.id).await?;
            port.fixed_ips = ipam::allocate(&mut tx, &network, &subnets, &port, Some(&wanted)).await?;
        }
        if port.host_id != before.host_id {
            port.up = false; // until OVN says so of the new place
        }
        let mut units = vec![Unit::Port(id.to_owned())];
        if port.fixed_ips != before.fixed_ips {
            let gone = |f: &FloatingIp| {
                f.fixed_ip_address.is_some_and(|ip| !port.fixed_ips.iter().any(|x| x.ip_address == ip))
            };
            units.extend(release_floating(&mut tx, id, gone).await?);
        }
        if owner::is_router(&port.device_owner) {
            units.push(Unit::Router(port.device_id.clone()));
        }
        if port.dns_name != before.dns_name
            || (!port.dns_name.is_empty() && port.fixed_ips != before.fixed_ips)
        {
            units.push(Unit::Network(network.meta.id));
        }
        store::update(&mut tx, &mut port).await.map_err(|e| {
            if is_conflict(&e) { NetError::mac_in_use(&port.mac_address, &port.network_id) } else { e }
        })?;
        addresses::set_groups(&mut tx, &port).await?;
        self.commit(tx, units).await?;
        Ok(port)
    }

    /// Binds a port to a host for a device, or with an empty host unbinds it. A port that another device has
    /// is refused as in use.
    pub async fn bind_port(&self, ctx: &Context, id: &str, binding: &Binding) -> Result<Port, NetError> {
        let seen = self.port(ctx, id).await?;
        if !binding.device_id.is_empty() && !seen.device_id.is_empty() && seen.device_id != binding.device_id
        {
            return Err(NetError::port_in_use(id, &seen.network_id, &seen.device_id));
        }
        let fields = PortFields {
            host_id: Some(binding.host.clone()),
            device_id: Some(binding.device_id.clone()),
            device_owner: Some(binding.device_owner.clone()),
            ..PortFields::default()
        };
        // The revision makes two devices that want the same port decide who has it.
        self.update_port(ctx, id, fields, Some(seen.meta.revision_number)).await
    }

    /// Deletes a port; its floating IPs lose their association. Ports of routers and floating IPs go with these.
    pub async fn delete_port(&self, ctx: &Context, id: &str, revision: Option<i64>) -> Result<(), NetError> {
        let mut tx = self.db().begin().await?;
        let (port, network) = self.lock_port(ctx, &mut tx, id, "delete_port").await?;
        check_revision(&port, revision)?;
        if owner::SERVICE.contains(&port.device_owner.as_str()) || port.device_owner == owner::METADATA {
            return Err(NetError::service_port_in_use(id, &port.device_owner));
        }
        let mut units = vec![Unit::Port(id.to_owned())];
        units.extend(release_floating(&mut tx, id, |_| true).await?);
        erase(&mut tx, id).await?;
        if !port.dns_name.is_empty() {
            units.push(Unit::Network(network.meta.id));
        }
        tx.wake(port_topic(id));
        self.commit(tx, units).await
    }

    /// Wakes when a port's status may have changed.
    pub fn port_signal(&self, id: &str) -> Signal {
        self.db().signal(&port_topic(id))
    }

    /// Waits until OVN reports the port as up, and says whether it did in time.
    pub async fn wait_port_up(&self, id: &str, within: Duration) -> Result<bool, NetError> {
        const LOOK: Duration = Duration::from_millis(500);
        let deadline = tokio::time::Instant::now() + within;
        let mut signal = self.port_signal(id);
        loop {
            match store::get::<Port>(self.db().read(), id).await? {
                Some(port) if port.up => return Ok(true),
                Some(_) => {}
                None => return Err(Noun::Port.not_found(id)),
            }
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            signal.wait(left.min(LOOK)).await;
        }
    }

    async fn lock_port(
        &self,
        ctx: &Context,
        tx: &mut Tx,
        id: &str,
        action: &str,
    ) -> Result<(Port, Network), NetError> {
        let seen = store::get::<Port>(tx.conn(), id).await?.ok_or_else(|| Noun::Port.not_found(id))?;
        let network = store::get_locked::<Network>(tx, &seen.network_id)
            .await?
            .ok_or_else(|| Noun::Port.not_found(id))?;
        let found = store::get_locked::<Port>(tx, id).await?;
        let port = self.authorised(ctx, found, id, ("get_port", action), |p| target(p, Some(&network)))?;
        Ok((port, network))
    }

    /// The rules of the port and of every attribute that was given.
    fn authorise_port(
        &self,
        ctx: &Context,
        action: &str,
        project: &str,
        network: &Network,
        fields: &PortFields,
    ) -> Result<(), NetError> {
        let mut owned = network::target(network);
        owned.retain(|(key, _)| *key != "project_id");
        owned.push(("project_id", project.to_owned()));
        let target: Vec<(&str, &str)> = owned.iter().map(|(k, v)| (*k, v.as_str())).collect();
        self.enforce(ctx, action, &target)?;
        if action == "create_port" && !self.allows(ctx, "create_port:on_network", &target) {
            // An external network is seen by all, but only its owner puts ports on it.
            return Err(NetError::forbidden("create_port"));
        }
        let addresses = fields.fixed_ips.iter().flatten().any(|f| f.ip_address.is_some());
        let binding = [
            fields.host_id.as_deref().is_some_and(|h| !h.is_empty()),
            fields.profile.as_ref().is_some_and(|p| !p.is_empty()),
        ];
        for (given, attribute) in [
            (fields.device_owner.as_deref().is_some_and(|o| o.starts_with("network:")), "device_owner"),
            (fields.mac_address.is_some(), "mac_address"),
            (addresses, "fixed_ips:ip_address"),
            (fields.port_security_enabled == Some(false), "port_security_enabled"),
            (fields.allowed_address_pairs.as_ref().is_some_and(|p| !p.is_empty()), "allowed_address_pairs"),
            (binding.contains(&true), "binding"),
        ] {
            if given {
                self.enforce(ctx, &format!("{action}:{attribute}"), &target)?;
            }
        }
        Ok(())
    }
}

/// Sets the plain attributes.
fn apply(port: &mut Port, fields: PortFields) -> Result<(), NetError> {
    if let Some(name) = fields.dns_name {
        check_dns_name(&name)?;
        port.dns_name = name;
    }
    set(&mut port.meta.name, fields.name);
    set(&mut port.meta.description, fields.description);
    set(&mut port.admin_state_up, fields.admin_state_up);
    set(&mut port.device_id, fields.device_id);
    set(&mut port.device_owner, fields.device_owner);
    set(&mut port.port_security_enabled, fields.port_security_enabled);
    set(&mut port.host_id, fields.host_id);
    set(&mut port.vnic_type, fields.vnic_type);
    set(&mut port.profile, fields.profile);
    if let Some(opts) = fields.extra_dhcp_opts {
        for opt in opts {
            port.extra_dhcp_opts.retain(|o| (&o.opt_name, o.ip_version) != (&opt.opt_name, opt.ip_version));
            if opt.opt_value.is_some() {
                port.extra_dhcp_opts.push(opt);
            }
        }
    }
    if let Some(pairs) = fields.allowed_address_pairs {
        port.allowed_address_pairs = pairs
            .into_iter()
            .map(|mut pair| {
                if pair.mac_address.is_empty() {
                    pair.mac_address.clone_from(&port.mac_address);
                }
                pair
            })
            .collect();
    }
    Ok(())
}

fn check_dns_name(name: &str) -> Result<(), NetError> {
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if name.is_empty() || (name.len() <= 255 && name.trim_end_matches('.').split('.').all(label)) {
        return Ok(());
    }
    Err(NetError::bad_request(format!(
        "Invalid input for dns_name. Reason: '{name}' not a valid PQDN or FQDN. Reason: Name must be 63 characters or less, each of which can only be alphanumeric or a hyphen."
    )))
}

/// What port security forbids or needs.
fn check_security(port: &Port) -> Result<(), NetError> {
    if port.port_security_enabled {
        return Ok(());
    }
    if !port.security_groups.is_empty() {
        return Err(NetError::refused(
            400,
            "PortSecurityAndIPRequiredForSecurityGroups",
            "Port security must be enabled and port must have an IP address in order to use security groups.",
        ));
    }
    if !port.allowed_address_pairs.is_empty() {
        return Err(NetError::refused(
            409,
            "AddressPairAndPortSecurityRequired",
            "Port Security must be enabled in order to have allowed address pairs on a port.",
        ));
    }
    Ok(())
}

fn random_mac() -> String {
    let [a, b, c, _] = rand::random::<u32>().to_be_bytes();
    format!("fa:16:3e:{a:02x}:{b:02x}:{c:02x}")
}

/// Makes sure that nobody on the network has the port's MAC: another is drawn, unless it was asked for.
async fn free_mac(tx: &mut Tx, port: &mut Port, asked: bool) -> Result<(), NetError> {
    for _ in 0..16 {
        let values = [port.network_id.as_str(), port.mac_address.as_str(), port.meta.id.as_str()];
        let taken =
            store::count(tx.conn(), "net_ports", "network_id = $1 AND mac = $2 AND id <> $3", &values)
                .await?;
        if taken == 0 {
            return Ok(());
        }
        if asked {
            break;
        }
        port.mac_address = random_mac();
    }
    Err(NetError::mac_in_use(&port.mac_address, &port.network_id))
}

/// Removes a port's rows. Who calls has released its floating IPs.
pub(crate) async fn erase(tx: &mut Tx, id: &str) -> Result<(), NetError> {
    addresses::release_all(tx, id).await?;
    addresses::clear_groups(tx, id).await?;
    store::delete::<Port>(tx, id).await
}

/// Ends the associations of a port's floating IPs that `which` picks; gives the routers concerned.
async fn release_floating(
    tx: &mut Tx,
    port: &str,
    which: impl Fn(&FloatingIp) -> bool,
) -> Result<Vec<Unit>, NetError> {
    let mut units = Vec::new();
    for mut fip in store::find::<FloatingIp>(tx.conn(), "port_id = $1", &[port]).await? {
        if !which(&fip) {
            continue;
        }
        units.extend(fip.router_id.take().map(Unit::Router));
        fip.port_id = None;
        fip.fixed_ip_address = None;
        store::update(tx, &mut fip).await?;
    }
    Ok(units)
}

/// A port that the service makes for itself, on behalf of a router or a floating IP.
pub(crate) async fn make_service_port(
    tx: &mut Tx,
    project: &str,
    network: &Network,
    (device_id, device_owner): (&str, &str),
    wanted: Option<&[WantedIp]>,
) -> Result<Port, NetError> {
    let mut port = Port {
        meta: Meta { revision_number: 1, ..Meta::new(project) },
        network_id: network.meta.id.clone(),
        mac_address: random_mac(),
        admin_state_up: true,
        device_id: device_id.to_owned(),
        device_owner: device_owner.to_owned(),
        fixed_ips: Vec::new(),
        security_groups: Vec::new(),
        allowed_address_pairs: Vec::new(),
        port_security_enabled: false,
        extra_dhcp_opts: Vec::new(),
        dns_name: String::new(),
        host_id: String::new(),
        vnic_type: "normal".to_owned(),
        profile: BTreeMap::new(),
        up: false,
    };
    free_mac(tx, &mut port, false).await?;
    store::insert(tx, &port).await?;
    let subnets = ipam::subnets_of(tx, &network.meta.id).await?;
    port.fixed_ips = ipam::allocate(tx, network, &subnets, &port, wanted).await?;
    store::update_quietly(tx, &port).await?;
    Ok(port)
}

/// A group that ports are in.
pub(crate) async fn group_is_used(tx: &mut Tx, group: &SecurityGroup) -> Result<bool, NetError> {
    Ok(store::count(tx.conn(), "net_port_security_groups", "security_group_id = $1", &[&group.meta.id])
        .await?
        > 0)
}
