//! Which roles there are, and what they imply.

use crate::facts::Generation;
use crate::store::assignments::TargetKind;
use crate::store::record::Fields;
use crate::store::{ROLE, assignments, subjects};
use crate::{Identity, IdentityError};
use api::RoleRef;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// All roles and the rules between them; there are tens of them, so they are kept whole.
pub(crate) struct RoleModel {
    roles: HashMap<String, (String, bool)>,
    implied: HashMap<String, Vec<String>>,
}

impl RoleModel {
    /// These roles and every one they imply, directly or not.
    pub(crate) fn closure(&self, ids: impl IntoIterator<Item = String>) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        let mut next: Vec<String> = ids.into_iter().collect();
        while let Some(id) = next.pop() {
            if all.insert(id.clone()) {
                next.extend(self.implied.get(&id).into_iter().flatten().cloned());
            }
        }
        all
    }

    /// The closure as a token names it: by name, without the roles of domains, which only stand for others.
    pub(crate) fn expand(&self, ids: impl IntoIterator<Item = String>) -> Vec<RoleRef> {
        let global = |id: String| match self.roles.get(&id) {
            Some((name, true)) => Some(RoleRef { id, name: name.clone() }),
            _ => None,
        };
        let mut roles: Vec<RoleRef> = self.closure(ids).into_iter().filter_map(global).collect();
        roles.sort_by(|a, b| a.name.cmp(&b.name));
        roles
    }

    /// What a role implies directly.
    pub(crate) fn implied_by(&self, id: &str) -> &[String] {
        self.implied.get(id).map_or(&[], Vec::as_slice)
    }
}

impl Identity {
    pub(crate) async fn role_model(&self, began: Generation) -> Result<Arc<RoleModel>, IdentityError> {
        if let Some(known) = self.facts.roles() {
            return Ok(known);
        }
        let mut roles = HashMap::new();
        for role in ROLE.find(self.db.read(), &[], 0).await? {
            let global = role.opt_text("domain_id").is_none();
            roles.insert(role.text("id").to_owned(), (role.text("name").to_owned(), global));
        }
        let mut implied: HashMap<String, Vec<String>> = HashMap::new();
        for (prior, one) in assignments::implied(self.db.read()).await? {
            implied.entry(prior).or_default().push(one);
        }
        let model = Arc::new(RoleModel { roles, implied });
        self.facts.keep_roles(began, &model);
        Ok(model)
    }

    /// The user's roles on a target, as itself and as a member of its groups and of these, with those inherited from
    /// `above` and the implied ones.
    pub(crate) async fn roles_on(
        &self,
        user: &str,
        groups: &[String],
        kind: TargetKind,
        target: &str,
        above: &[String],
        began: Generation,
    ) -> Result<Vec<RoleRef>, IdentityError> {
        let ids = subjects::role_ids(self.db.read(), user, groups, kind, target, above).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.role_model(began).await?.expand(ids))
    }
}
