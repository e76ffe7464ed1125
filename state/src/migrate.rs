//! Schema migrations: each service brings its own numbered steps, applied once, in order.

use crate::{Db, StateError, Timestamp};
use sqlx::{AssertSqlSafe, Executor};

/// One service's migrations: `(name, text)` in order. A text is never changed once it has landed.
pub struct Migrations {
    pub service: &'static str,
    pub steps: &'static [(&'static str, &'static str)],
}

impl Db {
    /// Applies what is missing. Safe to call from several processes at once.
    pub async fn migrate(&self, set: &Migrations) -> Result<(), StateError> {
        let mut tx = self.begin().await?;
        tx.lock("migrate").await?;
        tx.conn()
            .execute(
                "CREATE TABLE IF NOT EXISTS schema_migrations (service TEXT NOT NULL, name TEXT NOT NULL, \
                 applied_at BIGINT NOT NULL, PRIMARY KEY (service, name))",
            )
            .await?;
        let done: Vec<String> =
            sqlx::query_scalar("SELECT name FROM schema_migrations WHERE service = $1 ORDER BY name")
                .bind(set.service)
                .fetch_all(tx.conn())
                .await?;
        if let Some(unknown) = done.iter().find(|d| !set.steps.iter().any(|(n, _)| n == d)) {
            return Err(StateError::Migration(format!(
                "{}/{unknown} was applied by a newer version of this program",
                set.service
            )));
        }
        for (name, text) in set.steps.iter().filter(|(n, _)| !done.iter().any(|d| d == n)) {
            let text = self.engine().schema(text);
            for statement in statements(&text) {
                tx.conn().execute(AssertSqlSafe(statement.to_owned())).await?;
            }
            sqlx::query("INSERT INTO schema_migrations (service, name, applied_at) VALUES ($1, $2, $3)")
                .bind(set.service)
                .bind(*name)
                .bind(Timestamp::now())
                .execute(tx.conn())
                .await?;
        }
        tx.commit().await
    }
}

/// Splits a migration at `;` line ends. Migrations hold plain statements: no triggers, no `;` in literals.
fn statements(text: &str) -> impl Iterator<Item = &str> {
    text.split(";\n").map(str::trim).filter(|s| {
        s.lines().any(|l| {
            let l = l.trim();
            !l.is_empty() && !l.starts_with("--") && l != ";"
        })
    })
}
