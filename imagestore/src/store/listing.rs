//! Listing: what a caller sees, filtered and in order, one query a page.

use super::images::{COLUMNS, Row};
use super::{Bind, Sql, bind_all};
use crate::model::{Image, MemberStatus, Visibility};
use sqlx::AssertSqlSafe;
use state::{Db, StateError};

/// Whose list it is.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    pub(crate) project: Option<String>,
    pub(crate) admin: bool,
}

/// A comparison a filter makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Eq,
    Neq,
    Gt,
    Gte,
    Lt,
    Lte,
}

impl Op {
    fn sql(self) -> &'static str {
        match self {
            Op::Eq => "=",
            Op::Neq => "<>",
            Op::Gt => ">",
            Op::Gte => ">=",
            Op::Lt => "<",
            Op::Lte => "<=",
        }
    }
}

/// One condition. Column names are this program's own.
#[derive(Debug, Clone)]
pub(crate) enum Filter {
    /// One of these texts.
    Text(&'static str, Vec<String>),
    Int(&'static str, Op, i64),
    /// A time, as it is shown: in whole seconds since the epoch.
    Second(&'static str, Op, i64),
    Flag(&'static str, bool),
    Tag(String),
    Property(String, String),
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listing {
    /// `None`: what a plain list shows. `Some(None)`: all.
    pub(crate) visibility: Option<Option<Visibility>>,
    /// `None`: whatever the member has said.
    pub(crate) member_status: Option<MemberStatus>,
    pub(crate) filters: Vec<Filter>,
    /// (column, descending); `created_at` and `id` are added where they are missing.
    pub(crate) sort: Vec<(&'static str, bool)>,
    pub(crate) limit: usize,
    /// The last image of the page before.
    pub(crate) after: Option<Image>,
}

/// Up to `limit` images.
pub(crate) async fn list(db: &Db, viewer: &Viewer, listing: &Listing) -> Result<Vec<Image>, StateError> {
    let mut sql = Sql::default();
    sql.push("images i WHERE i.status <> 'deleted'", []);
    visible(&mut sql, viewer, listing);
    listing.filters.iter().for_each(|f| filter(&mut sql, f));
    let order = order(&listing.sort);
    if let Some(after) = &listing.after {
        beyond(&mut sql, &order, after);
    }
    let words: Vec<_> =
        order.iter().map(|(c, down)| format!("{} {}", key(c), if *down { "DESC" } else { "ASC" })).collect();
    let limit = i64::try_from(listing.limit).unwrap_or(i64::MAX);
    sql.push(&format!(" ORDER BY {} LIMIT ?", words.join(", ")), [Bind::Int(limit)]);
    let query = sqlx::query_scalar::<_, String>(AssertSqlSafe(db.engine().json_rows(COLUMNS, &sql.text)));
    let rows = bind_all!(query, sql.binds).fetch_one(db.read()).await?;
    serde_json::from_str::<Vec<Row>>(&rows)?.into_iter().map(Image::try_from).collect()
}

fn visible(sql: &mut Sql, viewer: &Viewer, listing: &Listing) {
    let me = viewer.project.clone().unwrap_or_default();
    if !viewer.admin {
        sql.push(
            " AND (i.owner = ? OR i.visibility IN ('public', 'community') OR ",
            [Bind::Text(me.clone())],
        );
        member(sql, &me, listing.member_status);
        sql.push(")", []);
    }
    match listing.visibility {
        // Community images of others are seen by who asks for them.
        None => sql.push(" AND (i.visibility <> 'community' OR i.owner = ?)", [Bind::Text(me)]),
        Some(None) => {}
        Some(Some(Visibility::Shared)) if listing.member_status.is_some() && !viewer.admin => {
            sql.push(" AND i.visibility = 'shared' AND (i.owner = ? OR ", [Bind::Text(me.clone())]);
            member(sql, &me, listing.member_status);
            sql.push(")", []);
        }
        Some(Some(v)) => sql.push(" AND i.visibility = ?", [Bind::Text(v.as_str().to_owned())]),
    }
}

fn member(sql: &mut Sql, me: &str, status: Option<MemberStatus>) {
    sql.push(
        "(i.visibility = 'shared' AND EXISTS (SELECT 1 FROM image_members m WHERE m.image_id = i.id AND \
         m.member_id = ?",
        [Bind::Text(me.to_owned())],
    );
    if let Some(status) = status {
        sql.push(" AND m.status = ?", [Bind::Text(status.as_str().to_owned())]);
    }
    sql.push("))", []);
}

fn filter(sql: &mut Sql, filter: &Filter) {
    match filter {
        Filter::Text(column, values) => {
            let marks = vec!["?"; values.len()].join(", ");
            sql.push(&format!(" AND i.{column} IN ({marks})"), values.iter().cloned().map(Bind::Text));
        }
        Filter::Int(column, op, value) => {
            sql.push(&format!(" AND i.{column} {} ?", op.sql()), [Bind::Int(*value)]);
        }
        Filter::Second(column, op, value) => {
            sql.push(&format!(" AND i.{column} / 1000000 {} ?", op.sql()), [Bind::Int(*value)]);
        }
        Filter::Flag(column, value) => sql.push(&format!(" AND i.{column} = ?"), [Bind::Int(i64::from(*value))]),
        Filter::Tag(tag) => sql.push(
            " AND EXISTS (SELECT 1 FROM image_tags t WHERE t.image_id = i.id AND t.tag = ?)",
            [Bind::Text(tag.clone())],
        ),
        Filter::Property(name, value) => sql.push(
            " AND EXISTS (SELECT 1 FROM image_properties p WHERE p.image_id = i.id AND p.name = ? AND p.value = ?)",
            [Bind::Text(name.clone()), Bind::Text(value.clone())],
        ),
    }
}

/// Every order ends in the id, so that a marker names one place.
fn order(asked: &[(&'static str, bool)]) -> Vec<(&'static str, bool)> {
    let mut order = asked.to_vec();
    let down = order.last().is_none_or(|(_, down)| *down);
    for column in ["created_at", "id"] {
        if !order.iter().any(|(c, _)| *c == column) {
            order.push((column, down));
        }
    }
    order
}

/// The column as it sorts: what is absent comes before everything.
fn key(column: &str) -> String {
    match column {
        "name" | "container_format" | "disk_format" => format!("COALESCE(i.{column}, '')"),
        "size" => "COALESCE(i.size, -1)".to_owned(),
        _ => format!("i.{column}"),
    }
}

fn value(column: &str, image: &Image) -> Bind {
    let text = |t: &Option<String>| Bind::Text(t.clone().unwrap_or_default());
    match column {
        "name" => text(&image.name),
        "container_format" => text(&image.container_format),
        "disk_format" => text(&image.disk_format),
        "status" => Bind::Text(image.status.as_str().to_owned()),
        "size" => Bind::Int(image.size.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX))),
        "created_at" => Bind::Int(image.created_at.0),
        "updated_at" => Bind::Int(image.updated_at.0),
        _ => Bind::Text(image.id.clone()),
    }
}

/// The rows that come after `image`: the first key is beyond its, or equal and the second is, and so on.
fn beyond(sql: &mut Sql, order: &[(&'static str, bool)], image: &Image) {
    sql.push(" AND (", []);
    for n in 0..order.len() {
        sql.push(if n == 0 { "(" } else { " OR (" }, []);
        for (i, (column, down)) in order.iter().take(n + 1).enumerate() {
            let op = match (i == n, down) {
                (false, _) => "=",
                (true, true) => "<",
                (true, false) => ">",
            };
            let and = if i == 0 { "" } else { " AND " };
            sql.push(&format!("{and}{} {op} ?", key(column)), [value(column, image)]);
        }
        sql.push(")", []);
    }
    sql.push(")", []);
}
