//! Ports that are servers' interfaces.

use crate::model::{NetworkRequest, Nic, NicRequest, Plug, Server};
use crate::wire::HostNetwork;
use crate::{Compute, ComputeError};
use api::Context;
use netagent::model::{Network, Port, owner};
use netagent::{Binding, NewPort, PortFields, WantedIp};
use std::collections::HashSet;
use std::net::IpAddr;

impl Compute {
    /// Checks what a request says of networks, as far as it can be known now, and chooses the network where
    /// the request leaves the choice.
    pub(crate) async fn resolve_networks(
        &self,
        ctx: &Context,
        asked: NetworkRequest,
    ) -> Result<NetworkRequest, ComputeError> {
        match asked {
            NetworkRequest::None => Ok(NetworkRequest::None),
            NetworkRequest::Default | NetworkRequest::Auto => {
                let auto = asked == NetworkRequest::Auto;
                let mine = self.networks.project_networks(ctx).await?;
                let usable: Vec<_> = mine.iter().filter(|n| n.admin_state_up && !n.external).collect();
                match usable.as_slice() {
                    [one] => Ok(these(&one.meta.id)),
                    [] if auto => Err(ComputeError::invalid(
                        "Unable to automatically allocate a network for project: it has none.",
                    )),
                    [] => Ok(NetworkRequest::None),
                    _ => Err(ComputeError::Conflict(
                        "Multiple possible networks found, use a Network ID to be more specific.".into(),
                    )),
                }
            }
            NetworkRequest::These(nics) => {
                let mut ports = HashSet::new();
                for nic in &nics {
                    self.check_nic(ctx, nic).await?;
                    if let Some(port) = &nic.port_id
                        && !ports.insert(port.clone())
                    {
                        return Err(ComputeError::invalid(format!("Duplicate port {port} was requested.")));
                    }
                }
                Ok(NetworkRequest::These(nics))
            }
        }
    }

    async fn check_nic(&self, ctx: &Context, nic: &NicRequest) -> Result<(), ComputeError> {
        if let Some(id) = &nic.port_id {
            let port = match self.networks.port(ctx, id).await {
                Ok(p) => p,
                Err(e) if e.is_not_found() => {
                    return Err(ComputeError::invalid(format!("Port id {id} could not be found.")));
                }
                Err(e) => return Err(e.into()),
            };
            if !port.device_id.is_empty() {
                return Err(ComputeError::Conflict(format!("Port {id} is still in use.")));
            }
            if port.fixed_ips.is_empty() {
                return Err(ComputeError::invalid(format!(
                    "Port {id} requires a FixedIP in order to be used."
                )));
            }
            return Ok(());
        }
        let id = nic.network_id.as_deref().unwrap_or_default();
        let network = match self.networks.network(ctx, id).await {
            Ok(n) => n,
            Err(e) if e.is_not_found() => {
                return Err(ComputeError::invalid(format!("Network {id} could not be found.")));
            }
            Err(e) => return Err(e.into()),
        };
        self.check_network(ctx, &network).await?;
        if let Some(ip) = &nic.fixed_ip {
            let ip: IpAddr =
                ip.parse().map_err(|_| ComputeError::invalid(format!("Invalid fixed IP address ({ip})")))?;
            if self.networks.port_by_network_ip(id, ip).await?.is_some() {
                return Err(ComputeError::invalid(format!(
                    "Fixed IP address {ip} is already in use on instance."
                )));
            }
        }
        Ok(())
    }

    async fn check_network(&self, ctx: &Context, network: &Network) -> Result<(), ComputeError> {
        let id = &network.meta.id;
        if network.external && !network.shared && !ctx.is_admin() {
            return Err(ComputeError::Forbidden(format!(
                "It is not allowed to create an interface on external network {id}"
            )));
        }
        if self.networks.subnets_of(id).await?.is_empty() {
            return Err(ComputeError::invalid(format!(
                "Network {id} requires a subnet in order to boot instances on."
            )));
        }
        Ok(())
    }

    /// Makes or binds every port that the server asked for. A port that an earlier try made is found again by its
    /// device, so nothing is made twice.
    pub(crate) async fn plug_ports(&self, s: &Server, zone: &str) -> Result<Vec<Nic>, ComputeError> {
        let NetworkRequest::These(wanted) = &s.networks else { return Ok(Vec::new()) };
        let ctx = super::acting_in(&s.project_id);
        let mut there = self.networks.ports_of_device(&s.id).await?;
        let mut nics = Vec::with_capacity(wanted.len());
        for nic in wanted {
            let mine = |p: &Port| match &nic.port_id {
                Some(id) => p.meta.id == *id,
                None => {
                    Some(&p.network_id) == nic.network_id.as_ref()
                        && !wanted.iter().any(|w| w.port_id.as_ref() == Some(&p.meta.id))
                }
            };
            let port = match there.iter().position(mine) {
                Some(at) if there[at].host_id == s.host => there.swap_remove(at),
                at => {
                    if let Some(at) = at {
                        there.swap_remove(at);
                    }
                    self.plug_port(&ctx, s, nic, zone).await?
                }
            };
            nics.push(self.nic(&ctx, &port, nic).await?);
        }
        Ok(nics)
    }

    /// One port, made or bound for the server.
    pub(crate) async fn plug_port(
        &self,
        ctx: &Context,
        s: &Server,
        nic: &NicRequest,
        zone: &str,
    ) -> Result<Port, ComputeError> {
        let device_owner = format!("compute:{zone}");
        if let Some(id) = &nic.port_id {
            let binding = Binding { host: s.host.clone(), device_id: s.id.clone(), device_owner };
            return Ok(self.networks.bind_port(ctx, id, &binding).await?);
        }
        let ip = nic.fixed_ip.as_ref().and_then(|ip| ip.parse().ok());
        let wanted = ip.map(|ip| vec![WantedIp { subnet_id: None, ip_address: Some(ip) }]);
        let fields = PortFields {
            project_id: Some(s.project_id.clone()),
            device_id: Some(s.id.clone()),
            device_owner: Some(device_owner),
            host_id: Some(s.host.clone()),
            fixed_ips: wanted,
            security_groups: (!s.security_groups.is_empty()).then(|| s.security_groups.clone()),
            ..PortFields::default()
        };
        let new = NewPort { network_id: nic.network_id.clone().unwrap_or_default(), fields };
        Ok(self.networks.create_port(ctx, new).await?)
    }

    /// A port as the server's interface.
    pub(crate) async fn nic(
        &self,
        ctx: &Context,
        port: &Port,
        asked: &NicRequest,
    ) -> Result<Nic, ComputeError> {
        let network = self.networks.network(ctx, &port.network_id).await?;
        Ok(Nic {
            port_id: port.meta.id.clone(),
            network_id: port.network_id.clone(),
            mac: port.mac_address.clone(),
            mtu: network.mtu,
            ours: asked.port_id.is_none(),
            tag: asked.tag.clone(),
            plug: Plug::Attaching,
        })
    }

    /// Takes a port from the server: deleted where it was made for it, else free again.
    pub(crate) async fn unplug_port(&self, ctx: &Context, id: &str, ours: bool) -> Result<(), ComputeError> {
        let done = if ours {
            self.networks.delete_port(ctx, id, None).await
        } else {
            self.networks.bind_port(ctx, id, &Binding::default()).await.map(drop)
        };
        match done {
            Err(e) if e.is_not_found() => Ok(()),
            other => Ok(other?),
        }
    }

    /// Takes every port from the server, also those that no row of ours knows.
    pub(crate) async fn unplug_ports(&self, s: &Server) -> Result<(), ComputeError> {
        let ctx = super::acting_in(&s.project_id);
        let given: HashSet<&str> = match &s.networks {
            NetworkRequest::These(nics) => nics.iter().filter_map(|n| n.port_id.as_deref()).collect(),
            _ => HashSet::new(),
        };
        for port in self.networks.ports_of_device(&s.id).await? {
            let id = port.meta.id.as_str();
            let ours = s.nics.iter().find(|n| n.port_id == id).map_or(!given.contains(id), |n| n.ours);
            self.unplug_port(&ctx, id, ours).await?;
        }
        Ok(())
    }

    /// The networks that have a guest on a host, for the metadata doors there.
    pub(crate) async fn host_networks(
        &self,
        host: &str,
        ids: &[String],
    ) -> Result<Vec<HostNetwork>, ComputeError> {
        let ctx = Context::service("compute");
        let mut doors = Vec::with_capacity(ids.len());
        for id in ids {
            let ports = self.networks.ports(&ctx, Some(("network_id", id))).await?;
            let Some(port) = ports.into_iter().find(|p| p.device_owner == owner::METADATA) else {
                tracing::warn!(network = %id, host, "a network has no metadata port");
                continue;
            };
            let subnets = self.networks.subnets_of(id).await?;
            let network = self.networks.network(&ctx, id).await?;
            let with_prefix = |ip: &netagent::model::FixedIp| {
                let subnet = subnets.iter().find(|s| s.meta.id == ip.subnet_id)?;
                ipnet::IpNet::new(ip.ip_address, subnet.cidr.prefix_len()).ok()
            };
            doors.push(HostNetwork {
                network_id: id.clone(),
                metadata_port_id: port.meta.id.clone(),
                mac: port.mac_address.clone(),
                addresses: port.fixed_ips.iter().filter_map(with_prefix).collect(),
                mtu: u32::try_from(network.mtu).unwrap_or(0),
            });
        }
        Ok(doors)
    }
}

fn these(network: &str) -> NetworkRequest {
    let nic = NicRequest { network_id: Some(network.to_owned()), ..NicRequest::default() };
    NetworkRequest::These(vec![nic])
}
