//! The tables of metadata definitions.

use crate::metadefs::{Item, Kind, Namespace};
use serde_json::{Map, Value};
use state::{Db, StateError, Timestamp, Tx};

const NAMESPACE: &str = "SELECT name, display_name, description, visibility, protected, owner, created_at, updated_at \
    FROM metadef_namespaces";
const ITEM: &str = "SELECT name, body, created_at, updated_at FROM metadef_items";

#[derive(sqlx::FromRow)]
struct NamespaceRow {
    name: String,
    display_name: Option<String>,
    description: Option<String>,
    visibility: String,
    protected: i64,
    owner: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<NamespaceRow> for Namespace {
    fn from(r: NamespaceRow) -> Namespace {
        Namespace {
            name: r.name,
            display_name: r.display_name,
            description: r.description,
            public: r.visibility == "public",
            protected: r.protected != 0,
            owner: r.owner,
            created_at: r.created_at,
            updated_at: r.updated_at,
        }
    }
}

#[derive(sqlx::FromRow)]
struct ItemRow {
    name: String,
    body: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl TryFrom<ItemRow> for Item {
    type Error = StateError;

    fn try_from(r: ItemRow) -> Result<Item, StateError> {
        let body: Map<String, Value> = serde_json::from_str(&r.body)
            .map_err(|_| StateError::Corrupt(format!("metadata definition {:?}", r.name)))?;
        Ok(Item { name: r.name, body, created_at: r.created_at, updated_at: r.updated_at })
    }
}

pub(crate) async fn namespaces(db: &Db) -> Result<Vec<Namespace>, StateError> {
    let rows: Vec<NamespaceRow> = sqlx::query_as(NAMESPACE).fetch_all(db.read()).await?;
    Ok(rows.into_iter().map(Namespace::from).collect())
}

pub(crate) async fn namespace(db: &Db, name: &str) -> Result<Option<Namespace>, StateError> {
    let sql = sqlx::AssertSqlSafe(format!("{NAMESPACE} WHERE name = $1"));
    let row: Option<NamespaceRow> = sqlx::query_as(sql).bind(name).fetch_optional(db.read()).await?;
    Ok(row.map(Namespace::from))
}

/// `Conflict` where there is one of this name.
pub(crate) async fn insert_namespace(tx: &mut Tx, n: &Namespace) -> Result<(), StateError> {
    sqlx::query(
        "INSERT INTO metadef_namespaces (name, display_name, description, visibility, protected, owner, created_at, \
         updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(&n.name)
    .bind(&n.display_name)
    .bind(&n.description)
    .bind(n.visibility())
    .bind(i64::from(n.protected))
    .bind(&n.owner)
    .bind(n.created_at)
    .bind(n.updated_at)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Writes a namespace that was called `name`; false where there is none.
pub(crate) async fn update_namespace(tx: &mut Tx, name: &str, n: &Namespace) -> Result<bool, StateError> {
    let done = sqlx::query(
        "UPDATE metadef_namespaces SET name = $1, display_name = $2, description = $3, visibility = $4, \
         protected = $5, owner = $6, updated_at = $7 WHERE name = $8",
    )
    .bind(&n.name)
    .bind(&n.display_name)
    .bind(&n.description)
    .bind(n.visibility())
    .bind(i64::from(n.protected))
    .bind(&n.owner)
    .bind(n.updated_at)
    .bind(name)
    .execute(tx.conn())
    .await?;
    if n.name != name {
        sqlx::query("UPDATE metadef_items SET namespace = $1 WHERE namespace = $2")
            .bind(&n.name)
            .bind(name)
            .execute(tx.conn())
            .await?;
    }
    Ok(done.rows_affected() == 1)
}

/// Removes a namespace with all that is in it; false where there was none.
pub(crate) async fn remove_namespace(tx: &mut Tx, name: &str) -> Result<bool, StateError> {
    sqlx::query("DELETE FROM metadef_items WHERE namespace = $1").bind(name).execute(tx.conn()).await?;
    let done =
        sqlx::query("DELETE FROM metadef_namespaces WHERE name = $1").bind(name).execute(tx.conn()).await?;
    Ok(done.rows_affected() == 1)
}

/// What of a kind is in a namespace, by name.
pub(crate) async fn items(db: &Db, namespace: &str, kind: Kind) -> Result<Vec<Item>, StateError> {
    let sql = sqlx::AssertSqlSafe(format!("{ITEM} WHERE namespace = $1 AND kind = $2 ORDER BY name"));
    let rows: Vec<ItemRow> =
        sqlx::query_as(sql).bind(namespace).bind(kind.word()).fetch_all(db.read()).await?;
    rows.into_iter().map(Item::try_from).collect()
}

pub(crate) async fn item(
    db: &Db,
    namespace: &str,
    kind: Kind,
    name: &str,
) -> Result<Option<Item>, StateError> {
    let sql = sqlx::AssertSqlSafe(format!("{ITEM} WHERE namespace = $1 AND kind = $2 AND name = $3"));
    let query = sqlx::query_as(sql).bind(namespace).bind(kind.word()).bind(name);
    let row: Option<ItemRow> = query.fetch_optional(db.read()).await?;
    row.map(Item::try_from).transpose()
}

/// `Conflict` where there is one of this name.
pub(crate) async fn insert_item(
    tx: &mut Tx,
    namespace: &str,
    kind: Kind,
    i: &Item,
) -> Result<(), StateError> {
    sqlx::query(
        "INSERT INTO metadef_items (namespace, kind, name, body, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(namespace)
    .bind(kind.word())
    .bind(&i.name)
    .bind(Value::Object(i.body.clone()).to_string())
    .bind(i.created_at)
    .bind(i.updated_at)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Writes an item that was called `name`; false where there is none.
pub(crate) async fn update_item(
    tx: &mut Tx,
    namespace: &str,
    kind: Kind,
    name: &str,
    i: &Item,
) -> Result<bool, StateError> {
    let done = sqlx::query(
        "UPDATE metadef_items SET name = $1, body = $2, updated_at = $3 \
         WHERE namespace = $4 AND kind = $5 AND name = $6",
    )
    .bind(&i.name)
    .bind(Value::Object(i.body.clone()).to_string())
    .bind(i.updated_at)
    .bind(namespace)
    .bind(kind.word())
    .bind(name)
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// False where there was none.
pub(crate) async fn remove_item(
    tx: &mut Tx,
    namespace: &str,
    kind: Kind,
    name: &str,
) -> Result<bool, StateError> {
    let done = sqlx::query("DELETE FROM metadef_items WHERE namespace = $1 AND kind = $2 AND name = $3")
        .bind(namespace)
        .bind(kind.word())
        .bind(name)
        .execute(tx.conn())
        .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) async fn clear(tx: &mut Tx, namespace: &str, kind: Kind) -> Result<(), StateError> {
    sqlx::query("DELETE FROM metadef_items WHERE namespace = $1 AND kind = $2")
        .bind(namespace)
        .bind(kind.word())
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Every resource type that some namespace is for, with the times of its first association.
pub(crate) async fn resource_types(db: &Db) -> Result<Vec<(String, Timestamp)>, StateError> {
    let sql = "SELECT name, MIN(created_at) FROM metadef_items WHERE kind = 'resource_type' GROUP BY name";
    let rows: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(db.read()).await?;
    Ok(rows.into_iter().map(|(name, at)| (name, Timestamp(at))).collect())
}

/// The namespaces that are for one of these resource types.
pub(crate) async fn for_resource_type(db: &Db, resource_type: &str) -> Result<Vec<String>, StateError> {
    let sql = "SELECT namespace FROM metadef_items WHERE kind = 'resource_type' AND name = $1";
    Ok(sqlx::query_scalar(sql).bind(resource_type).fetch_all(db.read()).await?)
}
