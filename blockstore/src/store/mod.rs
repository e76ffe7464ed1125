//! SQL, one table family a file. Nothing here decides anything: rules live in the nouns' modules.

pub(crate) mod attachments;
pub(crate) mod encryption;
pub(crate) mod groups;
pub(crate) mod keys;
pub(crate) mod messages;
pub(crate) mod qos;
pub(crate) mod quotas;
pub(crate) mod services;
pub(crate) mod snapshots;
pub(crate) mod sql;
pub(crate) mod transfers;
pub(crate) mod types;
pub(crate) mod volumes;
