//! A local copy of the monitored tables, with indexes for the look-ups that reconcilers make.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use uuid::Uuid;

use super::schema::Schema;
use super::value::{Datum, Row, parse_row};
use crate::NetError;

/// What to monitor of a table.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub name: &'static str,
    /// Columns that the server does not know (an older schema) are left out of the monitor.
    pub columns: &'static [&'static str],
    /// Keys of `external_ids` by which rows are looked up; `name` is always indexed.
    pub keys: &'static [&'static str],
}

/// A row that came, went or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    pub table: &'static str,
    pub uuid: Uuid,
}

/// The copy. Rows come and go only as the server says.
#[derive(Debug, Default)]
pub struct Replica {
    tables: HashMap<&'static str, Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    rows: HashMap<Uuid, Row>,
    by_name: HashMap<String, Vec<Uuid>>,
    by_key: BTreeMap<&'static str, HashMap<String, Vec<Uuid>>>,
}

impl Replica {
    pub(super) fn new(tables: &[Table]) -> Self {
        let tables = tables
            .iter()
            .map(|t| {
                let by_key = t.keys.iter().map(|k| (*k, HashMap::new())).collect();
                (t.name, Contents { by_key, ..Contents::default() })
            })
            .collect();
        Self { tables }
    }

    /// All rows of a table, in no order.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = (Uuid, &Row)> + '_ {
        self.tables.get(table).into_iter().flat_map(|t| t.rows.iter().map(|(id, row)| (*id, row)))
    }

    pub fn get(&self, table: &str, uuid: Uuid) -> Option<&Row> {
        self.tables.get(table)?.rows.get(&uuid)
    }

    /// The row whose `name` is this; the one with the lowest id where a race made two.
    pub fn by_name(&self, table: &str, name: &str) -> Option<(Uuid, &Row)> {
        let contents = self.tables.get(table)?;
        let id = contents.by_name.get(name)?.iter().min()?;
        contents.rows.get(id).map(|row| (*id, row))
    }

    /// The rows whose `external_ids:key` is `value`; the key must be one of the table's `keys`.
    pub fn by_key(&self, table: &str, key: &str, value: &str) -> Vec<(Uuid, &Row)> {
        let Some(contents) = self.tables.get(table) else { return Vec::new() };
        let ids = contents.by_key.get(key).and_then(|index| index.get(value));
        ids.into_iter().flatten().filter_map(|id| contents.rows.get(id).map(|row| (*id, row))).collect()
    }

    /// Applies the object of an `update2`, or of the answer to `monitor_cond`; gives the rows it touched.
    pub(super) fn apply(&mut self, updates: &Value, schema: &Schema) -> Result<Vec<Touched>, NetError> {
        let bad = || NetError::OvsdbProtocol("not a table update".into());
        let mut touched = Vec::new();
        for (table, rows) in updates.as_object().ok_or_else(bad)? {
            let Some(name) = self.tables.get_key_value(table.as_str()).map(|(name, _)| *name) else {
                continue;
            };
            let Some(contents) = self.tables.get_mut(name) else { continue };
            for (id, change) in rows.as_object().ok_or_else(bad)? {
                let id = Uuid::parse_str(id).map_err(|_| bad())?;
                let change = change.as_object().ok_or_else(bad)?;
                touched.push(Touched { table: name, uuid: id });
                for (kind, value) in change {
                    match kind.as_str() {
                        "initial" | "insert" => contents.put(id, parse_row(value)?),
                        "delete" => contents.remove(id),
                        "modify" => contents.modify(id, parse_row(value)?, name, schema)?,
                        _ => return Err(bad()),
                    }
                }
            }
        }
        Ok(touched)
    }
}

impl Contents {
    fn put(&mut self, id: Uuid, row: Row) {
        self.remove(id);
        for (index, value) in index_entries(&row, &self.by_key.keys().copied().collect::<Vec<_>>()) {
            match index {
                None => self.by_name.entry(value).or_default().push(id),
                Some(key) => self.by_key.entry(key).or_default().entry(value).or_default().push(id),
            }
        }
        self.rows.insert(id, row);
    }

    fn remove(&mut self, id: Uuid) {
        let Some(row) = self.rows.remove(&id) else { return };
        for (index, value) in index_entries(&row, &self.by_key.keys().copied().collect::<Vec<_>>()) {
            let map = match index {
                None => &mut self.by_name,
                Some(key) => self.by_key.entry(key).or_default(),
            };
            if let Some(ids) = map.get_mut(&value) {
                ids.retain(|have| *have != id);
                if ids.is_empty() {
                    map.remove(&value);
                }
            }
        }
    }

    fn modify(&mut self, id: Uuid, changes: Row, table: &str, schema: &Schema) -> Result<(), NetError> {
        let mut row =
            self.rows.get(&id).cloned().ok_or_else(|| {
                NetError::OvsdbProtocol(format!("{table}: a row that was never seen changed"))
            })?;
        for (column, diff) in changes {
            match row.get_mut(&column) {
                Some(have) if !schema.is_single(table, &column) => have.apply_diff(diff),
                _ => {
                    row.insert(column, diff);
                }
            }
        }
        self.put(id, row);
        Ok(())
    }
}

fn index_entries(row: &Row, keys: &[&'static str]) -> Vec<(Option<&'static str>, String)> {
    let name = row.get("name").and_then(Datum::as_str).map(|n| (None, n.to_owned()));
    let ids = row.get("external_ids");
    let keyed = keys
        .iter()
        .filter_map(|key| ids.and_then(|ids| ids.get(key)).map(|value| (Some(*key), value.to_owned())));
    name.into_iter().chain(keyed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TABLES: &[Table] =
        &[Table { name: "T", columns: &["name", "external_ids", "ports"], keys: &["k"] }];

    fn schema() -> Schema {
        let many = json!({"key": "string", "min": 0, "max": "unlimited"});
        Schema::parse(&json!({"tables": {"T": {"columns": {"name": {"type": "string"},
            "external_ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
            "ports": {"type": many}, "up": {"type": {"key": "boolean", "min": 0, "max": 1}}}}}}))
        .unwrap()
    }

    #[test]
    fn insert_modify_delete_keep_the_indexes() {
        let (schema, id) = (schema(), Uuid::new_v4());
        let mut replica = Replica::new(TABLES);
        let key = id.to_string();
        replica
            .apply(
                &json!({"T": {&key: {"initial": {"name": "a", "up": true, "ports": ["set", ["p", "q"]],
                "external_ids": ["map", [["k", "1"]]]}}}}),
                &schema,
            )
            .unwrap();
        assert!(replica.by_name("T", "a").is_some());
        replica
            .apply(
                &json!({"T": {&key: {"modify": {"name": "b", "up": false, "ports": ["set", ["q", "r"]],
                "external_ids": ["map", [["k", "2"]]]}}}}),
                &schema,
            )
            .unwrap();
        assert!(replica.by_name("T", "a").is_none());
        assert!(replica.by_key("T", "k", "1").is_empty());
        let row = replica.by_key("T", "k", "2")[0].1;
        assert_eq!(row["ports"], Datum::set(["p", "r"]));
        assert_eq!(row["up"].as_bool(), Some(false));
        replica.apply(&json!({"T": {&key: {"delete": null}}}), &schema).unwrap();
        assert_eq!(replica.rows("T").count(), 0);
        assert!(replica.by_name("T", "b").is_none());
    }

    #[test]
    fn nonsense_is_refused() {
        let mut replica = Replica::new(TABLES);
        for bad in [
            json!([]),
            json!({"T": []}),
            json!({"T": {"x": {}}}),
            json!({"T": {Uuid::nil().to_string(): {"modify": {}}}}),
        ] {
            assert!(replica.apply(&bad, &schema()).is_err(), "{bad}");
        }
    }
}
