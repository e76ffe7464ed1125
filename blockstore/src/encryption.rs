//! Encryption: what an administrator wants of a type's volumes, and how theirs are encrypted.
//!
//! A volume is a LUKS container in its image: snapshots and clones are of the container, and a clone has its parent's
//! passphrase, under an id of its own. As with upstream, the header takes its room from the volume's size. librbd writes
//! what goes into a container here. Who opens it for a guest decides the rest:
//!
//! * LUKS: QEMU itself. It decrypts what was never written, too, which is noise: content goes in whole, with its zeroes.
//! * LUKS2: librbd, in QEMU. To it holes are zeroes; but librbd 16 cannot safely decrypt a clone (see
//!   [`pool::Image::encryption_load`]), so what is made of one is a copy.

use crate::model::{Volume, VolumeType};
use crate::{VolumeError, Volumes, store};
use api::{Context, Secret};
use pool::EncryptionFormat;
use state::{Timestamp, Tx};

/// Whether a volume must be a copy of what it is made of, not a clone.
pub(crate) fn stands_alone(format: EncryptionFormat) -> bool {
    format.luks2
}

/// Whether what is not written reads as noise, not as zeroes.
pub(crate) fn holes_are_noise(format: EncryptionFormat) -> bool {
    !format.luks2
}

/// A type's encryption, as its row has it.
#[derive(Debug, Clone)]
pub(crate) struct Encryption {
    pub(crate) id: String,
    pub(crate) type_id: String,
    pub(crate) provider: String,
    pub(crate) cipher: Option<String>,
    /// Bits.
    pub(crate) key_size: Option<i64>,
    /// `front-end` or `back-end`.
    pub(crate) control_location: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Option<Timestamp>,
}

/// What a request says of an encryption; `None` leaves it.
pub(crate) struct Wanted {
    pub(crate) provider: Option<String>,
    pub(crate) cipher: Option<Option<String>>,
    pub(crate) key_size: Option<Option<i64>>,
    pub(crate) control_location: Option<String>,
}

impl Volumes {
    pub(crate) async fn type_encryption(
        &self,
        ctx: &Context,
        type_id: &str,
    ) -> Result<Option<Encryption>, VolumeError> {
        self.may(ctx, "volume_extension:volume_type_encryption:get", "")?;
        self.show_type(ctx, type_id).await?;
        store::encryption::of_type(self.db.read(), type_id).await
    }

    /// A transaction that holds a type which no volume has: what volumes have been made by does not change.
    async fn hold_unused(&self, ctx: &Context, type_id: &str, rule: &str) -> Result<Tx, VolumeError> {
        self.may(ctx, rule, "")?;
        self.show_type(ctx, type_id).await?;
        let mut tx = self.db.begin().await?;
        tx.lock("volume:types").await?;
        tx.lock(&lock_key(type_id)).await?;
        if store::types::in_use(&mut tx, type_id).await? {
            return Err(VolumeError::BadRequest(
                "Cannot change the encryption of a volume type that is in use: volumes have it.".into(),
            ));
        }
        Ok(tx)
    }

    pub(crate) async fn encrypt_type(
        &self,
        ctx: &Context,
        type_id: &str,
        wanted: Wanted,
    ) -> Result<Encryption, VolumeError> {
        let rule = "volume_extension:volume_type_encryption:create";
        let mut tx = self.hold_unused(ctx, type_id, rule).await?;
        if store::encryption::of_type(tx.conn(), type_id).await?.is_some() {
            return Err(VolumeError::BadRequest(format!(
                "Volume type encryption for type {type_id} already exists."
            )));
        }
        let made = Encryption {
            id: state::new_id(),
            type_id: type_id.to_owned(),
            provider: wanted.provider.unwrap_or_default(),
            cipher: wanted.cipher.flatten(),
            key_size: wanted.key_size.flatten(),
            control_location: wanted.control_location.unwrap_or_else(|| "front-end".into()),
            created_at: Timestamp::now(),
            updated_at: None,
        };
        store::encryption::put(&mut tx, &made).await?;
        tx.commit().await?;
        Ok(made)
    }

    pub(crate) async fn update_encryption(
        &self,
        ctx: &Context,
        type_id: &str,
        wanted: Wanted,
    ) -> Result<(), VolumeError> {
        let rule = "volume_extension:volume_type_encryption:update";
        let mut tx = self.hold_unused(ctx, type_id, rule).await?;
        let mut now = the(&mut tx, type_id).await?;
        now.provider = wanted.provider.unwrap_or(now.provider);
        now.cipher = wanted.cipher.unwrap_or(now.cipher);
        now.key_size = wanted.key_size.unwrap_or(now.key_size);
        now.control_location = wanted.control_location.unwrap_or(now.control_location);
        now.updated_at = Some(Timestamp::now());
        store::encryption::put(&mut tx, &now).await?;
        Ok(tx.commit().await?)
    }

    pub(crate) async fn delete_encryption(&self, ctx: &Context, type_id: &str) -> Result<(), VolumeError> {
        let rule = "volume_extension:volume_type_encryption:delete";
        let mut tx = self.hold_unused(ctx, type_id, rule).await?;
        the(&mut tx, type_id).await?;
        store::encryption::remove(&mut tx, type_id).await?;
        Ok(tx.commit().await?)
    }

    /// How a type wants its volumes to be encrypted, held in `tx`, so that no volume is made in the clear while its type is
    /// being encrypted.
    pub(crate) async fn wanted_format(
        &self,
        tx: &mut Tx,
        type_id: &str,
    ) -> Result<Option<EncryptionFormat>, VolumeError> {
        tx.lock(&lock_key(type_id)).await?;
        let wanted = store::encryption::of_type(tx.conn(), type_id).await?;
        wanted.map(|e| e.format()).transpose()
    }

    /// How a volume that another type is given must be encrypted anew; `None` where it stays as it is. Inside the
    /// transaction that gives it the type.
    pub(crate) async fn reseals(
        &self,
        tx: &mut Tx,
        kind: &VolumeType,
        volume: &Volume,
    ) -> Result<Option<Option<EncryptionFormat>>, VolumeError> {
        let wanted = self.wanted_format(tx, &kind.id).await?;
        let is = match &volume.encryption_key_id {
            Some(_) => store::encryption::of_type(tx.conn(), &volume.type_id).await?,
            None => None,
        };
        let is = is.map(|e| e.format()).transpose()?;
        Ok((wanted != is).then_some(wanted))
    }

    /// Refuses unless a volume is encrypted as its type says. Inside the transaction that gives it the type.
    pub(crate) async fn encrypted_as(
        &self,
        tx: &mut Tx,
        kind: &VolumeType,
        volume: &Volume,
    ) -> Result<(), VolumeError> {
        if self.reseals(tx, kind, volume).await?.is_none() {
            return Ok(());
        }
        Err(VolumeError::InvalidVolume(format!(
            "Volume {} cannot have type {}: it is encrypted in another way.",
            volume.id, kind.name
        )))
    }

    /// How volumes of a type are encrypted; `None` for those in the clear. A setting that librbd does not know is refused.
    pub(crate) async fn format_of(&self, type_id: &str) -> Result<Option<EncryptionFormat>, VolumeError> {
        let found = store::encryption::of_type(self.db.read(), type_id).await?;
        found.map(|e| e.format()).transpose()
    }

    /// How a volume is encrypted, with its passphrase; `None` for one in the clear. For the cloud's own use: nothing is
    /// checked.
    pub(crate) async fn encryption_of(
        &self,
        volume: &Volume,
    ) -> Result<Option<(EncryptionFormat, Secret)>, VolumeError> {
        let Some(key) = &volume.encryption_key_id else { return Ok(None) };
        let format = self.format_of(&volume.type_id).await?;
        let format = format.ok_or_else(|| VolumeError::TypeNotFound(volume.type_id.clone()))?;
        Ok(Some((format, self.keys.get(key).await?)))
    }

    /// Forgets a passphrase that no row names any more: an imported record may have the same one as another.
    pub(crate) async fn forget_unused_key(&self, key: Option<&str>) -> Result<(), VolumeError> {
        match key {
            Some(key) if !store::keys::is_used(self.db.read(), key).await? => self.keys.remove(key).await,
            _ => Ok(()),
        }
    }

    /// What a host needs to open an encrypted volume, for the host agent that is to attach it: nothing is checked.
    pub async fn passphrase(&self, volume_id: &str) -> Result<Option<Secret>, VolumeError> {
        let volume = store::volumes::get(self.db.read(), volume_id)
            .await?
            .ok_or_else(|| VolumeError::VolumeNotFound(volume_id.to_owned()))?;
        Ok(self.encryption_of(&volume).await?.map(|(_, secret)| secret))
    }

    /// `GET /volumes/{id}/encryption`: the type's settings and the passphrase's id.
    pub(crate) async fn volume_encryption(
        &self,
        ctx: &Context,
        id: &str,
    ) -> Result<Option<(Encryption, String)>, VolumeError> {
        let volume = self.find(ctx, id, "volume_extension:volume_encryption_metadata").await?;
        let Some(key) = volume.encryption_key_id else { return Ok(None) };
        let settings = store::encryption::of_type(self.db.read(), &volume.type_id).await?;
        Ok(settings.map(|e| (e, key)))
    }
}

impl Encryption {
    pub(crate) fn format(&self) -> Result<EncryptionFormat, VolumeError> {
        let provider = self.provider.to_ascii_lowercase();
        let luks2 = provider.contains("luks2");
        let unknown = |what: &str| {
            Err(VolumeError::NotImplemented(format!(
                "Volumes cannot be encrypted with {what}, only with luks or luks2."
            )))
        };
        if !provider.contains("luks") {
            return unknown(&format!("provider {}", self.provider));
        }
        if let Some(cipher) = self.cipher.as_deref().filter(|c| !matches!(*c, "aes-xts-plain64" | "")) {
            return unknown(&format!("cipher {cipher}"));
        }
        match self.key_size {
            Some(256) => Ok(EncryptionFormat { luks2, aes256: false }),
            Some(512) | None => Ok(EncryptionFormat { luks2, aes256: true }),
            Some(other) => unknown(&format!("keys of {other} bits")),
        }
    }
}

/// An [`EncryptionFormat`], in rows and records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Format {
    pub(crate) luks2: bool,
    pub(crate) aes256: bool,
}

impl From<EncryptionFormat> for Format {
    fn from(EncryptionFormat { luks2, aes256 }: EncryptionFormat) -> Self {
        Format { luks2, aes256 }
    }
}

impl From<Format> for EncryptionFormat {
    fn from(Format { luks2, aes256 }: Format) -> Self {
        EncryptionFormat { luks2, aes256 }
    }
}

/// How a server opens a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeEncryption {
    Luks,
    Luks2,
}

impl From<EncryptionFormat> for VolumeEncryption {
    fn from(f: EncryptionFormat) -> Self {
        if f.luks2 { VolumeEncryption::Luks2 } else { VolumeEncryption::Luks }
    }
}

/// The most that a LUKS header takes of a volume, in bytes.
pub(crate) const HEADER: u64 = 16 << 20;

/// What a transaction locks in which a type's first volume is made, or its encryption changed.
fn lock_key(type_id: &str) -> String {
    format!("volume:type:{type_id}")
}

/// The type's encryption, of which there is one at most.
async fn the(tx: &mut Tx, type_id: &str) -> Result<Encryption, VolumeError> {
    let now = store::encryption::of_type(tx.conn(), type_id).await?;
    now.ok_or_else(|| {
        VolumeError::NotFound(format!("Volume type encryption for type {type_id} does not exist."))
    })
}
