//! Allocations: what a consumer uses of which provider, replaced as a whole or not at all.

use super::providers::{CONCURRENT, conflict};
use super::store::{self, Consumer};
use super::{Amounts, has_room};
use crate::ComputeError;
use state::Tx;
use std::collections::BTreeMap;

/// What a consumer is to have.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) consumer: String,
    pub(crate) project_id: String,
    pub(crate) user_id: String,
    pub(crate) kind: String,
    /// The consumer's generation that the caller saw, `Some(None)` for a consumer that must be new; `None` where the
    /// caller's version knows no generations.
    pub(crate) generation: Option<Option<i64>>,
    pub(crate) amounts: BTreeMap<String, Amounts>,
}

/// Makes all the claims, or none: the transaction is the caller's to commit.
pub(crate) async fn claim(tx: &mut Tx, claims: &[Claim]) -> Result<(), ComputeError> {
    let mut consumers = Vec::with_capacity(claims.len());
    for c in claims {
        let old = store::consumer(tx, &c.consumer).await?;
        let at = old.as_ref().map(|o| o.generation);
        if let Some(wanted) = c.generation
            && wanted != at
        {
            return Err(conflict(
                CONCURRENT,
                format!("consumer generation conflict - expected {at:?} but got {wanted:?}"),
            ));
        }
        let consumer = Consumer {
            id: c.consumer.clone(),
            project_id: c.project_id.clone(),
            user_id: c.user_id.clone(),
            kind: c.kind.clone(),
            generation: at.unwrap_or(0) + 1,
        };
        // What the consumer has now is free for what it is to have.
        if let Some(old) = old {
            store::set_allocations(tx, &old, &[]).await?;
        }
        consumers.push(consumer);
    }
    for (c, consumer) in claims.iter().zip(&consumers) {
        check(tx, c).await?;
        let amounts: Vec<_> = c.amounts.iter().map(|(p, a)| (p.clone(), a.clone())).collect();
        store::set_allocations(tx, consumer, &amounts).await?;
    }
    Ok(())
}

async fn check(tx: &mut Tx, c: &Claim) -> Result<(), ComputeError> {
    let inventories = store::all_inventories(tx).await?;
    let usages = store::all_usages(tx).await?;
    let none = Amounts::new();
    for (provider, wanted) in &c.amounts {
        if store::provider(tx, provider).await?.is_none() {
            return Err(ComputeError::invalid(format!(
                "Allocation for resource provider '{provider}' that does not exist."
            )));
        }
        let empty = BTreeMap::new();
        let inventory = inventories.get(provider).unwrap_or(&empty);
        if let Some(class) = wanted.keys().find(|k| !inventory.contains_key(*k)) {
            return Err(conflict(
                "placement.undefined_code",
                format!(
                    "Unable to allocate inventory: Inventory for '{class}' on resource provider '{provider}' invalid."
                ),
            ));
        }
        if !has_room(inventory, usages.get(provider).unwrap_or(&none), wanted) {
            return Err(conflict(
                "placement.undefined_code",
                format!(
                    "Unable to allocate inventory: Unable to create allocation for '{}' on resource provider \
                     '{provider}'. The requested amount would exceed the capacity.",
                    wanted.keys().cloned().collect::<Vec<_>>().join(", ")
                ),
            ));
        }
    }
    Ok(())
}
