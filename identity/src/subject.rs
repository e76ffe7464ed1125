//! What a token's ids mean at this moment: its user, its scope, its roles. And whether that is still so.

use crate::auth::Rules;
use crate::facts::Generation;
use crate::store::assignments::TargetKind;
use crate::store::subjects::{self, ProjectRow, UserRow};
use crate::store::{APP_CREDENTIAL, Record, TRUST, record::Fields};
use crate::token::{Claims, Target};
use crate::{Identity, IdentityError};
use api::{Caller, DomainRef, ProjectRef, RoleRef, Scope, Secret, UserRef};
use bytes::Bytes;
use serde_json::Value;
use state::Timestamp;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// What a [`Subject`] is remembered by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SubjectKey {
    pub(crate) user: String,
    pub(crate) target: Target,
    pub(crate) app_credential: Option<String>,
    /// The groups that a provider of identities has vouched for, by ids.
    pub(crate) groups: Vec<String>,
}

impl SubjectKey {
    pub(crate) fn plain(user: String, target: Target) -> Self {
        SubjectKey { user, target, app_credential: None, groups: Vec::new() }
    }
}

/// A user in a scope.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) user: UserRef,
    pub(crate) password_expires_at: Option<Timestamp>,
    /// What the user must prove to log in.
    pub(crate) mfa: Rules,
    pub(crate) scope: Scope,
    /// The project of the scope is a domain acting as one.
    pub(crate) is_domain: bool,
    /// With the implied ones, by name.
    pub(crate) roles: Vec<RoleRef>,
    /// Tokens issued before are refused.
    pub(crate) valid_from: Timestamp,
    /// The trust or application credential itself may end earlier than a token.
    pub(crate) valid_until: Timestamp,
    /// What others than this cloud keep of the user must be looked at again then.
    pub(crate) look_again: Timestamp,
    pub(crate) trust: Option<Record>,
    pub(crate) app_credential: Option<AppCredential>,
}

/// What a token says of the application credential it was made with.
#[derive(Debug, Clone)]
pub(crate) struct AppCredential {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) unrestricted: bool,
    pub(crate) access_rules: Option<Vec<Record>>,
}

/// A token that was found good.
#[derive(Debug)]
pub(crate) struct Validated {
    pub(crate) claims: Claims,
    pub(crate) subject: Arc<Subject>,
    pub(crate) caller: Arc<Caller>,
    /// The keys that were asked, see [`crate::token::TokenKeys::version`].
    keys: u64,
    /// What `GET /v3/auth/tokens` answers, with the catalogue and without.
    bodies: [OnceCell<Bytes>; 2],
}

impl Validated {
    /// The JSON of the token, made once for as long as the token is remembered.
    pub(crate) async fn body(&self, identity: &Identity, catalogue: bool) -> Result<Bytes, IdentityError> {
        let made = self.bodies[usize::from(catalogue)].get_or_try_init(|| async {
            let body = identity.token_body(&self.claims, &self.subject, catalogue).await?;
            body.render()
        });
        made.await.cloned()
    }

    /// The requests that the token is good for, where it is not good for all.
    pub(crate) fn access_rules(&self) -> Option<&[Record]> {
        self.subject.app_credential.as_ref().and_then(|a| a.access_rules.as_deref())
    }
}

/// How long after its end a token still tells a service whose it was, as upstream has it: two days.
pub(crate) const LATE_SECS: i64 = 2 * 24 * 3600;

const REFUSED: fn(&'static str) -> IdentityError = IdentityError::Unauthenticated;

impl Identity {
    /// A token's meaning, or why it has none any more.
    pub(crate) async fn validated(&self, token: &str) -> Result<Arc<Validated>, IdentityError> {
        let found = self.validated_now(token).await;
        if matches!(found, Err(IdentityError::Unauthenticated(_))) {
            counted("refused");
        }
        found
    }

    async fn validated_now(&self, token: &str) -> Result<Arc<Validated>, IdentityError> {
        let began = self.facts.fresh(&self.db).await?;
        let now = Timestamp::now();
        let keys = self.token_keys.version();
        let fresh = |k: &Arc<Validated>| k.keys == keys && now < k.subject.look_again;
        if let Some(known) = self.facts.token(token).filter(fresh) {
            let good = now < known.claims.expires_at() && now < known.subject.valid_until;
            if !good {
                return Err(REFUSED("the token has expired"));
            }
            counted("remembered");
            return Ok(known);
        }
        let claims = Claims::decode(token, &self.token_keys, now, 0).ok_or(REFUSED("not a token of ours"))?;
        let found = self.examined(token, claims, keys).await?;
        self.facts.keep_token(began, token, &found);
        counted("examined");
        Ok(found)
    }

    /// The same for a token that may have expired a while ago, for a service that finishes what was begun with it.
    pub(crate) async fn validated_late(&self, token: &str) -> Result<Arc<Validated>, IdentityError> {
        self.facts.fresh(&self.db).await?;
        let claims = Claims::decode(token, &self.token_keys, Timestamp::now(), LATE_SECS);
        self.examined(token, claims.ok_or(REFUSED("not a token of ours"))?, 0).await
    }

    async fn examined(
        &self,
        token: &str,
        claims: Claims,
        keys: u64,
    ) -> Result<Arc<Validated>, IdentityError> {
        let key = SubjectKey {
            user: claims.user.clone(),
            target: claims.target.clone(),
            app_credential: claims.app_credential.clone(),
            groups: claims.federated.as_ref().map(|f| f.groups.clone()).unwrap_or_default(),
        };
        if let Some(federated) = &claims.federated {
            self.check_vouched(federated).await?;
        }
        let subject = self.subject(key).await?;
        if claims.issued < subject.valid_from {
            return Err(REFUSED("the token is older than its user's or project's last change"));
        }
        if Timestamp::now() >= subject.valid_until {
            return Err(REFUSED("the trust or application credential has expired"));
        }
        if self.is_revoked(&claims, &subject).await? {
            return Err(REFUSED("the token was revoked"));
        }
        let caller = Arc::new(caller(&claims, &subject, token));
        Ok(Arc::new(Validated { claims, subject, caller, keys, bodies: Default::default() }))
    }

    /// The subject of these ids, if the user may have this scope now.
    pub(crate) async fn subject(&self, key: SubjectKey) -> Result<Arc<Subject>, IdentityError> {
        let began = self.facts.now();
        if let Some(known) = self.facts.subject(&key).filter(|k| Timestamp::now() < k.look_again) {
            return Ok(known);
        }
        let subject = Arc::new(self.load_subject(&key, began).await?);
        self.facts.keep_subject(began, key, &subject);
        Ok(subject)
    }

    async fn load_subject(&self, key: &SubjectKey, began: Generation) -> Result<Subject, IdentityError> {
        let user = self.enabled_user(&key.user).await?;
        let look_again = self.look_again(&user).await?;
        let mut subject = Subject {
            user: UserRef {
                id: user.id.clone(),
                name: user.name,
                domain: DomainRef { id: user.domain_id, name: user.domain_name },
            },
            password_expires_at: user.password_expires_at,
            mfa: Rules::of(&user.options),
            scope: Scope::Unscoped,
            is_domain: false,
            roles: Vec::new(),
            valid_from: user.valid_from,
            valid_until: Timestamp(i64::MAX),
            look_again,
            trust: None,
            app_credential: None,
        };
        match &key.target {
            Target::Unscoped => return Ok(subject),
            Target::System => {
                subject.scope = Scope::System;
                subject.roles =
                    self.roles_on(&user.id, &key.groups, TargetKind::System, "system", &[], began).await?;
            }
            Target::Domain(id) => {
                let domain = subjects::project_by_id(self.db.read(), id).await?;
                let domain = domain.filter(|d| d.is_domain && d.enabled).ok_or(REFUSED("no such domain"))?;
                subject.roles =
                    self.roles_on(&user.id, &key.groups, TargetKind::Domain, id, &[], began).await?;
                subject.valid_from = subject.valid_from.max(domain.valid_from);
                subject.scope = Scope::Domain(DomainRef { id: domain.id, name: domain.name });
            }
            Target::Project(id) => {
                let project = self.enter_project(&mut subject, id).await?;
                let above = self.above(&project).await?;
                subject.roles =
                    self.roles_on(&user.id, &key.groups, TargetKind::Project, id, &above, began).await?;
            }
            Target::Trust(id) => self.enter_trust(&mut subject, id, began).await?,
        }
        if let Some(id) = &key.app_credential {
            self.limit_to_app_credential(&mut subject, id, began).await?;
        }
        if subject.roles.is_empty() {
            return Err(REFUSED("the user has no role there"));
        }
        Ok(subject)
    }

    async fn enabled_user(&self, id: &str) -> Result<UserRow, IdentityError> {
        self.refresh_user(id).await?;
        let user = subjects::user_by_id(self.db.read(), id).await?.ok_or(REFUSED("no such user"))?;
        let enabled = user.enabled && !self.is_dormant(&user.id, &user.options).await?;
        if enabled { Ok(user) } else { Err(REFUSED("the user or its domain is disabled")) }
    }

    async fn enter_project(&self, subject: &mut Subject, id: &str) -> Result<ProjectRow, IdentityError> {
        let project = subjects::project_by_id(self.db.read(), id).await?;
        let project = project.filter(|p| p.enabled).ok_or(REFUSED("no such project, or it is disabled"))?;
        subject.valid_from = subject.valid_from.max(project.valid_from);
        subject.is_domain = project.is_domain;
        let domain = match project.is_domain {
            true => DomainRef { id: project.id.clone(), name: project.name.clone() },
            false => DomainRef { id: project.domain_id.clone(), name: project.domain_name.clone() },
        };
        subject.scope =
            Scope::Project(ProjectRef { id: project.id.clone(), name: project.name.clone(), domain });
        Ok(project)
    }

    /// The projects above this one, its domain last. All of them must be enabled, as upstream demands.
    pub(crate) async fn above(&self, project: &ProjectRow) -> Result<Vec<String>, IdentityError> {
        let mut above: Vec<String> = Vec::new();
        let mut next = project.parent_id.clone();
        while let Some(id) = next {
            // A circle cannot be made through the API; it must not hang us all the same.
            if above.contains(&id) {
                break;
            }
            let parent = subjects::project_by_id(self.db.read(), &id).await?;
            next = parent.and_then(|p| p.parent_id);
            above.push(id);
        }
        if above.is_empty() && !project.domain_id.is_empty() {
            above.push(project.domain_id.clone());
        }
        Ok(above)
    }

    /// A trust gives exactly its roles, as long as the trustor has them.
    async fn enter_trust(
        &self,
        subject: &mut Subject,
        id: &str,
        began: Generation,
    ) -> Result<(), IdentityError> {
        let trust = self.living_trust(id).await?;
        let (trustor, trustee) = (trust.text("trustor_user_id"), trust.text("trustee_user_id"));
        let bearer = if trust.flag("impersonation") { trustor } else { trustee };
        if subject.user.id != bearer {
            return Err(REFUSED("the trust is another user's"));
        }
        for party in [trustor, trustee] {
            let party = self.enabled_user(party).await?;
            subject.valid_from = subject.valid_from.max(party.valid_from);
            subject.look_again = subject.look_again.min(self.look_again(&party).await?);
        }
        let project = trust.opt_text("project_id").ok_or(REFUSED("the trust has no project"))?.to_owned();
        let project = self.enter_project(subject, &project).await?;
        let above = self.above(&project).await?;
        let held = self.roles_on(trustor, &[], TargetKind::Project, &project.id, &above, began).await?;
        let given = self.role_model(began).await?.expand(ids(&trust, "roles"));
        if given.is_empty() || given.iter().any(|r| !held.contains(r)) {
            return Err(REFUSED("the trustor no longer has the trust's roles"));
        }
        subject.roles = given;
        subject.valid_until = until(&trust);
        subject.trust = Some(trust);
        Ok(())
    }

    /// A trust that is neither deleted nor expired, and whose parents, where it was redelegated, are not either.
    pub(crate) async fn living_trust(&self, id: &str) -> Result<Record, IdentityError> {
        let now = Timestamp::now();
        let mut first: Option<Record> = None;
        let mut next = Some(id.to_owned());
        let mut steps = 0;
        while let Some(id) = next {
            let trust = TRUST.get(self.db.read(), &id).await?;
            let trust = trust
                .filter(|t| t.get("deleted_at").is_none_or(Value::is_null) && now < until(t))
                .ok_or(REFUSED("the trust is gone"))?;
            next = trust.opt_text("redelegated_trust_id").map(str::to_owned);
            first.get_or_insert(trust);
            steps += 1;
            if steps > 16 {
                return Err(REFUSED("the trust's chain is too long"));
            }
        }
        first.ok_or(REFUSED("the trust is gone"))
    }

    async fn limit_to_app_credential(
        &self,
        subject: &mut Subject,
        id: &str,
        began: Generation,
    ) -> Result<(), IdentityError> {
        let found = APP_CREDENTIAL.get(self.db.read(), id).await?;
        let found = found.ok_or(REFUSED("the application credential is gone"))?;
        let here = matches!(&subject.scope, Scope::Project(p) if p.id == found.text("project_id"));
        if !here || found.text("user_id") != subject.user.id {
            return Err(REFUSED("the application credential is for another user or project"));
        }
        let given = self.role_model(began).await?.expand(ids(&found, "roles"));
        subject.roles.retain(|r| given.contains(r));
        subject.valid_until = subject.valid_until.min(until(&found));
        subject.app_credential = Some(AppCredential {
            id: id.to_owned(),
            name: found.text("name").to_owned(),
            unrestricted: found.flag("unrestricted"),
            access_rules: self.access_rules_of(&found).await?,
        });
        Ok(())
    }
}

fn counted(result: &'static str) {
    metrics::counter!("aquifer_identity_tokens_validated_total", "result" => result).increment(1);
}

/// When the trust or application credential ends by itself.
pub(crate) fn until(record: &Record) -> Timestamp {
    Timestamp(record.get("expires_at").and_then(Value::as_i64).unwrap_or(i64::MAX))
}

/// A JSON list of ids.
pub(crate) fn ids(record: &Record, name: &str) -> Vec<String> {
    let list = record.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn caller(claims: &Claims, subject: &Subject, token: &str) -> Caller {
    Caller {
        user: subject.user.clone(),
        scope: subject.scope.clone(),
        roles: subject.roles.clone(),
        expires_at: claims.expires_at(),
        audit_ids: claims.audit.clone(),
        token: Secret(token.to_owned()),
    }
}
