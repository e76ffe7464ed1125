//! What makes a server another one while it keeps its name: another image (rebuild), another flavor (resize). Each
//! says what is to be and leaves the work to a task.

use super::actions::check_state;
use crate::model::{DiskSource, Flavor, Server};
use crate::observe::host_topic;
use crate::quotas::Spend;
use crate::states::{Act, PowerState, TaskState, VmState};
use crate::store::{actions, servers as store};
use crate::tasks::{create::claim_flavor, rebuild, resize};
use crate::wire::Power;
use crate::{Compute, ComputeError};
use api::Context;
use state::Timestamp;
use std::collections::BTreeMap;

/// What a rebuild changes beside the disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rebuild {
    pub(crate) image_id: String,
    pub(crate) name: Option<String>,
    pub(crate) metadata: Option<BTreeMap<String, String>>,
    pub(crate) description: Option<Option<String>>,
    pub(crate) disk_config: Option<String>,
}

/// The tier and image of a server's own root disk, or a refusal for one that boots from a volume.
fn local_root(s: &mut Server) -> Result<(&String, &mut String), ComputeError> {
    let root = s.disks.iter_mut().find(|d| d.boot_index == Some(0));
    match root.map(|d| &mut d.source) {
        Some(DiskSource::Local { tier, image }) => Ok((tier, image)),
        _ => Err(ComputeError::NotOffered("This is not offered for servers that boot from a volume.".into())),
    }
}

fn on_a_host(s: &Server) -> Result<(), ComputeError> {
    if s.host.is_empty() || s.intent.incarnation == 0 {
        return Err(ComputeError::Conflict(format!("Instance {} has never been started on a host.", s.id)));
    }
    Ok(())
}

impl Compute {
    /// A new root disk from an image; everything else of the server stays.
    pub(crate) async fn rebuild_server(
        &self,
        ctx: &Context,
        id: &str,
        asked: Rebuild,
    ) -> Result<Server, ComputeError> {
        let rule = "os_compute_api:servers:rebuild";
        let seen = self.server(ctx, id, rule).await?;
        self.bootable(ctx, &asked.image_id, &seen.flavor).await?;
        let mut tx = self.db.begin().await?;
        let mut s = self.hold(ctx, &mut tx, id, rule).await?;
        self.check_lock(ctx, &s)?;
        check_state(&s, Act::Rebuild)?;
        on_a_host(&s)?;
        local_root(&mut s)?.1.clone_from(&asked.image_id);
        s.image_id = asked.image_id;
        if let Some(name) = asked.name {
            s.name = name;
        }
        if let Some(metadata) = asked.metadata {
            s.metadata = metadata;
        }
        if let Some(description) = asked.description {
            s.description = description;
        }
        if let Some(word) = asked.disk_config {
            s.set_disk_config(&word);
        }
        let resume = s.vm_state != VmState::Stopped;
        s.task_state = Some(TaskState::Rebuilding);
        s.want(Power::Off, false, false);
        (s.seen.error, s.updated_at) = (None, Timestamp::now());
        actions::begin(&mut tx, ctx, id, "rebuild").await?;
        store::save(&mut tx, &s).await?;
        rebuild::spawn(&mut tx, id, resume).await?;
        tx.wake(host_topic(&s.host));
        tx.commit().await?;
        Ok(s)
    }

    /// Another flavor, which must not have a smaller disk. Until it is confirmed it can be taken back.
    pub(crate) async fn resize_server(
        &self,
        ctx: &Context,
        id: &str,
        flavor_id: &str,
        disk_config: Option<&str>,
    ) -> Result<(), ComputeError> {
        let rule = "os_compute_api:servers:resize";
        self.server(ctx, id, rule).await?;
        let flavor = match self.flavor(ctx, flavor_id).await {
            Err(ComputeError::NotFound(_)) => {
                return Err(ComputeError::invalid("Unable to locate requested flavor."));
            }
            other => other?,
        };
        let mut tx = self.db.begin().await?;
        let mut s = self.hold(ctx, &mut tx, id, rule).await?;
        self.check_lock(ctx, &s)?;
        check_state(&s, Act::Resize)?;
        on_a_host(&s)?;
        may_become(&mut s, &flavor)?;
        let more = |new: i64, old: i64| (new - old).max(0);
        let spend = Spend {
            instances: 0,
            cores: more(flavor.vcpus, s.flavor.vcpus),
            ram: more(flavor.ram_mib, s.flavor.ram_mib),
        };
        self.spend(&mut tx, &s.project_id, spend).await?;
        claim_flavor(&mut tx, &s, &flavor).await?;
        if let Some(word) = disk_config {
            s.set_disk_config(word);
        }
        let resume = s.seen.power == PowerState::Running;
        s.old_flavor = Some(std::mem::replace(&mut s.flavor, flavor));
        s.task_state = Some(TaskState::ResizePrep);
        s.want(Power::Off, false, true);
        (s.seen.error, s.updated_at) = (None, Timestamp::now());
        actions::begin(&mut tx, ctx, id, "resize").await?;
        store::save(&mut tx, &s).await?;
        resize::spawn(&mut tx, id, resume).await?;
        tx.wake(host_topic(&s.host));
        Ok(tx.commit().await?)
    }

    /// The new flavor is here to stay.
    pub(crate) async fn confirm_resize(&self, ctx: &Context, id: &str) -> Result<(), ComputeError> {
        let mut tx = self.db.begin().await?;
        let mut s = self.hold(ctx, &mut tx, id, "os_compute_api:servers:resize").await?;
        check_state(&s, Act::ConfirmResize)?;
        s.old_flavor = None;
        s.vm_state = if s.seen.power == PowerState::Running { VmState::Active } else { VmState::Stopped };
        s.updated_at = Timestamp::now();
        actions::begin(&mut tx, ctx, id, "confirmResize").await?;
        actions::end_one(&mut tx, id, "confirmResize", None).await?;
        store::save(&mut tx, &s).await?;
        Ok(tx.commit().await?)
    }

    /// The old flavor again. A disk that has grown stays as large as it is.
    pub(crate) async fn revert_resize(&self, ctx: &Context, id: &str) -> Result<(), ComputeError> {
        let mut tx = self.db.begin().await?;
        let mut s = self.hold(ctx, &mut tx, id, "os_compute_api:servers:resize").await?;
        check_state(&s, Act::RevertResize)?;
        let Some(old) = s.old_flavor.take() else {
            return Err(ComputeError::Conflict(format!("Instance {id} has not been resized.")));
        };
        claim_flavor(&mut tx, &s, &old).await?;
        s.flavor = old;
        let resume = s.seen.power == PowerState::Running;
        s.task_state = Some(TaskState::ResizeReverting);
        s.want(Power::Off, false, true);
        s.updated_at = Timestamp::now();
        actions::begin(&mut tx, ctx, id, "revertResize").await?;
        store::save(&mut tx, &s).await?;
        resize::spawn(&mut tx, id, resume).await?;
        tx.wake(host_topic(&s.host));
        Ok(tx.commit().await?)
    }
}

fn may_become(s: &mut Server, flavor: &Flavor) -> Result<(), ComputeError> {
    if flavor.disabled || flavor.id == s.flavor.id {
        return Err(ComputeError::invalid("When resizing, instances must change flavor!"));
    }
    if local_root(s).is_ok() && flavor.disk_gib < s.flavor.disk_gib {
        return Err(ComputeError::invalid("Resize error: Unable to resize disk down."));
    }
    Ok(())
}
