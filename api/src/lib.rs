//! What every OpenStack-style HTTP API of this cloud shares, so that each service holds only its own rules.
//!
//! A service declares its routes and what kind of API it is, and gets a router:
//!
//! ```no_run
//! use api::{Context, Error, Json, Path, Policy, Query, Routes, Service};
//! use std::sync::Arc;
//!
//! #[derive(Clone)]
//! struct Volumes { policy: Arc<Policy> }
//!
//! async fn show(volumes: axum::extract::State<Volumes>, ctx: Context, Path(id): Path<String>)
//!     -> Result<Json<serde_json::Value>, Error> {
//!     volumes.policy.enforce(&ctx, "volume:get", &[("project_id", ctx.project_id()?)])?;
//!     Err(Error::not_found(format!("Volume {id} could not be found.")))
//! }
//!
//! fn router(volumes: Volumes, tokens: Arc<dyn api::TokenValidator>, links: &api::Links) -> axum::Router {
//!     let routes = Routes::new().get("/volumes/{volume_id}", show);
//!     Service::volume().mount("/volume/v3", routes, volumes, tokens, links)
//! }
//! ```
//!
//! Every route needs a valid token unless it was declared [`Routes::open`]. Errors become the body that the
//! service's clients parse in one place ([`error`]); axum's own rejections never reach a client.

pub mod address;
mod auth;
mod context;
pub mod error;
mod extract;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod links;
pub mod metrics;
mod microversion;
mod observe;
pub mod outward;
mod paging;
pub mod policy;
mod query;
mod request_id;
mod routes;
pub mod schema;
pub mod server;
mod service;
mod unread;

pub use auth::{Asking, TokenValidator};
pub use context::{Caller, Context, DomainRef, ProjectRef, RoleRef, Scope, Secret, UserRef};
pub use error::{Error, Style};
pub use extract::{Json, Path};
pub use links::Links;
pub use microversion::{Microversion, Microversions};
pub use observe::{Observed, Origin};
pub use paging::{Page, Sort};
pub use policy::Policy;
pub use query::Query;
pub use request_id::RequestId;
pub use routes::{RouteInfo, Routes};
pub use service::Service;
