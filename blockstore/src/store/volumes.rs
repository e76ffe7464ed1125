//! The `volumes` table.

use super::sql::{Arg, At, Where, from_json, to_json};
use crate::VolumeError;
use crate::group_types::CONSISTENT;
use crate::model::{Metadata, Volume};
use crate::status::VolumeStatus;
use api::Page;
use serde::Deserialize;
use sqlx::{Any, Executor};
use state::{Db, Flag, Timestamp, Tx};

const COLUMNS: &str = "v.id, v.project_id, v.user_id, v.size, v.growth, v.status, v.previous_status, v.name, \
    v.description, v.type_id, COALESCE(t.name, '') AS type_name, v.tier, v.zone, v.bootable, v.multiattach, \
    v.metadata, v.admin_metadata, v.image_metadata, v.snapshot_id, v.source_volid, v.group_id, k.name AS group_type, \
    v.encryption_key_id, v.migration_status, v.replication_status, v.home_tier, v.created_at, v.updated_at";
const TABLES: &str = "volumes v LEFT JOIN volume_types t ON t.id = v.type_id \
    LEFT JOIN volume_groups g ON g.id = v.group_id LEFT JOIN volume_group_types k ON k.id = g.group_type_id";

fn select() -> String {
    format!("SELECT {COLUMNS} FROM {TABLES}")
}

/// In the order of [`COLUMNS`]: a list's rows come as arrays.
#[derive(sqlx::FromRow, Deserialize)]
struct Row {
    id: String,
    project_id: String,
    user_id: String,
    size: i64,
    growth: i64,
    status: String,
    previous_status: String,
    name: Option<String>,
    description: Option<String>,
    type_id: String,
    type_name: String,
    tier: String,
    zone: String,
    bootable: Flag,
    multiattach: Flag,
    metadata: String,
    admin_metadata: String,
    image_metadata: String,
    snapshot_id: Option<String>,
    source_volid: Option<String>,
    group_id: Option<String>,
    group_type: Option<String>,
    encryption_key_id: Option<String>,
    migration_status: Option<String>,
    replication_status: Option<String>,
    home_tier: Option<String>,
    created_at: Timestamp,
    updated_at: Option<i64>,
}

impl TryFrom<Row> for Volume {
    type Error = VolumeError;
    fn try_from(r: Row) -> Result<Volume, VolumeError> {
        let previous = if r.previous_status.is_empty() { None } else { Some(r.previous_status.parse()?) };
        Ok(Volume {
            id: r.id,
            project_id: r.project_id,
            user_id: r.user_id,
            size_gib: r.size,
            growth: r.growth,
            status: r.status.parse()?,
            previous_status: previous,
            name: r.name,
            description: r.description,
            type_id: r.type_id,
            type_name: r.type_name,
            tier: r.tier,
            zone: r.zone,
            bootable: r.bootable.0,
            multiattach: r.multiattach.0,
            metadata: from_json(&r.metadata)?,
            admin_metadata: from_json(&r.admin_metadata)?,
            image_metadata: from_json(&r.image_metadata)?,
            snapshot_id: r.snapshot_id,
            source_volid: r.source_volid,
            group_id: r.group_id,
            in_consistency_group: r.group_type.as_deref() == Some(CONSISTENT),
            encryption_key_id: r.encryption_key_id,
            migration_status: r.migration_status,
            replication_status: r.replication_status.map(|s| s.parse()).transpose()?,
            home_tier: r.home_tier,
            created_at: r.created_at,
            updated_at: r.updated_at.map(Timestamp),
            attachments: Vec::new(),
        })
    }
}

pub(crate) async fn insert(tx: &mut Tx, v: &Volume) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO volumes (id, project_id, user_id, size, growth, status, previous_status, name, description, \
         type_id, tier, zone, bootable, multiattach, metadata, admin_metadata, image_metadata, snapshot_id, \
         source_volid, group_id, created_at, encryption_key_id, replication_status, home_tier) VALUES ($1, $2, $3, $4, 0, $5, '', $6, $7, $8, $9, $10, $11, $12, $13, $14, \
         $15, $16, $17, $18, $19, $20, $21, $22)",
    )
    .bind(v.id.clone())
    .bind(v.project_id.clone())
    .bind(v.user_id.clone())
    .bind(v.size_gib)
    .bind(v.status.as_str())
    .bind(v.name.clone())
    .bind(v.description.clone())
    .bind(v.type_id.clone())
    .bind(v.tier.clone())
    .bind(v.zone.clone())
    .bind(v.bootable)
    .bind(v.multiattach)
    .bind(to_json(&v.metadata)?)
    .bind(to_json(&v.admin_metadata)?)
    .bind(to_json(&v.image_metadata)?)
    .bind(v.snapshot_id.clone())
    .bind(v.source_volid.clone())
    .bind(v.group_id.clone())
    .bind(v.created_at)
    .bind(v.encryption_key_id.clone())
    .bind(v.replication_status.map(|s| s.as_str()))
    .bind(v.home_tier.clone())
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The row, without its attachments.
pub(crate) async fn get<'e>(
    db: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<Option<Volume>, VolumeError> {
    Where::of("v.id", id).one::<Row, Volume>(db, &select()).await
}

/// A group's volumes in any state, oldest first; without attachments.
pub(crate) async fn of_group<'e>(
    db: impl Executor<'e, Database = Any>,
    group_id: &str,
) -> Result<Vec<Volume>, VolumeError> {
    all_with(db, "v.group_id", group_id).await
}

/// The volumes that belong to a tier, wherever they are served; as [`of_group`].
pub(crate) async fn of_home<'e>(
    db: impl Executor<'e, Database = Any>,
    tier: &str,
) -> Result<Vec<Volume>, VolumeError> {
    all_with(db, "COALESCE(v.home_tier, v.tier)", tier).await
}

async fn all_with<'e>(
    db: impl Executor<'e, Database = Any>,
    column: &'static str,
    value: &str,
) -> Result<Vec<Volume>, VolumeError> {
    let mut all = Where::of(column, value).all::<Row, Volume>(db, &select()).await?;
    all.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    Ok(all)
}

/// What a listing is narrowed to.
#[derive(Debug, Default, Clone)]
pub(crate) struct Filter {
    pub(crate) project_id: Option<String>,
    pub(crate) ids: Option<Vec<String>>,
    pub(crate) status: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) name_like: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) bootable: Option<bool>,
    pub(crate) multiattach: Option<bool>,
    pub(crate) volume_type: Option<String>,
    pub(crate) tier: Option<String>,
    pub(crate) size: Option<i64>,
    pub(crate) user_id: Option<String>,
    pub(crate) snapshot_id: Option<String>,
    pub(crate) source_volid: Option<String>,
    pub(crate) group_id: Option<String>,
    pub(crate) migration_status: Option<String>,
    pub(crate) metadata: Metadata,
    pub(crate) image_metadata: Metadata,
    pub(crate) created: Vec<(Compare, i64)>,
    pub(crate) updated: Vec<(Compare, i64)>,
    /// A filter that no volume of this cloud meets, such as another host or a group.
    pub(crate) nothing: bool,
}

/// How a time is compared (3.60).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Gt,
    Gte,
    Eq,
    Neq,
    Lt,
    Lte,
}

impl Filter {
    fn conditions(&self) -> Where {
        let mut w = Where::default();
        w.given([
            ("v.project_id", &self.project_id),
            ("v.status", &self.status),
            ("v.name", &self.name),
            ("v.description", &self.description),
            ("v.zone", &self.zone),
            ("COALESCE(v.home_tier, v.tier)", &self.tier),
            ("v.user_id", &self.user_id),
            ("v.snapshot_id", &self.snapshot_id),
            ("v.source_volid", &self.source_volid),
            ("v.group_id", &self.group_id),
            ("v.migration_status", &self.migration_status),
        ]);
        if let Some(t) = &self.volume_type {
            w.and("(v.type_id = ? OR t.name = ?)", [t.as_str().into(), t.as_str().into()]);
        }
        if let Some(b) = self.bootable {
            w.eq("v.bootable", b);
        }
        if let Some(b) = self.multiattach {
            w.eq("v.multiattach", b);
        }
        if let Some(n) = self.size {
            w.eq("v.size", n);
        }
        if let Some(ids) = &self.ids {
            w.among("v.id", ids.iter().cloned());
        }
        if let Some(part) = &self.name_like {
            w.contains("v.name", part);
        }
        w.has_pairs("v.metadata", &self.metadata);
        w.has_pairs("v.image_metadata", &self.image_metadata);
        for (how, at) in &self.created {
            w.and(how.of("v.created_at"), [Arg::Int(*at)]);
        }
        for (how, at) in &self.updated {
            w.and(how.of("v.updated_at"), [Arg::Int(*at)]);
        }
        if self.nothing {
            w.and("1 = 0", []);
        }
        w
    }
}

impl Compare {
    fn of(self, column: &str) -> &'static str {
        let created = column == "v.created_at";
        match (self, created) {
            (Compare::Gt, true) => "v.created_at > ?",
            (Compare::Gte, true) => "v.created_at >= ?",
            (Compare::Eq, true) => "v.created_at = ?",
            (Compare::Neq, true) => "v.created_at <> ?",
            (Compare::Lt, true) => "v.created_at < ?",
            (Compare::Lte, true) => "v.created_at <= ?",
            (Compare::Gt, false) => "v.updated_at > ?",
            (Compare::Gte, false) => "v.updated_at >= ?",
            (Compare::Eq, false) => "v.updated_at = ?",
            (Compare::Neq, false) => "v.updated_at <> ?",
            (Compare::Lt, false) => "v.updated_at < ?",
            (Compare::Lte, false) => "v.updated_at <= ?",
        }
    }
}

/// What a listing may be sorted by.
pub(crate) const SORT_KEYS: &[&str] = &[
    "id",
    "name",
    "display_name",
    "status",
    "size",
    "created_at",
    "updated_at",
    "bootable",
    "availability_zone",
    "volume_type",
    "host",
    "project_id",
    "user_id",
];

fn column(key: &str) -> Option<&'static str> {
    Some(match key {
        "id" => "v.id",
        "name" | "display_name" => "COALESCE(v.name, '')",
        "status" => "v.status",
        "size" => "v.size",
        "created_at" => "v.created_at",
        "updated_at" => "COALESCE(v.updated_at, 0)",
        "bootable" => "CASE WHEN v.bootable THEN 1 ELSE 0 END",
        "availability_zone" => "v.zone",
        "volume_type" => "v.type_id",
        "host" => "v.tier",
        "project_id" => "v.project_id",
        "user_id" => "v.user_id",
        _ => return None,
    })
}

fn value(v: &Volume, key: &str) -> Option<Arg> {
    Some(match key {
        "id" => v.id.clone().into(),
        "name" | "display_name" => v.name.clone().unwrap_or_default().into(),
        "status" => v.status.as_str().into(),
        "size" => v.size_gib.into(),
        "created_at" => v.created_at.0.into(),
        "updated_at" => v.updated_at.map_or(0, |t| t.0).into(),
        "bootable" => i64::from(v.bootable).into(),
        "availability_zone" => v.zone.clone().into(),
        "volume_type" => v.type_id.clone().into(),
        "host" => v.tier.clone().into(),
        "project_id" => v.project_id.clone().into(),
        "user_id" => v.user_id.clone().into(),
        _ => return None,
    })
}

/// A page and one row more, where there is one. `marker` is the last volume of the page before.
pub(crate) async fn list(
    db: &Db,
    filter: &Filter,
    page: &Page,
    marker: Option<&Volume>,
) -> Result<Vec<Volume>, VolumeError> {
    let at = marker.map(|m| move |key: &str| value(m, key));
    let at = at.as_ref().map(|f| f as At<'_>);
    let default = [("created_at", true)];
    let query = filter.conditions().page(page, "v.id", &default, column, at);
    let columns = COLUMNS.replace(" AS type_name", "").replace(" AS group_type", "");
    let rows: Vec<Row> = query.json_rows(db, &columns, TABLES).await?;
    rows.into_iter().map(Volume::try_from).collect()
}

/// How many volumes meet the filter, and their GiB.
pub(crate) async fn total<'e>(
    db: impl Executor<'e, Database = Any>,
    filter: &Filter,
) -> Result<(i64, i64), VolumeError> {
    const COUNT: &str = "SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(v.size), 0) AS BIGINT) \
        FROM volumes v LEFT JOIN volume_types t ON t.id = v.type_id";
    Ok(filter.conditions().query::<(i64, i64)>(COUNT).fetch_one(db).await?)
}

/// The metadata of all volumes that meet the filter.
pub(crate) async fn metadata<'e>(
    db: impl Executor<'e, Database = Any>,
    filter: &Filter,
) -> Result<Vec<Metadata>, VolumeError> {
    const TEXT: &str = "SELECT v.metadata FROM volumes v LEFT JOIN volume_types t ON t.id = v.type_id";
    let rows = filter.conditions().query::<(String,)>(TEXT).fetch_all(db).await?;
    rows.iter().map(|(text,)| from_json(text)).collect()
}

/// How many volumes are being made of this volume or of this snapshot, or of a snapshot of this volume.
pub(crate) async fn heirs<'e>(
    db: impl Executor<'e, Database = Any>,
    source_id: &str,
) -> Result<i64, VolumeError> {
    Ok(sqlx::query_scalar(
        "SELECT CAST(COUNT(*) AS BIGINT) FROM volumes WHERE status = 'creating' AND (source_volid = $1 \
         OR snapshot_id = $1 OR snapshot_id IN (SELECT id FROM snapshots WHERE volume_id = $1))",
    )
    .bind(source_id)
    .fetch_one(db)
    .await?)
}

/// Writes the state, and where it came from.
pub(crate) async fn set_status(
    tx: &mut Tx,
    id: &str,
    status: VolumeStatus,
    previous: Option<VolumeStatus>,
) -> Result<(), VolumeError> {
    sqlx::query("UPDATE volumes SET status = $1, previous_status = $2, updated_at = $3 WHERE id = $4")
        .bind(status.as_str())
        .bind(previous.map_or("", VolumeStatus::as_str))
        .bind(Timestamp::now())
        .bind(id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Writes size and growth, both GiB.
pub(crate) async fn set_size(tx: &mut Tx, id: &str, size: i64, growth: i64) -> Result<(), VolumeError> {
    sqlx::query("UPDATE volumes SET size = $1, growth = $2, updated_at = $3 WHERE id = $4")
        .bind(size)
        .bind(growth)
        .bind(Timestamp::now())
        .bind(id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Writes where the bytes are.
pub(crate) async fn set_tier(tx: &mut Tx, id: &str, tier: &str) -> Result<(), VolumeError> {
    sqlx::query("UPDATE volumes SET tier = $1 WHERE id = $2").bind(tier).bind(id).execute(tx.conn()).await?;
    Ok(())
}

/// Writes everything that a caller may change directly.
pub(crate) async fn save(tx: &mut Tx, v: &Volume) -> Result<(), VolumeError> {
    sqlx::query(
        "UPDATE volumes SET name = $1, description = $2, bootable = $3, multiattach = $4, metadata = $5, \
         admin_metadata = $6, image_metadata = $7, type_id = $8, migration_status = $9, project_id = $10, \
         user_id = $11, snapshot_id = $12, group_id = $13, updated_at = $14, encryption_key_id = $15 WHERE id = $16",
    )
    .bind(v.name.clone())
    .bind(v.description.clone())
    .bind(v.bootable)
    .bind(v.multiattach)
    .bind(to_json(&v.metadata)?)
    .bind(to_json(&v.admin_metadata)?)
    .bind(to_json(&v.image_metadata)?)
    .bind(v.type_id.clone())
    .bind(v.migration_status.clone())
    .bind(v.project_id.clone())
    .bind(v.user_id.clone())
    .bind(v.snapshot_id.clone())
    .bind(v.group_id.clone())
    .bind(Timestamp::now())
    .bind(v.encryption_key_id.clone())
    .bind(v.id.clone())
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Removes the row and whatever only belongs to it.
pub(crate) async fn remove(tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
    for sql in [
        "DELETE FROM volumes WHERE id = $1",
        "DELETE FROM snapshots WHERE volume_id = $1",
        "DELETE FROM attachments WHERE volume_id = $1",
        "DELETE FROM volume_transfers WHERE volume_id = $1",
    ] {
        sqlx::query(sql).bind(id).execute(tx.conn()).await?;
    }
    Ok(())
}
