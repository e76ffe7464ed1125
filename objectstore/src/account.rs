//! Accounts: one for each project, named `AUTH_<project>`, and those of further prefixes ([`crate::reseller`]); they
//! exist once something was put into them.

use crate::access::{Access, Need};
use crate::container::{Container, Counts};
use crate::names::ContainerId;
use crate::store::{self, containers::NameRange};
use crate::{ObjectError, ObjectStore};
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use state::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// What users say of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountInfo {
    /// `X-Account-Meta-*`, by the lower-case rest of the name.
    pub meta: BTreeMap<String, String>,
    /// How much it may hold, set by a reseller admin: in all, and of a storage policy (by its name).
    #[serde(flatten)]
    pub quota: Quota,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub policy_quotas: BTreeMap<String, Quota>,
    /// The domain of its project, once somebody of that came; absent, too, where it is the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_domain: Option<String>,
    /// Who of other projects may use the whole account.
    pub acl: Option<AccountAcl>,
    /// Whether ETags are quoted, as RFC 9110 wants it and Swift does not by itself.
    pub quoted_etags: Option<bool>,
    /// Whether nothing in it is changed, whatever the configuration says of all accounts.
    pub read_only: Option<bool>,
}

/// Most objects and bytes; what is absent is not bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quota {
    #[serde(rename = "quota_objects", skip_serializing_if = "Option::is_none")]
    pub objects: Option<u64>,
    #[serde(rename = "quota_bytes", skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// `X-Account-Access-Control`: `user`, `project:user`, `project:*` and the like, by what they may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct AccountAcl {
    /// All that the owner may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub admin: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_only: Vec<String>,
    /// Containers and objects, but not who may use them, nor what is said of the account.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_write: Vec<String>,
}

/// What an account's ACL grants a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountGrant {
    ReadOnly,
    ReadWrite,
    Admin,
}

impl AccountInfo {
    fn quotas(&self) -> (Quota, &BTreeMap<String, Quota>) {
        (self.quota, &self.policy_quotas)
    }
}

impl AccountAcl {
    pub(crate) fn grant(&self, caller: &api::Caller) -> Option<AccountGrant> {
        let named = |list: &[String]| list.iter().any(|item| crate::acl::is_user(item, caller));
        [
            (&self.admin, AccountGrant::Admin),
            (&self.read_write, AccountGrant::ReadWrite),
            (&self.read_only, AccountGrant::ReadOnly),
        ]
        .into_iter()
        .find(|(list, _)| named(list))
        .map(|(_, grant)| grant)
    }
}

/// An account, as this process remembers it.
#[derive(Debug)]
pub struct Account {
    pub project_id: String,
    /// Absent: nothing was ever put into it.
    pub created_at: Option<Timestamp>,
    pub info: AccountInfo,
}

/// What one storage policy holds of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyUsage {
    pub policy: String,
    pub containers: u64,
    pub counts: Counts,
}

/// What an account holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    pub containers: u64,
    pub counts: Counts,
    pub policies: Vec<PolicyUsage>,
}

/// Which containers of an account to list.
#[derive(Debug, Clone, Default)]
pub struct AccountQuery {
    pub prefix: String,
    pub marker: String,
    pub end_marker: String,
    pub delimiter: String,
    pub limit: usize,
    pub reverse: bool,
}

/// One line of an account's listing.
#[derive(Debug, Clone)]
pub enum AccountItem {
    Container(Arc<Container>, Counts),
    Prefix(String),
}

/// Containers that this process has changed and whose rows' counts lag behind.
#[derive(Default)]
pub(crate) struct Dirty(Mutex<HashMap<ContainerId, (Arc<Container>, u64)>>);

impl Dirty {
    /// To be called when a change is durable, before it is acknowledged.
    pub(crate) fn add(&self, container: &Arc<Container>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(container.id).or_insert_with(|| (container.clone(), 0)).1 += 1;
    }

    pub(crate) fn remove(&self, id: ContainerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// All of them, each with how often it has changed.
    pub(crate) fn all(&self) -> Vec<(Arc<Container>, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// A row has caught up with the container as it was after `changes` changes.
    pub(crate) fn clean(&self, id: ContainerId, changes: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&id).is_some_and(|(_, n)| *n == changes) {
            all.remove(&id);
        }
    }

    fn of(&self, project: &str) -> Vec<Arc<Container>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().filter(|(c, _)| c.project_id == project).map(|(c, _)| c.clone()).collect()
    }
}

impl ObjectStore {
    /// What is said of an account that the caller may see.
    pub async fn account(&self, access: &Access, project: &str) -> Result<Arc<Account>, ObjectError> {
        self.check(access, project, None, Need::Look)?;
        self.find_account(project).await
    }

    pub(crate) async fn find_account(&self, project: &str) -> Result<Arc<Account>, ObjectError> {
        let epoch = match self.inner.accounts.get(&project.to_owned()) {
            Ok(account) => return Ok(account),
            Err(epoch) => epoch,
        };
        let (created_at, info) = match store::accounts::find(&self.inner.db, project).await? {
            Some((at, info)) => {
                if info.quoted_etags.is_some() {
                    self.inner.quotes.store(true, Ordering::Relaxed);
                }
                (Some(at), info)
            }
            None => (None, AccountInfo::default()),
        };
        let account = Arc::new(Account { project_id: project.to_owned(), created_at, info });
        self.inner.accounts.put(project.to_owned(), account.clone(), epoch);
        Ok(account)
    }

    /// Changes what is said of an account. Quotas are a reseller admin's to change.
    pub async fn change_account(
        &self,
        access: &Access,
        project: &str,
        change: &(dyn Fn(&mut AccountInfo) -> Result<(), ObjectError> + Sync),
    ) -> Result<(), ObjectError> {
        self.check(access, project, None, Need::Own)?;
        let mut tx = self.inner.db.begin().await?;
        tx.lock(&format!("account:{project}")).await?;
        store::accounts::ensure(&mut tx, project).await?;
        let mut info = store::accounts::info(&mut tx, project).await?;
        let before = info.clone();
        change(&mut info)?;
        if before.quotas() != info.quotas() && !self.is_reseller_admin(access) {
            return Err(ObjectError::Forbidden);
        }
        store::accounts::set_info(&mut tx, project, &info).await?;
        tx.wake(store::CHANGED);
        tx.commit().await?;
        self.announce().await;
        Ok(())
    }

    /// What an account holds: the rows' sums, corrected by what this process knows to have changed since.
    pub async fn account_usage(&self, project: &str) -> Result<Usage, ObjectError> {
        let dirty = self.inner.dirty.of(project);
        let rows = store::containers::usage(&self.inner.db, project).await?;
        let mut policies: Vec<PolicyUsage> = rows
            .into_iter()
            .map(|(policy, containers, counts)| PolicyUsage { policy, containers, counts })
            .collect();
        for container in dirty {
            let Some(row) = store::containers::find_id(&self.inner.db, container.id).await? else { continue };
            let live = self.counts(&container).await?;
            if let Some(p) = policies.iter_mut().find(|p| p.policy == row.policy) {
                p.counts.objects = (p.counts.objects + live.objects).saturating_sub(row.counts.objects);
                p.counts.bytes = (p.counts.bytes + live.bytes).saturating_sub(row.counts.bytes);
            }
        }
        let mut usage = Usage { policies, ..Usage::default() };
        for p in &usage.policies {
            usage.containers += p.containers;
            usage.counts.objects += p.counts.objects;
            usage.counts.bytes += p.counts.bytes;
        }
        Ok(usage)
    }

    /// Lists an account's containers.
    pub async fn list_account(
        &self,
        access: &Access,
        project: &str,
        query: &AccountQuery,
    ) -> Result<Vec<AccountItem>, ObjectError> {
        self.check(access, project, None, Need::Look)?;
        let (mut after, before) = match query.reverse {
            false => (query.marker.clone(), query.end_marker.clone()),
            true => (query.end_marker.clone(), query.marker.clone()),
        };
        let mut items = Vec::new();
        let mut before = before;
        'pages: while items.len() < query.limit {
            let want = query.limit - items.len();
            let range = NameRange {
                after: after.clone(),
                before: before.clone(),
                prefix: query.prefix.clone(),
                reverse: query.reverse,
            };
            let rows = store::containers::list(&self.inner.db, project, &range, want).await?;
            let full = rows.len() == want;
            for row in rows {
                let name = row.name.clone();
                let Some(prefix) = rolled(query, &name) else {
                    let counts = row.counts;
                    items.push(AccountItem::Container(Arc::new(self.read_row(row)?), counts));
                    let bound = if query.reverse { &mut before } else { &mut after };
                    bound.clone_from(&name);
                    continue;
                };
                if prefix != query.marker {
                    items.push(AccountItem::Prefix(prefix.clone()));
                }
                // On behind everything that was rolled up.
                match query.reverse {
                    false => after = format!("{prefix}\u{10ffff}"),
                    true => before = prefix,
                }
                continue 'pages;
            }
            if !full {
                break;
            }
        }
        self.freshen(project, &mut items).await?;
        Ok(items)
    }

    /// The names of an account's containers behind `after` that begin with `prefix`, and when they were made: what S3
    /// tells of all buckets.
    pub(crate) async fn list_buckets(
        &self,
        access: &Access,
        project: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Timestamp)>, ObjectError> {
        self.check(access, project, None, Need::Look)?;
        let (after, before, prefix) = (after.to_owned(), String::new(), prefix.to_owned());
        let range = NameRange { after, before, prefix, reverse: false };
        store::containers::list_names(&self.inner.db, project, &range, limit).await
    }

    /// Replaces the counts of containers that this process has changed by what their index says.
    async fn freshen(&self, project: &str, items: &mut [AccountItem]) -> Result<(), ObjectError> {
        let dirty: HashMap<ContainerId, Arc<Container>> =
            self.inner.dirty.of(project).into_iter().map(|c| (c.id, c)).collect();
        try_join_all(items.iter_mut().map(async |item| {
            if let AccountItem::Container(container, counts) = item
                && dirty.contains_key(&container.id)
            {
                *counts = self.counts(container).await?;
            }
            Ok::<(), ObjectError>(())
        }))
        .await?;
        Ok(())
    }
}

fn rolled(query: &AccountQuery, name: &str) -> Option<String> {
    if query.delimiter.is_empty() {
        return None;
    }
    let rest = name.strip_prefix(query.prefix.as_str())?;
    let at = rest.find(query.delimiter.as_str())? + query.delimiter.len();
    Some(name[..query.prefix.len() + at].to_owned())
}
