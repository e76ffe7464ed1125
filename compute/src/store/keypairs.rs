//! The `compute_keypairs` table.

use super::{of_doc, of_docs, to_doc};
use crate::ComputeError;
use crate::model::Keypair;
use state::{Db, Tx};

pub(crate) async fn insert(tx: &mut Tx, k: &Keypair) -> Result<(), ComputeError> {
    sqlx::query("INSERT INTO compute_keypairs (user_id, name, doc) VALUES ($1, $2, $3)")
        .bind(&k.user_id)
        .bind(&k.name)
        .bind(to_doc(k)?)
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub(crate) async fn get(db: &Db, user: &str, name: &str) -> Result<Option<Keypair>, ComputeError> {
    let doc: Option<String> =
        sqlx::query_scalar("SELECT doc FROM compute_keypairs WHERE user_id = $1 AND name = $2")
            .bind(user)
            .bind(name)
            .fetch_optional(db.read())
            .await?;
    doc.map(|d| of_doc(&d)).transpose()
}

/// By name.
pub(crate) async fn list(db: &Db, user: &str) -> Result<Vec<Keypair>, ComputeError> {
    of_docs(
        sqlx::query_scalar("SELECT doc FROM compute_keypairs WHERE user_id = $1 ORDER BY name")
            .bind(user)
            .fetch_all(db.read())
            .await?,
    )
}

pub(crate) async fn count(tx: &mut Tx, user: &str) -> Result<i64, ComputeError> {
    Ok(sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM compute_keypairs WHERE user_id = $1")
        .bind(user)
        .fetch_one(tx.conn())
        .await?)
}

/// Whether there was one.
pub(crate) async fn delete(tx: &mut Tx, user: &str, name: &str) -> Result<bool, ComputeError> {
    let done = sqlx::query("DELETE FROM compute_keypairs WHERE user_id = $1 AND name = $2")
        .bind(user)
        .bind(name)
        .execute(tx.conn())
        .await?;
    Ok(done.rows_affected() == 1)
}
