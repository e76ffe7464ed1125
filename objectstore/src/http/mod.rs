//! The doors: Swift and S3. They know HTTP; the room behind them does not.

mod content;
mod manifest;
mod precondition;
mod s3;
mod swift;
