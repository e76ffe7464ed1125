//! The `compute_hosts` and `compute_consoles` tables.

use super::{of_doc, to_doc};
use crate::ComputeError;
use crate::model::Host;
use crate::wire::{ConsoleReply, ConsoleRequest};
use state::{Db, Timestamp, Tx};

type Row = (String, i64);

fn host((doc, seen_at): Row) -> Result<Host, ComputeError> {
    Ok(Host { seen_at: Timestamp(seen_at), ..of_doc(&doc)? })
}

/// Adds a host, or gives an existing one another secret.
pub(crate) async fn register(tx: &mut Tx, h: &Host, secret_hash: &str) -> Result<(), ComputeError> {
    sqlx::query(
        "INSERT INTO compute_hosts (name, id, secret_hash, seen_at, doc) VALUES ($1, $2, $3, 0, $4) \
         ON CONFLICT (name) DO UPDATE SET secret_hash = excluded.secret_hash",
    )
    .bind(&h.name)
    .bind(&h.id)
    .bind(secret_hash)
    .bind(to_doc(h)?)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn secret_hash(db: &Db, name: &str) -> Result<Option<String>, ComputeError> {
    Ok(sqlx::query_scalar("SELECT secret_hash FROM compute_hosts WHERE name = $1")
        .bind(name)
        .fetch_optional(db.read())
        .await?)
}

pub(crate) async fn list(db: &Db) -> Result<Vec<Host>, ComputeError> {
    let rows: Vec<Row> =
        sqlx::query_as("SELECT doc, seen_at FROM compute_hosts ORDER BY name").fetch_all(db.read()).await?;
    rows.into_iter().map(host).collect()
}

pub(crate) async fn list_tx(tx: &mut Tx) -> Result<Vec<Host>, ComputeError> {
    let rows: Vec<Row> =
        sqlx::query_as("SELECT doc, seen_at FROM compute_hosts ORDER BY name").fetch_all(tx.conn()).await?;
    rows.into_iter().map(host).collect()
}

pub(crate) async fn get(db: &Db, name: &str) -> Result<Option<Host>, ComputeError> {
    let row: Option<Row> = sqlx::query_as("SELECT doc, seen_at FROM compute_hosts WHERE name = $1")
        .bind(name)
        .fetch_optional(db.read())
        .await?;
    row.map(host).transpose()
}

pub(crate) async fn lock(tx: &mut Tx, name: &str) -> Result<Option<Host>, ComputeError> {
    tx.lock(&format!("host:{name}")).await?;
    let row: Option<Row> = sqlx::query_as("SELECT doc, seen_at FROM compute_hosts WHERE name = $1")
        .bind(name)
        .fetch_optional(tx.conn())
        .await?;
    row.map(host).transpose()
}

pub(crate) async fn save(tx: &mut Tx, h: &Host) -> Result<(), ComputeError> {
    sqlx::query("UPDATE compute_hosts SET doc = $1 WHERE name = $2")
        .bind(to_doc(h)?)
        .bind(&h.name)
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub(crate) async fn delete(tx: &mut Tx, name: &str) -> Result<(), ComputeError> {
    sqlx::query("DELETE FROM compute_hosts WHERE name = $1").bind(name).execute(tx.conn()).await?;
    Ok(())
}

/// The agent was heard.
pub(crate) async fn touch(tx: &mut Tx, name: &str, at: Timestamp) -> Result<(), ComputeError> {
    sqlx::query("UPDATE compute_hosts SET seen_at = $1 WHERE name = $2")
        .bind(at)
        .bind(name)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Asks a host for a console's end. Requests that nobody waits for any more go at the same time.
pub(crate) async fn ask_console(tx: &mut Tx, host: &str, ask: &ConsoleRequest) -> Result<(), ComputeError> {
    const KEEP_MICROS: i64 = 60_000_000;
    let now = Timestamp::now();
    sqlx::query("DELETE FROM compute_consoles WHERE created_at < $1")
        .bind(now.0 - KEEP_MICROS)
        .execute(tx.conn())
        .await?;
    sqlx::query(
        "INSERT INTO compute_consoles (request, host, server_id, bytes, created_at, answered, text) \
         VALUES ($1, $2, $3, $4, $5, FALSE, '')",
    )
    .bind(&ask.request)
    .bind(host)
    .bind(&ask.guest)
    .bind(i64::try_from(ask.bytes).unwrap_or(i64::MAX))
    .bind(now)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn consoles(db: &Db, host: &str) -> Result<Vec<ConsoleRequest>, ComputeError> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT request, server_id, bytes FROM compute_consoles WHERE host = $1 AND NOT answered ORDER BY request",
    )
    .bind(host)
    .fetch_all(db.read())
    .await?;
    let ask = |(request, guest, bytes): (String, String, i64)| ConsoleRequest {
        request,
        guest,
        bytes: u64::try_from(bytes).unwrap_or(0),
    };
    Ok(rows.into_iter().map(ask).collect())
}

/// The topic that is woken when a console's text has come.
pub(crate) fn console_topic(request: &str) -> String {
    format!("console:{request}")
}

/// Text comes only from the host that was asked.
pub(crate) async fn answer_console(
    tx: &mut Tx,
    host: &str,
    reply: &ConsoleReply,
) -> Result<(), ComputeError> {
    // PostgreSQL's text holds no NUL.
    let text = reply.text.clone().unwrap_or_default().replace('\0', "");
    sqlx::query("UPDATE compute_consoles SET answered = TRUE, text = $1 WHERE request = $2 AND host = $3")
        .bind(text)
        .bind(&reply.request)
        .bind(host)
        .execute(tx.conn())
        .await?;
    tx.wake(console_topic(&reply.request));
    Ok(())
}

pub(crate) async fn console_text(db: &Db, request: &str) -> Result<Option<String>, ComputeError> {
    Ok(sqlx::query_scalar("SELECT text FROM compute_consoles WHERE request = $1 AND answered")
        .bind(request)
        .fetch_optional(db.read())
        .await?)
}

pub(crate) async fn forget_console(tx: &mut Tx, request: &str) -> Result<(), ComputeError> {
    sqlx::query("DELETE FROM compute_consoles WHERE request = $1").bind(request).execute(tx.conn()).await?;
    Ok(())
}
