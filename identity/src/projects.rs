//! Projects: a tree below each domain.

use crate::input::{self, Shape};
use crate::listing::{Found, flag};
use crate::store::assignments::{self, Forget, TargetKind};
use crate::store::record::Fields;
use crate::store::subjects::{self, Holder};
use crate::store::{APP_CREDENTIAL, CREDENTIAL, Cond, DOMAIN, LIMIT, PROJECT, Record, TRUST};
use crate::{Identity, IdentityError};
use api::{Context, Query, Scope};
use serde_json::{Map, Value, json};
use state::{Timestamp, Tx};
use std::sync::LazyLock;

static SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let properties = json!({"name": input::name(64), "description": input::text(), "enabled": input::flag(),
        "domain_id": input::maybe_id(), "parent_id": input::maybe_id(), "is_domain": input::flag(),
        "tags": input::tags(), "options": input::immutable()});
    Shape::new("project", properties, &["name"])
});

const FILTERS: &[&str] = &["domain_id", "enabled", "name", "parent_id", "is_domain"];

pub(crate) fn target(p: &Record) -> [(&str, &str); 2] {
    // A domain is in no domain: those who manage one do not thereby manage itself.
    [("target.project.id", p.text("id")), ("target.project.domain_id", p.text("domain_id"))]
}

impl Identity {
    /// The project if the caller may do this with it. Who may not learns nothing about whether it exists.
    pub(crate) async fn project_for(
        &self,
        ctx: &Context,
        rule: &str,
        id: &str,
    ) -> Result<Record, IdentityError> {
        match PROJECT.get(self.db.read(), id).await? {
            Some(p) => {
                self.enforce(ctx, rule, &target(&p))?;
                Ok(p)
            }
            None => {
                self.enforce(ctx, rule, &[("target.project.id", id)])?;
                Err(IdentityError::not_found("project", id))
            }
        }
    }

    pub(crate) async fn create_project(&self, ctx: &Context, body: &Value) -> Result<Record, IdentityError> {
        let mut p = SHAPE.new_record(body)?;
        input::trim_name(&mut p);
        if p.flag("is_domain") {
            self.enforce(ctx, "identity:create_project", &[])?;
            return self.insert_domain(p, None).await;
        }
        self.place(ctx, &mut p).await?;
        self.enforce(ctx, "identity:create_project", &[("target.project.domain_id", p.text("domain_id"))])?;
        self.check_parent(&p).await?;
        p.insert("id".into(), state::new_hex_id().into());
        p.insert("is_domain".into(), false.into());
        fill(&mut p);
        let mut change = self.begin_aside().await?;
        PROJECT.insert(change.conn(), &p).await.map_err(|e| same_name(e, &p))?;
        change.commit().await?;
        Ok(p)
    }

    /// Where a new project goes: what its body does not say follows from the parent, then from the token.
    async fn place(&self, ctx: &Context, p: &mut Record) -> Result<(), IdentityError> {
        let parent = p.opt_text("parent_id").filter(|s| !s.is_empty()).map(str::to_owned);
        let domain = p.opt_text("domain_id").filter(|s| !s.is_empty()).map(str::to_owned);
        let domain = match (domain, &parent) {
            (Some(d), _) => d,
            (None, Some(parent)) => {
                let above = PROJECT.need(self.db.read(), parent).await?;
                above.opt_text("domain_id").unwrap_or(above.text("id")).to_owned()
            }
            (None, None) => home_domain(ctx),
        };
        p.insert("parent_id".into(), parent.unwrap_or_else(|| domain.clone()).into());
        p.insert("domain_id".into(), domain.into());
        Ok(())
    }

    async fn check_parent(&self, p: &Record) -> Result<(), IdentityError> {
        let domain = self.need_domain(p.text("domain_id")).await?;
        let mut above = PROJECT.need(self.db.read(), p.text("parent_id")).await?;
        if above.text("id") != domain.text("id") && above.text("domain_id") != domain.text("id") {
            return Err(IdentityError::Invalid(format!(
                "Cannot create project, the parent (project_id: {}) and its domain must match the project's domain.",
                p.text("parent_id")
            )));
        }
        let deepest =
            self.config.max_project_depth.min(self.config.limit_model.depth().unwrap_or(usize::MAX));
        for depth in 1.. {
            if !above.flag("enabled") {
                return Err(IdentityError::Invalid(format!(
                    "Cannot create project, since it is below a disabled project or domain: {}.",
                    above.text("id")
                )));
            }
            if depth > deepest {
                return Err(IdentityError::Forbidden(format!(
                    "Max hierarchy depth reached for {} branch.",
                    p.text("parent_id")
                )));
            }
            match above.opt_text("parent_id") {
                Some(id) => above = PROJECT.need(self.db.read(), id).await?,
                None => break,
            }
        }
        Ok(())
    }

    /// What holds for every project that a list shows this caller.
    pub(crate) fn projects_seen(&self, ctx: &Context, query: &Query) -> Result<Vec<Cond>, IdentityError> {
        let domain = ctx.domain_id().or(query.get("domain_id")).unwrap_or_default();
        self.enforce(ctx, "identity:list_projects", &[("target.domain_id", domain)])?;
        let mut must = Vec::new();
        if let Some(domain) = ctx.domain_id().filter(|_| !ctx.is_admin()) {
            must.push(Cond::eq("domain_id", domain));
        }
        if !query.has("is_domain") {
            must.push(Cond::eq("is_domain", false));
        }
        Ok(must)
    }

    pub(crate) async fn list_projects(&self, must: Vec<Cond>, query: &Query) -> Result<Found, IdentityError> {
        let mut found = self.list(&PROJECT, FILTERS, must, query).await?;
        keep_tagged(&mut found.records, query);
        Ok(found)
    }

    pub(crate) async fn show_project(
        &self,
        ctx: &Context,
        id: &str,
        query: &Query,
    ) -> Result<Record, IdentityError> {
        let mut p = self.project_for(ctx, "identity:get_project", id).await?;
        for (list, ids) in [("parents_as_list", "parents_as_ids"), ("subtree_as_list", "subtree_as_ids")] {
            if query.has(list) && query.has(ids) {
                return Err(IdentityError::Invalid(format!("{list} and {ids} cannot be used together.")));
            }
        }
        if query.has("parents_as_list") || query.has("parents_as_ids") {
            let parents = self.parents(&p).await?;
            if query.has("parents_as_ids") {
                let nested = parents.iter().rev().fold(Value::Null, |inner, r| json!({r.text("id"): inner}));
                p.insert("parents".into(), nested);
            } else {
                p.insert("parents".into(), self.seen_by(ctx, parents).await?);
            }
        }
        if query.has("subtree_as_list") {
            let below = self.subtree(id).await?;
            p.insert("subtree".into(), self.seen_by(ctx, below).await?);
        } else if query.has("subtree_as_ids") {
            let below = self.subtree(id).await?;
            p.insert("subtree".into(), nest(id, &below));
        }
        if flag(query, "include_limits") {
            let limits = LIMIT.find(self.db.read(), &[Cond::eq("project_id", id)], 0).await?;
            p.insert("limits".into(), json!(limits));
        }
        Ok(p)
    }

    /// Of these projects, those in which the caller has a role; all of them for an admin.
    async fn seen_by(&self, ctx: &Context, projects: Vec<Record>) -> Result<Value, IdentityError> {
        let mut out = Vec::new();
        for p in projects {
            let mine = ctx.is_admin() || {
                let began = self.facts.now();
                let above: Vec<String> =
                    self.parents(&p).await?.iter().map(|r| r.text("id").to_owned()).collect();
                !self
                    .roles_on(&ctx.user.id, &[], TargetKind::Project, p.text("id"), &above, began)
                    .await?
                    .is_empty()
            };
            if mine {
                out.push(json!({"project": p}));
            }
        }
        Ok(out.into())
    }

    /// Upwards, without the domain.
    async fn parents(&self, p: &Record) -> Result<Vec<Record>, IdentityError> {
        let mut out: Vec<Record> = Vec::new();
        let mut next = p.opt_text("parent_id").map(str::to_owned);
        while let Some(id) = next {
            let Some(parent) = PROJECT.get(self.db.read(), &id).await? else { break };
            if parent.flag("is_domain") || out.iter().any(|o| o.text("id") == id) {
                break;
            }
            next = parent.opt_text("parent_id").map(str::to_owned);
            out.push(parent);
        }
        Ok(out)
    }

    /// Every project below this one.
    pub(crate) async fn subtree(&self, id: &str) -> Result<Vec<Record>, IdentityError> {
        let mut out: Vec<Record> = Vec::new();
        let mut level = vec![id.to_owned()];
        let mut seen = std::collections::HashSet::from([id.to_owned()]);
        while !level.is_empty() {
            let mut below = PROJECT.find_among(self.db.read(), "parent_id", &level).await?;
            // A circle cannot be made through the API; it must not hang us all the same.
            below.retain(|b| seen.insert(b.text("id").to_owned()));
            level = below.iter().map(|b| b.text("id").to_owned()).collect();
            out.extend(below);
        }
        Ok(out)
    }

    pub(crate) async fn update_project(
        &self,
        ctx: &Context,
        id: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        let p = self.project_for(ctx, "identity:update_project", id).await?;
        let changes = SHAPE.changes(body, id)?;
        self.change_project(p, changes).await
    }

    /// Changes a project or a domain.
    pub(crate) async fn change_project(
        &self,
        mut p: Record,
        mut changes: Record,
    ) -> Result<Record, IdentityError> {
        let kind = if p.flag("is_domain") { "domain" } else { "project" };
        let id = p.text("id").to_owned();
        input::may_change(kind, &p, &changes)?;
        input::trim_name(&mut changes);
        for (name, refuse) in [
            ("domain_id", IdentityError::Invalid as fn(String) -> IdentityError),
            ("parent_id", IdentityError::Forbidden),
            ("is_domain", IdentityError::Invalid),
        ] {
            if changes.get(name).is_some_and(|new| *new != p[name]) {
                return Err(refuse(format!("Update of `{name}` is not allowed.")));
            }
        }
        let stops = p.flag("enabled") && changes.get("enabled") == Some(&Value::Bool(false));
        if stops {
            self.may_disable(&p).await?;
        }
        if !p.flag("enabled") && changes.get("enabled") == Some(&Value::Bool(true)) {
            self.may_enable(&p).await?;
        }
        input::merge_options(&mut p, &mut changes);
        p.extend(changes);
        if p["description"].is_null() {
            p.insert("description".into(), "".into());
        }
        let mut change = self.begin().await?;
        PROJECT.update(change.conn(), &p).await.map_err(|e| same_name(e, &p))?;
        if stops {
            subjects::refuse_tokens(change.conn(), Holder::Project, &id, Timestamp::now()).await?;
        }
        change.commit().await?;
        Ok(p)
    }

    async fn may_disable(&self, p: &Record) -> Result<(), IdentityError> {
        if p.flag("is_domain") {
            return Ok(());
        }
        let id = p.text("id");
        if self.subtree(id).await?.iter().any(|b| b.flag("enabled")) {
            return Err(IdentityError::Forbidden(format!(
                "Cannot disable project {id} since its subtree contains enabled projects."
            )));
        }
        Ok(())
    }

    async fn may_enable(&self, p: &Record) -> Result<(), IdentityError> {
        match self.parents(p).await?.iter().find(|a| !a.flag("enabled")) {
            Some(_) => Err(IdentityError::Forbidden(format!(
                "Cannot enable project {} since it has disabled parents.",
                p.text("id")
            ))),
            None => Ok(()),
        }
    }

    pub(crate) async fn delete_project(&self, ctx: &Context, id: &str) -> Result<(), IdentityError> {
        let p = self.project_for(ctx, "identity:delete_project", id).await?;
        if p.flag("is_domain") {
            return self.drop_domain(&p).await;
        }
        input::may_delete("project", &p)?;
        let mut change = self.begin().await?;
        if PROJECT.one(change.conn(), &[Cond::eq("parent_id", id)]).await?.is_some() {
            return Err(IdentityError::Forbidden(format!(
                "Cannot delete the project {id} since it is not a leaf in the hierarchy. Use the cascade option \
                 if you want to delete a whole subtree."
            )));
        }
        forget_project(&mut change, id).await?;
        change.commit().await
    }

    pub(crate) async fn set_tags(
        &self,
        ctx: &Context,
        rule: &str,
        id: &str,
        change: impl FnOnce(Vec<String>) -> Result<Vec<String>, IdentityError>,
    ) -> Result<Vec<String>, IdentityError> {
        let mut p = self.project_for(ctx, rule, id).await?;
        let mut tags = change(tags_of(&p))?;
        tags.sort();
        tags.dedup();
        let schema =
            api::schema::Schema::new(&json!({"type": "object", "properties": {"tags": input::tags()}}));
        schema.check(&json!({"tags": tags}))?;
        p.insert("tags".into(), json!(tags));
        let mut change = self.begin().await?;
        PROJECT.update(change.conn(), &p).await?;
        change.commit().await?;
        Ok(tags)
    }

    /// A domain, whatever the caller may do with it.
    pub(crate) async fn need_domain(&self, id: &str) -> Result<Record, IdentityError> {
        let found = DOMAIN.get(self.db.read(), id).await?;
        found.filter(|d| d.flag("is_domain")).ok_or_else(|| IdentityError::not_found("domain", id))
    }
}

/// The domain that a request means when it names none: the token's.
pub(crate) fn home_domain(ctx: &Context) -> String {
    match &ctx.scope {
        Scope::Domain(d) => d.id.clone(),
        Scope::Project(p) => p.domain.id.clone(),
        Scope::System | Scope::Unscoped => crate::bootstrap::DEFAULT_DOMAIN.to_owned(),
    }
}

pub(crate) fn tags_of(p: &Record) -> Vec<String> {
    crate::subject::ids(p, "tags")
}

fn fill(p: &mut Record) {
    input::default(p, "enabled", true);
    input::default(p, "tags", json!([]));
    input::default(p, "options", json!({}));
    if p.get("description").is_none_or(Value::is_null) {
        p.insert("description".into(), "".into());
    }
}

pub(crate) fn fill_domain(d: &mut Record) {
    fill(d);
    d.insert("is_domain".into(), true.into());
    d.insert("domain_id".into(), Value::Null);
    d.insert("parent_id".into(), Value::Null);
}

fn same_name(e: IdentityError, p: &Record) -> IdentityError {
    let (name, domain) = (p.text("name"), p.flag("is_domain"));
    match e {
        IdentityError::Conflict { .. } if domain => IdentityError::Conflict {
            noun: "domain",
            detail: format!("it is not permitted to have two domains with the same name: {name}"),
        },
        IdentityError::Conflict { .. } => IdentityError::Conflict {
            noun: "project",
            detail: format!(
                "it is not permitted to have two projects with the same name in the same domain: {name}"
            ),
        },
        other => other,
    }
}

/// A project goes, and with it whatever named it.
pub(crate) async fn forget_project(tx: &mut Tx, id: &str) -> Result<(), IdentityError> {
    PROJECT.delete(tx.conn(), id).await?;
    assignments::forget(tx.conn(), Forget::Target, id).await?;
    for kind in [&CREDENTIAL, &APP_CREDENTIAL, &LIMIT, &TRUST] {
        kind.delete_where(tx.conn(), &[Cond::eq("project_id", id)]).await?;
    }
    sqlx::query("UPDATE identity_users SET default_project_id = NULL WHERE default_project_id = $1")
        .bind(id.to_owned())
        .execute(tx.conn())
        .await?;
    sqlx::query("DELETE FROM identity_project_endpoints WHERE project_id = $1")
        .bind(id.to_owned())
        .execute(tx.conn())
        .await?;
    Ok(())
}

fn nest(id: &str, all: &[Record]) -> Value {
    let below: Map<String, Value> = all
        .iter()
        .filter(|r| r.opt_text("parent_id") == Some(id))
        .map(|r| (r.text("id").to_owned(), nest(r.text("id"), all)))
        .collect();
    if below.is_empty() { Value::Null } else { below.into() }
}

/// `tags`, `tags-any`, `not-tags`, `not-tags-any`: comma-separated.
fn keep_tagged(records: &mut Vec<Record>, query: &Query) {
    let split = |v: &str| v.split(',').map(str::to_owned).collect::<Vec<_>>();
    let keep = |records: &mut Vec<Record>, key: &str, all: bool, wanted: bool| {
        let Some(list) = query.get(key).map(split) else { return };
        records.retain(|r| {
            let tags = tags_of(r);
            let has = |t: &String| tags.contains(t);
            wanted == if all { list.iter().all(has) } else { list.iter().any(has) }
        });
    };
    keep(records, "tags", true, true);
    keep(records, "tags-any", false, true);
    keep(records, "not-tags", true, false);
    keep(records, "not-tags-any", false, false);
}
