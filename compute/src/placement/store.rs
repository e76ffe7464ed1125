//! Placement's tables.

use crate::ComputeError;
use serde::{Deserialize, Serialize};
use state::{Db, Timestamp, Tx};
use std::collections::BTreeMap;

use super::Amounts;

/// Whoever has resources: a host, a pool, a part of either.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Provider {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Grows with every change; a change that names an older one is refused.
    pub(crate) generation: i64,
    pub(crate) parent_id: String,
    pub(crate) root_id: String,
    pub(crate) updated_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub(crate) struct Inventory {
    pub(crate) total: i64,
    pub(crate) reserved: i64,
    pub(crate) min_unit: i64,
    pub(crate) max_unit: i64,
    pub(crate) step_size: i64,
    pub(crate) allocation_ratio: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Consumer {
    pub(crate) id: String,
    pub(crate) project_id: String,
    pub(crate) user_id: String,
    pub(crate) kind: String,
    pub(crate) generation: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Allocation {
    pub(crate) consumer_id: String,
    pub(crate) provider_id: String,
    pub(crate) class: String,
    pub(crate) used: i64,
}

pub(crate) async fn has_standard(db: &Db) -> Result<bool, ComputeError> {
    let n: i64 =
        sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM placement_classes WHERE name = 'VCPU'")
            .fetch_one(db.read())
            .await?;
    Ok(n > 0)
}

/// Whether it is new.
pub(crate) async fn add_class(tx: &mut Tx, name: &str) -> Result<bool, ComputeError> {
    let done = sqlx::query("INSERT INTO placement_classes (name) VALUES ($1) ON CONFLICT (name) DO NOTHING")
        .bind(name)
        .execute(tx.conn())
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether it is new.
pub(crate) async fn add_trait(tx: &mut Tx, name: &str) -> Result<bool, ComputeError> {
    let done = sqlx::query("INSERT INTO placement_traits (name) VALUES ($1) ON CONFLICT (name) DO NOTHING")
        .bind(name)
        .execute(tx.conn())
        .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) async fn classes(tx: &mut Tx) -> Result<Vec<String>, ComputeError> {
    Ok(sqlx::query_scalar("SELECT name FROM placement_classes ORDER BY name").fetch_all(tx.conn()).await?)
}

pub(crate) async fn traits(tx: &mut Tx) -> Result<Vec<String>, ComputeError> {
    Ok(sqlx::query_scalar("SELECT name FROM placement_traits ORDER BY name").fetch_all(tx.conn()).await?)
}

pub(crate) async fn delete_class(tx: &mut Tx, name: &str) -> Result<(), ComputeError> {
    sqlx::query("DELETE FROM placement_classes WHERE name = $1").bind(name).execute(tx.conn()).await?;
    Ok(())
}

pub(crate) async fn delete_trait(tx: &mut Tx, name: &str) -> Result<(), ComputeError> {
    sqlx::query("DELETE FROM placement_traits WHERE name = $1").bind(name).execute(tx.conn()).await?;
    Ok(())
}

pub(crate) async fn class_in_use(tx: &mut Tx, name: &str) -> Result<bool, ComputeError> {
    let n: i64 =
        sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM placement_inventories WHERE class = $1")
            .bind(name)
            .fetch_one(tx.conn())
            .await?;
    Ok(n > 0)
}

pub(crate) async fn trait_in_use(tx: &mut Tx, name: &str) -> Result<bool, ComputeError> {
    let n: i64 =
        sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM placement_provider_traits WHERE trait = $1")
            .bind(name)
            .fetch_one(tx.conn())
            .await?;
    Ok(n > 0)
}

const PROVIDER: &str = "SELECT id, name, generation, parent_id, root_id, updated_at FROM placement_providers";

pub(crate) async fn provider(tx: &mut Tx, id: &str) -> Result<Option<Provider>, ComputeError> {
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(format!("{PROVIDER} WHERE id = $1")))
        .bind(id.to_owned())
        .fetch_optional(tx.conn())
        .await?)
}

pub(crate) async fn providers(tx: &mut Tx) -> Result<Vec<Provider>, ComputeError> {
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(format!("{PROVIDER} ORDER BY created_at, id")))
        .fetch_all(tx.conn())
        .await?)
}

/// A child of `parent`, or the root of a new tree.
pub(crate) async fn insert_provider(
    tx: &mut Tx,
    id: &str,
    name: &str,
    parent: Option<&Provider>,
) -> Result<(), ComputeError> {
    sqlx::query(
        "INSERT INTO placement_providers (id, name, generation, parent_id, root_id, created_at, updated_at) \
         VALUES ($1, $2, 0, $3, $4, $5, $5)",
    )
    .bind(id)
    .bind(name)
    .bind(parent.map(|p| p.id.as_str()).unwrap_or_default())
    .bind(parent.map_or(id, |p| p.root_id.as_str()))
    .bind(Timestamp::now())
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn rename_provider(
    tx: &mut Tx,
    id: &str,
    name: &str,
    parent: Option<&Provider>,
) -> Result<(), ComputeError> {
    sqlx::query(
        "UPDATE placement_providers SET name = $1, parent_id = $2, root_id = $3, updated_at = $4 WHERE id = $5",
    )
    .bind(name)
    .bind(parent.map(|p| p.id.as_str()).unwrap_or_default())
    .bind(parent.map_or(id, |p| p.root_id.as_str()))
    .bind(Timestamp::now())
    .bind(id)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn delete_provider(tx: &mut Tx, id: &str) -> Result<(), ComputeError> {
    for sql in [
        "DELETE FROM placement_inventories WHERE provider_id = $1",
        "DELETE FROM placement_provider_traits WHERE provider_id = $1",
        "DELETE FROM placement_provider_aggregates WHERE provider_id = $1",
        "DELETE FROM placement_providers WHERE id = $1",
    ] {
        sqlx::query(sql).bind(id).execute(tx.conn()).await?;
    }
    Ok(())
}

/// Something about the provider has changed.
pub(crate) async fn bump(tx: &mut Tx, id: &str) -> Result<(), ComputeError> {
    sqlx::query("UPDATE placement_providers SET generation = generation + 1, updated_at = $1 WHERE id = $2")
        .bind(Timestamp::now())
        .bind(id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct InventoryRow {
    provider_id: String,
    class: String,
    #[sqlx(flatten)]
    inventory: Inventory,
}

const INVENTORY: &str = "SELECT provider_id, class, total, reserved, min_unit, max_unit, step_size, \
    allocation_ratio FROM placement_inventories";

pub(crate) async fn inventories(tx: &mut Tx, id: &str) -> Result<BTreeMap<String, Inventory>, ComputeError> {
    let rows: Vec<InventoryRow> =
        sqlx::query_as(sqlx::AssertSqlSafe(format!("{INVENTORY} WHERE provider_id = $1")))
            .bind(id.to_owned())
            .fetch_all(tx.conn())
            .await?;
    Ok(rows.into_iter().map(|r| (r.class, r.inventory)).collect())
}

/// By provider, then class.
pub(crate) async fn all_inventories(
    tx: &mut Tx,
) -> Result<BTreeMap<String, BTreeMap<String, Inventory>>, ComputeError> {
    let rows: Vec<InventoryRow> = sqlx::query_as(INVENTORY).fetch_all(tx.conn()).await?;
    let mut all: BTreeMap<String, BTreeMap<String, Inventory>> = BTreeMap::new();
    for row in rows {
        all.entry(row.provider_id).or_default().insert(row.class, row.inventory);
    }
    Ok(all)
}

/// Replaces a provider's inventories as a whole.
pub(crate) async fn set_inventories(
    tx: &mut Tx,
    id: &str,
    inventories: &BTreeMap<String, Inventory>,
) -> Result<(), ComputeError> {
    sqlx::query("DELETE FROM placement_inventories WHERE provider_id = $1")
        .bind(id)
        .execute(tx.conn())
        .await?;
    for (class, i) in inventories {
        sqlx::query(
            "INSERT INTO placement_inventories (provider_id, class, total, reserved, min_unit, max_unit, \
             step_size, allocation_ratio) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(id)
        .bind(class)
        .bind(i.total)
        .bind(i.reserved)
        .bind(i.min_unit)
        .bind(i.max_unit)
        .bind(i.step_size)
        .bind(i.allocation_ratio)
        .execute(tx.conn())
        .await?;
    }
    bump(tx, id).await
}

/// What is used of every provider: by provider, then class.
pub(crate) async fn all_usages(tx: &mut Tx) -> Result<BTreeMap<String, Amounts>, ComputeError> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT provider_id, class, CAST(SUM(used) AS BIGINT) FROM placement_allocations \
         GROUP BY provider_id, class",
    )
    .fetch_all(tx.conn())
    .await?;
    let mut all: BTreeMap<String, Amounts> = BTreeMap::new();
    for (provider, class, used) in rows {
        all.entry(provider).or_default().insert(class, used);
    }
    Ok(all)
}

/// What a project, and of it a user where one is named, uses by kind of consumer, then class.
pub(crate) async fn usages_of(
    tx: &mut Tx,
    project: &str,
    user: Option<&str>,
) -> Result<Vec<(String, String, String, i64)>, ComputeError> {
    Ok(sqlx::query_as(
        "SELECT c.kind, a.consumer_id, a.class, a.used FROM placement_allocations a \
         JOIN placement_consumers c ON c.id = a.consumer_id WHERE c.project_id = $1 AND ($2 = '' OR c.user_id = $2)",
    )
    .bind(project)
    .bind(user.unwrap_or_default())
    .fetch_all(tx.conn())
    .await?)
}

pub(crate) async fn consumer(tx: &mut Tx, id: &str) -> Result<Option<Consumer>, ComputeError> {
    Ok(sqlx::query_as(
        "SELECT id, project_id, user_id, kind, generation FROM placement_consumers WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(tx.conn())
    .await?)
}

pub(crate) async fn allocations_of(tx: &mut Tx, consumer: &str) -> Result<Vec<Allocation>, ComputeError> {
    Ok(sqlx::query_as(
        "SELECT consumer_id, provider_id, class, used FROM placement_allocations WHERE consumer_id = $1",
    )
    .bind(consumer)
    .fetch_all(tx.conn())
    .await?)
}

pub(crate) async fn allocations_on(tx: &mut Tx, provider: &str) -> Result<Vec<Allocation>, ComputeError> {
    Ok(sqlx::query_as(
        "SELECT consumer_id, provider_id, class, used FROM placement_allocations WHERE provider_id = $1",
    )
    .bind(provider)
    .fetch_all(tx.conn())
    .await?)
}

/// Replaces a consumer's allocations as a whole; with none the consumer goes.
pub(crate) async fn set_allocations(
    tx: &mut Tx,
    consumer: &Consumer,
    amounts: &[(String, Amounts)],
) -> Result<(), ComputeError> {
    sqlx::query("DELETE FROM placement_allocations WHERE consumer_id = $1")
        .bind(&consumer.id)
        .execute(tx.conn())
        .await?;
    if amounts.iter().all(|(_, a)| a.is_empty()) {
        sqlx::query("DELETE FROM placement_consumers WHERE id = $1")
            .bind(&consumer.id)
            .execute(tx.conn())
            .await?;
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO placement_consumers (id, project_id, user_id, kind, generation) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (id) DO UPDATE SET project_id = excluded.project_id, user_id = excluded.user_id, \
         kind = excluded.kind, generation = excluded.generation",
    )
    .bind(&consumer.id)
    .bind(&consumer.project_id)
    .bind(&consumer.user_id)
    .bind(&consumer.kind)
    .bind(consumer.generation)
    .execute(tx.conn())
    .await?;
    for (provider, amounts) in amounts {
        for (class, used) in amounts.iter().filter(|(_, used)| **used > 0) {
            sqlx::query(
                "INSERT INTO placement_allocations (consumer_id, provider_id, class, used) VALUES ($1, $2, $3, $4)",
            )
            .bind(&consumer.id)
            .bind(provider)
            .bind(class)
            .bind(*used)
            .execute(tx.conn())
            .await?;
        }
        bump(tx, provider).await?;
    }
    Ok(())
}

/// What a provider has any number of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    Traits,
    Aggregates,
}

impl Set {
    /// The table, and the column beside the provider's id.
    fn table(self) -> (&'static str, &'static str) {
        match self {
            Set::Traits => ("placement_provider_traits", "trait"),
            Set::Aggregates => ("placement_provider_aggregates", "aggregate_id"),
        }
    }
}

/// A provider's traits or aggregates, sorted.
pub(crate) async fn members(tx: &mut Tx, set: Set, provider: &str) -> Result<Vec<String>, ComputeError> {
    let (table, column) = set.table();
    let sql = format!("SELECT {column} FROM {table} WHERE provider_id = $1 ORDER BY {column}");
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(provider).fetch_all(tx.conn()).await?)
}

/// Makes a provider's traits or aggregates these and no others.
pub(crate) async fn set_members(
    tx: &mut Tx,
    set: Set,
    provider: &str,
    members: &[String],
) -> Result<(), ComputeError> {
    let (table, column) = set.table();
    let sql = format!("DELETE FROM {table} WHERE provider_id = $1");
    sqlx::query(sqlx::AssertSqlSafe(sql)).bind(provider).execute(tx.conn()).await?;
    for member in members {
        let sql = format!(
            "INSERT INTO {table} (provider_id, {column}) VALUES ($1, $2) ON CONFLICT (provider_id, {column}) DO NOTHING"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(provider).bind(member).execute(tx.conn()).await?;
    }
    bump(tx, provider).await
}
