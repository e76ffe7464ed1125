//! Disks that have grown under their guest: QEMU is told how large they are, and tells the guest.

use super::hypervisor::Found;
use super::plan::{Memory, Step};
use crate::wire::{Guest, GuestDisk, Shown};
use std::collections::BTreeMap;

/// A guest that could not be told so often finds out when it starts anew.
const TRIES: u32 = 3;

/// What was made of a disk's growth.
#[derive(Debug, Clone, Default)]
pub(crate) struct Growth {
    bytes: u64,
    failures: u32,
    /// How it ended.
    shown: Option<Shown>,
}

impl Growth {
    /// Takes in how a try went. An error comes back while there is to be another.
    pub(crate) fn tried<E: std::fmt::Display>(&mut self, bytes: u64, done: Result<(), E>) -> Result<(), E> {
        if self.bytes != bytes {
            *self = Growth { bytes, ..Growth::default() };
        }
        let error = match done {
            Ok(()) => None,
            Err(e) => {
                self.failures += 1;
                if self.failures < TRIES {
                    return Err(e);
                }
                Some(e.to_string())
            }
        };
        self.shown = Some(Shown { bytes, error });
        Ok(())
    }

    fn of<'a>(memory: &'a Memory, disk: &GuestDisk) -> Option<&'a Shown> {
        let shown = memory.grown.get(&disk.serial)?.shown.as_ref();
        shown.filter(|shown| Some(shown.bytes) == disk.grown)
    }
}

/// The next disk that a guest, which runs, is to see grown. One that is being copied waits.
pub(crate) fn next(want: &Guest, found: &Found, memory: &Memory) -> Option<Step> {
    let has = |d: &GuestDisk| {
        found.devices.disks.contains_key(&d.serial) && !found.devices.copies.contains_key(&d.serial)
    };
    let hidden = |d: &&GuestDisk| d.grown.is_some() && has(d) && Growth::of(memory, d).is_none();
    want.disks.iter().find(hidden).map(|d| Step::Grow(Box::new(d.clone())))
}

/// What the controller is told.
pub(crate) fn told(want: &Guest, memory: &Memory) -> BTreeMap<String, Shown> {
    want.disks.iter().filter_map(|d| Some((d.serial.clone(), Growth::of(memory, d)?.clone()))).collect()
}
