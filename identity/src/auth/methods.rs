//! The ways to prove who one is.

use super::Proof;
use super::request::{AppCredentialPart, Asked, IdentityPart, PasswordPart, TokenPart, UserPart, expected};
use crate::logins::Login;
use crate::store::record::Fields;
use crate::store::subjects::{self, UserRow};
use crate::store::{APP_CREDENTIAL, Cond};
use crate::subject::until;
use crate::token::{Method, Target};
use crate::{Identity, IdentityError};
use state::Timestamp;
use std::net::IpAddr;

const REFUSED: fn(&'static str) -> IdentityError = IdentityError::Unauthenticated;

impl Identity {
    /// All methods must hold and must mean the same user.
    pub(super) async fn prove(
        &self,
        from: Option<IpAddr>,
        asked: &IdentityPart,
        scope: &Asked,
    ) -> Result<Proof, IdentityError> {
        let methods = asked.distinct();
        if methods.is_empty() {
            return Err(expected("a method", "auth.identity.methods"));
        }
        if methods.contains(&"application_credential") && *scope != Asked::Default {
            return Err(IdentityError::Unauthorized(
                "Error authenticating with application credential: Application credentials cannot request a scope."
                    .into(),
            ));
        }
        let mut proof: Option<Proof> = None;
        for method in methods {
            let next = match method {
                "password" => self.by_password(from, part(&asked.password, method)?).await?,
                "totp" => self.by_totp(from, part(&asked.totp, method)?).await?,
                "token" => self.by_token(part(&asked.token, method)?, scope).await?,
                "mapped" | "openid" | "saml2" => {
                    self.by_vouched_token(part(asked.vouched(method), method)?, scope).await?
                }
                "application_credential" => {
                    self.by_app_credential(from, part(&asked.application_credential, method)?).await?
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

    /// The user that a request names, and a text that names it wherever it counts, also where it does not exist.
    pub(super) async fn named(&self, user: &UserPart) -> Result<(Option<UserRow>, String), IdentityError> {
        let (found, named) = if let Some(id) = &user.id {
            self.refresh_user(id).await?;
            (subjects::user_by_id(self.db.read(), id).await?, id.clone())
        } else {
            let name = user.name.as_ref().ok_or_else(|| expected("id or name", "user"))?;
            let domain = user.domain.as_ref().ok_or_else(|| expected("domain", "user"))?.by()?;
            (self.user_named(name, &domain).await?, format!("{domain:?} {name}"))
        };
        let Some(mut found) = found else { return Ok((None, named)) };
        found.enabled &= !self.is_dormant(&found.id, &found.options).await?;
        let id = found.id.clone();
        Ok((Some(found), id))
    }

    async fn by_password(&self, from: Option<IpAddr>, part: &PasswordPart) -> Result<Proof, IdentityError> {
        if part.user.password.len() > crate::password::MAX_LEN {
            return Err(IdentityError::Invalid("The password is too long.".into()));
        }
        self.limiter.admits(from)?;
        let (user, who) = self.named(&part.user).await?;
        let attempt = self.limiter.begin(from, &who, 1)?;
        let login = attempt.settle(self.log_in(user.as_ref(), &part.user.password).await)?;
        let user = user.ok_or(REFUSED("wrong user or password"))?;
        if login == Login::Expired {
            return Err(IdentityError::Unauthorized(format!(
                "The password is expired and needs to be changed for user: {}.",
                user.id
            )));
        }
        Ok(plain(user.id, Method::Password))
    }

    async fn by_token(&self, part: &TokenPart, scope: &Asked) -> Result<Proof, IdentityError> {
        // As upstream, a token that is not good is not there, rather than a wrong proof.
        let old = self.subject_token(&part.id, false).await?;
        let asks = matches!(scope, Asked::ProjectId(_) | Asked::ProjectName(..) | Asked::Domain(_));
        let action = match old.claims.target {
            Target::Trust(_) => {
                "Using trust-scoped token to create another token. Create a new trust-scoped token instead"
            }
            Target::System if asks => {
                "Using a system-scoped token to create a project-scoped or domain-scoped token is not allowed."
            }
            Target::Project(_) | Target::Domain(_) if !self.config.allow_rescope_scoped_token => {
                "rescope a scoped token"
            }
            _ => "",
        };
        if !action.is_empty() {
            let text = format!("You are not authorized to perform the requested action: {action}.");
            return Err(IdentityError::Forbidden(text));
        }
        let mut methods = old.claims.methods.clone();
        if !methods.contains(&Method::Token) {
            methods.push(Method::Token);
        }
        // What an application credential or a key was limited to, its tokens' tokens are.
        let limited = old.claims.app_credential.is_some() || old.claims.methods.contains(&Method::Ec2);
        let bound = limited.then(|| old.claims.target.clone());
        Ok(Proof {
            user: old.claims.user.clone(),
            methods,
            expires: Some(old.claims.expires),
            chain: old.claims.audit.last().cloned(),
            app_credential: old.claims.app_credential.clone(),
            bound,
            federated: old.claims.federated.clone(),
        })
    }

    /// The same for a token that a provider of identities has vouched for. What a provider itself says is taken at its
    /// own door only, never out of a request's body.
    async fn by_vouched_token(&self, part: &TokenPart, scope: &Asked) -> Result<Proof, IdentityError> {
        let mut proof = self.by_token(part, scope).await?;
        if proof.federated.is_none() {
            return Err(REFUSED("no provider of identities has vouched for the token"));
        }
        proof.methods.retain(|m| *m != Method::Token);
        Ok(proof)
    }

    async fn by_app_credential(
        &self,
        from: Option<IpAddr>,
        part: &AppCredentialPart,
    ) -> Result<Proof, IdentityError> {
        if part.secret.len() > crate::password::MAX_LEN {
            return Err(IdentityError::Invalid("The secret is too long.".into()));
        }
        let mut who = part.id.clone().unwrap_or_default();
        let found = match (&part.id, &part.name) {
            (Some(id), _) => APP_CREDENTIAL.get(self.db.read(), id).await?,
            (None, Some(name)) => {
                let user = part.user.as_ref().ok_or_else(|| expected("user", "application_credential"))?;
                let (user, named) = self.named(user).await?;
                who = format!("{named} {name}");
                match user {
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
        let attempt = self.limiter.begin(from, &format!("application credential {who}"), 1)?;
        let right = match self.hasher.verify(&part.secret, hash.as_ref()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(REFUSED("wrong application credential or secret")),
            Err(e) => Err(e),
        };
        attempt.settle(right)?;
        let found = found.ok_or(REFUSED("wrong application credential or secret"))?;
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

pub(crate) fn plain(user: String, method: Method) -> Proof {
    Proof {
        user,
        methods: vec![method],
        expires: None,
        chain: None,
        app_credential: None,
        bound: None,
        federated: None,
    }
}

/// Two methods together: every limit of either holds.
pub(super) fn both(a: Proof, b: Proof) -> Result<Proof, IdentityError> {
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
        federated: a.federated.or(b.federated),
    })
}
