//! SQL. Every noun's table has an id, a few searchable columns, a revision and the noun as a JSON document,
//! so one set of functions serves all of them; what has tables of its own (addresses, dirty marks, quotas)
//! has a file of its own.

pub(crate) mod addresses;
pub(crate) mod dirty;
mod nouns;
pub(crate) mod quotas;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::{Any, AssertSqlSafe, Executor, Row as _};
use state::{Migrations, StateError, Timestamp, Tx};

use crate::NetError;
use crate::error::Noun;
use crate::model::Meta;

/// This crate's tables.
pub static MIGRATIONS: Migrations = Migrations {
    service: "network",
    steps: &[("0001_network", include_str!("../../migrations/0001_network.sql"))],
};

/// A noun with a table.
pub(crate) trait Entity: Serialize + DeserializeOwned + Send + Sync + Unpin {
    const TABLE: &'static str;
    const NOUN: Noun;
    /// The searchable columns beside `id`, `revision` and `body`.
    const COLUMNS: &'static [&'static str];

    /// Their values, in that order.
    fn columns(&self) -> Vec<Option<String>>;
    fn meta(&self) -> &Meta;
    fn meta_mut(&mut self) -> &mut Meta;
}

fn read<E: Entity>(row: &sqlx::any::AnyRow) -> Result<E, NetError> {
    let body: String = row.try_get("body")?;
    Ok(serde_json::from_str(&body)?)
}

/// The row of an id.
pub(crate) async fn get<'e, E: Entity>(
    db: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<Option<E>, NetError> {
    let sql = format!("SELECT body FROM {} WHERE id = $1", E::TABLE);
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id.to_owned()).fetch_optional(db).await?;
    row.as_ref().map(read).transpose()
}

/// The row of an id, locked against other writers until the transaction ends.
pub(crate) async fn get_locked<E: Entity>(tx: &mut Tx, id: &str) -> Result<Option<E>, NetError> {
    tx.lock(&format!("{}:{id}", E::TABLE)).await?;
    get(tx.conn(), id).await
}

/// The rows that meet a condition on the columns, with `$1 …` bound to `values`; oldest first is not promised.
pub(crate) async fn find<'e, E: Entity>(
    db: impl Executor<'e, Database = Any>,
    condition: &str,
    values: &[&str],
) -> Result<Vec<E>, NetError> {
    let sql = format!("SELECT body FROM {} WHERE {condition}", E::TABLE);
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for value in values {
        query = query.bind((*value).to_owned());
    }
    query.fetch_all(db).await?.iter().map(read).collect()
}

/// How many rows meet a condition.
pub(crate) async fn count<'e>(
    db: impl Executor<'e, Database = Any>,
    table: &str,
    condition: &str,
    values: &[&str],
) -> Result<i64, NetError> {
    let sql = format!("SELECT CAST(COUNT(*) AS BIGINT) FROM {table} WHERE {condition}");
    let mut query = sqlx::query_scalar(AssertSqlSafe(sql));
    for value in values {
        query = query.bind((*value).to_owned());
    }
    Ok(query.fetch_one(db).await?)
}

pub(crate) async fn insert<E: Entity>(tx: &mut Tx, noun: &E) -> Result<(), NetError> {
    let columns = E::COLUMNS.join(", ");
    let places: Vec<String> = (4..4 + E::COLUMNS.len()).map(|n| format!("${n}")).collect();
    let sql = format!(
        "INSERT INTO {} (id, revision, body, {columns}) VALUES ($1, $2, $3, {})",
        E::TABLE,
        places.join(", ")
    );
    let mut query = sqlx::query(AssertSqlSafe(sql))
        .bind(noun.meta().id.clone())
        .bind(noun.meta().revision_number)
        .bind(serde_json::to_string(noun)?);
    for value in noun.columns() {
        query = query.bind(value);
    }
    query.execute(tx.conn()).await?;
    Ok(())
}

/// Writes a changed noun with the next revision.
pub(crate) async fn update<E: Entity>(tx: &mut Tx, noun: &mut E) -> Result<(), NetError> {
    noun.meta_mut().updated_at = Timestamp::now();
    noun.meta_mut().revision_number += 1;
    write(tx, noun, noun.meta().revision_number - 1).await
}

/// Writes what is not the tenant's doing (a port's status): the revision stays.
pub(crate) async fn update_quietly<E: Entity>(tx: &mut Tx, noun: &E) -> Result<(), NetError> {
    write(tx, noun, noun.meta().revision_number).await
}

async fn write<E: Entity>(tx: &mut Tx, noun: &E, seen: i64) -> Result<(), NetError> {
    let columns: Vec<String> =
        E::COLUMNS.iter().enumerate().map(|(i, column)| format!("{column} = ${}", i + 5)).collect();
    let sql = format!(
        "UPDATE {} SET revision = $1, body = $2, {} WHERE id = $3 AND revision = $4",
        E::TABLE,
        columns.join(", ")
    );
    let mut query = sqlx::query(AssertSqlSafe(sql))
        .bind(noun.meta().revision_number)
        .bind(serde_json::to_string(noun)?)
        .bind(noun.meta().id.clone())
        .bind(seen);
    for value in noun.columns() {
        query = query.bind(value);
    }
    match query.execute(tx.conn()).await?.rows_affected() {
        0 => Err(E::NOUN.not_found(&noun.meta().id)),
        _ => Ok(()),
    }
}

pub(crate) async fn delete<E: Entity>(tx: &mut Tx, id: &str) -> Result<(), NetError> {
    let sql = format!("DELETE FROM {} WHERE id = $1", E::TABLE);
    sqlx::query(AssertSqlSafe(sql)).bind(id.to_owned()).execute(tx.conn()).await?;
    Ok(())
}

/// Whether a write met a unique index or a foreign key.
pub(crate) fn is_conflict(error: &NetError) -> bool {
    matches!(error, NetError::State(StateError::Conflict(_)))
}
