//! Servers: look-up with authorisation, listings, and what is changed without their host.

pub(crate) mod actions;
pub(crate) mod console;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod disks;
pub(crate) mod image;
pub(crate) mod listing;
pub(crate) mod mapping;
pub(crate) mod reshape;

pub(crate) use create::{DiskFrom, NewDisk, NewServer};

use crate::model::Server;
use crate::store::servers as store;
use crate::{Compute, ComputeError};
use api::Context;
use state::{Timestamp, Tx};

impl Compute {
    /// A server that lives, if the caller may see it and do `rule` to it: else 404, or 403.
    pub(crate) async fn server(&self, ctx: &Context, id: &str, rule: &str) -> Result<Server, ComputeError> {
        let found = store::get(&self.db, id).await?;
        self.admit(ctx, found, id, rule)
    }

    /// The same, held until the transaction ends.
    pub(crate) async fn hold(
        &self,
        ctx: &Context,
        tx: &mut Tx,
        id: &str,
        rule: &str,
    ) -> Result<Server, ComputeError> {
        let found = store::lock(tx, id).await?;
        self.admit(ctx, found, id, rule)
    }

    fn admit(
        &self,
        ctx: &Context,
        found: Option<Server>,
        id: &str,
        rule: &str,
    ) -> Result<Server, ComputeError> {
        let s = found.ok_or_else(|| ComputeError::server_not_found(id))?;
        if !self.sees(ctx, &s) {
            return Err(ComputeError::server_not_found(id));
        }
        let target = [("project_id", s.project_id.as_str()), ("user_id", s.user_id.as_str())];
        self.policy.enforce(ctx, rule, &target)?;
        Ok(s)
    }

    fn sees(&self, ctx: &Context, s: &Server) -> bool {
        ctx.is_admin() || ctx.project().is_some_and(|p| p.id == s.project_id)
    }

    /// Refuses a change of a locked server by anybody but those who may override the lock.
    pub(crate) fn check_lock(&self, ctx: &Context, s: &Server) -> Result<(), ComputeError> {
        let rule = "os_compute_api:os-lock-server:unlock:unlock_override";
        if s.locked.is_some() && !self.allows(ctx, rule, &s.project_id) {
            return Err(ComputeError::Conflict(format!("Instance {} is locked", s.id)));
        }
        Ok(())
    }

    /// Changes what of a server its host does not care about, under its lock.
    pub(crate) async fn change_server(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
        change: impl FnOnce(&mut Server) -> Result<(), ComputeError> + Send,
    ) -> Result<Server, ComputeError> {
        let mut tx = self.db.begin().await?;
        let mut s = self.hold(ctx, &mut tx, id, rule).await?;
        change(&mut s)?;
        s.updated_at = Timestamp::now();
        store::save(&mut tx, &s).await?;
        tx.commit().await?;
        Ok(s)
    }
}
