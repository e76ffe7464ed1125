//! The doors: Swift and S3. They know HTTP; the room behind them does not.

mod content;
mod facts;
mod form;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod manifest;
mod precondition;
mod raw;
mod relay;
mod s3;
mod swift;
mod tar;

pub(crate) use raw::raw;
pub(crate) use s3::sigv4::encode;
pub use swift::{CnameConfig, RateLimits};
pub(crate) use swift::{Rates, parse_timestamp, timestamp};
