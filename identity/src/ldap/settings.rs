//! A domain's directory, as Keystone's options of the group `ldap` describe one.
//!
//! Values come as JSON of whatever type a client found right: numbers and truths may be texts. What is not known is
//! refused, and so is what cannot be done here, rather than left out.

use api::Secret;
use ldap3::DerefAliases;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;
use url::Url;

/// How far below its base a search looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    One,
    Sub,
}

/// Where and how one kind of entry is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) base: String,
    /// The operator's own condition, in parentheses; empty for none.
    pub(super) filter: String,
    pub(super) class: String,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: Option<String>,
    /// Further attributes: `(in the directory, here)`.
    pub(super) additional: Vec<(String, String)>,
}

/// How an entry says whether its user may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Enabled {
    Always,
    /// By an attribute that is `true` or not; `default` where it is absent.
    Attribute {
        name: String,
        invert: bool,
        default: bool,
    },
    /// By bits that must not all be set.
    Mask {
        name: String,
        mask: i64,
        default: i64,
    },
    /// By being a member of this group.
    Group {
        dn: String,
        member: String,
        by_id: bool,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    /// Tried in this order.
    pub(super) urls: Vec<Url>,
    /// Who searches; nobody in particular where there is none.
    pub(super) login: Option<(String, Secret)>,
    pub(super) reach: Reach,
    /// 0: answers are not asked for in pages.
    pub(super) page_size: i32,
    pub(super) start_tls: bool,
    pub(super) verify: bool,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) ca_dir: Option<PathBuf>,
    /// For a connection, and for an answer.
    pub(super) timeout: Duration,
    pub(super) aliases: DerefAliases,
    /// Connections that search.
    pub(super) pool_size: usize,
    /// A connection that searches is used for so long; zero for one search.
    pub(super) lifetime: Duration,
    /// Connections on which passwords are tried.
    pub(super) auth_pool_size: usize,
    pub(super) users: Tree,
    pub(super) mail: Option<String>,
    pub(super) default_project: Option<String>,
    pub(super) enabled: Enabled,
    pub(super) groups: Tree,
    pub(super) member: String,
    /// Members are named by their ids, not by their DNs.
    pub(super) members_are_ids: bool,
    /// Active Directory: groups in groups count.
    pub(super) nesting: bool,
}

/// The options that a domain may set, beside the password, and what holds where it does not: upstream's list.
///
/// Those that describe writing or the insides of upstream's own connections (`user_pass_attribute`, `debug_level`,
/// `pool_retry_*`, `use_auth_pool`, `auth_pool_connection_lifetime`, `randomize_urls`, `group_attribute_ignore`) are
/// kept and mean nothing here. Without `connection_timeout`, what waits does so for 5 seconds, not for ever.
pub(crate) static DEFAULTS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let connections = json!({
        "url": "ldap://localhost", "user": null, "suffix": "cn=example,cn=com", "query_scope": "one", "page_size": 0,
        "alias_dereferencing": "default", "debug_level": null, "chase_referrals": null, "tls_cacertfile": null,
        "tls_cacertdir": null, "use_tls": false, "tls_req_cert": "demand", "connection_timeout": -1,
        "use_pool": true, "pool_size": 10, "pool_retry_max": 3, "pool_retry_delay": 0.1,
        "pool_connection_timeout": -1, "pool_connection_lifetime": 600, "use_auth_pool": true,
        "auth_pool_size": 100, "auth_pool_connection_lifetime": 60, "randomize_urls": false,
    });
    let users = json!({
        "user_tree_dn": null, "user_filter": null, "user_objectclass": "inetOrgPerson", "user_id_attribute": "cn",
        "user_name_attribute": "sn", "user_description_attribute": "description", "user_mail_attribute": "mail",
        "user_pass_attribute": "userPassword", "user_enabled_attribute": "enabled", "user_enabled_invert": false,
        "user_enabled_mask": 0, "user_enabled_default": "True", "user_attribute_ignore": ["default_project_id"],
        "user_default_project_id_attribute": null, "user_enabled_emulation": false,
        "user_enabled_emulation_dn": null, "user_enabled_emulation_use_group_config": false,
        "user_additional_attribute_mapping": [],
    });
    let groups = json!({
        "group_tree_dn": null, "group_filter": null, "group_objectclass": "groupOfNames",
        "group_id_attribute": "cn", "group_name_attribute": "ou", "group_member_attribute": "member",
        "group_members_are_ids": false, "group_desc_attribute": "description", "group_attribute_ignore": [],
        "group_additional_attribute_mapping": [], "group_ad_nesting": false,
    });
    [connections, users, groups]
        .iter()
        .filter_map(Value::as_object)
        .flatten()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
});

/// Reads options, each of the type that it must have.
struct Options<'a>(&'a Map<String, Value>);

impl Options<'_> {
    fn value(&self, name: &str) -> &Value {
        let own = self.0.get(name).filter(|v| !v.is_null());
        own.or_else(|| DEFAULTS.get(name)).unwrap_or(&Value::Null)
    }

    /// As upstream, any option may name the password, so that it need not stand where it is shown.
    fn filled(&self, text: &str) -> String {
        match self.0.get("password") {
            Some(Value::String(password)) => text.replace("%(password)s", password),
            _ => text.to_owned(),
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>, String> {
        match self.value(name) {
            Value::Null => Ok(None),
            Value::String(s) => Ok(Some(self.filled(s)).filter(|s| !s.is_empty())),
            Value::Number(n) => Ok(Some(n.to_string())),
            Value::Bool(b) => Ok(Some(b.to_string())),
            _ => Err(format!("{name} must be text")),
        }
    }

    fn must(&self, name: &str) -> Result<String, String> {
        self.text(name)?.ok_or_else(|| format!("{name} must be set"))
    }

    fn number(&self, name: &str) -> Result<i64, String> {
        self.must(name)?.trim().parse().map_err(|_| format!("{name} must be a number"))
    }

    fn truth(&self, name: &str) -> Result<bool, String> {
        match self.text(name)?.map(|t| t.to_ascii_lowercase()).as_deref() {
            Some("true" | "1" | "yes" | "on") => Ok(true),
            None | Some("false" | "0" | "no" | "off") => Ok(false),
            Some(_) => Err(format!("{name} must be true or false")),
        }
    }

    fn one_of(&self, name: &str, known: &[&'static str]) -> Result<&'static str, String> {
        let text = self.must(name)?;
        let found = known.iter().find(|k| **k == text).copied();
        found.ok_or_else(|| format!("{name} must be one of {}", known.join(", ")))
    }

    fn list(&self, name: &str) -> Result<Vec<String>, String> {
        if let Value::Array(all) = self.value(name) {
            return Ok(all.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        }
        let text = self.text(name)?.unwrap_or_default();
        Ok(text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect())
    }

    fn attribute(&self, name: &str) -> Result<String, String> {
        attribute(self.must(name)?)
    }

    /// From 1 to 100.
    fn size(&self, name: &str) -> Result<usize, String> {
        usize::try_from(self.number(name)?.clamp(1, 100)).map_err(|_| format!("{name} is too large"))
    }

    fn pairs(&self, name: &str) -> Result<Vec<(String, String)>, String> {
        additional(&self.list(name)?).map_err(|e| format!("{name}: {e}"))
    }
}

impl Settings {
    /// What a domain's options describe. The text of an error is for the operator.
    pub(super) fn read(all: &Map<String, Value>) -> Result<Settings, String> {
        let o = Options(all);
        let password = all.get("password").and_then(Value::as_str).filter(|p| !p.is_empty());
        let urls = o.must("url")?;
        let urls = urls.split(',').map(|u| server(u.trim())).collect::<Result<Vec<_>, _>>()?;
        let login = match o.text("user")? {
            Some(user) => {
                let password = password.ok_or("user needs a password: a bind without one proves nothing")?;
                Some((user, Secret(password.to_owned())))
            }
            None => None,
        };
        if o.truth("chase_referrals")? {
            return Err("chase_referrals is not done here".into());
        }
        let suffix = o.must("suffix")?;
        let page_size = o.number("page_size")?.max(0);
        let (users, mail, default_project, enabled) = users(&o, &suffix)?;
        Ok(Settings {
            urls,
            login,
            reach: if o.one_of("query_scope", &["one", "sub"])? == "sub" { Reach::Sub } else { Reach::One },
            page_size: i32::try_from(page_size).map_err(|_| "page_size is too large")?,
            start_tls: o.truth("use_tls")?,
            verify: o.one_of("tls_req_cert", &["demand", "allow", "never"])? == "demand",
            ca_file: o.text("tls_cacertfile")?.map(PathBuf::from),
            ca_dir: o.text("tls_cacertdir")?.map(PathBuf::from),
            timeout: timeout(&o)?,
            aliases: match o
                .one_of("alias_dereferencing", &["default", "never", "searching", "finding", "always"])?
            {
                "searching" => DerefAliases::Searching,
                "finding" => DerefAliases::Finding,
                "always" => DerefAliases::Always,
                _ => DerefAliases::Never,
            },
            pool_size: o.size("pool_size")?,
            lifetime: lifetime(&o)?,
            auth_pool_size: o.size("auth_pool_size")?,
            users,
            mail,
            default_project,
            enabled,
            groups: Tree {
                base: o.text("group_tree_dn")?.unwrap_or_else(|| format!("ou=UserGroups,{suffix}")),
                filter: condition(o.text("group_filter")?),
                class: o.attribute("group_objectclass")?,
                id: o.attribute("group_id_attribute")?,
                name: o.attribute("group_name_attribute")?,
                description: Some(o.attribute("group_desc_attribute")?),
                additional: o.pairs("group_additional_attribute_mapping")?,
            },
            member: o.attribute("group_member_attribute")?,
            members_are_ids: o.truth("group_members_are_ids")?,
            nesting: o.truth("group_ad_nesting")?,
        })
    }

    /// Whether anything is to be encrypted.
    pub(super) fn secure(&self) -> bool {
        self.start_tls || self.urls.iter().any(|u| u.scheme() == "ldaps")
    }
}

/// At most a minute.
fn timeout(o: &Options<'_>) -> Result<Duration, String> {
    let asked = [o.number("connection_timeout")?, o.number("pool_connection_timeout")?];
    let seconds = asked.into_iter().find(|n| *n > 0).unwrap_or(5);
    Ok(Duration::from_secs(seconds.min(60).unsigned_abs()))
}

fn lifetime(o: &Options<'_>) -> Result<Duration, String> {
    let seconds = o.number("pool_connection_lifetime")?.max(0);
    Ok(if o.truth("use_pool")? { Duration::from_secs(seconds.unsigned_abs()) } else { Duration::ZERO })
}

/// Where users are, their mail and default project, and who is enabled.
type Users = (Tree, Option<String>, Option<String>, Enabled);

fn users(o: &Options<'_>, suffix: &str) -> Result<Users, String> {
    let ignored = o.list("user_attribute_ignore")?;
    let counts = |name: &str| !ignored.iter().any(|i| i == name);
    let tree = Tree {
        base: o.text("user_tree_dn")?.unwrap_or_else(|| format!("ou=Users,{suffix}")),
        filter: condition(o.text("user_filter")?),
        class: o.attribute("user_objectclass")?,
        id: o.attribute("user_id_attribute")?,
        name: o.attribute("user_name_attribute")?,
        description: Some(o.attribute("user_description_attribute")?).filter(|_| counts("description")),
        additional: o.pairs("user_additional_attribute_mapping")?,
    };
    let mail = Some(o.attribute("user_mail_attribute")?).filter(|_| counts("email") && counts("mail"));
    let project = o.text("user_default_project_id_attribute")?.map(attribute).transpose()?;
    let project = project.filter(|_| counts("default_project_id"));
    let enabled = if counts("enabled") { enabled(o, &tree)? } else { Enabled::Always };
    Ok((tree, mail, project, enabled))
}

fn enabled(o: &Options<'_>, users: &Tree) -> Result<Enabled, String> {
    let name = o.attribute("user_enabled_attribute")?;
    let (mask, default) = (o.number("user_enabled_mask")?, o.must("user_enabled_default")?);
    let yes = default.eq_ignore_ascii_case("true");
    if o.truth("user_enabled_emulation")? {
        let dn = o.text("user_enabled_emulation_dn")?;
        let as_groups = o.truth("user_enabled_emulation_use_group_config")?;
        let member = if as_groups { o.attribute("group_member_attribute")? } else { "member".into() };
        return Ok(Enabled::Group {
            dn: dn.unwrap_or_else(|| format!("cn=enabled_users,{}", users.base)),
            member,
            by_id: as_groups && o.truth("group_members_are_ids")?,
        });
    }
    if mask != 0 {
        let number = if yes { Ok(0) } else { default.parse() };
        let default = number.map_err(|_| "user_enabled_default must be a number")?;
        return Ok(Enabled::Mask { name, mask, default });
    }
    Ok(Enabled::Attribute { name, invert: o.truth("user_enabled_invert")?, default: yes })
}

fn server(url: &str) -> Result<Url, String> {
    let parsed = Url::parse(url).map_err(|e| format!("url: {e}"))?;
    match parsed.scheme() {
        "ldap" | "ldaps" | "ldapi" if parsed.host_str().is_some_and(|h| !h.is_empty()) => Ok(parsed),
        _ => Err("url must be ldap://HOST, ldaps://HOST or ldapi://SOCKET".into()),
    }
}

/// An attribute's or class's name: it becomes part of filters as it is.
fn attribute(name: String) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b';' | b'_');
    match !name.is_empty() && name.bytes().all(good) {
        true => Ok(name),
        false => Err(format!("{name:?} is no name of an attribute")),
    }
}

fn condition(filter: Option<String>) -> String {
    match filter {
        Some(f) if f.trim_start().starts_with('(') => f.trim().to_owned(),
        Some(f) => format!("({})", f.trim()),
        None => String::new(),
    }
}

fn additional(list: &[String]) -> Result<Vec<(String, String)>, String> {
    /// What a user has anyway.
    const TAKEN: [&str; 12] = [
        "id",
        "name",
        "domain_id",
        "enabled",
        "options",
        "links",
        "email",
        "description",
        "password",
        "federated",
        "default_project_id",
        "password_expires_at",
    ];
    let pair = |one: &String| {
        let (there, here) = one.split_once(':')?;
        (!TAKEN.contains(&here))
            .then(|| Some((attribute(there.into()).ok()?, attribute(here.into()).ok()?)))?
    };
    let wrong = |one: &String| format!("{one:?} is not ATTRIBUTE:NAME");
    list.iter().map(|one| pair(one).ok_or_else(|| wrong(one))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: Value) -> Result<Settings, String> {
        Settings::read(options.as_object().unwrap())
    }

    #[test]
    fn upstreams_defaults() {
        let s = read(json!({"suffix": "dc=x"})).unwrap();
        assert_eq!((s.users.base.as_str(), s.groups.base.as_str()), ("ou=Users,dc=x", "ou=UserGroups,dc=x"));
        assert_eq!((s.users.id.as_str(), s.users.name.as_str(), s.groups.name.as_str()), ("cn", "sn", "ou"));
        assert_eq!(s.urls[0].as_str(), "ldap://localhost");
        assert!(s.verify && !s.start_tls && s.login.is_none());
        assert_eq!(s.enabled, Enabled::Attribute { name: "enabled".into(), invert: false, default: true });
    }

    #[test]
    fn what_is_refused() {
        for bad in [
            json!({"url": "http://x"}),
            json!({"url": "ldap://"}),
            json!({"url": "ldap:///x"}),
            json!({"user": "cn=a"}),
            json!({"user": "cn=a", "password": ""}),
            json!({"query_scope": "all"}),
            json!({"user_id_attribute": "cn)(x=*"}),
            json!({"user_objectclass": "a b"}),
            json!({"chase_referrals": true}),
            json!({"page_size": "many"}),
            json!({"use_tls": "maybe"}),
            json!({"user_additional_attribute_mapping": "x:id"}),
            json!({"user_filter": {"a": 1}}),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
        let s = read(json!({"url": "ldap://a, ldaps://b:1636", "user": "cn=a", "password": "s3cret",
            "user_enabled_mask": "2", "user_enabled_default": "512", "user_filter": "x=1", "use_tls": "True",
            "pool_size": 3, "user_enabled_attribute": "userAccountControl"}))
        .unwrap();
        assert_eq!((s.urls.len(), s.users.filter.as_str(), s.pool_size), (2, "(x=1)", 3));
        assert!(!format!("{s:?}").contains("s3cret"));
    }
}
