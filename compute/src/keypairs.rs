//! Key pairs: a user's public keys. A private key is shown once, when this service made it, and never kept.

use crate::model::Keypair;
use crate::store::keypairs as store;
use crate::{Compute, ComputeError};
use api::{Context, Secret};
use base64::Engine;
use md5::{Digest, Md5};
use ssh_key::{LineEnding, PrivateKey};
use state::{StateError, Timestamp};

/// A key pair that was just made, with its private half where it was made here.
pub(crate) struct Made {
    pub(crate) keypair: Keypair,
    pub(crate) private_key: Option<Secret>,
}

fn not_found(name: &str, user: &str) -> ComputeError {
    ComputeError::NotFound(format!("Keypair {name} not found for user {user}"))
}

impl Compute {
    /// Whose key pairs are meant: the caller's own, or for administrators any user's.
    fn keys_of(&self, ctx: &Context, rule: &str, user: Option<&str>) -> Result<String, ComputeError> {
        let user = user.unwrap_or(&ctx.user.id);
        self.policy.enforce(ctx, rule, &[("user_id", user)])?;
        Ok(user.to_owned())
    }

    pub(crate) async fn create_keypair(
        &self,
        ctx: &Context,
        name: &str,
        kind: &str,
        public_key: Option<&str>,
        user: Option<&str>,
    ) -> Result<Made, ComputeError> {
        let user_id = self.keys_of(ctx, "os_compute_api:os-keypairs:create", user)?;
        if kind != "ssh" {
            return Err(ComputeError::invalid("Only key pairs of type ssh are offered."));
        }
        let (public_key, private_key) = match public_key {
            Some(text) => (text.trim().to_owned(), None),
            None => generate()?,
        };
        let keypair = Keypair {
            user_id: user_id.clone(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            fingerprint: fingerprint(&public_key)?,
            public_key,
            created_at: Timestamp::now(),
        };
        let mut tx = self.db.begin().await?;
        self.room_for_keypair(&mut tx, &user_id).await?;
        match store::insert(&mut tx, &keypair).await {
            Err(ComputeError::State(StateError::Conflict(_))) => {
                return Err(ComputeError::Conflict(format!("Key pair '{name}' already exists.")));
            }
            other => other?,
        }
        tx.commit().await?;
        Ok(Made { keypair, private_key })
    }

    pub(crate) async fn keypair(
        &self,
        ctx: &Context,
        name: &str,
        user: Option<&str>,
    ) -> Result<Keypair, ComputeError> {
        let user = self.keys_of(ctx, "os_compute_api:os-keypairs:show", user)?;
        store::get(&self.db, &user, name).await?.ok_or_else(|| not_found(name, &user))
    }

    pub(crate) async fn keypairs(
        &self,
        ctx: &Context,
        user: Option<&str>,
    ) -> Result<Vec<Keypair>, ComputeError> {
        let user = self.keys_of(ctx, "os_compute_api:os-keypairs:index", user)?;
        store::list(&self.db, &user).await
    }

    pub(crate) async fn delete_keypair(
        &self,
        ctx: &Context,
        name: &str,
        user: Option<&str>,
    ) -> Result<(), ComputeError> {
        let user = self.keys_of(ctx, "os_compute_api:os-keypairs:delete", user)?;
        let mut tx = self.db.begin().await?;
        if !store::delete(&mut tx, &user, name).await? {
            return Err(not_found(name, &user));
        }
        Ok(tx.commit().await?)
    }
}

/// The key types that OpenSSH knows.
const KINDS: [&str; 8] = [
    "ssh-rsa",
    "ssh-dss",
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// The MD5 of the key's own bytes, in pairs of digits, as upstream shows it.
fn fingerprint(public_key: &str) -> Result<String, ComputeError> {
    let bytes = key_bytes(public_key)
        .ok_or_else(|| ComputeError::invalid("Keypair data is invalid: failed to generate fingerprint"))?;
    let digits = hex::encode(Md5::digest(&bytes));
    let pairs: Vec<_> = (0..digits.len()).step_by(2).map(|i| &digits[i..i + 2]).collect();
    Ok(pairs.join(":"))
}

/// The bytes of an OpenSSH public key (RFC 4253, 6.6): its type once more, then fields, each with its length.
fn key_bytes(text: &str) -> Option<Vec<u8>> {
    let mut words = text.split_whitespace();
    let kind = words.next().filter(|k| KINDS.contains(k))?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(words.next()?).ok()?;
    let mut rest = bytes.as_slice();
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (length, more) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (field, more) = more.split_at_checked(length)?;
        fields.push(field);
        rest = more;
    }
    (fields.len() >= 2 && fields[0] == kind.as_bytes()).then_some(bytes)
}

fn generate() -> Result<(String, Option<Secret>), ComputeError> {
    let failed = |e: ssh_key::Error| ComputeError::Config(format!("a key cannot be made: {e}"));
    let mut seed = [0u8; 32];
    rand::Rng::fill_bytes(&mut rand::rng(), &mut seed);
    let pair = ssh_key::private::Ed25519Keypair::from_seed(&seed);
    let key = PrivateKey::new(pair.into(), "Generated-by-Aquifer").map_err(failed)?;
    let private = key.to_openssh(LineEnding::LF).map_err(failed)?;
    let public = key.public_key().to_openssh().map_err(failed)?;
    Ok((public, Some(Secret(private.to_string()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_has_a_fingerprint() {
        let (public, private) = generate().unwrap();
        assert!(public.starts_with("ssh-ed25519 "));
        assert!(private.unwrap().0.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
        assert_eq!(fingerprint(&public).unwrap().len(), 47);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let nist = "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBEbgw5vrqwISFKxCu2EfIFxy8M\
            CfMjsEVnqs6WMciw68Hng7vwoo7YMLyOi17+NHEL65Yzdb5n7wvOQAeWjWMcI8DBcMn82OI9T02+YOn+zZhZKzbiN+D6hPtMKy9R5fJg==";
        assert!(fingerprint(nist).is_ok());
        let another = nist.replace("nistp384 ", "nistp256 ");
        for bad in ["", "bad", "ssh-rsa notbase64", "ssh-rsa AAAA", "ssh-rsa AAAAB3NzaC1yc2EAAA", &another] {
            assert!(fingerprint(bad).is_err(), "{bad}");
        }
    }
}
