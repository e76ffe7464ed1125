//! Encryption of volume types: what an administrator wants of their volumes.
//!
//! There is no key manager yet, so that no volume of such a type is made: it is refused, rather than made in the clear.

use crate::model::VolumeType;
use crate::{VolumeError, Volumes, store};
use api::Context;
use state::{Timestamp, Tx};

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
        id: &str,
        wanted: Wanted,
    ) -> Result<(), VolumeError> {
        let rule = "volume_extension:volume_type_encryption:update";
        let mut tx = self.hold_unused(ctx, type_id, rule).await?;
        let mut now = the(&mut tx, type_id, id).await?;
        now.provider = wanted.provider.unwrap_or(now.provider);
        now.cipher = wanted.cipher.unwrap_or(now.cipher);
        now.key_size = wanted.key_size.unwrap_or(now.key_size);
        now.control_location = wanted.control_location.unwrap_or(now.control_location);
        now.updated_at = Some(Timestamp::now());
        store::encryption::put(&mut tx, &now).await?;
        Ok(tx.commit().await?)
    }

    pub(crate) async fn delete_encryption(
        &self,
        ctx: &Context,
        type_id: &str,
        id: &str,
    ) -> Result<(), VolumeError> {
        let rule = "volume_extension:volume_type_encryption:delete";
        let mut tx = self.hold_unused(ctx, type_id, rule).await?;
        the(&mut tx, type_id, id).await?;
        store::encryption::remove(&mut tx, type_id).await?;
        Ok(tx.commit().await?)
    }

    /// Refuses a type whose volumes would have to be encrypted. Inside the transaction that would use it, so that no
    /// volume is made in the clear while its type is being encrypted.
    pub(crate) async fn in_the_clear(&self, tx: &mut Tx, kind: &VolumeType) -> Result<(), VolumeError> {
        tx.lock(&lock_key(&kind.id)).await?;
        match store::encryption::of_type(tx.conn(), &kind.id).await? {
            None => Ok(()),
            Some(_) => Err(VolumeError::NotImplemented(format!(
                "Volume type {} is encrypted, and this cloud has no key manager to hold its volumes' keys.",
                kind.name
            ))),
        }
    }
}

/// What a transaction locks in which a type's first volume is made, or its encryption changed.
fn lock_key(type_id: &str) -> String {
    format!("volume:type:{type_id}")
}

/// The type's encryption, if it has this id.
async fn the(tx: &mut Tx, type_id: &str, id: &str) -> Result<Encryption, VolumeError> {
    let now = store::encryption::of_type(tx.conn(), type_id).await?.filter(|e| e.id == id);
    now.ok_or_else(|| {
        VolumeError::NotFound(format!("Volume type encryption for type {type_id} does not exist."))
    })
}
