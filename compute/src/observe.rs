//! The two ends of the agents' door: the desired state of a host, made from its servers' rows, and what a
//! host reports, which settles their states.

use crate::model::{Disk, DiskSource, Plug, Seen, Server};
use crate::states::{PowerState, Settled, settle};
use crate::store::{actions, hosts, servers};
use crate::wire::{Desired, Guest, GuestDisk, GuestNic, Observed, Passphrase, Power, Report};
use crate::{Compute, ComputeError, growth};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A poll is answered after this long even if nothing has changed.
const HOLD: Duration = Duration::from_secs(25);

/// The topic that is woken when a host has something new to do.
pub(crate) fn host_topic(host: &str) -> String {
    format!("host:{host}")
}

impl Compute {
    /// Everything the host is to make true, once it differs from what the agent knows, or when the poll has been
    /// held long enough.
    pub(crate) async fn poll(&self, host: &str, known: &str) -> Result<Desired, ComputeError> {
        // Subscribed before the rows are read: no change falls between.
        let mut signal = self.db.signal(&host_topic(host));
        self.heard(host, None).await?;
        let desired = self.desired(host).await?;
        if desired.version != known {
            return Ok(desired);
        }
        let until = tokio::time::Instant::now() + HOLD;
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            // Where another process' wake-up was lost, the tick finds the change.
            signal.wait(left.min(Duration::from_secs(5))).await;
            let desired = self.desired(host).await?;
            if desired.version != known || tokio::time::Instant::now() >= until {
                return Ok(desired);
            }
        }
    }

    async fn desired(&self, host: &str) -> Result<Desired, ComputeError> {
        let find = servers::Find { host: Some(host), ..servers::Find::default() };
        let mut rows = servers::list(&self.db, &find).await?;
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        let guests: Vec<_> = rows.iter().filter_map(|s| self.guest(s)).collect();
        let ids: BTreeSet<_> = guests
            .iter()
            .filter(|g| g.power != Power::Gone)
            .flat_map(|g| g.nics.iter().map(|n| n.network_id.clone()))
            .collect();
        let networks = self.host_networks(host, &ids.into_iter().collect::<Vec<_>>()).await?;
        let consoles = hosts::consoles(&self.db, host).await?;
        let mut desired = Desired { version: String::new(), guests, networks, consoles };
        desired.version = hex::encode(&Sha256::digest(serde_json::to_vec(&desired)?)[..12]);
        Ok(desired)
    }

    /// The passphrase of a volume, for a host that has a server with it.
    pub(crate) async fn passphrase(&self, host: &str, volume: &str) -> Result<Passphrase, ComputeError> {
        let absent = || ComputeError::NotFound(format!("No server of this host has volume {volume}."));
        let find = servers::Find { host: Some(host), ..servers::Find::default() };
        let rows = servers::list(&self.db, &find).await?;
        let has = |s: &Server| s.disks.iter().any(|d| d.volume_id() == Some(volume) && d.place.is_some());
        rows.iter().find(|s| has(s)).ok_or_else(absent)?;
        let secret = self.volumes.passphrase(volume).await?.ok_or_else(absent)?;
        Ok(Passphrase { passphrase: secret.0 })
    }

    /// What the host is to make of a server; nothing before its first boot is asked for.
    fn guest(&self, s: &Server) -> Option<Guest> {
        if s.intent.incarnation == 0 && s.intent.power != Power::Gone {
            return None;
        }
        let plugged = |p: Plug| matches!(p, Plug::Attaching | Plug::Attached);
        Some(Guest {
            id: s.id.clone(),
            name: s.name.clone(),
            generation: s.intent.generation,
            incarnation: s.intent.incarnation,
            power: s.intent.power,
            graceful: s.intent.graceful,
            shutdown_secs: self.config.shutdown_secs,
            vcpus: u32::try_from(s.flavor.vcpus).unwrap_or(1),
            memory_mib: u64::try_from(s.flavor.ram_mib).unwrap_or(0),
            disks: s
                .disks
                .iter()
                .filter(|d| plugged(d.plug) || d.is_pivoting())
                .filter_map(|d| guest_disk(s, d))
                .chain(config_drive(s))
                .collect(),
            nics: s
                .nics
                .iter()
                .filter(|n| plugged(n.plug))
                .map(|n| GuestNic {
                    port_id: n.port_id.clone(),
                    network_id: n.network_id.clone(),
                    mac: n.mac.clone(),
                    mtu: n.mtu,
                })
                .collect(),
        })
    }

    /// Takes in what a host has seen. Only the servers that are on that host by our own rows are touched.
    pub(crate) async fn report(&self, host: &str, report: Report) -> Result<(), ComputeError> {
        self.heard(host, report.facts.as_ref()).await?;
        for seen in report.guests {
            self.observed(host, seen).await?;
        }
        Ok(())
    }

    async fn observed(&self, host: &str, o: Observed) -> Result<(), ComputeError> {
        let Some(before) = servers::get(&self.db, &o.id).await? else {
            tracing::warn!(guest = %o.id, host, "a host has a guest that is nobody's server");
            return Ok(());
        };
        if before.host != host || before.seen == seen(&o, &before) {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        let Some(mut s) = servers::lock(&mut tx, &o.id).await? else { return Ok(()) };
        s.seen = seen(&o, &s);
        let (vm, generation) = (s.vm_state, s.intent.generation);
        match settle(&mut s) {
            Settled::Unchanged => {}
            Settled::Changed => actions::settled(&mut tx, &s.id, None).await?,
            Settled::Failed => {
                let message = s.fault.as_ref().map(|f| f.message.clone()).unwrap_or_default();
                tracing::warn!(server = %s.id, host, %message, "a host could not do what a server needs");
                actions::settled(&mut tx, &s.id, Some(&message)).await?;
            }
        }
        if let Some(error) = growth::settle(&mut s) {
            actions::end_one(&mut tx, &s.id, growth::ACTION, error.as_deref()).await?;
        }
        if s.vm_state != vm {
            tracing::info!(server = %s.id, host, from = vm.as_str(), to = s.vm_state.as_str(), "server changed state");
        }
        servers::save(&mut tx, &s).await?;
        if s.intent.generation != generation {
            tx.wake(host_topic(host));
        }
        Ok(tx.commit().await?)
    }
}

fn seen(o: &Observed, s: &Server) -> Seen {
    // An error that was said of an older generation is about what nobody wants any more.
    let error = o.error.as_ref().filter(|e| e.generation == s.intent.generation);
    let (error, device_error) = match error {
        Some(e) => match &e.device {
            Some(device) => (None, Some((device.clone(), e.message.clone()))),
            None => (Some(e.message.clone()), None),
        },
        None => (None, None),
    };
    // What an applied generation says is final; a lower number only says that something is under way again.
    Seen {
        power: o.power,
        generation: if o.generation == 0 {
            s.seen.generation.min(s.intent.generation - 1)
        } else {
            o.generation
        },
        incarnation: if o.power == PowerState::Absent { s.seen.incarnation } else { o.incarnation },
        error,
        device_error,
        disks: o.disks.clone(),
        ports: o.ports.clone(),
        mirrors: o.mirrors.clone(),
        grown: o.grown.clone(),
    }
}

fn guest_disk(s: &Server, d: &Disk) -> Option<GuestDisk> {
    let place = d.place.clone()?;
    let serial = match &d.source {
        DiskSource::Volume { volume_id } => volume_id.clone(),
        DiskSource::Local { .. } => s.id.clone(),
    };
    Some(GuestDisk {
        device: d.device.clone(),
        bus: d.bus.clone(),
        serial,
        cluster: place.cluster,
        pool: place.pool,
        image: place.image,
        encryption: place.encryption.map(|e| match e {
            blockstore::VolumeEncryption::Luks => "luks".to_owned(),
            blockstore::VolumeEncryption::Luks2 => "luks2".to_owned(),
        }),
        limits: place.limits,
        mirror: d.moving.clone(),
        grown: d.grown,
        boot_order: (d.boot_index == Some(0)).then_some(1),
        read_only: false,
        cdrom: false,
    })
}

fn config_drive(s: &Server) -> Option<GuestDisk> {
    let place = s.drive.clone()?.place?;
    Some(GuestDisk {
        device: "sda".into(),
        bus: "sata".into(),
        serial: "config-drive".into(),
        cluster: place.cluster,
        pool: place.pool,
        image: place.image,
        encryption: None,
        limits: BTreeMap::new(),
        mirror: None,
        grown: None,
        boot_order: None,
        read_only: true,
        cdrom: true,
    })
}
