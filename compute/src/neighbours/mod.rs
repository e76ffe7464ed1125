//! What compute asks of the other services, each in one file, in compute's own terms.

pub(crate) mod images;
pub(crate) mod networks;
pub(crate) mod volumes;

use crate::ComputeError;
use api::{Context, ProjectRef};

/// Compute acting in a tenant's project for an earlier request.
pub(crate) fn acting_in(project: &str) -> Context {
    Context::service_in("compute", ProjectRef { id: project.to_owned(), ..ProjectRef::default() })
}

impl From<netagent::NetError> for ComputeError {
    fn from(e: netagent::NetError) -> Self {
        match e {
            netagent::NetError::Refused(r) => {
                let status = http::StatusCode::from_u16(r.status).unwrap_or(http::StatusCode::BAD_REQUEST);
                ComputeError::Refused(api::Error::new(status, r.message))
            }
            netagent::NetError::State(e) => ComputeError::State(e),
            other => {
                ComputeError::Unavailable("The network service is unavailable.".into(), Some(other.into()))
            }
        }
    }
}

impl From<blockstore::VolumeError> for ComputeError {
    fn from(e: blockstore::VolumeError) -> Self {
        match e {
            blockstore::VolumeError::State(e) => ComputeError::State(e),
            blockstore::VolumeError::Storage(e) => ComputeError::Pool(e),
            other => ComputeError::Refused(other.into()),
        }
    }
}

impl From<imagestore::ImageError> for ComputeError {
    fn from(e: imagestore::ImageError) -> Self {
        match e {
            imagestore::ImageError::State(e) => ComputeError::State(e),
            imagestore::ImageError::Storage(e) => ComputeError::Pool(e),
            other => ComputeError::Refused(other.into()),
        }
    }
}
