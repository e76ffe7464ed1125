//! Names of accounts. `AUTH_<project>` is every project's own account; the configuration may know further prefixes
//! (`SERVICE_<project>`), whose accounts are each project's too, but other ones: what a service keeps there for a project
//! is reached only with both their tokens. As upstream's keystoneauth has it.
//!
//! Everywhere below the doors an account goes by its key: the project's id for its own account, and
//! `<prefix>_/<project>` for another. No project's id has a slash in it.

use crate::config::ResellerPrefix;
use crate::{Config, ObjectError, ObjectStore};
use api::Caller;

const OWN: &str = "AUTH";
/// Bytes of a project's id.
const LONGEST: usize = 64;

/// The key of the account of a name; none where that is no account's.
pub(crate) fn key(name: &str) -> Option<String> {
    let (prefix, project) = name.split_once('_')?;
    let fits = |text: &str| !text.is_empty() && text.len() <= LONGEST && !text.contains(['/', '\0']);
    if !fits(prefix) || !fits(project) {
        return None;
    }
    Some(match prefix {
        OWN => project.to_owned(),
        prefix => format!("{prefix}_/{project}"),
    })
}

/// The name of an account.
pub(crate) fn name(key: &str) -> String {
    match key.split_once('/') {
        None => format!("{OWN}_{key}"),
        Some((prefix, project)) => format!("{prefix}{project}"),
    }
}

/// An account's prefix, without the underscore, and its project.
pub(crate) fn split(key: &str) -> (&str, &str) {
    match key.split_once('/') {
        None => (OWN, key),
        Some((prefix, project)) => (prefix.trim_end_matches('_'), project),
    }
}

fn rule<'a>(config: &'a Config, key: &str) -> Option<&'a ResellerPrefix> {
    config.reseller_prefixes.iter().find(|p| p.name == split(key).0)
}

/// Whether there are accounts of this prefix.
pub(crate) fn is_known(config: &Config, key: &str) -> bool {
    split(key).0 == OWN || rule(config, key).is_some()
}

/// All prefixes of accounts' names, with their underscores.
pub(crate) fn prefixes(config: &Config) -> Vec<String> {
    let others = config.reseller_prefixes.iter().map(|p| p.name.as_str()).filter(|n| *n != OWN);
    [OWN].into_iter().chain(others).map(|name| format!("{name}_")).collect()
}

/// The roles that own an account of the caller's own project.
pub(crate) fn operator_roles<'a>(config: &'a Config, key: &str) -> &'a [String] {
    match rule(config, key) {
        Some(rule) if !rule.operator_roles.is_empty() => &rule.operator_roles,
        _ => &config.operator_roles,
    }
}

/// Whether an account is open to its project's members who come with this service, or with none.
pub(crate) fn admits(config: &Config, key: &str, service: Option<&Caller>) -> bool {
    let roles = rule(config, key).map_or(&[][..], |r| &r.service_roles);
    is_known(config, key)
        && (roles.is_empty() || service.is_some_and(|s| roles.iter().any(|r| s.has_role(r))))
}

/// What would make prefixes ambiguous.
pub(crate) fn check(config: &Config) -> Result<(), ObjectError> {
    let mut names: Vec<&str> = Vec::new();
    for ResellerPrefix { name, .. } in &config.reseller_prefixes {
        let fits =
            !name.is_empty() && name.len() <= LONGEST && name.bytes().all(|b| b.is_ascii_alphanumeric());
        if !fits || names.contains(&name.as_str()) {
            let text = format!("the object store's reseller prefix {name:?} is none, or is there twice");
            return Err(ObjectError::Invalid(text));
        }
        names.push(name);
    }
    Ok(())
}

impl ObjectStore {
    /// Refuses a change in an account that is not to be changed.
    pub(crate) async fn check_writable(&self, account: &str, deletes: bool) -> Result<(), ObjectError> {
        let config = &self.inner.config;
        if deletes && config.read_only_allows_deletes {
            return Ok(());
        }
        let own = self.find_account(account).await?.info.read_only;
        if own.unwrap_or(config.read_only) { Err(ObjectError::ReadOnly) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let prefix = |name: &str| ResellerPrefix {
            name: name.into(),
            service_roles: Vec::new(),
            operator_roles: Vec::new(),
        };
        Config { reseller_prefixes: vec![prefix("SERVICE")], ..Config::default() }
    }

    #[test]
    fn names_and_keys() {
        for (text, of) in [("AUTH_p", "p"), ("SERVICE_p", "SERVICE_/p"), ("AUTH_a_b", "a_b")] {
            assert_eq!(key(text).as_deref(), Some(of));
            assert_eq!(name(of), text);
        }
        for none in ["", "AUTH", "AUTH_", "_p", "p", "AUTH_a/b", "A/B_p", "AUTH_SERVICE_/p"] {
            assert_eq!(key(none), None, "{none}");
        }
        assert_eq!(split("SERVICE_/p"), ("SERVICE", "p"));
        // An id that looks like another account's key cannot be named.
        assert_eq!(key("AUTH_SERVICE_p").as_deref(), Some("SERVICE_p"));
        assert!(is_known(&config(), "p") && is_known(&config(), "SERVICE_/p"));
        assert!(!is_known(&config(), "OTHER_/p") && !admits(&config(), "OTHER_/p", None));
        assert_eq!(prefixes(&config()), ["AUTH_", "SERVICE_"]);
    }

    #[test]
    fn prefixes_are_told_apart() {
        assert!(check(&config()).is_ok());
        for bad in ["", "A_B", "a/b", "SERVICE"] {
            let mut config = config();
            let rule = ResellerPrefix { name: bad.into(), ..config.reseller_prefixes[0].clone() };
            config.reseller_prefixes.push(rule);
            assert!(check(&config).is_err(), "{bad}");
        }
    }
}
