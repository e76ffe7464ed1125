//! The services put together: every process holds them all over shared state; its roles decide which routes
//! it mounts and which workers it runs.

use crate::config::Config;
use crate::control::Line;
use crate::error::AquiferError;
use crate::roles::Role;
use api::Links;
use async_trait::async_trait;
use axum::Router;
use axum::routing::get;
use state::{Db, Worker, WorkerConfig};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Every service of the cloud.
pub(crate) struct Cloud {
    pub(crate) db: Db,
    pub(crate) links: Links,
    pub(crate) clusters: pool::Clusters,
    tiers: pool::Tiers,
    trash_sweep: Duration,
    pub(crate) identity: Arc<identity::Identity>,
    pub(crate) images: Arc<imagestore::Images>,
    pub(crate) volumes: Arc<blockstore::Volumes>,
    pub(crate) networks: netagent::Networks,
    pub(crate) compute: Arc<compute::Compute>,
    pub(crate) objects: objectstore::ObjectStore,
}

impl Cloud {
    /// Opens the database, migrates it, and makes every service. Engines that are away do not stop it: what
    /// needs them answers 503 until they are back.
    pub(crate) async fn assemble(config: &Config) -> Result<Cloud, AquiferError> {
        let db = Db::open(&config.database).await?;
        let links = Links::new(&config.listen.base_url());
        for set in [
            &state::tasks::MIGRATIONS,
            &identity::MIGRATIONS,
            &imagestore::MIGRATIONS,
            &blockstore::MIGRATIONS,
            &netagent::MIGRATIONS,
            &compute::MIGRATIONS,
            &objectstore::MIGRATIONS,
        ] {
            db.migrate(set).await?;
        }
        let clusters = pool::Clusters::connect(&config.clusters).await?;
        let tiers = pool::Tiers::new(&clusters, &config.tiers)?;
        let identity = identity::Identity::new(db.clone(), config.identity.clone(), links.clone())
            .await
            .map_err(AquiferError::service("identity"))?;
        let image = imagestore::Config { node: config.node.clone(), ..config.image.clone() };
        let images = imagestore::Images::new(db.clone(), tiers.clone(), image, links.clone())
            .map_err(AquiferError::service("images"))?;
        images.surround(Arc::new(ImageSurroundings {
            identity: identity.clone(),
            region: config.region.clone(),
        }));
        let volumes = blockstore::Volumes::new(
            db.clone(),
            tiers.clone(),
            images.clone(),
            config.volume.clone(),
            links.clone(),
        )
        .await
        .map_err(AquiferError::service("volumes"))?;
        let networks = netagent::Networks::start(db.clone(), config.network.clone(), links.clone())
            .await
            .map_err(AquiferError::service("networks"))?;
        let objects = objectstore::ObjectStore::new(
            db.clone(),
            &tiers,
            identity.clone(),
            Arc::new(S3Keys(identity.clone())),
            config.object.clone(),
        )
        .await
        .map_err(AquiferError::service("objects"))?;
        volumes.use_object_store(Arc::new(crate::backups::Objects(objects.clone())));
        let compute = compute::Compute::new(
            db.clone(),
            tiers.clone(),
            images.clone(),
            volumes.clone(),
            networks.clone(),
            config.compute.clone(),
            links.clone(),
        )
        .await
        .map_err(AquiferError::service("compute"))?;
        let trash_sweep = Duration::from_secs(config.trash_sweep_s.max(1));
        Ok(Cloud {
            db,
            links,
            clusters,
            tiers,
            trash_sweep,
            identity,
            images,
            volumes,
            networks,
            compute,
            objects,
        })
    }

    /// The routes of these roles on the API listener.
    pub(crate) fn router(&self, roles: &[Role]) -> Router {
        let tokens: Arc<dyn api::TokenValidator> = self.identity.clone();
        let mut router = Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/metrics", get(async || api::metrics::text()));
        for role in roles {
            router = match role {
                Role::Api => router.merge(identity::router(self.identity.clone(), &self.links)),
                Role::Volume => router.merge(blockstore::router(&self.volumes, tokens.clone())),
                Role::Image => router.merge(imagestore::router(self.images.clone(), tokens.clone())),
                Role::Network => router.merge(self.networks.router(tokens.clone())),
                Role::Compute => router.merge(compute::router(self.compute.clone(), tokens.clone())),
                Role::Object => router.merge(self.objects.swift_router()),
                Role::Agent => router,
            };
        }
        match roles.iter().any(|role| matches!(role, Role::Object)) {
            true => self.objects.remapped(router),
            false => router,
        }
    }

    /// Starts the work of these roles; it ends when `stop` is cancelled.
    pub(crate) fn work(&self, node: &str, roles: &[Role], stop: &CancellationToken, tracker: &TaskTracker) {
        let mut operations = Vec::new();
        for role in roles {
            match role {
                Role::Volume => {
                    operations.extend(blockstore::operations(&self.volumes));
                    tracker.spawn(self.volumes.clone().run_schedules(stop.clone()));
                }
                Role::Image => {
                    operations.extend(imagestore::operations(&self.images));
                    let (images, stop) = (self.images.clone(), stop.clone());
                    tracker.spawn(async move { images.sweep(stop).await });
                }
                Role::Compute => {
                    operations.extend(compute::operations(&self.compute));
                    let (compute, stop) = (self.compute.clone(), stop.clone());
                    tracker.spawn(async move { compute.run(stop).await });
                }
                Role::Network => {
                    let (networks, stop) = (self.networks.clone(), stop.clone());
                    tracker.spawn(async move { networks.run(stop).await });
                }
                Role::Object => {
                    let (objects, stop) = (self.objects.clone(), stop.clone());
                    tracker.spawn(async move { objects.sweep(stop).await });
                }
                Role::Api | Role::Agent => {}
            }
        }
        if roles.iter().any(|role| matches!(role, Role::Volume | Role::Image | Role::Compute)) {
            tracker.spawn(crate::trash::sweep(self.tiers.clone(), self.trash_sweep, stop.clone()));
        }
        let worker = Worker::new(self.db.clone(), WorkerConfig::new(node)).with_all(operations);
        tracker.spawn(worker.run(stop.clone()));
    }

    /// How the clusters, the database and OVN stand, for `aquifer status`.
    pub(crate) async fn lines(&self, roles: &[Role]) -> Vec<Line> {
        let line = |kind: &str, name: &str, up: Result<String, String>| Line {
            kind: kind.into(),
            name: name.into(),
            state: if up.is_ok() { "up" } else { "down" }.into(),
            detail: up.unwrap_or_else(|e| e),
        };
        let mut lines: Vec<_> = roles
            .iter()
            .map(|r| line("service", &format!("{r:?}").to_lowercase(), Ok(String::new())))
            .collect();
        let engine = format!("{:?}", self.db.engine());
        lines.push(line(
            "service",
            "database",
            self.db.ping().await.map(|()| engine).map_err(|e| e.to_string()),
        ));
        for cluster in self.clusters.iter() {
            let health = cluster.health().await.map(|h| h.status).map_err(|e| e.to_string());
            lines.push(line("service", &format!("cluster {}", cluster.name()), health));
        }
        let ovn =
            if self.networks.is_connected() { Ok(String::new()) } else { Err("OVN does not answer".into()) };
        lines.push(line("service", "ovn", ovn));
        lines
    }
}

/// What the images ask of identity.
struct ImageSurroundings {
    identity: Arc<identity::Identity>,
    region: String,
}

#[async_trait]
impl imagestore::Surroundings for ImageSurroundings {
    async fn limit(&self, project: &str, resource: &str) -> Result<Option<i64>, imagestore::ImageError> {
        let limit = self.identity.limit_in_force("image", &self.region, project, resource).await;
        limit.map_err(image_error)
    }

    async fn image_service(
        &self,
        region: &str,
        interface: &str,
    ) -> Result<Option<String>, imagestore::ImageError> {
        let endpoint = self.identity.endpoint("image", region, interface).await;
        endpoint.map_err(image_error)
    }
}

fn image_error(e: identity::IdentityError) -> imagestore::ImageError {
    match e {
        identity::IdentityError::State(e) => e.into(),
        e => imagestore::ImageError::Internal(Box::new(e)),
    }
}

/// Identity's access keys, as the object store's S3 door asks for them.
struct S3Keys(Arc<identity::Identity>);

#[async_trait]
impl objectstore::Credentials for S3Keys {
    async fn credential(
        &self,
        access_key: &str,
    ) -> Result<Option<objectstore::Credential>, objectstore::ObjectError> {
        let found = self.0.s3_credential(access_key).await.map_err(|e| {
            tracing::error!(error = %e, "an access key cannot be looked up");
            objectstore::ObjectError::Identity("it does not answer".into())
        })?;
        Ok(found.map(|c| objectstore::Credential { secret: c.secret, caller: c.caller }))
    }
}

/// A listener, or words that say which address is taken.
pub(crate) async fn listen(address: std::net::SocketAddr) -> Result<TcpListener, AquiferError> {
    TcpListener::bind(address).await.map_err(|e| AquiferError::Listen(address.to_string(), e))
}
