//! Disks that go to another image while their guest runs: QEMU copies, writes to both, and lets go of the old one when
//! told so (the pivot). What stands where is read from the domain at every look; nothing is remembered but how often a
//! copy was begun.

use super::domain::{Copying, Machine};
use super::hypervisor::Found;
use super::plan::Step;
use crate::states::PowerState;
use crate::wire::{Guest, GuestDisk, MirrorState, Mirrored};
use std::collections::{BTreeMap, HashMap};

/// A copy that has ended so often without being asked to will not come to its end.
pub(crate) const TRIES: u32 = 3;

/// Where a disk stands that is to be elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    /// The guest does not run, or does not have the disk.
    Off,
    /// At its old place, with no copy under way.
    Old,
    /// A copy to somewhere else is under way.
    Stray,
    Copying,
    Ready,
    /// A pivot, or the end of a copy, is under way.
    Ending,
    New,
}

/// By serial, of the disks that are to be elsewhere.
pub(crate) type Stands = BTreeMap<String, Stand>;

pub(crate) fn stands(machine: &Machine, want: &Guest, found: Option<&Found>) -> Stands {
    let moving = want.disks.iter().filter_map(|d| Some((d, d.mirror.as_ref()?)));
    let stand = |d: &GuestDisk, to| {
        let Some(f) = found.filter(|f| runs(f)) else { return Stand::Off };
        let at = f.devices.sources.get(&d.serial);
        if !f.devices.disks.contains_key(&d.serial) {
            return Stand::Off;
        }
        match f.devices.copies.get(&d.serial) {
            Some(Copying { to: there, .. }) if *there != to => Stand::Stray,
            Some(Copying { ready: None, .. }) => Stand::Copying,
            Some(Copying { ready: Some(word), .. }) if word == "yes" => Stand::Ready,
            Some(_) => Stand::Ending,
            None if to.is_some() && at == to.as_ref() => Stand::New,
            None => Stand::Old,
        }
    };
    moving.map(|(d, m)| (d.serial.clone(), stand(d, machine.source(&m.cluster, &m.pool, &m.image)))).collect()
}

fn runs(f: &Found) -> bool {
    !matches!(
        f.power,
        PowerState::Absent | PowerState::Shutdown | PowerState::Crashed | PowerState::Suspended
    )
}

/// What comes before everything else: a guest that is to pivot does, and waits where it cannot, until the controller has
/// heard of that. So whatever is to end the guest or take its disk away finds it known which image the disk is.
pub(crate) fn unfinished(want: &Guest, stands: &Stands) -> Option<Step> {
    let pivoting = want.disks.iter().filter(|d| d.mirror.as_ref().is_some_and(|m| m.pivot));
    let steps = pivoting.filter_map(|d| match stands.get(&d.serial)? {
        Stand::Ready => Some(Step::Pivot(d.serial.clone())),
        Stand::New | Stand::Off => None,
        Stand::Old | Stand::Stray | Stand::Copying | Stand::Ending => Some(Step::Wait),
    });
    steps.max_by_key(|step| *step != Step::Wait)
}

/// Whether it is not known which image a disk is: nobody may boot from either.
pub(crate) fn undecided(want: &Guest) -> bool {
    want.disks.iter().any(|d| d.mirror.as_ref().is_some_and(|m| m.pivot))
}

/// The end of a copy that nobody wants any more, or the beginning of one that is missing.
pub(crate) fn changed(want: &Guest, found: &Found, stands: &Stands) -> Option<Step> {
    let wanted = |serial: &str| {
        let stands = stands.get(serial).is_some_and(|s| *s != Stand::Stray);
        stands && want.disks.iter().any(|d| d.serial == serial)
    };
    if let Some(unwanted) = found.devices.copies.keys().find(|serial| !wanted(serial)) {
        return Some(Step::EndCopy(unwanted.clone()));
    }
    let old = |d: &&GuestDisk| d.mirror.is_some() && stands.get(&d.serial) == Some(&Stand::Old);
    want.disks.iter().find(old).map(|d| Step::Copy(Box::new(d.clone())))
}

/// The end of the copy of a disk, or of any, where there is one.
pub(crate) fn ended(found: &Found, serial: Option<&str>) -> Option<Step> {
    let copies = &mut found.devices.copies.keys();
    copies.find(|s| serial.is_none_or(|only| only == s.as_str())).map(|s| Step::EndCopy(s.clone()))
}

/// What the controller is told; `percent` is of the copies that are not ready.
pub(crate) fn told(
    want: &Guest,
    stands: &Stands,
    percent: &HashMap<String, u8>,
) -> BTreeMap<String, Mirrored> {
    let moving = want.disks.iter().filter_map(|d| Some((d, d.mirror.as_ref()?, stands.get(&d.serial)?)));
    moving
        .map(|(d, to, stand)| {
            let state = match stand {
                Stand::Off => MirrorState::Off,
                Stand::Old if to.pivot => MirrorState::Lost,
                Stand::Old | Stand::Stray | Stand::Ending => MirrorState::Copying(0),
                Stand::Copying => MirrorState::Copying(percent.get(&d.serial).copied().unwrap_or(0)),
                Stand::Ready => MirrorState::Ready,
                Stand::New => MirrorState::Moved,
            };
            (d.serial.clone(), Mirrored { to: to.name(), pivot: to.pivot, state })
        })
        .collect()
}

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
