//! The difference between desired and observed rows, as the operations of one transaction.
//!
//! Guards make a stale writer lose: an update asserts that the columns it changes are still as it saw
//! them, an insert that nobody else inserted. Whoever loses looks again (see `reconcile`).

use uuid::Uuid;

use crate::ovsdb::{Atom, Datum, Op, Replica, Row};

/// A transaction in the making.
#[derive(Default)]
pub(crate) struct Plan {
    ops: Vec<Op>,
    named: usize,
}

/// Builds a row from column names and values.
pub(crate) fn row<const N: usize>(columns: [(&str, Datum); N]) -> Row {
    columns.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Whether an observed column has the desired value. ovsdb-server leaves out columns with default values.
fn same(observed: Option<&Datum>, desired: &Datum) -> bool {
    match observed {
        Some(observed) => observed == desired || (is_default(observed) && is_default(desired)),
        None => is_default(desired),
    }
}

fn is_default(datum: &Datum) -> bool {
    match datum {
        Datum::Map(pairs) => pairs.is_empty(),
        Datum::Set(atoms) => match atoms.iter().next() {
            None => true,
            Some(atom) => {
                atoms.len() == 1 && matches!(atom, Atom::Int(0)) || *atom == Atom::Text(String::new())
            }
        },
    }
}

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    pub(crate) fn into_ops(self) -> Vec<Op> {
        self.ops
    }

    pub(crate) fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// Inserts a row and gives the reference that this transaction knows it by.
    pub(crate) fn insert(&mut self, table: &str, row: &Row) -> Atom {
        self.named += 1;
        let name = format!("row{}", self.named);
        self.ops.push(Op::insert(table, row, Some(&name)));
        Atom::Named(name)
    }

    /// Changes the columns of an existing row that differ from what is desired.
    pub(crate) fn update(&mut self, table: &str, uuid: Uuid, observed: &Row, desired: &Row) {
        let changed: Row = desired
            .iter()
            .filter(|(column, value)| !same(observed.get(*column), value))
            .map(|(column, value)| (column.clone(), value.clone()))
            .collect();
        if changed.is_empty() {
            return;
        }
        let seen: Row = observed
            .iter()
            .filter(|(column, _)| changed.contains_key(*column) || *column == "external_ids")
            .map(|(column, value)| (column.clone(), value.clone()))
            .collect();
        if !seen.is_empty() {
            self.ops.push(Op::assert_unchanged(table, uuid, &seen));
        }
        self.ops.push(Op::update(table, uuid, &changed));
    }

    /// Brings a root row into being or up to date; `absent` guards the insert where the table has no
    /// unique index on `name`.
    pub(crate) fn ensure(
        &mut self,
        table: &str,
        observed: Option<(Uuid, &Row)>,
        desired: &Row,
        absent: Option<(&str, &Datum)>,
    ) -> Atom {
        match observed {
            Some((uuid, row)) => {
                self.update(table, uuid, row, desired);
                Atom::Uuid(uuid)
            }
            None => {
                if let Some((column, value)) = absent {
                    self.ops.push(Op::assert_absent(table, column, value));
                }
                self.insert(table, desired)
            }
        }
    }

    /// Matches a parent's children, which exist only through it, to the desired ones by `key`, and gives
    /// the value of the parent's column. Children that are not in it any more are removed by the server.
    pub(crate) fn children(
        &mut self,
        replica: &Replica,
        table: &str,
        observed: Option<&Datum>,
        desired: &[Row],
        key: impl Fn(&Row) -> String,
    ) -> Datum {
        let mut have: Vec<(String, Uuid, &Row)> = observed
            .into_iter()
            .flat_map(Datum::uuids)
            .filter_map(|id| replica.get(table, id).map(|row| (key(row), id, row)))
            .collect();
        let mut refs = Vec::with_capacity(desired.len());
        for want in desired {
            let wanted = key(want);
            match have.iter().position(|(k, _, _)| *k == wanted) {
                Some(at) => {
                    let (_, id, row) = have.swap_remove(at);
                    self.update(table, id, row, want);
                    refs.push(Atom::Uuid(id));
                }
                None => refs.push(self.insert(table, want)),
            }
        }
        Datum::set(refs)
    }
}

/// A column as text, or nothing.
pub(crate) fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row.get(column).and_then(Datum::as_str).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_that_the_server_leaves_out_are_no_difference() {
        let mut plan = Plan::default();
        let desired = row([
            ("name", Datum::one("a")),
            ("options", Datum::map::<&str, &str>([])),
            ("type", Datum::one("")),
            ("ports", Datum::empty()),
        ]);
        plan.update("T", Uuid::new_v4(), &row([("name", Datum::one("a"))]), &desired);
        assert!(plan.is_empty());
        plan.update("T", Uuid::new_v4(), &row([("name", Datum::one("b"))]), &desired);
        assert_eq!(plan.into_ops().len(), 2, "a guard and an update");
    }
}
