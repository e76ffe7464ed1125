//! Who may do what in an account.
//!
//! A project owns the account of its id. Inside of it, the operator roles may do everything and the reader
//! roles may look; everybody else, and whoever has no token, may what a container's ACLs grant.

use crate::acl::{self, Grant};
use crate::container::ContainerInfo;
use crate::{ObjectError, ObjectStore};
use api::Caller;
use std::sync::Arc;

/// Who asks.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Absent: nobody in particular.
    pub caller: Option<Arc<Caller>>,
    /// The page that sent the browser here.
    pub referer: Option<String>,
    /// The URL itself was signed by the account (TempURL): this one request is allowed.
    pub signed: bool,
}

impl Access {
    pub fn of(caller: Arc<Caller>) -> Self {
        Access { caller: Some(caller), ..Access::default() }
    }

    pub fn project(&self) -> Option<&str> {
        self.caller.as_ref()?.project().map(|p| p.id.as_str())
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
    /// Make, change or remove containers; change the account.
    Own,
}

impl ObjectStore {
    pub(crate) fn is_reseller_admin(&self, access: &Access) -> bool {
        access.caller.as_ref().is_some_and(|c| c.has_role(&self.inner.config.reseller_admin_role))
    }

    /// Whether the caller owns the account: they see ACLs and keys.
    pub(crate) fn is_owner(&self, access: &Access, project: &str) -> bool {
        let operator = |c: &Arc<Caller>| self.inner.config.operator_roles.iter().any(|r| c.has_role(r));
        self.is_reseller_admin(access)
            || (access.project() == Some(project) && access.caller.as_ref().is_some_and(operator))
    }

    /// Refuses what is not allowed. Without a container only what the account's own roles allow is.
    pub(crate) fn check(
        &self,
        access: &Access,
        project: &str,
        container: Option<&ContainerInfo>,
        need: Need,
    ) -> Result<(), ObjectError> {
        if access.signed || self.is_owner(access, project) {
            return Ok(());
        }
        let looks = matches!(need, Need::Read | Need::List | Need::Look);
        let reader = |c: &Arc<Caller>| self.inner.config.reader_roles.iter().any(|r| c.has_role(r));
        if looks && access.project() == Some(project) && access.caller.as_ref().is_some_and(reader) {
            return Ok(());
        }
        let by = |acl: &str| acl::grants(acl, access.caller.as_deref(), access.referer.as_deref());
        let granted = match (container, need) {
            (None, _) | (_, Need::Look | Need::Own) => false,
            (Some(info), Need::Read) => by(&info.read).objects,
            (Some(info), Need::List) => by(&info.read).listing,
            (Some(info), Need::Write) => by(&info.write) == Grant { objects: true, listing: true },
        };
        if granted { Ok(()) } else { Err(ObjectError::Forbidden) }
    }
}
