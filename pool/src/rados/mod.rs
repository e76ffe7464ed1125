//! Objects: data, attributes and an ordered map each, in a pool and a namespace.

mod list;
pub(crate) mod op;
mod pool;
mod watch;

pub use list::ListCursor;
pub use op::{Cmp, OmapPage, ReadOp, ReadOutcome, ReadResult, WriteOp, WriteOutcome};
pub(crate) use pool::time;
pub use pool::{ObjectStat, Pool};
pub use watch::{Ack, Notification, NotifyOutcome, Watch, WatchEvent};
