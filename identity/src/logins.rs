//! Passwords as users meet them: logging in with one, being locked out, changing it.

use crate::compliance::{Lock, option};
use crate::password::MAX_LEN;
use crate::store::directory::Entity;
use crate::store::passwords::{self, Account, Mark, NewPassword};
use crate::store::record::Fields;
use crate::store::subjects::{self, Holder, PasswordHash, UserRow};
use crate::store::{Record, USER};
use crate::{Identity, IdentityError};
use api::Secret;
use api::schema::Schema;
use serde_json::{Value, json};
use state::Timestamp;
use std::net::IpAddr;
use std::sync::LazyLock;

static CHANGE: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(&json!({"type": "object", "required": ["user"], "properties": {"user": {"type": "object",
        "required": ["original_password", "password"], "properties": {
            "original_password": {"type": "string"}, "password": {"type": "string"}}}}}))
});

const REFUSED: fn(&'static str) -> IdentityError = IdentityError::Unauthenticated;

/// Who sets a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Administrator,
    /// The user itself.
    Owner,
}

/// A password that was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Login {
    Good,
    /// Right, but to be changed before it is good for anything else.
    Expired,
}

impl Identity {
    /// Whether this is the user's password. The answer costs the same hash where there is no such user, where it is
    /// locked out and where it is disabled, and the caller learns no difference.
    pub(crate) async fn log_in(
        &self,
        user: Option<&UserRow>,
        password: &str,
    ) -> Result<Login, IdentityError> {
        if let Some(user) = user.filter(|u| u.source == crate::ldap::SOURCE) {
            return self.log_in_at_directory(user, password).await;
        }
        let locks = self.compliance.rules.lockout_failure_attempts > 0;
        let checks = user.filter(|_| locks).map(|u| self.compliance.checks_of(&u.id));
        let check = match &checks {
            Some(checks) => Some(checks.read().await),
            None => None,
        };
        let shut = self.is_shut(user).await?;
        let hash = user.filter(|_| !shut).and_then(|u| u.password_hash.as_ref());
        if !self.hasher.verify(password, hash).await? {
            if !shut {
                self.count_failure(user).await?;
            }
            return Err(REFUSED(if shut { "the user is locked out" } else { "wrong user or password" }));
        }
        // Who guessed right after the last failure that was allowed, while both were being checked, did not: every
        // check that began before this one ended is counted first.
        drop(check);
        if let Some(checks) = &checks {
            drop(checks.write().await);
        }
        let (Some(user), false) = (user, self.is_shut(user).await?) else {
            return Err(REFUSED("the user is locked out"));
        };
        if !user.enabled {
            return Err(REFUSED("the user or its domain is disabled"));
        }
        self.welcome(user, password).await?;
        let ended = user.password_expires_at.is_some_and(|t| t <= Timestamp::now());
        Ok(if ended { Login::Expired } else { Login::Good })
    }

    async fn is_shut(&self, user: Option<&UserRow>) -> Result<bool, IdentityError> {
        if self.compliance.rules.lockout_failure_attempts == 0 {
            return Ok(false);
        }
        // An unknown user costs the same look.
        let id = user.map_or("", |u| &u.id);
        let Some(account) = passwords::account(self.db.read(), id).await? else { return Ok(false) };
        let Some(user) = user else { return Ok(false) };
        let Account { failed_logins, failed_login_at, .. } = account;
        match self.compliance.lock(&user.options, failed_logins, failed_login_at, Timestamp::now()) {
            Lock::Open => Ok(false),
            Lock::Shut => Ok(true),
            Lock::Lapsed => self.mark(id, Mark::Forgiven).await.map(|()| false),
        }
    }

    /// Counted before the answer, so that the next attempt meets the lock.
    async fn count_failure(&self, user: Option<&UserRow>) -> Result<(), IdentityError> {
        if self.compliance.rules.lockout_failure_attempts == 0 {
            return Ok(());
        }
        self.mark(user.map_or("", |u| &u.id), Mark::FailedLogin).await
    }

    /// Nothing that is remembered depends on it: tokens stay so.
    async fn mark(&self, user: &str, mark: Mark) -> Result<(), IdentityError> {
        let mut tx = self.db.begin().await?;
        passwords::mark(tx.conn(), user, mark, Timestamp::now()).await?;
        Ok(tx.commit().await?)
    }

    /// What a successful login leaves behind; mostly nothing.
    async fn welcome(&self, user: &UserRow, password: &str) -> Result<(), IdentityError> {
        let rules = &self.compliance.rules;
        if rules.lockout_failure_attempts > 0
            && passwords::account(self.db.read(), &user.id).await?.is_some_and(|a| a.failed_logins > 0)
        {
            self.mark(&user.id, Mark::Forgiven).await?;
        }
        if let Some(hash) = user.password_hash.as_ref().filter(|h| self.hasher.outgrew(h)) {
            let new = self.hasher.hash(password).await?;
            let mut tx = self.db.begin().await?;
            passwords::rehash(tx.conn(), &user.id, hash, &new).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Notes that the user was here today, where anyone asks for that.
    pub(crate) async fn note_activity(&self, user: &str) -> Result<(), IdentityError> {
        let now = Timestamp::now();
        if self.compliance.active_since(now).is_none() {
            return Ok(());
        }
        let account = passwords::account(self.db.read(), user).await?;
        let today = now.secs().div_euclid(24 * 3600);
        if account.is_some_and(|a| a.last_active_at.secs().div_euclid(24 * 3600) < today) {
            self.mark(user, Mark::Active).await?;
        }
        Ok(())
    }

    /// Whether the user is disabled because it has not been seen for too long.
    pub(crate) async fn is_dormant(&self, user: &str, options: &Value) -> Result<bool, IdentityError> {
        let Some(since) = self.compliance.active_since(Timestamp::now()) else { return Ok(false) };
        if option(options, "ignore_user_inactivity") {
            return Ok(false);
        }
        Ok(!passwords::inactive(self.db.read(), &[user.to_owned()], since).await?.is_empty())
    }

    /// The users with `enabled` as it is: those who have not been seen for too long are not.
    pub(crate) async fn with_activity(&self, mut users: Vec<Record>) -> Result<Vec<Record>, IdentityError> {
        let Some(since) = self.compliance.active_since(Timestamp::now()) else { return Ok(users) };
        let subject_to = |u: &&Record| !option(&u["options"], "ignore_user_inactivity");
        let ids: Vec<String> = users.iter().filter(subject_to).map(|u| u.text("id").to_owned()).collect();
        let dormant = passwords::inactive(self.db.read(), &ids, since).await?;
        for u in &mut users {
            if dormant.iter().any(|id| id == u.text("id")) {
                u.insert("enabled".into(), false.into());
            }
        }
        Ok(users)
    }

    /// A password ready to be stored. What it must look like is the caller's to check.
    pub(crate) async fn new_password(
        &self,
        password: &Secret,
        options: &Value,
        by: By,
    ) -> Result<NewPassword, IdentityError> {
        let now = Timestamp::now();
        let first = by == By::Administrator && self.compliance.must_change_first(options);
        Ok(NewPassword {
            hash: PasswordHash(self.hasher.hash(&password.0).await?),
            expires_at: if first { Some(now) } else { self.compliance.expiry(options, now) },
            own: by == By::Owner,
        })
    }

    /// So many former passwords are kept beside the one in use.
    pub(crate) fn former_passwords(&self) -> u32 {
        self.compliance.rules.unique_last_password_count.saturating_sub(1)
    }

    /// A user changes its own password, proving itself by the old one instead of a token.
    pub(crate) async fn change_password(
        &self,
        from: Option<IpAddr>,
        id: &str,
        body: &Value,
    ) -> Result<(), IdentityError> {
        let (old, new) = asked(body)?;
        self.refresh_user(id).await?;
        let mut user = subjects::user_by_id(self.db.read(), id).await?;
        if let Some(user) = &mut user {
            user.enabled &= !self.is_dormant(id, &user.options).await?;
        }
        let attempt = self.limiter.begin(from, id, 1)?;
        // An expired password is good for this.
        attempt.settle(self.log_in(user.as_ref(), &old.0).await)?;
        let Some(user) = user else { return Err(REFUSED("no such user")) };
        self.need_own(Entity::User, id).await?;
        if option(&user.options, "lock_password") {
            return Err(IdentityError::Invalid(
                "You cannot change your password at this time due to password policy disallowing password changes. \
                 Please contact your administrator to reset your password."
                    .into(),
            ));
        }
        self.compliance.check_strength(&new.0)?;
        let account = passwords::account(self.db.read(), id).await?;
        if let Some(account) = account.filter(|a| a.own_password) {
            self.compliance.may_change(account.changed_at, Timestamp::now())?;
        }
        self.check_history(&user, &new).await?;
        let new = self.new_password(&new, &user.options, By::Owner).await?;
        let now = Timestamp::now();
        let mut change = self.begin().await?;
        change.lock(&format!("user:{id}")).await?;
        passwords::set(&mut change, id, &new, now, self.former_passwords()).await?;
        subjects::refuse_tokens(change.conn(), Holder::User, id, now).await?;
        change.commit().await
    }

    /// A password that the user had lately is not to be used again.
    async fn check_history(&self, user: &UserRow, new: &Secret) -> Result<(), IdentityError> {
        let count = self.compliance.rules.unique_last_password_count;
        if count == 0 {
            return Ok(());
        }
        let former = passwords::former(self.db.read(), &user.id).await?;
        let keep = usize::try_from(count - 1).unwrap_or(usize::MAX);
        for hash in user.password_hash.iter().chain(former.iter().take(keep)) {
            if self.hasher.verify(&new.0, Some(hash)).await? {
                return Err(IdentityError::Invalid(format!(
                    "The new password cannot be identical to a previous password. The total number which includes \
                     the new password must be unique is {count}."
                )));
            }
        }
        Ok(())
    }

    /// Sets a password that no rule is applied to: the cloud's own accounts get theirs from its operator.
    pub(crate) async fn put_password(&self, id: &str, password: &Secret) -> Result<(), IdentityError> {
        let user = USER.need(self.db.read(), id).await?;
        let new = self.new_password(password, &user["options"], By::Owner).await?;
        let now = Timestamp::now();
        let mut change = self.begin().await?;
        passwords::set(&mut change, id, &new, now, self.former_passwords()).await?;
        subjects::refuse_tokens(change.conn(), Holder::User, id, now).await?;
        change.commit().await
    }
}

/// The old password and the new one.
fn asked(body: &Value) -> Result<(Secret, Secret), IdentityError> {
    CHANGE.check(body).map_err(|_| {
        IdentityError::Invalid("Expecting to find original_password and password in user.".into())
    })?;
    let text = |name: &str| Secret(body["user"][name].as_str().unwrap_or_default().to_owned());
    let (old, new) = (text("original_password"), text("password"));
    if old.0.len() > MAX_LEN || new.0.len() > MAX_LEN || new.0.is_empty() {
        return Err(IdentityError::Invalid(format!(
            "The password must have from 1 to {MAX_LEN} bytes in UTF-8."
        )));
    }
    Ok((old, new))
}
