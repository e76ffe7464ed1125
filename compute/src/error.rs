//! What can go wrong in the compute service. Refusals carry upstream's words; failures carry their cause for
//! the log.

use state::StateError;

/// The one error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ComputeError {
    /// A request that cannot be as it is: 400.
    #[error("{0}")]
    Invalid(String),
    /// No such thing, or not for this caller: 404.
    #[error("{0}")]
    NotFound(String),
    /// The thing's state does not allow it: 409.
    #[error("{0}")]
    Conflict(String),
    /// A quota is used up, or a rule forbids it: 403.
    #[error("{0}")]
    Forbidden(String),
    /// More than a limit allows: 413.
    #[error("{0}")]
    TooMuch(String),
    /// What this cloud does not offer: 501.
    #[error("{0}")]
    NotOffered(String),
    /// An engine or another service is out of reach: 503.
    #[error("{0}")]
    Unavailable(String, #[source] Option<Source>),
    /// Another service's refusal, as it said it.
    #[error("{0}")]
    Refused(api::Error),
    #[error("the database failed")]
    State(#[from] StateError),
    #[error("storage failed")]
    Pool(#[from] pool::Error),
    #[error("libvirt: {what}")]
    Libvirt {
        what: &'static str,
        #[source]
        source: virt::error::Error,
    },
    #[error("{0}")]
    Config(String),
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
}

type Source = Box<dyn std::error::Error + Send + Sync>;

impl ComputeError {
    pub fn server_not_found(id: &str) -> Self {
        ComputeError::NotFound(format!("Instance {id} could not be found."))
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        ComputeError::Invalid(message.into())
    }

    pub fn wrong_state(action: &str, id: &str, attribute: &str, state: &str) -> Self {
        ComputeError::Conflict(format!("Cannot '{action}' instance {id} while it is in {attribute} {state}"))
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            ComputeError::Unavailable(..) | ComputeError::Pool(_) => true,
            ComputeError::State(e) => e.is_transient(),
            ComputeError::Refused(e) => e.status().is_server_error(),
            _ => false,
        }
    }
}

impl From<sqlx::Error> for ComputeError {
    fn from(e: sqlx::Error) -> Self {
        ComputeError::State(e.into())
    }
}

impl From<serde_json::Error> for ComputeError {
    fn from(e: serde_json::Error) -> Self {
        ComputeError::State(e.into())
    }
}

impl From<api::Error> for ComputeError {
    fn from(e: api::Error) -> Self {
        ComputeError::Refused(e)
    }
}

impl From<ComputeError> for api::Error {
    fn from(e: ComputeError) -> Self {
        match e {
            ComputeError::Invalid(m) => api::Error::bad_request(m),
            ComputeError::NotFound(m) => api::Error::not_found(m),
            ComputeError::Conflict(m) => api::Error::conflict(m),
            ComputeError::Forbidden(m) => api::Error::forbidden(m),
            ComputeError::TooMuch(m) => api::Error::over_limit(m),
            ComputeError::NotOffered(m) => api::Error::not_implemented(m),
            ComputeError::Refused(e) => e,
            ComputeError::State(e) => e.into(),
            ComputeError::Unavailable(ref m, _) => api::Error::unavailable(m.clone()).with_source(e),
            ComputeError::Pool(_) => {
                api::Error::unavailable("Storage is unavailable; please try again.").with_source(e)
            }
            other => api::Error::internal(other),
        }
    }
}

/// A step of a durable task fails the way its cause does: for now, or for good.
impl From<ComputeError> for state::StepError {
    fn from(e: ComputeError) -> Self {
        let reason = e.to_string();
        if e.is_transient() {
            state::StepError::retry(reason).because(e)
        } else {
            state::StepError::fail(reason).because(e)
        }
    }
}
