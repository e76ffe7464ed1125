//! Identity, images and volumes in one process, for clients and conformance suites to talk to while one works on
//! volumes. Everything is thrown away by whoever starts it: the rows are in DIR, the images in a pool's namespace.
//!
//! `cargo run -p blockstore --example volume_service -- /path/ceph.conf DIR 127.0.0.1:5998 NAMESPACE [DATABASE_URL]`; the
//! administrator's password is `secret`.

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use api::{Links, Secret};
use identity::{Bootstrap, CatalogueEntry};
use pool::{ClusterConfig, Clusters, TierConfig, Tiers};
use state::{Db, Worker, WorkerConfig};
use std::error::Error;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = |what: &str| args.next().ok_or(format!("{what} is missing"));
    let (conf, dir, listen, namespace) = (
        next("ceph.conf")?,
        PathBuf::from(next("the folder")?),
        next("the address")?,
        next("the namespace")?,
    );
    std::fs::create_dir_all(&dir)?;
    let url = args.next().unwrap_or(format!("sqlite://{}/state.sqlite", dir.display()));
    let db = Db::open(&url).await?;
    let sets =
        [&state::tasks::MIGRATIONS, &identity::MIGRATIONS, &imagestore::MIGRATIONS, &blockstore::MIGRATIONS];
    for set in sets {
        db.migrate(set).await?;
    }
    let clusters = Clusters::connect(&[ClusterConfig::new("main", conf)]).await?;
    let place = |name: &str| TierConfig {
        name: name.into(),
        cluster: "main".into(),
        pool: "rbd".into(),
        data_pool: None,
        namespace: Some(namespace.clone()),
    };
    let tiers = Tiers::new(&clusters, &[place("volumes"), place("images")])?;
    let tier = tiers.get("volumes")?;
    tier.cluster.require_clone_v2().await?;
    tier.pool.rbd().namespace_create(&namespace).await?;

    let links = Links::new(&format!("http://{listen}"));
    let config = identity::Config {
        token_keys: dir.join("token-keys"),
        credential_keys: dir.join("credential-keys"),
        password_hash_rounds: 4,
        ..identity::Config::default()
    };
    let identity = identity::Identity::new(db.clone(), config, links.clone()).await?;
    let entry = |service_type: &str, name: &str, path: &str| CatalogueEntry {
        service_type: service_type.into(),
        name: name.into(),
        description: name.into(),
        path: path.into(),
    };
    let services = vec![
        entry("identity", "keystone", "/identity"),
        entry("image", "glance", "/image"),
        entry("volumev3", "cinderv3", "/volume/v3/$(project_id)s"),
        entry("block-storage", "cinder", "/volume/v3"),
    ];
    let region = "RegionOne".to_owned();
    identity.bootstrap(Bootstrap { admin_password: Secret("secret".into()), region, services }).await?;
    let image = imagestore::Config { node: "serve".into(), ..imagestore::Config::default() };
    let images = imagestore::Images::new(db.clone(), tiers.clone(), image, links.clone())?;
    let config = blockstore::Config::default();
    let volumes = blockstore::Volumes::new(db.clone(), tiers, images.clone(), config, links.clone()).await?;

    let stop = CancellationToken::new();
    let worker = Worker::new(db, WorkerConfig::new("serve"))
        .with_all(imagestore::operations(&images))
        .with_all(blockstore::operations(&volumes));
    let working = tokio::spawn(worker.run(stop.clone()));
    let router = identity::router(identity.clone(), &links)
        .merge(imagestore::router(images, identity.clone()))
        .merge(blockstore::router(&volumes, identity));
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    println!("http://{listen}/identity/v3");
    let ended = stop.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        ended.cancel();
    });
    api::server::serve(listener, router, stop).await;
    working.await?;
    Ok(())
}
