//! Placement: which provider has how much of what, and who uses it. The scheduler uses the same rows as the
//! API, in the transaction in which it decides, so that no two servers are ever promised the same room.

pub(crate) mod allocations;
pub(crate) mod candidates;
pub(crate) mod names;
pub(crate) mod providers;
pub(crate) mod store;

use crate::ComputeError;
use crate::config::Config;
use crate::model::{Flavor, Host};
use crate::wire::HostFacts;
use state::{Db, Tx};
use std::collections::BTreeMap;

pub(crate) use store::Inventory;

/// Amounts by resource class.
pub(crate) type Amounts = BTreeMap<String, i64>;

/// Every decision about room is made under this lock.
pub(crate) const LOCK: &str = "placement";

/// Makes the standard resource classes and traits known.
pub(crate) async fn ensure_standard(db: &Db) -> Result<(), ComputeError> {
    if store::has_standard(db).await? {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    tx.lock(LOCK).await?;
    for class in names::CLASSES {
        store::add_class(&mut tx, class).await?;
    }
    for name in names::TRAITS {
        store::add_trait(&mut tx, name).await?;
    }
    Ok(tx.commit().await?)
}

/// What a server of this flavor takes on its host. Disks are in the pools, so they take nothing there.
pub(crate) fn needs(flavor: &Flavor) -> Amounts {
    BTreeMap::from([("VCPU".to_owned(), flavor.vcpus), ("MEMORY_MB".to_owned(), flavor.ram_mib)])
}

/// Keeps a host's provider what the host says it is. Ratios and reservations that an operator has set stay.
pub(crate) async fn set_host(
    tx: &mut Tx,
    host: &Host,
    facts: &HostFacts,
    config: &Config,
) -> Result<(), ComputeError> {
    tx.lock(LOCK).await?;
    if store::provider(tx, &host.id).await?.is_none() {
        store::insert_provider(tx, &host.id, &host.name, None).await?;
        let kind = if facts.virt_type == "kvm" { "HW_CPU_X86_VMX" } else { "COMPUTE_NODE" };
        store::set_members(tx, store::Set::Traits, &host.id, &["COMPUTE_NODE".into(), kind.into()]).await?;
    }
    let known = store::inventories(tx, &host.id).await?;
    let total = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let sizes = [
        ("VCPU", i64::from(facts.vcpus), 0, config.cpu_allocation_ratio),
        ("MEMORY_MB", total(facts.memory_mib), total(facts.reserved_memory_mib), config.ram_allocation_ratio),
        ("DISK_GB", total(facts.disk_gib), 0, 1.0),
    ];
    let mut next = known.clone();
    for (class, total, reserved, ratio) in sizes {
        if total == 0 {
            continue;
        }
        let old = known.get(class);
        let inventory = Inventory {
            total,
            reserved: old.map_or(reserved, |o| o.reserved).min(total),
            min_unit: 1,
            max_unit: total,
            step_size: 1,
            allocation_ratio: old.map_or(ratio, |o| o.allocation_ratio),
        };
        next.insert(class.to_owned(), inventory);
    }
    store::set_inventories(tx, &host.id, &next).await
}

/// Whether a provider has room for `wanted` beside what is used of it.
pub(crate) fn has_room(inventory: &BTreeMap<String, Inventory>, used: &Amounts, wanted: &Amounts) -> bool {
    wanted.iter().all(|(class, amount)| {
        inventory.get(class).is_some_and(|i| i.admits(used.get(class).copied().unwrap_or(0), *amount))
    })
}

impl Inventory {
    /// What may be used at most.
    pub(crate) fn capacity(&self) -> i64 {
        // Capacities are far below 2^53.
        ((self.total - self.reserved) as f64 * self.allocation_ratio) as i64
    }

    pub(crate) fn admits(&self, used: i64, amount: i64) -> bool {
        amount == 0
            || (amount >= self.min_unit
                && amount <= self.max_unit
                && amount % self.step_size.max(1) == 0
                && used.saturating_add(amount) <= self.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_admits_what_fits() {
        let i = Inventory {
            total: 10,
            reserved: 2,
            min_unit: 2,
            max_unit: 8,
            step_size: 2,
            allocation_ratio: 1.5,
        };
        assert_eq!(i.capacity(), 12);
        assert!(i.admits(4, 8) && i.admits(0, 0));
        assert!(!i.admits(6, 8), "full");
        assert!(!i.admits(0, 1) && !i.admits(0, 10) && !i.admits(0, 3), "units");
    }
}
