//! The passphrases of encrypted volumes, behind the seam that a key manager of its own will stand at.
//!
//! [`LocalKeys`] keeps them with the rows, each sealed with AES-256-GCM by the root secret and bound to its own id: a row that
//! is read, or put in another's place, is worth nothing.

use crate::{VolumeError, store};
use api::Secret;
use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use state::Db;
use std::path::PathBuf;
use tokio::sync::OnceCell;

const BYTES: usize = 32;

/// Keeps secrets by ids that its callers make, so that each call may be made twice.
#[async_trait]
pub(crate) trait KeyManager: Send + Sync {
    /// Makes a fresh secret of a project; one that is there stays.
    async fn ensure(&self, id: &str, project_id: &str) -> Result<(), VolumeError>;
    /// Keeps a secret under a second id, too; one that is there stays.
    async fn copy(&self, from: &str, to: &str, project_id: &str) -> Result<(), VolumeError>;
    /// The secret; `NotFound`.
    async fn get(&self, id: &str) -> Result<Secret, VolumeError>;
    /// Whose it is; `None` where there is none.
    async fn owner(&self, id: &str) -> Result<Option<String>, VolumeError>;
    /// Forgets a secret. One that is not there is no error.
    async fn remove(&self, id: &str) -> Result<(), VolumeError>;
    /// A secret as whoever has the same root secret can take it over, and nobody else can read it; `NotFound`.
    async fn export(&self, id: &str) -> Result<String, VolumeError>;
    /// Takes over what was exported under the same id. One that is there stays; `NotFound` where this cannot be opened.
    async fn import(&self, id: &str, project_id: &str, exported: &str) -> Result<(), VolumeError>;
}

/// Secrets in this cloud's own rows.
pub(crate) struct LocalKeys {
    db: Db,
    /// Holds the root secret; without a file it is made once and kept with the rows.
    file: Option<PathBuf>,
    root: OnceCell<LessSafeKey>,
}

fn broken() -> VolumeError {
    VolumeError::Config(
        "a volume's secret cannot be opened: the root secret is not the one that sealed it".into(),
    )
}

impl LocalKeys {
    pub(crate) fn new(db: Db, file: Option<PathBuf>) -> Self {
        LocalKeys { db, file, root: OnceCell::new() }
    }

    async fn root(&self) -> Result<&LessSafeKey, VolumeError> {
        self.root
            .get_or_try_init(|| async {
                let bad =
                    || VolumeError::Config("the root secret of volumes is not 32 bytes in base64".into());
                let text = match &self.file {
                    Some(file) => tokio::fs::read_to_string(file)
                        .await
                        .map_err(|e| VolumeError::Config(format!("{}: {e}", file.display())))?,
                    None => store::keys::root(&self.db, &BASE64_STANDARD.encode(random::<BYTES>()?)).await?,
                };
                let bytes = BASE64_STANDARD.decode(text.trim()).map_err(|_| bad())?;
                Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| bad())?))
            })
            .await
    }

    /// What [`LocalKeys::keep`] sealed under an id.
    async fn open(&self, id: &str, text: &str) -> Result<Secret, VolumeError> {
        let mut sealed = BASE64_STANDARD.decode(text).map_err(|_| broken())?;
        if sealed.len() < NONCE_LEN {
            return Err(broken());
        }
        let mut rest = sealed.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&sealed).map_err(|_| broken())?;
        let opened =
            self.root().await?.open_in_place(nonce, Aad::from(id), &mut rest).map_err(|_| broken())?;
        Ok(Secret(String::from_utf8(opened.to_vec()).map_err(|_| broken())?))
    }

    async fn keep(&self, id: &str, project_id: &str, secret: &Secret) -> Result<(), VolumeError> {
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut sealed = secret.0.clone().into_bytes();
        self.root()
            .await?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(id), &mut sealed)
            .map_err(|_| broken())?;
        let text = BASE64_STANDARD.encode([&nonce[..], &sealed].concat());
        let mut tx = self.db.begin().await?;
        store::keys::insert(&mut tx, id, project_id, &text).await?;
        Ok(tx.commit().await?)
    }
}

fn random<const N: usize>() -> Result<[u8; N], VolumeError> {
    let mut bytes = [0; N];
    let failed = |_| VolumeError::Config("this machine gives no random bytes".into());
    SystemRandom::new().fill(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[async_trait]
impl KeyManager for LocalKeys {
    async fn ensure(&self, id: &str, project_id: &str) -> Result<(), VolumeError> {
        // Digits, as upstream makes passphrases of keys: they survive whatever a passphrase goes through.
        let secret = Secret(hex::encode(random::<BYTES>()?));
        self.keep(id, project_id, &secret).await
    }

    async fn copy(&self, from: &str, to: &str, project_id: &str) -> Result<(), VolumeError> {
        self.keep(to, project_id, &self.get(from).await?).await
    }

    async fn get(&self, id: &str) -> Result<Secret, VolumeError> {
        self.open(id, &self.export(id).await?).await
    }

    async fn export(&self, id: &str) -> Result<String, VolumeError> {
        let absent = || VolumeError::NotFound(format!("Encryption key {id} could not be found."));
        Ok(store::keys::get(self.db.read(), id).await?.ok_or_else(absent)?.1)
    }

    async fn import(&self, id: &str, project_id: &str, exported: &str) -> Result<(), VolumeError> {
        self.open(id, exported)
            .await
            .map_err(|_| VolumeError::NotFound(format!("Encryption key {id} cannot be opened here.")))?;
        let mut tx = self.db.begin().await?;
        store::keys::insert(&mut tx, id, project_id, exported).await?;
        Ok(tx.commit().await?)
    }

    async fn owner(&self, id: &str) -> Result<Option<String>, VolumeError> {
        Ok(store::keys::get(self.db.read(), id).await?.map(|(project, _)| project))
    }

    async fn remove(&self, id: &str) -> Result<(), VolumeError> {
        let mut tx = self.db.begin().await?;
        store::keys::remove(&mut tx, id).await?;
        Ok(tx.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn secrets_are_kept_sealed_and_in_their_place() {
        for db in testbed::databases().await {
            db.migrate(&crate::MIGRATIONS).await.unwrap();
            let keys = LocalKeys::new(db.clone(), None);
            keys.ensure("a", "p").await.unwrap();
            let secret = keys.get("a").await.unwrap();
            keys.ensure("a", "p").await.unwrap();
            assert_eq!(keys.get("a").await.unwrap(), secret, "one that is there stays");
            keys.copy("a", "b", "q").await.unwrap();
            assert_eq!(keys.get("b").await.unwrap(), secret);
            assert_eq!(keys.owner("b").await.unwrap().as_deref(), Some("q"));
            // Another process has the same root secret; another root secret opens nothing.
            assert_eq!(LocalKeys::new(db.clone(), None).get("a").await.unwrap(), secret);
            let other = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(other.path(), BASE64_STANDARD.encode([7; 32])).unwrap();
            let stranger = LocalKeys::new(db.clone(), Some(other.path().to_owned()));
            assert!(stranger.get("a").await.is_err());
            let rows: Vec<(String,)> =
                sqlx::query_as("SELECT sealed FROM volume_keys").fetch_all(db.read()).await.unwrap();
            assert!(rows.iter().all(|(text,)| !text.contains(&secret.0)));
            // A row in another's place is worth nothing.
            let mut tx = db.begin().await.unwrap();
            sqlx::query("UPDATE volume_keys SET id = 'c' WHERE id = 'b'").execute(tx.conn()).await.unwrap();
            tx.commit().await.unwrap();
            assert!(keys.get("c").await.is_err());
            keys.remove("a").await.unwrap();
            keys.remove("a").await.unwrap();
            assert!(matches!(keys.get("a").await, Err(VolumeError::NotFound(_))));
        }
    }
}
