//! The `compute_flavors` table.

use super::{of_doc, of_docs, to_doc};
use crate::ComputeError;
use crate::model::Flavor;
use state::{Db, Tx};

pub(crate) async fn insert(tx: &mut Tx, f: &Flavor) -> Result<(), ComputeError> {
    sqlx::query("INSERT INTO compute_flavors (id, name, ram_mib, doc) VALUES ($1, $2, $3, $4)")
        .bind(&f.id)
        .bind(&f.name)
        .bind(f.ram_mib)
        .bind(to_doc(f)?)
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub(crate) async fn save(tx: &mut Tx, f: &Flavor) -> Result<(), ComputeError> {
    sqlx::query("UPDATE compute_flavors SET doc = $1 WHERE id = $2")
        .bind(to_doc(f)?)
        .bind(&f.id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub(crate) async fn get(db: &Db, id: &str) -> Result<Option<Flavor>, ComputeError> {
    let doc: Option<String> = sqlx::query_scalar("SELECT doc FROM compute_flavors WHERE id = $1")
        .bind(id)
        .fetch_optional(db.read())
        .await?;
    doc.map(|d| of_doc(&d)).transpose()
}

/// A flavor, held until the transaction ends.
pub(crate) async fn lock(tx: &mut Tx, id: &str) -> Result<Option<Flavor>, ComputeError> {
    tx.lock(&format!("flavor:{id}")).await?;
    let doc: Option<String> = sqlx::query_scalar("SELECT doc FROM compute_flavors WHERE id = $1")
        .bind(id)
        .fetch_optional(tx.conn())
        .await?;
    doc.map(|d| of_doc(&d)).transpose()
}

pub(crate) async fn list(db: &Db) -> Result<Vec<Flavor>, ComputeError> {
    of_docs(sqlx::query_scalar("SELECT doc FROM compute_flavors ORDER BY id").fetch_all(db.read()).await?)
}

pub(crate) async fn names(tx: &mut Tx) -> Result<Vec<String>, ComputeError> {
    Ok(sqlx::query_scalar("SELECT name FROM compute_flavors").fetch_all(tx.conn()).await?)
}

/// Whether there was one.
pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<bool, ComputeError> {
    let done = sqlx::query("DELETE FROM compute_flavors WHERE id = $1").bind(id).execute(tx.conn()).await?;
    Ok(done.rows_affected() == 1)
}
