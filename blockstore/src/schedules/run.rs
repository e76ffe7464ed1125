//! `schedule.run`: makes what is due, waits for it, and deletes what the schedule keeps no longer.
//!
//! The ids of all that it makes come from the run's own, and stand as items before the things are there: a run that is
//! cut short makes the same again, one that fails takes away what it has made.
//!
//! A backup of a group is made of a snapshot of the group, so that all its volumes are of one instant. The latest such
//! snapshot stays, so that the next backup knows what has changed.

use super::{Class, Item, ItemKind, Kind, Schedule, Target, lock_name, retention, store};
use crate::backup::NewBackup;
use crate::group_snapshots::NewGroupSnapshot;
use crate::messages::{Action, Asker};
use crate::model::{Metadata, Volume};
use crate::status::{BackupStatus, GroupStatus, SnapshotStatus};
use crate::tasks::failed;
use crate::{NewSnapshot, VolumeError, Volumes};
use api::{Context, ProjectRef};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Timestamp, Tx};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const KIND: &str = "schedule.run";
/// When a run looks again at what it waits for.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

#[derive(Serialize, Deserialize)]
struct Params {
    schedule_id: String,
    run_id: String,
    classes: Vec<Class>,
    at: Timestamp,
}

pub(super) async fn spawn(
    tx: &mut Tx,
    schedule: &Schedule,
    classes: Vec<Class>,
    at: Timestamp,
) -> Result<(), VolumeError> {
    let params = Params { schedule_id: schedule.id.clone(), run_id: state::new_id(), classes, at };
    let subject = format!("volume-schedule/{}", schedule.id);
    NewTask { kind: KIND, subject: &subject }.spawn(tx, &params).await?;
    Ok(())
}

/// How far something is that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Underway,
    Good,
    Bad,
    Gone,
}

pub(crate) struct Run(pub(crate) Arc<Volumes>);

#[async_trait]
impl Operation for Run {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["make", "copy", "settle"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        let found = store::get(self.0.db.read(), &params.schedule_id).await.map_err(failed)?;
        let Some(schedule) = found else { return Ok(()) };
        match step {
            "make" => self.make(&schedule, &params).await,
            "copy" => self.copy(&schedule, &params).await,
            _ => self.settle(&schedule, &params, &job.id).await,
        }
    }

    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        if step != "make" {
            return Ok(());
        }
        let params: Params = job.params()?;
        let items = store::items(self.0.db.read(), &params.schedule_id).await.map_err(failed)?;
        let mut wait = false;
        for item in items.iter().filter(|i| i.run_id == params.run_id) {
            wait |= !self.discard(item).await.map_err(failed)?;
        }
        if wait { Err(StepError::Wait(LOOK_AGAIN)) } else { Ok(()) }
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        let found = store::get(self.0.db.read(), &params.schedule_id).await.map_err(failed)?;
        let Some(schedule) = found else { return Ok(()) };
        self.close(&schedule, &params, Some((&job.id, reason))).await.map_err(failed)
    }
}

/// A refusal, as a task takes it: what is busy may be free in a moment.
fn refused(e: VolumeError) -> StepError {
    match e {
        VolumeError::InvalidVolume(_) | VolumeError::InvalidGroup(_) | VolumeError::Conflict(_) => {
            StepError::retry(e.to_string()).because(e)
        }
        other => failed(other),
    }
}

/// The cloud acting in the schedule's project, in the name of who made it.
fn context(schedule: &Schedule) -> Context {
    let id = &schedule.project_id;
    let project = ProjectRef { id: id.clone(), name: id.clone(), ..ProjectRef::default() };
    let mut ctx = Context::service_in("volume-schedules", project);
    Arc::make_mut(&mut ctx.caller).user.id = schedule.user_id.clone();
    ctx
}

/// The id of what a run makes of a volume.
fn id_for(run_id: &str, volume_id: &str) -> String {
    let space = uuid::Uuid::parse_str(run_id).unwrap_or_default();
    uuid::Uuid::new_v5(&space, volume_id.as_bytes()).to_string()
}

fn metadata(schedule: &Schedule, params: &Params) -> Metadata {
    let classes: Vec<_> = params.classes.iter().map(|c| c.as_str()).collect();
    [
        ("schedule_id", schedule.id.clone()),
        ("schedule_name", schedule.name.clone()),
        ("schedule_classes", classes.join(",")),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v))
    .collect()
}

impl Run {
    async fn make(&self, schedule: &Schedule, params: &Params) -> Result<(), StepError> {
        let ctx = context(schedule);
        match &schedule.target {
            Target::Volume(id) => {
                let volume = self.volume(&ctx, schedule, id).await.map_err(failed)?;
                match schedule.kind {
                    Kind::Snapshot => self.snapshot(&ctx, schedule, params, &volume).await,
                    Kind::Backup => self.back_up(&ctx, schedule, params, &volume, None).await,
                }
            }
            Target::Group(id) => {
                let group = self.0.find_group(&ctx, id, "group:get").await.map_err(failed)?;
                if group.project_id != schedule.project_id {
                    return Err(failed(VolumeError::GroupNotFound(id.clone())));
                }
                let new = NewGroupSnapshot {
                    id: Some(params.run_id.clone()),
                    group_id: id.clone(),
                    name: name(schedule, params)?,
                    description: None,
                    metadata: metadata(schedule, params),
                };
                self.record(schedule, params, &params.run_id, (ItemKind::GroupSnapshot, 1)).await?;
                self.0.create_group_snapshot(&ctx, new).await.map(drop).map_err(refused)
            }
        }
    }

    /// The volume, while it is the schedule's project's.
    async fn volume(&self, ctx: &Context, schedule: &Schedule, id: &str) -> Result<Volume, VolumeError> {
        let volume = self.0.find(ctx, id, "volume:get").await?;
        match volume.project_id == schedule.project_id {
            true => Ok(volume),
            false => Err(VolumeError::VolumeNotFound(id.to_owned())),
        }
    }

    async fn snapshot(
        &self,
        ctx: &Context,
        schedule: &Schedule,
        params: &Params,
        volume: &Volume,
    ) -> Result<(), StepError> {
        let id = id_for(&params.run_id, &volume.id);
        let new = NewSnapshot {
            id: Some(id.clone()),
            volume_id: volume.id.clone(),
            name: Some(name(schedule, params)?),
            description: None,
            metadata: metadata(schedule, params),
            force: true,
        };
        self.record(schedule, params, &id, (ItemKind::Snapshot, 1)).await?;
        self.0.create_snapshot(ctx, new).await.map(drop).map_err(refused)
    }

    async fn back_up(
        &self,
        ctx: &Context,
        schedule: &Schedule,
        params: &Params,
        volume: &Volume,
        snapshot_id: Option<String>,
    ) -> Result<(), StepError> {
        let id = id_for(&params.run_id, &volume.id);
        let ordinal = self.ordinal(schedule, params, volume).await.map_err(failed)?;
        let new = NewBackup {
            id: Some(id.clone()),
            volume_id: volume.id.clone(),
            snapshot_id,
            name: Some(name(schedule, params)?),
            metadata: metadata(schedule, params),
            container: schedule.container.clone(),
            incremental: ordinal > 1,
            force: true,
            ..NewBackup::default()
        };
        self.record(schedule, params, &id, (ItemKind::Backup, ordinal)).await?;
        self.0.create_backup(ctx, new).await.map(drop).map_err(refused)
    }

    /// Which one in its chain the next backup of a volume is: 1, which is full, where the schedule's latest one was the
    /// last of so many, or where somebody has made another one since.
    async fn ordinal(
        &self,
        schedule: &Schedule,
        params: &Params,
        volume: &Volume,
    ) -> Result<i64, VolumeError> {
        let (mut own, mut last) = (Vec::new(), 0);
        for item in store::items(self.0.db.read(), &schedule.id).await? {
            if item.kind == ItemKind::Backup
                && item.run_id != params.run_id
                && let Some(backup) = crate::backup::store::get(self.0.db.read(), &item.id).await?
                && backup.volume_id == volume.id
                && backup.status == BackupStatus::Available
            {
                // They come oldest first.
                last = item.ordinal;
                own.push(backup.id);
            }
        }
        let goes_on = last > 0
            && last < schedule.full_every
            && self.0.can_be_made_on(volume, &own, schedule.container.as_deref()).await?;
        Ok(if goes_on { last + 1 } else { 1 })
    }

    /// What is about to be made is the schedule's own.
    async fn record(
        &self,
        schedule: &Schedule,
        params: &Params,
        id: &str,
        (kind, ordinal): (ItemKind, i64),
    ) -> Result<(), StepError> {
        let item = Item {
            id: id.to_owned(),
            run_id: params.run_id.clone(),
            kind,
            classes: params.classes.clone(),
            ordinal,
            made_at: params.at,
        };
        let mut tx = self.0.db.begin().await?;
        store::add_item(&mut tx, &schedule.id, &item).await.map_err(failed)?;
        Ok(tx.commit().await?)
    }

    /// Backups of the parts of a group's snapshot, once that is there.
    async fn copy(&self, schedule: &Schedule, params: &Params) -> Result<(), StepError> {
        if schedule.kind != Kind::Backup || !matches!(schedule.target, Target::Group(_)) {
            return Ok(());
        }
        match self.fate(ItemKind::GroupSnapshot, &params.run_id).await.map_err(failed)? {
            Fate::Underway => return Err(StepError::Wait(LOOK_AGAIN)),
            Fate::Good => {}
            Fate::Bad | Fate::Gone => return Err(StepError::fail("The group's snapshot has failed.")),
        }
        let ctx = context(schedule);
        let parts = crate::store::snapshots::of_group_snapshot(self.0.db.read(), &params.run_id).await;
        for part in parts.map_err(failed)? {
            let volume = self.volume(&ctx, schedule, &part.volume_id).await.map_err(failed)?;
            self.back_up(&ctx, schedule, params, &volume, Some(part.id)).await?;
        }
        Ok(())
    }

    /// Waits for all of the run, then lets go of what is kept no longer.
    async fn settle(&self, schedule: &Schedule, params: &Params, task: &str) -> Result<(), StepError> {
        let items = store::items(self.0.db.read(), &schedule.id).await.map_err(failed)?;
        let (mut good, mut bad) = (Vec::new(), BTreeSet::new());
        for item in items {
            match self.fate(item.kind, &item.id).await.map_err(failed)? {
                Fate::Underway if item.run_id == params.run_id => return Err(StepError::Wait(LOOK_AGAIN)),
                // Somebody else deletes it, or has.
                Fate::Underway => {}
                Fate::Gone => self.forget(&item.id).await.map_err(failed)?,
                Fate::Bad => {
                    bad.insert(item.run_id.clone());
                    good.push(item);
                }
                Fate::Good => good.push(item),
            }
        }
        if bad.contains(&params.run_id) {
            let reason = format!("What the schedule {} has begun has failed.", schedule.name);
            return self.close(schedule, params, Some((task, &reason))).await.map_err(failed);
        }
        // What went wrong before has been told; it makes room for what went well.
        let (spoilt, whole): (Vec<_>, Vec<_>) = good.into_iter().partition(|i| bad.contains(&i.run_id));
        let expired = retention::expired(&whole, &schedule.keep);
        let only_base = schedule.kind == Kind::Backup;
        let stale = |i: &Item| only_base && i.kind == ItemKind::GroupSnapshot && i.run_id != params.run_id;
        let goes = whole.iter().filter(|i| expired.contains(&i.run_id) || stale(i));
        for item in spoilt.iter().chain(goes) {
            // What cannot go now goes after the next run.
            if let Err(e) = self.discard(item).await {
                tracing::warn!(schedule = schedule.id, item = item.id, error = %e, "an expired item stays");
            }
        }
        self.close(schedule, params, None).await.map_err(failed)
    }

    async fn fate(&self, kind: ItemKind, id: &str) -> Result<Fate, VolumeError> {
        let db = self.0.db.read();
        Ok(match kind {
            ItemKind::Snapshot => match crate::store::snapshots::get(db, id).await?.map(|s| s.status) {
                None => Fate::Gone,
                Some(SnapshotStatus::Error | SnapshotStatus::ErrorDeleting) => Fate::Bad,
                Some(SnapshotStatus::Creating | SnapshotStatus::Deleting) => Fate::Underway,
                Some(_) => Fate::Good,
            },
            ItemKind::Backup => match crate::backup::store::get(db, id).await?.map(|b| b.status) {
                None => Fate::Gone,
                Some(BackupStatus::Error) => Fate::Bad,
                Some(BackupStatus::Creating | BackupStatus::Deleting) => Fate::Underway,
                Some(_) => Fate::Good,
            },
            ItemKind::GroupSnapshot => {
                match crate::store::groups::get_snapshot(db, id).await?.map(|s| s.status) {
                    None => Fate::Gone,
                    Some(GroupStatus::Error | GroupStatus::ErrorDeleting) => Fate::Bad,
                    Some(GroupStatus::Creating | GroupStatus::Deleting) => Fate::Underway,
                    Some(_) => Fate::Good,
                }
            }
        })
    }

    /// Deletes something of the schedule's own. False: not yet, it is being made.
    async fn discard(&self, item: &Item) -> Result<bool, VolumeError> {
        match self.fate(item.kind, &item.id).await? {
            Fate::Underway => return Ok(false),
            Fate::Gone => {}
            Fate::Good | Fate::Bad => self.delete(item).await?,
        }
        self.forget(&item.id).await?;
        Ok(true)
    }

    async fn delete(&self, item: &Item) -> Result<(), VolumeError> {
        let ctx = Context::service("volume-schedules");
        match item.kind {
            ItemKind::Snapshot => self.0.delete_snapshot(&ctx, &item.id, false).await,
            ItemKind::GroupSnapshot => self.0.delete_group_snapshot(&ctx, &item.id).await,
            ItemKind::Backup => {
                let found = crate::backup::store::get(self.0.db.read(), &item.id).await?;
                // By force only from within a chain, never from under who restores it.
                let idle =
                    found.is_some_and(|b| matches!(b.status, BackupStatus::Available | BackupStatus::Error));
                match idle {
                    true => self.0.delete_backup(&ctx, &item.id, "backup:delete", true).await,
                    false => Err(VolumeError::Conflict("The backup is being restored.".into())),
                }
            }
        }
    }

    async fn forget(&self, id: &str) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        store::remove_item(&mut tx, id).await?;
        Ok(tx.commit().await?)
    }

    /// Says how the run has ended: in the schedule, and where it failed in a message too.
    async fn close(
        &self,
        schedule: &Schedule,
        params: &Params,
        failure: Option<(&str, &str)>,
    ) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        tx.lock(&lock_name(&schedule.id)).await?;
        let reason = failure.map_or("", |(_, reason)| reason);
        store::ended(&mut tx, &schedule.id, params.at, reason).await?;
        if !self.is_there(&mut tx, &schedule.target).await? {
            store::disable(&mut tx, &schedule.id).await?;
        }
        if let Some((task, reason)) = failure {
            let asker = Asker::of(&context(schedule), &schedule.project_id);
            let action = match schedule.kind {
                Kind::Snapshot => Action::CreateSnapshot,
                Kind::Backup => Action::BackUp,
            };
            let about = ("SCHEDULE", schedule.id.as_str());
            self.0.tell(&mut tx, task, &asker, action, about, reason).await?;
        }
        Ok(tx.commit().await?)
    }
}

impl Run {
    async fn is_there(&self, tx: &mut Tx, target: &Target) -> Result<bool, VolumeError> {
        Ok(match target {
            Target::Volume(id) => crate::store::volumes::get(tx.conn(), id).await?.is_some(),
            Target::Group(id) => crate::store::groups::get(tx.conn(), id).await?.is_some(),
        })
    }
}

fn name(schedule: &Schedule, params: &Params) -> Result<String, StepError> {
    let at = schedule.clock.shown(params.at).map_err(failed)?;
    Ok(format!("{} {at}", schedule.name))
}
