//! The service object: what every rule needs, and the look-ups other services call.

use crate::access;
use crate::auth::Limiter;
use crate::compliance::Compliance;
use crate::facts::Facts;
use crate::federation::Providers;
use crate::keys::{KeyRing, Ring, Rotated};
use crate::ldap::Directories;
use crate::pages::Pages;
use crate::password::{Hasher, Scheme};
use crate::policies::policy;
use crate::store::subjects;
use crate::subject::LATE_SECS;
use crate::token::TokenKeys;
use crate::{Config, IdentityError};
use api::{Asking, Caller, Context, DomainRef, Links, Policy, ProjectRef, Secret, TokenValidator, UserRef};
use async_trait::async_trait;
use state::{Db, Timestamp, Tx};
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
    pub(crate) token_keys: TokenKeys,
    pub(crate) credential_keys: KeyRing,
    pub(crate) hasher: Hasher,
    pub(crate) compliance: Compliance,
    pub(crate) limiter: Limiter,
    pub(crate) facts: Facts,
    pub(crate) pages: Pages,
    pub(crate) providers: Providers,
    pub(crate) directories: Directories,
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
        let scheme = Scheme::new(
            config.password_hash_algorithm,
            config.password_hash_rounds,
            config.scrypt_block_size,
            config.scrypt_parallelism,
        )?;
        if config.totp_previous_windows > 10 || config.receipt_lifetime_seconds == 0 {
            return Err(IdentityError::Config(
                "totp_previous_windows must be at most 10 and receipt_lifetime_seconds at least 1".into(),
            ));
        }
        if config.token_lifetime_seconds == 0 || config.max_active_keys < 2 {
            return Err(IdentityError::Config(
                "token_lifetime_seconds must be at least 1 and max_active_keys at least 2".into(),
            ));
        }
        if config.directory_age_seconds == 0 {
            return Err(IdentityError::Config("directory_age_seconds must be at least 1".into()));
        }
        let policy = policy()?;
        if let Some(file) = &config.policy_file {
            policy.load(file)?;
        }
        config.limit_model.check_projects(&db).await?;
        let identity = Arc::new(Identity {
            policy,
            token_keys: TokenKeys::open(&config)?,
            credential_keys: Ring::open(&config.credential_keys)?,
            hasher: Hasher::new(scheme, config.hashing_threads),
            compliance: Compliance::new(config.security_compliance.clone())?,
            limiter: Limiter::new(config.login_limit.clone()),
            facts: Facts::new(),
            pages: Pages::new(),
            providers: Providers::new(&config.federation)?,
            directories: Directories::new(Duration::from_secs(config.directory_age_seconds)),
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
        // What ends by itself is remembered until then.
        let ends = |c: &S3Credential| c.caller.expires_at <= Timestamp::now();
        if let Some(known) = self.facts.s3(access_key).filter(|k| !ends(k)) {
            return Ok(Some(known));
        }
        let found = match self.ec2_signer(access_key).await {
            Ok(found) => found,
            Err(IdentityError::Unauthenticated(_)) => return Ok(None),
            Err(e) => return Err(e),
        };
        self.facts.keep_s3(began, access_key, &found);
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
    /// themselves; a key stays for as long as its tokens live.
    pub async fn rotate(&self) -> Result<Rotated, IdentityError> {
        let late = Duration::from_secs(LATE_SECS.unsigned_abs());
        let lifetime = Duration::from_secs(self.config.token_lifetime_seconds);
        self.token_keys.rotate(self.config.max_active_keys, lifetime + late)
    }

    /// Replaces every token key: all tokens end now. For keys that got into wrong hands.
    pub async fn renew_token_keys(&self) -> Result<Rotated, IdentityError> {
        let renewed = self.token_keys.renew()?;
        // What processes remember of tokens ends as well.
        self.begin().await?.commit().await?;
        Ok(renewed)
    }

    /// So many passwords were hashed or checked by this process so far.
    pub fn passwords_hashed(&self) -> u64 {
        self.hasher.done()
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

    /// Begins a change that may alter what tokens say, or what else is remembered.
    pub(crate) async fn begin(&self) -> Result<Change<'_>, IdentityError> {
        Ok(Change { tx: self.db.begin().await?, facts: Some(&self.facts) })
    }

    /// Begins a change of what nothing remembered depends on, such as a new user: what is not there is never
    /// remembered. Where there are many of these, tokens stay remembered all the same.
    pub(crate) async fn begin_aside(&self) -> Result<Change<'_>, IdentityError> {
        Ok(Change { tx: self.db.begin().await?, facts: None })
    }
}

/// A transaction whose commit ends what is remembered, here and in every other process.
pub(crate) struct Change<'a> {
    tx: Tx,
    facts: Option<&'a Facts>,
}

impl Change<'_> {
    pub(crate) async fn commit(mut self) -> Result<(), IdentityError> {
        let Some(facts) = self.facts else {
            subjects::count_aside(self.tx.conn()).await?;
            return Ok(self.tx.commit().await?);
        };
        let epoch = subjects::next_epoch(self.tx.conn()).await?;
        self.tx.wake(TOPIC);
        let done = self.tx.commit().await;
        // Also where the commit's outcome is unknown.
        facts.changed(if done.is_ok() { epoch } else { 0 });
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
