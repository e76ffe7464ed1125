//! What a step gets and what it gives back.

use super::rows;
use crate::{Db, StateError, Tx};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::time::Duration;

/// The task a step works on.
pub struct Job {
    pub id: String,
    pub subject: String,
    pub db: Db,
    /// The worker that holds the lease.
    pub(super) node: String,
    pub(super) params: Value,
    pub(super) memo: Map<String, Value>,
}

impl Job {
    /// What [`super::NewTask::spawn`] was given.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, StepError> {
        T::deserialize(&self.params)
            .map_err(|e| StepError::fail("the task's parameters cannot be read").because(e))
    }

    /// To be called by the last step, in the transaction that makes the operation's end visible: the task goes with it.
    /// Otherwise, cut short in between, the step would run again on what comes after: on the state that another operation
    /// has given the resource meanwhile. `NotFound`, and nothing is to become visible, where the task is another worker's
    /// by now.
    pub async fn finish(&self, tx: &mut Tx) -> Result<(), StateError> {
        rows::finish(tx, &self.id, &self.node).await
    }

    /// The same for [`super::Operation::unwound`]: the task is one that failed.
    pub async fn fail(&self, tx: &mut Tx, reason: &str) -> Result<(), StateError> {
        rows::fail(tx, &self.id, &self.node, reason).await
    }

    /// What an earlier step remembered; it is saved with the step's completion.
    pub fn recall<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.memo.get(key).and_then(|v| T::deserialize(v).ok())
    }

    /// Remembers a value for later steps and undos.
    pub fn remember(&mut self, key: &str, value: &impl Serialize) -> Result<(), StepError> {
        let value =
            serde_json::to_value(value).map_err(|e| StepError::fail("cannot remember a value").because(e))?;
        self.memo.insert(key.to_owned(), value);
        Ok(())
    }
}

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a step did not finish.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// An engine was away or busy: the step is tried again with growing delays, then the operation unwinds.
    #[error("{reason}")]
    Retry {
        reason: String,
        #[source]
        source: Option<Source>,
    },
    /// It cannot succeed: the operation unwinds. `reason` is for the resource's owner.
    #[error("{reason}")]
    Fail {
        reason: String,
        #[source]
        source: Option<Source>,
    },
    /// Nothing is wrong, it is not time yet: the step runs again after the delay, without counting.
    #[error("not yet")]
    Wait(Duration),
}

impl StepError {
    pub fn fail(reason: impl Into<String>) -> Self {
        StepError::Fail { reason: reason.into(), source: None }
    }

    pub fn retry(reason: impl Into<String>) -> Self {
        StepError::Retry { reason: reason.into(), source: None }
    }

    /// Adds what the log should show beside the reason.
    #[must_use]
    pub fn because(self, e: impl Into<Source>) -> Self {
        match self {
            StepError::Fail { reason, .. } => StepError::Fail { reason, source: Some(e.into()) },
            StepError::Retry { reason, .. } => StepError::Retry { reason, source: Some(e.into()) },
            wait @ StepError::Wait(_) => wait,
        }
    }
}

impl From<crate::StateError> for StepError {
    fn from(e: crate::StateError) -> Self {
        StepError::retry("the database is unavailable").because(e)
    }
}
