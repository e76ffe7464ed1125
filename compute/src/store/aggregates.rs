//! The `compute_aggregates` table. Aggregates are few: rules read them all, under one lock.

use super::{of_docs, to_doc};
use crate::ComputeError;
use crate::model::Aggregate;
use state::{Db, Tx};

const ALL: &str = "SELECT doc FROM compute_aggregates ORDER BY id";

pub(crate) async fn list(db: &Db) -> Result<Vec<Aggregate>, ComputeError> {
    of_docs(sqlx::query_scalar(ALL).fetch_all(db.read()).await?)
}

/// All of them, held until the transaction ends.
pub(crate) async fn lock(tx: &mut Tx) -> Result<Vec<Aggregate>, ComputeError> {
    tx.lock("aggregates").await?;
    of_docs(sqlx::query_scalar(ALL).fetch_all(tx.conn()).await?)
}

pub(crate) async fn insert(tx: &mut Tx, a: &Aggregate) -> Result<(), ComputeError> {
    sqlx::query("INSERT INTO compute_aggregates (id, name, doc) VALUES ($1, $2, $3)")
        .bind(a.id)
        .bind(&a.name)
        .bind(to_doc(a)?)
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub(crate) async fn save(tx: &mut Tx, a: &Aggregate) -> Result<(), ComputeError> {
    sqlx::query("UPDATE compute_aggregates SET name = $1, doc = $2 WHERE id = $3")
        .bind(&a.name)
        .bind(to_doc(a)?)
        .bind(a.id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub(crate) async fn delete(tx: &mut Tx, id: i64) -> Result<(), ComputeError> {
    sqlx::query("DELETE FROM compute_aggregates WHERE id = $1").bind(id).execute(tx.conn()).await?;
    Ok(())
}
