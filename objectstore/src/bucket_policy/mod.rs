//! Bucket policies: statements that allow or deny actions on a bucket and its objects, to anybody, on conditions.
//!
//! The language is AWS's (IAM JSON policy elements; "Policies and permissions in Amazon S3"). What this reader does not
//! know is refused when a policy is put, never passed over: a condition that nobody looks at would open what its
//! author believes closed. An explicit deny wins over every allow; where no statement speaks, ACLs and roles decide.

mod condition;
mod parse;
mod pattern;

use api::Caller;
use condition::Condition;
pub(crate) use parse::{LARGEST, Malformed};
use pattern::Pattern;

/// A bucket policy, ready to be asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BucketPolicy {
    statements: Vec<Statement>,
}

#[derive(Debug, Clone, PartialEq)]
struct Statement {
    allow: bool,
    principals: Vec<Principal>,
    /// For everybody but these.
    not_principals: bool,
    /// In lower case.
    actions: Vec<Pattern>,
    not_actions: bool,
    /// `bucket` or `bucket/key`.
    resources: Vec<Pattern>,
    not_resources: bool,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Principal {
    Everybody,
    /// All who act for a project.
    Project(String),
    /// One user; with no project, whatever project they act for.
    User {
        project: String,
        user: String,
    },
    /// A service, or whom another identity provider vouches for: nobody here.
    Nobody,
}

/// What a policy comes to for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Deny,
    Allow,
    /// No statement speaks of it.
    Silent,
}

/// What a request looks like to a policy.
pub(crate) struct Question<'a> {
    /// `s3:GetObject`
    pub(crate) action: &'a str,
    pub(crate) bucket: &'a str,
    /// Empty where the request is about the bucket.
    pub(crate) key: &'a str,
    pub(crate) caller: Option<&'a Caller>,
    /// The values of a condition key, which is given in lower case (a tag's name as it is); none where it is absent.
    pub(crate) facts: &'a dyn Fn(&str) -> Vec<String>,
}

impl BucketPolicy {
    /// Reads the policy of `bucket`, which belongs to project `owner`.
    pub(crate) fn parse(text: &str, bucket: &str, owner: &str) -> Result<Self, Malformed> {
        parse::policy(text, bucket, owner)
    }

    pub(crate) fn ask(&self, question: &Question<'_>) -> Verdict {
        let mut verdict = Verdict::Silent;
        for statement in self.statements.iter().filter(|s| s.speaks_of(question)) {
            if !statement.allow {
                return Verdict::Deny;
            }
            verdict = Verdict::Allow;
        }
        verdict
    }

    /// Whether it allows something to people whom nobody named, from anywhere.
    pub(crate) fn is_public(&self) -> bool {
        self.statements.iter().any(Statement::is_public)
    }

    /// Whether it asks for the tags that an object has.
    pub(crate) fn wants_tags(&self) -> bool {
        let tags = |c: &Condition| c.key.starts_with(condition::EXISTING_TAG);
        self.statements.iter().any(|s| s.conditions.iter().any(tags))
    }
}

impl Statement {
    fn speaks_of(&self, q: &Question<'_>) -> bool {
        let action = q.action.to_ascii_lowercase();
        let resource = match q.key {
            "" => q.bucket.to_owned(),
            key => format!("{}/{key}", q.bucket),
        };
        let facts = |key: &str| facts_of(q, key);
        self.actions.iter().any(|p| p.fits(&action, &facts)) != self.not_actions
            && self.resources.iter().any(|p| p.fits(&resource, &facts)) != self.not_resources
            && self.principals.iter().any(|p| p.is(q.caller)) != self.not_principals
            && self.conditions.iter().all(|c| c.holds(&facts))
    }

    fn is_public(&self) -> bool {
        let everybody = self.not_principals || self.principals.contains(&Principal::Everybody);
        self.allow && everybody && !self.conditions.iter().any(Condition::names_somebody)
    }
}

impl Principal {
    fn is(&self, caller: Option<&Caller>) -> bool {
        let is_project = |caller: &Caller, id: &str| caller.project().is_some_and(|p| p.id == id);
        match (self, caller) {
            (Principal::Everybody, _) => true,
            (Principal::Nobody, _) | (_, None) => false,
            (Principal::Project(id), Some(caller)) => is_project(caller, id),
            (Principal::User { project, user }, Some(caller)) => {
                if project.is_empty() {
                    return *user == caller.user.id;
                }
                // A name is one user's only within a domain.
                let domain = caller.project().map(|p| &p.domain.id);
                let named = *user == caller.user.name && domain == Some(&caller.user.domain.id);
                (named || *user == caller.user.id) && is_project(caller, project)
            }
        }
    }
}

/// Who a caller is, as AWS writes it.
fn arn(caller: &Caller) -> String {
    let project = caller.project().map(|p| p.id.as_str()).unwrap_or_default();
    format!("arn:aws:iam::{project}:user/{}", caller.user.name)
}

/// The values of a condition key: of the caller and the clock, or as the door tells them.
fn facts_of(q: &Question<'_>, key: &str) -> Vec<String> {
    let one = |value: Option<String>| value.into_iter().collect();
    match (key, q.caller) {
        ("aws:username", caller) => one(caller.map(|c| c.user.name.clone())),
        ("aws:userid", caller) => one(caller.map(|c| c.user.id.clone())),
        ("aws:principalarn", caller) => one(caller.map(arn)),
        ("aws:principalaccount", caller) => one(caller.and_then(|c| c.project()).map(|p| p.id.clone())),
        ("aws:principaltype", Some(_)) => vec!["User".into()],
        ("aws:principaltype", None) => vec!["Anonymous".into()],
        ("aws:currenttime", _) => vec![chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ").to_string()],
        ("aws:epochtime", _) => vec![chrono::Utc::now().timestamp().to_string()],
        (key, _) => (q.facts)(key),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
