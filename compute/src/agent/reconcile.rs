//! Makes libvirt's guests what the controller wants them to be. It takes no orders: woken for whatever reason,
//! it looks at desired and found and takes the next step for each guest, many guests at once.

use super::client::Controller;
use super::domain::{Machine, Mark, disk_element, nic_element};
use super::hypervisor::{Found, Hypervisor, is_away};
use super::mirror::{self, Stands};
use super::plan::{Asked, Failure, Memory, Step, plan};
use super::{console, growth, secrets};
use crate::ComputeError;
use crate::states::PowerState;
use crate::wire::{Guest, GuestDisk, GuestError, Observed, Power};
use futures::StreamExt;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Guests that are worked on at once.
const AT_ONCE: usize = 6;
/// Steps for one guest before others have their turn again.
const STEPS: usize = 16;
/// A failure is the controller's to know when it has happened so often.
const TELL_AFTER: u32 = 3;

pub(crate) struct Reconciler {
    pub(crate) hypervisor: Hypervisor,
    pub(crate) machine: Machine,
    controller: Controller,
    memory: HashMap<String, Memory>,
}

/// What one round came to.
pub(crate) struct Round {
    pub(crate) guests: Vec<Observed>,
    pub(crate) pace: Pace,
}

/// How soon the next look is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pace {
    /// Nothing is under way: it may wait for a wake-up.
    Idle,
    /// Disks are copied, and nothing else is under way.
    Copying,
    Busy,
}

impl Reconciler {
    pub(crate) fn new(hypervisor: Hypervisor, machine: Machine, controller: Controller) -> Self {
        Reconciler { hypervisor, machine, controller, memory: HashMap::new() }
    }

    /// One round over all guests.
    pub(crate) async fn round(&mut self, desired: &[Guest]) -> Result<Round, ComputeError> {
        let found = self.hypervisor.guests().await?;
        let mut by_id: BTreeMap<String, Option<Found>> =
            found.into_iter().map(|f| (f.id.clone(), Some(f))).collect();
        self.memory.retain(|id, _| desired.iter().any(|g| g.id == *id));
        let work: Vec<_> = desired
            .iter()
            .map(|g| {
                (g.clone(), by_id.remove(&g.id).flatten(), self.memory.remove(&g.id).unwrap_or_default())
            })
            .collect();
        let this = &*self;
        let done: Vec<_> = futures::stream::iter(work)
            .map(|(want, found, memory)| this.guest(want, found, memory))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut round = Round { guests: Vec::with_capacity(done.len()), pace: Pace::Idle };
        for (observed, memory, pace) in done {
            round.pace = round.pace.max(pace);
            self.memory.insert(observed.id.clone(), memory);
            round.guests.push(observed);
        }
        // Guests that the controller did not name: told, never touched.
        round.guests.extend(by_id.into_values().flatten().map(|f| observed(&f.id.clone(), Some(&f), 0)));
        round.guests.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(round)
    }

    /// Takes a guest as far as it goes without waiting for it.
    async fn guest(
        &self,
        want: Guest,
        mut found: Option<Found>,
        mut memory: Memory,
    ) -> (Observed, Memory, Pace) {
        let want = &want;
        let mut applied = 0;
        let mut pace = Pace::Busy;
        let mut stands = mirror::stands(&self.machine, want, found.as_ref());
        for _ in 0..STEPS {
            let step = plan(want, found.as_ref(), &stands, &memory, Instant::now());
            match step {
                Step::Done => {
                    pace = if stands.is_empty() { Pace::Idle } else { Pace::Copying };
                    applied = want.generation;
                    if memory.failure.as_ref().is_some_and(|f| f.generation == want.generation) {
                        memory.failure = None;
                    }
                    break;
                }
                Step::Wait => break,
                _ => {}
            }
            let taken = self.take(want, found.as_ref(), &step, &mut memory).await;
            match taken {
                Ok(()) => {}
                Err(e) => {
                    failed(want, &step, &mut memory, &e);
                    break;
                }
            }
            found = match self.hypervisor.guest(&want.id).await {
                Ok(found) => found,
                Err(e) => {
                    tracing::warn!(guest = %want.id, error = %e, "a guest cannot be looked at");
                    break;
                }
            };
            stands = mirror::stands(&self.machine, want, found.as_ref());
        }
        // A guest that starts again may well finish what its last life could not.
        memory.copies.retain(|serial, _| stands.get(serial).is_some_and(|s| *s != mirror::Stand::Off));
        if want.power == Power::Gone && found.is_none() {
            console::forget(&self.machine.console(&want.id)).await;
        }
        let error =
            memory.failure.as_ref().filter(|f| f.generation == want.generation && f.times >= TELL_AFTER).map(
                |f| GuestError {
                    generation: f.generation,
                    message: f.message.clone(),
                    device: f.device.clone(),
                },
            );
        let percent = self.percent(&want.id, found.as_ref(), &stands).await;
        let mirrors = mirror::told(want, &stands, &percent);
        memory.grown.retain(|serial, _| want.disks.iter().any(|d| d.serial == *serial && d.grown.is_some()));
        let grown = growth::told(want, &memory);
        let seen = observed(&want.id, found.as_ref(), applied);
        (Observed { error, mirrors, grown, ..seen }, memory, pace)
    }

    /// How far the copies are that are not ready.
    async fn percent(&self, id: &str, found: Option<&Found>, stands: &Stands) -> HashMap<String, u8> {
        let mut all = HashMap::new();
        for serial in stands.iter().filter(|(_, s)| **s == mirror::Stand::Copying).map(|(serial, _)| serial) {
            let Some(device) = device(found, serial) else { continue };
            match self.hypervisor.copied(id, device).await {
                Ok(percent) => drop(all.insert(serial.clone(), percent)),
                Err(e) => tracing::debug!(guest = id, error = %e, "how far a copy is is not known"),
            }
        }
        all
    }

    async fn take(
        &self,
        want: &Guest,
        found: Option<&Found>,
        step: &Step,
        memory: &mut Memory,
    ) -> Result<(), ComputeError> {
        let (h, id) = (&self.hypervisor, want.id.as_str());
        tracing::debug!(guest = id, ?step, "next step");
        match step {
            Step::Start => self.unlock(&want.disks).await?,
            Step::AttachDisk(disk) => self.unlock(std::slice::from_ref(disk.as_ref())).await?,
            _ => {}
        }
        match step {
            Step::Done | Step::Wait => Ok(()),
            Step::Start if found.is_some_and(|f| f.saved) => {
                h.on(id, "restore a guest", |d| d.create()).await.map(drop)
            }
            Step::Start => {
                let xml = self.machine.domain(want).map_err(ComputeError::Config)?;
                h.start(id, xml).await
            }
            Step::PressPower => {
                let now = Instant::now();
                let asked = memory.asked.take().filter(|a| a.generation == want.generation);
                let first = asked.map_or(now, |a| a.first);
                memory.asked = Some(Asked { generation: want.generation, first, last: now });
                h.press_power(id).await
            }
            Step::Destroy => h.destroy(id).await,
            Step::Remove => h.remove(id).await,
            Step::Pause => h.on(id, "pause a guest", |d| d.suspend()).await.map(drop),
            Step::Resume => h.on(id, "resume a guest", |d| d.resume()).await.map(drop),
            Step::Save => h.on(id, "save a guest", |d| d.managed_save(0)).await.map(drop),
            Step::DropSaved => {
                h.on(id, "forget a guest's saved memory", |d| d.managed_save_remove(0)).await.map(drop)
            }
            Step::AttachDisk(disk) => {
                let xml = self.machine.disk(disk).map_err(ComputeError::Config)?.render();
                h.attach(id, xml).await.map_err(without_key)
            }
            Step::AttachNic(nic) => h.attach(id, self.machine.nic(nic).render()).await,
            Step::DetachDisk(serial) => {
                memory.detaching.insert(serial.clone(), Instant::now());
                match found.and_then(|f| disk_element(&f.xml, serial)) {
                    Some(el) => h.detach(id, el.render()).await,
                    None => Ok(()),
                }
            }
            Step::DetachNic(port) => {
                memory.detaching.insert(port.clone(), Instant::now());
                match found.and_then(|f| nic_element(&f.xml, port)) {
                    Some(el) => h.detach(id, el.render()).await,
                    None => Ok(()),
                }
            }
            Step::Copy(disk) => {
                let (Some(to), Some(device)) = (&disk.mirror, device(found, &disk.serial)) else {
                    return Ok(());
                };
                let times = memory.copies.entry(disk.serial.clone()).or_default();
                *times += 1;
                if *times > mirror::TRIES {
                    return Err(ComputeError::Conflict("the copy of the disk ends early".into()));
                }
                h.copy_disk(&self.machine, id, device, to).await
            }
            Step::Pivot(serial) => match device(found, serial) {
                Some(device) => h.pivot_disk(id, device).await,
                None => Ok(()),
            },
            Step::EndCopy(serial) => match device(found, serial) {
                Some(device) => h.end_copy(id, device).await,
                None => Ok(()),
            },
            Step::Grow(disk) => {
                let (Some(bytes), Some(device)) = (disk.grown, device(found, &disk.serial)) else {
                    return Ok(());
                };
                match h.grow(id, device, bytes).await {
                    Err(e) if is_away(&e) => Err(e),
                    done => memory.grown.entry(disk.serial.clone()).or_default().tried(bytes, done),
                }
            }
        }
    }

    /// Tells libvirt the passphrases of those disks that are encrypted, before QEMU opens them.
    async fn unlock(&self, disks: &[GuestDisk]) -> Result<(), ComputeError> {
        for disk in disks.iter().filter(|d| d.encryption.is_some()) {
            let passphrase = self.controller.passphrase(&disk.serial).await?;
            let secret = secrets::of_volume(&disk.serial);
            self.hypervisor.set_passphrase(&secret, &disk.serial, passphrase).await?;
        }
        Ok(())
    }

    /// Puts every running guest down, marked so that the next life of the cloud starts it again. Those that do
    /// not shut down within the deadline are switched off.
    pub(crate) async fn hold_all(&self, deadline: Duration) -> Result<(), ComputeError> {
        let began = Instant::now();
        let mut asked = false;
        loop {
            let running: Vec<_> = self
                .hypervisor
                .guests()
                .await?
                .into_iter()
                .filter(|f| matches!(f.power, PowerState::Running | PowerState::Paused))
                .collect();
            if running.is_empty() {
                return Ok(());
            }
            let late = began.elapsed() >= deadline;
            for guest in running {
                if !asked {
                    let mark = Mark { held: true, ..guest.mark.clone() };
                    self.hypervisor.set_mark(&guest.id, mark).await?;
                }
                if late || guest.power == PowerState::Paused {
                    self.hypervisor.destroy(&guest.id).await?;
                } else if !asked {
                    self.hypervisor.press_power(&guest.id).await?;
                }
            }
            asked = true;
            // libvirt's events need a loop of C callbacks; looking is as good for the seconds this takes.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// libvirt 9 has QEMU open an image that librbd decrypts before QEMU has the key, unless the guest only starts.
fn without_key(e: ComputeError) -> ComputeError {
    match &e {
        ComputeError::Libvirt { source, .. } if source.message().contains("No secret with id") => {
            ComputeError::Conflict(
                "The libvirt of this server's host attaches LUKS2 volumes only while the server is stopped."
                    .into(),
            )
        }
        _ => e,
    }
}

fn failed(want: &Guest, step: &Step, memory: &mut Memory, e: &ComputeError) {
    let mut message = e.to_string();
    let mut next = std::error::Error::source(e);
    while let Some(cause) = next {
        message = format!("{message}: {cause}");
        next = cause.source();
    }
    tracing::warn!(guest = %want.id, ?step, error = %message, "a step failed");
    if is_away(e) {
        // It says nothing of the guest; the next round asks again.
        return;
    }
    let times = match &memory.failure {
        Some(f) if f.generation == want.generation => f.times + 1,
        _ => 1,
    };
    let delay = Duration::from_millis(500 << times.min(6));
    let device = match step {
        Step::AttachDisk(d) => Some(d.serial.clone()),
        Step::AttachNic(n) => Some(n.port_id.clone()),
        Step::DetachDisk(key) | Step::DetachNic(key) | Step::Pivot(key) | Step::EndCopy(key) => {
            Some(key.clone())
        }
        Step::Copy(d) | Step::Grow(d) => Some(d.serial.clone()),
        _ => None,
    };
    let again = Instant::now() + delay;
    memory.failure = Some(Failure { generation: want.generation, times, again, message, device });
}

/// The device name of a disk.
fn device<'a>(found: Option<&'a Found>, serial: &str) -> Option<&'a str> {
    found?.devices.disks.get(serial).map(String::as_str)
}

fn observed(id: &str, found: Option<&Found>, applied: i64) -> Observed {
    let Some(f) = found else {
        return Observed {
            id: id.to_owned(),
            power: PowerState::Absent,
            generation: applied,
            ..Observed::default()
        };
    };
    let on = matches!(f.power, PowerState::Running | PowerState::Paused);
    Observed {
        id: id.to_owned(),
        generation: applied,
        incarnation: f.mark.incarnation,
        power: f.power,
        disks: f.devices.disks.keys().filter(|_| on).cloned().collect(),
        ports: f.devices.nics.keys().filter(|_| on).cloned().collect(),
        ..Observed::default()
    }
}
