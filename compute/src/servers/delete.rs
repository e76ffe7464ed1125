//! Deleting a server: legal in every state and in the middle of every task. The row says that it goes; the
//! task `server.delete` comes after whatever task of the server still runs.

use crate::observe::host_topic;
use crate::states::TaskState;
use crate::store::{actions, servers as store};
use crate::wire::Power;
use crate::{Compute, ComputeError, tasks};
use api::Context;
use state::Timestamp;

impl Compute {
    pub(crate) async fn delete_server(&self, ctx: &Context, id: &str) -> Result<(), ComputeError> {
        let mut tx = self.db.begin().await?;
        let mut s = self.hold(ctx, &mut tx, id, "os_compute_api:servers:delete").await?;
        self.check_lock(ctx, &s)?;
        if s.is_deleting() {
            return Ok(());
        }
        s.task_state = Some(TaskState::Deleting);
        s.want(Power::Gone, false, false);
        s.updated_at = Timestamp::now();
        actions::begin(&mut tx, ctx, id, "delete").await?;
        store::save(&mut tx, &s).await?;
        tasks::delete::spawn(&mut tx, id).await?;
        if !s.host.is_empty() {
            tx.wake(host_topic(&s.host));
        }
        Ok(tx.commit().await?)
    }
}
