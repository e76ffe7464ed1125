//! Containers whose index grows: the columns `growing`, `grower` and `grower_at` of `object_containers`.

use crate::ObjectError;
use crate::names::ContainerId;
use state::{Db, StateError, Timestamp};

/// A process's right to see to the growth of a container's index: it is held for as long as it is renewed.
#[derive(Debug, Clone)]
pub(crate) struct Grower {
    pub(crate) id: ContainerId,
    pub(crate) process: String,
}

impl Grower {
    /// Takes charge of a growth from `generation` to `shards`, unless another process is at it and was so after
    /// `stale`. To how many shards the index grows: those that it was to grow to when another process began.
    pub(crate) async fn claim(
        &self,
        db: &Db,
        generation: u32,
        shards: u32,
        stale: Timestamp,
    ) -> Result<Option<u32>, ObjectError> {
        let mut tx = db.begin().await?;
        let claimed = sqlx::query(
            "UPDATE object_containers \
             SET growing = CASE WHEN growing > 0 THEN growing ELSE $3 END, grower = $4, grower_at = $5 \
             WHERE id = $1 AND generation = $2 AND (growing = 0 OR grower = $4 OR grower_at < $6)",
        )
        .bind(self.id.to_string())
        .bind(i64::from(generation))
        .bind(i64::from(shards))
        .bind(self.process.clone())
        .bind(Timestamp::now())
        .bind(stale)
        .execute(tx.conn())
        .await?;
        if claimed.rows_affected() == 0 {
            return Ok(None);
        }
        let growing: i64 = sqlx::query_scalar("SELECT growing FROM object_containers WHERE id = $1")
            .bind(self.id.to_string())
            .fetch_one(tx.conn())
            .await?;
        tx.commit().await?;
        let corrupt = |_| StateError::Corrupt("object_containers.growing".into());
        Ok(Some(u32::try_from(growing).map_err(corrupt)?))
    }

    /// Says that the process is still at it; with a time long gone, that it no longer is.
    pub(crate) async fn renew(&self, db: &Db, at: Timestamp) -> Result<(), ObjectError> {
        let mut tx = db.begin().await?;
        sqlx::query(
            "UPDATE object_containers SET grower_at = $3 WHERE id = $1 AND grower = $2 AND growing > 0",
        )
        .bind(self.id.to_string())
        .bind(self.process.clone())
        .bind(at)
        .execute(tx.conn())
        .await?;
        Ok(tx.commit().await?)
    }
}

/// The index has grown: from now on the row names the next generation.
pub(crate) async fn done(db: &Db, id: ContainerId, generation: u32, shards: u32) -> Result<(), ObjectError> {
    let mut tx = db.begin().await?;
    sqlx::query(
        "UPDATE object_containers SET generation = $3, shards = $4, growing = 0, grower = '', grower_at = 0 \
         WHERE id = $1 AND generation = $2 AND growing = $4",
    )
    .bind(id.to_string())
    .bind(i64::from(generation))
    .bind(i64::from(generation) + 1)
    .bind(i64::from(shards))
    .execute(tx.conn())
    .await?;
    tx.wake(super::CHANGED);
    Ok(tx.commit().await?)
}

/// Containers whose index was left in the middle of its growth: nobody has been at it since `stale`.
pub(crate) async fn left(db: &Db, stale: Timestamp) -> Result<Vec<ContainerId>, ObjectError> {
    let ids: Vec<String> = sqlx::query_scalar(
        "SELECT id FROM object_containers WHERE growing > 0 AND grower_at < $1 ORDER BY id LIMIT 100",
    )
    .bind(stale)
    .fetch_all(db.read())
    .await?;
    let corrupt = || StateError::Corrupt("object_containers.id".into());
    ids.iter().map(|id| Ok(ContainerId::parse(id).ok_or_else(corrupt)?)).collect()
}
