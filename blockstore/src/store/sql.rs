//! A conditional SELECT, put together from constants and bound values only.

use crate::VolumeError;
use crate::model::Metadata;
use api::{Page, Sort};
use serde::de::DeserializeOwned;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::QueryAs;
use sqlx::{Any, AssertSqlSafe, Executor};
use state::Db;

/// A bound value.
#[derive(Debug, Clone)]
pub(crate) enum Arg {
    Text(String),
    Int(i64),
    Bool(bool),
}

impl From<&str> for Arg {
    fn from(v: &str) -> Self {
        Arg::Text(v.to_owned())
    }
}

impl From<String> for Arg {
    fn from(v: String) -> Self {
        Arg::Text(v)
    }
}

impl From<i64> for Arg {
    fn from(v: i64) -> Self {
        Arg::Int(v)
    }
}

impl From<bool> for Arg {
    fn from(v: bool) -> Self {
        Arg::Bool(v)
    }
}

/// A marker's own value of a sort key.
pub(crate) type At<'a> = &'a dyn Fn(&str) -> Option<Arg>;

/// Conditions joined by AND. Each `?` in a condition's text stands for its value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Where {
    text: String,
    args: Vec<Arg>,
}

impl Where {
    /// `column = value` alone.
    pub(crate) fn of(column: &'static str, value: impl Into<Arg>) -> Self {
        let mut only = Self::default();
        only.eq(column, value);
        only
    }

    /// Adds a condition whose text is a constant of this program with one `?` for each value.
    pub(crate) fn and(&mut self, condition: &'static str, values: impl IntoIterator<Item = Arg>) {
        self.text.push_str(if self.text.is_empty() { " WHERE " } else { " AND " });
        let mut values = values.into_iter();
        for c in condition.chars() {
            match (c, c == '?') {
                (_, true) => self.placeholder(values.next().unwrap_or(Arg::Int(0))),
                (c, _) => self.text.push(c),
            }
        }
    }

    /// `column = value`.
    pub(crate) fn eq(&mut self, column: &'static str, value: impl Into<Arg>) {
        self.text.push_str(if self.text.is_empty() { " WHERE " } else { " AND " });
        self.text.push_str(column);
        self.text.push_str(" = ");
        self.placeholder(value.into());
    }

    /// `column = value` for each value that is asked for.
    pub(crate) fn given<'a>(&mut self, all: impl IntoIterator<Item = (&'static str, &'a Option<String>)>) {
        for (column, value) in all {
            if let Some(value) = value {
                self.eq(column, value.as_str());
            }
        }
    }

    /// `column IN (values)`; with no values nothing matches.
    pub(crate) fn among(&mut self, column: &'static str, values: impl IntoIterator<Item = String>) {
        self.text.push_str(if self.text.is_empty() { " WHERE " } else { " AND " });
        self.text.push_str(column);
        self.text.push_str(" IN (NULL");
        for value in values {
            self.text.push_str(", ");
            self.placeholder(Arg::Text(value));
        }
        self.text.push(')');
    }

    /// The column holds this text somewhere inside. Both engines know `replace`; their `LIKE`s differ.
    pub(crate) fn contains(&mut self, column: &'static str, value: &str) {
        self.text.push_str(if self.text.is_empty() { " WHERE " } else { " AND " });
        self.text.push_str("replace(");
        self.text.push_str(column);
        self.text.push_str(", ");
        self.placeholder(Arg::Text(value.to_owned()));
        self.text.push_str(", '') <> ");
        self.text.push_str(column);
    }

    /// The column, a JSON object as [`to_json`] writes it, has all these pairs.
    pub(crate) fn has_pairs(&mut self, column: &'static str, pairs: &Metadata) {
        for (key, value) in pairs {
            let pair = format!("{}:{}", quoted(key), quoted(value));
            self.contains(column, &pair);
        }
    }

    fn placeholder(&mut self, value: Arg) {
        self.args.push(value);
        self.text.push_str(&format!("${}", self.args.len()));
    }

    /// Orders by the page's keys (then by `tie`, so that the order is total), after the marker's row, and bounds
    /// the rows. `column` names the SQL of a sort key; `at` gives the marker's own value of it.
    pub(crate) fn page(
        mut self,
        page: &Page,
        tie: &'static str,
        default: &[(&'static str, bool)],
        column: impl Fn(&str) -> Option<&'static str>,
        at: Option<At<'_>>,
    ) -> Self {
        let mut keys: Vec<(String, &'static str, bool)> = page
            .sort
            .iter()
            .filter_map(|Sort { key, descending }| Some((key.clone(), column(key)?, *descending)))
            .collect();
        if keys.is_empty() {
            keys = default.iter().filter_map(|(k, d)| Some(((*k).to_owned(), column(k)?, *d))).collect();
        }
        let down = keys.last().is_some_and(|(_, _, d)| *d);
        if !keys.iter().any(|(_, c, _)| *c == tie) {
            keys.push(("id".to_owned(), tie, down));
        }
        if let Some(at) = at {
            self.after(&keys, at);
        }
        let order: Vec<String> =
            keys.iter().map(|(_, c, d)| format!("{c} {}", if *d { "DESC" } else { "ASC" })).collect();
        self.text.push_str(" ORDER BY ");
        self.text.push_str(&order.join(", "));
        self.text.push_str(&format!(" LIMIT {} OFFSET {}", page.fetch(), page.offset));
        self
    }

    /// Rows strictly after the marker in the order of `keys`. An absent value counts as the empty one, in the
    /// order too: sort columns are written so that they are never NULL.
    fn after(&mut self, keys: &[(String, &'static str, bool)], at: At<'_>) {
        let values: Vec<Arg> =
            keys.iter().map(|(k, _, _)| at(k).unwrap_or(Arg::Text(String::new()))).collect();
        self.text.push_str(if self.text.is_empty() { " WHERE (" } else { " AND (" });
        for (i, (_, column, descending)) in keys.iter().enumerate() {
            self.text.push_str(if i == 0 { "(" } else { " OR (" });
            for (j, (_, before, _)) in keys[..i].iter().enumerate() {
                self.text.push_str(before);
                self.text.push_str(" = ");
                self.placeholder(values[j].clone());
                self.text.push_str(" AND ");
            }
            self.text.push_str(column);
            self.text.push_str(if *descending { " < " } else { " > " });
            self.placeholder(values[i].clone());
            self.text.push(')');
        }
        self.text.push(')');
    }

    /// The row of `select` under these conditions, if there is one.
    pub(crate) async fn one<'e, R, T>(
        &self,
        db: impl Executor<'e, Database = Any>,
        select: &str,
    ) -> Result<Option<T>, VolumeError>
    where
        R: for<'r> sqlx::FromRow<'r, AnyRow> + Send + Unpin,
        T: TryFrom<R, Error = VolumeError>,
    {
        self.query::<R>(select).fetch_optional(db).await?.map(T::try_from).transpose()
    }

    /// The rows of `select` under these conditions.
    pub(crate) async fn all<'e, R, T>(
        &self,
        db: impl Executor<'e, Database = Any>,
        select: &str,
    ) -> Result<Vec<T>, VolumeError>
    where
        R: for<'r> sqlx::FromRow<'r, AnyRow> + Send + Unpin,
        T: TryFrom<R, Error = VolumeError>,
    {
        self.query::<R>(select).fetch_all(db).await?.into_iter().map(T::try_from).collect()
    }

    /// The rows of these tables under these conditions, for long lists: `R` has the columns in their order.
    pub(crate) async fn json_rows<R: DeserializeOwned>(
        &self,
        db: &Db,
        columns: &str,
        tables: &str,
    ) -> Result<Vec<R>, VolumeError> {
        let select = db.engine().json_rows(columns, &format!("{tables}{}", self.text));
        let (rows,) = self.bound::<(String,)>(select).fetch_one(db.read()).await?;
        Ok(serde_json::from_str(&rows)?)
    }

    /// The query of `select` under these conditions.
    pub(crate) fn query<O>(&self, select: &str) -> QueryAs<'static, Any, O, AnyArguments>
    where
        O: for<'r> sqlx::FromRow<'r, AnyRow>,
    {
        self.bound(format!("{select}{}", self.text))
    }

    fn bound<O>(&self, sql: String) -> QueryAs<'static, Any, O, AnyArguments>
    where
        O: for<'r> sqlx::FromRow<'r, AnyRow>,
    {
        let mut query = sqlx::query_as(AssertSqlSafe(sql));
        for arg in &self.args {
            query = match arg.clone() {
                Arg::Text(v) => query.bind(v),
                Arg::Int(v) => query.bind(v),
                Arg::Bool(v) => query.bind(v),
            };
        }
        query
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The one text of a map: compact, sorted.
pub(crate) fn to_json(map: &Metadata) -> Result<String, VolumeError> {
    Ok(serde_json::to_string(map)?)
}

pub(crate) fn from_json(text: &str) -> Result<Metadata, VolumeError> {
    Ok(serde_json::from_str(text)?)
}
