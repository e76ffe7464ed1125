//! The `images` table, and the tables of properties and tags that filters look into.

use crate::model::{Form, Image, Status, Visibility};
use serde::Deserialize;
use sqlx::{Any, AssertSqlSafe, Executor};
use state::{Db, StateError, Timestamp, Tx};

pub(crate) const COLUMNS: &str = "i.id, i.name, i.status, i.visibility, i.owner, i.size, i.virtual_size, \
    i.disk_format, i.container_format, i.checksum, i.os_hash_algo, i.os_hash_value, i.min_disk, i.min_ram, \
    i.protected, i.os_hidden, i.properties, i.tags, i.store, i.copies, i.form, i.created_at, i.updated_at";

/// In the order of [`COLUMNS`]: a list's rows come as arrays.
#[derive(sqlx::FromRow, Deserialize)]
pub(crate) struct Row {
    id: String,
    name: Option<String>,
    status: String,
    visibility: String,
    owner: Option<String>,
    size: Option<i64>,
    virtual_size: Option<i64>,
    disk_format: Option<String>,
    container_format: Option<String>,
    checksum: Option<String>,
    os_hash_algo: Option<String>,
    os_hash_value: Option<String>,
    min_disk: i64,
    min_ram: i64,
    protected: i64,
    os_hidden: i64,
    properties: String,
    tags: String,
    store: String,
    copies: String,
    form: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl TryFrom<Row> for Image {
    type Error = StateError;

    fn try_from(r: Row) -> Result<Image, StateError> {
        let odd = |what: &str, value: &str| StateError::Corrupt(format!("image {}: {what} {value:?}", r.id));
        let bytes = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
        Ok(Image {
            status: Status::parse(&r.status).ok_or_else(|| odd("status", &r.status))?,
            visibility: Visibility::parse(&r.visibility).ok_or_else(|| odd("visibility", &r.visibility))?,
            form: Form::parse(&r.form).ok_or_else(|| odd("form", &r.form))?,
            properties: serde_json::from_str(&r.properties)?,
            tags: serde_json::from_str(&r.tags)?,
            size: bytes(r.size),
            virtual_size: bytes(r.virtual_size),
            min_disk: u32::try_from(r.min_disk).unwrap_or_default(),
            min_ram: u32::try_from(r.min_ram).unwrap_or_default(),
            id: r.id,
            name: r.name,
            owner: r.owner,
            disk_format: r.disk_format,
            container_format: r.container_format,
            checksum: r.checksum,
            os_hash_algo: r.os_hash_algo,
            os_hash_value: r.os_hash_value,
            protected: r.protected != 0,
            os_hidden: r.os_hidden != 0,
            store: r.store,
            copies: r.copies.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect(),
            created_at: r.created_at,
            updated_at: r.updated_at,
        })
    }
}

fn signed(n: Option<u64>) -> Option<i64> {
    n.map(|n| i64::try_from(n).unwrap_or(i64::MAX))
}

/// Adds an image; `Conflict` where the id is taken, also by an image whose deletion is not done.
pub(crate) async fn insert(tx: &mut Tx, image: &Image) -> Result<(), StateError> {
    const SQL: &str = "INSERT INTO images (name, status, visibility, owner, size, virtual_size, disk_format, \
        container_format, checksum, os_hash_algo, os_hash_value, min_disk, min_ram, protected, os_hidden, properties, \
        tags, store, form, created_at, updated_at, copies, id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, \
        $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)";
    write(tx, SQL, image).await?;
    index(tx, image).await
}

/// Writes every column of an image that was read in this transaction, under its lock.
pub(crate) async fn update(tx: &mut Tx, image: &Image) -> Result<(), StateError> {
    const SQL: &str = "UPDATE images SET name = $1, status = $2, visibility = $3, owner = $4, size = $5, \
        virtual_size = $6, disk_format = $7, container_format = $8, checksum = $9, os_hash_algo = $10, \
        os_hash_value = $11, min_disk = $12, min_ram = $13, protected = $14, os_hidden = $15, properties = $16, \
        tags = $17, store = $18, form = $19, created_at = $20, updated_at = $21, copies = $22 WHERE id = $23";
    write(tx, SQL, image).await?;
    unindex(tx, &image.id).await?;
    index(tx, image).await
}

async fn write(tx: &mut Tx, sql: &'static str, image: &Image) -> Result<(), StateError> {
    sqlx::query(sql)
        .bind(&image.name)
        .bind(image.status.as_str())
        .bind(image.visibility.as_str())
        .bind(&image.owner)
        .bind(signed(image.size))
        .bind(signed(image.virtual_size))
        .bind(&image.disk_format)
        .bind(&image.container_format)
        .bind(&image.checksum)
        .bind(&image.os_hash_algo)
        .bind(&image.os_hash_value)
        .bind(i64::from(image.min_disk))
        .bind(i64::from(image.min_ram))
        .bind(i64::from(image.protected))
        .bind(i64::from(image.os_hidden))
        .bind(serde_json::to_string(&image.properties)?)
        .bind(serde_json::to_string(&image.tags)?)
        .bind(&image.store)
        .bind(image.form.as_str())
        .bind(image.created_at)
        .bind(image.updated_at)
        .bind(image.copies.join(","))
        .bind(&image.id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

async fn index(tx: &mut Tx, image: &Image) -> Result<(), StateError> {
    for (name, value) in &image.properties {
        sqlx::query("INSERT INTO image_properties (image_id, name, value) VALUES ($1, $2, $3)")
            .bind(&image.id)
            .bind(name)
            .bind(value)
            .execute(tx.conn())
            .await?;
    }
    for tag in &image.tags {
        sqlx::query("INSERT INTO image_tags (image_id, tag) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(&image.id)
            .bind(tag)
            .execute(tx.conn())
            .await?;
    }
    Ok(())
}

async fn unindex(tx: &mut Tx, id: &str) -> Result<(), StateError> {
    for sql in
        ["DELETE FROM image_properties WHERE image_id = $1", "DELETE FROM image_tags WHERE image_id = $1"]
    {
        sqlx::query(sql).bind(id).execute(tx.conn()).await?;
    }
    Ok(())
}

async fn fetch<'e>(
    executor: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<Option<Image>, StateError> {
    let sql = format!("SELECT {COLUMNS} FROM images i WHERE i.id = $1");
    let row: Option<Row> = sqlx::query_as(AssertSqlSafe(sql)).bind(id).fetch_optional(executor).await?;
    row.map(Image::try_from).transpose()
}

/// The image, unless it is deleted.
pub(crate) async fn get(db: &Db, id: &str) -> Result<Option<Image>, StateError> {
    Ok(fetch(db.read(), id).await?.filter(|i| i.status != Status::Deleted))
}

/// The image, locked against every other writer of it until the transaction ends.
pub(crate) async fn get_locked(tx: &mut Tx, id: &str) -> Result<Option<Image>, StateError> {
    tx.lock(&format!("image:{id}")).await?;
    Ok(fetch(tx.conn(), id).await?.filter(|i| i.status != Status::Deleted))
}

/// Forgets everything about an image but its finished tasks.
pub(crate) async fn remove(tx: &mut Tx, id: &str) -> Result<(), StateError> {
    unindex(tx, id).await?;
    for sql in [
        "DELETE FROM image_members WHERE image_id = $1",
        "DELETE FROM image_uploads WHERE image_id = $1",
        "DELETE FROM image_tasks WHERE image_id = $1",
        "DELETE FROM images WHERE id = $1",
    ] {
        sqlx::query(sql).bind(id).execute(tx.conn()).await?;
    }
    Ok(())
}

/// The first image of this name that belongs to `owner` (or to nobody), newest last.
pub(crate) async fn by_name(
    tx: &mut Tx,
    name: &str,
    owner: Option<&str>,
) -> Result<Option<Image>, StateError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM images i WHERE i.name = $1 AND COALESCE(i.owner, '') = $2 AND i.status <> 'deleted' \
         ORDER BY i.created_at, i.id LIMIT 1"
    );
    let row: Option<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(name)
        .bind(owner.unwrap_or_default())
        .fetch_optional(tx.conn())
        .await?;
    row.map(Image::try_from).transpose()
}

/// What a project's images take: how many there are, how many are being filled, and their bytes together, in each
/// store that has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Usage {
    pub(crate) images: i64,
    pub(crate) uploading: i64,
    pub(crate) bytes: i64,
}

pub(crate) async fn usage<'e>(
    executor: impl Executor<'e, Database = Any>,
    owner: &str,
) -> Result<Usage, StateError> {
    Ok(sqlx::query_as(
        "SELECT CAST(COUNT(*) AS BIGINT) AS images, \
         CAST(COALESCE(SUM(CASE WHEN status IN ('saving', 'uploading', 'importing') THEN 1 ELSE 0 END), 0) AS BIGINT) \
         AS uploading, CAST(COALESCE(SUM(COALESCE(size, 0) * (1 + CASE WHEN copies = '' THEN 0 \
         ELSE 1 + LENGTH(copies) - LENGTH(REPLACE(copies, ',', '')) END)), 0) AS BIGINT) AS bytes \
         FROM images WHERE owner = $1 AND status <> 'deleted'",
    )
    .bind(owner)
    .fetch_one(executor)
    .await?)
}
