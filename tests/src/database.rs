//! Fresh databases, one per engine, so that every test of rows runs on both.

use sqlx::{AssertSqlSafe, Connection, Executor};
use state::Db;

/// A fresh SQLite database and, where this run has a PostgreSQL, a fresh one there.
///
/// # Panics
/// When a database cannot be made: a test cannot go on without.
pub async fn databases() -> Vec<Db> {
    let name = crate::unique("db").replace('-', "_");
    let file = std::env::temp_dir().join(format!("aquifer-test-{name}.sqlite"));
    let mut all = vec![open(&format!("sqlite://{}", file.display())).await];
    if std::env::var_os("AQUIFER_TEST_PG").is_some() {
        all.push(open(&database_url().await).await);
    }
    all
}

/// The URL of a fresh, empty PostgreSQL database, for a program that opens it itself.
///
/// # Panics
/// Where this run has no PostgreSQL.
pub async fn database_url() -> String {
    let server =
        std::env::var("AQUIFER_TEST_PG").unwrap_or_else(|_| panic!("no test PostgreSQL: run `make test`"));
    let name = crate::unique("db").replace('-', "_");
    let mut admin = sqlx::PgConnection::connect(&server).await.unwrap_or_else(|e| panic!("{server}: {e}"));
    let create = format!("CREATE DATABASE {name}");
    admin.execute(AssertSqlSafe(create)).await.unwrap_or_else(|e| panic!("CREATE DATABASE: {e}"));
    let (base, _) = server.rsplit_once('/').unwrap_or((&server, ""));
    format!("{base}/{name}")
}

async fn open(url: &str) -> Db {
    let db = Db::open(url).await.unwrap_or_else(|e| panic!("{url}: {e}"));
    db.migrate(&state::tasks::MIGRATIONS).await.unwrap_or_else(|e| panic!("{url}: {e}"));
    db
}
