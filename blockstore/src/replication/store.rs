//! `volume_backends`, and what volumes' rows say of their replication.

use crate::VolumeError;
use crate::status::ReplicationStatus;
use sqlx::{Any, Executor};
use state::{Flag, Timestamp, Tx};

/// A tier whose volumes may be served by its replica.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    pub(crate) tier: String,
    pub(crate) status: ReplicationStatus,
    /// As the API shows it: empty after a failback.
    pub(crate) active: Option<String>,
    pub(crate) frozen: bool,
    /// The task that fails it over. What another one has to say of its state is late.
    pub(crate) task: Option<String>,
}

impl Backend {
    /// One that nothing was done to yet.
    pub(crate) fn untouched(tier: &str, has_replica: bool) -> Self {
        let status = if has_replica { ReplicationStatus::Enabled } else { ReplicationStatus::Disabled };
        Backend { tier: tier.to_owned(), status, active: None, frozen: false, task: None }
    }

    /// The tier that serves in its place.
    pub(crate) fn serves_instead(&self) -> Option<String> {
        self.active.clone().filter(|a| !a.is_empty())
    }
}

type Row = (String, String, Option<String>, Flag, Option<String>);

fn backend((tier, status, active, frozen, task): Row) -> Result<Backend, VolumeError> {
    Ok(Backend { tier, status: status.parse()?, active, frozen: frozen.0, task })
}

/// Against two changes of one backend at a time.
pub(super) fn lock_key(tier: &str) -> String {
    format!("volume-backend:{tier}")
}

pub(super) async fn all<'e>(db: impl Executor<'e, Database = Any>) -> Result<Vec<Backend>, VolumeError> {
    let rows: Vec<Row> =
        sqlx::query_as("SELECT tier, replication_status, active, frozen, task FROM volume_backends")
            .fetch_all(db)
            .await?;
    rows.into_iter().map(backend).collect()
}

pub(super) async fn get<'e>(
    db: impl Executor<'e, Database = Any>,
    tier: &str,
) -> Result<Option<Backend>, VolumeError> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT tier, replication_status, active, frozen, task FROM volume_backends WHERE tier = $1",
    )
    .bind(tier)
    .fetch_optional(db)
    .await?;
    row.map(backend).transpose()
}

pub(super) async fn put(tx: &mut Tx, b: &Backend) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO volume_backends (tier, replication_status, active, frozen, task, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (tier) DO UPDATE SET replication_status = excluded.replication_status, \
         active = excluded.active, frozen = excluded.frozen, task = excluded.task, updated_at = excluded.updated_at",
    )
    .bind(b.tier.clone())
    .bind(b.status.as_str())
    .bind(b.active.clone())
    .bind(b.frozen)
    .bind(b.task.clone())
    .bind(Timestamp::now())
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The groups that are replicated, and have volumes of a tier which was failed over, or back, are what its backend is.
pub(super) async fn turn_groups(
    tx: &mut Tx,
    tier: &str,
    status: ReplicationStatus,
) -> Result<(), VolumeError> {
    sqlx::query(
        "UPDATE volume_groups SET replication_status = $1 WHERE replication_status IN ('enabled', 'failed-over') AND \
         id IN (SELECT group_id FROM volumes WHERE group_id IS NOT NULL AND COALESCE(home_tier, tier) = $2)",
    )
    .bind(status.as_str())
    .bind(tier.to_owned())
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Writes a volume's replication status.
pub(super) async fn set_status(tx: &mut Tx, id: &str, status: ReplicationStatus) -> Result<(), VolumeError> {
    sqlx::query("UPDATE volumes SET replication_status = $1 WHERE id = $2")
        .bind(status.as_str())
        .bind(id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Writes where a volume is served, and which tier it belongs to if that is another. Of its copy nothing is known yet.
pub(super) async fn turn(
    tx: &mut Tx,
    id: &str,
    tier: &str,
    home: Option<&str>,
    status: ReplicationStatus,
) -> Result<(), VolumeError> {
    sqlx::query(
        "UPDATE volumes SET tier = $1, home_tier = $2, replication_status = $3, replica_whole = $4, updated_at = $5 \
         WHERE id = $6",
    )
    .bind(tier)
    .bind(home.map(str::to_owned))
    .bind(status.as_str())
    .bind(false)
    .bind(Timestamp::now())
    .bind(id)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Notes that the copy of a volume is whole, if it is still of the tier that it was `seen` for; without that, that it is not.
pub(super) async fn set_whole(tx: &mut Tx, id: &str, seen: Option<&str>) -> Result<(), VolumeError> {
    sqlx::query("UPDATE volumes SET replica_whole = $1 WHERE id = $2 AND tier = COALESCE($3, tier)")
        .bind(seen.is_some())
        .bind(id)
        .bind(seen.map(str::to_owned))
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Whether it was seen to be whole since.
pub(super) async fn is_whole<'e>(
    db: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<bool, VolumeError> {
    let row: Option<(Flag,)> =
        sqlx::query_as("SELECT replica_whole FROM volumes WHERE id = $1").bind(id).fetch_optional(db).await?;
    Ok(row.is_some_and(|(whole,)| whole.0))
}

/// The snapshots of a volume that cannot be reached become `error`; `back`: those are what they were.
pub(super) async fn set_snapshots(tx: &mut Tx, volume_id: &str, back: bool) -> Result<(), VolumeError> {
    let sql = match back {
        false => {
            "UPDATE snapshots SET previous_status = status, status = 'error' WHERE volume_id = $1 AND status = 'available'"
        }
        true => {
            "UPDATE snapshots SET status = previous_status, previous_status = NULL WHERE volume_id = $1 \
             AND status = 'error' AND previous_status IS NOT NULL"
        }
    };
    sqlx::query(sql).bind(volume_id).execute(tx.conn()).await?;
    Ok(())
}
