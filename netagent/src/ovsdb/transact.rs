//! The operations of a transaction (RFC 7047 section 5.2) and their outcomes.

use serde_json::{Value, json};
use uuid::Uuid;

use super::value::{Datum, Row, parse_row, row_to_json};
use crate::NetError;

/// One operation of a transaction. All of a transaction's operations happen, or none.
#[derive(Clone, Debug)]
pub struct Op(Value);

/// What a `wait` waits for.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    Equal,
    NotEqual,
}

fn by_uuid(uuid: Uuid) -> Value {
    json!([["_uuid", "==", ["uuid", uuid.to_string()]]])
}

impl Op {
    /// Inserts a row; `named` lets other operations of the same transaction refer to it.
    pub fn insert(table: &str, row: &Row, named: Option<&str>) -> Self {
        let mut op = json!({"op": "insert", "table": table, "row": row_to_json(row)});
        if let Some(name) = named {
            op["uuid-name"] = json!(name);
        }
        Self(op)
    }

    pub fn update(table: &str, uuid: Uuid, row: &Row) -> Self {
        Self(json!({"op": "update", "table": table, "where": by_uuid(uuid), "row": row_to_json(row)}))
    }

    pub fn delete(table: &str, uuid: Uuid) -> Self {
        Self(json!({"op": "delete", "table": table, "where": by_uuid(uuid)}))
    }

    /// Adds elements to, or takes them from, a set or map column.
    pub fn mutate_insert(table: &str, uuid: Uuid, column: &str, elements: &Datum) -> Self {
        Self::mutate(table, uuid, column, "insert", elements.to_json())
    }

    pub fn mutate_delete(table: &str, uuid: Uuid, column: &str, elements: &Datum) -> Self {
        Self::mutate(table, uuid, column, "delete", elements.to_json())
    }

    /// Adds to an integer column.
    pub fn mutate_add(table: &str, uuid: Uuid, column: &str, amount: i64) -> Self {
        Self::mutate(table, uuid, column, "+=", json!(amount))
    }

    fn mutate(table: &str, uuid: Uuid, column: &str, mutator: &str, value: Value) -> Self {
        let mutations = json!([[column, mutator, value]]);
        Self(json!({"op": "mutate", "table": table, "where": by_uuid(uuid), "mutations": mutations}))
    }

    /// Reads the rows where `column` equals `value`.
    pub fn select(table: &str, column: &str, value: &Datum, columns: &[&str]) -> Self {
        let condition = json!([[column, "==", value.to_json()]]);
        Self(json!({"op": "select", "table": table, "where": condition, "columns": columns}))
    }

    /// Fails the transaction at once (no waiting) unless the rows where `column` equals `value` are, in
    /// the columns of `rows`, exactly `rows`: the guard of optimistic concurrency.
    pub fn wait(
        table: &str,
        (column, value): (&str, &Datum),
        columns: &[&str],
        until: Until,
        rows: &[Row],
    ) -> Self {
        let until = match until {
            Until::Equal => "==",
            Until::NotEqual => "!=",
        };
        let rows: Vec<Value> = rows.iter().map(row_to_json).collect();
        Self(json!({"op": "wait", "table": table, "timeout": 0, "columns": columns, "until": until,
            "where": [[column, "==", value.to_json()]], "rows": rows}))
    }

    /// Fails the transaction unless no row has that value: for tables without a unique index.
    pub fn assert_absent(table: &str, column: &str, value: &Datum) -> Self {
        Self::wait(table, (column, value), &[column], Until::Equal, &[])
    }

    /// Fails the transaction unless the row still has these columns.
    pub fn assert_unchanged(table: &str, uuid: Uuid, columns: &Row) -> Self {
        let names: Vec<&str> = columns.keys().map(String::as_str).collect();
        Self::wait(table, ("_uuid", &Datum::one(uuid)), &names, Until::Equal, std::slice::from_ref(columns))
    }

    /// A note in the database's log.
    pub fn comment(text: &str) -> Self {
        Self(json!({"op": "comment", "comment": text}))
    }

    pub(super) fn into_json(self) -> Value {
        self.0
    }
}

/// What one operation did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The id of an inserted row.
    pub uuid: Option<Uuid>,
    /// How many rows an update, mutate or delete touched.
    pub count: u64,
    /// The rows that a select found.
    pub rows: Vec<Row>,
}

/// Reads a transaction's answer: the outcomes, or the first error in it.
pub(super) fn outcomes(result: &Value, sent: usize) -> Result<Vec<Outcome>, NetError> {
    let bad = || NetError::OvsdbProtocol("not an answer to a transaction".into());
    let items = result.as_array().ok_or_else(bad)?;
    // A constraint that fails at commit is one more element than there were operations.
    if let Some((error, item)) =
        items.iter().find_map(|item| item.get("error").and_then(Value::as_str).map(|e| (e, item)))
    {
        let details = item.get("details").and_then(Value::as_str).unwrap_or("");
        return Err(NetError::OvsdbRefused { error: error.to_owned(), details: details.to_owned() });
    }
    if items.len() < sent {
        return Err(bad());
    }
    items
        .iter()
        .map(|item| {
            let uuid = match item.get("uuid") {
                Some(value) => Datum::parse(value)?.uuids().next(),
                None => None,
            };
            let rows = match item.get("rows").and_then(Value::as_array) {
                Some(rows) => rows.iter().map(parse_row).collect::<Result<_, _>>()?,
                None => Vec::new(),
            };
            Ok(Outcome { uuid, count: item.get("count").and_then(Value::as_u64).unwrap_or(0), rows })
        })
        .collect()
}
