//! The external network that a new cloud begins with.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Network, NetworkType, Pool};
use crate::network::NetworkFields;
use crate::store;
use crate::subnet::SubnetFields;
use crate::{Context, NetError, Networks};

/// How the first external network is to be.
#[derive(Debug, Clone)]
pub struct PublicNetwork {
    pub name: String,
    /// The physical network's name in `ovn-bridge-mappings`.
    pub physical_network: String,
    pub cidr: IpNet,
    /// The host's own address in it.
    pub gateway: IpAddr,
    /// The addresses to give away.
    pub pool: (IpAddr, IpAddr),
}

impl Networks {
    /// Makes the external network with its subnet, shared with all, unless its physical network has one
    /// already. It may be called on every start.
    pub async fn bootstrap_public(&self, ctx: &Context, public: &PublicNetwork) -> Result<Network, NetError> {
        let all = store::find::<Network>(self.db().read(), "external = '1'", &[]).await?;
        let there = all.into_iter().find(|n| n.physical_network.as_deref() == Some(&public.physical_network));
        let project = ctx.project().map_or(String::new(), |p| p.id.clone());
        let network = match there {
            Some(network) => network,
            None => {
                let fields = NetworkFields {
                    project_id: Some(project.clone()),
                    name: Some(public.name.clone()),
                    external: Some(true),
                    shared: Some(true),
                    is_default: Some(true),
                    network_type: Some(NetworkType::Flat),
                    physical_network: Some(public.physical_network.clone()),
                    ..NetworkFields::default()
                };
                self.create_network(ctx, fields).await?
            }
        };
        if self.subnets_of(&network.meta.id).await?.is_empty() {
            let fields = SubnetFields {
                project_id: Some(project),
                network_id: Some(network.meta.id.clone()),
                name: Some(format!("{}-subnet", public.name)),
                ip_version: Some(4),
                cidr: Some(public.cidr),
                gateway_ip: Some(Some(public.gateway)),
                allocation_pools: Some(vec![Pool { start: public.pool.0, end: public.pool.1 }]),
                ..SubnetFields::default()
            };
            self.create_subnet(ctx, fields).await?;
        }
        Ok(network)
    }
}
