//! The `backups` table.

use super::Backup;
use super::data::Place;
use crate::VolumeError;
use crate::config::BackupDriver;
use crate::status::BackupStatus;
use crate::store::sql::{Arg, At, Where, from_json, to_json};
use api::Page;
use sqlx::{Any, Executor};
use state::{Db, Timestamp, Tx};

/// Whether another one is made on it comes last.
const SELECT: &str = "SELECT id, project_id, user_id, volume_id, snapshot_id, parent_id, size, status, fail_reason, \
    name, description, metadata, zone, driver, tier, owner, chain, data, base, chunks, volume, data_timestamp, \
    created_at, updated_at, CAST((SELECT COUNT(*) FROM backups c WHERE c.parent_id = backups.id) AS BIGINT) AS heirs FROM backups";

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    project_id: String,
    user_id: String,
    volume_id: String,
    snapshot_id: Option<String>,
    parent_id: Option<String>,
    size: i64,
    status: String,
    fail_reason: Option<String>,
    name: Option<String>,
    description: Option<String>,
    metadata: String,
    zone: Option<String>,
    driver: String,
    tier: String,
    owner: String,
    chain: String,
    data: String,
    base: String,
    chunks: i64,
    volume: String,
    data_timestamp: Timestamp,
    created_at: Timestamp,
    updated_at: Option<i64>,
    heirs: i64,
}

impl TryFrom<Row> for Backup {
    type Error = VolumeError;
    fn try_from(r: Row) -> Result<Backup, VolumeError> {
        Ok(Backup {
            id: r.id,
            project_id: r.project_id,
            user_id: r.user_id,
            volume_id: r.volume_id,
            snapshot_id: r.snapshot_id,
            parent_id: r.parent_id,
            size_gib: r.size,
            status: r.status.parse()?,
            fail_reason: r.fail_reason,
            name: r.name,
            description: r.description,
            metadata: from_json(&r.metadata)?,
            zone: r.zone,
            place: Place {
                driver: BackupDriver::parse(&r.driver),
                tier: r.tier,
                owner: r.owner,
                chain: r.chain,
                data: r.data,
            },
            base: r.base,
            chunks: r.chunks,
            volume: serde_json::from_str(&r.volume)?,
            data_timestamp: r.data_timestamp,
            created_at: r.created_at,
            updated_at: r.updated_at.map(Timestamp),
            heirs: r.heirs,
        })
    }
}

pub(super) async fn insert(tx: &mut Tx, b: &Backup) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO backups (id, project_id, user_id, volume_id, snapshot_id, parent_id, size, status, name, \
         description, metadata, zone, tier, chain, data, base, chunks, volume, data_timestamp, created_at, driver, \
         owner) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, \
         $21, $22)",
    )
    .bind(b.id.clone())
    .bind(b.project_id.clone())
    .bind(b.user_id.clone())
    .bind(b.volume_id.clone())
    .bind(b.snapshot_id.clone())
    .bind(b.parent_id.clone())
    .bind(b.size_gib)
    .bind(b.status.as_str())
    .bind(b.name.clone())
    .bind(b.description.clone())
    .bind(to_json(&b.metadata)?)
    .bind(b.zone.clone())
    .bind(b.place.tier.clone())
    .bind(b.place.chain.clone())
    .bind(b.place.data.clone())
    .bind(b.base.clone())
    .bind(b.chunks)
    .bind(serde_json::to_string(&b.volume)?)
    .bind(b.data_timestamp)
    .bind(b.created_at)
    .bind(b.place.driver.as_str())
    .bind(b.place.owner.clone())
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn get<'e>(
    db: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<Option<Backup>, VolumeError> {
    Where::of("id", id).one::<Row, Backup>(db, SELECT).await
}

/// What a listing is narrowed to.
#[derive(Debug, Default, Clone)]
pub(crate) struct Filter {
    pub(crate) project_id: Option<String>,
    pub(crate) volume_id: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) snapshot_id: Option<String>,
}

impl Filter {
    fn conditions(&self) -> Where {
        let mut conditions = Where::default();
        conditions.given([
            ("project_id", &self.project_id),
            ("volume_id", &self.volume_id),
            ("status", &self.status),
            ("name", &self.name),
            ("snapshot_id", &self.snapshot_id),
        ]);
        conditions
    }
}

/// What a listing may be sorted by.
pub(crate) const SORT_KEYS: &[&str] = &["id", "name", "status", "created_at", "size", "volume_id"];

pub(super) async fn list<'e>(
    db: impl Executor<'e, Database = Any>,
    filter: &Filter,
    page: &Page,
    marker: Option<&Backup>,
) -> Result<Vec<Backup>, VolumeError> {
    let conditions = filter.conditions();
    let column = |key: &str| {
        Some(match key {
            "id" => "id",
            "name" => "COALESCE(name, '')",
            "status" => "status",
            "created_at" => "created_at",
            "size" => "size",
            "volume_id" => "volume_id",
            _ => return None,
        })
    };
    let at = marker.map(|m| {
        move |key: &str| -> Option<Arg> {
            Some(match key {
                "id" => m.id.clone().into(),
                "name" => m.name.clone().unwrap_or_default().into(),
                "status" => m.status.as_str().into(),
                "created_at" => m.created_at.0.into(),
                "size" => m.size_gib.into(),
                "volume_id" => m.volume_id.clone().into(),
                _ => return None,
            })
        }
    });
    let at = at.as_ref().map(|f| f as At<'_>);
    let query = conditions.page(page, "id", &[("created_at", true)], column, at);
    query.all::<Row, Backup>(db, SELECT).await
}

/// A project's backups and their GiB.
pub(crate) async fn used(tx: &mut Tx, project_id: &str) -> Result<(i64, i64), VolumeError> {
    const USED: &str = "SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM backups";
    Ok(Where::of("project_id", project_id).query::<(i64, i64)>(USED).fetch_one(tx.conn()).await?)
}

pub(super) async fn set_status(
    tx: &mut Tx,
    id: &str,
    status: BackupStatus,
    fail_reason: Option<&str>,
) -> Result<(), VolumeError> {
    sqlx::query("UPDATE backups SET status = $1, fail_reason = $2, updated_at = $3 WHERE id = $4")
        .bind(status.as_str())
        .bind(fail_reason.map(str::to_owned))
        .bind(Timestamp::now())
        .bind(id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

pub(super) async fn save(tx: &mut Tx, b: &Backup) -> Result<(), VolumeError> {
    sqlx::query(
        "UPDATE backups SET name = $1, description = $2, metadata = $3, updated_at = $4 WHERE id = $5",
    )
    .bind(b.name.clone())
    .bind(b.description.clone())
    .bind(to_json(&b.metadata)?)
    .bind(Timestamp::now())
    .bind(b.id.clone())
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(super) async fn remove(tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
    sqlx::query("DELETE FROM backups WHERE id = $1").bind(id).execute(tx.conn()).await?;
    Ok(())
}

/// What was made on a backup is made on what that was made on.
pub(super) async fn hand_down(tx: &mut Tx, b: &Backup) -> Result<(), VolumeError> {
    sqlx::query("UPDATE backups SET parent_id = $1 WHERE parent_id = $2")
        .bind(b.parent_id.clone())
        .bind(b.id.clone())
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// The latest available backup of a volume in a project.
pub(super) async fn latest(
    tx: &mut Tx,
    project_id: &str,
    volume_id: &str,
) -> Result<Option<Backup>, VolumeError> {
    let mut filter = Where::default();
    filter.eq("project_id", project_id);
    filter.eq("volume_id", volume_id);
    filter.eq("status", BackupStatus::Available.as_str());
    let all = filter.all::<Row, Backup>(tx.conn(), SELECT).await?;
    Ok(all.into_iter().max_by_key(|b| (b.created_at, b.id.clone())))
}

/// How many other backups have the same bytes: records that were imported again.
pub(super) async fn sharers(tx: &mut Tx, b: &Backup) -> Result<i64, VolumeError> {
    let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM backups WHERE data = $1 AND id <> $2";
    Ok(sqlx::query_scalar(sql).bind(b.place.data.clone()).bind(b.id.clone()).fetch_one(tx.conn()).await?)
}

/// The backup is done.
pub(super) async fn complete(tx: &mut Tx, id: &str, chunks: i64) -> Result<(), VolumeError> {
    sqlx::query("UPDATE backups SET status = 'available', chunks = $1, updated_at = $2 WHERE id = $3")
        .bind(chunks)
        .bind(Timestamp::now())
        .bind(id.to_owned())
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// How many a listing has over all its pages.
pub(super) async fn total<'e>(
    db: impl Executor<'e, Database = Any>,
    filter: &Filter,
) -> Result<i64, VolumeError> {
    let query = filter.conditions();
    Ok(query.query::<(i64,)>("SELECT CAST(COUNT(*) AS BIGINT) FROM backups").fetch_one(db).await?.0)
}

/// The root secret of this cloud: the one that is kept, or else this one from now on.
pub(super) async fn root_secret(db: &Db, fresh: &str) -> Result<String, VolumeError> {
    const KEPT: &str = "SELECT secret FROM backup_root WHERE id = 1";
    if let Some(kept) = sqlx::query_scalar(KEPT).fetch_optional(db.read()).await? {
        return Ok(kept);
    }
    let mut tx = db.begin().await?;
    sqlx::query("INSERT INTO backup_root (id, secret) VALUES (1, $1) ON CONFLICT (id) DO NOTHING")
        .bind(fresh.to_owned())
        .execute(tx.conn())
        .await?;
    let kept = sqlx::query_scalar(KEPT).fetch_one(tx.conn()).await?;
    tx.commit().await?;
    Ok(kept)
}

/// The wrapped key of a repository: the one that is kept, or else this one from now on.
pub(super) async fn key_of(db: &Db, repository: &str, fresh: &str) -> Result<String, VolumeError> {
    const KEPT: &str = "SELECT wrapped FROM backup_keys WHERE repository = $1";
    let name = || repository.to_owned();
    if let Some(kept) = sqlx::query_scalar(KEPT).bind(name()).fetch_optional(db.read()).await? {
        return Ok(kept);
    }
    let mut tx = db.begin().await?;
    sqlx::query(
        "INSERT INTO backup_keys (repository, wrapped) VALUES ($1, $2) ON CONFLICT (repository) DO NOTHING",
    )
    .bind(name())
    .bind(fresh.to_owned())
    .execute(tx.conn())
    .await?;
    let kept = sqlx::query_scalar(KEPT).bind(name()).fetch_one(tx.conn()).await?;
    tx.commit().await?;
    Ok(kept)
}

/// Enters a writer. False: a collector is at work, it must wait.
pub(super) async fn begin_writing(db: &Db, repository: &str, backup_id: &str) -> Result<bool, VolumeError> {
    let mut tx = db.begin().await?;
    tx.lock(&format!("backup-repository:{repository}")).await?;
    let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM backup_collectors WHERE repository = $1";
    let collectors: i64 = sqlx::query_scalar(sql).bind(repository.to_owned()).fetch_one(tx.conn()).await?;
    if collectors > 0 {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO backup_writers (backup_id, repository) VALUES ($1, $2) ON CONFLICT (backup_id) DO NOTHING",
    )
    .bind(backup_id.to_owned())
    .bind(repository.to_owned())
    .execute(tx.conn())
    .await?;
    tx.commit().await?;
    Ok(true)
}

pub(super) async fn end_writing(tx: &mut Tx, backup_id: &str) -> Result<(), VolumeError> {
    sqlx::query("DELETE FROM backup_writers WHERE backup_id = $1")
        .bind(backup_id.to_owned())
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Enters the collector. False: there are writers, it must wait.
pub(super) async fn begin_collecting(db: &Db, repository: &str, task: &str) -> Result<bool, VolumeError> {
    let mut tx = db.begin().await?;
    tx.lock(&format!("backup-repository:{repository}")).await?;
    let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM backup_writers WHERE repository = $1";
    let writers: i64 = sqlx::query_scalar(sql).bind(repository.to_owned()).fetch_one(tx.conn()).await?;
    if writers > 0 {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO backup_collectors (repository, task_id) VALUES ($1, $2) ON CONFLICT (repository) DO NOTHING",
    )
    .bind(repository.to_owned())
    .bind(task.to_owned())
    .execute(tx.conn())
    .await?;
    tx.commit().await?;
    Ok(true)
}

pub(super) async fn end_collecting(db: &Db, repository: &str) -> Result<(), VolumeError> {
    let mut tx = db.begin().await?;
    sqlx::query("DELETE FROM backup_collectors WHERE repository = $1")
        .bind(repository.to_owned())
        .execute(tx.conn())
        .await?;
    Ok(tx.commit().await?)
}
