//! The `image_cache` table: which images are in the cache, and which are on their way into it.

use sqlx::{Any, AssertSqlSafe, Executor};
use state::{Db, StateError, Timestamp, Tx};

/// Where an image stands with the cache; the diagram is in `cache.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Queued,
    Cached,
    Dropped,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Cached => "cached",
            State::Dropped => "dropped",
        }
    }
}

/// One image's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) image_id: String,
    /// Tells it from an earlier or later row of the image.
    pub(crate) entry: String,
    /// Where the copy is, or is to be.
    pub(crate) tier: String,
    pub(crate) state: State,
    /// Bytes of the copy, once they are known.
    pub(crate) bytes: u64,
    /// Whole downloads since it is cached.
    pub(crate) hits: i64,
    /// When it came to its state.
    pub(crate) since: Timestamp,
    pub(crate) last_accessed: Timestamp,
    /// Bytes of the image, as uploaded.
    pub(crate) size: u64,
    /// The tier is one of the image's stores: nothing is there for the cache alone.
    pub(crate) stored: bool,
}

#[derive(sqlx::FromRow)]
struct Row {
    image_id: String,
    entry: String,
    tier: String,
    state: String,
    bytes: i64,
    hits: i64,
    since: Timestamp,
    last_accessed: Timestamp,
    size: Option<i64>,
    store: String,
    copies: String,
}

impl TryFrom<Row> for Entry {
    type Error = StateError;

    fn try_from(r: Row) -> Result<Entry, StateError> {
        let odd = || StateError::Corrupt(format!("image {}: cached {:?}", r.image_id, r.state));
        let states = [State::Queued, State::Cached, State::Dropped];
        Ok(Entry {
            state: states.into_iter().find(|s| s.as_str() == r.state).ok_or_else(odd)?,
            stored: r.store == r.tier || r.copies.split(',').any(|s| s == r.tier),
            bytes: u64::try_from(r.bytes).unwrap_or_default(),
            size: r.size.and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
            image_id: r.image_id,
            entry: r.entry,
            tier: r.tier,
            hits: r.hits,
            since: r.since,
            last_accessed: r.last_accessed,
        })
    }
}

const SELECT: &str = "SELECT c.image_id, c.entry, c.tier, c.state, c.bytes, c.hits, c.since, c.last_accessed, i.size, \
    i.store, i.copies FROM image_cache c JOIN images i ON i.id = c.image_id";

/// All there are, by image.
pub(crate) async fn all<'e>(executor: impl Executor<'e, Database = Any>) -> Result<Vec<Entry>, StateError> {
    let sql = format!("{SELECT} ORDER BY c.image_id");
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(executor).await?;
    rows.into_iter().map(Entry::try_from).collect()
}

pub(crate) async fn get<'e>(
    executor: impl Executor<'e, Database = Any>,
    image: &str,
) -> Result<Option<Entry>, StateError> {
    let sql = format!("{SELECT} WHERE c.image_id = $1");
    let row: Option<Row> = sqlx::query_as(AssertSqlSafe(sql)).bind(image).fetch_optional(executor).await?;
    row.map(Entry::try_from).transpose()
}

/// Adds an image that has no row.
pub(crate) async fn insert(
    tx: &mut Tx,
    image: &str,
    entry: &str,
    tier: &str,
    state: State,
) -> Result<(), StateError> {
    sqlx::query(
        "INSERT INTO image_cache (image_id, entry, tier, state, bytes, hits, since, last_accessed) \
         VALUES ($1, $2, $3, $4, 0, 0, $5, $5)",
    )
    .bind(image)
    .bind(entry)
    .bind(tier)
    .bind(state.as_str())
    .bind(Timestamp::now())
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// An image comes to another state.
pub(crate) async fn set(tx: &mut Tx, image: &str, state: State) -> Result<(), StateError> {
    sqlx::query(
        "UPDATE image_cache SET state = $1, hits = 0, since = $2, last_accessed = $2 WHERE image_id = $3",
    )
    .bind(state.as_str())
    .bind(Timestamp::now())
    .bind(image)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Says how many bytes an image's copy has, before it is made.
pub(crate) async fn weighed(tx: &mut Tx, image: &str, bytes: u64) -> Result<(), StateError> {
    sqlx::query("UPDATE image_cache SET bytes = $1 WHERE image_id = $2")
        .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
        .bind(image)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Forgets an image; the tier that may have something of it.
pub(crate) async fn take(tx: &mut Tx, image: &str) -> Result<Option<String>, StateError> {
    let tier = sqlx::query_scalar("DELETE FROM image_cache WHERE image_id = $1 RETURNING tier");
    Ok(tier.bind(image).fetch_optional(tx.conn()).await?)
}

/// Forgets an image that is in this tier, or on its way there.
pub(crate) async fn take_from(tx: &mut Tx, image: &str, tier: &str) -> Result<(), StateError> {
    sqlx::query("DELETE FROM image_cache WHERE image_id = $1 AND tier = $2")
        .bind(image)
        .bind(tier)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Notes that an image was used, as a hit or otherwise; false where it is not cached.
pub(crate) async fn used(db: &Db, image: &str, hits: i64) -> Result<bool, StateError> {
    let mut tx = db.begin().await?;
    let done = sqlx::query(
        "UPDATE image_cache SET hits = hits + $1, last_accessed = $2 WHERE image_id = $3 AND state = 'cached'",
    )
    .bind(hits)
    .bind(Timestamp::now())
    .bind(image)
    .execute(tx.conn())
    .await?;
    tx.commit().await?;
    Ok(done.rows_affected() == 1)
}
