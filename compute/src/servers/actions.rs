//! What a user does to a server that exists: each action is one transaction that says what is wanted and wakes
//! the host.

use crate::model::{Lock, Server};
use crate::observe::host_topic;
use crate::states::{Act, TaskState, refused};
use crate::store::{actions, servers as store};
use crate::wire::Power;
use crate::{Compute, ComputeError};
use api::Context;
use state::Timestamp;

/// An action that only changes a guest's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PowerAction {
    Start,
    Stop,
    RebootSoft,
    RebootHard,
    Pause,
    Unpause,
    Suspend,
    Resume,
}

impl PowerAction {
    /// `(rule, name among the server's actions, legality, task)`
    fn about(self) -> (&'static str, &'static str, Act, TaskState) {
        use TaskState as T;
        match self {
            PowerAction::Start => ("os_compute_api:servers:start", "start", Act::Start, T::PoweringOn),
            PowerAction::Stop => ("os_compute_api:servers:stop", "stop", Act::Stop, T::PoweringOff),
            PowerAction::RebootSoft => {
                ("os_compute_api:servers:reboot", "reboot", Act::RebootSoft, T::Rebooting)
            }
            PowerAction::RebootHard => {
                ("os_compute_api:servers:reboot", "reboot", Act::RebootHard, T::RebootingHard)
            }
            PowerAction::Pause => ("os_compute_api:os-pause-server:pause", "pause", Act::Pause, T::Pausing),
            PowerAction::Unpause => {
                ("os_compute_api:os-pause-server:unpause", "unpause", Act::Unpause, T::Unpausing)
            }
            PowerAction::Suspend => {
                ("os_compute_api:os-suspend-server:suspend", "suspend", Act::Suspend, T::Suspending)
            }
            PowerAction::Resume => {
                ("os_compute_api:os-suspend-server:resume", "resume", Act::Resume, T::Resuming)
            }
        }
    }

    fn apply(self, s: &mut Server) {
        match self {
            PowerAction::Start => s.want(Power::On, true, false),
            PowerAction::Stop => s.want(Power::Off, false, true),
            PowerAction::RebootSoft => s.want(Power::On, true, true),
            PowerAction::RebootHard => s.want(Power::On, true, false),
            PowerAction::Pause => s.want(Power::Paused, false, false),
            PowerAction::Suspend => s.want(Power::Suspended, false, false),
            PowerAction::Unpause | PowerAction::Resume => s.want(Power::On, false, false),
        }
    }
}

/// 409 where a server's state does not allow the action, in upstream's words.
pub(crate) fn check_state(s: &Server, act: Act) -> Result<(), ComputeError> {
    match refused(act, s.vm_state, s.task_state) {
        None => Ok(()),
        Some((attribute, state)) => Err(ComputeError::wrong_state(act.word(), &s.id, attribute, state)),
    }
}

impl Compute {
    pub(crate) async fn power(
        &self,
        ctx: &Context,
        id: &str,
        action: PowerAction,
    ) -> Result<(), ComputeError> {
        let (rule, name, act, task) = action.about();
        let mut tx = self.db.begin().await?;
        let mut s = self.hold(ctx, &mut tx, id, rule).await?;
        self.check_lock(ctx, &s)?;
        check_state(&s, act)?;
        if s.host.is_empty() || s.intent.incarnation == 0 {
            return Err(ComputeError::Conflict(format!("Instance {id} has never been started on a host.")));
        }
        action.apply(&mut s);
        s.task_state = Some(task);
        s.seen.error = None;
        s.updated_at = Timestamp::now();
        actions::begin(&mut tx, ctx, id, name).await?;
        store::save(&mut tx, &s).await?;
        tx.wake(host_topic(&s.host));
        Ok(tx.commit().await?)
    }

    pub(crate) async fn lock_server(
        &self,
        ctx: &Context,
        id: &str,
        reason: Option<String>,
    ) -> Result<(), ComputeError> {
        let rule = "os_compute_api:os-lock-server:lock";
        let by = |s: &Server| {
            let own = ctx.project().is_some_and(|p| p.id == s.project_id);
            if own && !ctx.is_admin() { "owner" } else { "admin" }
        };
        self.change_server(ctx, id, rule, |s| {
            s.locked = Some(Lock { by: by(s).into(), reason });
            Ok(())
        })
        .await
        .map(drop)
    }

    pub(crate) async fn unlock_server(&self, ctx: &Context, id: &str) -> Result<(), ComputeError> {
        let rule = "os_compute_api:os-lock-server:unlock";
        let seen = self.server(ctx, id, rule).await?;
        if seen.locked.as_ref().is_some_and(|l| l.by == "admin") {
            self.check_lock(ctx, &seen)?;
        }
        self.change_server(ctx, id, rule, |s| {
            s.locked = None;
            Ok(())
        })
        .await
        .map(drop)
    }

    /// An administrator's way out: says that the server is well, or is not.
    pub(crate) async fn reset_state(
        &self,
        ctx: &Context,
        id: &str,
        active: bool,
    ) -> Result<(), ComputeError> {
        let rule = "os_compute_api:os-admin-actions:reset_state";
        self.change_server(ctx, id, rule, |s| {
            s.vm_state = if active { crate::model::VmState::Active } else { crate::model::VmState::Error };
            s.task_state = s.task_state.filter(|t| *t == TaskState::Deleting);
            s.seen.error = None;
            if active {
                s.fault = None;
            }
            Ok(())
        })
        .await
        .map(drop)
    }
}
