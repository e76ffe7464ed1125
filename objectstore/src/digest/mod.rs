//! The sums taken over a body while it streams: MD5 for the ETag, and what the client asked for beside it.
//!
//! Sums are taken frame by frame as frames arrive (tens of KiB, tens of microseconds each), so that no task
//! holds a runtime thread for long and no body is read twice; but for the MD5 of large bodies, where there are others
//! ([`together`]).

mod lanes;
mod together;

use crate::ObjectError;
use crate::meta::Checksum;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;
use together::Md5Sum;
pub(crate) use together::{Body, Together};

/// A checksum algorithm that S3's clients may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    pub const ALL: [Algorithm; 5] =
        [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme, Algorithm::Sha1, Algorithm::Sha256];

    /// As S3 writes it in XML and in `x-amz-checksum-algorithm`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "CRC32",
            Algorithm::Crc32c => "CRC32C",
            Algorithm::Crc64Nvme => "CRC64NVME",
            Algorithm::Sha1 => "SHA1",
            Algorithm::Sha256 => "SHA256",
        }
    }

    /// `x-amz-checksum-crc32` and so on.
    pub fn header(self) -> &'static str {
        match self {
            Algorithm::Crc32 => "x-amz-checksum-crc32",
            Algorithm::Crc32c => "x-amz-checksum-crc32c",
            Algorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Algorithm::Sha1 => "x-amz-checksum-sha1",
            Algorithm::Sha256 => "x-amz-checksum-sha256",
        }
    }

    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name().eq_ignore_ascii_case(name))
    }

    pub fn of_header(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.header().eq_ignore_ascii_case(name))
    }

    /// Bytes of a sum.
    pub fn width(self) -> usize {
        match self {
            Algorithm::Crc32 | Algorithm::Crc32c => 4,
            Algorithm::Crc64Nvme => 8,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 => 32,
        }
    }

    /// The CRC of two pieces one behind the other, from the CRC of each and the second's length. `None` for what is
    /// no CRC.
    ///
    /// A CRC is a remainder of polynomials: that of the first piece is multiplied by x to the power of the second's
    /// bits, and the second's is added. Bits are reflected in all three.
    pub fn join(self, first: u64, second: u64, second_len: u64) -> Option<u64> {
        let (poly, width) = match self {
            Algorithm::Crc32 => (0xedb8_8320, 32),
            Algorithm::Crc32c => (0x82f6_3b78, 32),
            Algorithm::Crc64Nvme => (0x9a6c_9329_ac4b_c9b5, 64),
            Algorithm::Sha1 | Algorithm::Sha256 => return None,
        };
        let top = 1u64 << (width - 1);
        let times = |a: u64, mut b: u64| {
            let (mut product, mut bit) = (0, top);
            while bit != 0 {
                if a & bit != 0 {
                    product ^= b;
                }
                b = if b & 1 != 0 { (b >> 1) ^ poly } else { b >> 1 };
                bit >>= 1;
            }
            product
        };
        // x^8, squared again and again, times what the length's bits ask for.
        let (mut power, mut shift, mut n) = (top >> 8, top, second_len);
        while n > 0 {
            if n & 1 == 1 {
                shift = times(shift, power);
            }
            power = times(power, power);
            n >>= 1;
        }
        Some(times(shift, first) ^ second)
    }

    /// Whether `value` is the base64 of a sum of this algorithm.
    pub fn is_sum(self, value: &str) -> bool {
        BASE64_STANDARD.decode(value).is_ok_and(|v| v.len() == self.width())
    }
}

/// Which checksum an object has: of what algorithm, and whether it is over the sums of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SumKind {
    pub algorithm: Algorithm,
    pub composite: bool,
}

impl SumKind {
    pub(crate) fn of(sum: &Checksum) -> Option<Self> {
        Some(SumKind { algorithm: Algorithm::of(&sum.algorithm)?, composite: sum.is_composite() })
    }

    /// As S3 writes it in XML and in `x-amz-checksum-type`.
    pub fn name(self) -> &'static str {
        if self.composite { "COMPOSITE" } else { "FULL_OBJECT" }
    }

    /// As it is stored, above zero: by the place in [`Algorithm::ALL`], which may only grow at its end.
    pub(crate) fn number(self) -> u64 {
        let place = Algorithm::ALL.iter().position(|a| *a == self.algorithm).unwrap_or(0);
        2 * (place as u64 + 1) + u64::from(self.composite)
    }

    pub(crate) fn of_number(n: u64) -> Option<Self> {
        let place = usize::try_from(n / 2).ok()?.checked_sub(1)?;
        Some(SumKind { algorithm: *Algorithm::ALL.get(place)?, composite: n % 2 == 1 })
    }
}

/// One running checksum.
pub(crate) struct Running(State);

enum State {
    Crc32(crc32fast::Hasher),
    Crc32c(u32),
    Crc64(crc64fast_nvme::Digest),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Running {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        Running(match algorithm {
            Algorithm::Crc32 => State::Crc32(crc32fast::Hasher::new()),
            Algorithm::Crc32c => State::Crc32c(0),
            Algorithm::Crc64Nvme => State::Crc64(crc64fast_nvme::Digest::new()),
            Algorithm::Sha1 => State::Sha1(Sha1::new()),
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
        })
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        match &mut self.0 {
            State::Crc32(h) => h.update(data),
            State::Crc32c(h) => *h = crc32c::crc32c_append(*h, data),
            State::Crc64(h) => h.write(data),
            State::Sha1(h) => h.update(data),
            State::Sha256(h) => h.update(data),
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        match self.0 {
            State::Crc32(h) => h.finalize().to_be_bytes().to_vec(),
            State::Crc32c(h) => h.to_be_bytes().to_vec(),
            State::Crc64(h) => h.sum64().to_be_bytes().to_vec(),
            State::Sha1(h) => h.finalize().to_vec(),
            State::Sha256(h) => h.finalize().to_vec(),
        }
    }
}

/// All the sums over one body.
pub(crate) struct Sums {
    md5: Md5Sum,
    extra: Option<(Algorithm, Running)>,
}

/// What [`Sums`] came to.
pub(crate) struct Summed {
    /// MD5, in hexadecimal.
    pub(crate) etag: String,
    pub(crate) checksum: Option<Checksum>,
}

impl Sums {
    pub(crate) fn new(extra: Option<Algorithm>) -> Self {
        Sums { md5: Md5Sum::default(), extra: extra.map(|a| (a, Running::new(a))) }
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        self.md5.update(data);
        self.update_extra(data);
    }

    /// All but the MD5, which is to follow: [`Sums::update_md5`].
    pub(crate) fn update_extra(&mut self, data: &[u8]) {
        if let Some((_, sum)) = &mut self.extra {
            sum.update(data);
        }
    }

    /// The MD5 alone, made side by side with that of others.
    pub(crate) async fn update_md5(&mut self, together: &Together, data: &Bytes) -> Result<(), ObjectError> {
        self.md5.update_with(together, data).await
    }

    pub(crate) fn finish(self) -> Summed {
        Summed {
            etag: hex::encode(self.md5.finish()),
            checksum: self.extra.map(|(a, sum)| Checksum {
                algorithm: a.name().to_owned(),
                value: BASE64_STANDARD.encode(sum.finish()),
            }),
        }
    }
}

/// MD5 in hexadecimal.
pub fn md5_hex(data: &[u8]) -> String {
    hex::encode(Md5::digest(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_numbers() {
        let all = Algorithm::ALL
            .into_iter()
            .flat_map(|algorithm| [false, true].map(|composite| SumKind { algorithm, composite }));
        for (kind, number) in all.zip(2..) {
            assert_eq!((kind.number(), SumKind::of_number(number)), (number, Some(kind)));
        }
        assert_eq!([0, 1, 12, u64::MAX].map(SumKind::of_number), [None; 4]);
    }

    #[test]
    fn sums_of_the_check_string() {
        let want = [
            (Algorithm::Crc32, "cbf43926"),
            (Algorithm::Crc32c, "e3069283"),
            (Algorithm::Crc64Nvme, "ae8b14860a799888"),
            (Algorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (Algorithm::Sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        ];
        for (algorithm, sum) in want {
            let mut r = Running::new(algorithm);
            r.update(b"1234");
            r.update(b"56789");
            let got = r.finish();
            assert_eq!(hex::encode(&got), sum, "{algorithm:?}");
            assert_eq!(got.len(), algorithm.width());
            assert_eq!(Algorithm::of(algorithm.name()), Some(algorithm));
            assert_eq!(Algorithm::of_header(algorithm.header()), Some(algorithm));
        }
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
            let sum = |data: &[u8]| {
                let mut r = Running::new(algorithm);
                r.update(data);
                r.finish().iter().fold(0u64, |n, b| n << 8 | u64::from(*b))
            };
            let joined = algorithm.join(sum(b"1234"), sum(b"56789"), 5);
            assert_eq!(joined, Some(sum(b"123456789")), "{algorithm:?}");
            let empty = algorithm.join(sum(b"1234"), sum(b""), 0);
            assert_eq!(empty, Some(sum(b"1234")));
        }
        assert_eq!(md5_hex(b""), "d41d8cd98f00b204e9800998ecf8427e");
    }
}
