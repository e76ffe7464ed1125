//! The scheduler: which host a server goes to. It looks and claims in one transaction, under Placement's lock.

use crate::model::{Host, Server, ServerGroup};
use crate::placement::{self, store};
use crate::store::{groups, hosts};
use crate::{Compute, ComputeError};
use state::Tx;
use std::collections::HashMap;

/// Why a host is not taken; for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    Down,
    Disabled,
    Zone,
    NotAsked,
    Group,
    Full,
}

/// A host with what decides about it.
struct Candidate {
    host: Host,
    up: bool,
    /// Members of the server's group that are already there.
    kin: i64,
    /// MiB of memory that are still free to promise.
    free: i64,
    fits: bool,
}

impl Compute {
    /// Chooses a host for the server and claims its room there. A server that was given a host before keeps
    /// it. `Conflict` where no host fits.
    pub(crate) async fn schedule(&self, tx: &mut Tx, s: &Server) -> Result<Host, ComputeError> {
        tx.lock(placement::LOCK).await?;
        let all = hosts::list_tx(tx).await?;
        if !s.host.is_empty() {
            let host = all.into_iter().find(|h| h.name == s.host);
            return host.ok_or_else(|| ComputeError::Conflict("The server's host is gone.".into()));
        }
        let group = match &s.group_id {
            Some(id) => groups::get(&self.db, id).await?,
            None => None,
        };
        let chosen = choose(self.candidates(tx, s, all).await?, s, group.as_ref())?;
        let consumer = store::Consumer {
            id: s.id.clone(),
            project_id: s.project_id.clone(),
            user_id: s.user_id.clone(),
            kind: "INSTANCE".into(),
            generation: 1,
        };
        let claim = [(chosen.id.clone(), placement::needs(&s.flavor))];
        store::set_allocations(tx, &consumer, &claim).await?;
        Ok(chosen)
    }

    async fn candidates(
        &self,
        tx: &mut Tx,
        s: &Server,
        all: Vec<Host>,
    ) -> Result<Vec<Candidate>, ComputeError> {
        let inventories = store::all_inventories(tx).await?;
        let used = store::all_usages(tx).await?;
        let mut kin: HashMap<String, i64> = HashMap::new();
        if let Some(group) = &s.group_id {
            for (member, _, host) in groups::members_tx(tx, group).await? {
                *kin.entry(host).or_default() += i64::from(member != s.id);
            }
        }
        let needs = placement::needs(&s.flavor);
        let none = Default::default();
        let no_inventory = Default::default();
        Ok(all
            .into_iter()
            .map(|host| {
                let inventory = inventories.get(&host.id).unwrap_or(&no_inventory);
                let used = used.get(&host.id).unwrap_or(&none);
                let memory = inventory.get("MEMORY_MB").map_or(0, placement::Inventory::capacity);
                Candidate {
                    up: self.is_up(&host),
                    kin: kin.get(&host.name).copied().unwrap_or(0),
                    free: memory - used.get("MEMORY_MB").copied().unwrap_or(0),
                    fits: placement::has_room(inventory, used, &needs),
                    host,
                }
            })
            .collect())
    }
}

fn choose(candidates: Vec<Candidate>, s: &Server, group: Option<&ServerGroup>) -> Result<Host, ComputeError> {
    let elsewhere = candidates.iter().any(|c| c.kin > 0);
    let mut fit = Vec::new();
    for c in candidates {
        match unfit(&c, s, group, elsewhere) {
            None => fit.push(c),
            Some(why) => tracing::debug!(server = %s.id, host = %c.host.name, ?why, "host does not fit"),
        }
    }
    // Soft policies weigh first, then free memory; the name makes it the same every time.
    let kin = |c: &Candidate| match group.map(|g| g.policy.as_str()) {
        Some("soft-affinity") => c.kin,
        Some("soft-anti-affinity") => -c.kin,
        _ => 0,
    };
    fit.sort_by(|a, b| (kin(b), b.free).cmp(&(kin(a), a.free)).then_with(|| a.host.name.cmp(&b.host.name)));
    let none =
        || ComputeError::Conflict("No valid host was found. There are not enough hosts available.".into());
    fit.into_iter().next().map(|c| c.host).ok_or_else(none)
}

fn unfit(c: &Candidate, s: &Server, group: Option<&ServerGroup>, elsewhere: bool) -> Option<Unfit> {
    if !c.up {
        return Some(Unfit::Down);
    }
    if c.host.disabled {
        return Some(Unfit::Disabled);
    }
    if !s.availability_zone.is_empty() && s.availability_zone != c.host.zone {
        return Some(Unfit::Zone);
    }
    if s.wanted_host.as_ref().is_some_and(|h| *h != c.host.name) {
        return Some(Unfit::NotAsked);
    }
    if let Some(group) = group {
        let apart = group.policy == "anti-affinity" && c.kin >= group.max_server_per_host.unwrap_or(1);
        let together = group.policy == "affinity" && elsewhere && c.kin == 0;
        if apart || together {
            return Some(Unfit::Group);
        }
    }
    (!c.fits).then_some(Unfit::Full)
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
