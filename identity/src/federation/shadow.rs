//! The users, memberships and projects that follow from what a provider says.
//!
//! A federated user's id has the form of upstream's, but follows from its provider and protocol as well as from what it
//! is called there. By upstream's own, two providers of a domain, or one and the domain's directory, that call somebody
//! the same would mean the same user.

use super::mapping::{Mapped, MappedProject};
use crate::service::Change;
use crate::store::assignments::{self, ActorKind, Grant, GrantFilter, TargetKind};
use crate::store::federation::{self, Protocol, Tie};
use crate::store::passwords::{self, Mark};
use crate::store::record::Fields;
use crate::store::subjects::{self, DomainBy, Holder};
use crate::store::{Cond, GROUP, PROJECT, ROLE, Record, SHADOW_USER};
use crate::{Identity, IdentityError};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use state::Timestamp;

/// What upstream leaves as it is in a unique id.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-').remove(b'~').remove(b'/');
/// The most groups that a token carries.
const MOST_GROUPS: usize = 100;
const LONGEST_NAME: usize = 255;
const LONGEST_PROJECT: usize = 64;

/// Upstream's public id of what others keep under an id of their own: 64 hexadecimal digits.
pub(crate) fn public_id(domain: &str, local: &str, kind: &str) -> String {
    hex::encode(Sha256::new().chain_update(domain).chain_update(kind).chain_update(local).finalize())
}

/// A role to be given in a project, which may have to be made.
struct Provision {
    project: Record,
    new: bool,
    roles: Vec<String>,
}

impl Identity {
    /// The ids of the groups that a mapping gives, sorted. As upstream: one named by its id must exist; one named by its
    /// name does not count where it does not.
    pub(super) async fn mapped_groups(
        &self,
        mapped: &Mapped,
        mapping: &str,
    ) -> Result<Vec<String>, IdentityError> {
        let mut groups: Vec<String> = Vec::new();
        for id in &mapped.group_ids {
            if GROUP.get(self.db.read(), id).await?.is_none() {
                return Err(IdentityError::Forbidden(format!(
                    "Group {id} returned by mapping {mapping} was not found in the backend."
                )));
            }
            groups.push(id.clone());
        }
        for (name, domain) in mapped.group_names.iter().take(1000) {
            let Some(domain) = subjects::domain(self.db.read(), domain).await? else { continue };
            let named = [Cond::eq("domain_id", domain.id.as_str()), Cond::eq("name", name.as_str())];
            match GROUP.one(self.db.read(), &named).await? {
                Some(found) => groups.push(found.text("id").to_owned()),
                None => tracing::debug!(group = name, "a mapped group does not exist"),
            }
        }
        groups.sort();
        groups.dedup();
        if groups.len() > MOST_GROUPS {
            return Err(IdentityError::Forbidden(format!(
                "Mapping {mapping} gives {} groups, and a token carries {MOST_GROUPS} at most.",
                groups.len()
            )));
        }
        Ok(groups)
    }

    /// The id of the user whom a provider means, made if it comes for the first time, with its memberships and projects
    /// as the mapping has them.
    pub(super) async fn shadow_user(
        &self,
        provider: &Record,
        protocol: &Protocol,
        mapped: &Mapped,
        groups: &[String],
    ) -> Result<String, IdentityError> {
        let user = &mapped.user;
        let named = user.id.as_ref().or(user.name.as_ref());
        let named = named.ok_or(IdentityError::Unauthorized(
            "Could not map user while setting ephemeral user identity. Either mapping rules must specify user \
             id/name or REMOTE_USER environment variable must be set."
                .into(),
        ))?;
        let unique = utf8_percent_encode(named, KEPT).to_string();
        let name = user.name.as_ref().unwrap_or(named);
        if unique.len() > LONGEST_NAME || name.chars().count() > LONGEST_NAME {
            return Err(IdentityError::Invalid("The mapped user's id or name is too long.".into()));
        }
        let domain = match &user.domain {
            Some(domain) => self.mapped_domain(domain).await?,
            None => provider.text("domain_id").to_owned(),
        };
        let wanted = json!({"name": name.trim(), "email": user.email});
        let projects = self.provisions(provider, &mapped.projects).await?;
        let before = federation::known(self.db.read(), &protocol.idp, &protocol.id, &unique).await?;
        let ends = self.changes_tokens(provider, before.as_deref(), &wanted, groups, &projects).await?;
        let mut change = if ends { self.begin().await? } else { self.begin_aside().await? };
        change.lock(&format!("federated:{}:{}:{unique}", protocol.idp, protocol.id)).await?;
        let now = federation::known(change.conn(), &protocol.idp, &protocol.id, &unique).await?;
        let id = match now {
            Some(id) => {
                follow(&mut change, &id, &wanted).await?;
                id
            }
            None => {
                let id = id_of(&domain, protocol, &unique);
                // It is there where an administrator has untied it.
                match SHADOW_USER.get(change.conn(), &id).await? {
                    Some(_) => follow(&mut change, &id, &wanted).await?,
                    None => insert(&mut change, &id, &domain, &wanted).await?,
                }
                let tie = Tie { idp: protocol.idp.clone(), protocol: protocol.id.clone(), unique };
                federation::remember(&mut change, &tie, &id).await?;
                id
            }
        };
        self.vouch(&mut change, provider, &id, groups).await?;
        for p in &projects {
            p.make(&mut change, &id).await?;
        }
        change.commit().await?;
        Ok(id)
    }

    async fn mapped_domain(&self, domain: &DomainBy) -> Result<String, IdentityError> {
        let (DomainBy::Id(named) | DomainBy::Name(named)) = domain;
        let found = subjects::domain(self.db.read(), domain).await?;
        Ok(found.ok_or_else(|| IdentityError::not_found("domain", named))?.id)
    }

    /// Whether anything changes that a token, or what is remembered of one, depends on. Most logins change nothing.
    async fn changes_tokens(
        &self,
        provider: &Record,
        user: Option<&str>,
        wanted: &Value,
        groups: &[String],
        projects: &[Provision],
    ) -> Result<bool, IdentityError> {
        if projects.iter().any(|p| p.new) {
            return Ok(true);
        }
        let Some(user) = user else { return Ok(!projects.is_empty()) };
        let before = SHADOW_USER.get(self.db.read(), user).await?;
        if before.is_none_or(|b| b.text("source") == user && b["name"] != wanted["name"]) {
            return Ok(true);
        }
        let now = Timestamp::now();
        let held = federation::vouched(self.db.read(), user, Some(provider.text("id"))).await?;
        let held: Vec<&String> = held.iter().filter(|v| v.expires_at > now).map(|v| &v.group).collect();
        let ttl = self.authorization_ttl(provider);
        if (ttl > 0 || !held.is_empty()) && held != groups.iter().collect::<Vec<_>>() {
            return Ok(true);
        }
        for p in projects {
            let filter = GrantFilter {
                actors: Some(vec![user.to_owned()]),
                targets: Some(vec![p.project.text("id").to_owned()]),
                ..GrantFilter::default()
            };
            let has = assignments::find(self.db.read(), &filter).await?;
            if p.roles.iter().any(|r| !has.iter().any(|g| g.role == *r && !g.inherited)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn vouch(
        &self,
        change: &mut Change<'_>,
        provider: &Record,
        user: &str,
        groups: &[String],
    ) -> Result<(), IdentityError> {
        let (now, ttl) = (Timestamp::now(), self.authorization_ttl(provider));
        let groups = if ttl > 0 { groups } else { &[] };
        let ends = Timestamp(now.micros().saturating_add(ttl));
        federation::set_vouched(change, user, provider.text("id"), groups, (now, ends)).await
    }

    /// The projects that a mapping gives, each found or ready to be made, with the ids of the roles in it.
    async fn provisions(
        &self,
        provider: &Record,
        mapped: &[MappedProject],
    ) -> Result<Vec<Provision>, IdentityError> {
        let mut out = Vec::new();
        for p in mapped {
            let domain = match &p.domain {
                Some(domain) => self.mapped_domain(domain).await?,
                None => provider.text("domain_id").to_owned(),
            };
            let mut roles = Vec::new();
            for name in &p.roles {
                let global = [Cond::eq("domain_id", ""), Cond::eq("name", name.as_str())];
                let role = ROLE.one(self.db.read(), &global).await?;
                roles.push(role.ok_or_else(|| IdentityError::not_found("role", name))?.text("id").to_owned());
            }
            let named = [Cond::eq("domain_id", domain.as_str()), Cond::eq("name", p.name.as_str())];
            let found = PROJECT.one(self.db.read(), &named).await?;
            let new = found.is_none();
            let project = match found {
                Some(project) => project,
                None => new_project(&domain, &p.name)?,
            };
            out.push(Provision { project, new, roles });
        }
        Ok(out)
    }
}

fn new_project(domain: &str, name: &str) -> Result<Record, IdentityError> {
    if name.trim().is_empty() || name.chars().count() > LONGEST_PROJECT {
        return Err(IdentityError::Invalid(
            "A mapped project's name must have from 1 to 64 characters.".into(),
        ));
    }
    let project = json!({"id": state::new_hex_id(), "name": name, "domain_id": domain, "parent_id": domain,
        "description": "", "enabled": true, "is_domain": false, "options": {}, "tags": []});
    Ok(project.as_object().cloned().unwrap_or_default())
}

impl Provision {
    async fn make(&self, change: &mut Change<'_>, user: &str) -> Result<(), IdentityError> {
        let mut project = self.project.text("id").to_owned();
        if self.new {
            let (domain, name) = (self.project.text("domain_id"), self.project.text("name"));
            change.lock(&format!("project:{domain}:{name}")).await?;
            // Somebody else's first login may have made it meanwhile.
            let named = [Cond::eq("domain_id", domain), Cond::eq("name", name)];
            match PROJECT.one(change.conn(), &named).await? {
                Some(made) => project = made.text("id").to_owned(),
                None => PROJECT.insert(change.conn(), &self.project).await?,
            }
        }
        for role in &self.roles {
            let grant = Grant {
                actor: ActorKind::User,
                actor_id: user.to_owned(),
                target: TargetKind::Project,
                target_id: project.clone(),
                role: role.clone(),
                inherited: false,
            };
            assignments::add(change.conn(), &grant).await?;
        }
        Ok(())
    }
}

fn id_of(domain: &str, protocol: &Protocol, unique: &str) -> String {
    let named = [&protocol.idp, &protocol.id].map(|n| utf8_percent_encode(n, KEPT).to_string());
    public_id(domain, &format!("{}\n{unique}", named.join("\n")), "federated user")
}

async fn insert(
    change: &mut Change<'_>,
    id: &str,
    domain: &str,
    wanted: &Value,
) -> Result<(), IdentityError> {
    let user = json!({"id": id, "domain_id": domain, "enabled": true, "options": {}, "source": id});
    let mut user = user.as_object().cloned().unwrap_or_default();
    take_over(&mut user, wanted);
    let now = Timestamp::now();
    SHADOW_USER.insert(change.conn(), &user).await?;
    // Who was deleted and comes again has the same id, and does not get its old tokens back.
    subjects::refuse_tokens(change.conn(), Holder::User, id, now).await?;
    passwords::mark(change.conn(), id, Mark::Created, now).await
}

/// A federated user is called what its provider calls it; one of this cloud whom an administrator has tied to what a
/// provider says keeps its name.
async fn follow(change: &mut Change<'_>, id: &str, wanted: &Value) -> Result<(), IdentityError> {
    let before = SHADOW_USER.need(change.conn(), id).await?;
    if before.text("source") != id {
        return Ok(());
    }
    let mut after = before.clone();
    take_over(&mut after, wanted);
    if after != before {
        SHADOW_USER.update(change.conn(), &after).await?;
    }
    Ok(())
}

fn take_over(user: &mut Record, wanted: &Value) {
    user.insert("name".into(), wanted["name"].clone());
    if wanted["email"].is_string() {
        user.insert("email".into(), wanted["email"].clone());
    }
}
