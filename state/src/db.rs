//! The database handle and its write transactions.

use crate::{Engine, Signal, Signals, StateError};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, Executor};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// How long a request waits for a connection before it is told that the database is unavailable.
const ACQUIRE: Duration = Duration::from_secs(5);

/// A database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    pool: AnyPool,
    engine: Engine,
    signals: Signals,
    /// SQLite's writers queue here, in order, instead of polling its file lock.
    gate: Arc<Mutex<()>>,
}

impl Db {
    /// Opens `sqlite:///path/to/file` (made if absent) or `postgres://user@host/db`.
    pub async fn open(url: &str) -> Result<Db, StateError> {
        sqlx::any::install_default_drivers();
        let engine = Engine::of(url)
            .ok_or_else(|| StateError::Corrupt("database URL is neither sqlite: nor postgres:".into()))?;
        let full = match engine {
            Engine::Sqlite if !url.contains('?') => format!("{url}?mode=rwc"),
            _ => url.to_owned(),
        };
        let options = AnyConnectOptions::from_str(&full)?;
        let pool = AnyPoolOptions::new()
            .max_connections(engine.connections())
            .acquire_timeout(ACQUIRE)
            .after_connect(move |conn, _| {
                Box::pin(async move {
                    for statement in engine.on_connect() {
                        conn.execute(*statement).await?;
                    }
                    Ok(())
                })
            })
            .connect_with(options)
            .await?;
        let db = Db { pool, engine, signals: Signals::default(), gate: Arc::default() };
        if engine == Engine::Postgres {
            tokio::spawn(relay(url.to_owned(), db.signals.clone(), db.pool.clone()));
        }
        Ok(db)
    }

    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The executor for reads outside a transaction: `.fetch_all(db.read())`.
    pub fn read(&self) -> &AnyPool {
        &self.pool
    }

    /// Begins a write transaction. Dropped without [`Tx::commit`], it never happened.
    pub async fn begin(&self) -> Result<Tx, StateError> {
        let gate = match self.engine {
            Engine::Sqlite => Some(self.gate.clone().lock_owned().await),
            Engine::Postgres => None,
        };
        let inner = self.pool.begin_with(self.engine.begin()).await?;
        Ok(Tx { inner, engine: self.engine, signals: self.signals.clone(), wakes: Vec::new(), _gate: gate })
    }

    /// Listens to a topic.
    pub fn signal(&self, topic: &str) -> Signal {
        self.signals.subscribe(topic)
    }

    /// Wakes this process's listeners at once, without a transaction.
    pub fn wake(&self, topic: &str) {
        self.signals.wake(topic);
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StateError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Closes the connections; running transactions finish first.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A write transaction.
pub struct Tx {
    inner: sqlx::Transaction<'static, sqlx::Any>,
    engine: Engine,
    signals: Signals,
    wakes: Vec<String>,
    _gate: Option<OwnedMutexGuard<()>>,
}

impl Tx {
    /// The executor: `.execute(tx.conn())`.
    pub fn conn(&mut self) -> &mut AnyConnection {
        &mut self.inner
    }

    /// Holds `key` against every other transaction that locks it, until this one ends.
    pub async fn lock(&mut self, key: &str) -> Result<(), StateError> {
        if let Some(sql) = self.engine.lock_key() {
            sqlx::query(sql).bind(key.to_owned()).execute(&mut *self.inner).await?;
        }
        Ok(())
    }

    /// Wakes the listeners of `topic`, here and in every other process, once this transaction has committed.
    pub fn wake(&mut self, topic: impl Into<String>) {
        self.wakes.push(topic.into());
    }

    pub async fn commit(mut self) -> Result<(), StateError> {
        if let Some(sql) = self.engine.notify() {
            for topic in &self.wakes {
                sqlx::query(sql).bind(topic.clone()).execute(&mut *self.inner).await?;
            }
        }
        self.inner.commit().await?;
        for topic in &self.wakes {
            self.signals.wake(topic);
        }
        Ok(())
    }

    pub async fn rollback(self) -> Result<(), StateError> {
        Ok(self.inner.rollback().await?)
    }
}

/// Turns PostgreSQL's notifications into signals, for as long as the pool is open. While the connection is
/// away nothing is relayed: every listener has a tick of its own.
async fn relay(url: String, signals: Signals, pool: AnyPool) {
    const AGAIN: Duration = Duration::from_secs(2);
    while !pool.is_closed() {
        let listened = async {
            let mut listener = sqlx::postgres::PgListener::connect(&url).await?;
            listener.listen("aquifer").await?;
            loop {
                signals.wake(listener.recv().await?.payload());
            }
            #[allow(unreachable_code)]
            Ok::<(), sqlx::Error>(())
        };
        tokio::select! {
            () = pool.close_event() => return,
            ended = listened => if let Err(e) = ended {
                tracing::warn!(error = %e, "notifications are interrupted; listening again shortly");
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
