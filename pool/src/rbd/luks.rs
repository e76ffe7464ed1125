//! What a LUKS header says to who does not unlock it.

use super::Image;
use crate::error::Error;

/// With the version, 1.
const MAGIC: &[u8] = b"LUKS\xba\xbe\0\x01";
/// Where the number of the sector stands at which content begins (LUKS1 on-disk format, 2.1).
const PAYLOAD: usize = 104;
const SECTOR: u64 = 512;

impl Image {
    /// Where content begins in a LUKS1 image, in bytes, through a handle that is not unlocked. `Invalid` for any other.
    pub async fn luks_payload(&self) -> Result<u64, Error> {
        let head = self.read_at(0, PAYLOAD + 4).await?;
        payload(&head).ok_or_else(|| Error::Invalid { what: self.path("read the LUKS header of") })
    }
}

fn payload(head: &[u8]) -> Option<u64> {
    head.strip_prefix(MAGIC)?;
    let sectors = head.get(PAYLOAD..PAYLOAD + 4)?.iter().fold(0, |n, b| n << 8 | u64::from(*b));
    (sectors > 0).then_some(sectors * SECTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_luks1_header_says_where_content_begins() {
        let mut head = [MAGIC, &[0; 100]].concat();
        assert_eq!(payload(&head), None, "nowhere");
        head[PAYLOAD + 2] = 0x20;
        assert_eq!(payload(&head), Some(4 << 20));
        assert_eq!(payload(&head[..PAYLOAD + 3]), None);
        head[7] = 2;
        assert_eq!(payload(&head), None);
        assert_eq!(payload(b""), None);
    }
}
