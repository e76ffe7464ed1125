//! Listings: upstream's filters (`name=`, `enabled=`, `name__icontains=` and kin), limit and marker.

use crate::store::record::Of;
use crate::store::{Cond, Kind, Record, Val, record::Fields};
use crate::{Identity, IdentityError};
use api::Query;
use serde_json::Value;

/// A page of records.
pub(crate) struct Found {
    pub(crate) records: Vec<Record>,
    /// The marker of the next page, where there is one.
    pub(crate) next: Option<String>,
    /// A limit cut the list.
    pub(crate) truncated: bool,
}

impl From<Vec<Record>> for Found {
    fn from(records: Vec<Record>) -> Self {
        Found { records, next: None, truncated: false }
    }
}

/// A condition that SQL leaves to us.
enum Left {
    Exact(String, String),
    Inexact { name: String, how: How, value: String, fold: bool },
}

#[derive(Clone, Copy)]
enum How {
    Equals,
    Contains,
    StartsWith,
    EndsWith,
}

/// Upstream: everything that does not say no is true.
pub(crate) fn is_true(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "0" | "false" | "off" | "no" | "f" | "n")
}

/// Whether a bare flag such as `?effective` is set.
pub(crate) fn flag(query: &Query, name: &str) -> bool {
    query.get(name).is_some_and(|v| v.is_empty() || is_true(v))
}

impl Identity {
    /// The records that `must` hold for and the query asks for. Only the attributes in `filters` are filtered by;
    /// other parameters mean nothing, as upstream has it.
    pub(crate) async fn list(
        &self,
        kind: &'static Kind,
        filters: &[&'static str],
        must: Vec<Cond>,
        query: &Query,
    ) -> Result<Found, IdentityError> {
        self.list_up_to(self.config.list_limit, kind, filters, must, query).await
    }

    /// The same, and no more than `most` unless that is 0.
    pub(crate) async fn list_up_to(
        &self,
        most: usize,
        kind: &'static Kind,
        filters: &[&'static str],
        must: Vec<Cond>,
        query: &Query,
    ) -> Result<Found, IdentityError> {
        let mut conds = must;
        let mut left = Vec::new();
        for (key, value) in query.iter() {
            plan(kind, filters, key, value, &mut conds, &mut left)?;
        }
        if let Some(marker) = query.get("marker") {
            conds.push(Cond::After(marker.to_owned()));
        }
        let asked = match query.int("limit")? {
            Some(n) if n < 0 => {
                return Err(IdentityError::Invalid("The limit must not be negative.".into()));
            }
            Some(n) => usize::try_from(n).ok().filter(|n| *n > 0),
            None => None,
        };
        let own = Some(most).filter(|n| *n > 0);
        let limit = match (asked, own) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b).unwrap_or(0),
        };
        // What is filtered here cannot be limited there.
        let fetch = if left.is_empty() && limit > 0 { limit + 1 } else { 0 };
        let mut records = kind.find(self.db.read(), &conds, fetch).await?;
        records.retain(|r| left.iter().all(|l| l.holds(r)));
        let more = limit > 0 && records.len() > limit;
        if more {
            records.truncate(limit);
        }
        let next = records.last().filter(|_| more).map(|r| r.text("id").to_owned());
        Ok(Found { records, truncated: more, next })
    }
}

fn plan(
    kind: &Kind,
    filters: &[&'static str],
    key: &str,
    value: &str,
    conds: &mut Vec<Cond>,
    left: &mut Vec<Left>,
) -> Result<(), IdentityError> {
    if let Some(name) = filters.iter().find(|f| **f == key) {
        match kind.columns.iter().find(|(n, _)| n == name).map(|(_, of)| *of) {
            Some(Of::Bool) => conds.push(Cond::Eq(name, Val::Bool(is_true(value)))),
            Some(Of::Text) if value.is_empty() => conds.push(Cond::Null(name)),
            Some(Of::Text | Of::Owner) => conds.push(Cond::eq(name, value)),
            None if *name == "id" => conds.push(Cond::eq("id", value)),
            _ => left.push(Left::Exact(key.to_owned(), value.to_owned())),
        }
        return Ok(());
    }
    let Some((name, how)) = key.split_once("__") else { return Ok(()) };
    let Some(name) = filters.iter().find(|f| **f == name) else { return Ok(()) };
    let (fold, bare) = match how.strip_prefix('i') {
        Some(bare) => (true, bare),
        None => (false, how),
    };
    let how = match bare {
        "equals" => How::Equals,
        "contains" => How::Contains,
        "startswith" => How::StartsWith,
        "endswith" => How::EndsWith,
        _ => return Ok(()),
    };
    let is_text = kind.columns.iter().any(|(n, of)| n == name && *of == Of::Text);
    if is_text && value.is_ascii() {
        conds.push(Cond::Like(name, pattern(how, &value.to_ascii_lowercase())));
    }
    left.push(Left::Inexact { name: (*name).to_owned(), how, value: value.to_owned(), fold });
    Ok(())
}

fn pattern(how: How, value: &str) -> String {
    let safe = value.replace('!', "!!").replace('%', "!%").replace('_', "!_");
    match how {
        How::Equals => safe,
        How::Contains => format!("%{safe}%"),
        How::StartsWith => format!("{safe}%"),
        How::EndsWith => format!("%{safe}"),
    }
}

impl Left {
    fn holds(&self, record: &Record) -> bool {
        match self {
            Left::Exact(name, value) => match record.get(name) {
                Some(Value::Bool(b)) => *b == is_true(value),
                Some(Value::String(s)) => s == value,
                Some(Value::Number(n)) => n.to_string() == *value,
                _ => false,
            },
            Left::Inexact { name, how, value, fold } => {
                let case = |s: &str| if *fold { s.to_lowercase() } else { s.to_owned() };
                let (has, value) = (case(record.text(name)), case(value));
                match how {
                    How::Equals => has == value,
                    How::Contains => has.contains(&value),
                    How::StartsWith => has.starts_with(&value),
                    How::EndsWith => has.ends_with(&value),
                }
            }
        }
    }
}
