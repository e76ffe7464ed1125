//! Identity alone, for trying clients on it:
//! `serve ADDRESS DIRECTORY ADMIN_PASSWORD [DATABASE_URL]`, then `OS_AUTH_URL=http://ADDRESS/identity/v3`.

use api::{Links, Secret};
use identity::{Bootstrap, CatalogueEntry, Config, Identity};
use state::Db;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let mut args = std::env::args().skip(1);
    let (Some(address), Some(dir), Some(password)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: serve ADDRESS DIRECTORY ADMIN_PASSWORD [DATABASE_URL]".into());
    };
    let dir = PathBuf::from(dir);
    std::fs::create_dir_all(&dir)?;
    let url = args.next().unwrap_or_else(|| format!("sqlite://{}/identity.db", dir.display()));
    let db = Db::open(&url).await?;
    db.migrate(&identity::MIGRATIONS).await?;
    let config = Config {
        token_keys: dir.join("token-keys"),
        credential_keys: dir.join("credential-keys"),
        password_hash_rounds: 4,
        ..Config::default()
    };
    let links = Links::new(&format!("http://{address}"));
    let identity = Identity::new(db, config, links.clone()).await?;
    let itself = CatalogueEntry {
        service_type: "identity".into(),
        name: "keystone".into(),
        description: "Identity".into(),
        path: "/identity/v3".into(),
    };
    let wanted =
        Bootstrap { admin_password: Secret(password), region: "RegionOne".into(), services: vec![itself] };
    identity.bootstrap(wanted).await?;
    let listener = tokio::net::TcpListener::bind(&address).await?;
    api::server::serve(listener, identity::router(identity, &links), CancellationToken::new()).await;
    Ok(())
}
