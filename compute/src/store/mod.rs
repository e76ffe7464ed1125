//! SQL, one table family a file. Nothing here decides anything.

pub(crate) mod actions;
pub(crate) mod aggregates;
pub(crate) mod flavors;
pub(crate) mod groups;
pub(crate) mod hosts;
pub(crate) mod keypairs;
pub(crate) mod quotas;
pub(crate) mod servers;

use crate::ComputeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) fn to_doc(value: &impl Serialize) -> Result<String, ComputeError> {
    Ok(serde_json::to_string(value)?)
}

pub(crate) fn of_doc<T: DeserializeOwned>(doc: &str) -> Result<T, ComputeError> {
    Ok(serde_json::from_str(doc)?)
}

pub(crate) fn of_docs<T: DeserializeOwned>(docs: Vec<String>) -> Result<Vec<T>, ComputeError> {
    docs.iter().map(|d| of_doc(d)).collect()
}
