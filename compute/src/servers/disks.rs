//! The names of a server's disks.

use crate::ComputeError;
use crate::model::Disk;

/// Gives a disk the name that was asked for, or the first that is free: `vda` … `vdz`.
pub(crate) fn name_disk(mut disk: Disk, asked: Option<&str>, others: &[Disk]) -> Result<Disk, ComputeError> {
    if disk.bus != "virtio" {
        return Err(ComputeError::invalid(format!(
            "Block Device Mapping is Invalid: the disk bus '{}' is not offered; use virtio.",
            disk.bus
        )));
    }
    if disk.device_type != "disk" {
        return Err(ComputeError::invalid(format!(
            "Block Device Mapping is Invalid: the device type '{}' is not offered; use disk.",
            disk.device_type
        )));
    }
    let taken = |name: &str| others.iter().any(|d| d.device == name);
    // A name in the manner of another bus is taken as a wish for its letter.
    let letter = asked.map(|a| a.trim_start_matches("/dev/")).and_then(|a| a.chars().last());
    let wished = letter.filter(char::is_ascii_lowercase).map(|l| format!("vd{l}"));
    if let (Some(name), Some(asked)) = (&wished, asked)
        && taken(name)
        && asked.trim_start_matches("/dev/").starts_with("vd")
        && disk.boot_index != Some(0)
    {
        return Err(ComputeError::Conflict(format!("The supplied device path ({asked}) is in use.")));
    }
    let free = ('a'..='z').map(|l| format!("vd{l}")).find(|n| !taken(n));
    let name = match wished {
        // The first name is the root disk's.
        Some(name) if !taken(&name) && (name != "vda" || disk.boot_index == Some(0)) => Some(name),
        _ => free,
    };
    disk.device =
        name.ok_or_else(|| ComputeError::Forbidden("The maximum number of disk devices is reached.".into()))?;
    Ok(disk)
}
