//! Groups of volumes, their types and their snapshots.

use super::sql::{Arg, At, Where, from_json, to_json};
use crate::VolumeError;
use crate::group_snapshots::GroupSnapshot;
use crate::group_types::{CONSISTENT, GroupType};
use crate::groups::Group;
use crate::status::GroupStatus;
use api::Page;
use sqlx::{Any, Executor};
use state::{Flag, Timestamp, Tx};

const TYPES: &str = "SELECT id, name, description, is_public, specs, created_at FROM volume_group_types";
const GROUPS: &str = "SELECT id, project_id, user_id, name, description, group_type_id, \
    (SELECT t.name FROM volume_group_types t WHERE t.id = group_type_id) AS group_type, volume_types, zone, status, \
    replication_status, replication_task, group_snapshot_id, source_group_id, created_at FROM volume_groups";
const SNAPSHOTS: &str = "SELECT id, group_id, project_id, user_id, name, description, group_type_id, \
    (SELECT t.name FROM volume_group_types t WHERE t.id = group_type_id) AS group_type, status, created_at \
    FROM volume_group_snapshots";

#[derive(sqlx::FromRow)]
struct TypeRow {
    id: String,
    name: String,
    description: Option<String>,
    is_public: Flag,
    specs: String,
    created_at: Timestamp,
}

impl TryFrom<TypeRow> for GroupType {
    type Error = VolumeError;
    fn try_from(r: TypeRow) -> Result<Self, VolumeError> {
        let (is_public, specs) = (r.is_public.0, from_json(&r.specs)?);
        Ok(GroupType {
            id: r.id,
            name: r.name,
            description: r.description,
            is_public,
            specs,
            created_at: r.created_at,
        })
    }
}

/// Every type; there are few, so listings filter and sort in memory.
pub(crate) async fn types<'e>(db: impl Executor<'e, Database = Any>) -> Result<Vec<GroupType>, VolumeError> {
    Where::default().all::<TypeRow, GroupType>(db, TYPES).await
}

pub(crate) async fn put_type(tx: &mut Tx, t: &GroupType) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO volume_group_types (id, name, description, is_public, specs, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET name = excluded.name, \
         description = excluded.description, is_public = excluded.is_public, specs = excluded.specs",
    )
    .bind(t.id.clone())
    .bind(t.name.clone())
    .bind(t.description.clone())
    .bind(t.is_public)
    .bind(to_json(&t.specs)?)
    .bind(t.created_at)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// False where groups have the type: it stays.
pub(crate) async fn remove_type(tx: &mut Tx, id: &str) -> Result<bool, VolumeError> {
    let n: i64 =
        sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM volume_groups WHERE group_type_id = $1")
            .bind(id)
            .fetch_one(tx.conn())
            .await?;
    if n == 0 {
        sqlx::query("DELETE FROM volume_group_types WHERE id = $1").bind(id).execute(tx.conn()).await?;
    }
    Ok(n == 0)
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    project_id: String,
    user_id: String,
    name: String,
    description: Option<String>,
    group_type_id: String,
    group_type: Option<String>,
    volume_types: String,
    zone: String,
    status: String,
    replication_status: String,
    replication_task: Option<String>,
    group_snapshot_id: Option<String>,
    source_group_id: Option<String>,
    created_at: Timestamp,
}

impl TryFrom<Row> for Group {
    type Error = VolumeError;
    fn try_from(r: Row) -> Result<Self, VolumeError> {
        Ok(Group {
            id: r.id,
            project_id: r.project_id,
            user_id: r.user_id,
            name: r.name,
            description: r.description,
            group_type_id: r.group_type_id,
            consistent: r.group_type.as_deref() == Some(CONSISTENT),
            volume_types: serde_json::from_str(&r.volume_types)?,
            zone: r.zone,
            status: r.status.parse()?,
            replication_status: r.replication_status.parse()?,
            replication_task: r.replication_task,
            group_snapshot_id: r.group_snapshot_id,
            source_group_id: r.source_group_id,
            created_at: r.created_at,
        })
    }
}

pub(crate) async fn insert(tx: &mut Tx, g: &Group) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO volume_groups (id, project_id, user_id, name, description, group_type_id, volume_types, zone, \
         status, group_snapshot_id, source_group_id, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
         $11, $12)",
    )
    .bind(g.id.clone())
    .bind(g.project_id.clone())
    .bind(g.user_id.clone())
    .bind(g.name.clone())
    .bind(g.description.clone())
    .bind(g.group_type_id.clone())
    .bind(serde_json::to_string(&g.volume_types)?)
    .bind(g.zone.clone())
    .bind(g.status.as_str())
    .bind(g.group_snapshot_id.clone())
    .bind(g.source_group_id.clone())
    .bind(g.created_at)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn get<'e>(
    db: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<Option<Group>, VolumeError> {
    Where::of("id", id).one::<Row, Group>(db, GROUPS).await
}

/// Writes what a caller or an operation may change: name, description and states.
pub(crate) async fn save(tx: &mut Tx, g: &Group) -> Result<(), VolumeError> {
    sqlx::query(
        "UPDATE volume_groups SET name = $1, description = $2, status = $3, replication_status = $4, \
         replication_task = $5 WHERE id = $6",
    )
    .bind(g.name.clone())
    .bind(g.description.clone())
    .bind(g.status.as_str())
    .bind(g.replication_status.as_str())
    .bind(g.replication_task.clone())
    .bind(g.id.clone())
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn remove(tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
    sqlx::query("DELETE FROM volume_groups WHERE id = $1").bind(id).execute(tx.conn()).await?;
    Ok(())
}

/// How many groups a project has. What is being deleted is given back already.
pub(crate) async fn used(tx: &mut Tx, project_id: &str) -> Result<i64, VolumeError> {
    Ok(sqlx::query_scalar(
        "SELECT CAST(COUNT(*) AS BIGINT) FROM volume_groups WHERE project_id = $1 AND status <> 'deleting'",
    )
    .bind(project_id)
    .fetch_one(tx.conn())
    .await?)
}

/// What a listing of groups, or of their snapshots, is narrowed to.
#[derive(Debug, Default, Clone)]
pub(crate) struct Filter {
    pub(crate) project_id: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) status: Option<String>,
    /// The group of a snapshot.
    pub(crate) group_id: Option<String>,
    /// Consistency groups, or those that are not.
    pub(crate) consistent: bool,
}

impl Filter {
    fn conditions(&self) -> Where {
        let mut w = Where::default();
        w.given([
            ("project_id", &self.project_id),
            ("id", &self.id),
            ("name", &self.name),
            ("status", &self.status),
            ("group_id", &self.group_id),
        ]);
        let which = match self.consistent {
            true => "group_type_id IN (SELECT id FROM volume_group_types WHERE name = ?)",
            false => "group_type_id NOT IN (SELECT id FROM volume_group_types WHERE name = ?)",
        };
        w.and(which, [CONSISTENT.into()]);
        w
    }
}

/// What a listing may be sorted by.
pub(crate) const SORT_KEYS: &[&str] = &["id", "name", "status", "created_at"];

fn column(key: &str) -> Option<&'static str> {
    SORT_KEYS.iter().find(|k| **k == key).copied()
}

/// The values of [`SORT_KEYS`] in a row.
fn value(key: &str, id: &str, name: &str, status: GroupStatus, created: Timestamp) -> Option<Arg> {
    Some(match key {
        "id" => id.into(),
        "name" => name.into(),
        "status" => status.as_str().into(),
        "created_at" => created.0.into(),
        _ => return None,
    })
}

pub(crate) async fn list<'e>(
    db: impl Executor<'e, Database = Any>,
    filter: &Filter,
    page: &Page,
    marker: Option<&Group>,
) -> Result<Vec<Group>, VolumeError> {
    let at = marker.map(|m| move |key: &str| value(key, &m.id, &m.name, m.status, m.created_at));
    let at = at.as_ref().map(|f| f as At<'_>);
    let query = filter.conditions().page(page, "id", &[("created_at", true)], column, at);
    query.all::<Row, Group>(db, GROUPS).await
}

#[derive(sqlx::FromRow)]
struct SnapshotRow {
    id: String,
    group_id: String,
    project_id: String,
    user_id: String,
    name: String,
    description: Option<String>,
    group_type_id: String,
    group_type: Option<String>,
    status: String,
    created_at: Timestamp,
}

impl TryFrom<SnapshotRow> for GroupSnapshot {
    type Error = VolumeError;
    fn try_from(r: SnapshotRow) -> Result<Self, VolumeError> {
        Ok(GroupSnapshot {
            id: r.id,
            group_id: r.group_id,
            project_id: r.project_id,
            user_id: r.user_id,
            name: r.name,
            description: r.description,
            group_type_id: r.group_type_id,
            consistent: r.group_type.as_deref() == Some(CONSISTENT),
            status: r.status.parse()?,
            created_at: r.created_at,
        })
    }
}

pub(crate) async fn insert_snapshot(tx: &mut Tx, s: &GroupSnapshot) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO volume_group_snapshots (id, group_id, project_id, user_id, name, description, group_type_id, \
         status, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(s.id.clone())
    .bind(s.group_id.clone())
    .bind(s.project_id.clone())
    .bind(s.user_id.clone())
    .bind(s.name.clone())
    .bind(s.description.clone())
    .bind(s.group_type_id.clone())
    .bind(s.status.as_str())
    .bind(s.created_at)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(crate) async fn get_snapshot<'e>(
    db: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<Option<GroupSnapshot>, VolumeError> {
    Where::of("id", id).one::<SnapshotRow, GroupSnapshot>(db, SNAPSHOTS).await
}

pub(crate) async fn list_snapshots<'e>(
    db: impl Executor<'e, Database = Any>,
    filter: &Filter,
    page: &Page,
    marker: Option<&GroupSnapshot>,
) -> Result<Vec<GroupSnapshot>, VolumeError> {
    let at = marker.map(|m| move |key: &str| value(key, &m.id, &m.name, m.status, m.created_at));
    let at = at.as_ref().map(|f| f as At<'_>);
    let query = filter.conditions().page(page, "id", &[("created_at", true)], column, at);
    query.all::<SnapshotRow, GroupSnapshot>(db, SNAPSHOTS).await
}

/// Whether a group has snapshots, in any state.
pub(crate) async fn has_snapshots(tx: &mut Tx, group_id: &str) -> Result<bool, VolumeError> {
    let n: i64 =
        sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM volume_group_snapshots WHERE group_id = $1")
            .bind(group_id)
            .fetch_one(tx.conn())
            .await?;
    Ok(n > 0)
}

pub(crate) async fn set_snapshot_status(
    tx: &mut Tx,
    id: &str,
    status: GroupStatus,
) -> Result<(), VolumeError> {
    sqlx::query("UPDATE volume_group_snapshots SET status = $1 WHERE id = $2")
        .bind(status.as_str())
        .bind(id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Removes a group's snapshot, and the snapshots that are its parts.
pub(crate) async fn remove_snapshot(tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
    for sql in [
        "DELETE FROM snapshots WHERE group_snapshot_id = $1",
        "DELETE FROM volume_group_snapshots WHERE id = $1",
    ] {
        sqlx::query(sql).bind(id).execute(tx.conn()).await?;
    }
    Ok(())
}
