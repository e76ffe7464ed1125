//! An OVSDB client (RFC 7047 with Open vSwitch's `monitor_cond` extension) over a Unix socket or TCP.
//!
//! It is small because it does one thing: keep a faithful local [`Replica`] of a few tables and send
//! transactions. ovsdb-server delivers the updates that a transaction causes before the transaction's own
//! reply, so once [`Client::transact`] returns, the replica shows what was written: reconcilers rely on that.
//!
//! Everything that comes from the socket is bounded and checked (see [`framing`]): a broken server costs a
//! reconnect, never a panic.

mod client;
pub mod framing;
mod replica;
pub mod schema;
mod transact;
mod value;

pub use client::{Client, Remote};
pub use replica::{Replica, Table, Touched};
pub use transact::{Op, Outcome, Until};
pub use value::{Atom, Datum, Row};

/// Takes one message for everything that a server may send: for properties.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn try_message(value: &serde_json::Value) {
    use schema::Schema;
    const TABLES: &[Table] = &[Table { name: "T", columns: &["name", "tags"], keys: &["tags"] }];
    if let Ok(datum) = Datum::parse(value) {
        let again = Datum::parse(&datum.to_json());
        assert_eq!(again.ok().as_ref(), Some(&datum), "a value changes on its way");
    }
    let schema = Schema::parse(value).unwrap_or_default();
    let mut replica = Replica::new(TABLES);
    // The second time, what is there already changes.
    for _ in 0..2 {
        let touched = replica.apply(value, &schema).unwrap_or_default();
        assert!(touched.iter().all(|t| t.table == "T"));
    }
    for (id, row) in replica.rows("T") {
        assert_eq!(replica.get("T", id), Some(row));
    }
    let _ = transact::outcomes(value, 1);
}
