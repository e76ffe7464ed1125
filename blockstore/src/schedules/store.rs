//! The tables `volume_schedules` and `volume_schedule_items`.

use super::{Class, Clock, Item, ItemKind, Keep, Kind, Schedule, Target};
use crate::VolumeError;
use crate::store::sql::{Arg, At, Where};
use api::Page;
use sqlx::{Any, Executor};
use state::{Flag, Timestamp, Tx};
use std::sync::Arc;

const SELECT: &str = "SELECT id, project_id, user_id, name, description, kind, volume_id, group_id, hourly, daily, \
    weekly, monthly, minute, hour, weekday, day, zone, full_every, container, enabled, seen_at, next_at, last_at, \
    last_error, created_at, updated_at FROM volume_schedules";
const ITEMS: &str = "SELECT id, run_id, kind, classes, ordinal, made_at FROM volume_schedule_items";

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    project_id: String,
    user_id: String,
    name: String,
    description: Option<String>,
    kind: String,
    volume_id: Option<String>,
    group_id: Option<String>,
    hourly: i64,
    daily: i64,
    weekly: i64,
    monthly: i64,
    minute: i64,
    hour: i64,
    weekday: i64,
    day: i64,
    zone: String,
    full_every: i64,
    container: Option<String>,
    enabled: Flag,
    seen_at: Timestamp,
    next_at: Timestamp,
    last_at: Option<i64>,
    last_error: String,
    created_at: Timestamp,
    updated_at: Option<i64>,
}

/// A row that this program has not written.
fn foreign(what: &str) -> VolumeError {
    VolumeError::Corrupt(Arc::new(std::io::Error::other(format!("a schedule's row has no {what}"))))
}

impl TryFrom<Row> for Schedule {
    type Error = VolumeError;
    fn try_from(r: Row) -> Result<Schedule, VolumeError> {
        let target = match (r.volume_id, r.group_id) {
            (Some(id), _) => Target::Volume(id),
            (None, Some(id)) => Target::Group(id),
            (None, None) => return Err(foreign("target")),
        };
        Ok(Schedule {
            id: r.id,
            project_id: r.project_id,
            user_id: r.user_id,
            name: r.name,
            description: r.description,
            kind: Kind::parse(&r.kind).ok_or_else(|| foreign("kind"))?,
            target,
            keep: Keep { hourly: r.hourly, daily: r.daily, weekly: r.weekly, monthly: r.monthly },
            clock: Clock { minute: r.minute, hour: r.hour, weekday: r.weekday, day: r.day, zone: r.zone },
            full_every: r.full_every,
            container: r.container,
            enabled: r.enabled.0,
            seen_at: r.seen_at,
            next_at: r.next_at,
            last_at: r.last_at.map(Timestamp),
            last_error: r.last_error,
            created_at: r.created_at,
            updated_at: r.updated_at.map(Timestamp),
        })
    }
}

/// Adds a schedule, or changes what may change of it.
pub(super) async fn put(tx: &mut Tx, s: &Schedule) -> Result<(), VolumeError> {
    let (volume, group) = match &s.target {
        Target::Volume(id) => (Some(id.clone()), None),
        Target::Group(id) => (None, Some(id.clone())),
    };
    sqlx::query(
        "INSERT INTO volume_schedules (id, project_id, user_id, name, description, kind, volume_id, group_id, hourly, \
         daily, weekly, monthly, minute, hour, weekday, day, zone, full_every, container, enabled, seen_at, next_at, \
         last_at, last_error, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, \
         $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26) ON CONFLICT (id) DO UPDATE SET \
         name = excluded.name, description = excluded.description, hourly = excluded.hourly, daily = excluded.daily, \
         weekly = excluded.weekly, monthly = excluded.monthly, minute = excluded.minute, hour = excluded.hour, \
         weekday = excluded.weekday, day = excluded.day, zone = excluded.zone, full_every = excluded.full_every, \
         container = excluded.container, enabled = excluded.enabled, seen_at = excluded.seen_at, \
         next_at = excluded.next_at, last_at = excluded.last_at, last_error = excluded.last_error, \
         updated_at = excluded.updated_at",
    )
    .bind(s.id.clone())
    .bind(s.project_id.clone())
    .bind(s.user_id.clone())
    .bind(s.name.clone())
    .bind(s.description.clone())
    .bind(s.kind.as_str())
    .bind(volume)
    .bind(group)
    .bind(s.keep.hourly)
    .bind(s.keep.daily)
    .bind(s.keep.weekly)
    .bind(s.keep.monthly)
    .bind(s.clock.minute)
    .bind(s.clock.hour)
    .bind(s.clock.weekday)
    .bind(s.clock.day)
    .bind(s.clock.zone.clone())
    .bind(s.full_every)
    .bind(s.container.clone())
    .bind(s.enabled)
    .bind(s.seen_at)
    .bind(s.next_at)
    .bind(s.last_at.map(|t| t.0))
    .bind(s.last_error.clone())
    .bind(s.created_at)
    .bind(s.updated_at.map(|t| t.0))
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(super) async fn get<'e>(
    db: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<Option<Schedule>, VolumeError> {
    Where::of("id", id).one::<Row, Schedule>(db, SELECT).await
}

/// What a listing is narrowed to.
#[derive(Debug, Default, Clone)]
pub(crate) struct Filter {
    pub(crate) project_id: Option<String>,
    pub(crate) volume_id: Option<String>,
    pub(crate) group_id: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) name: Option<String>,
}

/// What a listing may be sorted by.
pub(crate) const SORT_KEYS: &[&str] = &["id", "name", "created_at"];

pub(super) async fn list<'e>(
    db: impl Executor<'e, Database = Any>,
    filter: &Filter,
    page: &Page,
    marker: Option<&Schedule>,
) -> Result<Vec<Schedule>, VolumeError> {
    let mut conditions = Where::default();
    conditions.given([
        ("project_id", &filter.project_id),
        ("volume_id", &filter.volume_id),
        ("group_id", &filter.group_id),
        ("kind", &filter.kind),
        ("name", &filter.name),
    ]);
    let column = |key: &str| SORT_KEYS.iter().copied().find(|k| *k == key);
    let at = marker.map(|m| {
        move |key: &str| -> Option<Arg> {
            Some(match key {
                "id" => m.id.clone().into(),
                "name" => m.name.clone().into(),
                "created_at" => m.created_at.0.into(),
                _ => return None,
            })
        }
    });
    let at = at.as_ref().map(|f| f as At<'_>);
    let query = conditions.page(page, "id", &[("created_at", true)], column, at);
    query.all::<Row, Schedule>(db, SELECT).await
}

pub(super) async fn count(tx: &mut Tx, project_id: &str) -> Result<i64, VolumeError> {
    let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM volume_schedules WHERE project_id = $1";
    Ok(sqlx::query_scalar(sql).bind(project_id.to_owned()).fetch_one(tx.conn()).await?)
}

pub(super) async fn remove(tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
    for sql in [
        "DELETE FROM volume_schedule_items WHERE schedule_id = $1",
        "DELETE FROM volume_schedules WHERE id = $1",
    ] {
        sqlx::query(sql).bind(id.to_owned()).execute(tx.conn()).await?;
    }
    Ok(())
}

/// The ids of those that are due.
pub(super) async fn due<'e>(
    db: impl Executor<'e, Database = Any>,
    now: Timestamp,
) -> Result<Vec<String>, VolumeError> {
    let sql = "SELECT id FROM volume_schedules WHERE enabled = $1 AND next_at <= $2 ORDER BY next_at, id";
    Ok(sqlx::query_scalar(sql).bind(true).bind(now).fetch_all(db).await?)
}

/// When one is due next.
pub(super) async fn next<'e>(
    db: impl Executor<'e, Database = Any>,
) -> Result<Option<Timestamp>, VolumeError> {
    let sql = "SELECT next_at FROM volume_schedules WHERE enabled = $1 ORDER BY next_at LIMIT 1";
    let at: Option<i64> = sqlx::query_scalar(sql).bind(true).fetch_optional(db).await?;
    Ok(at.map(Timestamp))
}

/// How a run has ended, where the schedule is still there.
pub(super) async fn ended(tx: &mut Tx, id: &str, at: Timestamp, error: &str) -> Result<(), VolumeError> {
    sqlx::query("UPDATE volume_schedules SET last_at = $1, last_error = $2 WHERE id = $3")
        .bind(at)
        .bind(error.to_owned())
        .bind(id.to_owned())
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// What it was for is gone.
pub(super) async fn disable(tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
    sqlx::query("UPDATE volume_schedules SET enabled = $1 WHERE id = $2")
        .bind(false)
        .bind(id.to_owned())
        .execute(tx.conn())
        .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct ItemRow {
    id: String,
    run_id: String,
    kind: String,
    classes: String,
    ordinal: i64,
    made_at: Timestamp,
}

impl TryFrom<ItemRow> for Item {
    type Error = VolumeError;
    fn try_from(r: ItemRow) -> Result<Item, VolumeError> {
        Ok(Item {
            id: r.id,
            run_id: r.run_id,
            kind: ItemKind::parse(&r.kind).ok_or_else(|| foreign("kind of item"))?,
            classes: r.classes.split(',').filter_map(Class::parse).collect(),
            ordinal: r.ordinal,
            made_at: r.made_at,
        })
    }
}

/// What a schedule has made and not yet deleted, oldest first. Some of it may be gone by others' hands.
pub(super) async fn items<'e>(
    db: impl Executor<'e, Database = Any>,
    schedule_id: &str,
) -> Result<Vec<Item>, VolumeError> {
    let sql = format!("{ITEMS} WHERE schedule_id = $1 ORDER BY made_at, id");
    let rows = sqlx::query_as::<_, ItemRow>(sqlx::AssertSqlSafe(sql)).bind(schedule_id.to_owned());
    rows.fetch_all(db).await?.into_iter().map(Item::try_from).collect()
}

/// Adds one, unless it is there.
pub(super) async fn add_item(tx: &mut Tx, schedule_id: &str, item: &Item) -> Result<(), VolumeError> {
    sqlx::query(
        "INSERT INTO volume_schedule_items (id, schedule_id, run_id, kind, classes, ordinal, made_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
    )
    .bind(item.id.clone())
    .bind(schedule_id.to_owned())
    .bind(item.run_id.clone())
    .bind(item.kind.as_str())
    .bind(item.classes.iter().map(|c| c.as_str()).collect::<Vec<_>>().join(","))
    .bind(item.ordinal)
    .bind(item.made_at)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(super) async fn remove_item(tx: &mut Tx, id: &str) -> Result<(), VolumeError> {
    sqlx::query("DELETE FROM volume_schedule_items WHERE id = $1")
        .bind(id.to_owned())
        .execute(tx.conn())
        .await?;
    Ok(())
}
