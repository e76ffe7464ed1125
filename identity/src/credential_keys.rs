//! The keys that encrypt stored credentials, and moving what they encrypt from one to the next.
//!
//! A key may go when nothing is encrypted with it any more. Each row says which key it has, so a migration finds the
//! others, and may stop and start again anywhere.

use crate::keys::Rotated;
use crate::{Identity, IdentityError};
use state::Tx;
use std::time::Duration;

/// Staged, encrypting, and the one before: another process may write with it for a moment.
const KEEP: usize = 3;
/// No process takes longer to notice a rotation.
const NOTICED: Duration = Duration::from_secs(60);
/// Rows in one transaction.
const BATCH: i64 = 200;

type Sealed = (String, String);

impl Identity {
    /// Makes the staged credential key the one that encrypts, and encrypts every credential anew with it; how many.
    /// Running processes follow by themselves.
    pub async fn rotate_credential_keys(&self) -> Result<(Rotated, u64), IdentityError> {
        // What still has the key before this one must move before that key can go.
        let before = self.migrate_credentials().await?;
        let rotated = self.credential_keys.rotate(KEEP, NOTICED)?;
        Ok((rotated, before + self.migrate_credentials().await?))
    }

    /// Encrypts with the newest key what is encrypted with another; how many credentials that were.
    pub async fn migrate_credentials(&self) -> Result<u64, IdentityError> {
        let key = self.credential_keys.signing_id();
        let mut moved = 0;
        let mut after = String::new();
        loop {
            let mut tx = self.db.begin().await?;
            let batch = outdated(&mut tx, &key, &after).await?;
            for (id, blob) in &batch {
                moved += u64::from(self.move_blob(&mut tx, id, blob).await?);
            }
            tx.commit().await?;
            match batch.last() {
                Some((id, _)) => after.clone_from(id),
                None => return Ok(moved),
            }
        }
    }

    /// False where somebody else has just written the row.
    async fn move_blob(&self, tx: &mut Tx, id: &str, blob: &str) -> Result<bool, IdentityError> {
        let plain = self.credential_keys.decrypt(blob).ok_or_else(|| {
            let what = format!("credential {id} does not open with any of our keys");
            IdentityError::State(state::StateError::Corrupt(what))
        })?;
        let (sealed, key) = self.credential_keys.sealed(&plain);
        let sql = "UPDATE identity_credentials SET blob = $3, key_id = $4 WHERE id = $1 AND blob = $2";
        let query = sqlx::query(sql).bind(id.to_owned()).bind(blob.to_owned()).bind(sealed).bind(key);
        Ok(query.execute(tx.conn()).await?.rows_affected() > 0)
    }
}

async fn outdated(tx: &mut Tx, key: &str, after: &str) -> Result<Vec<Sealed>, IdentityError> {
    let sql = "SELECT id, blob FROM identity_credentials WHERE (key_id IS NULL OR key_id <> $1) AND id > $2 \
        ORDER BY id LIMIT $3";
    Ok(sqlx::query_as(sql)
        .bind(key.to_owned())
        .bind(after.to_owned())
        .bind(BATCH)
        .fetch_all(tx.conn())
        .await?)
}
