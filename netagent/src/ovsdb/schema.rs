//! The little of a database's schema that a replica needs: which monitored columns hold a single value,
//! because `update2` sends those whole and everything else as a difference.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::NetError;

/// Table → its columns, and of those the single-valued ones.
#[derive(Debug, Default, Clone)]
pub struct Schema {
    tables: BTreeMap<String, TableSchema>,
}

#[derive(Debug, Default, Clone)]
struct TableSchema {
    columns: BTreeSet<String>,
    single: BTreeSet<String>,
}

impl Schema {
    /// Reads the answer of `get_schema`.
    pub fn parse(value: &Value) -> Result<Self, NetError> {
        let bad = || NetError::OvsdbProtocol("not an OVSDB schema".into());
        let mut tables = BTreeMap::new();
        for (name, table) in value.get("tables").and_then(Value::as_object).ok_or_else(bad)? {
            let mut parsed = TableSchema::default();
            for (column, spec) in table.get("columns").and_then(Value::as_object).ok_or_else(bad)? {
                parsed.columns.insert(column.clone());
                if is_single(spec.get("type").ok_or_else(bad)?) {
                    parsed.single.insert(column.clone());
                }
            }
            tables.insert(name.clone(), parsed);
        }
        Ok(Self { tables })
    }

    pub fn has(&self, table: &str, column: &str) -> bool {
        self.tables.get(table).is_some_and(|t| t.columns.contains(column))
    }

    pub fn is_single(&self, table: &str, column: &str) -> bool {
        self.tables.get(table).is_some_and(|t| t.single.contains(column))
    }
}

/// A type that is a bare string, or whose `max` is 1 (its default).
fn is_single(kind: &Value) -> bool {
    match kind {
        Value::String(_) => true,
        Value::Object(spec) => spec.get("max").is_none_or(|max| max == 1),
        _ => false,
    }
}
