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
