//! Disks and interfaces that come and go while a server lives, whether it runs or not.

use crate::model::{Disk, DiskSource, Nic, NicRequest, Plug, Server};
use crate::neighbours::acting_in;
use crate::observe::host_topic;
use crate::servers::actions::check_state;
use crate::servers::disks::name_disk;
use crate::states::Act;
use crate::store::{actions, servers as store};
use crate::tasks::{self, Wake};
use crate::{Compute, ComputeError, growth};
use api::Context;
use state::Timestamp;
use std::time::Duration;

/// How long a request waits for a guest to get its interface.
const NIC_PATIENCE: Duration = Duration::from_secs(30);

/// A request to attach a volume.
#[derive(Debug, Clone)]
pub(crate) struct NewAttachment {
    pub(crate) volume_id: String,
    pub(crate) device: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) delete_on_termination: bool,
}

impl Compute {
    /// Takes the volume for the server and lets the host attach it. When this returns the volume is the server's;
    /// the guest sees it soon.
    pub(crate) async fn attach_volume(
        &self,
        ctx: &Context,
        id: &str,
        new: NewAttachment,
    ) -> Result<Disk, ComputeError> {
        let rule = "os_compute_api:os-volumes-attachments:create";
        self.server(ctx, id, rule).await?;
        let volume = match self.volumes.get(ctx, &new.volume_id).await {
            Ok(v) => v,
            Err(blockstore::VolumeError::VolumeNotFound(_)) => {
                return Err(ComputeError::NotFound(format!("Volume {} could not be found.", new.volume_id)));
            }
            Err(e) => return Err(e.into()),
        };
        let mut tx = self.db.begin().await?;
        let mut s = self.hold(ctx, &mut tx, id, rule).await?;
        self.check_lock(ctx, &s)?;
        check_state(&s, Act::AttachVolume)?;
        if s.disk_of(&volume.id).is_some() {
            return Err(ComputeError::invalid(format!(
                "Invalid volume: volume {} is already attached to instance {id}",
                volume.id
            )));
        }
        Self::check_free(&volume)?;
        if s.disks.len() >= self.config.max_disks {
            return Err(ComputeError::Forbidden("The maximum number of disk devices is reached.".into()));
        }
        let disk = Disk {
            bdm_id: state::new_id(),
            source: DiskSource::Volume { volume_id: volume.id.clone() },
            boot_index: None,
            device: String::new(),
            bus: "virtio".into(),
            device_type: "disk".into(),
            size_gib: volume.size_gib,
            delete_on_termination: new.delete_on_termination,
            tag: new.tag,
            plug: Plug::Planned,
            attachment_id: None,
            place: None,
            moving: None,
            grown: None,
            make: None,
        };
        let disk = name_disk(disk, new.device.as_deref(), &s.disks)?;
        s.disks.push(disk.clone());
        s.updated_at = Timestamp::now();
        actions::begin(&mut tx, ctx, id, "attach_volume").await?;
        store::save(&mut tx, &s).await?;
        tasks::attach::spawn(&mut tx, id, &volume.id).await?;
        tx.commit().await?;
        self.reserve(ctx, &s, disk).await
    }

    /// The row and its task are there; whether the volume is really free is known only now. The task does the
    /// same again, which changes nothing.
    async fn reserve(&self, ctx: &Context, s: &Server, mut disk: Disk) -> Result<Disk, ComputeError> {
        let volume = disk.volume_id().unwrap_or_default().to_owned();
        let host = (!s.host.is_empty()).then_some(s.host.as_str());
        match self.take_volume(&acting_in(&s.project_id), &volume, &s.id, host).await {
            Ok((held, place)) => {
                // The task may have failed meanwhile and have given back what was not taken yet.
                let now = store::get(&self.db, &s.id).await?;
                if now.is_none_or(|s| s.disk_of(&volume).is_none()) {
                    let acting = acting_in(&s.project_id);
                    self.volumes.attach_abort(&acting, &held.attachment.id).await?;
                    return Err(ComputeError::Conflict(format!("Volume {volume} could not be attached.")));
                }
                (disk.attachment_id, disk.place) = (Some(held.attachment.id), Some(place));
                Ok(disk)
            }
            Err(e) if e.is_transient() => Ok(disk),
            Err(e) => {
                self.forget_disk(&s.id, &volume).await?;
                let mut tx = self.db.begin().await?;
                actions::end_one(&mut tx, &s.id, "attach_volume", Some(&e.to_string())).await?;
                tx.commit().await?;
                tracing::info!(request_id = %ctx.request_id, server = %s.id, volume, "a volume could not be taken");
                Err(e)
            }
        }
    }

    /// The row does not know the disk any more.
    pub(crate) async fn forget_disk(&self, server: &str, volume: &str) -> Result<(), ComputeError> {
        tasks::change(self, server, |s| {
            s.disks.retain(|d| d.volume_id() != Some(volume));
            Ok(Wake::Nobody)
        })
        .await
        .map(drop)
    }

    pub(crate) async fn detach_volume(
        &self,
        ctx: &Context,
        id: &str,
        volume: &str,
    ) -> Result<(), ComputeError> {
        let rule = "os_compute_api:os-volumes-attachments:delete";
        let mut tx = self.db.begin().await?;
        let mut s = self.hold(ctx, &mut tx, id, rule).await?;
        self.check_lock(ctx, &s)?;
        check_state(&s, Act::DetachVolume)?;
        let absent = || ComputeError::NotFound(format!("volume_id not found: {volume}"));
        let disk = s.disks.iter_mut().find(|d| d.volume_id() == Some(volume)).ok_or_else(absent)?;
        if disk.boot_index == Some(0) {
            return Err(ComputeError::Forbidden("Cannot detach a root device volume".into()));
        }
        let attachment = disk.attachment_id.clone();
        match disk.plug {
            Plug::Detaching => {
                return Err(ComputeError::invalid(format!(
                    "Invalid volume: volume {volume} status must be 'in-use'. Currently in 'detaching' status"
                )));
            }
            Plug::Planned => {
                return Err(ComputeError::Conflict(format!("Volume {volume} is still being attached.")));
            }
            Plug::Attaching | Plug::Attached => disk.plug = Plug::Detaching,
        }
        if disk.grown.is_some() {
            // Its guest does not need to see that any more.
            actions::end_one(&mut tx, id, growth::ACTION, None).await?;
        }
        s.bump();
        s.updated_at = Timestamp::now();
        actions::begin(&mut tx, ctx, id, "detach_volume").await?;
        store::save(&mut tx, &s).await?;
        tasks::detach::spawn(&mut tx, id, volume).await?;
        tx.wake(host_topic(&s.host));
        tx.commit().await?;
        if let Some(attachment) = attachment {
            self.volumes.detach_begin(&acting_in(&s.project_id), &attachment).await?;
        }
        Ok(())
    }

    /// Gives the server another interface, and waits a while for the guest to have it.
    pub(crate) async fn attach_interface(
        &self,
        ctx: &Context,
        id: &str,
        asked: NicRequest,
    ) -> Result<Nic, ComputeError> {
        let rule = "os_compute_api:os-attach-interfaces:create";
        let s = self.server(ctx, id, rule).await?;
        self.check_lock(ctx, &s)?;
        check_state(&s, Act::AttachInterface)?;
        if s.host.is_empty() {
            return Err(ComputeError::Conflict(format!("Instance {id} has no host.")));
        }
        let wanted = if asked.port_id.is_none() && asked.network_id.is_none() {
            crate::model::NetworkRequest::Auto
        } else {
            crate::model::NetworkRequest::These(vec![asked.clone()])
        };
        let crate::model::NetworkRequest::These(mut resolved) = self.resolve_networks(ctx, wanted).await?
        else {
            return Err(ComputeError::invalid("There is no network to attach an interface to."));
        };
        let mut nic_request = resolved.swap_remove(0);
        nic_request.fixed_ip = asked.fixed_ip.or(nic_request.fixed_ip);
        let acting = acting_in(&s.project_id);
        let zone = self.host(&s.host).await?.zone;
        let port = self.plug_port(&acting, &s, &nic_request, &zone).await?;
        let nic = self.nic(&acting, &port, &nic_request).await?;
        let mut tx = self.db.begin().await?;
        let mut s = self.hold(ctx, &mut tx, id, rule).await?;
        if s.is_deleting() {
            drop(tx);
            self.unplug_port(&acting, &nic.port_id, nic.ours).await?;
            return Err(ComputeError::server_not_found(id));
        }
        s.nics.push(nic.clone());
        s.bump();
        actions::begin(&mut tx, ctx, id, "attach_interface").await?;
        actions::end_one(&mut tx, id, "attach_interface", None).await?;
        store::save(&mut tx, &s).await?;
        tx.wake(host_topic(&s.host));
        tx.commit().await?;
        self.await_nic(id, &nic.port_id).await?;
        Ok(nic)
    }

    async fn await_nic(&self, id: &str, port: &str) -> Result<(), ComputeError> {
        let mut signal = self.db.signal(&store::topic(id));
        let until = tokio::time::Instant::now() + NIC_PATIENCE;
        loop {
            let s = store::get(&self.db, id).await?.ok_or_else(|| ComputeError::server_not_found(id))?;
            let waiting = s.nics.iter().any(|n| n.port_id == port && n.plug == Plug::Attaching);
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if !waiting || left.is_zero() {
                return Ok(());
            }
            signal.wait(left).await;
        }
    }

    pub(crate) async fn detach_interface(
        &self,
        ctx: &Context,
        id: &str,
        port: &str,
    ) -> Result<(), ComputeError> {
        let rule = "os_compute_api:os-attach-interfaces:delete";
        let mut tx = self.db.begin().await?;
        let mut s = self.hold(ctx, &mut tx, id, rule).await?;
        self.check_lock(ctx, &s)?;
        check_state(&s, Act::DetachInterface)?;
        let absent = || ComputeError::NotFound(format!("Instance {id} does not have a port with id {port}"));
        let nic = s.nics.iter_mut().find(|n| n.port_id == port).ok_or_else(absent)?;
        nic.plug = Plug::Detaching;
        s.bump();
        actions::begin(&mut tx, ctx, id, "detach_interface").await?;
        store::save(&mut tx, &s).await?;
        tasks::unplug::spawn(&mut tx, id, port).await?;
        tx.wake(host_topic(&s.host));
        Ok(tx.commit().await?)
    }
}
