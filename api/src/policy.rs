//! Who may do what: rules in oslo.policy's language, one table per service, upstream's defaults.
//!
//! ```text
//! check := "role:NAME" | "rule:NAME" | LEFT ":" RIGHT | "@" | "!" | "True" | "False"
//!        | check "and" check | check "or" check | "not" check | "(" check ")"
//! LEFT  := an attribute of the token (user_id, project_id, domain_id, system_scope, …)
//!        | 'literal' | True | False | None | a number
//! RIGHT := text in which %(NAME)s is the resource's attribute of that name
//! ```
//! The operator's `policy.yaml` may replace any rule and add others for its own rules to refer to. A file that names
//! what does not exist is refused as a whole: a rule that can never hold, or a slip in a name, shows when it is read
//! and not when somebody is denied.

mod check;
mod explain;
mod file;
mod parse;
#[cfg(test)]
mod tests;

use crate::{Caller, Context, Error, Scope};
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

pub(crate) use check::Check;
pub use explain::{Explanation, Step};

/// One default rule.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// `volume:get`; names without a colon are only referred to by other rules.
    pub name: &'static str,
    pub check: &'static str,
}

/// Which tokens a rule is for at all, by their scope; upstream's `scope_types`. An unscoped token counts as a
/// project's. The operator's file does not change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scopes {
    Any,
    SystemOrProject,
    Project,
}

impl Scopes {
    fn admits(self, scope: &Scope) -> bool {
        match self {
            Scopes::Any => true,
            Scopes::SystemOrProject => !matches!(scope, Scope::Domain(_)),
            Scopes::Project => matches!(scope, Scope::Project(_) | Scope::Unscoped),
        }
    }

    /// `system or project`
    pub fn as_str(self) -> &'static str {
        match self {
            Scopes::Any => "any",
            Scopes::SystemOrProject => "system or project",
            Scopes::Project => "project",
        }
    }
}

/// One default rule of a service whose rules tell scopes apart.
#[derive(Debug, Clone, Copy)]
pub struct ScopedRule {
    pub name: &'static str,
    pub scopes: Scopes,
    pub check: &'static str,
}

/// What the rule is checked against: the resource's attributes, by name.
pub type Target<'a> = &'a [(&'a str, &'a str)];

/// A rule as it is in force.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) scopes: Scopes,
    pub(crate) text: String,
    pub(crate) check: Check,
    /// Not the default.
    replaced: bool,
}

pub(crate) type Entries = BTreeMap<String, Entry>;

/// A rule for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleInfo {
    pub name: String,
    pub check: String,
    pub scopes: Scopes,
    /// What it would be without the operator's file; `None` for a rule that only the file has.
    pub default: Option<&'static str>,
    pub replaced: bool,
}

/// The rules of one service in force.
pub struct Policy {
    defaults: Vec<ScopedRule>,
    rules: ArcSwap<Entries>,
    denial: fn(&str) -> String,
    followed: file::Followed,
}

/// Why a policy file is refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("{0}")]
    Read(String, #[source] std::io::Error),
    #[error("{0} is not a mapping of rule names to checks: {1}")]
    Yaml(String, String),
    #[error("rule {0:?}: {1}")]
    Rule(String, String),
    #[error("there is no rule named {0:?}, and no rule refers to one of that name")]
    Unknown(String),
}

impl Policy {
    /// `denial` words the 403 from the rule's name, as the service's upstream does.
    pub fn new(defaults: &[Rule], denial: fn(&str) -> String) -> Result<Self, PolicyError> {
        let scoped = |r: &Rule| ScopedRule { name: r.name, scopes: Scopes::Any, check: r.check };
        Policy::of(defaults.iter().map(scoped).collect(), denial)
    }

    /// The same for a table whose rules say which scopes they are for.
    pub fn scoped(defaults: &[ScopedRule], denial: fn(&str) -> String) -> Result<Self, PolicyError> {
        Policy::of(defaults.to_vec(), denial)
    }

    fn of(defaults: Vec<ScopedRule>, denial: fn(&str) -> String) -> Result<Self, PolicyError> {
        let rules = ArcSwap::from_pointee(compile(&defaults, &HashMap::new())?);
        Ok(Policy { defaults, rules, denial, followed: file::Followed::default() })
    }

    /// Lets the operator's file replace rules, at once for every later request; on error nothing changes. The first
    /// file loaded is followed: it is loaded again whenever it changes, and where it has become bad the rules stay as
    /// they are, and the log says why.
    pub fn load(&self, file: &Path) -> Result<(), PolicyError> {
        let seen = file::stamp(file);
        self.replace(file)?;
        self.followed.begin(file, seen);
        Ok(())
    }

    fn replace(&self, file: &Path) -> Result<(), PolicyError> {
        let replaced = file::read(file)?;
        self.rules.store(std::sync::Arc::new(compile(&self.defaults, &replaced)?));
        Ok(())
    }

    pub(crate) fn rules(&self) -> arc_swap::Guard<std::sync::Arc<Entries>> {
        if let Some(file) = self.followed.changed() {
            match self.replace(file) {
                Ok(()) => tracing::info!(file = %file.display(), "the changed policy file is in force"),
                Err(e) => {
                    let source = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
                    tracing::error!(file = %file.display(), error = %e, source,
                        "the changed policy file is refused; the rules stay as they were");
                }
            }
        }
        self.rules.load()
    }

    /// Whether the caller may; `true` for a rule that does not exist is never the answer.
    pub fn allows(&self, caller: &Caller, rule: &str, target: Target<'_>) -> bool {
        let rules = self.rules();
        rules
            .get(rule)
            .is_some_and(|r| r.scopes.admits(&caller.scope) && r.check.holds(caller, target, &rules))
    }

    /// `Ok` where the caller may, else the service's 403.
    pub fn enforce(&self, ctx: &Context, rule: &str, target: Target<'_>) -> Result<(), Error> {
        if self.allows(&ctx.caller, rule, target) {
            return Ok(());
        }
        tracing::debug!(request_id = %ctx.request_id, rule, user = %ctx.user.id, "denied by policy");
        Err(Error::forbidden((self.denial)(rule)))
    }

    /// The names of the default rules, for tables and tests.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.defaults.iter().map(|r| r.name)
    }

    /// Every rule in force, the defaults in their table's order, then what the operator's file adds.
    pub fn list(&self) -> Vec<RuleInfo> {
        let rules = self.rules();
        let info = |name: &str, default: Option<&'static str>| {
            rules.get(name).map(|r| RuleInfo {
                name: name.to_owned(),
                check: r.text.clone(),
                scopes: r.scopes,
                default,
                replaced: r.replaced,
            })
        };
        let known = |name: &str| self.defaults.iter().any(|d| d.name == name);
        let own = self.defaults.iter().filter_map(|d| info(d.name, Some(d.check)));
        own.chain(rules.keys().filter(|n| !known(n)).filter_map(|n| info(n, None))).collect()
    }

    /// Why the caller may or may not; `None` where there is no such rule.
    pub fn explain(&self, caller: &Caller, rule: &str, target: Target<'_>) -> Option<Explanation> {
        explain::explain(&self.rules(), caller, rule, target)
    }
}

fn compile(defaults: &[ScopedRule], replaced: &HashMap<String, String>) -> Result<Entries, PolicyError> {
    let mut rules = Entries::new();
    for d in defaults {
        let text = replaced.get(d.name).map_or(d.check, String::as_str);
        rules.insert(d.name.to_owned(), entry(d.name, text, d.scopes, text != d.check)?);
    }
    for (name, text) in replaced {
        if !rules.contains_key(name) {
            rules.insert(name.clone(), entry(name, text, Scopes::Any, true)?);
        }
    }
    let referred: std::collections::HashSet<&str> =
        rules.values().flat_map(|r| r.check.references()).collect();
    let own = |name: &str| defaults.iter().any(|d| d.name == name);
    if let Some(name) = rules.keys().find(|n| !own(n) && !referred.contains(n.as_str())) {
        return Err(PolicyError::Unknown(name.clone()));
    }
    for (name, rule) in &rules {
        if let Some(missing) = rule.check.references().find(|r| !rules.contains_key(*r)) {
            return Err(PolicyError::Rule(name.clone(), format!("there is no rule:{missing}")));
        }
    }
    match circle(&rules) {
        Some(name) => Err(PolicyError::Rule(name, "it refers to itself in a circle".into())),
        None => Ok(rules),
    }
}

/// Reads the text of a policy file, and shows each rule of it: for properties.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn try_text(text: &str) {
    let Ok(rules) = file::read_text(text, "a file".into()) else { return };
    let _ = compile(&[], &rules);
    for check in rules.values().filter_map(|text| Check::parse(text).ok()) {
        let _ = check.to_string();
    }
}

fn entry(name: &str, text: &str, scopes: Scopes, replaced: bool) -> Result<Entry, PolicyError> {
    let check = Check::parse(text).map_err(|e| PolicyError::Rule(name.to_owned(), e))?;
    Ok(Entry { scopes, text: text.to_owned(), check, replaced })
}

/// A rule that refers to itself, through whatever others.
fn circle(rules: &Entries) -> Option<String> {
    // Rules that lead into no circle are taken away until only circles, and what leads into them, are left.
    let mut left: BTreeMap<&str, Vec<&str>> =
        rules.iter().map(|(n, r)| (n.as_str(), r.check.references().collect())).collect();
    loop {
        let sound: Vec<&str> =
            left.iter().filter(|(_, to)| !to.iter().any(|t| left.contains_key(t))).map(|(n, _)| *n).collect();
        if sound.is_empty() {
            return left.keys().next().map(|n| (*n).to_owned());
        }
        for name in sound {
            left.remove(name);
        }
    }
}
