//! `backend.failover`: a backend's replicated volumes, or those of one group, are served by its other cluster from now on.
//!
//! ```text
//! level     the cluster they go to answers, and the copies there follow (a group's, and on the way back: all). Nothing
//!           has changed yet
//! fence     demoted where they are: nobody writes to them any more
//! drain     each copy has come to the mark that was written last; what does not is served where it was again
//! switch    one by one, promoted where they go, and the row follows
//! finish    what is not replicated is lost until it is served again; the backend, or the group, says what it is
//! ```
//! Rows and images decide what is left to do, so that every step can be repeated. Nothing is promoted before its copy has
//! everything, but where the cluster it is in has not answered for a while (`forced`; never on the way back: it must).
//!
//! Taking back: what was promoted by then stays so, and its row says it. (While the cluster it went to cannot be asked
//! about that, nothing is promoted elsewhere.) The others are promoted where they were demoted, with all that was
//! written. Their copies have seen a demotion that counts no more: before anything is demoted again, `level` has seen
//! that they follow anew. A demotion before that would never come over, and the copy could be promoted without what was
//! written in between.

mod rows;
mod undo;

use super::mirror::{self, Doing};
use super::{Replica, store, upkeep};
use crate::model::Volume;
use crate::status::{ReplicationStatus, VolumeStatus};
use crate::store::volumes;
use crate::tasks::{failed, storage};
use crate::{VolumeError, Volumes};
use async_trait::async_trait;
use pool::Tier;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Timestamp, Tx};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const KIND: &str = "backend.failover";
/// When a step that waits for rbd-mirror, or for a cluster, looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// How often in a row a cluster does not answer (each time until its deadline) before it is gone without.
const SILENCES: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Params {
    /// The backend's own tier.
    tier: String,
    /// The tier that is to serve: its replica, or itself again.
    to: String,
    /// What the backend was before; empty for a group.
    before: String,
    /// Only its volumes are meant.
    #[serde(default)]
    group: Option<String>,
}

impl Params {
    fn back(&self) -> bool {
        self.to == self.tier
    }

    /// As long as the cluster that they are in answers, none is left behind there.
    fn all_or_none(&self) -> bool {
        self.back() || self.group.is_some()
    }
}

pub(super) async fn spawn(
    tx: &mut Tx,
    tier: &str,
    to: &str,
    before: ReplicationStatus,
) -> Result<String, VolumeError> {
    let (tier, to, before) = (tier.to_owned(), to.to_owned(), before.as_str().to_owned());
    begin(tx, &Params { tier, to, before, group: None }).await
}

/// The same for a group's volumes, which all belong to this tier.
pub(super) async fn spawn_group(
    tx: &mut Tx,
    tier: &str,
    to: &str,
    group: &str,
) -> Result<String, VolumeError> {
    let (tier, to, group) = (tier.to_owned(), to.to_owned(), Some(group.to_owned()));
    begin(tx, &Params { tier, to, before: String::new(), group }).await
}

/// One at a time in a tier.
async fn begin(tx: &mut Tx, params: &Params) -> Result<String, VolumeError> {
    Ok(NewTask { kind: KIND, subject: &format!("backend/{}", params.tier) }.spawn(tx, params).await?)
}

pub(crate) struct Failover(pub(crate) Arc<Volumes>);

/// From where to where.
struct Way<'a> {
    params: &'a Params,
    from: &'a Tier,
    to: &'a Tier,
    patience: Duration,
}

/// What a failover remembers of its steps.
struct Memo;

impl Memo {
    /// The cluster that they are in does not answer: it is gone without.
    const FORCED: &str = "forced";
    const SILENCES: &str = "silences";
    /// Volumes that cannot go: they are not whole, cannot be demoted, or have not come over in time.
    const BEHIND: &str = "behind";
    /// What the copies must come to, by volume.
    const MARKS: &str = "marks";
}

fn is_forced(job: &Job) -> bool {
    job.recall(Memo::FORCED).unwrap_or(false)
}

fn behind(job: &Job) -> Vec<String> {
    job.recall(Memo::BEHIND).unwrap_or_default()
}

#[async_trait]
impl Operation for Failover {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["level", "fence", "drain", "switch", "finish"]
    }

    /// An engine that does not answer has a deadline of its own already.
    fn attempts(&self) -> u32 {
        3
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        let way = self.way(&params)?;
        match step {
            "level" => self.level(&way, job).await,
            "fence" => self.fence(&way, job).await,
            "drain" => self.drain(&way, job).await,
            "switch" => self.switch(&way, job).await,
            _ => match &params.group {
                Some(group) => self.finish_group(&params, group, &job.id).await.map_err(failed),
                None => self.finish(&params, &job.id).await.map_err(failed),
            },
        }
    }

    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let params: Params = job.params()?;
        let Ok(way) = self.way(&params) else { return Ok(()) };
        match step {
            "switch" => self.keep_switched(&way, job).await,
            "fence" => self.unfence(&way, job).await,
            _ => Ok(()),
        }
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let params: Params = job.params()?;
        tracing::error!(tier = %params.tier, to = %params.to, reason, "failover given up");
        match &params.group {
            Some(group) => self.give_up_group(group, &job.id).await.map_err(failed),
            None => self.give_up(&params, &job.id).await.map_err(failed),
        }
    }
}

impl Failover {
    fn way<'a>(&'a self, params: &'a Params) -> Result<Way<'a>, StepError> {
        let replica: Option<&Replica> = self.0.replicas.of(&params.tier);
        let replica = replica.ok_or_else(|| StepError::fail("The tier is replicated no more."))?;
        let (to, from) = replica.sides(&params.to);
        Ok(Way { params, from, to, patience: replica.patience })
    }

    /// The replicated volumes that are not served where they go yet. One that an earlier failover has lost may be there, and
    /// is only to be promoted.
    async fn left(&self, way: &Way<'_>) -> Result<Vec<Volume>, StepError> {
        let all = volumes::of_home(self.0.db.read(), &way.params.tier).await.map_err(failed)?;
        let left = |v: &Volume| {
            v.is_replicated()
                && (way.params.group.is_none() || v.group_id == way.params.group)
                && !matches!(v.status, VolumeStatus::Creating | VolumeStatus::Deleting)
                && (v.tier != way.params.to || v.is_lost())
        };
        Ok(all.into_iter().filter(left).collect())
    }

    /// Those of them whose image is to change places, too.
    async fn to_turn(&self, way: &Way<'_>, job: &Job) -> Result<Vec<Volume>, StepError> {
        let behind = behind(job);
        let left = self.left(way).await?.into_iter();
        Ok(left.filter(|v| v.tier != way.params.to && !behind.contains(&v.id)).collect())
    }

    async fn level(&self, way: &Way<'_>, job: &mut Job) -> Result<(), StepError> {
        way.to.pool.rbd().mirror_mode().await.map_err(storage)?;
        if let Err(e) = way.from.pool.rbd().mirror_mode().await {
            return silence(way, job, e.into());
        }
        let (mut coming, mut missing) = (Vec::new(), Vec::new());
        let all = self.to_turn(way, job).await?;
        for volume in &all {
            match self.follows(way, volume, job).await {
                Ok(true) => {}
                Ok(false) => coming.push(volume.id.clone()),
                Err(VolumeError::Storage(e)) if e.is_not_found() => {
                    tracing::error!(volume = %volume.id, error = %e, "a volume is not where it was");
                    missing.push(volume.id.clone());
                }
                Err(e) => return unanswered(way, job, e).await,
            }
        }
        leave_behind(job, missing)?;
        if coming.is_empty() {
            return job.remember(Memo::SILENCES, &0);
        }
        let count = coming.len();
        let over = patience(job, "level", way.patience, || {
            format!(
                "{count} volumes have no copy yet that follows: does rbd-mirror run beside both clusters?"
            )
        });
        match over {
            // If none can go, all stay.
            Err(StepError::Fail { reason, .. }) if !way.params.all_or_none() && count < all.len() => {
                tracing::error!(to = %way.to.name, reason, "volumes cannot be failed over");
                leave_behind(job, coming)
            }
            other => other,
        }
    }

    /// Whether a volume's copy follows it: what is written now comes over. (A replay that ended with a demotion which was
    /// taken back has to find its way again while the image is primary, and what a peer's status says may be old.) A copy
    /// that has gone its own way while its cluster was gone without is brought anew.
    async fn follows(&self, way: &Way<'_>, volume: &Volume, job: &Job) -> Result<bool, VolumeError> {
        // What has it mirrored, or not, is still at it.
        if let Some(ReplicationStatus::Enabling | ReplicationStatus::Disabling) = volume.replication_status {
            return Ok(false);
        }
        let name = volume.image_name();
        let copy = mirror::copy(way.to, &name).await?;
        let primary = mirror::copy(way.from, &name).await? == Doing::Primary;
        Ok(match copy {
            // Demoted already: promoting is what is left to do.
            Doing::Primary if !primary => true,
            Doing::Primary | Doing::Astray if primary => {
                mirror::anew(way.to, &name).await?;
                tracing::info!(volume = %volume.id, to = %way.to.name, "a copy is brought anew");
                self.renewed(&volume.id).await?;
                false
            }
            // Demoted by whatever was cut short, and has what was written.
            _ if !primary => {
                mirror::promote(way.from, &name, false).await?;
                false
            }
            _ => mirror::is_live(way.from, way.to, &name, mirror::LEVEL, &job.id).await?,
        })
    }

    async fn renewed(&self, id: &str) -> Result<(), VolumeError> {
        let mut tx = self.0.db.begin().await?;
        store::set_whole(&mut tx, id, None).await?;
        upkeep::follow(&mut tx, id).await?;
        Ok(tx.commit().await?)
    }

    async fn fence(&self, way: &Way<'_>, job: &mut Job) -> Result<(), StepError> {
        if is_forced(job) {
            return Ok(());
        }
        let mut marks: BTreeMap<String, String> = job.recall(Memo::MARKS).unwrap_or_default();
        let mut stuck = Vec::new();
        for volume in self.to_turn(way, job).await? {
            match mirror::demote(way.from, &volume.image_name(), &job.id).await {
                Ok(mark) => marks.extend(mark.map(|mark| (volume.id, mark))),
                Err(e) if e.is_unavailable() => return silence(way, job, e.into()),
                Err(e) if e.is_transient() || way.params.all_or_none() => return Err(storage(e)),
                Err(e) => {
                    tracing::warn!(volume = %volume.id, error = %e, "a volume cannot be demoted");
                    stuck.push(volume.id);
                }
            }
        }
        job.remember(Memo::MARKS, &marks)?;
        leave_behind(job, stuck)
    }

    async fn drain(&self, way: &Way<'_>, job: &mut Job) -> Result<(), StepError> {
        if is_forced(job) {
            return Ok(());
        }
        let marks: BTreeMap<String, String> = job.recall(Memo::MARKS).unwrap_or_default();
        let mut coming = Vec::new();
        for volume in self.to_turn(way, job).await? {
            if let Some(mark) = marks.get(&volume.id)
                && !mirror::has_come(way.to, &volume.image_name(), mark).await.map_err(storage)?
            {
                coming.push(volume);
            }
        }
        if coming.is_empty() {
            return Ok(());
        }
        if let Err(e) = way.from.pool.rbd().mirror_mode().await {
            return silence(way, job, e.into());
        }
        self.leave(way, job, "drain", coming).await
    }

    /// Waits for these; at the end of all patience they are served where they were again (on the way back: all are).
    async fn leave(
        &self,
        way: &Way<'_>,
        job: &mut Job,
        step: &str,
        coming: Vec<Volume>,
    ) -> Result<(), StepError> {
        let count = coming.len();
        let over = patience(job, step, way.patience, || {
            format!("{count} volumes' copies lack what was written last")
        });
        match over {
            Err(StepError::Fail { reason, .. }) if !way.params.all_or_none() => {
                tracing::error!(to = %way.to.name, reason, "volumes cannot be failed over");
                for volume in &coming {
                    match mirror::promote(way.from, &volume.image_name(), false).await {
                        Ok(true) => {}
                        Ok(false) => return Err(StepError::Wait(LOOK_AGAIN)),
                        Err(e) => return unanswered(way, job, e.into()).await,
                    }
                }
                leave_behind(job, coming.into_iter().map(|v| v.id).collect())
            }
            other => other,
        }
    }

    async fn switch(&self, way: &Way<'_>, job: &mut Job) -> Result<(), StepError> {
        let forced = is_forced(job);
        for id in behind(job) {
            self.lose(&id).await.map_err(failed)?;
        }
        let (behind, mut lost, mut coming) = (behind(job), Vec::new(), Vec::new());
        for volume in self.left(way).await?.into_iter().filter(|v| !behind.contains(&v.id)) {
            match self.promoted(way, &volume, forced && volume.tier != way.params.to).await {
                Ok(true) => self.turned(way.params, &volume.id).await.map_err(failed)?,
                Ok(false) => coming.push(volume),
                // Nobody serves them until it answers: that is waited for.
                Err(VolumeError::Storage(e)) if e.is_unavailable() && forced => {
                    tracing::warn!(to = %way.to.name, error = %e, "both clusters do not answer");
                    return Err(StepError::Wait(LOOK_AGAIN));
                }
                Err(VolumeError::Storage(e))
                    if !e.is_transient() && (forced || !way.params.all_or_none()) =>
                {
                    tracing::error!(volume = %volume.id, to = %way.to.name, error = %e, "a volume cannot be failed over");
                    self.lose(&volume.id).await.map_err(failed)?;
                    lost.push(volume.id);
                }
                Err(e) => return Err(failed(e)),
            }
        }
        leave_behind(job, lost)?;
        match coming.is_empty() {
            true => Ok(()),
            false if forced => Err(StepError::Wait(LOOK_AGAIN)),
            false => {
                self.leave(way, job, "switch", coming).await?;
                // They are lost now.
                Err(StepError::Wait(Duration::ZERO))
            }
        }
    }

    async fn promoted(&self, way: &Way<'_>, volume: &Volume, force: bool) -> Result<bool, VolumeError> {
        let name = volume.image_name();
        if force {
            let doing = mirror::copy(way.to, &name).await?;
            let whole = match doing {
                Doing::Follows | Doing::Primary => true,
                Doing::Coming | Doing::Astray => store::is_whole(self.0.db.read(), &volume.id).await?,
                Doing::Absent => false,
            };
            if !whole {
                return Err(pool::Error::NotFound { what: format!("a whole copy of {name}") }.into());
            }
        }
        Ok(mirror::promote(way.to, &name, force).await?)
    }
}

/// What a step comes to where one of the clusters does not answer.
async fn unanswered(way: &Way<'_>, job: &mut Job, e: VolumeError) -> Result<(), StepError> {
    let away = is_silent(&e) && way.from.pool.rbd().mirror_mode().await.is_err_and(|e| e.is_unavailable());
    if away { silence(way, job, e) } else { Err(failed(e)) }
}

fn is_silent(e: &VolumeError) -> bool {
    matches!(e, VolumeError::Storage(e) if e.is_unavailable())
}

/// What a step comes to where the cluster that the volumes are in does not answer: it waits, and when there was silence often
/// enough the cluster is gone without. On the way back it fails.
fn silence(way: &Way<'_>, job: &mut Job, e: VolumeError) -> Result<(), StepError> {
    if way.params.back() || !is_silent(&e) {
        return Err(failed(e));
    }
    let silences = job.recall::<u32>(Memo::SILENCES).unwrap_or(0) + 1;
    job.remember(Memo::SILENCES, &silences)?;
    tracing::warn!(tier = %way.from.name, error = %e, silences, "the cluster does not answer");
    if silences < SILENCES {
        return Err(StepError::Wait(LOOK_AGAIN));
    }
    job.remember(Memo::FORCED, &true)
}

fn leave_behind(job: &mut Job, ids: Vec<String>) -> Result<(), StepError> {
    let mut all = behind(job);
    all.extend(ids);
    job.remember(Memo::BEHIND, &all)
}

/// Waits on, until a step has waited for `limit` in all; then it fails for this reason.
fn patience(
    job: &mut Job,
    step: &str,
    limit: Duration,
    reason: impl FnOnce() -> String,
) -> Result<(), StepError> {
    let key = format!("{step} since");
    let now = Timestamp::now();
    let since = match job.recall::<i64>(&key) {
        Some(since) => since,
        None => {
            job.remember(&key, &now.0)?;
            now.0
        }
    };
    let waited = u64::try_from(now.0.saturating_sub(since)).unwrap_or(0);
    match Duration::from_micros(waited) < limit {
        true => Err(StepError::Wait(LOOK_AGAIN)),
        false => Err(StepError::fail(reason())),
    }
}
