//! Host aggregates. One with an availability zone puts its hosts into that zone; no host is in two zones.

use crate::model::Aggregate;
use crate::store::{aggregates as store, hosts, servers};
use crate::{Compute, ComputeError};
use api::Context;
use state::{StateError, Timestamp, Tx};
use std::collections::{BTreeMap, BTreeSet};

/// The metadata key that is the zone.
const ZONE: &str = "availability_zone";

/// What an update changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    pub(crate) name: Option<String>,
    pub(crate) zone: Option<Option<String>>,
    /// A key without a value goes.
    pub(crate) metadata: BTreeMap<String, Option<String>>,
}

fn not_found(id: i64) -> ComputeError {
    ComputeError::NotFound(format!("Aggregate {id} could not be found."))
}

fn named_twice(name: &str) -> impl FnOnce(ComputeError) -> ComputeError {
    let message = format!("Aggregate {name} already exists.");
    move |e| match e {
        ComputeError::State(StateError::Conflict(_)) => ComputeError::Conflict(message),
        other => other,
    }
}

impl Compute {
    pub(crate) async fn aggregates(&self, ctx: &Context) -> Result<Vec<Aggregate>, ComputeError> {
        self.may_at_home(ctx, "os_compute_api:os-aggregates:index")?;
        store::list(&self.db).await
    }

    pub(crate) async fn aggregate(&self, ctx: &Context, id: i64) -> Result<Aggregate, ComputeError> {
        self.may_at_home(ctx, "os_compute_api:os-aggregates:show")?;
        store::list(&self.db).await?.into_iter().find(|a| a.id == id).ok_or_else(|| not_found(id))
    }

    pub(crate) async fn create_aggregate(
        &self,
        ctx: &Context,
        name: String,
        zone: Option<String>,
    ) -> Result<Aggregate, ComputeError> {
        self.may_at_home(ctx, "os_compute_api:os-aggregates:create")?;
        let mut tx = self.db.begin().await?;
        let all = store::lock(&mut tx).await?;
        let now = Timestamp::now();
        let made = Aggregate {
            id: all.last().map_or(0, |a| a.id) + 1,
            uuid: state::new_id(),
            name: name.clone(),
            hosts: BTreeSet::new(),
            metadata: zone.into_iter().map(|z| (ZONE.to_owned(), z)).collect(),
            created_at: now,
            updated_at: None,
        };
        store::insert(&mut tx, &made).await.map_err(named_twice(&name))?;
        tx.commit().await?;
        Ok(made)
    }

    pub(crate) async fn delete_aggregate(&self, ctx: &Context, id: i64) -> Result<(), ComputeError> {
        self.may_at_home(ctx, "os_compute_api:os-aggregates:delete")?;
        let mut tx = self.db.begin().await?;
        let all = store::lock(&mut tx).await?;
        let one = all.iter().find(|a| a.id == id).ok_or_else(|| not_found(id))?;
        if !one.hosts.is_empty() {
            return Err(ComputeError::invalid(format!(
                "Cannot perform action 'delete' on aggregate {id}. Reason: Host aggregate is not empty."
            )));
        }
        store::delete(&mut tx, id).await?;
        Ok(tx.commit().await?)
    }

    pub(crate) async fn change_aggregate(
        &self,
        ctx: &Context,
        rule: &str,
        id: i64,
        change: Change,
    ) -> Result<Aggregate, ComputeError> {
        self.alter(ctx, rule, id, |a| {
            if let Some(name) = change.name {
                a.name = name;
            }
            let mut metadata = change.metadata;
            if let Some(zone) = change.zone {
                metadata.insert(ZONE.into(), zone);
            }
            for (key, value) in metadata {
                match value {
                    Some(value) => drop(a.metadata.insert(key, value)),
                    None => drop(a.metadata.remove(&key)),
                }
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn add_host_to_aggregate(
        &self,
        ctx: &Context,
        id: i64,
        host: &str,
    ) -> Result<Aggregate, ComputeError> {
        let rule = "os_compute_api:os-aggregates:add_host";
        self.may_at_home(ctx, rule)?;
        if hosts::get(&self.db, host).await?.is_none() {
            return Err(ComputeError::NotFound(format!("Compute host {host} could not be found.")));
        }
        self.alter(ctx, rule, id, |a| match a.hosts.insert(host.to_owned()) {
            true => Ok(()),
            false => Err(ComputeError::Conflict(format!("Aggregate {id} already has host {host}."))),
        })
        .await
    }

    pub(crate) async fn remove_host_from_aggregate(
        &self,
        ctx: &Context,
        id: i64,
        host: &str,
    ) -> Result<Aggregate, ComputeError> {
        self.alter(ctx, "os_compute_api:os-aggregates:remove_host", id, |a| match a.hosts.remove(host) {
            true => Ok(()),
            false => Err(ComputeError::NotFound(format!("Aggregate {id} has no host {host}."))),
        })
        .await
    }

    /// Changes an aggregate and puts every host into the zone it is then in.
    async fn alter(
        &self,
        ctx: &Context,
        rule: &str,
        id: i64,
        change: impl FnOnce(&mut Aggregate) -> Result<(), ComputeError> + Send,
    ) -> Result<Aggregate, ComputeError> {
        self.may_at_home(ctx, rule)?;
        let mut tx = self.db.begin().await?;
        let mut all = store::lock(&mut tx).await?;
        let one = all.iter_mut().find(|a| a.id == id).ok_or_else(|| not_found(id))?;
        change(one)?;
        one.updated_at = Some(Timestamp::now());
        let changed = one.clone();
        store::save(&mut tx, &changed).await.map_err(named_twice(&changed.name))?;
        self.rezone(&mut tx, &all).await?;
        tx.commit().await?;
        Ok(changed)
    }

    async fn rezone(&self, tx: &mut Tx, all: &[Aggregate]) -> Result<(), ComputeError> {
        for mut host in hosts::list_tx(tx).await? {
            let zones: BTreeSet<&String> = all
                .iter()
                .filter(|a| a.hosts.contains(&host.name))
                .filter_map(|a| a.metadata.get(ZONE))
                .collect();
            if zones.len() > 1 {
                return Err(ComputeError::Conflict(format!(
                    "Cannot add host to aggregate. Reason: Host {} would be in two availability zones.",
                    host.name
                )));
            }
            let zone = zones.into_iter().next().unwrap_or(&self.config.availability_zone);
            if host.zone == *zone {
                continue;
            }
            if !servers::ids_of_host(tx, &host.name).await?.is_empty() {
                return Err(ComputeError::invalid(format!(
                    "One or more hosts contain instances in this zone: {}",
                    host.name
                )));
            }
            host.zone.clone_from(zone);
            hosts::save(tx, &host).await?;
        }
        Ok(())
    }
}
