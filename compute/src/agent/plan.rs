//! What to do next about one guest: desired and found in, one step out. No libvirt, no clock but the caller's.

use super::growth::{self, Growth};
use super::hypervisor::{Found, WhyOff};
use super::mirror::{self, Stands};
use crate::states::PowerState;
use crate::wire::{Guest, GuestDisk, GuestNic, Power};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A guest that does not answer its power button is asked again this often.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// A guest that does not let go of a device is asked again this often.
const DETACH_AGAIN: Duration = Duration::from_secs(5);

/// What the agent remembers of a guest between looks. Losing it costs a repeated request, nothing else.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    /// When the guest was first and last asked to shut down, for which incarnation.
    pub(crate) asked: Option<Asked>,
    /// When a device's release was last asked for, by serial or port.
    pub(crate) detaching: HashMap<String, Instant>,
    pub(crate) failure: Option<Failure>,
    /// How often a disk's copy was begun while the guest ran, by serial.
    pub(crate) copies: HashMap<String, u32>,
    /// What the guest was shown of disks that have grown, by serial.
    pub(crate) grown: HashMap<String, Growth>,
}

#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) generation: i64,
    pub(crate) first: Instant,
    pub(crate) last: Instant,
}

/// A step that failed, and when it is tried again.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) generation: i64,
    pub(crate) times: u32,
    pub(crate) again: Instant,
    pub(crate) message: String,
    /// The device that the step was about.
    pub(crate) device: Option<String>,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Found is as desired.
    Done,
    /// Something is under way; look again soon.
    Wait,
    Start,
    PressPower,
    Destroy,
    Remove,
    Pause,
    Resume,
    Save,
    DropSaved,
    AttachDisk(Box<GuestDisk>),
    AttachNic(GuestNic),
    /// By serial.
    DetachDisk(String),
    /// By port.
    DetachNic(String),
    /// To where the disk is to be.
    Copy(Box<GuestDisk>),
    /// By serial: the copy takes over.
    Pivot(String),
    /// By serial.
    EndCopy(String),
    /// Shows the guest how large the disk is.
    Grow(Box<GuestDisk>),
}

pub(crate) fn plan(
    want: &Guest,
    found: Option<&Found>,
    stands: &Stands,
    memory: &Memory,
    now: Instant,
) -> Step {
    let failing = memory.failure.as_ref().filter(|f| f.generation == want.generation);
    if failing.is_some_and(|f| now < f.again) {
        return Step::Wait;
    }
    if let Some(step) = mirror::unfinished(want, stands) {
        return step;
    }
    let power = found.map_or(PowerState::Absent, |f| f.power);
    let step = match want.power {
        Power::Gone => match found {
            None => Step::Done,
            Some(_) => Step::Remove,
        },
        Power::Off => off(want, found, memory, now),
        Power::On => on(want, found, stands, memory, now),
        Power::Paused => match (power, found) {
            (PowerState::Running, _) => Step::Pause,
            (PowerState::Paused, Some(f)) => {
                let grown = || growth::next(want, f, memory);
                mirror::changed(want, f, stands).or_else(grown).unwrap_or(Step::Done)
            }
            _ => Step::Done,
        },
        Power::Suspended => match power {
            PowerState::Running | PowerState::Paused => Step::Save,
            _ => Step::Done,
        },
    };
    match &step {
        Step::Start if mirror::undecided(want) => Step::Wait,
        // libvirt does neither while a disk is copied.
        Step::Save => found.and_then(|f| mirror::ended(f, None)).unwrap_or(step),
        Step::DetachDisk(serial) => found.and_then(|f| mirror::ended(f, Some(serial))).unwrap_or(step),
        _ => step,
    }
}

fn off(want: &Guest, found: Option<&Found>, memory: &Memory, now: Instant) -> Step {
    let Some(f) = found else { return Step::Done };
    match f.power {
        PowerState::Running if want.graceful => shut_down(want, memory, now),
        PowerState::Running | PowerState::Paused | PowerState::NoState => Step::Destroy,
        PowerState::Suspended => Step::DropSaved,
        PowerState::Shutdown | PowerState::Crashed | PowerState::Absent => Step::Done,
    }
}

fn on(want: &Guest, found: Option<&Found>, stands: &Stands, memory: &Memory, now: Instant) -> Step {
    let Some(f) = found else { return Step::Start };
    let old = f.mark.incarnation < want.incarnation;
    match f.power {
        PowerState::Running if old && want.graceful => shut_down(want, memory, now),
        PowerState::Running | PowerState::Paused | PowerState::NoState if old => Step::Destroy,
        PowerState::Running => devices(want, f, stands, memory, now),
        PowerState::Paused => Step::Resume,
        PowerState::NoState => Step::Wait,
        PowerState::Suspended if old => Step::DropSaved,
        PowerState::Suspended => Step::Start,
        PowerState::Shutdown | PowerState::Crashed | PowerState::Absent => {
            let lost = matches!(f.off, Some(WhyOff::Lost | WhyOff::Failed | WhyOff::Saved) | None);
            // Else the guest has switched itself off, which is the controller's to know.
            if old || f.mark.held || lost { Step::Start } else { Step::Done }
        }
    }
}

/// Asks, asks again, and in the end does not ask any more.
fn shut_down(want: &Guest, memory: &Memory, now: Instant) -> Step {
    match &memory.asked {
        Some(asked) if asked.generation == want.generation => {
            if now.duration_since(asked.first) >= Duration::from_secs(want.shutdown_secs) {
                Step::Destroy
            } else if now.duration_since(asked.last) >= ASK_AGAIN {
                Step::PressPower
            } else {
                Step::Wait
            }
        }
        _ if want.shutdown_secs == 0 => Step::Destroy,
        _ => Step::PressPower,
    }
}

fn devices(want: &Guest, f: &Found, stands: &Stands, memory: &Memory, now: Instant) -> Step {
    let asked = |key: &str| memory.detaching.get(key).is_some_and(|t| now.duration_since(*t) < DETACH_AGAIN);
    let mut waiting = false;
    for serial in f.devices.disks.keys() {
        if !want.disks.iter().any(|d| d.serial == *serial) {
            if !asked(serial) {
                return Step::DetachDisk(serial.clone());
            }
            waiting = true;
        }
    }
    for port in f.devices.nics.keys() {
        if !want.nics.iter().any(|n| n.port_id == *port) {
            if !asked(port) {
                return Step::DetachNic(port.clone());
            }
            waiting = true;
        }
    }
    if let Some(d) = want.disks.iter().find(|d| !f.devices.disks.contains_key(&d.serial)) {
        // Its name may still be taken by a disk that is leaving.
        let taken = f.devices.disks.values().any(|v| *v == d.device);
        let undecided = d.mirror.as_ref().is_some_and(|m| m.pivot);
        return if taken || undecided { Step::Wait } else { Step::AttachDisk(Box::new(d.clone())) };
    }
    if let Some(n) = want.nics.iter().find(|n| !f.devices.nics.contains_key(&n.port_id)) {
        return Step::AttachNic(n.clone());
    }
    if let Some(step) = mirror::changed(want, f, stands).or_else(|| growth::next(want, f, memory)) {
        return step;
    }
    if waiting { Step::Wait } else { Step::Done }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
