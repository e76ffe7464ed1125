//! Flavors: the sizes a cloud offers.

use crate::model::Flavor;
use crate::store::flavors as store;
use crate::{Compute, ComputeError};
use api::Context;
use state::{StateError, Timestamp, Tx};

/// `(id, name, vcpus, MiB, GiB)` of a new cloud.
const FIRST: [(&str, &str, i64, i64, i64); 8] = [
    ("42", "m1.nano", 1, 192, 1),
    ("84", "m1.micro", 1, 256, 1),
    ("1", "m1.tiny", 1, 512, 1),
    ("2", "m1.small", 1, 2048, 20),
    ("3", "m1.medium", 2, 4096, 40),
    ("4", "m1.large", 4, 8192, 80),
    ("5", "m1.xlarge", 8, 16384, 160),
    ("6", "m1.2xlarge", 16, 32768, 320),
];

/// What a new flavor is made from.
#[derive(Debug, Clone)]
pub(crate) struct NewFlavor {
    pub(crate) id: Option<String>,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) vcpus: i64,
    pub(crate) ram_mib: i64,
    pub(crate) disk_gib: i64,
    pub(crate) ephemeral_gib: i64,
    pub(crate) swap_mib: i64,
    pub(crate) rxtx_factor: f64,
    pub(crate) is_public: bool,
}

impl NewFlavor {
    fn make(self) -> Flavor {
        Flavor {
            id: self.id.unwrap_or_else(state::new_id),
            name: self.name,
            description: self.description,
            vcpus: self.vcpus,
            ram_mib: self.ram_mib,
            disk_gib: self.disk_gib,
            ephemeral_gib: self.ephemeral_gib,
            swap_mib: self.swap_mib,
            rxtx_factor: self.rxtx_factor,
            is_public: self.is_public,
            disabled: false,
            extra_specs: Default::default(),
            access: Default::default(),
            created_at: Timestamp::now(),
            updated_at: None,
        }
    }
}

fn not_found(id: &str) -> ComputeError {
    ComputeError::NotFound(format!("Flavor {id} could not be found."))
}

impl Compute {
    pub(crate) async fn bootstrap_flavors(&self) -> Result<(), ComputeError> {
        if !store::list(&self.db).await?.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        tx.lock("flavors").await?;
        let known = store::names(&mut tx).await?;
        for (id, name, vcpus, ram_mib, disk_gib) in FIRST {
            if known.iter().any(|k| k == name) {
                continue;
            }
            let new = NewFlavor {
                id: Some(id.into()),
                name: name.into(),
                description: None,
                vcpus,
                ram_mib,
                disk_gib,
                ephemeral_gib: 0,
                swap_mib: 0,
                rxtx_factor: 1.0,
                is_public: true,
            };
            store::insert(&mut tx, &new.make()).await?;
        }
        Ok(tx.commit().await?)
    }

    fn sees_flavor(ctx: &Context, f: &Flavor) -> bool {
        f.is_public || ctx.is_admin() || ctx.project().is_some_and(|p| f.access.contains(&p.id))
    }

    /// A flavor that the caller may use.
    pub(crate) async fn flavor(&self, ctx: &Context, id: &str) -> Result<Flavor, ComputeError> {
        let found = store::get(&self.db, id).await?;
        found.filter(|f| Self::sees_flavor(ctx, f)).ok_or_else(|| not_found(id))
    }

    /// Those that the caller may use, smallest first as upstream orders them (by id).
    pub(crate) async fn flavors(&self, ctx: &Context) -> Result<Vec<Flavor>, ComputeError> {
        let mut all = store::list(&self.db).await?;
        all.retain(|f| Self::sees_flavor(ctx, f));
        Ok(all)
    }

    pub(crate) async fn create_flavor(&self, ctx: &Context, new: NewFlavor) -> Result<Flavor, ComputeError> {
        self.may_at_home(ctx, "os_compute_api:os-flavor-manage:create")?;
        let flavor = new.make();
        let mut tx = self.db.begin().await?;
        tx.lock("flavors").await?;
        if store::names(&mut tx).await?.contains(&flavor.name) {
            return Err(ComputeError::Conflict(format!("Flavor with name {} already exists.", flavor.name)));
        }
        match store::insert(&mut tx, &flavor).await {
            Err(ComputeError::State(StateError::Conflict(_))) => {
                return Err(ComputeError::Conflict(format!("Flavor with ID {} already exists.", flavor.id)));
            }
            other => other?,
        }
        tx.commit().await?;
        Ok(flavor)
    }

    pub(crate) async fn delete_flavor(&self, ctx: &Context, id: &str) -> Result<(), ComputeError> {
        self.may_at_home(ctx, "os_compute_api:os-flavor-manage:delete")?;
        let mut tx = self.db.begin().await?;
        if !store::delete(&mut tx, id).await? {
            return Err(not_found(id));
        }
        Ok(tx.commit().await?)
    }

    /// Changes a flavor under its lock; the rule is checked first.
    pub(crate) async fn change_flavor(
        &self,
        ctx: &Context,
        rule: &str,
        id: &str,
        change: impl FnOnce(&mut Flavor) -> Result<(), ComputeError> + Send,
    ) -> Result<Flavor, ComputeError> {
        self.may_at_home(ctx, rule)?;
        let mut tx: Tx = self.db.begin().await?;
        let mut flavor = store::lock(&mut tx, id).await?.ok_or_else(|| not_found(id))?;
        change(&mut flavor)?;
        flavor.updated_at = Some(Timestamp::now());
        store::save(&mut tx, &flavor).await?;
        tx.commit().await?;
        Ok(flavor)
    }
}
