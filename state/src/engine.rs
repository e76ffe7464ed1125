//! Everything that SQLite and PostgreSQL do differently.

/// Which database serves a [`crate::Db`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    pub(crate) fn of(url: &str) -> Option<Self> {
        match url.split(':').next()? {
            "sqlite" => Some(Engine::Sqlite),
            "postgres" | "postgresql" => Some(Engine::Postgres),
            _ => None,
        }
    }

    /// A query whose only row is a text: a JSON array of the rows that `from` (tables, conditions, order and a limit)
    /// gives, in that order, each as an array of `columns` in theirs. A long list is read in a third of the time so: sqlx
    /// hands rows over one by one, from a thread to another with SQLite, and their columns one by one.
    pub fn json_rows(self, columns: &str, from: &str) -> String {
        let (row, rows) = match self {
            Engine::Sqlite => (format!("json_array({columns})"), "group_concat(line, ',')"),
            Engine::Postgres => {
                (format!("CAST(json_build_array({columns}) AS TEXT)"), "string_agg(line, ',')")
            }
        };
        format!("SELECT '[' || COALESCE({rows}, '') || ']' FROM (SELECT {row} AS line FROM {from}) AS page")
    }

    /// Connections a pool holds. SQLite has one writer at a time, its readers run beside it.
    pub(crate) fn connections(self) -> u32 {
        match self {
            Engine::Sqlite => 5,
            Engine::Postgres => 16,
        }
    }

    /// Run once on every new connection. `synchronous=FULL`: what was acknowledged survives a power cut.
    pub(crate) fn on_connect(self) -> &'static [&'static str] {
        match self {
            Engine::Sqlite => &[
                "PRAGMA busy_timeout = 20000",
                "PRAGMA journal_mode = WAL",
                "PRAGMA synchronous = FULL",
                "PRAGMA foreign_keys = ON",
                "PRAGMA cache_size = -1024",
                "PRAGMA temp_store = MEMORY",
            ],
            Engine::Postgres => &["SET lock_timeout = '20s'", "SET statement_timeout = '60s'"],
        }
    }

    /// How a write transaction begins. SQLite takes the write lock at once: a transaction that reads first
    /// and writes later would otherwise fail half-way when another wrote in between.
    pub(crate) fn begin(self) -> &'static str {
        match self {
            Engine::Sqlite => "BEGIN IMMEDIATE",
            Engine::Postgres => "BEGIN",
        }
    }

    /// Serialises the transactions that name the same key; under SQLite all are serial anyway.
    pub(crate) fn lock_key(self) -> Option<&'static str> {
        match self {
            Engine::Sqlite => None,
            Engine::Postgres => Some("SELECT CAST(pg_advisory_xact_lock(hashtextextended($1, 0)) AS TEXT)"),
        }
    }

    /// Wakes the other processes when the transaction commits.
    pub(crate) fn notify(self) -> Option<&'static str> {
        match self {
            Engine::Sqlite => None,
            Engine::Postgres => Some("SELECT CAST(pg_notify('aquifer', $1) AS TEXT)"),
        }
    }

    /// Fills in the words of the schema language that differ: `{{blob}}` and `BOOLEAN` (see [`crate::Flag`]).
    pub(crate) fn schema(self, text: &str) -> String {
        match self {
            Engine::Sqlite => text.replace("{{blob}}", "BLOB").replace(" BOOLEAN", " BIGINT"),
            Engine::Postgres => text.replace("{{blob}}", "BYTEA"),
        }
    }
}
