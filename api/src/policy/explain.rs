//! Why a rule holds or does not, as a tree to read.

use super::check::{Check, Text};
use super::{Entries, Target};
use crate::{Caller, Scope};
use std::fmt;

/// An answer and all that led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub allowed: bool,
    pub rule: String,
    /// The rule's text in force.
    pub check: String,
    /// What the scope of the token has to say before the rule is asked.
    pub scope: Option<String>,
    pub step: Step,
}

/// One check, and those it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub check: String,
    pub holds: bool,
    /// What was compared; empty where the parts say it.
    pub why: String,
    pub parts: Vec<Step>,
}

pub(super) fn explain(rules: &Entries, who: &Caller, rule: &str, target: Target<'_>) -> Option<Explanation> {
    let entry = rules.get(rule)?;
    let step = step(&entry.check, who, target, rules);
    let admitted = entry.scopes.admits(&who.scope);
    let scope = (!admitted).then(|| {
        format!("the rule is for tokens of scope {}, this one has {}", entry.scopes.as_str(), scope(who))
    });
    Some(Explanation {
        allowed: admitted && step.holds,
        rule: rule.to_owned(),
        check: entry.text.clone(),
        scope,
        step,
    })
}

fn scope(who: &Caller) -> &'static str {
    match who.scope {
        Scope::Unscoped => "none",
        Scope::Project(_) => "project",
        Scope::Domain(_) => "domain",
        Scope::System => "system",
    }
}

fn step(check: &Check, who: &Caller, target: Target<'_>, rules: &Entries) -> Step {
    let sub = |c: &Check| step(c, who, target, rules);
    let (why, parts): (String, Vec<Step>) = match check {
        Check::Always => ("everybody".into(), vec![]),
        Check::Never => ("nobody".into(), vec![]),
        Check::Not(c) => (String::new(), vec![sub(c)]),
        Check::All(cs) => ("all of".into(), cs.iter().map(sub).collect()),
        Check::Any(cs) => ("any of".into(), cs.iter().map(sub).collect()),
        Check::Rule(name) => (String::new(), rules.get(name).map(|r| sub(&r.check)).into_iter().collect()),
        Check::Role(name) => match name.fill(target) {
            Some(_) if who.roles.is_empty() => ("the token has no roles".into(), vec![]),
            Some(_) => {
                let has: Vec<&str> = who.roles.iter().map(|r| r.name.as_str()).collect();
                (format!("the token's roles are {}", has.join(", ")), vec![])
            }
            None => (absent(name, target), vec![]),
        },
        Check::Match { left, right } => match (left.shown(who), right.fill(target)) {
            (_, None) => (absent(right, target), vec![]),
            (None, _) => ("the token has none".into(), vec![]),
            (Some(has), Some(wanted)) => (format!("{has:?} against {wanted:?}"), vec![]),
        },
    };
    let shown = match check {
        Check::All(_) | Check::Any(_) => String::new(),
        Check::Not(_) => "not".into(),
        other => other.to_string(),
    };
    Step { check: shown, holds: check.holds(who, target, rules), why, parts }
}

fn absent(text: &Text, target: Target<'_>) -> String {
    let missing: Vec<&str> = text.fields().filter(|f| !target.iter().any(|(k, _)| k == f)).collect();
    format!("the target has no {}", missing.join(", "))
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.rule, if self.allowed { "allowed" } else { "denied" })?;
        writeln!(f, "  {}", if self.check.is_empty() { "@" } else { &self.check })?;
        if let Some(scope) = &self.scope {
            writeln!(f, "no   {scope}")?;
        }
        line(f, &self.step, 0)
    }
}

fn line(f: &mut fmt::Formatter<'_>, step: &Step, depth: usize) -> fmt::Result {
    let mark = if step.holds { "yes" } else { "no" };
    let what = match (step.check.as_str(), step.why.as_str()) {
        ("", why) => why.to_owned(),
        (check, "") => check.to_owned(),
        (check, why) => format!("{check}  ({why})"),
    };
    writeln!(f, "{mark:<5}{:1$}{what}", "", depth * 2)?;
    step.parts.iter().try_for_each(|p| line(f, p, depth + 1))
}
