//! Reading a policy: strictly. A member that is given twice, one of an unknown name, a value of another kind are all
//! refused.

use super::condition::{Condition, Wrong};
use super::pattern::Pattern;
use super::{BucketPolicy, Principal, Statement};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Most bytes of a policy, and statements in it.
pub(crate) const LARGEST: usize = 20 << 10;
const MOST_STATEMENTS: usize = 256;

/// What is wrong with a policy, in S3's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) String);

fn bad<T>(text: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed(text.into()))
}

/// JSON whose objects have each member once. Numbers and truth values are kept as their text, as conditions take them.
#[derive(Debug, Clone, PartialEq)]
enum Json {
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
    Null,
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_bool<E>(self, v: bool) -> Result<Json, E> {
                Ok(Json::Text(v.to_string()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Json, E> {
                Ok(Json::Text(v.to_string()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Json, E> {
                Ok(Json::Text(v.to_string()))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Json, E> {
                Ok(Json::Text(v.to_string()))
            }
            fn visit_str<E>(self, v: &str) -> Result<Json, E> {
                Ok(Json::Text(v.to_owned()))
            }
            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = seq.next_element()? {
                    list.push(item);
                }
                Ok(Json::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut object: Vec<(String, Json)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Json>()? {
                    if object.iter().any(|(n, _)| *n == name) {
                        return Err(A::Error::custom("a member is given twice"));
                    }
                    object.push((name, value));
                }
                Ok(Json::Object(object))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl Json {
    fn object(&self, what: &str) -> Result<&[(String, Json)], Malformed> {
        match self {
            Json::Object(members) => Ok(members),
            _ => bad(format!("{what} must be an object")),
        }
    }

    fn text(&self, what: &str) -> Result<&str, Malformed> {
        match self {
            Json::Text(text) => Ok(text),
            _ => bad(format!("{what} must be a string")),
        }
    }

    /// One text, or a list of them.
    fn texts(&self, what: &str) -> Result<Vec<String>, Malformed> {
        match self {
            Json::Text(text) => Ok(vec![text.clone()]),
            Json::List(list) if !list.is_empty() => {
                list.iter().map(|t| t.text(what).map(str::to_owned)).collect()
            }
            _ => bad(format!("{what} must be a string or a list of strings")),
        }
    }
}

/// What a policy is read for.
struct Reader<'a> {
    bucket: &'a str,
    owner: &'a str,
    /// Policies of 2012 have variables.
    variables: bool,
}

pub(super) fn policy(text: &str, bucket: &str, owner: &str) -> Result<BucketPolicy, Malformed> {
    if text.len() > LARGEST {
        return bad("Policy is too large");
    }
    if !text.trim_start().starts_with('{') {
        return bad("Policies must be valid JSON and the first byte must be '{'");
    }
    let json: Json =
        serde_json::from_str(text).map_err(|_| Malformed("This policy contains invalid Json".into()))?;
    let mut reader = Reader { bucket, owner, variables: false };
    let mut statements = None;
    for (name, value) in json.object("The policy")? {
        match name.as_str() {
            "Version" => match value.text("Version")? {
                "2012-10-17" => reader.variables = true,
                "2008-10-17" => {}
                _ => return bad("The policy must contain a valid version string"),
            },
            "Id" => drop(value.text("Id")?),
            "Statement" => statements = Some(value),
            other => return bad(format!("Unknown field {other}")),
        }
    }
    let statements = match statements {
        None => return bad("Missing required field Statement"),
        Some(Json::List(list)) => list.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    if statements.is_empty() || statements.len() > MOST_STATEMENTS {
        return bad("Could not parse the policy: Statement is empty!");
    }
    let statements = statements.iter().map(|s| reader.statement(s)).collect::<Result<_, _>>()?;
    Ok(BucketPolicy { statements })
}

impl Reader<'_> {
    fn statement(&self, json: &Json) -> Result<Statement, Malformed> {
        let (mut effect, mut principals, mut actions, mut resources) = (None, None, None, None);
        let mut conditions = Vec::new();
        let once = |there: bool, what: &str| match there {
            true => bad(format!("{what} and Not{what} exclude each other")),
            false => Ok(()),
        };
        for (name, value) in json.object("A statement")? {
            match name.as_str() {
                "Sid" => drop(value.text("Sid")?),
                "Effect" => {
                    effect = Some(match value.text("Effect")? {
                        "Allow" => true,
                        "Deny" => false,
                        other => return bad(format!("Invalid effect: {other}")),
                    });
                }
                "Principal" | "NotPrincipal" => {
                    once(principals.is_some(), "Principal")?;
                    principals = Some((self.principals(value)?, name == "NotPrincipal"));
                }
                "Action" | "NotAction" => {
                    once(actions.is_some(), "Action")?;
                    actions = Some((self.actions(value)?, name == "NotAction"));
                }
                "Resource" | "NotResource" => {
                    once(resources.is_some(), "Resource")?;
                    resources = Some((self.resources(value)?, name == "NotResource"));
                }
                "Condition" => conditions = self.conditions(value)?,
                other => return bad(format!("Unknown field {other}")),
            }
        }
        let missing = |what: &str| Malformed(format!("Missing required field {what}"));
        let allow = effect.ok_or_else(|| missing("Effect"))?;
        let (principals, not_principals) = principals.ok_or_else(|| missing("Principal"))?;
        let (actions, not_actions) = actions.ok_or_else(|| missing("Action"))?;
        let (resources, not_resources) = resources.ok_or_else(|| missing("Resource"))?;
        if allow && not_principals {
            return bad("Allow with NotPrincipal is not allowed.");
        }
        Ok(Statement {
            allow,
            principals,
            not_principals,
            actions,
            not_actions,
            resources,
            not_resources,
            conditions,
        })
    }

    fn principals(&self, json: &Json) -> Result<Vec<Principal>, Malformed> {
        let invalid = || Malformed("Invalid principal in policy".into());
        if let Json::Text(text) = json {
            return if text == "*" { Ok(vec![Principal::Everybody]) } else { Err(invalid()) };
        }
        let mut all = Vec::new();
        for (kind, value) in json.object("Principal").map_err(|_| invalid())? {
            for text in value.texts("Principal").map_err(|_| invalid())? {
                all.push(match kind.as_str() {
                    "AWS" => aws(&text).ok_or_else(invalid)?,
                    "CanonicalUser" if is_id(&text) => Principal::Project(text),
                    "Service" | "Federated" if !text.is_empty() => Principal::Nobody,
                    _ => return Err(invalid()),
                });
            }
        }
        if all.is_empty() { Err(invalid()) } else { Ok(all) }
    }

    fn actions(&self, json: &Json) -> Result<Vec<Pattern>, Malformed> {
        let read = |text: String| {
            let lower = text.to_ascii_lowercase();
            let name = lower.strip_prefix("s3:").unwrap_or(if lower == "*" { "*" } else { "" });
            let ok = |c: char| c.is_ascii_alphanumeric() || c == '*' || c == '?';
            if name.is_empty() || !name.chars().all(ok) {
                return bad("Policy has invalid action");
            }
            Pattern::read(&lower, false).ok_or_else(|| Malformed("Policy has invalid action".into()))
        };
        json.texts("Action")?.into_iter().map(read).collect()
    }

    fn resources(&self, json: &Json) -> Result<Vec<Pattern>, Malformed> {
        json.texts("Resource")?.iter().map(|text| self.resource(text)).collect()
    }

    /// `arn:aws:s3:::bucket[/key]`, of this bucket.
    fn resource(&self, text: &str) -> Result<Pattern, Malformed> {
        let invalid = || Malformed("Policy has invalid resource".into());
        let rest = match text.splitn(6, ':').collect::<Vec<_>>().as_slice() {
            ["*"] => "*",
            ["arn", "aws" | "aws-cn" | "aws-us-gov", "s3", _, account, rest]
                if matches!(*account, "" | "*") || *account == self.owner =>
            {
                *rest
            }
            _ => return Err(invalid()),
        };
        let nothing = |_: &str| Vec::new();
        let names = |part: &str| Pattern::read(part, false).is_some_and(|p| p.fits(self.bucket, &nothing));
        if !names(rest.split('/').next().unwrap_or_default()) && !names(rest) {
            return Err(invalid());
        }
        Pattern::read(rest, self.variables).ok_or_else(invalid)
    }

    fn conditions(&self, json: &Json) -> Result<Vec<Condition>, Malformed> {
        let mut all = Vec::new();
        for (operator, keys) in json.object("Condition")? {
            for (key, values) in keys.object("A condition")? {
                let values = values.texts("A condition's value")?;
                let read = Condition::read(operator, key, &values, self.variables);
                all.push(read.map_err(|wrong| match wrong {
                    Wrong::Operator => Malformed(format!("Invalid Condition type : {operator}")),
                    Wrong::Key => Malformed("Policy has an invalid condition key".into()),
                    Wrong::Value => Malformed(format!("Invalid value for the condition key {key}")),
                })?);
            }
        }
        Ok(all)
    }
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// `*`, a project's id, or `arn:aws:iam::<project>:root` and `…:user/<name or id>`.
fn aws(text: &str) -> Option<Principal> {
    if text == "*" {
        return Some(Principal::Everybody);
    }
    if is_id(text) {
        return Some(Principal::Project(text.to_owned()));
    }
    let rest = text.strip_prefix("arn:aws:iam::")?;
    let (project, who) = rest.split_once(':')?;
    if !project.is_empty() && !is_id(project) {
        return None;
    }
    if who == "root" && !project.is_empty() {
        return Some(Principal::Project(project.to_owned()));
    }
    let user = who.strip_prefix("user/").filter(|u| !u.is_empty() && !u.contains('*'))?;
    Some(Principal::User { project: project.to_owned(), user: user.to_owned() })
}
