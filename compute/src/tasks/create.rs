//! `server.create`: a host is chosen, ports and disks are made, and the host is told. The task ends there: the
//! server is `ACTIVE` when the host reports that it runs.

use super::{Ends, Wake, change, end};
use crate::model::{Disk, DiskSource, Plug, Server, VmState};
use crate::neighbours::acting_in;
use crate::neighbours::volumes::Making;
use crate::placement::store as placement;
use crate::states::TaskState;
use crate::store::servers;
use crate::wire::Power;
use crate::{Compute, ComputeError};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use state::{Job, NewTask, Operation, StepError, Tx};
use std::sync::Arc;
use std::time::Duration;

/// How often a volume that is being made for a server is looked at.
const LOOK: Duration = Duration::from_millis(150);

#[derive(Serialize, Deserialize)]
struct Params {
    server: String,
}

pub(crate) struct Create(pub(crate) Arc<Compute>);

const KIND: &str = "server.create";

pub(crate) async fn spawn(tx: &mut Tx, server: &str) -> Result<(), ComputeError> {
    let task = NewTask { kind: KIND, subject: &Server::subject(server) };
    task.spawn(tx, &Params { server: server.to_owned() }).await?;
    Ok(())
}

#[async_trait]
impl Operation for Create {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["schedule", "prepare", "boot"]
    }

    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let id = job.params::<Params>()?.server;
        let s = self.living(&id).await?;
        match step {
            "schedule" => self.schedule(&id).await,
            "prepare" => self.prepare(s).await,
            _ => self.boot(&id).await,
        }
    }

    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        let id = job.params::<Params>()?.server;
        let Some(s) = servers::get(&self.0.db, &id).await? else { return Ok(()) };
        match step {
            // A server that is being deleted is cleared away by that task.
            _ if s.is_deleting() => Ok(()),
            "schedule" => self.unschedule(&id).await,
            "prepare" => self.clear(s).await,
            _ => Ok(()),
        }
    }

    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        let id = job.params::<Params>()?.server;
        end(&self.0, job, &id, Some(reason), |s| {
            if s.is_deleting() {
                return Ends::ByHost;
            }
            (s.vm_state, s.task_state) = (VmState::Error, None);
            s.intent.power = Power::Off;
            s.fail(500, reason);
            Ends::All
        })
        .await
    }
}

impl Create {
    /// The server, unless somebody wants it gone meanwhile.
    async fn living(&self, id: &str) -> Result<Server, StepError> {
        match servers::get(&self.0.db, id).await? {
            Some(s) if !s.is_deleting() => Ok(s),
            _ => Err(StepError::fail("The server was deleted while it was being created.")),
        }
    }

    async fn schedule(&self, id: &str) -> Result<(), StepError> {
        let mut tx = self.0.db.begin().await?;
        let Some(mut s) = servers::lock(&mut tx, id).await? else { return Ok(()) };
        let host = self.0.schedule(&mut tx, &s).await?;
        s.host = host.name;
        s.task_state =
            s.task_state.map(|t| if t == TaskState::Scheduling { TaskState::Networking } else { t });
        servers::save(&mut tx, &s).await?;
        Ok(tx.commit().await?)
    }

    async fn unschedule(&self, id: &str) -> Result<(), StepError> {
        let mut tx = self.0.db.begin().await?;
        let Some(mut s) = servers::lock(&mut tx, id).await? else { return Ok(()) };
        release(&mut tx, id).await?;
        s.host.clear();
        servers::save(&mut tx, &s).await?;
        Ok(tx.commit().await?)
    }

    /// Ports and disks at the same time: neither needs the other.
    async fn prepare(&self, s: Server) -> Result<(), StepError> {
        let zone = self.0.host(&s.host).await?.zone;
        let (nics, disks) = tokio::join!(self.0.plug_ports(&s, &zone), self.disks(&s));
        let (nics, disks) = (nics?, disks?);
        let Some(disks) = disks else { return Err(StepError::Wait(LOOK)) };
        let s = Server { nics, disks, ..s };
        let drive = match s.drive.clone() {
            Some(mut drive) => {
                drive.place = Some(self.0.make_config_drive(&s, &drive.tier).await?);
                Some(drive)
            }
            None => None,
        };
        change(&self.0, &s.id, |row| {
            (row.nics, row.disks, row.drive) = (s.nics.clone(), s.disks.clone(), drive);
            if row.task_state != Some(TaskState::Deleting) {
                row.task_state = Some(TaskState::BlockDeviceMapping);
            }
            Ok(Wake::Nobody)
        })
        .await?;
        Ok(())
    }

    /// Every disk with its place, or `None` while a volume is still being made.
    async fn disks(&self, s: &Server) -> Result<Option<Vec<Disk>>, ComputeError> {
        let mut ready = Vec::with_capacity(s.disks.len());
        for disk in &s.disks {
            match self.disk(s, disk.clone()).await? {
                Some(disk) => ready.push(disk),
                None => return Ok(None),
            }
        }
        Ok(Some(ready))
    }

    async fn disk(&self, s: &Server, mut disk: Disk) -> Result<Option<Disk>, ComputeError> {
        match disk.source.clone() {
            DiskSource::Local { tier, .. } => disk.place = Some(self.0.make_local_disk(s, &tier).await?),
            DiskSource::Volume { volume_id } => {
                let ctx = acting_in(&s.project_id);
                if let Some(make) = disk.make.clone() {
                    match self.0.make_volume(&ctx, &disk, &make).await? {
                        Making::Later => return Ok(None),
                        Making::Ready(volume) => disk.size_gib = volume.size_gib,
                    }
                }
                let (held, place) = self.0.take_volume(&ctx, &volume_id, &s.id, Some(&s.host)).await?;
                let device = format!("/dev/{}", disk.device);
                self.0.volumes.attach_complete(&ctx, &held.attachment.id, Some(&device)).await?;
                (disk.attachment_id, disk.place) = (Some(held.attachment.id), Some(place));
            }
        }
        disk.plug = Plug::Attaching;
        Ok(Some(disk))
    }

    /// Takes ports and disks away again; volumes that were made for the server go with it later.
    async fn clear(&self, s: Server) -> Result<(), StepError> {
        let ctx = acting_in(&s.project_id);
        self.0.unplug_ports(&s).await?;
        self.0.release_volumes(&ctx, &s.id, &[]).await?;
        for disk in &s.disks {
            match &disk.source {
                DiskSource::Local { tier, .. } => self.0.remove_local_disk(&s.id, tier).await?,
                DiskSource::Volume { volume_id } if disk.make.is_some() => {
                    self.0.drop_volume(&ctx, volume_id).await?;
                }
                DiskSource::Volume { .. } => {}
            }
        }
        self.0.remove_config_drive(&s).await?;
        change(&self.0, &s.id, |row| {
            row.nics.clear();
            if let Some(drive) = &mut row.drive {
                drive.place = None;
            }
            for disk in &mut row.disks {
                (disk.plug, disk.place, disk.attachment_id) = (Plug::Planned, None, None);
            }
            Ok(Wake::Nobody)
        })
        .await?;
        Ok(())
    }

    async fn boot(&self, id: &str) -> Result<(), StepError> {
        change(&self.0, id, |s| {
            if s.intent.incarnation == 0 && !s.is_deleting() {
                s.task_state = Some(TaskState::Spawning);
                s.want(Power::On, true, false);
            }
            Ok(Wake::Host)
        })
        .await?;
        Ok(())
    }
}

/// Gives back the room that a server has on its host.
pub(crate) async fn release(tx: &mut Tx, server: &str) -> Result<(), ComputeError> {
    tx.lock(crate::placement::LOCK).await?;
    if let Some(consumer) = placement::consumer(tx, server).await? {
        placement::set_allocations(tx, &consumer, &[]).await?;
    }
    Ok(())
}

/// Claims what a flavor needs instead of what the server has, on the host where it is.
pub(crate) async fn claim_flavor(
    tx: &mut Tx,
    s: &Server,
    flavor: &crate::model::Flavor,
) -> Result<(), ComputeError> {
    use crate::placement::{LOCK, has_room, needs};
    tx.lock(LOCK).await?;
    let Some(consumer) = placement::consumer(tx, &s.id).await? else { return Ok(()) };
    let held = placement::allocations_of(tx, &s.id).await?;
    let Some(provider) = held.first().map(|a| a.provider_id.clone()) else { return Ok(()) };
    placement::set_allocations(tx, &consumer, &[]).await?;
    let inventory = placement::inventories(tx, &provider).await?;
    let used = placement::all_usages(tx).await?.remove(&provider).unwrap_or_default();
    let wanted = needs(flavor);
    if !has_room(&inventory, &used, &wanted) {
        return Err(ComputeError::invalid("No valid host was found. No valid host found for resize"));
    }
    placement::set_allocations(tx, &consumer, &[(provider, wanted)]).await
}
