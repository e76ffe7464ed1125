//! VMDK: one sparse file with its descriptor inside, that names no other file.
//!
//! A descriptor may list extents by path: those are how an image would read the host's files. So only
//! `monolithicSparse` and `streamOptimized` pass, with exactly one extent, which is the file itself.

use super::bytes::{Fields, inside};
use super::{Codec, Piece, Refusal, Tables, What};
use crate::ImageError;

#[derive(Debug, Clone)]
pub(crate) struct Layout {
    directory_at: u64,
    directory_entries: u64,
    /// Bytes.
    grain: u64,
    table_entries: u64,
    packed: bool,
    zero_grains: bool,
    file_size: u64,
}

const SECTOR: u64 = 512;
const MAX_DESCRIPTOR: u64 = 1 << 20;
const COMPRESSED: u32 = 1 << 16;
const ZERO_GRAINS: u32 = 1 << 2;
const AT_END: u64 = u64::MAX;

struct Header {
    flags: u32,
    capacity: u64,
    grain: u64,
    descriptor_at: u64,
    descriptor_len: u64,
    table_entries: u64,
    directory_at: u64,
    algorithm: u16,
}

fn header(bytes: &[u8]) -> Result<Header, Refusal> {
    let h = Fields { bytes, what: "VMDK header" };
    if h.slice(0, 4)? != b"KDMV" {
        return Err(Refusal::Descriptor("the file is not a sparse VMDK with its descriptor inside".into()));
    }
    if !(1..=3).contains(&h.le32(4)?) {
        return Err(Refusal::Feature("VMDK version other than 1 to 3".into()));
    }
    Ok(Header {
        flags: h.le32(8)?,
        capacity: h.le64(12)?,
        grain: h.le64(20)?,
        descriptor_at: h.le64(28)?,
        descriptor_len: h.le64(36)?,
        table_entries: u64::from(h.le32(44)?),
        directory_at: h.le64(56)?,
        algorithm: h.le16(77)?,
    })
}

pub(super) async fn open(
    tables: &mut Tables<'_>,
    file_size: u64,
) -> Result<(u64, super::Layout), ImageError> {
    let first = header(&tables.read(0, 512, "VMDK header").await?)?;
    descriptor(tables, &first).await?;
    // A stream-optimised file's real header is its last but one sector.
    let h = if first.directory_at == AT_END {
        let at = file_size.checked_sub(1024).ok_or(Refusal::Truncated("VMDK footer"))?;
        let footer = header(&tables.read(at, 512, "VMDK footer").await?)?;
        if footer.directory_at == AT_END || footer.capacity != first.capacity {
            return Err(Refusal::Malformed("the VMDK footer contradicts the header").into());
        }
        footer
    } else {
        first
    };
    let out_of_range = || Refusal::Malformed("a VMDK parameter is out of range");
    if !(8..=2048).contains(&h.grain) || !h.grain.is_power_of_two() || h.table_entries != 512 {
        return Err(out_of_range().into());
    }
    let packed = h.flags & COMPRESSED != 0;
    if packed && h.algorithm != 1 {
        return Err(Refusal::Feature("VMDK compression other than deflate".into()).into());
    }
    let size = h.capacity.checked_mul(SECTOR).ok_or_else(out_of_range)?;
    let directory_at = h.directory_at.checked_mul(SECTOR).ok_or_else(out_of_range)?;
    let directory_entries = h.capacity.div_ceil(h.grain * h.table_entries);
    inside(directory_at, directory_entries.saturating_mul(4), file_size, "VMDK grain directory")?;
    let layout = Layout {
        directory_at,
        directory_entries,
        grain: h.grain * SECTOR,
        table_entries: h.table_entries,
        packed,
        zero_grains: h.flags & ZERO_GRAINS != 0,
        file_size,
    };
    Ok((size, super::Layout::Vmdk(layout)))
}

async fn descriptor(tables: &mut Tables<'_>, h: &Header) -> Result<(), ImageError> {
    let len = h.descriptor_len.saturating_mul(SECTOR);
    if h.descriptor_at == 0 || len == 0 || len > MAX_DESCRIPTOR {
        return Err(Refusal::Descriptor("it is not inside the file".into()).into());
    }
    let at = h.descriptor_at.saturating_mul(SECTOR);
    let bytes = tables.read(at, usize::try_from(len).unwrap_or_default(), "VMDK descriptor").await?;
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let text =
        std::str::from_utf8(&bytes[..end]).map_err(|_| Refusal::Descriptor("it is not plain text".into()))?;
    Ok(check_descriptor(text)?)
}

/// One extent, sparse, in this file; no parent.
fn check_descriptor(text: &str) -> Result<(), Refusal> {
    let no = |why: String| Err(Refusal::Descriptor(why));
    let (mut kind, mut extents) = (None, 0);
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if let Some((key, value)) = line.split_once('=').filter(|(k, _)| !k.contains('"')) {
            let value = value.trim().trim_matches('"');
            match key.trim().to_ascii_lowercase().as_str() {
                "createtype" if kind.is_some() => return no("it has two types".into()),
                "createtype" => kind = Some(value.to_owned()),
                "parentcid" if !value.eq_ignore_ascii_case("ffffffff") => return Err(Refusal::BackingFile),
                "parentfilenamehint" => return Err(Refusal::BackingFile),
                _ => {}
            }
            continue;
        }
        let words: Vec<&str> = line.splitn(4, char::is_whitespace).collect();
        let ["RW" | "RDONLY" | "NOACCESS", _, "SPARSE", name] = words.as_slice() else {
            return no(format!(
                "its line {:?} is not a sparse extent",
                line.chars().take(80).collect::<String>()
            ));
        };
        let name = name.trim().strip_prefix('"').and_then(|n| n.strip_suffix('"'));
        match name {
            Some(n) if !n.is_empty() && !n.contains(['/', '\\', '"']) && !n.contains("..") => extents += 1,
            _ => return no("its extent names another file".into()),
        }
    }
    match kind.as_deref() {
        Some("monolithicSparse" | "streamOptimized") if extents == 1 => Ok(()),
        Some("monolithicSparse" | "streamOptimized") => no(format!("it has {extents} extents")),
        Some(other) => no(format!("its type is {:?}", other.chars().take(40).collect::<String>())),
        None => no("it has no type".into()),
    }
}

impl Layout {
    pub(super) async fn piece(&self, tables: &mut Tables<'_>, at: u64) -> Result<Piece, ImageError> {
        let (number, within) = (at / self.grain, at % self.grain);
        let (d, t) = (number / self.table_entries, number % self.table_entries);
        if d >= self.directory_entries {
            return Err(Refusal::Malformed("the VMDK grain directory ends early").into());
        }
        let table = u64::from(tables.le32(self.directory_at + d * 4, "VMDK grain directory").await?);
        if table == 0 {
            let len = (self.table_entries - t) * self.grain - within;
            return Ok(Piece { len, what: What::Zero });
        }
        let entry = u64::from(tables.le32(table * SECTOR + t * 4, "VMDK grain table").await?);
        let len = self.grain - within;
        if entry == 0 || (entry == 1 && self.zero_grains) {
            return Ok(Piece { len, what: What::Zero });
        }
        let grain_at = entry * SECTOR;
        if !self.packed {
            inside(grain_at, 1, self.file_size, "VMDK grain")?;
            return Ok(Piece { len, what: What::Data { at: grain_at + within } });
        }
        // A marker before the grain says which it is and how long.
        let lba = tables.le64(grain_at, "VMDK grain marker").await?;
        let packed = tables.le32(grain_at + 8, "VMDK grain marker").await?;
        if lba != number * (self.grain / SECTOR) || u64::from(packed) > 2 * self.grain + 1024 {
            return Err(Refusal::Malformed("a VMDK grain marker is wrong").into());
        }
        inside(grain_at + 12, u64::from(packed), self.file_size, "VMDK grain")?;
        let (skip, whole) =
            (u32::try_from(within).unwrap_or_default(), u32::try_from(self.grain).unwrap_or_default());
        let what = What::Packed { at: grain_at + 12, packed, skip, whole, codec: Codec::Zlib };
        Ok(Piece { len, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Disk DescriptorFile\nversion=1\nCID=1234abcd\nparentCID=ffffffff\n\
        createType=\"monolithicSparse\"\n\n# Extent description\nRW 2048 SPARSE \"disk.vmdk\"\n\n\
        # The Disk Data Base\nddb.adapterType = \"ide\"\n";

    #[test]
    fn one_extent_in_this_file() {
        assert_eq!(check_descriptor(GOOD), Ok(()));
        assert_eq!(check_descriptor(&GOOD.replace("monolithicSparse", "streamOptimized")), Ok(()));
    }

    #[test]
    fn whatever_leads_elsewhere_is_refused() {
        let bad = [
            ("monolithicSparse", "monolithicFlat"),
            ("monolithicSparse", "twoGbMaxExtentSparse"),
            ("RW 2048 SPARSE \"disk.vmdk\"", "RW 2048 FLAT \"/etc/shadow\" 0"),
            ("\"disk.vmdk\"", "\"/etc/shadow\""),
            ("\"disk.vmdk\"", "\"../shadow\""),
            ("RW 2048 SPARSE \"disk.vmdk\"", ""),
            ("# Extent description", "RW 2048 SPARSE \"other.vmdk\""),
            ("# Extent description", "RW 2048 ZERO"),
            ("parentCID=ffffffff", "parentCID=12345678"),
            ("CID=1234abcd", "parentFileNameHint=\"base.vmdk\""),
            ("createType=\"monolithicSparse\"", ""),
        ];
        for (from, to) in bad {
            assert!(check_descriptor(&GOOD.replace(from, to)).is_err(), "{to}");
        }
    }
}
