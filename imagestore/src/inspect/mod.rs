//! Looks into an untrusted image before anything else does: what it is, how large the disk inside is, where the
//! disk's bytes are in the file. Whatever refers outside of the file is refused, and so is what this code does
//! not know for certain.
//!
//! Every read is bounded and checked against the file's length; nothing is believed that the file says of itself.
//! The parsers take bytes from a [`Source`], so that they run on a slice in a test or a fuzzer and on an RBD
//! image in service. [`inspect_bytes`] is the entry for both fuzzers and properties.

mod bytes;
mod gpt;
pub(crate) mod qcow2;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod samples;
mod source;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

#[cfg(test)]
mod tests;

pub(crate) use source::{Slice, Source, Tables};

use crate::ImageError;

/// What a file is, as far as its content tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Bytes of a disk, or of anything that has no format of its own.
    Raw,
    Qcow2,
    Vmdk,
    Vdi,
    Vhd,
    Vhdx,
    Iso,
    /// Bytes of a disk that begins with a partition table of this kind.
    Gpt,
    /// A format that is recognised and never taken.
    Foreign(&'static str),
}

impl Format {
    /// The name of OpenStack's `disk_format`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
            Format::Vmdk => "vmdk",
            Format::Vdi => "vdi",
            Format::Vhd => "vhd",
            Format::Vhdx => "vhdx",
            Format::Iso => "iso",
            Format::Gpt => "gpt",
            Format::Foreign(name) => name,
        }
    }

    /// What a `disk_format` promises of the content.
    pub fn declared(disk_format: &str) -> Format {
        match disk_format {
            "qcow2" => Format::Qcow2,
            "vmdk" => Format::Vmdk,
            "vdi" => Format::Vdi,
            "vhd" => Format::Vhd,
            "vhdx" => Format::Vhdx,
            "iso" => Format::Iso,
            "gpt" => Format::Gpt,
            _ => Format::Raw,
        }
    }

    /// Whether the disk inside is elsewhere than at the same offset of the file.
    pub fn is_converted(self) -> bool {
        !matches!(self, Format::Raw | Format::Iso | Format::Gpt)
    }
}

/// Why an image is not taken. The texts are the uploader's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("Image content does not match disk_format: it is {found}, not {declared}.")]
    Mismatch { declared: &'static str, found: &'static str },
    #[error("The image is truncated: its {0} lies beyond its end.")]
    Truncated(&'static str),
    #[error("The image refers to a backing file, which is not allowed.")]
    BackingFile,
    #[error("The image refers to an external data file, which is not allowed.")]
    DataFile,
    #[error("The image is encrypted, which is not supported.")]
    Encrypted,
    #[error("The image needs a feature that is not supported: {0}.")]
    Feature(String),
    #[error("The image is marked as corrupt or was not closed cleanly.")]
    Corrupt,
    #[error("The image's descriptor is not allowed: {0}.")]
    Descriptor(String),
    #[error("The image is malformed: {0}.")]
    Malformed(&'static str),
    #[error("The disk inside the image is too large: {size} bytes, at most {cap} are allowed.")]
    TooLarge { size: u64, cap: u64 },
    #[error("The image expands to too many times its own size.")]
    Bomb,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Inspection {
    pub format: Format,
    /// Bytes of the disk inside.
    pub virtual_size: u64,
    pub(crate) layout: Layout,
}

/// Where the disk's bytes are.
#[derive(Debug, Clone)]
pub(crate) enum Layout {
    /// At the same offset.
    Flat,
    Qcow2(qcow2::Layout),
    Vmdk(vmdk::Layout),
    Vdi(vdi::Layout),
    Vhd(vhd::Layout),
    Vhdx(vhdx::Layout),
}

/// What stands at a place of the disk, for `len` bytes from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) len: u64,
    pub(crate) what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Zero,
    /// The file's bytes from this offset.
    Data {
        at: u64,
    },
    /// What `packed` bytes at `at` expand to, without its first `skip` bytes. It expands to `whole` bytes at most.
    Packed {
        at: u64,
        packed: u32,
        skip: u32,
        whole: u32,
        codec: Codec,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// Deflate without a header (qcow2); what follows its end does not matter.
    Deflate,
    /// Deflate with zlib's header (VMDK).
    Zlib,
}

impl Layout {
    /// What stands at `at` of the disk. Pieces never reach beyond one block of the format, but zeroes may.
    pub(crate) async fn piece(&self, tables: &mut Tables<'_>, at: u64) -> Result<Piece, ImageError> {
        match self {
            Layout::Flat => Ok(Piece { len: u64::MAX - at, what: What::Data { at } }),
            Layout::Qcow2(l) => l.piece(tables, at).await,
            Layout::Vmdk(l) => l.piece(tables, at).await,
            Layout::Vdi(l) => l.piece(tables, at).await,
            Layout::Vhd(l) => l.piece(tables, at).await,
            Layout::Vhdx(l) => l.piece(tables, at).await,
        }
    }
}

/// How much of a file's beginning [`detect`] wants to see: the ISO descriptor is what lies deepest.
pub(crate) const HEAD: usize = 36 << 10;

/// What the beginning of a file says it is.
pub fn detect(head: &[u8]) -> Format {
    let at = |off: usize, magic: &[u8]| head.get(off..off + magic.len()) == Some(magic);
    let known: [(usize, &[u8], Format); 13] = [
        (0, b"QFI\xfb", Format::Qcow2),
        (0, b"QED\0", Format::Foreign("qed")),
        (0, b"KDMV", Format::Vmdk),
        (0, b"COWD", Format::Vmdk),
        (0, b"# Disk DescriptorFile", Format::Vmdk),
        (0x40, b"\x7f\x10\xda\xbe", Format::Vdi),
        (0, b"conectix", Format::Vhd),
        (0, b"vhdxfile", Format::Vhdx),
        (0, b"WithoutFreeSpace", Format::Foreign("parallels")),
        (0, b"WithouFreSpacExt", Format::Foreign("parallels")),
        (0x8001, b"CD001", Format::Iso),
        (0x8801, b"CD001", Format::Iso),
        (0x8001, b"BEA01", Format::Iso),
    ];
    known.iter().find(|(off, magic, _)| at(*off, magic)).map_or(Format::Raw, |(_, _, f)| *f)
}

/// Whether the beginning of a file can still become what was declared; called before the rest has come.
pub fn check_head(head: &[u8], declared: Format) -> Result<(), Refusal> {
    let found = detect(head);
    // A fixed VHD begins with the disk itself; its footer tells later. A raw disk may have any table of partitions.
    let fits = match declared {
        Format::Vhd => matches!(found, Format::Vhd | Format::Raw),
        Format::Gpt => found == Format::Raw && gpt::begins(head),
        _ => found == declared,
    };
    if fits {
        return Ok(());
    }
    Err(Refusal::Mismatch { declared: declared.name(), found: found.name() })
}

/// Inspects a whole file that was declared as `declared`. `cap` bounds the disk inside.
pub(crate) async fn inspect(
    source: &dyn Source,
    declared: Format,
    cap: u64,
) -> Result<Inspection, ImageError> {
    let head = source.read(0, HEAD).await?;
    check_head(&head, declared)?;
    let mut tables = Tables::new(source);
    let (virtual_size, layout) = match declared {
        Format::Raw | Format::Iso | Format::Foreign(_) => (source.size(), Layout::Flat),
        Format::Gpt => (gpt::open(&head, source.size())?, Layout::Flat),
        Format::Qcow2 => qcow2::open(&head, source.size())?,
        Format::Vmdk => vmdk::open(&mut tables, source.size()).await?,
        Format::Vdi => vdi::open(&head, source.size())?,
        Format::Vhd => vhd::open(&mut tables, source.size()).await?,
        Format::Vhdx => vhdx::open(&mut tables, source.size()).await?,
    };
    if virtual_size > cap {
        return Err(Refusal::TooLarge { size: virtual_size, cap }.into());
    }
    Ok(Inspection { format: declared, virtual_size, layout })
}

/// Inspects a file in memory and walks its whole map: for properties. At most `pieces` steps.
pub fn inspect_bytes(
    file: &[u8],
    declared: Format,
    cap: u64,
    pieces: usize,
) -> Result<Inspection, ImageError> {
    let source = Slice(file);
    futures::executor::block_on(async {
        let found = inspect(&source, declared, cap).await?;
        let mut tables = Tables::new(&source);
        let mut at = 0;
        for _ in 0..pieces {
            if at >= found.virtual_size {
                break;
            }
            let piece = found.layout.piece(&mut tables, at).await?;
            at = at.saturating_add(piece.len.max(1));
        }
        Ok(found)
    })
}
