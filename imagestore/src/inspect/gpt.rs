//! GPT: a raw disk that begins with a protective MBR and, behind it, the header of its partition table. Nothing is
//! converted; the declaration only promises what the disk begins with.

use super::Refusal;
use super::bytes::{Fields, inside};

const PROTECTIVE: u8 = 0xee;
/// Sectors that a header may be behind the first: 512 or 4096 bytes.
const SECTORS: [usize; 2] = [512, 4096];

/// Whether a disk that begins so has a protective MBR, and a header behind it. A hybrid MBR, whose entries lead tools
/// past the table, does not count.
pub(super) fn begins(head: &[u8]) -> bool {
    protective(head) && SECTORS.iter().any(|s| head.get(*s..*s + 8) == Some(b"EFI PART"))
}

fn protective(head: &[u8]) -> bool {
    let Some(mbr) = head.get(..512) else { return false };
    let entries: Vec<&[u8]> = mbr[446..510].chunks_exact(16).collect();
    let used: Vec<_> = entries.iter().filter(|e| e[4] != 0).collect();
    let one =
        matches!(used[..], [e] if e[4] == PROTECTIVE && matches!(e[0], 0 | 0x80) && e[8..12] == [1, 0, 0, 0]);
    mbr[510..] == [0x55, 0xaa] && one
}

/// Checks that the table lies inside of the disk; gives the disk's size.
pub(super) fn open(head: &[u8], size: u64) -> Result<u64, Refusal> {
    let at = SECTORS.iter().copied().find(|s| head.get(*s..*s + 8) == Some(b"EFI PART"));
    let at = at.ok_or(Refusal::Truncated("GPT header"))?;
    let h = Fields { bytes: head, what: "GPT header" };
    let sector = at as u64;
    let (first, count, entry) = (h.le64(at + 72)?, u64::from(h.le32(at + 80)?), u64::from(h.le32(at + 84)?));
    if !(128..=4096).contains(&entry) || !entry.is_power_of_two() || count > 1024 {
        return Err(Refusal::Malformed("a GPT parameter is out of range"));
    }
    let table = first.checked_mul(sector).ok_or(Refusal::Truncated("GPT table"))?;
    inside(table, count * entry, size, "GPT table")?;
    Ok(size)
}
