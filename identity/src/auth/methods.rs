//! The ways to prove who one is.

use super::Proof;
use super::request::{AppCredentialPart, IdentityPart, PasswordPart, TokenPart, UserPart, expected};
use crate::store::record::Fields;
use crate::store::subjects::{self, UserRow};
use crate::store::{APP_CREDENTIAL, Cond};
use crate::subject::until;
use crate::token::{Method, Target};
use crate::{Identity, IdentityError};
use state::Timestamp;

const REFUSED: fn(&'static str) -> IdentityError = IdentityError::Unauthenticated;

impl Identity {
    /// All methods must hold and must mean the same user.
    pub(super) async fn prove(&self, asked: &IdentityPart) -> Result<Proof, IdentityError> {
        let mut proof: Option<Proof> = None;
        if asked.methods.is_empty() {
            return Err(expected("a method", "auth.identity.methods"));
        }
        for method in &asked.methods {
            let next = match method.as_str() {
                "password" => self.by_password(part(&asked.password, method)?).await?,
                "token" => self.by_token(part(&asked.token, method)?).await?,
                "application_credential" => {
                    self.by_app_credential(part(&asked.application_credential, method)?).await?
                }
                _ => {
                    return Err(IdentityError::Unauthorized(
                        "Attempted to authenticate with an unsupported method.".into(),
                    ));
                }
            };
            proof = Some(match proof {
                None => next,
                Some(before) => both(before, next)?,
            });
        }
        proof.ok_or(REFUSED("no method"))
    }

    async fn named(&self, user: &UserPart) -> Result<Option<UserRow>, IdentityError> {
        if let Some(id) = &user.id {
            return subjects::user_by_id(self.db.read(), id).await;
        }
        let name = user.name.as_ref().ok_or_else(|| expected("id or name", "user"))?;
        let domain = user.domain.as_ref().ok_or_else(|| expected("domain", "user"))?;
        let domain = super::request::DomainPart { id: domain.id.clone(), name: domain.name.clone() }.by()?;
        subjects::user_by_name(self.db.read(), name, &domain).await
    }

    async fn by_password(&self, part: &PasswordPart) -> Result<Proof, IdentityError> {
        if part.user.password.len() > crate::password::MAX_LEN {
            return Err(IdentityError::Invalid("The password is too long.".into()));
        }
        let user = self.named(&part.user).await?;
        let hash = user.as_ref().and_then(|u| u.password_hash.as_ref());
        // Unknown users are hashed for as well: neither the answer nor its time tells whether one exists.
        let right = self.hasher.verify(&part.user.password, hash).await?;
        let user = user.filter(|_| right).ok_or(REFUSED("wrong user or password"))?;
        if !user.enabled {
            return Err(REFUSED("the user or its domain is disabled"));
        }
        if user.password_expires_at.is_some_and(|t| t <= Timestamp::now()) {
            return Err(IdentityError::Unauthorized(format!(
                "The password is expired and needs to be changed for user: {}.",
                user.id
            )));
        }
        Ok(plain(user.id, Method::Password))
    }

    async fn by_token(&self, part: &TokenPart) -> Result<Proof, IdentityError> {
        let old = self.validated(&part.id).await?;
        if matches!(old.claims.target, Target::Trust(_)) {
            return Err(IdentityError::Forbidden(
                "A trust-scoped token cannot be used to get another.".into(),
            ));
        }
        let mut methods = old.claims.methods.clone();
        if !methods.contains(&Method::Token) {
            methods.push(Method::Token);
        }
        // What an application credential was limited to, its tokens' tokens are.
        let bound = old.claims.app_credential.as_ref().map(|_| old.claims.target.clone());
        Ok(Proof {
            user: old.claims.user.clone(),
            methods,
            expires: Some(old.claims.expires),
            chain: old.claims.audit.last().cloned(),
            app_credential: old.claims.app_credential.clone(),
            bound,
        })
    }

    async fn by_app_credential(&self, part: &AppCredentialPart) -> Result<Proof, IdentityError> {
        let found = match (&part.id, &part.name) {
            (Some(id), _) => APP_CREDENTIAL.get(self.db.read(), id).await?,
            (None, Some(name)) => {
                let user = part.user.as_ref().ok_or_else(|| expected("user", "application_credential"))?;
                match self.named(user).await? {
                    Some(user) => {
                        let conds = [Cond::eq("user_id", user.id.as_str()), Cond::eq("name", name.as_str())];
                        APP_CREDENTIAL.one(self.db.read(), &conds).await?
                    }
                    None => None,
                }
            }
            (None, None) => return Err(expected("id or name", "application_credential")),
        };
        let hash = match &found {
            Some(f) => subjects::app_secret(self.db.read(), f.text("id")).await?,
            None => None,
        };
        let right = self.hasher.verify(&part.secret, hash.as_ref()).await?;
        let found = found.filter(|_| right).ok_or(REFUSED("wrong application credential or secret"))?;
        if until(&found) <= Timestamp::now() {
            return Err(REFUSED("the application credential has expired"));
        }
        let mut proof = plain(found.text("user_id").to_owned(), Method::AppCredential);
        proof.app_credential = Some(found.text("id").to_owned());
        proof.bound = Some(Target::Project(found.text("project_id").to_owned()));
        Ok(proof)
    }
}

fn part<'a, T>(part: &'a Option<T>, method: &str) -> Result<&'a T, IdentityError> {
    part.as_ref().ok_or_else(|| expected(method, "identity"))
}

fn plain(user: String, method: Method) -> Proof {
    Proof { user, methods: vec![method], expires: None, chain: None, app_credential: None, bound: None }
}

/// Two methods together: every limit of either holds.
fn both(a: Proof, b: Proof) -> Result<Proof, IdentityError> {
    if a.user != b.user {
        return Err(REFUSED("the methods mean different users"));
    }
    if a.app_credential.is_some() && b.app_credential.is_some() && a.app_credential != b.app_credential {
        return Err(REFUSED("the methods mean different application credentials"));
    }
    let mut methods = a.methods;
    for m in b.methods {
        if !methods.contains(&m) {
            methods.push(m);
        }
    }
    Ok(Proof {
        user: a.user,
        methods,
        expires: a.expires.into_iter().chain(b.expires).min(),
        chain: a.chain.or(b.chain),
        app_credential: a.app_credential.or(b.app_credential),
        bound: a.bound.or(b.bound),
    })
}
