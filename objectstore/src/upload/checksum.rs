//! What an upload's parts add up to: the ETag and the checksum of the object that they make.

use super::Record;
use super::complete::Whole;
use crate::ObjectError;
use crate::digest::{Algorithm, Running};
use crate::meta::{Checksum, Part};
use crate::object::Body;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};

/// Kept in the place of an upload's checksum: the object's is to be over its content, not over its parts' sums.
pub(super) const FULL_OBJECT: &str = "FULL_OBJECT";

impl Record {
    /// The checksum of an object that is made of these parts. Where the client named none when it began, parts that
    /// came without one have CRC64NVME, and so has the object if all did.
    pub(super) fn checksum(&self, parts: &[Part]) -> Option<Checksum> {
        let Some(wanted) = self.meta.checksum.as_ref() else {
            return full_checksum(Algorithm::Crc64Nvme, parts);
        };
        let algorithm = Algorithm::of(&wanted.algorithm)?;
        match wanted.value == FULL_OBJECT {
            true => full_checksum(algorithm, parts),
            false => checksum_of(algorithm, parts),
        }
    }
}

impl Whole {
    /// `wanted` is the checksum that the client named when it began.
    pub(super) fn check(
        &self,
        parts: &[Part],
        sum: Option<&Checksum>,
        wanted: Option<&Checksum>,
    ) -> Result<(), ObjectError> {
        let size: u64 = parts.iter().map(|p| p.size).sum();
        if self.size.is_some_and(|said| said != size) {
            return Err(ObjectError::OtherChecksum(
                "The provided 'x-amz-mp-object-size' header does not match what was computed.".into(),
            ));
        }
        if self.full.is_some_and(|said| said == wanted.is_some_and(is_composite)) {
            return Err(ObjectError::ChecksumMismatch("checksum type"));
        }
        let Some(said) = &self.checksum else { return Ok(()) };
        let known = Algorithm::of(&said.algorithm).map_or("checksum", Algorithm::name);
        match sum.filter(|sum| sum.algorithm == said.algorithm) {
            Some(sum) if !is_of(&said.value, &sum.value) => Err(ObjectError::ChecksumMismatch(known)),
            None if wanted.is_some() => {
                Err(mismatch(sum.map_or("null", |sum| sum.algorithm.as_str()), &said.algorithm))
            }
            // What nobody asked for when the upload began, nobody has: S3 takes no notice of it.
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether what is said of a sum is so. It need not say how many parts the sum is over.
fn is_of(said: &str, sum: &str) -> bool {
    said == sum || sum.rsplit_once('-').is_some_and(|(sum, _)| sum == said)
}

/// Whether an upload is to have a sum over the sums of its parts.
fn is_composite(wanted: &Checksum) -> bool {
    wanted.value != FULL_OBJECT
}

/// Compares a part with what the client says of its checksum as it completes the upload. Where the object's is to be
/// over those of its parts, all must be said.
pub(super) fn check_part(
    part: &Part,
    said: Option<&Checksum>,
    wanted: Option<&Checksum>,
) -> Result<(), ObjectError> {
    let other = |said: &Checksum| wanted.is_some_and(|wanted| wanted.algorithm != said.algorithm);
    match (said, wanted) {
        (Some(said), _) if other(said) => Err(ObjectError::ChecksumMismatch(
            Algorithm::of(&said.algorithm).map_or("checksum", Algorithm::name),
        )),
        (Some(said), _) if part.checksum.as_ref() != Some(said) => Err(ObjectError::InvalidPart(part.number)),
        (None, Some(wanted)) if is_composite(wanted) => Err(ObjectError::OtherChecksum(format!(
            "The upload was created using a {} checksum. The complete request must include the checksum for each \
             part. It was missing for part {} in the request.",
            wanted.algorithm.to_ascii_lowercase(),
            part.number
        ))),
        _ => Ok(()),
    }
}

fn mismatch(expected: &str, actual: &str) -> ObjectError {
    let (expected, actual) = (expected.to_ascii_lowercase(), actual.to_ascii_lowercase());
    ObjectError::OtherChecksum(format!(
        "Checksum Type mismatch occurred, expected checksum Type: {expected}, actual checksum Type: {actual}"
    ))
}

/// A part has the checksum of its upload, and the client may not send another; where the object's is to be over those of
/// its parts, it must send one. Where the upload has none, the part has the client's, or CRC64NVME.
pub(super) fn expect_algorithm(body: &mut Body, upload: Option<&Checksum>) -> Result<(), ObjectError> {
    let known = upload.and_then(|c| Some((c, Algorithm::of(&c.algorithm)?)));
    let Some((upload, algorithm)) = known else {
        body.expect.algorithm.get_or_insert(Algorithm::Crc64Nvme);
        return Ok(());
    };
    match body.expect.algorithm {
        None if is_composite(upload) => Err(mismatch(algorithm.name(), "null")),
        Some(given) if given != algorithm => Err(mismatch(algorithm.name(), given.name())),
        _ => {
            body.expect.algorithm = Some(algorithm);
            Ok(())
        }
    }
}

/// The MD5 of the parts' MD5s, and how many there are.
pub(super) fn etag_of<'a>(parts: impl ExactSizeIterator<Item = &'a str>) -> Result<String, ObjectError> {
    let (mut md5, number) = (Md5::new(), parts.len());
    for etag in parts {
        md5.update(hex::decode(etag).map_err(|_| ObjectError::Damaged("a part's ETag"))?);
    }
    Ok(format!("{}-{number}", hex::encode(md5.finalize())))
}

/// The sum over the parts' sums, as S3 forms it for checksums of type COMPOSITE.
fn checksum_of(algorithm: Algorithm, parts: &[Part]) -> Option<Checksum> {
    let mut sum = Running::new(algorithm);
    for part in parts {
        let of_part = part.checksum.as_ref().filter(|c| c.algorithm == algorithm.name())?;
        sum.update(&BASE64_STANDARD.decode(&of_part.value).ok()?);
    }
    let value = format!("{}-{}", BASE64_STANDARD.encode(sum.finish()), parts.len());
    Some(Checksum { algorithm: algorithm.name().to_owned(), value })
}

/// The sum over the whole content, joined from those over the parts: what CRCs can do.
fn full_checksum(algorithm: Algorithm, parts: &[Part]) -> Option<Checksum> {
    let mut joined: Option<u64> = None;
    for part in parts {
        let of_part = part.checksum.as_ref().filter(|c| c.algorithm == algorithm.name())?;
        let bytes = BASE64_STANDARD.decode(&of_part.value).ok()?;
        let sum = bytes.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
        joined = Some(match joined {
            None => sum,
            Some(before) => algorithm.join(before, sum, part.size)?,
        });
    }
    let bytes = joined?.to_be_bytes();
    let value = BASE64_STANDARD.encode(&bytes[8 - algorithm.width()..]);
    Some(Checksum { algorithm: algorithm.name().to_owned(), value })
}
