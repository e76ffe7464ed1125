//! Resource providers, their inventories, traits and aggregates. Every change names the provider's generation, so
//! that two who change the same thing do not overwrite each other.

use super::store::{self, Inventory, Provider, Set};
use super::{Amounts, LOCK};
use crate::{Compute, ComputeError};
use api::{Context, Error};
use state::{StateError, Tx};
use std::collections::BTreeMap;

/// A 409 with Placement's own code.
pub(crate) fn conflict(kind: &str, message: impl Into<String>) -> ComputeError {
    ComputeError::Refused(Error::conflict(message).with_kind(kind))
}

pub(crate) const CONCURRENT: &str = "placement.concurrent_update";

fn not_found(id: &str) -> ComputeError {
    ComputeError::NotFound(format!("No resource provider with uuid {id} found"))
}

impl Compute {
    pub(crate) fn may_place(&self, ctx: &Context) -> Result<(), ComputeError> {
        self.may_at_home(ctx, "placement:admin")
    }

    /// A transaction in which nothing else about placement changes.
    pub(crate) async fn placing(&self, ctx: &Context) -> Result<Tx, ComputeError> {
        self.may_place(ctx)?;
        let mut tx = self.db.begin().await?;
        tx.lock(LOCK).await?;
        Ok(tx)
    }
}

pub(crate) async fn provider(tx: &mut Tx, id: &str) -> Result<Provider, ComputeError> {
    store::provider(tx, id).await?.ok_or_else(|| not_found(id))
}

/// The provider, if it is still what the caller saw.
pub(crate) async fn unchanged(tx: &mut Tx, id: &str, generation: i64) -> Result<Provider, ComputeError> {
    let p = provider(tx, id).await?;
    if p.generation != generation {
        return Err(conflict(
            CONCURRENT,
            format!("resource provider generation conflict: {id} is at generation {}", p.generation),
        ));
    }
    Ok(p)
}

async fn parent(tx: &mut Tx, id: Option<&str>) -> Result<Option<Provider>, ComputeError> {
    let Some(id) = id else { return Ok(None) };
    let found = store::provider(tx, id).await?;
    found
        .map(Some)
        .ok_or_else(|| ComputeError::invalid(format!("parent provider UUID '{id}' does not exist.")))
}

fn duplicate(name: &str) -> impl FnOnce(ComputeError) -> ComputeError {
    let message = format!("Conflicting resource provider name: {name} already exists.");
    move |e| match e {
        ComputeError::State(StateError::Conflict(_)) => conflict("placement.duplicate_name", message),
        other => other,
    }
}

pub(crate) async fn create(
    tx: &mut Tx,
    id: &str,
    name: &str,
    parent_id: Option<&str>,
) -> Result<Provider, ComputeError> {
    let parent = parent(tx, parent_id).await?;
    store::insert_provider(tx, id, name, parent.as_ref()).await.map_err(duplicate(name))?;
    provider(tx, id).await
}

/// Another name, or a parent for what had none (or another one, `replace`).
pub(crate) async fn update(
    tx: &mut Tx,
    id: &str,
    name: &str,
    parent_id: Option<&str>,
    replace: bool,
) -> Result<Provider, ComputeError> {
    let now = provider(tx, id).await?;
    let wanted = parent_id.unwrap_or_default();
    if now.parent_id != wanted && !now.parent_id.is_empty() && !replace {
        return Err(ComputeError::invalid("re-parenting a provider is not currently allowed."));
    }
    if wanted == id {
        return Err(ComputeError::invalid("parent provider UUID cannot be same as UUID."));
    }
    let parent = parent(tx, parent_id).await?;
    if parent.as_ref().is_some_and(|p| p.root_id == id) {
        return Err(ComputeError::invalid("creating loop in the provider tree is not allowed."));
    }
    store::rename_provider(tx, id, name, parent.as_ref()).await.map_err(duplicate(name))?;
    provider(tx, id).await
}

pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<(), ComputeError> {
    provider(tx, id).await?;
    if !store::allocations_on(tx, id).await?.is_empty() {
        return Err(conflict(
            "placement.resource_provider.inuse",
            format!("Unable to delete resource provider {id}: Resource provider has allocations."),
        ));
    }
    if store::providers(tx).await?.iter().any(|p| p.parent_id == id) {
        return Err(conflict(
            "placement.resource_provider.cannot_delete_parent",
            format!("Unable to delete parent resource provider {id}: It has child resource providers."),
        ));
    }
    store::delete_provider(tx, id).await
}

/// Replaces the inventories; what is in use cannot go.
pub(crate) async fn set_inventories(
    tx: &mut Tx,
    id: &str,
    generation: i64,
    new: &BTreeMap<String, Inventory>,
) -> Result<Provider, ComputeError> {
    unchanged(tx, id, generation).await?;
    let known = store::classes(tx).await?;
    if let Some(class) = new.keys().find(|c| !known.contains(c)) {
        return Err(ComputeError::invalid(format!(
            "Unknown resource class in inventory for resource provider {id}: No such resource class {class}."
        )));
    }
    for (class, i) in new {
        if i.reserved > i.total || i.capacity() < 0 {
            return Err(ComputeError::invalid(format!(
                "Unable to update inventory for resource provider {id}: Invalid inventory for '{class}' on resource \
                 provider '{id}'. The reserved value is greater than or equal to total."
            )));
        }
    }
    let used: Amounts = store::all_usages(tx).await?.remove(id).unwrap_or_default();
    if let Some((class, _)) = used.iter().find(|(c, n)| **n > 0 && !new.contains_key(*c)) {
        return Err(conflict(
            "placement.inventory.inuse",
            format!("update conflict: Inventory for '{class}' on resource provider '{id}' in use."),
        ));
    }
    store::set_inventories(tx, id, new).await?;
    provider(tx, id).await
}

pub(crate) async fn set_traits(
    tx: &mut Tx,
    id: &str,
    generation: i64,
    traits: &[String],
) -> Result<Provider, ComputeError> {
    unchanged(tx, id, generation).await?;
    let known = store::traits(tx).await?;
    let missing: Vec<_> = traits.iter().filter(|t| !known.contains(t)).cloned().collect();
    if !missing.is_empty() {
        return Err(ComputeError::invalid(format!("No such trait {}", missing.join(", "))));
    }
    store::set_members(tx, Set::Traits, id, traits).await?;
    provider(tx, id).await
}
