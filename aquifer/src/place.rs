//! Identity alone, for the commands that look after a cloud beside its processes.

use crate::cli::Place;
use crate::config::Config;
use crate::error::AquiferError;
use ::identity::Identity;
use api::Links;
use state::Db;
use std::sync::Arc;

/// What the commands need of a cloud's configuration.
pub(crate) struct Settings {
    pub(crate) identity: ::identity::Config,
    pub(crate) region: String,
    pub(crate) base_url: String,
    /// The whole file, where there is one.
    pub(crate) config: Option<Config>,
    database: String,
}

impl Place {
    pub(crate) fn settings(&self) -> Result<Settings, AquiferError> {
        if let Some(file) = &self.config {
            let config = Config::read(file)?;
            return Ok(Settings {
                identity: config.identity.clone(),
                region: config.region.clone(),
                base_url: config.listen.base_url(),
                database: config.database.clone(),
                config: Some(config),
            });
        }
        let dir = &self.data_dir;
        let keys = dir.join("token-keys");
        if !keys.is_dir() {
            return Err(AquiferError::Config(format!(
                "{} holds no cloud; name its directory with --data-dir, or its configuration with --config",
                dir.display()
            )));
        }
        let database = format!("sqlite://{}", dir.join("aquifer.sqlite").display());
        Ok(Settings {
            identity: ::identity::Config {
                token_keys: keys,
                jws_keys: dir.join("jws-keys"),
                credential_keys: dir.join("credential-keys"),
                ..::identity::Config::default()
            },
            region: "RegionOne".into(),
            base_url: "http://127.0.0.1:5000".into(),
            config: None,
            database: self.database.clone().unwrap_or(database),
        })
    }

    pub(crate) async fn identity(&self) -> Result<Arc<Identity>, AquiferError> {
        self.settings()?.open().await
    }
}

impl Settings {
    pub(crate) async fn open(self) -> Result<Arc<Identity>, AquiferError> {
        let db = Db::open(&self.database).await?;
        db.migrate(&::identity::MIGRATIONS).await?;
        let links = Links::new(&self.base_url);
        Identity::new(db, self.identity, links).await.map_err(AquiferError::service("identity"))
    }
}
