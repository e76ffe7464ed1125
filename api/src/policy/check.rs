//! A parsed check, and whether it holds.

use super::{Entries, Target};
use crate::{Caller, Scope};
use std::borrow::Cow;
use std::fmt;

/// One check of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Check {
    Always,
    Never,
    Not(Box<Check>),
    All(Vec<Check>),
    Any(Vec<Check>),
    Role(Text),
    Rule(String),
    Match { left: Left, right: Text },
}

/// What a comparison has on its left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Left {
    /// The value itself, as a target's attribute would be written.
    Literal(String),
    /// An attribute of the token, one of [`ATTRIBUTES`].
    Attribute(String),
}

/// Text with the target's attributes in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Plain(String),
    Field(String),
}

/// The attributes of a token that rules may name.
pub(crate) const ATTRIBUTES: [&str; 21] = [
    "user_id",
    "user_name",
    "user_domain_id",
    "user_domain_name",
    "project_id",
    "tenant_id",
    "project_name",
    "project_domain_id",
    "project_domain_name",
    "domain_id",
    "domain_name",
    "system_scope",
    "system",
    "roles",
    "is_admin",
    "is_admin_project",
    "token.user.id",
    "token.user.domain.id",
    "token.project.id",
    "token.project.domain.id",
    "token.domain.id",
];

impl Text {
    /// The text with the attributes in place; `None` where the target has one of them not.
    pub(crate) fn fill<'a>(&'a self, target: Target<'a>) -> Option<Cow<'a, str>> {
        let field = |name: &str| target.iter().find(|(k, _)| *k == name).map(|(_, v)| *v);
        let part = |p: &'a Part| match p {
            Part::Plain(text) => Some(text.as_str()),
            Part::Field(name) => field(name),
        };
        match self.0.as_slice() {
            [one] => part(one).map(Cow::Borrowed),
            many => many.iter().map(part).collect::<Option<String>>().map(Cow::Owned),
        }
    }

    /// The attributes of the target that it needs.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|p| if let Part::Field(name) = p { Some(name.as_str()) } else { None })
    }
}

impl Left {
    pub(crate) fn is(&self, who: &Caller, wanted: &str) -> bool {
        match self {
            Left::Literal(text) => text == wanted,
            Left::Attribute(name) if name == "roles" => who.roles.iter().any(|r| r.name == wanted),
            Left::Attribute(name) if name == "is_admin" => match wanted {
                "True" | "1" => who.is_admin(),
                "False" | "0" => !who.is_admin(),
                _ => false,
            },
            Left::Attribute(name) => attribute(who, name).is_some_and(|has| has == wanted),
        }
    }

    /// The value that is compared, for people to read.
    pub(crate) fn shown(&self, who: &Caller) -> Option<String> {
        match self {
            Left::Literal(text) => Some(text.clone()),
            Left::Attribute(name) if name == "roles" => {
                Some(who.roles.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", "))
            }
            Left::Attribute(name) if name == "is_admin" => {
                Some(if who.is_admin() { "True" } else { "False" }.to_owned())
            }
            Left::Attribute(name) => attribute(who, name).map(str::to_owned),
        }
    }
}

fn attribute<'a>(who: &'a Caller, name: &str) -> Option<&'a str> {
    let domain = || if let Scope::Domain(d) = &who.scope { Some(d) } else { None };
    match name {
        "user_id" | "token.user.id" => Some(&who.user.id),
        "user_name" => Some(&who.user.name),
        "user_domain_id" | "token.user.domain.id" => Some(&who.user.domain.id),
        "user_domain_name" => Some(&who.user.domain.name),
        "project_id" | "tenant_id" | "token.project.id" => who.project().map(|p| p.id.as_str()),
        "project_name" => who.project().map(|p| p.name.as_str()),
        "project_domain_id" | "token.project.domain.id" => who.project().map(|p| p.domain.id.as_str()),
        "project_domain_name" => who.project().map(|p| p.domain.name.as_str()),
        "domain_id" | "token.domain.id" => domain().map(|d| d.id.as_str()),
        "domain_name" => domain().map(|d| d.name.as_str()),
        "system_scope" | "system" => (who.scope == Scope::System).then_some("all"),
        // No project of this cloud is more than another.
        "is_admin_project" => Some("True"),
        _ => None,
    }
}

impl Check {
    /// Rules that refer to others are known to end: circles are refused when they are read.
    pub(crate) fn holds(&self, who: &Caller, target: Target<'_>, rules: &Entries) -> bool {
        let sub = |c: &Check| c.holds(who, target, rules);
        match self {
            Check::Always => true,
            Check::Never => false,
            Check::Not(c) => !sub(c),
            Check::All(cs) => cs.iter().all(sub),
            Check::Any(cs) => cs.iter().any(sub),
            Check::Rule(name) => rules.get(name).is_some_and(|r| sub(&r.check)),
            Check::Role(name) => name.fill(target).is_some_and(|name| who.has_role(&name)),
            Check::Match { left, right } => right.fill(target).is_some_and(|wanted| left.is(who, &wanted)),
        }
    }

    /// The names of the rules that it refers to.
    pub(crate) fn references(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Check::Rule(name) => Box::new(std::iter::once(name.as_str())),
            Check::Not(c) => c.references(),
            Check::All(cs) | Check::Any(cs) => Box::new(cs.iter().flat_map(Check::references)),
            _ => Box::new(std::iter::empty()),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                Part::Plain(text) => f.write_str(&text.replace('%', "%%"))?,
                Part::Field(name) => write!(f, "%({name})s")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, cs: &[Check], word: &str| {
            for (i, c) in cs.iter().enumerate() {
                if i > 0 {
                    write!(f, " {word} ")?;
                }
                match c {
                    Check::All(_) | Check::Any(_) => write!(f, "({c})")?,
                    _ => write!(f, "{c}")?,
                }
            }
            Ok(())
        };
        match self {
            Check::Always => f.write_str("@"),
            Check::Never => f.write_str("!"),
            Check::Not(c) if matches!(**c, Check::All(_) | Check::Any(_)) => write!(f, "not ({c})"),
            Check::Not(c) => write!(f, "not {c}"),
            Check::All(cs) => joined(f, cs, "and"),
            Check::Any(cs) => joined(f, cs, "or"),
            Check::Role(name) => write!(f, "role:{name}"),
            Check::Rule(name) => write!(f, "rule:{name}"),
            Check::Match { left: Left::Literal(text), right } => write!(f, "'{text}':{right}"),
            Check::Match { left: Left::Attribute(name), right } => write!(f, "{name}:{right}"),
        }
    }
}
