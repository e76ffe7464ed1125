//! The `image_uploads` table: bodies that are being received, and staged ones that wait for their import.
//!
//! A receiving process renews its row's lease. A row whose lease has run out belongs to a process that is gone.

use crate::model::Digest;
use sqlx::{Any, Executor};
use state::{Db, StateError, Timestamp, Tx};

/// A body on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upload {
    pub(crate) image_id: String,
    pub(crate) upload_id: String,
    pub(crate) kind: Kind,
    pub(crate) node: String,
    pub(crate) lease_until: Timestamp,
    /// Of a staged body.
    pub(crate) digest: Option<Digest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Received into the image.
    File,
    /// Received into staging.
    Stage,
    /// Waits in staging.
    Staged,
    /// The image was deleted meanwhile.
    Cancelled,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::File => "file",
            Kind::Stage => "stage",
            Kind::Staged => "staged",
            Kind::Cancelled => "cancelled",
        }
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    image_id: String,
    upload_id: String,
    kind: String,
    node: String,
    lease_until: Timestamp,
    digest: String,
}

pub(crate) async fn insert(tx: &mut Tx, u: &Upload) -> Result<(), StateError> {
    sqlx::query(
        "INSERT INTO image_uploads (image_id, upload_id, kind, node, lease_until, digest) \
         VALUES ($1, $2, $3, $4, $5, '')",
    )
    .bind(&u.image_id)
    .bind(&u.upload_id)
    .bind(u.kind.as_str())
    .bind(&u.node)
    .bind(u.lease_until)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn get(db: &Db, image: &str) -> Result<Option<Upload>, StateError> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT image_id, upload_id, kind, node, lease_until, digest FROM image_uploads WHERE image_id = $1",
    )
    .bind(image)
    .fetch_optional(db.read())
    .await?;
    row.map(|r| {
        let kind = match r.kind.as_str() {
            "file" => Kind::File,
            "stage" => Kind::Stage,
            "staged" => Kind::Staged,
            _ => Kind::Cancelled,
        };
        let digest = if r.digest.is_empty() { None } else { Some(serde_json::from_str(&r.digest)?) };
        let Row { image_id, upload_id, node, lease_until, .. } = r;
        Ok(Upload { image_id, upload_id, kind, node, lease_until, digest })
    })
    .transpose()
}

/// The bytes that wait in staging for a project's imports.
pub(crate) async fn staged_bytes<'e>(
    executor: impl Executor<'e, Database = Any>,
    owner: &str,
) -> Result<u64, StateError> {
    let all: Vec<String> = sqlx::query_scalar(
        "SELECT u.digest FROM image_uploads u JOIN images i ON i.id = u.image_id \
         WHERE i.owner = $1 AND i.status <> 'deleted' AND u.digest <> ''",
    )
    .bind(owner)
    .fetch_all(executor)
    .await?;
    all.iter()
        .try_fold(0u64, |sum, digest| Ok(sum.saturating_add(serde_json::from_str::<Digest>(digest)?.size)))
}

/// Renews the lease; false where the upload is no longer wanted.
pub(crate) async fn renew(db: &Db, upload: &str, until: Timestamp) -> Result<bool, StateError> {
    let mut tx = db.begin().await?;
    let done =
        sqlx::query("UPDATE image_uploads SET lease_until = $1 WHERE upload_id = $2 AND kind <> 'cancelled'")
            .bind(until)
            .bind(upload)
            .execute(tx.conn())
            .await?;
    tx.commit().await?;
    Ok(done.rows_affected() == 1)
}

/// A received body now waits for its import; false where the upload is no longer wanted.
pub(crate) async fn staged(tx: &mut Tx, upload: &str, digest: &Digest) -> Result<bool, StateError> {
    let done = sqlx::query(
        "UPDATE image_uploads SET kind = 'staged', lease_until = 0, digest = $1 WHERE upload_id = $2 \
         AND kind <> 'cancelled'",
    )
    .bind(serde_json::to_string(digest)?)
    .bind(upload)
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// False where it was gone.
pub(crate) async fn remove(tx: &mut Tx, upload: &str) -> Result<bool, StateError> {
    let done =
        sqlx::query("DELETE FROM image_uploads WHERE upload_id = $1").bind(upload).execute(tx.conn()).await?;
    Ok(done.rows_affected() == 1)
}

/// Tells whoever receives an image's bytes that they are no longer wanted; true where somebody does.
pub(crate) async fn cancel(tx: &mut Tx, image: &str) -> Result<bool, StateError> {
    let done = sqlx::query("UPDATE image_uploads SET kind = 'cancelled' WHERE image_id = $1")
        .bind(image)
        .execute(tx.conn())
        .await?;
    tx.wake(topic(image));
    Ok(done.rows_affected() == 1)
}

/// Ends when an image is deleted.
pub(crate) async fn until_deleted(db: &Db, image: &str) -> Result<(), StateError> {
    let mut signal = db.signal(&topic(image));
    while super::images::get(db, image).await?.is_some() {
        signal.wait(std::time::Duration::from_secs(5)).await;
    }
    Ok(())
}

/// The topic that wakes whoever receives an image's bytes.
pub(crate) fn topic(image: &str) -> String {
    format!("image-upload:{image}")
}
