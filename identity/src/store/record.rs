//! Reading and writing records of any [`Kind`].

use crate::IdentityError;
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Executor, Row};
use state::Flag;

/// A resource as clients see it, without its links.
pub(crate) type Record = Map<String, Value>;

/// So many values a statement may name; both engines take more.
pub(crate) const MANY: usize = 500;

/// How an attribute is held in its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Text,
    /// Text whose absence is '' in the table and null outside, so that unique indexes see it.
    Owner,
    Bool,
    /// A number, also a time in microseconds.
    Int,
    /// Lists and objects.
    Json,
}

/// A resource's table: every attribute that has a column. `id` and `extra` are in all of them.
#[derive(Debug)]
pub(crate) struct Kind {
    /// As messages call it: `Could not find user: X.`
    pub(crate) noun: &'static str,
    pub(crate) table: &'static str,
    pub(crate) columns: &'static [(&'static str, Of)],
}

/// A value to compare with.
#[derive(Debug, Clone)]
pub(crate) enum Val {
    Text(String),
    Bool(bool),
}

impl From<&str> for Val {
    fn from(s: &str) -> Self {
        Val::Text(s.to_owned())
    }
}

impl From<bool> for Val {
    fn from(b: bool) -> Self {
        Val::Bool(b)
    }
}

/// A condition on rows; all of a list must hold.
#[derive(Debug, Clone)]
pub(crate) enum Cond {
    Eq(&'static str, Val),
    Null(&'static str),
    In(&'static str, Vec<String>),
    /// The column, lower-cased, is like this pattern (of ASCII text): a superset of what is meant.
    Like(&'static str, String),
    /// The number in the column, by this operator.
    Int(&'static str, &'static str, i64),
    /// Ids after this one.
    After(String),
    /// Users in this group.
    MemberOf(String),
    /// Groups that this user is in.
    GroupsOf(String),
    /// Users whom a provider of identities knows, by which, by which protocol, and as whom.
    Federated {
        idp: Option<String>,
        protocol: Option<String>,
        unique: Option<String>,
    },
}

impl Cond {
    pub(crate) fn eq(column: &'static str, value: impl Into<Val>) -> Self {
        Cond::Eq(column, value.into())
    }
}

enum Bind {
    Text(Option<String>),
    Bool(Option<bool>),
    Int(Option<i64>),
}

type Query<'q> = sqlx::query::Query<'q, Any, <Any as sqlx::Database>::Arguments>;

fn bind(query: Query<'_>, value: Bind) -> Query<'_> {
    match value {
        Bind::Text(v) => query.bind(v),
        Bind::Bool(v) => query.bind(v),
        Bind::Int(v) => query.bind(v),
    }
}

impl Kind {
    fn has(&self, attribute: &str) -> bool {
        attribute == "id" || self.columns.iter().any(|(n, _)| *n == attribute)
    }

    fn names(&self) -> String {
        let mut out = String::from("id");
        for (name, _) in self.columns {
            out.push_str(", ");
            out.push_str(name);
        }
        out.push_str(", extra");
        out
    }

    fn read(&self, row: &AnyRow) -> Result<Record, IdentityError> {
        let extra: String = row.try_get(self.columns.len() + 1)?;
        let mut record: Record = serde_json::from_str(&extra)?;
        record.insert("id".into(), row.try_get::<String, _>(0)?.into());
        for (i, (name, of)) in self.columns.iter().enumerate() {
            let value = match of {
                Of::Text => row.try_get::<Option<String>, _>(i + 1)?.into(),
                Of::Owner => row.try_get::<Option<String>, _>(i + 1)?.filter(|s| !s.is_empty()).into(),
                Of::Bool => row.try_get::<Option<Flag>, _>(i + 1)?.map(|f| f.0).into(),
                Of::Int => row.try_get::<Option<i64>, _>(i + 1)?.into(),
                Of::Json => match row.try_get::<Option<String>, _>(i + 1)? {
                    Some(text) => serde_json::from_str(&text)?,
                    None => Value::Null,
                },
            };
            record.insert((*name).to_owned(), value);
        }
        Ok(record)
    }

    /// The record's values in the order of [`Kind::names`], without the id.
    fn binds(&self, record: &Record) -> Vec<Bind> {
        let mut out: Vec<Bind> = self
            .columns
            .iter()
            .map(|(name, of)| {
                let value = record.get(*name).unwrap_or(&Value::Null);
                match of {
                    Of::Text => Bind::Text(value.as_str().map(str::to_owned)),
                    Of::Owner => Bind::Text(Some(value.as_str().unwrap_or_default().to_owned())),
                    Of::Bool => Bind::Bool(value.as_bool()),
                    Of::Int => Bind::Int(value.as_i64()),
                    Of::Json => Bind::Text((!value.is_null()).then(|| value.to_string())),
                }
            })
            .collect();
        let extra: Record =
            record.iter().filter(|(k, _)| !self.has(k)).map(|(k, v)| (k.clone(), v.clone())).collect();
        out.push(Bind::Text(Some(Value::Object(extra).to_string())));
        out
    }

    pub(crate) async fn get<'e>(
        &self,
        on: impl Executor<'e, Database = Any>,
        id: &str,
    ) -> Result<Option<Record>, IdentityError> {
        let sql = format!("SELECT {} FROM {} WHERE id = $1", self.names(), self.table);
        let row = sqlx::query(AssertSqlSafe(sql)).bind(id.to_owned()).fetch_optional(on).await?;
        row.map(|r| self.read(&r)).transpose()
    }

    /// The record, or upstream's 404.
    pub(crate) async fn need<'e>(
        &self,
        on: impl Executor<'e, Database = Any>,
        id: &str,
    ) -> Result<Record, IdentityError> {
        self.get(on, id).await?.ok_or_else(|| IdentityError::not_found(self.noun, id))
    }

    /// The records for which all conditions hold, ordered by id; at most `limit` unless that is 0.
    pub(crate) async fn find<'e>(
        &self,
        on: impl Executor<'e, Database = Any>,
        conds: &[Cond],
        limit: usize,
    ) -> Result<Vec<Record>, IdentityError> {
        let mut sql = format!("SELECT {} FROM {}", self.names(), self.table);
        let mut values = Vec::new();
        for (i, cond) in conds.iter().enumerate() {
            sql.push_str(if i == 0 { " WHERE " } else { " AND " });
            self.condition(cond, &mut sql, &mut values);
        }
        sql.push_str(" ORDER BY id");
        if limit > 0 {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        let query = values.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), bind);
        query.fetch_all(on).await?.iter().map(|r| self.read(r)).collect()
    }

    fn condition(&self, cond: &Cond, sql: &mut String, values: &mut Vec<Bind>) {
        let mut place = |v: Bind| {
            values.push(v);
            format!("${}", values.len())
        };
        match cond {
            Cond::Eq(column, Val::Text(v)) => {
                sql.push_str(&format!("{column} = {}", place(Bind::Text(Some(v.clone())))));
            }
            Cond::Eq(column, Val::Bool(v)) => {
                sql.push_str(&format!("{column} = {}", place(Bind::Bool(Some(*v)))));
            }
            Cond::Null(column) => sql.push_str(&format!("{column} IS NULL")),
            Cond::In(_, values) if values.is_empty() => sql.push_str("1 = 0"),
            Cond::In(column, list) => {
                let places: Vec<_> = list.iter().map(|v| place(Bind::Text(Some(v.clone())))).collect();
                sql.push_str(&format!("{column} IN ({})", places.join(", ")));
            }
            Cond::Like(column, pattern) => {
                let at = place(Bind::Text(Some(pattern.clone())));
                sql.push_str(&format!("lower({column}) LIKE {at} ESCAPE '!'"));
            }
            Cond::MemberOf(group) => {
                let at = place(Bind::Text(Some(group.clone())));
                let now = place(Bind::Int(Some(state::Timestamp::now().micros())));
                sql.push_str(&format!(
                    "id IN (SELECT user_id FROM identity_members WHERE group_id = {at} UNION ALL \
                     SELECT user_id FROM identity_expiring_members WHERE group_id = {at} AND expires_at > {now})"
                ));
            }
            Cond::GroupsOf(user) => {
                let at = place(Bind::Text(Some(user.clone())));
                let now = place(Bind::Int(Some(state::Timestamp::now().micros())));
                sql.push_str(&format!(
                    "id IN (SELECT group_id FROM identity_members WHERE user_id = {at} UNION ALL \
                     SELECT group_id FROM identity_expiring_members WHERE user_id = {at} AND expires_at > {now})"
                ));
            }
            Cond::Federated { idp, protocol, unique } => {
                let named = [("idp_id", idp), ("protocol_id", protocol), ("unique_id", unique)];
                let named = named.into_iter().filter_map(|(column, v)| Some((column, v.as_ref()?)));
                let all: Vec<String> = named
                    .map(|(column, v)| format!("{column} = {}", place(Bind::Text(Some(v.clone())))))
                    .collect();
                let all = if all.is_empty() { "1 = 1".to_owned() } else { all.join(" AND ") };
                sql.push_str(&format!("id IN (SELECT user_id FROM identity_federated_users WHERE {all})"));
            }
            Cond::Int(column, operator, v) => {
                sql.push_str(&format!("{column} {operator} {}", place(Bind::Int(Some(*v)))));
            }
            Cond::After(id) => sql.push_str(&format!("id > {}", place(Bind::Text(Some(id.clone()))))),
        }
    }

    /// The records whose `column` is one of these, of which there may be many, ordered by id.
    pub(crate) async fn find_among(
        &self,
        on: &sqlx::AnyPool,
        column: &'static str,
        values: &[String],
    ) -> Result<Vec<Record>, IdentityError> {
        let mut out = Vec::new();
        for some in values.chunks(MANY) {
            out.extend(self.find(on, &[Cond::In(column, some.to_vec())], 0).await?);
        }
        out.sort_by(|a, b| a.text("id").cmp(b.text("id")));
        Ok(out)
    }

    /// The one record for which all conditions hold.
    pub(crate) async fn one<'e>(
        &self,
        on: impl Executor<'e, Database = Any>,
        conds: &[Cond],
    ) -> Result<Option<Record>, IdentityError> {
        Ok(self.find(on, conds, 1).await?.pop())
    }

    /// Attributes without a column go into `extra`.
    pub(crate) async fn insert<'e>(
        &self,
        on: impl Executor<'e, Database = Any>,
        record: &Record,
    ) -> Result<(), IdentityError> {
        let places: Vec<String> = (2..=self.columns.len() + 2).map(|i| format!("${i}")).collect();
        let sql = format!("INSERT INTO {} ({}) VALUES ($1, {})", self.table, self.names(), places.join(", "));
        let id = record.text("id").to_owned();
        let query = sqlx::query(AssertSqlSafe(sql)).bind(id);
        let query = self.binds(record).into_iter().fold(query, bind);
        query.execute(on).await.map_err(|e| self.duplicate(e, record))?;
        Ok(())
    }

    /// Writes the whole record again.
    pub(crate) async fn update<'e>(
        &self,
        on: impl Executor<'e, Database = Any>,
        record: &Record,
    ) -> Result<(), IdentityError> {
        let names = self.columns.iter().map(|(n, _)| *n).chain(["extra"]);
        let sets: Vec<String> = names.enumerate().map(|(i, n)| format!("{n} = ${}", i + 2)).collect();
        let sql = format!("UPDATE {} SET {} WHERE id = $1", self.table, sets.join(", "));
        let query = sqlx::query(AssertSqlSafe(sql)).bind(record.text("id").to_owned());
        let query = self.binds(record).into_iter().fold(query, bind);
        query.execute(on).await.map_err(|e| self.duplicate(e, record))?;
        Ok(())
    }

    pub(crate) async fn delete<'e>(
        &self,
        on: impl Executor<'e, Database = Any>,
        id: &str,
    ) -> Result<(), IdentityError> {
        let sql = format!("DELETE FROM {} WHERE id = $1", self.table);
        let done = sqlx::query(AssertSqlSafe(sql)).bind(id.to_owned()).execute(on).await?;
        if done.rows_affected() == 0 { Err(IdentityError::not_found(self.noun, id)) } else { Ok(()) }
    }

    /// Deletes what matches; how many.
    pub(crate) async fn delete_where<'e>(
        &self,
        on: impl Executor<'e, Database = Any>,
        conds: &[Cond],
    ) -> Result<u64, IdentityError> {
        let mut sql = format!("DELETE FROM {}", self.table);
        let mut values = Vec::new();
        for (i, cond) in conds.iter().enumerate() {
            sql.push_str(if i == 0 { " WHERE " } else { " AND " });
            self.condition(cond, &mut sql, &mut values);
        }
        let query = values.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), bind);
        Ok(query.execute(on).await?.rows_affected())
    }

    fn duplicate(&self, e: sqlx::Error, record: &Record) -> IdentityError {
        match state::StateError::from(e) {
            state::StateError::Conflict(_) => {
                let name = ["name", "id"].iter().find(|k| record.contains_key(**k));
                let named = name.map_or_else(String::new, |k| format!(" with {k} {}", record.text(k)));
                IdentityError::Conflict { noun: self.noun, detail: format!("Duplicate entry found{named}") }
            }
            other => other.into(),
        }
    }
}

/// Short ways to read a record.
pub(crate) trait Fields {
    /// The text of an attribute; empty where it is absent or of another type.
    fn text(&self, name: &str) -> &str;
    fn opt_text(&self, name: &str) -> Option<&str>;
    fn flag(&self, name: &str) -> bool;
}

impl Fields for Record {
    fn text(&self, name: &str) -> &str {
        self.opt_text(name).unwrap_or_default()
    }

    fn opt_text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(false)
    }
}
