//! Property protections: who may create, read, change and remove which additional properties, from a file in
//! upstream's format.
//!
//! ```text
//! [^billing_.*]
//! create = admin
//! read = admin,member
//! update = admin
//! delete = !
//! ```
//! The first section whose expression is found in a property's name rules it; a property that none rules, and an
//! operation that a section does not name, are nobody's. `@` is everybody, `!` nobody; else the words are roles, or with
//! `property_protection_rule_format = "policies"` one rule of the policy. A property that may not be read is, for that
//! caller, not there.

use crate::config::RuleFormat;
use crate::{Config, Image, ImageError, Images};
use api::{Context, Policy};
use fancy_regex::Regex;
use std::collections::BTreeMap;
use std::path::Path;

/// What is done to a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Create,
    Read,
    Update,
    Delete,
}

const OPERATIONS: [&str; 4] = ["create", "read", "update", "delete"];

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Allowed {
    #[default]
    Nobody,
    Everybody,
    /// In lower case.
    Roles(Vec<String>),
    Rule(String),
}

#[derive(Debug)]
struct Section {
    names: Regex,
    /// By [`Operation`].
    allowed: [Allowed; 4],
}

/// The operator's rules.
#[derive(Debug)]
pub(crate) struct Protections(Vec<Section>);

fn wrong(file: &Path, line: usize, why: &str) -> ImageError {
    ImageError::Config(format!("{}, line {line}: {why}", file.display()))
}

impl Protections {
    /// The file that the configuration names; `None` where every property is free.
    pub(crate) fn load(config: &Config) -> Result<Option<Protections>, ImageError> {
        let Some(file) = &config.property_protection_file else { return Ok(None) };
        let text = std::fs::read_to_string(file).map_err(|source| ImageError::Io {
            what: format!("{} cannot be read", file.display()),
            source,
        })?;
        Self::read(&text, config.property_protection_rule_format, file).map(Some)
    }

    fn read(text: &str, format: RuleFormat, file: &Path) -> Result<Protections, ImageError> {
        let mut all: Vec<Section> = Vec::new();
        for (at, line) in text.lines().enumerate().map(|(n, l)| (n + 1, l.trim())) {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                let names = Regex::new(name).map_err(|e| wrong(file, at, &e.to_string()))?;
                all.push(Section { names, allowed: Default::default() });
                continue;
            }
            let (key, words) = line.split_once(['=', ':']).ok_or_else(|| wrong(file, at, "no `=` here"))?;
            let operation = OPERATIONS.iter().position(|o| *o == key.trim());
            let operation = operation.ok_or_else(|| wrong(file, at, "no such operation"))?;
            let section = all.last_mut().ok_or_else(|| wrong(file, at, "it stands in no section"))?;
            section.allowed[operation] = allowed(words, format).map_err(|why| wrong(file, at, why))?;
        }
        Ok(Protections(all))
    }

    fn may(&self, policy: &Policy, ctx: &Context, operation: Operation, name: &str) -> bool {
        // An expression that takes too long on a name rules it out.
        let section = self.0.iter().find(|s| s.names.is_match(name).unwrap_or(true));
        match section.map(|s| &s.allowed[operation as usize]) {
            None | Some(Allowed::Nobody) => false,
            Some(Allowed::Everybody) => true,
            Some(Allowed::Roles(roles)) => ctx.roles.iter().any(|r| roles.contains(&r.name.to_lowercase())),
            Some(Allowed::Rule(rule)) => policy.enforce(ctx, rule, &[]).is_ok(),
        }
    }
}

fn allowed(words: &str, format: RuleFormat) -> Result<Allowed, &'static str> {
    let words: Vec<_> = words.split(',').map(str::trim).filter(|w| !w.is_empty()).collect();
    match (words.as_slice(), format) {
        ([], _) | (["!"], _) => Ok(Allowed::Nobody),
        (["@"], _) => Ok(Allowed::Everybody),
        (all, _) if all.iter().any(|w| matches!(*w, "@" | "!")) => Err("`@` and `!` stand alone"),
        ([rule], RuleFormat::Policies) => Ok(Allowed::Rule((*rule).to_owned())),
        (_, RuleFormat::Policies) => Err("one policy rule is named for an operation"),
        (roles, RuleFormat::Roles) => Ok(Allowed::Roles(roles.iter().map(|r| r.to_lowercase()).collect())),
    }
}

type Properties = BTreeMap<String, String>;

impl Images {
    /// The image with the properties that the caller may read.
    pub(crate) fn readable(&self, ctx: &Context, mut image: Image) -> Image {
        self.hide(ctx, &mut image);
        image
    }

    /// Takes away what the caller may not read; gives it back.
    pub(crate) fn hide(&self, ctx: &Context, image: &mut Image) -> Properties {
        let Some(rules) = &self.protections else { return Properties::new() };
        let all = std::mem::take(&mut image.properties);
        let (shown, hidden) =
            all.into_iter().partition(|(name, _)| rules.may(&self.policy, ctx, Operation::Read, name));
        image.properties = shown;
        hidden
    }

    /// Whether the caller may make these properties of those.
    pub(crate) fn may_turn(
        &self,
        ctx: &Context,
        from: &Properties,
        to: &Properties,
    ) -> Result<(), ImageError> {
        let Some(rules) = &self.protections else { return Ok(()) };
        let changed = to.iter().filter_map(|(name, value)| match from.get(name) {
            None => Some((name, Operation::Create)),
            Some(old) if old != value => Some((name, Operation::Update)),
            Some(_) => None,
        });
        let removed = from.keys().filter(|n| !to.contains_key(*n)).map(|n| (n, Operation::Delete));
        for (name, operation) in changed.chain(removed) {
            if !rules.may(&self.policy, ctx, operation, name) {
                return Err(ImageError::Forbidden(format!("Attribute '{name}' is reserved.")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, format: RuleFormat) -> Result<Protections, ImageError> {
        Protections::read(text, format, Path::new("f"))
    }

    #[test]
    fn files() {
        let text =
            "# all\n[^x_]\ncreate = Admin, member\nread: @\nupdate = !\n\n[(?!y).*]\n; none\nread = reader\n";
        let found = read(text, RuleFormat::Roles).unwrap();
        let roles = |all: &[&str]| Allowed::Roles(all.iter().map(|r| (*r).to_owned()).collect());
        let wanted = [roles(&["admin", "member"]), Allowed::Everybody, Allowed::Nobody, Allowed::Nobody];
        assert_eq!(found.0[0].allowed, wanted);
        assert_eq!(found.0[1].allowed[1], roles(&["reader"]));
        let found = read("[a]\nread = context_is_admin\n", RuleFormat::Policies).unwrap();
        assert_eq!(found.0[0].allowed[1], Allowed::Rule("context_is_admin".into()));
        for (bad, format) in [
            ("[(]\n", RuleFormat::Roles),
            ("read = a\n", RuleFormat::Roles),
            ("[a]\nread\n", RuleFormat::Roles),
            ("[a]\nwrite = a\n", RuleFormat::Roles),
            ("[a]\nread = @, a\n", RuleFormat::Roles),
            ("[a]\nread = a, b\n", RuleFormat::Policies),
        ] {
            let e = read(bad, format).unwrap_err().to_string();
            assert!(e.contains("f, line "), "{e}");
        }
    }
}
