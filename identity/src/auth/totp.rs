//! The method `totp`: a passcode of RFC 6238 (SHA-1, 30 seconds, six digits) by one of the user's credentials of
//! that type, whose blob is the secret in base32.

use super::Proof;
use super::methods::plain;
use super::request::PasswordPart;
use crate::store::record::Fields;
use crate::store::{CREDENTIAL, Cond, passwords};
use crate::token::Method;
use crate::{Identity, IdentityError};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use state::Timestamp;
use std::net::IpAddr;
use subtle::ConstantTimeEq;

const STEP_SECS: i64 = 30;
/// Six digits are guessed so much sooner than a password that a wrong passcode counts as so many wrong passwords.
const GUESS: u32 = 6;

const REFUSED: fn(&'static str) -> IdentityError = IdentityError::Unauthenticated;

impl Identity {
    pub(super) async fn by_totp(
        &self,
        from: Option<IpAddr>,
        part: &PasswordPart,
    ) -> Result<Proof, IdentityError> {
        self.limiter.admits(from)?;
        let (user, who) = self.named(&part.user).await?;
        // With its own count, so that a stolen password does not open a way to guess passcodes.
        let attempt = self.limiter.begin(from, &format!("passcode of {who}"), GUESS)?;
        let id = user.as_ref().map_or("", |u| u.id.as_str());
        attempt.settle(self.check_passcode(id, &part.user.passcode).await)?;
        let user = user.filter(|u| u.enabled).ok_or(REFUSED("the user or its domain is disabled"))?;
        Ok(plain(user.id, Method::Totp))
    }

    async fn check_passcode(&self, user: &str, passcode: &str) -> Result<(), IdentityError> {
        let conds = [Cond::eq("user_id", user), Cond::eq("type", "totp")];
        let step = Timestamp::now().secs().div_euclid(STEP_SECS);
        let oldest = step - i64::from(self.config.totp_previous_windows);
        for c in CREDENTIAL.find(self.db.read(), &conds, 0).await? {
            let c = self.open(c)?;
            let Some(secret) = base32(c.text("blob")) else {
                tracing::debug!(credential = c.text("id"), "the secret is not base32");
                continue;
            };
            for step in oldest..=step {
                if bool::from(code(&secret, step).as_bytes().ct_eq(passcode.as_bytes())) {
                    return self.spend_passcode(c.text("id"), step, oldest).await;
                }
            }
        }
        Err(REFUSED("wrong user or passcode"))
    }

    async fn spend_passcode(&self, credential: &str, step: i64, oldest: i64) -> Result<(), IdentityError> {
        if !self.config.totp_once {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        let first = passwords::use_passcode(&mut tx, credential, step, oldest).await?;
        tx.commit().await?;
        if first { Ok(()) } else { Err(REFUSED("the passcode was used before")) }
    }
}

/// RFC 4226's truncation to six digits.
fn code(secret: &[u8], step: i64) -> String {
    // An HMAC takes keys of any length.
    let Ok(mac) = Hmac::<Sha1>::new_from_slice(secret) else { return String::new() };
    let hash = mac.chain_update(step.to_be_bytes()).finalize().into_bytes();
    let at = usize::from(hash[19] & 0xf);
    let number = hash[at..at + 4].iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

/// RFC 4648's base32, of either case, with or without padding.
fn base32(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut bits, mut held) = (0u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let value = match c.to_ascii_uppercase() {
            c @ b'A'..=b'Z' => c - b'A',
            c @ b'2'..=b'7' => c - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u32::from(value);
        held += 5;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_of_rfc_6238() {
        // Its appendix B has eight digits; six are their end.
        let secret = b"12345678901234567890";
        for (time, code) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (20_000_000_000, "353130")]
        {
            assert_eq!(super::code(secret, time / STEP_SECS), code);
        }
    }

    #[test]
    fn secrets_in_base32() {
        let secret = b"12345678901234567890";
        assert_eq!(base32("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").unwrap(), secret);
        assert_eq!(base32("gezdgnbvgy3tqojqgezdgnbvgy3tqojq").unwrap(), secret);
        assert_eq!(base32("MFRGG===").unwrap(), b"abc");
        assert!(base32("").is_none() && base32("1").is_none() && base32("MF GG").is_none());
    }
}
