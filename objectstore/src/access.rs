//! Who may do what in an account.
//!
//! A project owns the account of its id. Inside of it, the operator roles may do everything and the reader
//! roles may look; everybody else, and whoever has no token, may what a container's ACLs grant. A bucket policy comes
//! before all of these: what it denies nobody may, the owner neither (but for the policy itself, so that nobody locks
//! themselves out), and what it allows needs no other grant. It holds for both doors: Swift's requests are the S3
//! actions that they come to.
//!
//! An object may have an ACL of its own, where S3 set one. It then takes the place of the container's for reading it;
//! [`Reading`] carries the question from the look-up to where the object's metadata are known.

use crate::account::AccountGrant;
use crate::acl::{self, Counting, Grant};
use crate::bucket_policy::{Question, Verdict};
use crate::container::{Container, ContainerInfo};
use crate::grants::{self, Permission};
use crate::meta::ObjectMeta;
use crate::sharing::Ownership;
use crate::{ObjectError, ObjectStore, reseller};
use api::Caller;
use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Who asks.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Absent: nobody in particular.
    pub caller: Option<Arc<Caller>>,
    /// The service that asks on the caller's behalf, with a token of its own.
    pub(crate) service: Option<Arc<Caller>>,
    /// The page that sent the browser here.
    pub referer: Option<String>,
    /// The request itself was signed with a key of an account or a container (TempURL, FormPost): it may do there what
    /// it asks for.
    pub(crate) signed: Option<Signed>,
    /// What the ACL of an account grants, and of which project's account.
    pub(crate) granted: Option<(String, AccountGrant)>,
    /// ACLs name the caller by ids alone: the account is of another domain than names are.
    pub(crate) only_ids: bool,
    /// What has expired is still there for this request, until it is removed.
    pub(crate) opens_expired: bool,
    /// What for, as bucket policies see it.
    pub(crate) asks: Option<Asks>,
}

/// Whose key signed a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) project: String,
    /// The key is this container's: it is good for nothing else in the account.
    pub(crate) container: Option<String>,
}

/// A request as bucket policies see it.
#[derive(Clone)]
pub(crate) struct Asks {
    /// `s3:GetObject`
    pub(crate) action: &'static str,
    /// Empty where it is about the bucket.
    pub(crate) key: String,
    pub(crate) facts: Arc<dyn Facts>,
    /// The tags of the object, where a policy wants to know them.
    pub(crate) tags: Vec<(String, String)>,
}

impl fmt::Debug for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.action, self.key)
    }
}

/// What a door knows of a request.
pub(crate) trait Facts: Send + Sync {
    /// The values of a condition key (in lower case), none where the request has none.
    fn of(&self, key: &str) -> Vec<String>;
}

pub(crate) const GET: &str = "s3:GetObject";
pub(crate) const PUT: &str = "s3:PutObject";
pub(crate) const DELETE: &str = "s3:DeleteObject";

impl Access {
    pub fn of(caller: Arc<Caller>) -> Self {
        Access { caller: Some(caller), ..Access::default() }
    }

    pub fn project(&self) -> Option<&str> {
        self.caller.as_ref()?.project().map(|p| p.id.as_str())
    }

    /// What the ACL of a project's account grants.
    pub(crate) fn granted_in(&self, project: &str) -> Option<AccountGrant> {
        self.granted.as_ref().filter(|(of, _)| of == project).map(|(_, grant)| *grant)
    }

    /// The same caller with another request: a copy's source, one of many keys, a segment.
    pub(crate) fn asking(&self, action: &'static str, key: &str) -> Access {
        let mut access = self.clone();
        if let Some(asks) = &mut access.asks {
            asks.action = action;
            asks.key = key.to_owned();
            asks.tags.clear();
        }
        access
    }
}

/// What for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Read an object.
    Read,
    /// Write, change or remove an object.
    Write,
    /// List a container, see its metadata.
    List,
    /// See an account, list its containers.
    Look,
    /// See a container's ACL as S3 shows it.
    ReadAcl,
    /// Change a container's ACL as S3 does.
    WriteAcl,
    /// Make, change or remove containers; change the account.
    Own,
}

/// A container whose objects the caller may read, or some of them.
pub(crate) struct Reading {
    container: Arc<Container>,
    caller: Option<Arc<Caller>>,
    /// The ACLs decide; the container's says this.
    by_acl: Option<bool>,
    /// The caller may list the container.
    lists: bool,
}

impl Deref for Reading {
    type Target = Arc<Container>;

    fn deref(&self) -> &Arc<Container> {
        &self.container
    }
}

impl Reading {
    /// Refuses an object that the caller may not use so. To be asked for every object that is opened through this.
    pub(crate) fn admit(&self, meta: &ObjectMeta, wanted: Permission) -> Result<(), ObjectError> {
        let Some(container) = self.by_acl else { return Ok(()) };
        let caller = self.caller.as_deref();
        let owner =
            !meta.owner.is_empty() && caller.and_then(Caller::project).is_some_and(|p| p.id == meta.owner);
        let allowed = match &meta.grants {
            _ if owner => true,
            Some(grants) => grants::allow(grants, caller, wanted, self.container.info.ignores_public()),
            None => container,
        };
        if allowed { Ok(()) } else { Err(ObjectError::Forbidden) }
    }

    /// Whether an object is not there is only for those to know who could read it, or list the container.
    pub(crate) fn absent(&self, e: ObjectError) -> ObjectError {
        match e {
            ObjectError::NoSuchObject if self.by_acl == Some(false) && !self.lists => ObjectError::Forbidden,
            e => e,
        }
    }
}

impl ContainerInfo {
    /// Whether ACLs that open the container to everybody do not count.
    pub(crate) fn ignores_public(&self) -> bool {
        self.sharing.public_access.is_some_and(|b| b.ignore_acls)
    }

    pub(crate) fn has_public_acl(&self) -> bool {
        acl::is_public(&self.read)
            || acl::is_public(&self.write)
            || self.sharing.grants.iter().any(grants::Grant::is_public)
    }

    fn same_acl(&self, other: &ContainerInfo) -> bool {
        self.read == other.read && self.write == other.write && self.sharing.grants == other.sharing.grants
    }
}

impl Container {
    /// What the bucket policy says of a request.
    fn verdict(&self, access: &Access, need: Need) -> Verdict {
        let Some(rules) = &self.rules else { return Verdict::Silent };
        let (action, key) = match &access.asks {
            Some(asks) => (asks.action, asks.key.as_str()),
            None => (implied(need), ""),
        };
        let facts = |key: &str| match (key.strip_prefix("s3:existingobjecttag/"), &access.asks) {
            (_, None) => Vec::new(),
            (Some(tag), Some(asks)) => {
                asks.tags.iter().filter(|(k, _)| k == tag).map(|(_, v)| v.clone()).collect()
            }
            (None, Some(_)) if matches!(key, "s3:resourceaccount" | "aws:resourceaccount") => {
                vec![self.project_id.clone()]
            }
            (None, Some(asks)) => asks.facts.of(key),
        };
        let caller = access.caller.as_deref();
        match rules.ask(&Question { action, bucket: &self.name, key, caller, facts: &facts }) {
            Verdict::Allow if self.closed_to(access) => Verdict::Silent,
            verdict => verdict,
        }
    }

    /// Whether public access is restricted, and the caller is of another project than the bucket.
    fn closed_to(&self, access: &Access) -> bool {
        self.info.sharing.public_access.is_some_and(|b| b.restrict_buckets)
            && access.project() != Some(reseller::split(&self.project_id).1)
            && self.rules.as_ref().is_some_and(|r| r.is_public())
    }

    /// Whether it is open to everybody: by its policy.
    pub(crate) fn has_public_policy(&self) -> bool {
        self.rules.as_ref().is_some_and(|r| r.is_public())
    }
}

/// The action of a request that says none.
fn implied(need: Need) -> &'static str {
    match need {
        Need::Read => GET,
        Need::Write => PUT,
        Need::List => "s3:ListBucket",
        Need::ReadAcl => "s3:GetBucketAcl",
        Need::WriteAcl => "s3:PutBucketAcl",
        Need::Look | Need::Own => "s3:",
    }
}

impl ObjectStore {
    pub(crate) fn is_reseller_admin(&self, access: &Access) -> bool {
        access.caller.as_ref().is_some_and(|c| c.has_role(&self.inner.config.reseller_admin_role))
    }

    /// Whether the caller owns the account: they see ACLs and keys.
    pub(crate) fn is_owner(&self, access: &Access, project: &str) -> bool {
        let roles = reseller::operator_roles(&self.inner.config, project);
        let operator = |c: &Arc<Caller>| roles.iter().any(|r| c.has_role(r));
        self.is_reseller_admin(access)
            || access.granted_in(project) == Some(AccountGrant::Admin)
            || (self.is_home(access, project) && access.caller.as_ref().is_some_and(operator))
    }

    /// Whether an account is of the caller's project, and what must come beside the caller's token is there.
    pub(crate) fn is_home(&self, access: &Access, account: &str) -> bool {
        access.project() == Some(reseller::split(account).1)
            && reseller::admits(&self.inner.config, account, access.service.as_deref())
    }

    /// Whose the objects of a container are, and whether S3's ACLs count there.
    pub(crate) fn ownership(&self, info: &ContainerInfo) -> Ownership {
        info.sharing.ownership.unwrap_or(self.inner.config.s3_object_ownership)
    }

    /// Refuses what is not allowed. Without a container only what the account's own roles allow is.
    pub(crate) fn check(
        &self,
        access: &Access,
        project: &str,
        container: Option<&Container>,
        need: Need,
    ) -> Result<(), ObjectError> {
        if self.passes(access, project, container, need)? {
            return Ok(());
        }
        let granted = container.is_some_and(|c| granted(&c.info, access, need));
        if granted { Ok(()) } else { Err(ObjectError::Forbidden) }
    }

    /// Whether a request passes whatever the ACLs say; an error where it does not whatever they say.
    fn passes(
        &self,
        access: &Access,
        project: &str,
        container: Option<&Container>,
        need: Need,
    ) -> Result<bool, ObjectError> {
        if self.is_reseller_admin(access) {
            return Ok(true);
        }
        let signed = access.signed.as_ref().is_some_and(|s| {
            s.project == project
                && s.container.as_ref().is_none_or(|own| container.is_some_and(|c| c.name == *own))
        });
        let granted = access.granted_in(project);
        let owns = signed || self.is_owner(access, project) || granted == Some(AccountGrant::ReadWrite);
        if container.is_some_and(|c| c.info.sharing.requester_pays)
            && !owns
            && !self.is_home(access, project)
            && !agrees_to_pay(access)
        {
            return Err(ObjectError::Forbidden);
        }
        match container.map_or(Verdict::Silent, |c| c.verdict(access, need)) {
            Verdict::Deny if owns && keeps_policy(access) => {}
            Verdict::Deny => return Err(ObjectError::Forbidden),
            Verdict::Allow => return Ok(true),
            Verdict::Silent => {}
        }
        let looks = matches!(need, Need::Read | Need::List | Need::Look | Need::ReadAcl);
        let reader = |c: &Arc<Caller>| self.inner.config.reader_roles.iter().any(|r| c.has_role(r));
        let reads = looks && granted.is_some()
            || looks && self.is_home(access, project) && access.caller.as_ref().is_some_and(reader);
        Ok(owns || reads)
    }

    /// As `check`, for one container; looks at the object's tags where the bucket policy wants to know them.
    pub(crate) async fn admit(
        &self,
        access: &Access,
        container: &Container,
        need: Need,
    ) -> Result<(), ObjectError> {
        let access = self.with_tags(access, container).await?;
        self.check(&access, &container.project_id, Some(container), need)
    }

    /// A container to read an object of. What the container's ACL does not allow, the object's own may.
    pub(crate) async fn reading(
        &self,
        access: &Access,
        container: Arc<Container>,
    ) -> Result<Reading, ObjectError> {
        let access = self.with_tags(access, &container).await?;
        let caller = access.caller.clone();
        if self.passes(&access, &container.project_id, Some(&container), Need::Read)? {
            return Ok(Reading { container, caller, by_acl: None, lists: true });
        }
        let lists = granted(&container.info, &access, Need::List);
        let by_acl = granted(&container.info, &access, Need::Read);
        if self.ownership(&container.info) == Ownership::BucketOwnerEnforced {
            return match by_acl {
                true => Ok(Reading { container, caller, by_acl: None, lists }),
                false => Err(ObjectError::Forbidden),
            };
        }
        Ok(Reading { container, caller, by_acl: Some(by_acl), lists })
    }

    /// A container for the ACL of one of its objects: without an ACL of its own, the object has its owner's alone.
    pub(crate) async fn acl_reading(
        &self,
        access: &Access,
        container: Arc<Container>,
    ) -> Result<Reading, ObjectError> {
        let access = self.with_tags(access, &container).await?;
        let passes = self.passes(&access, &container.project_id, Some(&container), Need::Own)?;
        let enforced = self.ownership(&container.info) == Ownership::BucketOwnerEnforced;
        match passes {
            false if enforced => Err(ObjectError::Forbidden),
            passes => {
                let (caller, by_acl) = (access.caller.clone(), (!passes).then_some(false));
                Ok(Reading { container, caller, by_acl, lists: passes })
            }
        }
    }

    /// The access with the tags of the object that it asks for, where the bucket policy wants to know them.
    async fn with_tags<'a>(
        &self,
        access: &'a Access,
        container: &Container,
    ) -> Result<Cow<'a, Access>, ObjectError> {
        let (Some(rules), Some(asks)) = (&container.rules, &access.asks) else {
            return Ok(Cow::Borrowed(access));
        };
        if !rules.wants_tags() || asks.key.is_empty() {
            return Ok(Cow::Borrowed(access));
        }
        let tags = match self.stat_object(container, &asks.key).await {
            Ok((meta, _)) => meta.tags,
            Err(ObjectError::NoSuchObject) => Vec::new(),
            Err(e) => return Err(e),
        };
        Ok(Cow::Owned(Access { asks: Some(Asks { tags, ..asks.clone() }), ..access.clone() }))
    }

    /// Refuses a change that opens a container which is to stay closed.
    pub(crate) fn check_opening(before: &ContainerInfo, after: &Container) -> Result<(), ObjectError> {
        let Some(block) = after.info.sharing.public_access else { return Ok(()) };
        let acl = block.block_acls && after.info.has_public_acl() && !after.info.same_acl(before);
        let policy = block.block_policy
            && before.sharing.policy != after.info.sharing.policy
            && after.has_public_policy();
        if acl || policy { Err(ObjectError::Forbidden) } else { Ok(()) }
    }
}

/// Whether somebody who is known says that they pay for what they ask.
fn agrees_to_pay(access: &Access) -> bool {
    let says = |asks: &Asks| asks.facts.of("s3:x-amz-request-payer").iter().any(|v| v == "requester");
    access.project().is_some() && access.asks.as_ref().is_some_and(says)
}

/// The owner always gets at the policy.
fn keeps_policy(access: &Access) -> bool {
    let of_policy = ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"];
    access.asks.as_ref().is_some_and(|a| of_policy.contains(&a.action))
}

/// What a container's ACLs grant.
fn granted(info: &ContainerInfo, access: &Access, need: Need) -> bool {
    let (caller, private) = (access.caller.as_deref(), info.ignores_public());
    let counting = Counting { private, only_ids: access.only_ids };
    let by = |acl: &str| acl::grants(acl, caller, access.referer.as_deref(), counting);
    let rest = |p: Permission| grants::allow(&info.sharing.grants, caller, p, private);
    match need {
        Need::Read => by(&info.read).objects,
        Need::List => by(&info.read).listing || rest(Permission::Read),
        Need::Write => by(&info.write) == Grant { objects: true, listing: true } || rest(Permission::Write),
        Need::ReadAcl => rest(Permission::ReadAcp),
        Need::WriteAcl => rest(Permission::WriteAcp),
        Need::Look | Need::Own => false,
    }
}
