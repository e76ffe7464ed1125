//! Tags on any resource. They mean nothing to OVN, so nothing is marked.

use std::collections::BTreeSet;

use crate::model::{FloatingIp, Network, Port, Router, SecurityGroup, Subnet};
use crate::store::{self, Entity};
use crate::{Context, NetError, Networks};

fn unknown(resources: &str) -> NetError {
    NetError::refused(404, "HTTPNotFound", format!("There are no tags on {resources}."))
}

impl Networks {
    /// The tags of a resource that the caller may see.
    pub(crate) async fn tags(
        &self,
        ctx: &Context,
        resources: &str,
        id: &str,
    ) -> Result<BTreeSet<String>, NetError> {
        Ok(match resources {
            "networks" => self.network(ctx, id).await?.meta.tags,
            "subnets" => self.subnet(ctx, id).await?.meta.tags,
            "ports" => self.port(ctx, id).await?.meta.tags,
            "routers" => self.router_of(ctx, id).await?.meta.tags,
            "floatingips" => self.floating_ip(ctx, id).await?.meta.tags,
            "security-groups" | "security_groups" => self.security_group(ctx, id).await?.meta.tags,
            other => return Err(unknown(other)),
        })
    }

    /// Changes the tags of a resource that the caller may change; the tags as they then are.
    pub(crate) async fn change_tags(
        &self,
        ctx: &Context,
        resources: &str,
        id: &str,
        change: impl FnOnce(&mut BTreeSet<String>),
    ) -> Result<BTreeSet<String>, NetError> {
        match resources {
            "networks" => self.retag::<Network>(ctx, id, ("get_network", "update_network"), change).await,
            "subnets" => self.retag::<Subnet>(ctx, id, ("get_subnet", "update_subnet"), change).await,
            "ports" => self.retag::<Port>(ctx, id, ("get_port", "update_port"), change).await,
            "routers" => self.retag::<Router>(ctx, id, ("get_router", "update_router"), change).await,
            "floatingips" => {
                self.retag::<FloatingIp>(ctx, id, ("get_floatingip", "update_floatingip"), change).await
            }
            "security-groups" | "security_groups" => {
                let rules = ("get_security_group", "update_security_group");
                self.retag::<SecurityGroup>(ctx, id, rules, change).await
            }
            other => Err(unknown(other)),
        }
    }

    async fn retag<E: Entity>(
        &self,
        ctx: &Context,
        id: &str,
        rules: (&str, &str),
        change: impl FnOnce(&mut BTreeSet<String>),
    ) -> Result<BTreeSet<String>, NetError> {
        let mut tx = self.db().begin().await?;
        let found = store::get_locked::<E>(&mut tx, id).await?;
        let mut row = self.authorised(ctx, found, id, rules, |row| {
            vec![
                ("project_id", row.meta().project_id.clone()),
                ("network:project_id", row.meta().project_id.clone()),
            ]
        })?;
        change(&mut row.meta_mut().tags);
        let tags = row.meta().tags.clone();
        store::update(&mut tx, &mut row).await?;
        tx.commit().await?;
        Ok(tags)
    }
}
