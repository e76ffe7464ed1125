//! A group's replication (3.38), which upstream's RBD driver leaves to others: a group of a type that says so is mirrored,
//! or no longer, or served by the other cluster, with all its volumes at once.
//!
//! What its volumes are mirrored with is what their types give each of them; a failover goes the way of a backend's
//! (`failover`), but takes all of them along or none, for as long as the cluster that they are in answers.

use super::failover;
use super::{Replica, store};
use crate::groups::Group;
use crate::model::Volume;
use crate::status::{GroupStatus, ReplicationStatus, VolumeStatus};
use crate::tasks::failed;
use crate::{VolumeError, Volumes};
use api::Context;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::collections::BTreeSet;
use std::sync::Arc;

const KIND: &str = "group.replicate";

/// What may be done to a group's replication, in upstream's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Enable,
    Disable,
    Failover,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Verb::Enable => "enable",
            Verb::Disable => "disable",
            Verb::Failover => "failover",
        }
    }

    /// The states of a group that allow it.
    fn groups(self) -> &'static [&'static str] {
        if self == Verb::Disable { &["available", "error"] } else { &["available"] }
    }

    /// The replication states of a group and its volumes that allow it. Unlike upstream, a failover that ended in an error
    /// may be tried again: nobody else could mend it.
    fn replications(self) -> &'static [&'static str] {
        match self {
            Verb::Enable => &["disabled", "enabled"],
            Verb::Disable => &["enabled", "error"],
            Verb::Failover => &["enabled", "failed-over", "error", "failover-error"],
        }
    }

    /// Refuses what is not in one of these states.
    fn needs(
        self,
        refuse: fn(String) -> VolumeError,
        what: &str,
        valid: &[&str],
        now: &str,
    ) -> Result<(), VolumeError> {
        match valid.contains(&now) {
            true => Ok(()),
            false => Err(refuse(format!(
                "{what} must be {valid:?}, but current status is: {now}. Cannot {} replication.",
                self.word()
            ))),
        }
    }
}

fn replication(v: &Volume) -> &'static str {
    v.replication_status.map_or("None", ReplicationStatus::as_str)
}

#[derive(Serialize, Deserialize)]
struct Params {
    group_id: String,
    /// It is to be mirrored, or else no longer.
    on: bool,
}

impl Volumes {
    /// Has a group's volumes mirrored (`on`), or no longer.
    pub(crate) async fn replicate_group(&self, ctx: &Context, id: &str, on: bool) -> Result<(), VolumeError> {
        let (verb, rule, next) = match on {
            true => (Verb::Enable, "group:enable_replication", ReplicationStatus::Enabling),
            false => (Verb::Disable, "group:disable_replication", ReplicationStatus::Disabling),
        };
        let (mut tx, group, members) = self.hold_group(ctx, id, rule, &[]).await?;
        self.may_change(ctx, verb, &group, &members, true).await?;
        for tier in members.iter().map(Volume::home).collect::<BTreeSet<_>>() {
            self.stands(&mut tx, tier).await?;
        }
        let params = Params { group_id: id.to_owned(), on };
        let subject = crate::tasks::group::subject(id);
        let task = NewTask { kind: KIND, subject: &subject }.spawn(&mut tx, &params).await?;
        mark(&mut tx, group, &members, next, task).await?;
        Ok(tx.commit().await?)
    }

    /// Has another cluster serve a group's volumes; with `default` their own again. `attached`: also those that are in
    /// use.
    pub(crate) async fn fail_over_group(
        &self,
        ctx: &Context,
        id: &str,
        attached: bool,
        backend_id: Option<&str>,
    ) -> Result<(), VolumeError> {
        let (mut tx, group, members) = self.hold_group(ctx, id, "group:failover_replication", &[]).await?;
        self.may_change(ctx, Verb::Failover, &group, &members, attached).await?;
        let replica = self.replica_of(&members)?;
        let (away, broken) = match group.replication_status {
            ReplicationStatus::FailedOver => (true, false),
            ReplicationStatus::Enabled => (false, false),
            _ => (false, true),
        };
        let to = replica.target(backend_id, away, broken)?;
        let task = failover::spawn_group(&mut tx, &replica.home.name, &to.name, id).await?;
        mark(&mut tx, group, &members, ReplicationStatus::FailingOver, task).await?;
        Ok(tx.commit().await?)
    }

    /// The backends that a group can fail over to.
    pub(crate) async fn group_targets(&self, ctx: &Context, id: &str) -> Result<Vec<String>, VolumeError> {
        let group = self.find_group(ctx, id, "group:list_replication_targets").await?;
        self.is_replicated_group(ctx, &group).await?;
        let members = crate::store::volumes::of_group(self.db.read(), id).await?;
        let homes: BTreeSet<&str> = members.iter().map(Volume::home).collect();
        Ok(homes.into_iter().flat_map(|home| self.replication_targets(home)).collect())
    }

    /// The one replica that a group's volumes have in common.
    fn replica_of(&self, members: &[Volume]) -> Result<&Replica, VolumeError> {
        let homes: BTreeSet<&str> = members.iter().map(Volume::home).collect();
        let one = homes.first().filter(|_| homes.len() == 1);
        one.and_then(|home| self.replicas.of(home)).ok_or_else(|| {
            VolumeError::InvalidGroup("its volumes are not those of one replicated backend.".into())
        })
    }

    /// Refuses a group whose type, or one of whose volumes' types, does not say that it is replicated.
    async fn is_replicated_group(&self, ctx: &Context, group: &Group) -> Result<(), VolumeError> {
        let specs = self.find_group_type(ctx, &group.group_type_id, true).await?.specs;
        let says = |key| specs.get(key).is_some_and(|value| value == "<is> True");
        if !says("group_replication_enabled") && !says("consistent_group_replication_enabled") {
            return Err(VolumeError::BadRequest(format!(
                "Invalid group type: Group {} is not a replication group type.",
                group.id
            )));
        }
        for id in &group.volume_types {
            let kind = crate::store::types::get(self.db.read(), id).await?;
            if !kind.is_some_and(|k| k.replicated()) {
                return Err(VolumeError::BadRequest(format!(
                    "Invalid volume type: Volume type {id} does not have 'replication_enabled' spec key set to \
                     '<is> True'."
                )));
            }
        }
        Ok(())
    }

    /// What upstream asks before it changes a held group's replication, in its order.
    async fn may_change(
        &self,
        ctx: &Context,
        verb: Verb,
        group: &Group,
        members: &[Volume],
        attached: bool,
    ) -> Result<(), VolumeError> {
        self.is_replicated_group(ctx, group).await?;
        let (id, no) = (&group.id, VolumeError::InvalidGroup);
        verb.needs(no, &format!("Group {id} status"), verb.groups(), group.status.as_str())?;
        let now = group.replication_status.as_str();
        verb.needs(no, &format!("Group {id} replication status"), verb.replications(), now)?;
        let no = VolumeError::InvalidVolume;
        for v in members {
            // What an earlier failover could not take along is in error, and another one mends it.
            if verb == Verb::Enable || verb == Verb::Failover && !v.is_lost() {
                let rests = &["available", "in-use"];
                verb.needs(no, &format!("Volume {} status", v.id), rests, v.status.as_str())?;
            }
            if verb == Verb::Failover && v.status == VolumeStatus::InUse && !attached {
                return Err(no(format!(
                    "Volume {} is attached but allow_attached_volume flag is False. Cannot failover replication.",
                    v.id
                )));
            }
            let what = format!("Volume {} replication status", v.id);
            verb.needs(no, &what, verb.replications(), replication(v))?;
        }
        Ok(())
    }

    async fn replicate_members(&self, params: &Params) -> Result<(), StepError> {
        let members = crate::store::volumes::of_group(self.db.read(), &params.group_id).await;
        for volume in members.map_err(failed)? {
            if params.on {
                self.mirror_as_type(&volume, false).await?;
            } else {
                self.mirror_no_more(&volume).await?;
            }
        }
        Ok(())
    }

    /// Whatever its type says.
    async fn mirror_no_more(&self, volume: &Volume) -> Result<(), StepError> {
        let there = self.unmirror(volume).await?;
        let noted = async {
            let mut tx = self.db.begin().await?;
            tx.lock(&crate::volumes::lock_key(&volume.id)).await?;
            store::set_status(&mut tx, &volume.id, ReplicationStatus::Disabled).await?;
            if let Some(tier) = &there {
                self.forget_copy(&mut tx, tier, &volume.image_name()).await?;
            }
            tx.wake(Volumes::topic(&volume.id));
            Ok::<_, VolumeError>(tx.commit().await?)
        };
        noted.await.map_err(failed)
    }

    /// A task has made what it was to make of a group's replication: the group has `ended` so, and its volumes that are not
    /// lost are `settled`. What another task than the group's last one has to say is late.
    pub(super) async fn group_ended(
        &self,
        id: &str,
        task: &str,
        ended: ReplicationStatus,
        settled: impl Fn(&Volume) -> ReplicationStatus,
    ) -> Result<(), VolumeError> {
        let mut tx = self.db.begin().await?;
        tx.lock(&crate::groups::lock_key(id)).await?;
        let group = crate::store::groups::get(tx.conn(), id).await?;
        let Some(mut group) = group.filter(|g| g.replication_task.as_deref() == Some(task)) else {
            return Ok(());
        };
        let members = crate::store::volumes::of_group(tx.conn(), id).await?;
        for volume in members.iter().filter(|v| !v.is_lost()) {
            store::set_status(&mut tx, &volume.id, settled(volume)).await?;
            tx.wake(Volumes::topic(&volume.id));
        }
        (group.replication_status, group.replication_task) = (ended, None);
        if ended == ReplicationStatus::Error {
            group.status = GroupStatus::Error;
        }
        crate::store::groups::save(&mut tx, &group).await?;
        Ok(tx.commit().await?)
    }
}

/// Writes what a group and its volumes, which are held, are on their way to by this task. One that was lost is so until it is
/// served.
async fn mark(
    tx: &mut Tx,
    group: Group,
    members: &[Volume],
    next: ReplicationStatus,
    task: String,
) -> Result<(), VolumeError> {
    for volume in members.iter().filter(|v| !v.is_lost()) {
        store::set_status(tx, &volume.id, next).await?;
    }
    let group = Group { replication_status: next, replication_task: Some(task), ..group };
    crate::store::groups::save(tx, &group).await
}

/// `group.replicate`: a group's volumes are mirrored, or no longer.
pub(crate) struct ReplicateGroup(pub(crate) Arc<Volumes>);

#[async_trait]
impl Operation for ReplicateGroup {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["volumes", "group"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        if step == "volumes" {
            return self.0.replicate_members(&params).await;
        }
        let ended = if params.on { ReplicationStatus::Enabled } else { ReplicationStatus::Disabled };
        self.0.group_ended(&params.group_id, &job.id, ended, |_| ended).await.map_err(failed)
    }

    /// As upstream, it ends with all its volumes in error, whatever has become of each: turned off, all of them are the same.
    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        tracing::error!(group = %params.group_id, reason, "a group's replication cannot be changed");
        let error = ReplicationStatus::Error;
        self.0.group_ended(&params.group_id, &job.id, error, |_| error).await.map_err(failed)
    }
}
