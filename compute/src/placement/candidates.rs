//! Allocation candidates: which providers could meet a request. One provider meets a whole request group; requests
//! that spread one group over several providers of a tree are not met.

use super::store::{self, Inventory, Set};
use super::{Amounts, has_room};
use crate::ComputeError;
use state::Tx;
use std::collections::BTreeMap;

/// What is asked of one provider.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    pub(crate) resources: Amounts,
    /// Of each set, the provider has at least one.
    pub(crate) required: Vec<Vec<String>>,
    pub(crate) forbidden: Vec<String>,
    /// Of each set, the provider is in at least one.
    pub(crate) member_of: Vec<Vec<String>>,
    pub(crate) not_member_of: Vec<String>,
    pub(crate) in_tree: Option<String>,
}

/// A provider that could, with what is needed to say so.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) provider: store::Provider,
    pub(crate) inventory: BTreeMap<String, Inventory>,
    pub(crate) used: Amounts,
    pub(crate) traits: Vec<String>,
}

/// Every provider that meets the group, oldest first. Without resources asked for, room does not matter.
pub(crate) async fn meeting(tx: &mut Tx, group: &Group) -> Result<Vec<Candidate>, ComputeError> {
    let mut inventories = store::all_inventories(tx).await?;
    let mut usages = store::all_usages(tx).await?;
    let mut out = Vec::new();
    for provider in store::providers(tx).await? {
        let inventory = inventories.remove(&provider.id).unwrap_or_default();
        let used = usages.remove(&provider.id).unwrap_or_default();
        let in_tree = group.in_tree.as_ref().is_none_or(|t| {
            // Any provider of a tree names the tree.
            *t == provider.id || *t == provider.root_id
        });
        if !in_tree || !has_room(&inventory, &used, &group.resources) {
            continue;
        }
        let traits = store::members(tx, Set::Traits, &provider.id).await?;
        let has = |set: &Vec<String>| set.iter().any(|t| traits.contains(t));
        if !group.required.iter().all(has) || group.forbidden.iter().any(|t| traits.contains(t)) {
            continue;
        }
        if !(group.member_of.is_empty() && group.not_member_of.is_empty()) {
            let aggregates = store::members(tx, Set::Aggregates, &provider.id).await?;
            let is_in = |set: &Vec<String>| set.iter().any(|a| aggregates.contains(a));
            if !group.member_of.iter().all(is_in)
                || group.not_member_of.iter().any(|a| aggregates.contains(a))
            {
                continue;
            }
        }
        out.push(Candidate { provider, inventory, used, traits });
    }
    Ok(out)
}
