//! The forms in which passwords are stored: those of Keystone, which are passlib's, so that users may be brought
//! along from there.
//!
//! bcrypt sees 72 bytes. What we hash ourselves is never cut: a longer password gets the form `bcrypt_sha256`, which
//! hashes it to fewer first. A hash that comes from Keystone was made of the first 72 bytes and is checked so.

use crate::IdentityError;
use base64::Engine;
use base64::alphabet::BCRYPT;
use base64::engine::general_purpose::{NO_PAD, STANDARD, STANDARD_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bcrypt::Version;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

const BCRYPT_SEES: usize = 72;
const BCRYPT_SHA256: &str = "$bcrypt-sha256$";
const SCRYPT: &str = "$scrypt$";
const PBKDF2: &str = "$pbkdf2-sha512$";
/// Marks a bcrypt hash of the password's SHA-256 in hexadecimal: what earlier versions made of long passwords.
const LONG: &str = "long$";
const SALT_LEN: usize = 16;

const BCRYPT64: GeneralPurpose = GeneralPurpose::new(&BCRYPT, NO_PAD);
/// passlib's salts and digests come without padding, and may have bits beyond their end.
const LOOSE: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// How new passwords are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PasswordAlgorithm {
    Bcrypt,
    BcryptSha256,
    Scrypt,
    Pbkdf2Sha512,
}

/// An algorithm with its parameters, known to be good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scheme {
    algorithm: PasswordAlgorithm,
    /// bcrypt: 2^rounds; scrypt: N = 2^rounds; pbkdf2: rounds.
    rounds: u32,
    block_size: u32,
    parallelism: u32,
}

fn failed(e: impl std::error::Error + Send + Sync + 'static) -> IdentityError {
    IdentityError::Hash(Box::new(e))
}

impl Scheme {
    /// 0 rounds are the algorithm's default, which is Keystone's.
    pub(crate) fn new(
        algorithm: PasswordAlgorithm,
        rounds: u32,
        block_size: u32,
        parallelism: u32,
    ) -> Result<Self, IdentityError> {
        use PasswordAlgorithm::*;
        let (default, least, most) = match algorithm {
            Bcrypt | BcryptSha256 => (12, 4, 31),
            Scrypt => (16, 1, 24),
            Pbkdf2Sha512 => (25_000, 1, 10_000_000),
        };
        let rounds = if rounds == 0 { default } else { rounds };
        if !(least..=most).contains(&rounds) {
            return Err(IdentityError::Config(format!(
                "password_hash_rounds must be from {least} to {most} for this algorithm"
            )));
        }
        let scheme = Scheme { algorithm, rounds, block_size, parallelism };
        if algorithm == Scrypt {
            let params = u8::try_from(rounds).ok().map(|n| scrypt::Params::new(n, block_size, parallelism));
            if params.is_none_or(|p| p.is_err()) {
                return Err(IdentityError::Config(
                    "scrypt_block_size and scrypt_parallelism are not possible together".into(),
                ));
            }
        }
        Ok(scheme)
    }

    pub(crate) fn hash(&self, password: &str) -> Result<String, IdentityError> {
        let salt: [u8; SALT_LEN] = rand::random();
        let bytes = password.as_bytes();
        match self.algorithm {
            PasswordAlgorithm::Bcrypt if bytes.len() <= BCRYPT_SEES => {
                let parts = bcrypt::hash_with_salt(bytes, self.rounds, salt).map_err(failed)?;
                Ok(parts.format_for_version(Version::TwoB))
            }
            PasswordAlgorithm::Bcrypt | PasswordAlgorithm::BcryptSha256 => {
                let text = BCRYPT64.encode(salt);
                let short = keyed(text.as_bytes(), bytes);
                let parts = bcrypt::hash_with_salt(short, self.rounds, salt).map_err(failed)?;
                let whole = parts.format_for_version(Version::TwoB);
                let digest = whole.get(29..).unwrap_or_default();
                Ok(format!("{BCRYPT_SHA256}v=2,t=2b,r={}${text}${digest}", self.rounds))
            }
            PasswordAlgorithm::Scrypt => {
                let digest = self.scrypt(bytes, &salt)?;
                let (salt, digest) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(digest));
                Ok(format!("{SCRYPT}{}${salt}${digest}", self.scrypt_params()))
            }
            PasswordAlgorithm::Pbkdf2Sha512 => {
                let digest = pbkdf2_sha512(bytes, &salt, self.rounds);
                Ok(format!("{PBKDF2}{}${}${}", self.rounds, ab64(&salt), ab64(&digest)))
            }
        }
    }

    fn scrypt_params(&self) -> String {
        format!("ln={},r={},p={}", self.rounds, self.block_size, self.parallelism)
    }

    fn scrypt(&self, password: &[u8], salt: &[u8]) -> Result<[u8; 32], IdentityError> {
        let n = u8::try_from(self.rounds).map_err(failed)?;
        let params = scrypt::Params::new(n, self.block_size, self.parallelism).map_err(failed)?;
        let mut digest = [0; 32];
        scrypt::scrypt(password, salt, &params, &mut digest).map_err(failed)?;
        Ok(digest)
    }

    /// A hash of nothing that anybody knows. To check a password against it costs what any other check costs.
    pub(crate) fn nobody(&self) -> String {
        let salt: [u8; SALT_LEN] = rand::random();
        let digest: [u8; 64] = rand::random();
        let bcrypt = || (BCRYPT64.encode(salt), BCRYPT64.encode(&digest[..23]));
        match self.algorithm {
            PasswordAlgorithm::Bcrypt => {
                let (salt, digest) = bcrypt();
                format!("$2b${:02}${salt}{digest}", self.rounds)
            }
            PasswordAlgorithm::BcryptSha256 => {
                let (salt, digest) = bcrypt();
                format!("{BCRYPT_SHA256}v=2,t=2b,r={}${salt}${digest}", self.rounds)
            }
            PasswordAlgorithm::Scrypt => {
                let (salt, digest) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(&digest[..32]));
                format!("{SCRYPT}{}${salt}${digest}", self.scrypt_params())
            }
            PasswordAlgorithm::Pbkdf2Sha512 => {
                format!("{PBKDF2}{}${}${}", self.rounds, ab64(&salt), ab64(&digest))
            }
        }
    }

    /// As upstream: a PBKDF2 hash of fewer rounds than are set now is made anew when its user logs in.
    pub(crate) fn outgrew(&self, stored: &str) -> bool {
        let rounds = stored.strip_prefix(PBKDF2).and_then(|r| r.split('$').next()?.parse::<u32>().ok());
        self.algorithm == PasswordAlgorithm::Pbkdf2Sha512 && rounds.is_some_and(|r| r < self.rounds)
    }
}

/// Whether the password is the one in `stored`. A form that nobody knows holds no password.
pub(crate) fn verify(password: &str, stored: &str) -> Result<bool, IdentityError> {
    if stored.starts_with("$2") {
        return bcrypt::verify(password.as_bytes(), stored).map_err(failed);
    }
    if let Some(rest) = stored.strip_prefix(LONG) {
        return bcrypt::verify(hex::encode(Sha256::digest(password.as_bytes())), rest).map_err(failed);
    }
    let same = if let Some(rest) = stored.strip_prefix(BCRYPT_SHA256) {
        bcrypt_sha256(password, rest)?
    } else if let Some(rest) = stored.strip_prefix(SCRYPT) {
        scrypt_is(password, rest)?
    } else if let Some(rest) = stored.strip_prefix(PBKDF2) {
        pbkdf2_is(password, rest)
    } else {
        None
    };
    if same.is_none() {
        tracing::warn!("a stored password hash is of no known form: it matches no password");
    }
    Ok(same.unwrap_or(false))
}

/// `v=2,t=2b,r=12$salt$digest`, or the first version's `2b,12$salt$digest`.
fn bcrypt_sha256(password: &str, stored: &str) -> Result<Option<bool>, IdentityError> {
    let mut parts = stored.split('$');
    let (Some(params), Some(salt), Some(digest), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Ok(None);
    };
    let named = |name: &str| params.split(',').find_map(|p| p.strip_prefix(name)?.strip_prefix('='));
    let (kind, rounds, short) = match (named("v"), params.split_once(',')) {
        (Some("2"), _) => (named("t"), named("r"), keyed(salt.as_bytes(), password.as_bytes())),
        (None, Some((kind, rounds))) => {
            (Some(kind), Some(rounds), STANDARD.encode(Sha256::digest(password.as_bytes())))
        }
        _ => return Ok(None),
    };
    let (Some(kind), Some(rounds)) = (kind, rounds.and_then(|r| r.parse::<u32>().ok())) else {
        return Ok(None);
    };
    bcrypt::verify(short, &format!("${kind}${rounds:02}${salt}{digest}")).map(Some).map_err(failed)
}

fn keyed(salt: &[u8], password: &[u8]) -> String {
    // An HMAC takes keys of any length.
    let mac = Hmac::<Sha256>::new_from_slice(salt).map(|m| m.chain_update(password).finalize().into_bytes());
    STANDARD.encode(mac.unwrap_or_default())
}

/// `ln=16,r=8,p=1$salt$digest`
fn scrypt_is(password: &str, stored: &str) -> Result<Option<bool>, IdentityError> {
    let mut parts = stored.split('$');
    let (Some(params), Some(salt), Some(digest)) = (
        parts.next(),
        parts.next().and_then(unbase64),
        parts.next().and_then(unbase64).filter(|d| d.len() == 32),
    ) else {
        return Ok(None);
    };
    let named = |name: &str| {
        params.split(',').find_map(|p| p.strip_prefix(name)?.strip_prefix('=')?.parse::<u32>().ok())
    };
    let (Some(rounds), Some(block_size), Some(parallelism)) = (named("ln"), named("r"), named("p")) else {
        return Ok(None);
    };
    let scheme = Scheme { algorithm: PasswordAlgorithm::Scrypt, rounds, block_size, parallelism };
    Ok(Some(scheme.scrypt(password.as_bytes(), &salt)?.ct_eq(&digest).into()))
}

/// `25000$salt$digest`
fn pbkdf2_is(password: &str, stored: &str) -> Option<bool> {
    let mut parts = stored.split('$');
    let rounds = parts.next()?.parse().ok()?;
    let (salt, digest) = (unbase64(parts.next()?)?, unbase64(parts.next()?)?);
    Some(pbkdf2_sha512(password.as_bytes(), &salt, rounds).ct_eq(&digest).into())
}

fn pbkdf2_sha512(password: &[u8], salt: &[u8], rounds: u32) -> [u8; 64] {
    pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password, salt, rounds)
}

/// passlib's base64: `.` for `+`, without padding.
fn ab64(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes).replace('+', ".")
}

/// Either alphabet: Keystone writes `+` where passlib writes `.`.
fn unbase64(text: &str) -> Option<Vec<u8>> {
    LOOSE.decode(text.replace('.', "+")).ok()
}
