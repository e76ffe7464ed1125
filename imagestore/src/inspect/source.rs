//! Where an inspected file's bytes come from.

use super::Refusal;
use super::bytes::inside;
use crate::ImageError;
use async_trait::async_trait;
use bytes::Bytes;

/// A file of known length.
#[async_trait]
pub(crate) trait Source: Send + Sync {
    /// Bytes.
    fn size(&self) -> u64;
    /// `len` bytes at `off`, fewer where the file ends.
    async fn read(&self, off: u64, len: usize) -> Result<Bytes, ImageError>;
}

/// A file in memory.
pub(crate) struct Slice<'a>(pub(crate) &'a [u8]);

#[async_trait]
impl Source for Slice<'_> {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    async fn read(&self, off: u64, len: usize) -> Result<Bytes, ImageError> {
        let start = usize::try_from(off).unwrap_or(usize::MAX).min(self.0.len());
        let end = start.saturating_add(len).min(self.0.len());
        Ok(Bytes::copy_from_slice(&self.0[start..end]))
    }
}

const PAGE: u64 = 64 << 10;
/// Pages kept: tables are read from front to back, so few do.
const PAGES: usize = 32;

/// Reads the tables of a format through a small cache. Memory is bounded whatever the file says.
pub(crate) struct Tables<'a> {
    source: &'a dyn Source,
    pages: Vec<(u64, Bytes)>,
}

impl<'a> Tables<'a> {
    pub(crate) fn new(source: &'a dyn Source) -> Self {
        Tables { source, pages: Vec::new() }
    }

    /// Exactly `len` bytes at `off` (at most a page), or the refusal that `what` is truncated.
    pub(crate) async fn read(
        &mut self,
        off: u64,
        len: usize,
        what: &'static str,
    ) -> Result<Bytes, ImageError> {
        inside(off, len as u64, self.source.size(), what)?;
        let start = usize::try_from(off % PAGE).unwrap_or_default();
        if start + len > usize::try_from(PAGE).unwrap_or_default() {
            let data = self.source.read(off, len).await?;
            return if data.len() == len { Ok(data) } else { Err(Refusal::Truncated(what).into()) };
        }
        let number = off / PAGE;
        let page = match self.pages.iter().position(|(n, _)| *n == number) {
            Some(0) => self.pages[0].1.clone(),
            Some(i) => {
                self.pages[..=i].rotate_right(1);
                self.pages[0].1.clone()
            }
            None => {
                let page = self.source.read(number * PAGE, usize::try_from(PAGE).unwrap_or_default()).await?;
                self.pages.truncate(PAGES - 1);
                self.pages.insert(0, (number, page.clone()));
                page
            }
        };
        if page.len() < start + len {
            return Err(Refusal::Truncated(what).into());
        }
        Ok(page.slice(start..start + len))
    }

    pub(crate) async fn be64(&mut self, off: u64, what: &'static str) -> Result<u64, ImageError> {
        let b = self.read(off, 8, what).await?;
        Ok(u64::from_be_bytes(b.as_ref().try_into().unwrap_or_default()))
    }

    pub(crate) async fn le64(&mut self, off: u64, what: &'static str) -> Result<u64, ImageError> {
        Ok(self.be64(off, what).await?.swap_bytes())
    }

    pub(crate) async fn be32(&mut self, off: u64, what: &'static str) -> Result<u32, ImageError> {
        let b = self.read(off, 4, what).await?;
        Ok(u32::from_be_bytes(b.as_ref().try_into().unwrap_or_default()))
    }

    pub(crate) async fn le32(&mut self, off: u64, what: &'static str) -> Result<u32, ImageError> {
        Ok(self.be32(off, what).await?.swap_bytes())
    }
}
