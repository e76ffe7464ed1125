//! The service object: what every rule needs, and the look-ups other services call.

use crate::access;
use crate::facts::Facts;
use crate::keys::KeyRing;
use crate::password::Hasher;
use crate::policies::RULES;
use crate::store::subjects;
use crate::{Config, IdentityError};
use api::{Asking, Caller, Context, DomainRef, Links, Policy, ProjectRef, Secret, TokenValidator, UserRef};
use async_trait::async_trait;
use state::{Db, Tx};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

/// Wakes the other processes when something changed here.
const TOPIC: &str = "identity";

/// Keystone, as a library. Made by [`Identity::new`].
pub struct Identity {
    pub(crate) db: Db,
    pub(crate) config: Config,
    pub(crate) links: Links,
    pub(crate) policy: Policy,
    pub(crate) token_keys: KeyRing,
    pub(crate) credential_keys: KeyRing,
    pub(crate) hasher: Hasher,
    pub(crate) facts: Facts,
}

/// What an S3 signature is checked against, and who signs with it.
#[derive(Debug, Clone)]
pub struct S3Credential {
    pub secret: Secret,
    pub caller: Arc<Caller>,
}

impl Identity {
    /// Opens the key repositories (made if absent) over a migrated database.
    pub async fn new(db: Db, config: Config, links: Links) -> Result<Arc<Identity>, IdentityError> {
        if !(4..=31).contains(&config.password_cost) {
            return Err(IdentityError::Config("password_cost must be from 4 to 31".into()));
        }
        if config.token_lifetime_seconds == 0 || config.max_active_keys < 2 {
            return Err(IdentityError::Config(
                "token_lifetime_seconds must be at least 1 and max_active_keys at least 2".into(),
            ));
        }
        let denial = |rule: &str| format!("You are not authorized to perform the requested action: {rule}.");
        let policy = Policy::new(RULES, denial)?;
        if let Some(file) = &config.policy_file {
            policy.load(file)?;
        }
        let identity = Arc::new(Identity {
            policy,
            token_keys: KeyRing::open(&config.token_keys)?,
            credential_keys: KeyRing::open(&config.credential_keys)?,
            hasher: Hasher::new(config.password_cost, config.hashing_threads),
            facts: Facts::new(),
            db,
            config,
            links,
        });
        tokio::spawn(listen(Arc::downgrade(&identity), identity.db.signal(TOPIC)));
        Ok(identity)
    }

    /// The secret of an EC2 access key and what its bearer may do, or `None` where there is no such key or its
    /// user or project is disabled or gone. Remembered, so that object traffic costs identity nothing.
    pub async fn s3_credential(&self, access_key: &str) -> Result<Option<S3Credential>, IdentityError> {
        let began = self.facts.fresh(&self.db).await?;
        if let Some(known) = self.facts.s3(access_key) {
            return Ok(Some(known));
        }
        let found = match self.ec2_signer(access_key).await {
            Ok(found) => found,
            Err(IdentityError::Unauthenticated(_)) => return Ok(None),
            Err(e) => return Err(e),
        };
        // What ends by itself at some time is not remembered past it: it is not remembered at all.
        if found.caller.expires_at.micros() == i64::MAX {
            self.facts.keep_s3(began, access_key, &found);
        }
        Ok(Some(found))
    }

    /// A project's name and domain.
    pub async fn project(&self, id: &str) -> Result<Option<ProjectRef>, IdentityError> {
        Ok(subjects::project_by_id(self.db.read(), id).await?.map(|p| ProjectRef {
            id: p.id,
            name: p.name,
            domain: DomainRef { id: p.domain_id, name: p.domain_name },
        }))
    }

    /// A user's name and domain.
    pub async fn user(&self, id: &str) -> Result<Option<UserRef>, IdentityError> {
        Ok(subjects::user_by_id(self.db.read(), id).await?.map(|u| UserRef {
            id: u.id,
            name: u.name,
            domain: DomainRef { id: u.domain_id, name: u.domain_name },
        }))
    }

    pub async fn project_exists(&self, id: &str) -> Result<bool, IdentityError> {
        Ok(subjects::project_by_id(self.db.read(), id).await?.is_some())
    }

    /// Makes the staged token key the one that signs, and stages a new one. Running processes follow by
    /// themselves; tokens stay valid while their key is among the `max_active_keys`.
    pub async fn rotate(&self) -> Result<(), IdentityError> {
        self.token_keys.rotate(self.config.max_active_keys)
    }

    /// The rules in force, for the command line to explain.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(crate) fn enforce(
        &self,
        ctx: &Context,
        rule: &str,
        target: &[(&str, &str)],
    ) -> Result<(), IdentityError> {
        let mut about = vec![("scope.domain_id", ctx.domain_id().unwrap_or("None"))];
        about.extend_from_slice(target);
        Ok(self.policy.enforce(ctx, rule, &about)?)
    }

    /// Begins a change that may alter what tokens say.
    pub(crate) async fn begin(&self) -> Result<Change<'_>, IdentityError> {
        Ok(Change { tx: self.db.begin().await?, facts: &self.facts })
    }
}

/// A transaction whose commit ends what is remembered, here and in every other process.
pub(crate) struct Change<'a> {
    tx: Tx,
    facts: &'a Facts,
}

impl Change<'_> {
    pub(crate) async fn commit(mut self) -> Result<(), IdentityError> {
        let epoch = subjects::next_epoch(self.tx.conn()).await?;
        self.tx.wake(TOPIC);
        let done = self.tx.commit().await;
        // Also where the commit's outcome is unknown.
        self.facts.changed(if done.is_ok() { epoch } else { 0 });
        Ok(done?)
    }
}

impl Deref for Change<'_> {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl DerefMut for Change<'_> {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.tx
    }
}

/// Looks at the epoch whenever another process says that it changed, for as long as the service lives.
async fn listen(identity: std::sync::Weak<Identity>, mut signal: state::Signal) {
    loop {
        signal.wait(Duration::from_secs(60)).await;
        match identity.upgrade() {
            Some(identity) => identity.facts.look(),
            None => return,
        }
    }
}

#[async_trait]
impl TokenValidator for Identity {
    async fn validate(&self, token: &str) -> Result<Arc<Caller>, api::Error> {
        let found = self.validated(token).await?;
        match found.access_rules() {
            None => Ok(found.caller.clone()),
            Some(_) => Err(api::Error::unauthenticated()),
        }
    }

    async fn validate_for(&self, token: &str, request: &Asking<'_>) -> Result<Arc<Caller>, api::Error> {
        let found = self.validated(token).await?;
        match found.access_rules() {
            Some(rules) if !access::allows(rules, request) => Err(api::Error::unauthenticated()),
            _ => Ok(found.caller.clone()),
        }
    }
}
