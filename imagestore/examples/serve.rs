//! The image service alone, for trying a client on it: the token is a project's id, and everybody may administrate.
//!
//! ```text
//! cargo run -p imagestore --example serve -- CEPH.CONF POOL NAMESPACE DATABASE-URL ADDRESS:PORT
//! openstack --os-auth-type admin_token --os-token p1 --os-endpoint http://ADDRESS:PORT/image image list
//! ```

use api::{Caller, DomainRef, Error, Links, ProjectRef, RoleRef, Scope, Secret, TokenValidator, UserRef};
use async_trait::async_trait;
use imagestore::{Config, Images};
use pool::{ClusterConfig, Clusters, TierConfig, Tiers};
use state::{Db, Timestamp, Worker, WorkerConfig};
use std::error::Error as StdError;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

struct Everybody;

#[async_trait]
impl TokenValidator for Everybody {
    async fn validate(&self, token: &str) -> Result<Arc<Caller>, Error> {
        let domain = DomainRef { id: "default".into(), name: "Default".into() };
        let role = |name: &str| RoleRef { id: name.into(), name: name.into() };
        Ok(Arc::new(Caller {
            user: UserRef { id: token.into(), name: token.into(), domain: domain.clone() },
            scope: Scope::Project(ProjectRef { id: token.into(), name: token.into(), domain }),
            roles: ["admin", "manager", "member", "reader"].map(role).to_vec(),
            expires_at: Timestamp(i64::MAX),
            audit_ids: Vec::new(),
            token: Secret(token.into()),
        }))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [conf, pool, namespace, url, address] = args.as_slice() else {
        return Err("usage: serve CEPH.CONF POOL NAMESPACE DATABASE-URL ADDRESS:PORT".into());
    };
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let clusters = Clusters::connect(&[ClusterConfig::new("main", conf)]).await?;
    let tier = TierConfig {
        name: "images".into(),
        cluster: "main".into(),
        pool: pool.clone(),
        data_pool: None,
        namespace: (!namespace.is_empty()).then(|| namespace.clone()),
    };
    let tiers = Tiers::new(&clusters, &[tier])?;
    if !namespace.is_empty() {
        tiers.get("images")?.pool.rbd().namespace_create(namespace).await?;
    }
    let db = Db::open(url).await?;
    db.migrate(&state::tasks::MIGRATIONS).await?;
    db.migrate(&imagestore::MIGRATIONS).await?;
    let links = Links::new(&format!("http://{address}"));
    let images = Images::new(db.clone(), tiers, Config::default(), links)?;
    let stop = CancellationToken::new();
    let worker = Worker::new(db, WorkerConfig::new("local")).with_all(imagestore::operations(&images));
    tokio::spawn(worker.run(stop.clone()));
    let listener = tokio::net::TcpListener::bind(address).await?;
    api::server::serve(listener, imagestore::router(images, Arc::new(Everybody)), stop).await;
    Ok(())
}
