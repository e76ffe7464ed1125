//! The Image API on the wire.

mod cache;
mod files;
mod images;
mod imports;
mod info;
mod listing;
mod locations;
mod members;
mod metadefs;
mod schemas;
mod stores;
mod tags;
mod tasks;
mod versions;
mod view;

use crate::inspect::Refusal;
use crate::{ImageError, Images};
use api::{Error, Routes, Service, TokenValidator};
use http::StatusCode;
use std::sync::Arc;

type App = axum::extract::State<Arc<Images>>;

/// Every route, below `/image`.
pub fn routes() -> Routes<Arc<Images>> {
    Routes::new()
        .open(versions::routes)
        .with(images::routes)
        .with(files::routes)
        .with(imports::routes)
        .with(tags::routes)
        .with(members::routes)
        .with(metadefs::routes)
        .with(tasks::routes)
        .with(info::routes)
        .with(stores::routes)
        .with(locations::routes)
        .with(cache::routes)
        .with(schemas::routes)
}

/// The service, mounted at `/image`.
pub fn router(images: Arc<Images>, tokens: Arc<dyn TokenValidator>) -> axum::Router {
    let links = images.links.clone();
    Service::image().mount("/image", routes(), images, tokens, &links)
}

impl From<ImageError> for Error {
    fn from(e: ImageError) -> Error {
        let text = e.to_string();
        match e {
            ImageError::NotFound(_) | ImageError::Missing(_) => Error::not_found(text),
            ImageError::Gone(_) => Error::new(StatusCode::GONE, text),
            ImageError::Forbidden(_) => Error::forbidden(text),
            ImageError::Invalid(_) | ImageError::Signature(_) => Error::bad_request(text),
            ImageError::Conflict(_) => Error::conflict(text),
            ImageError::TooLarge(_) => Error::over_limit(text),
            ImageError::Refused(Refusal::TooLarge { .. }) => Error::over_limit(text),
            ImageError::Refused(_) => Error::bad_request(text),
            ImageError::MediaType(_) => Error::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text),
            ImageError::Range { size } => Error::new(StatusCode::RANGE_NOT_SATISFIABLE, text)
                .with_header(http::header::CONTENT_RANGE, &format!("bytes */{size}")),
            ImageError::Aborted(_) => Error::bad_request(text).with_source(e),
            ImageError::NotBuilt(_) => Error::not_implemented(text),
            ImageError::Storage(pool::Error::NoSpace { .. }) => {
                Error::over_limit("There is not enough disk space on the image storage media.").with_source(e)
            }
            ImageError::Storage(ref s) if s.is_transient() => {
                Error::unavailable("The image storage is unavailable; please try again.").with_source(e)
            }
            ImageError::State(e) => e.into(),
            other => Error::internal(other),
        }
    }
}
