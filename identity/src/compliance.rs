//! Security compliance: how strong passwords must be, how long they last, and when an account is closed. The rules
//! and their words are upstream's `[security_compliance]`; none holds unless the operator sets it.

use crate::IdentityError;
use fancy_regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use state::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::RwLock;

const DAY: i64 = 24 * 3600;

/// The `[identity.security_compliance]` table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecurityCompliance {
    /// A user whose password was given wrong so many times in a row is locked out; 0 is never.
    pub lockout_failure_attempts: u32,
    /// A locked user may try again after this many seconds; 0 is not before an administrator changes the user.
    pub lockout_duration: u64,
    /// A user that has not logged in for so many days is disabled; 0 is never.
    pub disable_user_account_days_inactive: u32,
    /// A password must be changed after so many days; 0 is never.
    pub password_expires_days: u32,
    /// The last so many passwords, the one in use included, must not be chosen again; 0 allows any.
    pub unique_last_password_count: u32,
    /// Users may change their passwords again after so many days only.
    pub minimum_password_age: u32,
    /// What a password must match, from its beginning; Python's syntax, look-ahead included.
    pub password_regex: Option<String>,
    /// The same in the users' language; refusals show it.
    pub password_regex_description: Option<String>,
    /// A password that an administrator gave must be changed before it can be used.
    pub change_password_upon_first_use: bool,
}

impl Default for SecurityCompliance {
    fn default() -> Self {
        SecurityCompliance {
            lockout_failure_attempts: 0,
            lockout_duration: 1800,
            disable_user_account_days_inactive: 0,
            password_expires_days: 0,
            unique_last_password_count: 0,
            minimum_password_age: 0,
            password_regex: None,
            password_regex_description: None,
            change_password_upon_first_use: false,
        }
    }
}

/// The rules, ready for use.
pub(crate) struct Compliance {
    pub(crate) rules: SecurityCompliance,
    pattern: Option<Regex>,
    /// The users whose passwords are being checked: every check is a reader.
    checked: Mutex<HashMap<String, Weak<RwLock<()>>>>,
}

/// Whether a user may try to log in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Open,
    /// It was shut, and the time is over: the failures are forgotten.
    Lapsed,
    Shut,
}

/// Whether a user's option is set.
pub(crate) fn option(options: &Value, name: &str) -> bool {
    options[name] == Value::Bool(true)
}

impl Compliance {
    pub(crate) fn new(rules: SecurityCompliance) -> Result<Self, IdentityError> {
        let pattern = rules.password_regex.as_ref().map(|p| Regex::new(&format!(r"\A(?:{p})")));
        let pattern = pattern
            .transpose()
            .map_err(|e| IdentityError::Config(format!("password_regex does not compile: {e}")))?;
        Ok(Compliance { rules, pattern, checked: Mutex::default() })
    }

    /// What the checks of one user's password share while any is under way.
    pub(crate) fn checks_of(&self, user: &str) -> Arc<RwLock<()>> {
        let checked = &mut *self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = checked.get(user).and_then(Weak::upgrade) {
            return shared;
        }
        checked.retain(|_, shared| shared.strong_count() > 0);
        let shared = Arc::new(RwLock::new(()));
        checked.insert(user.to_owned(), Arc::downgrade(&shared));
        shared
    }

    pub(crate) fn check_strength(&self, password: &str) -> Result<(), IdentityError> {
        let Some(pattern) = &self.pattern else { return Ok(()) };
        // A pattern that needs for ever on this password does not match it.
        if pattern.is_match(password).unwrap_or(false) {
            return Ok(());
        }
        let wanted = self.rules.password_regex_description.as_deref().unwrap_or_default();
        Err(IdentityError::Invalid(format!("The password does not match the requirements: {wanted}.")))
    }

    /// When a password set now ends, by the user's options.
    pub(crate) fn expiry(&self, options: &Value, now: Timestamp) -> Option<Timestamp> {
        let days = self.rules.password_expires_days;
        (days > 0 && !option(options, "ignore_password_expiry"))
            .then(|| Timestamp::from_secs(now.secs() + i64::from(days) * DAY))
    }

    pub(crate) fn must_change_first(&self, options: &Value) -> bool {
        self.rules.change_password_upon_first_use && !option(options, "ignore_change_password_upon_first_use")
    }

    /// Whether a user that chose its password at `since` may choose another.
    pub(crate) fn may_change(&self, since: Timestamp, now: Timestamp) -> Result<(), IdentityError> {
        let days = i64::from(self.rules.minimum_password_age);
        let left = since.secs() + days * DAY - now.secs();
        if left <= 0 {
            return Ok(());
        }
        Err(IdentityError::Invalid(format!(
            "You cannot change your password at this time due to the minimum password age. Once you change your \
             password, it must be used for {days} day(s) before it can be changed. Please try again in {} day(s) or \
             contact your administrator to reset your password.",
            left / DAY
        )))
    }

    pub(crate) fn lock(&self, options: &Value, failed: i64, at: Timestamp, now: Timestamp) -> Lock {
        let most = i64::from(self.rules.lockout_failure_attempts);
        if most == 0 || failed < most || option(options, "ignore_lockout_failure_attempts") {
            return Lock::Open;
        }
        let over = at.plus(Duration::from_secs(self.rules.lockout_duration)) <= now;
        if over && self.rules.lockout_duration > 0 { Lock::Lapsed } else { Lock::Shut }
    }

    /// A user that was last active before this is disabled, where the operator wants that.
    pub(crate) fn active_since(&self, now: Timestamp) -> Option<Timestamp> {
        let days = i64::from(self.rules.disable_user_account_days_inactive);
        let today = now.secs().div_euclid(DAY);
        (days > 0).then(|| Timestamp::from_secs((today - days + 1) * DAY))
    }

    /// The options that everybody may read.
    pub(crate) fn readable(&self) -> Value {
        json!({
            "password_regex": self.rules.password_regex,
            "password_regex_description": self.rules.password_regex_description,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compliance(rules: SecurityCompliance) -> Compliance {
        Compliance::new(rules).unwrap()
    }

    #[test]
    fn strength_is_matched_as_python_does() {
        let c = compliance(SecurityCompliance {
            // Upstream's own example.
            password_regex: Some(r"^(?=.*\d)(?=.*[a-zA-Z]).{7,}$".into()),
            password_regex_description: Some("seven, one of them a digit".into()),
            ..Default::default()
        });
        assert!(c.check_strength("passw0rd").is_ok());
        let e = c.check_strength("password").unwrap_err().to_string();
        assert_eq!(e, "The password does not match the requirements: seven, one of them a digit.");
        let c = compliance(SecurityCompliance { password_regex: Some("a|b".into()), ..Default::default() });
        assert!(c.check_strength("bx").is_ok() && c.check_strength("xa").is_err(), "from the beginning");
        // A pattern that explodes refuses instead of hanging.
        let c = compliance(SecurityCompliance {
            password_regex: Some(r"(?=(a+)+$)(a+)+\1$".into()),
            ..Default::default()
        });
        let began = std::time::Instant::now();
        let _ = c.check_strength(&format!("{}!", "a".repeat(4000)));
        assert!(began.elapsed() < Duration::from_secs(10));
        assert!(
            Compliance::new(SecurityCompliance { password_regex: Some("(".into()), ..Default::default() })
                .is_err()
        );
    }

    #[test]
    fn locks() {
        let c = compliance(SecurityCompliance { lockout_failure_attempts: 3, ..Default::default() });
        let now = Timestamp::from_secs(10_000_000);
        let ago = |secs| Timestamp::from_secs(now.secs() - secs);
        assert_eq!(c.lock(&json!({}), 2, now, now), Lock::Open);
        assert_eq!(c.lock(&json!({}), 3, ago(1799), now), Lock::Shut);
        assert_eq!(c.lock(&json!({}), 3, ago(1800), now), Lock::Lapsed);
        assert_eq!(c.lock(&json!({"ignore_lockout_failure_attempts": true}), 9, now, now), Lock::Open);
        let c = compliance(SecurityCompliance {
            lockout_failure_attempts: 1,
            lockout_duration: 0,
            ..Default::default()
        });
        assert_eq!(c.lock(&json!({}), 1, Timestamp(1), now), Lock::Shut);
    }

    #[test]
    fn days_are_counted_by_the_calendar() {
        let c =
            compliance(SecurityCompliance { disable_user_account_days_inactive: 2, ..Default::default() });
        let noon = Timestamp::parse("2026-03-10T12:00:00Z").unwrap();
        let since = c.active_since(noon).unwrap();
        assert_eq!(since, Timestamp::parse("2026-03-09T00:00:00Z").unwrap());
    }
}
