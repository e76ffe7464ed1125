//! Who may do what: rules in oslo.policy's language, one table per service, upstream's defaults.
//!
//! ```text
//! check := "role:NAME" | "rule:NAME" | "KIND:%(TARGET)s" | "'literal':%(TARGET)s" | "system_scope:all"
//!        | "is_admin:True" | "@" | "!" | "True" | "False" | check "and" check | check "or" check
//!        | "not" check | "(" check ")"
//! ```
//! The operator's `policy.yaml` may replace any rule; a rule it names that does not exist is refused.

mod parse;

use crate::{Caller, Context, Error, Scope};
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::path::Path;

pub(crate) use parse::Check;

/// One default rule.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// `volume:get`; names without a colon are only referred to by other rules.
    pub name: &'static str,
    pub check: &'static str,
}

/// What the rule is checked against: the resource's attributes, by name.
pub type Target<'a> = &'a [(&'a str, &'a str)];

/// The rules of one service in force.
pub struct Policy {
    defaults: &'static [Rule],
    rules: ArcSwap<HashMap<String, Check>>,
    denial: fn(&str) -> String,
}

/// Why a policy file is refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("{0}: {1}")]
    Read(String, #[source] std::io::Error),
    #[error("{0} is not a mapping of rule names to checks: {1}")]
    Yaml(String, String),
    #[error("rule {0:?}: {1}")]
    Rule(String, String),
    #[error("there is no rule named {0:?}")]
    Unknown(String),
}

impl Policy {
    /// `denial` words the 403 from the rule's name, as the service's upstream does.
    pub fn new(defaults: &'static [Rule], denial: fn(&str) -> String) -> Result<Self, PolicyError> {
        let rules = ArcSwap::from_pointee(compile(defaults, &HashMap::new())?);
        Ok(Policy { defaults, rules, denial })
    }

    /// Lets the operator's file replace rules, at once for every later request; on error nothing changes.
    pub fn load(&self, file: &Path) -> Result<(), PolicyError> {
        let shown = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|e| PolicyError::Read(shown.clone(), e))?;
        let replaced: HashMap<String, String> =
            serde_saphyr::from_str(&text).map_err(|e| PolicyError::Yaml(shown, e.to_string()))?;
        self.rules.store(std::sync::Arc::new(compile(self.defaults, &replaced)?));
        Ok(())
    }

    /// Whether the caller may; `true` for a rule that does not exist is never the answer.
    pub fn allows(&self, caller: &Caller, rule: &str, target: Target<'_>) -> bool {
        let rules = self.rules.load();
        rules.get(rule).is_some_and(|c| holds(c, caller, target, &rules, 0))
    }

    /// `Ok` where the caller may, else the service's 403.
    pub fn enforce(&self, ctx: &Context, rule: &str, target: Target<'_>) -> Result<(), Error> {
        if self.allows(&ctx.caller, rule, target) {
            return Ok(());
        }
        tracing::debug!(request_id = %ctx.request_id, rule, user = %ctx.user.id, "denied by policy");
        Err(Error::forbidden((self.denial)(rule)))
    }

    /// The names of all rules, for tables and tests.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.defaults.iter().map(|r| r.name)
    }
}

fn compile(
    defaults: &[Rule],
    replaced: &HashMap<String, String>,
) -> Result<HashMap<String, Check>, PolicyError> {
    if let Some(name) = replaced.keys().find(|n| !defaults.iter().any(|r| r.name == n.as_str())) {
        return Err(PolicyError::Unknown(name.clone()));
    }
    let mut rules = HashMap::with_capacity(defaults.len());
    for rule in defaults {
        let text = replaced.get(rule.name).map_or(rule.check, String::as_str);
        let check = Check::parse(text).map_err(|e| PolicyError::Rule(rule.name.to_owned(), e))?;
        rules.insert(rule.name.to_owned(), check);
    }
    Ok(rules)
}

/// Rules refer to rules this deep at most; a circle is a denial.
const DEPTH: usize = 24;

fn holds(
    check: &Check,
    who: &Caller,
    target: Target<'_>,
    rules: &HashMap<String, Check>,
    depth: usize,
) -> bool {
    let sub = |c: &Check| holds(c, who, target, rules, depth);
    match check {
        Check::Always => true,
        Check::Never => false,
        Check::Not(c) => !sub(c),
        Check::All(cs) => cs.iter().all(sub),
        Check::Any(cs) => cs.iter().any(sub),
        Check::Rule(name) => {
            depth < DEPTH && rules.get(name).is_some_and(|c| holds(c, who, target, rules, depth + 1))
        }
        Check::Role(name) => who.has_role(name),
        Check::Match { kind, value } => {
            let wanted = match value.strip_prefix("%(").and_then(|v| v.strip_suffix(")s")) {
                Some(name) => target.iter().find(|(k, _)| *k == name).map(|(_, v)| *v),
                None => Some(value.as_str()),
            };
            wanted.is_some_and(|wanted| attribute(who, kind).is_some_and(|has| has == wanted))
        }
    }
}

/// What a check's left side means: a literal in quotes, or an attribute of the caller.
fn attribute<'a>(who: &'a Caller, kind: &'a str) -> Option<&'a str> {
    if let Some(literal) = kind.strip_prefix('\'').and_then(|k| k.strip_suffix('\'')) {
        return Some(literal);
    }
    match kind {
        "user_id" => Some(&who.user.id),
        "user_domain_id" => Some(&who.user.domain.id),
        "project_id" | "tenant_id" => who.project().map(|p| p.id.as_str()),
        "project_domain_id" => who.project().map(|p| p.domain.id.as_str()),
        "domain_id" => who.domain_id(),
        "system_scope" | "system" => (who.scope == Scope::System).then_some("all"),
        "is_admin" => Some(if who.is_admin() { "True" } else { "False" }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
