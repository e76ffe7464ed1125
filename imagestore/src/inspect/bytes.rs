//! Numbers out of a slice that may be too short.

use super::Refusal;

/// A header's bytes; every access is checked.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) bytes: &'a [u8],
    /// What is truncated when a field is missing.
    pub(super) what: &'static str,
}

macro_rules! number {
    ($($name:ident $type:ty, $from:ident;)*) => {$(
        pub(super) fn $name(&self, off: usize) -> Result<$type, Refusal> {
            let end = off.checked_add(size_of::<$type>()).ok_or(Refusal::Truncated(self.what))?;
            let bytes = self.bytes.get(off..end).ok_or(Refusal::Truncated(self.what))?;
            let bytes = bytes.try_into().map_err(|_| Refusal::Truncated(self.what))?;
            Ok(<$type>::$from(bytes))
        }
    )*};
}

impl Fields<'_> {
    number! {
        be32 u32, from_be_bytes;
        be64 u64, from_be_bytes;
        le16 u16, from_le_bytes;
        le32 u32, from_le_bytes;
        le64 u64, from_le_bytes;
    }

    pub(super) fn slice(&self, off: usize, len: usize) -> Result<&[u8], Refusal> {
        let end = off.checked_add(len).ok_or(Refusal::Truncated(self.what))?;
        self.bytes.get(off..end).ok_or(Refusal::Truncated(self.what))
    }
}

/// Whether `len` bytes at `off` are inside of a file of `size` bytes.
pub(super) fn inside(off: u64, len: u64, size: u64, what: &'static str) -> Result<(), Refusal> {
    match off.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(Refusal::Truncated(what)),
    }
}
