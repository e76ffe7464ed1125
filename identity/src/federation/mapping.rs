//! Upstream's mapping rules: what a provider of identities says about somebody becomes a user, groups and projects.
//!
//! A rule applies if all of its `remote` requirements hold. Those that neither demand nor forbid values (`any_one_of`,
//! `not_any_of`) give theirs to the placeholders `{0}`, `{1}` … of its `local` side. In two things this is stricter than
//! upstream, where both let the person at the provider choose its groups: a value is never split at a semicolon, and a
//! value that looks like a list is none. Only a claim that is a list has several values.
//!
//! Regular expressions are searched for in time linear in the text, and are bounded in number and size.

use crate::IdentityError;
use crate::store::subjects::DomainBy;
use api::schema::Schema;
use regex::{RegexSet, RegexSetBuilder};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// What is known of somebody: values by attribute.
pub(crate) type Attributes = BTreeMap<String, Vec<String>>;

/// Rules in a mapping, at most.
const MOST_RULES: usize = 200;
/// Regular expressions in a mapping, at most, and the longest.
const MOST_REGEXES: usize = 200;
const LONGEST_REGEX: usize = 1024;
/// What the compiled expressions of one requirement may take, bytes.
const REGEX_ROOM: usize = 1 << 20;

/// The two versions of the language: in the second, a rule's `domain` is also that of its user and projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

impl Version {
    pub(crate) fn parse(text: &str) -> Result<Self, IdentityError> {
        match text {
            "1.0" => Ok(Version::V1),
            "2.0" => Ok(Version::V2),
            _ => Err(IdentityError::Invalid(format!(
                "The schema version {} is not supported: it must be 1.0 or 2.0.",
                text.chars().take(64).collect::<String>()
            ))),
        }
    }
}

/// A mapping, ready to be applied.
#[derive(Debug)]
pub(crate) struct Mapping {
    version: Version,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    remote: Vec<Remote>,
    local: Vec<Map<String, Value>>,
}

#[derive(Debug)]
struct Remote {
    attribute: String,
    test: Test,
}

#[derive(Debug)]
enum Test {
    /// The attribute is there; its values go to a placeholder.
    Present,
    AnyOneOf(Values),
    NotAnyOf(Values),
    /// Only the values not among these go to a placeholder.
    Blacklist(Values),
    /// Only those among these do.
    Whitelist(Values),
}

#[derive(Debug)]
enum Values {
    Exact(BTreeSet<String>),
    Regex(RegexSet),
}

impl Values {
    fn hold(&self, value: &str) -> bool {
        match self {
            Values::Exact(all) => all.contains(value),
            Values::Regex(all) => all.is_match(value),
        }
    }
}

/// Whom a mapping makes of somebody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Mapped {
    pub(crate) user: MappedUser,
    pub(crate) group_ids: BTreeSet<String>,
    pub(crate) group_names: Vec<(String, DomainBy)>,
    pub(crate) projects: Vec<MappedProject>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MappedUser {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) domain: Option<DomainBy>,
    /// A user that exists here, rather than one that is only known to the provider.
    pub(crate) local: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MappedProject {
    pub(crate) name: String,
    pub(crate) domain: Option<DomainBy>,
    /// By name.
    pub(crate) roles: Vec<String>,
}

/// Why nobody comes of a mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MappingError {
    #[error(
        "Could not map any federated user properties to identity values. Check debug logs or the mapping used for \
         additional details."
    )]
    NoRuleApplies,
    #[error(
        "Local section in mapping refers to a remote match that doesn't exist (e.g. {{0}} in a local section)."
    )]
    NoSuchMatch,
    #[error("Invalid rule. Both 'groups' and 'domain' keywords must be specified.")]
    GroupsWithoutDomain,
    #[error("Invalid rule. A domain must have an id or a name.")]
    NamelessDomain,
}

fn schema(version: Version) -> Schema {
    let text = json!({"type": "string"});
    let closed = |properties: Value, required: Value| {
        json!({"type": "object", "properties": properties, "required": required,
            "additionalProperties": false})
    };
    let domain = closed(json!({"id": text, "name": text}), json!([]));
    let values = json!({"type": "array", "maxItems": 1000});
    let test = |name: &str| {
        closed(json!({"type": text, name: values, "regex": {"type": "boolean"}}), json!(["type", name]))
    };
    let roles =
        json!({"type": "array", "maxItems": 100, "items": closed(json!({"name": text}), json!(["name"]))});
    let mut project = json!({"name": text, "roles": roles});
    if version == Version::V2 {
        project["domain"] = domain.clone();
    }
    let user = json!({"id": text, "name": text, "email": text, "domain": domain,
        "type": {"type": "string", "enum": ["ephemeral", "local"]}});
    let local = closed(
        json!({
            "user": closed(user, json!([])),
            "projects": {"type": "array", "maxItems": 100, "items": closed(project, json!(["name", "roles"]))},
            "group": {"oneOf": [
                closed(json!({"id": text}), json!(["id"])),
                closed(json!({"name": text, "domain": domain}), json!(["name", "domain"]))]},
            "groups": text,
            "group_ids": text,
            "domain": domain,
        }),
        json!([]),
    );
    let remote = json!({"oneOf": [closed(json!({"type": text}), json!(["type"])), test("any_one_of"),
        test("not_any_of"), test("blacklist"), test("whitelist")]});
    let rule = closed(
        json!({"local": {"type": "array", "items": local},
            "remote": {"type": "array", "minItems": 1, "items": remote}}),
        json!(["local", "remote"]),
    );
    Schema::new(&json!({"type": "object", "required": ["rules"], "properties": {
        "rules": {"type": "array", "minItems": 1, "maxItems": MOST_RULES, "items": rule}}}))
}

static SCHEMA_1: LazyLock<Schema> = LazyLock::new(|| schema(Version::V1));
static SCHEMA_2: LazyLock<Schema> = LazyLock::new(|| schema(Version::V2));

impl Mapping {
    /// The mapping of these rules, or the 400 that upstream's schema gives.
    pub(crate) fn new(rules: &Value, version: Version) -> Result<Mapping, IdentityError> {
        let schema = if version == Version::V1 { &SCHEMA_1 } else { &SCHEMA_2 };
        schema.check(&json!({"rules": rules}))?;
        let mut regexes = 0;
        let rules = rules.as_array().into_iter().flatten();
        let rules = rules.map(|r| rule(r, &mut regexes)).collect::<Result<_, _>>()?;
        Ok(Mapping { version, rules })
    }

    /// Whom this makes of somebody of whom a provider says so much.
    pub(crate) fn apply(&self, about: &Attributes) -> Result<Mapped, MappingError> {
        let mut found: Option<Mapped> = None;
        let mut named = false;
        for rule in &self.rules {
            let Some(matches) = rule.matches(about) else { continue };
            for local in &rule.local {
                let mapped = found.get_or_insert_default();
                let local = Local { fields: local, matches: &matches, version: self.version };
                local.add_to(mapped, &mut named)?;
            }
        }
        found.ok_or(MappingError::NoRuleApplies)
    }
}

fn rule(rule: &Value, regexes: &mut usize) -> Result<Rule, IdentityError> {
    let objects = |name: &str| rule[name].as_array().into_iter().flatten().filter_map(Value::as_object);
    let remote = objects("remote").map(|r| remote(r, regexes)).collect::<Result<_, _>>()?;
    Ok(Rule { remote, local: objects("local").cloned().collect() })
}

fn remote(remote: &Map<String, Value>, regexes: &mut usize) -> Result<Remote, IdentityError> {
    let attribute = remote.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let regex = remote.get("regex").and_then(Value::as_bool).unwrap_or(false);
    let mut test = Test::Present;
    for (name, make) in [
        ("any_one_of", Test::AnyOneOf as fn(Values) -> Test),
        ("not_any_of", Test::NotAnyOf),
        ("blacklist", Test::Blacklist),
        ("whitelist", Test::Whitelist),
    ] {
        if let Some(list) = remote.get(name).and_then(Value::as_array) {
            test = make(values(list, regex, regexes)?);
        }
    }
    Ok(Remote { attribute, test })
}

fn values(list: &[Value], regex: bool, regexes: &mut usize) -> Result<Values, IdentityError> {
    // What is no text equals no value.
    let texts = list.iter().filter_map(Value::as_str);
    if !regex {
        return Ok(Values::Exact(texts.map(str::to_owned).collect()));
    }
    let texts: Vec<&str> = texts.collect();
    *regexes += texts.len();
    let invalid =
        |why: &str| IdentityError::Invalid(format!("Invalid regular expression in a mapping: {why}."));
    if *regexes > MOST_REGEXES {
        return Err(invalid("there are too many"));
    }
    if texts.iter().any(|t| t.len() > LONGEST_REGEX) {
        return Err(invalid("it is too long"));
    }
    let set = RegexSetBuilder::new(&texts).size_limit(REGEX_ROOM).dfa_size_limit(REGEX_ROOM).build();
    set.map(Values::Regex).map_err(|e| invalid(e.to_string().trim()))
}

impl Rule {
    /// The values for the placeholders, if the rule applies.
    fn matches<'a>(&self, about: &'a Attributes) -> Option<Vec<Vec<&'a str>>> {
        let mut out = Vec::new();
        for remote in &self.remote {
            let values = about.get(&remote.attribute).filter(|v| !v.is_empty())?;
            let keep = |wanted: &dyn Fn(&str) -> bool| {
                values.iter().map(String::as_str).filter(|v| wanted(v)).collect::<Vec<_>>()
            };
            match &remote.test {
                Test::Present => out.push(keep(&|_| true)),
                Test::AnyOneOf(all) if values.iter().any(|v| all.hold(v)) => {}
                Test::NotAnyOf(all) if !values.iter().any(|v| all.hold(v)) => {}
                Test::AnyOneOf(_) | Test::NotAnyOf(_) => return None,
                Test::Blacklist(all) => out.push(keep(&|v| !all.hold(v))),
                Test::Whitelist(all) => out.push(keep(&|v| all.hold(v))),
            }
        }
        Some(out)
    }
}

/// One entry of a rule's local side, with what goes into its placeholders.
struct Local<'a> {
    fields: &'a Map<String, Value>,
    matches: &'a [Vec<&'a str>],
    version: Version,
}

impl Local<'_> {
    fn add_to(&self, mapped: &mut Mapped, named: &mut bool) -> Result<(), MappingError> {
        let own = self.fields.get("domain").map(|d| self.domain(d)).transpose()?;
        let default = own.clone().filter(|_| self.version == Version::V2);
        if let Some(user) = self.fields.get("user").filter(|_| !*named) {
            mapped.user = self.user(user, default.clone())?;
            *named = user.as_object().is_some_and(|u| !u.is_empty());
        }
        if let Some(group) = self.fields.get("group") {
            match self.text(&group["id"])? {
                Some(id) => drop(mapped.group_ids.insert(id)),
                None => {
                    let name = self.text(&group["name"])?.unwrap_or_default();
                    add(&mut mapped.group_names, (name, self.domain(&group["domain"])?));
                }
            }
        }
        if let Some(names) = self.fields.get("groups") {
            let domain = own.ok_or(MappingError::GroupsWithoutDomain)?;
            for name in self.list(names)? {
                add(&mut mapped.group_names, (name, domain.clone()));
            }
        }
        if let Some(ids) = self.fields.get("group_ids") {
            mapped.group_ids.extend(self.list(ids)?);
        }
        if let Some(projects) = self.fields.get("projects").and_then(Value::as_array) {
            mapped.projects =
                projects.iter().map(|p| self.project(p, default.clone())).collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    fn user(&self, user: &Value, default: Option<DomainBy>) -> Result<MappedUser, MappingError> {
        let named = |name: &str| Ok::<_, MappingError>(self.text(&user[name])?.filter(|t| !t.is_empty()));
        let domain = user.get("domain").map(|d| self.domain(d)).transpose()?;
        Ok(MappedUser {
            id: named("id")?,
            name: named("name")?,
            email: named("email")?,
            domain: domain.or(default),
            local: user["type"] == "local",
        })
    }

    fn project(&self, project: &Value, default: Option<DomainBy>) -> Result<MappedProject, MappingError> {
        let domain = project.get("domain").map(|d| self.domain(d)).transpose()?;
        let roles = project["roles"].as_array().into_iter().flatten();
        let roles = roles.map(|r| Ok(self.text(&r["name"])?.unwrap_or_default()));
        Ok(MappedProject {
            name: self.text(&project["name"])?.unwrap_or_default(),
            domain: domain.or(default),
            roles: roles.collect::<Result<_, MappingError>>()?,
        })
    }

    fn domain(&self, domain: &Value) -> Result<DomainBy, MappingError> {
        let named = |name: &str| Ok::<_, MappingError>(self.text(&domain[name])?.filter(|t| !t.is_empty()));
        match (named("id")?, named("name")?) {
            (Some(id), _) => Ok(DomainBy::Id(id)),
            (None, Some(name)) => Ok(DomainBy::Name(name)),
            (None, None) => Err(MappingError::NamelessDomain),
        }
    }

    fn text(&self, template: &Value) -> Result<Option<String>, MappingError> {
        template.as_str().map(|t| fill(t, self.matches)).transpose()
    }

    /// The names of several groups: all values of one match, or what the rule itself lists.
    fn list(&self, template: &Value) -> Result<Vec<String>, MappingError> {
        let template = template.as_str().unwrap_or_default();
        if self.matches.is_empty() || !template.contains(['{', '}']) {
            return Ok(literal_list(template).unwrap_or_else(|| vec![template.to_owned()]));
        }
        if let Some(at) = placeholder(template) {
            let values = self.matches.get(at).ok_or(MappingError::NoSuchMatch)?;
            return Ok(values.iter().map(|v| (*v).to_owned()).collect());
        }
        Ok(vec![fill(template, self.matches)?])
    }
}

fn add<T: PartialEq>(list: &mut Vec<T>, one: T) {
    if !list.contains(&one) {
        list.push(one);
    }
}

/// The number in a text that is one placeholder and nothing else.
fn placeholder(template: &str) -> Option<usize> {
    let inner = template.trim().strip_prefix('{')?.strip_suffix('}')?;
    if inner.is_empty() { Some(0) } else { number(inner) }
}

fn number(text: &str) -> Option<usize> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The text with its placeholders replaced, as Python's `str.format` does it. Where a rule has no matches at all, upstream
/// leaves the text as it is.
fn fill(template: &str, matches: &[Vec<&str>]) -> Result<String, MappingError> {
    if matches.is_empty() {
        return Ok(template.to_owned());
    }
    let mut out = String::new();
    let mut next = 0;
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let (brace, after) = rest[at..].split_at(1);
        if let Some(after) = after.strip_prefix(brace) {
            out.push_str(brace);
            rest = after;
            continue;
        }
        let (inner, after) =
            after.split_once('}').filter(|_| brace == "{").ok_or(MappingError::NoSuchMatch)?;
        let at = match inner {
            "" => next,
            inner => number(inner).ok_or(MappingError::NoSuchMatch)?,
        };
        next += usize::from(inner.is_empty());
        out.push_str(&shown(matches.get(at).ok_or(MappingError::NoSuchMatch)?));
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// One value as it is; several as upstream shows a list.
fn shown(values: &[&str]) -> String {
    if let [one] = values {
        return (*one).to_owned();
    }
    let quoted = values.iter().map(|v| {
        let quote = if v.contains('\'') && !v.contains('"') { '"' } else { '\'' };
        format!("{quote}{}{quote}", v.replace('\\', "\\\\").replace(quote, &format!("\\{quote}")))
    });
    format!("[{}]", quoted.collect::<Vec<_>>().join(", "))
}

/// `['a', "b"]` as its texts; `None` for everything else.
fn literal_list(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim().strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut out = Vec::new();
    while !rest.is_empty() {
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (one, after) = rest[1..].split_once(quote)?;
        out.push(one.to_owned());
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.is_empty() => break,
            None => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests;
