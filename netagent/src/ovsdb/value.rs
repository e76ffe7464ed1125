//! OVSDB's value notation (RFC 7047 section 5.1) as Rust values that can be compared.
//!
//! A scalar and a set of one are the same thing on the wire, so both are a [`Datum::Set`] here: comparing
//! a desired column with an observed one is plain equality.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::NetError;

/// One row: column name → value. Columns that are absent are not monitored, or are not to be changed.
pub type Row = BTreeMap<String, Datum>;

/// A single value. `Named` refers to a row that the same transaction inserts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    Int(i64),
    /// The bits of an f64, so that atoms are totally ordered.
    Real(u64),
    Bool(bool),
    Text(String),
    Uuid(Uuid),
    Named(String),
}

impl Atom {
    fn parse(value: &Value) -> Result<Self, NetError> {
        let bad = || NetError::OvsdbProtocol(format!("not an OVSDB atom: {}", clip(value)));
        match value {
            Value::Bool(b) => Ok(Self::Bool(*b)),
            Value::String(s) => Ok(Self::Text(s.clone())),
            Value::Number(n) => match n.as_i64() {
                Some(i) => Ok(Self::Int(i)),
                None => n.as_f64().map(|f| Self::Real(f.to_bits())).ok_or_else(bad),
            },
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(tag), Value::String(id)] if tag == "uuid" => {
                    Uuid::parse_str(id).map(Self::Uuid).map_err(|_| bad())
                }
                [Value::String(tag), Value::String(id)] if tag == "named-uuid" => Ok(Self::Named(id.clone())),
                _ => Err(bad()),
            },
            _ => Err(bad()),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Int(i) => json!(i),
            Self::Real(bits) => json!(f64::from_bits(*bits)),
            Self::Bool(b) => json!(b),
            Self::Text(s) => json!(s),
            Self::Uuid(u) => json!(["uuid", u.to_string()]),
            Self::Named(n) => json!(["named-uuid", n]),
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        if let Self::Text(s) = self { Some(s) } else { None }
    }

    pub fn as_uuid(&self) -> Option<Uuid> {
        if let Self::Uuid(u) = self { Some(*u) } else { None }
    }
}

impl From<&str> for Atom {
    fn from(s: &str) -> Self {
        Self::Text(s.to_owned())
    }
}
impl From<String> for Atom {
    fn from(s: String) -> Self {
        Self::Text(s)
    }
}
impl From<i64> for Atom {
    fn from(i: i64) -> Self {
        Self::Int(i)
    }
}
impl From<bool> for Atom {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}
impl From<Uuid> for Atom {
    fn from(u: Uuid) -> Self {
        Self::Uuid(u)
    }
}

/// A column's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datum {
    Set(BTreeSet<Atom>),
    Map(BTreeMap<Atom, Atom>),
}

impl Datum {
    pub fn one(atom: impl Into<Atom>) -> Self {
        Self::Set(BTreeSet::from([atom.into()]))
    }

    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Self {
        Self::Set(atoms.into_iter().map(Into::into).collect())
    }

    pub fn empty() -> Self {
        Self::Set(BTreeSet::new())
    }

    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Map(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    pub fn parse(value: &Value) -> Result<Self, NetError> {
        let bad = || NetError::OvsdbProtocol(format!("not an OVSDB value: {}", clip(value)));
        if let Value::Array(parts) = value
            && let [Value::String(tag), Value::Array(items)] = parts.as_slice()
        {
            return match tag.as_str() {
                "set" => items.iter().map(Atom::parse).collect::<Result<_, _>>().map(Self::Set),
                "map" => items
                    .iter()
                    .map(|pair| match pair.as_array().map(Vec::as_slice) {
                        Some([k, v]) => Ok((Atom::parse(k)?, Atom::parse(v)?)),
                        _ => Err(bad()),
                    })
                    .collect::<Result<_, _>>()
                    .map(Self::Map),
                _ => Err(bad()),
            };
        }
        Ok(Self::Set(BTreeSet::from([Atom::parse(value)?])))
    }

    pub fn to_json(&self) -> Value {
        match self {
            Self::Set(atoms) if atoms.len() == 1 => atoms.iter().next().map_or(Value::Null, Atom::to_json),
            Self::Set(atoms) => json!(["set", atoms.iter().map(Atom::to_json).collect::<Vec<_>>()]),
            Self::Map(pairs) => {
                json!([
                    "map",
                    pairs.iter().map(|(k, v)| json!([k.to_json(), v.to_json()])).collect::<Vec<_>>()
                ])
            }
        }
    }

    /// The only atom of a set of one.
    pub fn scalar(&self) -> Option<&Atom> {
        match self {
            Self::Set(atoms) if atoms.len() == 1 => atoms.iter().next(),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        self.scalar().and_then(Atom::as_str)
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self.scalar() {
            Some(Atom::Bool(b)) => Some(*b),
            _ => None,
        }
    }

    pub fn as_int(&self) -> Option<i64> {
        match self.scalar() {
            Some(Atom::Int(i)) => Some(*i),
            _ => None,
        }
    }

    /// The value under a text key of a map.
    pub fn get(&self, key: &str) -> Option<&str> {
        match self {
            Self::Map(pairs) => pairs.get(&Atom::Text(key.to_owned())).and_then(Atom::as_str),
            Self::Set(_) => None,
        }
    }

    /// The row ids in a set of references.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> + '_ {
        match self {
            Self::Set(atoms) => Some(atoms.iter().filter_map(Atom::as_uuid)),
            Self::Map(_) => None,
        }
        .into_iter()
        .flatten()
    }

    /// Applies an `update2` difference: a symmetric difference for sets; for maps, a pair that is equal
    /// goes, one that differs is replaced and one that is new is added.
    pub(super) fn apply_diff(&mut self, diff: Datum) {
        match (self, diff) {
            (Self::Set(have), Self::Set(diff)) => {
                for atom in diff {
                    if !have.remove(&atom) {
                        have.insert(atom);
                    }
                }
            }
            (Self::Map(have), Self::Map(diff)) => {
                for (key, value) in diff {
                    if have.get(&key) == Some(&value) {
                        have.remove(&key);
                    } else {
                        have.insert(key, value);
                    }
                }
            }
            (have, diff) => *have = diff,
        }
    }
}

pub(super) fn parse_row(value: &Value) -> Result<Row, NetError> {
    let columns = value
        .as_object()
        .ok_or_else(|| NetError::OvsdbProtocol(format!("not an OVSDB row: {}", clip(value))))?;
    columns.iter().map(|(name, v)| Ok((name.clone(), Datum::parse(v)?))).collect()
}

pub(super) fn row_to_json(row: &Row) -> Value {
    Value::Object(row.iter().map(|(name, datum)| (name.clone(), datum.to_json())).collect())
}

/// The head of a value, for messages: servers may send megabytes.
fn clip(value: &Value) -> String {
    value.to_string().chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_and_sets_of_one_are_equal() {
        let scalar = Datum::parse(&json!("a")).unwrap();
        assert_eq!(scalar, Datum::parse(&json!(["set", ["a"]])).unwrap());
        assert_eq!(scalar.to_json(), json!("a"));
        assert_eq!(Datum::empty().to_json(), json!(["set", []]));
    }

    #[test]
    fn maps_and_uuids_round_trip() {
        let id = Uuid::new_v4();
        let value = json!(["map", [["k", "v"], ["l", "w"]]]);
        assert_eq!(Datum::parse(&value).unwrap().to_json(), value);
        let set = Datum::parse(&json!(["uuid", id.to_string()])).unwrap();
        assert_eq!(set.uuids().collect::<Vec<_>>(), [id]);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [json!(null), json!({}), json!(["uuid", "x"]), json!(["map", [["k"]]]), json!([1, 2, 3])] {
            assert!(Datum::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn differences_apply() {
        let mut set = Datum::set(["a", "b"]);
        set.apply_diff(Datum::set(["b", "c"]));
        assert_eq!(set, Datum::set(["a", "c"]));
        let mut map = Datum::map([("a", "1"), ("b", "2")]);
        map.apply_diff(Datum::map([("a", "1"), ("b", "3"), ("c", "4")]));
        assert_eq!(map, Datum::map([("b", "3"), ("c", "4")]));
    }
}
