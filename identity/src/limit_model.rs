//! How the limits of a domain and of its projects stand to each other: flat, or strictly in two levels.

use crate::store::record::Fields;
use crate::store::{Cond, LIMIT, PROJECT, REGISTERED_LIMIT, Record};
use crate::{Identity, IdentityError, LimitModel};
use serde_json::Value;
use state::Db;

impl LimitModel {
    pub(crate) fn name(self) -> &'static str {
        match self {
            LimitModel::Flat => "flat",
            LimitModel::StrictTwoLevel => "strict_two_level",
        }
    }

    pub(crate) fn description(self) -> &'static str {
        match self {
            LimitModel::Flat => {
                "Limit enforcement and validation does not take project hierarchy into consideration."
            }
            LimitModel::StrictTwoLevel => {
                "This model requires project hierarchy never exceeds a depth of two"
            }
        }
    }

    /// How deep projects may nest below their domain, where the model says so.
    pub(crate) fn depth(self) -> Option<usize> {
        match self {
            LimitModel::Flat => None,
            LimitModel::StrictTwoLevel => Some(1),
        }
    }

    /// Refuses to start over projects that the model does not know.
    pub(crate) async fn check_projects(self, db: &Db) -> Result<(), IdentityError> {
        if self == LimitModel::Flat {
            return Ok(());
        }
        let sql = "SELECT p.id FROM identity_projects p JOIN identity_projects a ON a.id = p.parent_id \
            WHERE a.is_domain = $1 ORDER BY p.id LIMIT 5";
        let deep: Vec<String> = sqlx::query_scalar(sql).bind(false).fetch_all(db.read()).await?;
        match deep.is_empty() {
            true => Ok(()),
            false => Err(IdentityError::Config(format!(
                "limit_model = \"strict_two_level\" needs every project to be directly below its domain; these are \
                 not: {}",
                deep.join(", ")
            ))),
        }
    }
}

/// What is limited, and where.
fn resource(limit: &Record) -> [Cond; 3] {
    ["service_id", "region_id", "resource_name"].map(|n| Cond::eq(n, limit.text(n)))
}

fn same_resource(a: &Record, b: &Record) -> bool {
    ["service_id", "region_id", "resource_name"].iter().all(|n| a.text(n) == b.text(n))
}

fn value(limit: &Record, name: &str) -> i64 {
    limit.get(name).and_then(Value::as_i64).unwrap_or(0)
}

impl Identity {
    /// Whether these limits, together with those that stand, fit the model.
    pub(crate) async fn check_limits(&self, limits: &[Record]) -> Result<(), IdentityError> {
        if self.config.limit_model == LimitModel::Flat {
            return Ok(());
        }
        for limit in limits {
            if !self.fits(limit, limits).await? {
                let (level, id) = match limit.opt_text("project_id") {
                    Some(id) => ("project_id", id),
                    None => ("domain_id", limit.text("domain_id")),
                };
                return Err(IdentityError::Forbidden(format!(
                    "Invalid resource limit: The resource limit ({level}: {id}, resource_name: {}, resource_limit: \
                     {}, service_id: {}, region_id: {}) doesn't satisfy current hierarchy model..",
                    limit.text("resource_name"),
                    value(limit, "resource_limit"),
                    limit.text("service_id"),
                    limit.opt_text("region_id").unwrap_or("None"),
                )));
            }
        }
        Ok(())
    }

    async fn fits(&self, limit: &Record, together: &[Record]) -> Result<bool, IdentityError> {
        let own = value(limit, "resource_limit");
        match limit.opt_text("project_id") {
            Some(id) => {
                let parent = PROJECT.need(self.db.read(), id).await?;
                let domain = parent.text("parent_id");
                let beside =
                    together.iter().find(|l| l.text("domain_id") == domain && same_resource(l, limit));
                let most = match beside {
                    Some(l) => Some(value(l, "resource_limit")),
                    None => self.limit_of_domain(domain, limit).await?,
                };
                Ok(most.is_none_or(|most| within(own, most)))
            }
            None => {
                let conds = resource(limit);
                let own_projects = [Cond::eq("domain_id", limit.text("domain_id"))];
                let projects = PROJECT.find(self.db.read(), &own_projects, 0);
                let ids: Vec<String> = projects.await?.iter().map(|p| p.text("id").to_owned()).collect();
                let below = LIMIT.find(self.db.read(), &conds, 0).await?;
                let of_ours = |l: &&Record| ids.iter().any(|id| id == l.text("project_id"));
                Ok(below.iter().filter(of_ours).all(|l| within(value(l, "resource_limit"), own)))
            }
        }
    }

    /// A domain's own limit, else the registered default.
    async fn limit_of_domain(&self, domain: &str, of: &Record) -> Result<Option<i64>, IdentityError> {
        let mut conds = resource(of).to_vec();
        let registered = REGISTERED_LIMIT.one(self.db.read(), &conds).await?;
        conds.push(Cond::eq("domain_id", domain));
        if let Some(own) = LIMIT.one(self.db.read(), &conds).await? {
            return Ok(Some(value(&own, "resource_limit")));
        }
        Ok(registered.map(|r| value(&r, "default_limit")))
    }
}

/// -1 is without end.
fn within(limit: i64, most: i64) -> bool {
    most < 0 || (limit >= 0 && limit <= most)
}
