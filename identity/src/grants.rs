//! Giving and taking roles, and the listing of who has which.

use crate::listing::flag;
use crate::store::assignments::{self, ActorKind, Grant, GrantFilter, TargetKind};
use crate::store::record::Fields;
use crate::store::{Cond, GROUP, PROJECT, ROLE, Record, USER};
use crate::{Identity, IdentityError};
use api::{Context, Query};
use std::collections::{BTreeSet, HashMap};

/// What a grant's path names.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) actor: ActorKind,
    pub(crate) actor_id: String,
    pub(crate) target: TargetKind,
    pub(crate) target_id: String,
    pub(crate) inherited: bool,
}

impl Place {
    fn grant(&self, role: &str) -> Grant {
        Grant {
            actor: self.actor,
            actor_id: self.actor_id.clone(),
            target: self.target,
            target_id: self.target_id.clone(),
            role: role.to_owned(),
            inherited: self.inherited,
        }
    }

    /// `create_grant` or, on the system, `create_system_grant_for_user`.
    fn rule(&self, verb: &str) -> String {
        match self.target {
            TargetKind::System if verb == "list" => {
                format!("identity:list_system_grants_for_{}", self.actor.as_str())
            }
            TargetKind::System => format!("identity:{verb}_system_grant_for_{}", self.actor.as_str()),
            _ if verb == "list" => "identity:list_grants".into(),
            _ => format!("identity:{verb}_grant"),
        }
    }
}

/// One line of `GET /role_assignments`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Assignment {
    pub(crate) grant: Grant,
    /// What an effective assignment follows from.
    pub(crate) via_group: Option<String>,
    pub(crate) via_role: Option<String>,
    pub(crate) via_target: Option<(TargetKind, String)>,
}

impl Identity {
    /// The actor, target and role must exist, and the caller must be allowed this.
    async fn grant_for(
        &self,
        ctx: &Context,
        verb: &str,
        place: &Place,
        role: Option<&str>,
    ) -> Result<Option<Record>, IdentityError> {
        let actor = match place.actor {
            ActorKind::User => USER.get(self.db.read(), &place.actor_id).await?,
            ActorKind::Group => GROUP.get(self.db.read(), &place.actor_id).await?,
        };
        let target = match place.target {
            TargetKind::System => None,
            _ => PROJECT.get(self.db.read(), &place.target_id).await?,
        };
        let target = target.filter(|t| place.target != TargetKind::Domain || t.flag("is_domain"));
        let role_record = match role {
            Some(id) => ROLE.get(self.db.read(), id).await?,
            None => None,
        };
        let mut about = Vec::new();
        match (&actor, place.actor) {
            (Some(a), ActorKind::User) => about.push(("target.user.domain_id", a.text("domain_id"))),
            (Some(a), ActorKind::Group) => about.push(("target.group.domain_id", a.text("domain_id"))),
            (None, _) => {}
        }
        match (&target, place.target) {
            (Some(t), TargetKind::Domain) => about.push(("target.domain.id", t.text("id"))),
            (Some(t), TargetKind::Project) => about.extend(crate::projects::target(t)),
            _ => {}
        }
        if let Some(r) = &role_record {
            about.push(("target.role.domain_id", r.opt_text("domain_id").unwrap_or("None")));
            about.push(("target.role.name", r.text("name")));
        }
        self.enforce(ctx, &place.rule(verb), &about)?;
        // As upstream, who has gone from a directory can still be taken its roles.
        if verb != "revoke" {
            actor.ok_or_else(|| IdentityError::not_found(place.actor.as_str(), &place.actor_id))?;
        }
        if place.target != TargetKind::System {
            let noun = place.target.as_str();
            let target = target.ok_or_else(|| IdentityError::not_found(noun, &place.target_id))?;
            if let Some(own) = role_record.as_ref().and_then(|r| r.opt_text("domain_id")) {
                let domain = target.opt_text("domain_id").unwrap_or(target.text("id"));
                if verb == "create" && own != domain {
                    return Err(IdentityError::Forbidden(
                        "Role and target must be in the same domain.".into(),
                    ));
                }
            }
        }
        match role {
            Some(id) => Ok(Some(role_record.ok_or_else(|| IdentityError::not_found("role", id))?)),
            None => Ok(None),
        }
    }

    pub(crate) async fn grant(&self, ctx: &Context, place: &Place, role: &str) -> Result<(), IdentityError> {
        let record = self.grant_for(ctx, "create", place, Some(role)).await?;
        let domain_role = record.is_some_and(|r| r.opt_text("domain_id").is_some());
        if place.target == TargetKind::System && domain_role {
            return Err(IdentityError::Invalid(
                "A domain-specific role cannot be given on the system.".into(),
            ));
        }
        let mut change = self.begin().await?;
        assignments::add(change.conn(), &place.grant(role)).await?;
        change.commit().await
    }

    pub(crate) async fn check_grant(
        &self,
        ctx: &Context,
        place: &Place,
        role: &str,
    ) -> Result<(), IdentityError> {
        self.grant_for(ctx, "check", place, Some(role)).await?;
        match self.grants_at(place).await?.iter().any(|g| g.role == role) {
            true => Ok(()),
            false => Err(no_assignment(place, role)),
        }
    }

    pub(crate) async fn take_grant(
        &self,
        ctx: &Context,
        place: &Place,
        role: &str,
    ) -> Result<(), IdentityError> {
        self.grant_for(ctx, "revoke", place, Some(role)).await?;
        let mut change = self.begin().await?;
        if !assignments::remove(change.conn(), &place.grant(role)).await? {
            return Err(no_assignment(place, role));
        }
        change.commit().await
    }

    pub(crate) async fn list_grants(
        &self,
        ctx: &Context,
        place: &Place,
    ) -> Result<Vec<Record>, IdentityError> {
        self.grant_for(ctx, "list", place, None).await?;
        let ids = self.grants_at(place).await?.into_iter().map(|g| g.role).collect();
        ROLE.find(self.db.read(), &[Cond::In("id", ids)], 0).await
    }

    async fn grants_at(&self, place: &Place) -> Result<Vec<Grant>, IdentityError> {
        let filter = GrantFilter {
            actors: Some(vec![place.actor_id.clone()]),
            targets: Some(vec![place.target_id.clone()]),
            target_kind: Some(place.target),
            inherited: Some(place.inherited),
            roles: None,
        };
        assignments::find(self.db.read(), &filter).await
    }

    /// `GET /role_assignments`: as given, or with `effective` as they work out for each user and project.
    pub(crate) async fn role_assignments(
        &self,
        ctx: &Context,
        query: &Query,
    ) -> Result<Vec<Assignment>, IdentityError> {
        let asked = Asked::read(query)?;
        self.may_list_assignments(ctx, &asked).await?;
        let mut found = match asked.effective {
            true => self.effective(&asked).await?,
            false => self.as_given(&asked).await?,
        };
        if let Some(own) = ctx.domain_id().filter(|_| !ctx.is_admin()) {
            self.keep_domain(&mut found, own).await?;
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    async fn may_list_assignments(&self, ctx: &Context, asked: &Asked) -> Result<(), IdentityError> {
        if asked.subtree {
            let Some(id) = &asked.project else {
                return Err(IdentityError::Invalid(
                    "scope.project.id must be specified if include_subtree is also specified".into(),
                ));
            };
            self.project_for(ctx, "identity:list_role_assignments_for_tree", id).await?;
            return Ok(());
        }
        let domain = ctx.domain_id().unwrap_or_default();
        self.enforce(ctx, "identity:list_role_assignments", &[("target.domain_id", domain)])
    }

    /// A domain's readers see what concerns their domain and its projects.
    async fn keep_domain(&self, found: &mut Vec<Assignment>, own: &str) -> Result<(), IdentityError> {
        let projects = PROJECT.find(self.db.read(), &[Cond::eq("domain_id", own)], 0).await?;
        let mut ids: BTreeSet<&str> = projects.iter().map(|p| p.text("id")).collect();
        ids.insert(own);
        found.retain(|a| ids.contains(a.grant.target_id.as_str()));
        Ok(())
    }

    /// The ids of the project asked for, and of those below where they are asked for too.
    async fn asked_projects(&self, asked: &Asked) -> Result<Option<Vec<String>>, IdentityError> {
        let Some(id) = &asked.project else { return Ok(None) };
        let mut ids = vec![id.clone()];
        if asked.subtree {
            ids.extend(self.subtree(id).await?.iter().map(|p| p.text("id").to_owned()));
        }
        Ok(Some(ids))
    }

    async fn as_given(&self, asked: &Asked) -> Result<Vec<Assignment>, IdentityError> {
        let mut filter = GrantFilter { inherited: asked.inherited, ..asked.target_filter() };
        filter.actors = asked.user.iter().chain(&asked.group).cloned().map(|a| vec![a]).next();
        filter.roles = asked.role.clone().map(|r| vec![r]);
        if let Some(projects) = self.asked_projects(asked).await? {
            filter.targets = Some(projects);
        }
        let grants = assignments::find(self.db.read(), &filter).await?;
        Ok(grants.into_iter().map(Assignment::plain).collect())
    }

    async fn effective(&self, asked: &Asked) -> Result<Vec<Assignment>, IdentityError> {
        if asked.group.is_some() {
            return Err(IdentityError::Invalid(
                "Combining effective and group filter will always result in an empty list.".into(),
            ));
        }
        if asked.domain.is_some() && asked.inherited == Some(true) {
            return Err(IdentityError::Invalid(
                "Combining effective, domain and inherited filters will always result in an empty list."
                    .into(),
            ));
        }
        let began = self.facts.now();
        let roles = self.role_model(began).await?;
        let mut filter = GrantFilter::default();
        if let Some(user) = &asked.user {
            self.refresh_membership(user).await?;
            let mut actors = assignments::groups_of(self.db.read(), user).await?;
            actors.push(user.clone());
            filter.actors = Some(actors);
        }
        let projects = self.asked_projects(asked).await?;
        if let Some(projects) = &projects {
            let mut targets = projects.clone();
            for id in projects {
                if let Some(p) = crate::store::subjects::project_by_id(self.db.read(), id).await? {
                    targets.extend(self.above(&p).await?);
                }
            }
            filter.targets = Some(targets);
        } else {
            let target = asked.target_filter();
            filter.targets = target.targets;
            filter.target_kind = target.target_kind;
        }
        let mut out = Vec::new();
        let mut members: HashMap<String, Vec<String>> = HashMap::new();
        for grant in assignments::find(self.db.read(), &filter).await? {
            for placed in self.placed(&grant, projects.as_deref()).await? {
                let direct = match placed.grant.actor {
                    ActorKind::User => vec![placed],
                    ActorKind::Group => {
                        let group = placed.grant.actor_id.clone();
                        if !members.contains_key(&group) {
                            self.refresh_members(&group).await?;
                            let users = assignments::users_in(self.db.read(), &group).await?;
                            members.insert(group.clone(), users);
                        }
                        members[&group].iter().map(|user| placed.for_member(user)).collect()
                    }
                };
                for one in direct {
                    // As in a token: a domain's role stands only for those it implies.
                    for role in roles.expand([one.grant.role.clone()]) {
                        out.push(one.implying(&role.id));
                    }
                }
            }
        }
        out.retain(|a| {
            let g = &a.grant;
            asked.user.as_ref().is_none_or(|u| *u == g.actor_id)
                && asked.role.as_ref().is_none_or(|r| *r == g.role)
                && asked.domain.as_ref().is_none_or(|d| *d == g.target_id)
                && (!asked.system || g.target == TargetKind::System)
                && asked.inherited.is_none_or(|i| i == a.via_target.is_some())
        });
        Ok(out)
    }

    /// Where an assignment works: where it stands, or, inherited, on every project below (of these).
    async fn placed(&self, grant: &Grant, only: Option<&[String]>) -> Result<Vec<Assignment>, IdentityError> {
        let wanted = |id: &str| only.is_none_or(|only| only.iter().any(|o| o == id));
        if !grant.inherited {
            let here = wanted(&grant.target_id);
            return Ok(here.then(|| Assignment::plain(grant.clone())).into_iter().collect());
        }
        let below = self.subtree(&grant.target_id).await?;
        let ids = below.iter().map(|p| p.text("id")).filter(|id| wanted(id));
        Ok(ids
            .map(|id| Assignment {
                via_target: Some((grant.target, grant.target_id.clone())),
                ..Assignment::plain(Grant {
                    target: TargetKind::Project,
                    target_id: id.to_owned(),
                    inherited: false,
                    ..grant.clone()
                })
            })
            .collect())
    }
}

impl Assignment {
    fn plain(grant: Grant) -> Self {
        Assignment { grant, via_group: None, via_role: None, via_target: None }
    }

    fn for_member(&self, user: &str) -> Self {
        let mut one = self.clone();
        one.via_group = Some(std::mem::replace(&mut one.grant.actor_id, user.to_owned()));
        one.grant.actor = ActorKind::User;
        one
    }

    fn implying(&self, role: &str) -> Self {
        let mut one = self.clone();
        if one.grant.role != role {
            one.via_role = Some(std::mem::replace(&mut one.grant.role, role.to_owned()));
        }
        one
    }
}

/// The filters of a listing.
#[derive(Default)]
struct Asked {
    user: Option<String>,
    group: Option<String>,
    role: Option<String>,
    project: Option<String>,
    domain: Option<String>,
    system: bool,
    inherited: Option<bool>,
    effective: bool,
    subtree: bool,
}

impl Asked {
    fn read(query: &Query) -> Result<Self, IdentityError> {
        let get = |name: &str| query.get(name).filter(|v| !v.is_empty()).map(str::to_owned);
        let asked = Asked {
            user: get("user.id"),
            group: get("group.id"),
            role: get("role.id"),
            project: get("scope.project.id"),
            domain: get("scope.domain.id"),
            system: query.has("scope.system"),
            inherited: query.get("scope.OS-INHERIT:inherited_to").map(|v| v == "projects"),
            effective: flag(query, "effective"),
            subtree: flag(query, "include_subtree"),
        };
        let pairs = [
            (asked.user.is_some() && asked.group.is_some(), "user and group"),
            (asked.project.is_some() && asked.domain.is_some(), "project and domain"),
            (asked.system && asked.project.is_some(), "system and project"),
            (asked.system && asked.domain.is_some(), "system and domain"),
        ];
        match pairs.iter().find(|(both, _)| *both) {
            Some((_, what)) => {
                Err(IdentityError::Invalid(format!("The filters {what} cannot be used together.")))
            }
            None => Ok(asked),
        }
    }

    fn target_filter(&self) -> GrantFilter {
        let target_kind = match (&self.project, &self.domain, self.system) {
            (Some(_), ..) => Some(TargetKind::Project),
            (_, Some(_), _) => Some(TargetKind::Domain),
            (.., true) => Some(TargetKind::System),
            _ => None,
        };
        let targets = self.project.iter().chain(&self.domain).cloned().map(|t| vec![t]).next();
        GrantFilter { targets, target_kind, ..GrantFilter::default() }
    }
}

fn no_assignment(place: &Place, role: &str) -> IdentityError {
    IdentityError::Absent(format!(
        "Could not find role assignment with role: {role}, user or group: {}, project, domain, or system: {}.",
        place.actor_id, place.target_id
    ))
}
