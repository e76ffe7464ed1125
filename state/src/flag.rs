//! Booleans as rows hold them.
//!
//! PostgreSQL has a type for them, SQLite numbers only, and sqlx's `Any` translates one way: a `bool` binds to both,
//! but reading one back from SQLite fails. A [`Flag`] reads from both.

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use sqlx::any::{AnyTypeInfo, AnyTypeInfoKind, AnyValueRef};
use sqlx::error::BoxDynError;
use sqlx::{Any, Decode, Type, Value, ValueRef};

/// A BOOLEAN column's value: `let Flag(enabled) = row.try_get("enabled")?`. Bind plain `bool`s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag(pub bool);

impl Type<Any> for Flag {
    fn type_info() -> AnyTypeInfo {
        <bool as Type<Any>>::type_info()
    }

    fn compatible(ty: &AnyTypeInfo) -> bool {
        matches!(ty.kind(), AnyTypeInfoKind::Bool | AnyTypeInfoKind::BigInt | AnyTypeInfoKind::Integer)
    }
}

impl<'r> Decode<'r, Any> for Flag {
    fn decode(value: AnyValueRef<'r>) -> Result<Self, BoxDynError> {
        let owned = ValueRef::to_owned(&value);
        match owned.type_info().kind() {
            AnyTypeInfoKind::Bool => owned.try_decode::<bool>().map(Flag).map_err(Into::into),
            _ => Ok(Flag(<i64 as Decode<'r, Any>>::decode(value)? != 0)),
        }
    }
}

/// From a row as JSON ([`crate::Engine::json_rows`]): `true`, or SQLite's 1.
impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Flag, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Flag;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a boolean, 0 or 1")
            }

            fn visit_bool<E: Error>(self, v: bool) -> Result<Flag, E> {
                Ok(Flag(v))
            }

            fn visit_u64<E: Error>(self, v: u64) -> Result<Flag, E> {
                Ok(Flag(v != 0))
            }
        }
        from.deserialize_any(Either)
    }
}

impl From<Flag> for bool {
    fn from(flag: Flag) -> bool {
        flag.0
    }
}
