//! Objects: written with one operation on their head and one on the index, read with one.

mod budget;
mod delete;
mod history;
mod piece;
mod read;
mod receive;
mod transition;
mod update;
mod version;
mod write;

pub(crate) use budget::Budget;
pub(crate) use history::MARKER_TYPE;
pub use read::{Object, Source};
pub(crate) use receive::Home;
pub use update::Update;
pub use version::{DeleteVersion, Deleted};
pub(crate) use version::{KnownNames, NameLocks};
pub use write::{Body, Claim, Condition, Expect, NewObject, Written};

use crate::ObjectError;
use crate::names::MAX_OBJECT_NAME;

/// Names are UTF-8 of 1 to 1,024 bytes, without NUL.
pub(crate) fn check_name(name: &str) -> Result<(), ObjectError> {
    if name.is_empty() || name.contains('\0') {
        return Err(ObjectError::BadName("not an object name"));
    }
    if name.len() > MAX_OBJECT_NAME {
        return Err(ObjectError::BadName("key too long"));
    }
    Ok(())
}
