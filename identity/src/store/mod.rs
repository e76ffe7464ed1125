//! SQL, one table family a file.
//!
//! Keystone's resources are open records: a fixed set of attributes and whatever else the client sent. They are
//! kept as JSON objects, described by a [`Kind`] each, and read and written by one piece of code ([`record`]).
//! What authentication reads on its hot path has typed queries of its own ([`subjects`]).

pub(crate) mod assignments;
pub(crate) mod directory;
pub(crate) mod federation;
pub(crate) mod kinds;
pub(crate) mod passwords;
pub(crate) mod policy_associations;
pub(crate) mod record;
pub(crate) mod revocations;
pub(crate) mod subjects;

pub(crate) use kinds::*;
pub(crate) use record::{Cond, Kind, Record, Val};
