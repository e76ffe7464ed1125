//! The wire: Nova v2.1, Placement, and the agents' door. Handlers extract, make one call and show what came of it.

mod actions;
mod agents;
mod aggregates;
mod cloud;
mod devices;
mod flavors;
mod groups;
mod images;
mod keypairs;
mod parts;
mod placement;
mod quotas;
mod server_create;
mod server_view;
mod servers;
mod versions;

use crate::Compute;
use api::{RouteInfo, Routes, Service, TokenValidator};
use axum::Router;
use std::sync::Arc;

pub(crate) type App = Arc<Compute>;

/// The routes below a version's own document.
fn compute_routes(document: fn(Routes<App>) -> Routes<App>) -> Routes<App> {
    Routes::new()
        .open(document)
        .with(servers::routes)
        .with(actions::routes)
        .with(devices::routes)
        .with(parts::routes)
        .with(flavors::routes)
        .with(keypairs::routes)
        .with(groups::routes)
        .with(quotas::routes)
        .with(cloud::routes)
        .with(aggregates::routes)
        .with(images::routes)
}

/// `/compute`, `/placement` and the agents' door.
pub fn router(compute: Arc<Compute>, tokens: Arc<dyn TokenValidator>) -> Router {
    let links = compute.links.clone();
    let agents = Service {
        name: "compute-agent",
        style: api::Style::Fault,
        body_limit: 16 << 20,
        ..Service::network()
    };
    // Version 2.0 is 2.1 without microversions.
    let old = Service { microversions: None, ..Service::compute() };
    let now = compute_routes(versions::routes);
    let before = compute_routes(versions::old_routes);
    Service::compute()
        .mount("/compute/v2.1", now, compute.clone(), tokens.clone(), &links)
        .merge(old.mount("/compute/v2", before, compute.clone(), tokens.clone(), &links))
        .merge(agents.mount("/compute/agent/v1", agents::routes(), compute.clone(), tokens.clone(), &links))
        .merge(Service::placement().mount("/placement", placement::routes(), compute.clone(), tokens, &links))
        .merge(versions::root(links))
}

/// Every route with the prefix it is mounted at. The agents' door is not among them: it knows no tokens.
pub fn routes() -> Vec<(&'static str, RouteInfo)> {
    let compute = compute_routes(versions::routes);
    let placement = placement::routes();
    let compute = compute.table().iter().cloned().map(|r| ("/compute/v2.1", r));
    compute.chain(placement.table().iter().cloned().map(|r| ("/placement", r))).collect()
}
