//! The doors: Swift and S3. They know HTTP; the room behind them does not.

mod content;
mod facts;
mod form;
mod manifest;
mod precondition;
mod relay;
mod s3;
mod swift;
mod tar;

pub use swift::RateLimits;
pub(crate) use swift::Rates;
