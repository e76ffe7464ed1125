//! What the rest of identity asks of directories: to bring somebody up to date, to try a password, and to say that
//! nothing is written.

use super::directory::Directory;
use super::entry::Found;
use super::mirror::{Extent, Side};
use super::{ID_LEN, SOURCE};
use crate::bootstrap::DEFAULT_DOMAIN;
use crate::logins::Login;
use crate::store::directory::Entity;
use crate::store::record::Fields;
use crate::store::subjects::{self, DomainBy, UserRow};
use crate::{Identity, IdentityError};
use api::Query;
use std::sync::Arc;

const READ_ONLY: &str = "LDAP does not support write operations";
const REFUSED: fn(&'static str) -> IdentityError = IdentityError::Unauthenticated;

fn shown(read: Result<(), IdentityError>) -> Result<(), IdentityError> {
    match read {
        Err(IdentityError::Away(_)) => Ok(()),
        other => other,
    }
}

impl Identity {
    /// Looks at a user again if that is due. Users that this cloud keeps need none.
    pub(crate) async fn refresh_user(&self, id: &str) -> Result<(), IdentityError> {
        if id.len() != ID_LEN || self.directories.is_fresh(id) {
            return Ok(());
        }
        self.read_user(id, true).await
    }

    /// Looks at a user now, and at its groups; where `unless_fresh`, only if nobody has done so meanwhile.
    async fn read_user(&self, id: &str, unless_fresh: bool) -> Result<(), IdentityError> {
        let Some((directory, local)) = self.kept_elsewhere(id, Entity::User).await? else {
            return self.forsake(id, Entity::User).await;
        };
        let _reading = directory.reading(id).await;
        if unless_fresh && self.directories.is_fresh(id) {
            return Ok(());
        }
        let Some(entry) = directory.user_with(&directory.settings.users.id, &local).await? else {
            return self.unmirror(id, Entity::User).await;
        };
        let groups = directory.groups_of(&entry).await?;
        let groups = self.mirror(&directory, Entity::Group, &groups, Extent::Some).await?;
        self.mirror(&directory, Entity::User, std::slice::from_ref(&entry), Extent::Some).await?;
        self.mirror_members(Side::GroupsOf(id), groups).await?;
        self.directories.saw(id);
        Ok(())
    }

    /// Nobody vouches for what was a directory's: the domain has none any more.
    async fn forsake(&self, id: &str, entity: Entity) -> Result<(), IdentityError> {
        let row = entity.kind().get(self.db.read(), id).await?;
        match row.is_some_and(|r| r.text("source") == SOURCE) {
            true => self.unmirror(id, entity).await,
            false => Ok(()),
        }
    }

    /// The user of this name: looked for in the domain's directory where it has one.
    pub(crate) async fn user_named(
        &self,
        name: &str,
        domain: &DomainBy,
    ) -> Result<Option<UserRow>, IdentityError> {
        match self.directory_by(domain).await? {
            None => subjects::user_by_name(self.db.read(), name, domain).await,
            Some((id, directory)) => {
                // In the default domain the cloud's own accounts come first: its operator is not to be locked out.
                let own = match id == DEFAULT_DOMAIN {
                    true => subjects::user_by_name(self.db.read(), name, domain).await?,
                    false => None,
                };
                if own.is_some() { Ok(own) } else { self.directory_user(&directory, name).await }
            }
        }
    }

    /// The directory of a domain, with the domain's id.
    async fn directory_by(
        &self,
        domain: &DomainBy,
    ) -> Result<Option<(String, Arc<Directory>)>, IdentityError> {
        if self.directories().await?.is_empty() {
            return Ok(None);
        }
        let Some(domain) = subjects::domain(self.db.read(), domain).await? else { return Ok(None) };
        Ok(self.directory(&domain.id).await?.map(|d| (domain.id, d)))
    }

    async fn directory_user(
        &self,
        directory: &Directory,
        name: &str,
    ) -> Result<Option<UserRow>, IdentityError> {
        let Some(entry) = directory.user_with(&directory.settings.users.name, name).await? else {
            return Ok(None);
        };
        let ids = self.mirror(directory, Entity::User, std::slice::from_ref(&entry), Extent::Some).await?;
        let Some(id) = ids.first() else { return Ok(None) };
        subjects::user_by_id(self.db.read(), id).await
    }

    /// Whether this is the password of a user that a directory keeps. The hash that a user of this cloud costs is
    /// worked out meanwhile, so that who is refused waits as long as if there were no such user.
    pub(crate) async fn log_in_at_directory(
        &self,
        user: &UserRow,
        password: &str,
    ) -> Result<Login, IdentityError> {
        let mut hashed = None;
        let mut hash = std::pin::pin!(self.hasher.verify(password, None));
        let mut trying = std::pin::pin!(self.try_password(user, password));
        let right = tokio::select! {
            right = &mut trying => right,
            done = &mut hash => {
                hashed = Some(done);
                trying.await
            }
        };
        if right? && user.enabled {
            return Ok(Login::Good);
        }
        match hashed {
            Some(done) => done?,
            None => hash.await?,
        };
        Err(REFUSED("wrong user or password, or the user or its domain is disabled"))
    }

    async fn try_password(&self, user: &UserRow, password: &str) -> Result<bool, IdentityError> {
        let found = self.kept_elsewhere(&user.id, Entity::User).await?;
        let (directory, local) = found.ok_or(REFUSED("the user's directory is gone"))?;
        let entry = directory.user_with(&directory.settings.users.id, &local).await?;
        // The user may have been disabled since it was seen.
        let entry = entry.filter(|e| e.record.flag("enabled"));
        match entry {
            Some(Found { dn, .. }) => directory.is_password(&dn, password).await,
            None => Ok(false),
        }
    }

    /// Reads a domain's users where a directory keeps them: those that a query can mean.
    pub(crate) async fn read_users_of(
        &self,
        domain: Option<&str>,
        query: &Query,
    ) -> Result<(), IdentityError> {
        let Some(directory) = self.directory_of(domain).await? else { return Ok(()) };
        let name = &directory.settings.users.name;
        let (found, extent) = match query.get("name").filter(|n| !n.is_empty()) {
            Some(wanted) => (directory.user_with(name, wanted).await?.into_iter().collect(), Extent::Some),
            None => (directory.all_users().await?, Extent::All),
        };
        self.mirror(&directory, Entity::User, &found, extent).await?;
        Ok(())
    }

    /// The same for groups.
    pub(crate) async fn read_groups_of(
        &self,
        domain: Option<&str>,
        query: &Query,
    ) -> Result<(), IdentityError> {
        let Some(directory) = self.directory_of(domain).await? else { return Ok(()) };
        let name = &directory.settings.groups.name;
        let (found, extent) = match query.get("name").filter(|n| !n.is_empty()) {
            Some(wanted) => (directory.group_with(name, wanted).await?.into_iter().collect(), Extent::Some),
            None => (directory.all_groups().await?, Extent::All),
        };
        self.mirror(&directory, Entity::Group, &found, extent).await?;
        Ok(())
    }

    async fn directory_of(&self, domain: Option<&str>) -> Result<Option<Arc<Directory>>, IdentityError> {
        match domain.filter(|d| !d.is_empty()) {
            Some(domain) => self.directory(domain).await,
            None => Ok(None),
        }
    }

    /// Looks at a group again if that is due.
    pub(crate) async fn refresh_group(&self, id: &str) -> Result<(), IdentityError> {
        if id.len() != ID_LEN || self.directories.is_fresh(id) {
            return Ok(());
        }
        let Some((directory, local)) = self.kept_elsewhere(id, Entity::Group).await? else {
            return self.forsake(id, Entity::Group).await;
        };
        let Some(entry) = directory.group_with(&directory.settings.groups.id, &local).await? else {
            return self.unmirror(id, Entity::Group).await;
        };
        self.mirror(&directory, Entity::Group, &[entry], Extent::Some).await?;
        self.directories.saw(id);
        Ok(())
    }

    /// Reads the members of a group that a directory keeps.
    pub(crate) async fn read_members_of(&self, group: &str) -> Result<(), IdentityError> {
        let Some((directory, local)) = self.kept_elsewhere(group, Entity::Group).await? else {
            return Ok(());
        };
        let Some(entry) = directory.group_with(&directory.settings.groups.id, &local).await? else {
            return self.unmirror(group, Entity::Group).await;
        };
        let users = directory.members_of(&entry).await?;
        self.mirror(&directory, Entity::Group, &[entry], Extent::Some).await?;
        let users = self.mirror(&directory, Entity::User, &users, Extent::Some).await?;
        self.mirror_members(Side::UsersOf(group), users).await
    }

    /// Reads the members of a group, if that is due, where they are only to be shown: those last seen will do where its
    /// directory is away.
    pub(crate) async fn refresh_members(&self, group: &str) -> Result<(), IdentityError> {
        let seen = format!("{group} members");
        if group.len() != ID_LEN || self.directories.is_fresh(&seen) {
            return Ok(());
        }
        shown(self.read_members_of(group).await)?;
        self.directories.saw(&seen);
        Ok(())
    }

    /// The same for the groups of a user.
    pub(crate) async fn refresh_membership(&self, user: &str) -> Result<(), IdentityError> {
        shown(self.refresh_user(user).await)
    }

    /// Reads the groups of a user that a directory keeps.
    pub(crate) async fn read_groups_of_user(&self, user: &str) -> Result<(), IdentityError> {
        match user.len() {
            ID_LEN => self.read_user(user, false).await,
            _ => Ok(()),
        }
    }

    /// 403 for whoever would make something where a directory keeps it.
    pub(crate) async fn need_writable(&self, domain: &str) -> Result<(), IdentityError> {
        match self.directories().await?.contains_key(domain) {
            true => Err(IdentityError::Forbidden(READ_ONLY.into())),
            false => Ok(()),
        }
    }

    /// 403 where a directory keeps it.
    pub(crate) async fn need_own(&self, entity: Entity, id: &str) -> Result<(), IdentityError> {
        match self.is_a_directorys(entity, id).await? {
            true => Err(IdentityError::Forbidden(READ_ONLY.into())),
            false => Ok(()),
        }
    }

    async fn is_a_directorys(&self, entity: Entity, id: &str) -> Result<bool, IdentityError> {
        if id.len() != ID_LEN {
            return Ok(false);
        }
        let row = entity.kind().get(self.db.read(), id).await?;
        Ok(row.is_some_and(|r| r.text("source") == SOURCE))
    }

    /// The same for a change of a membership: neither side may be a directory's.
    pub(crate) async fn need_own_members(&self, group: &str, user: &str) -> Result<(), IdentityError> {
        self.need_own(Entity::Group, group).await?;
        match self.is_a_directorys(Entity::User, user).await? {
            false => Ok(()),
            true => Err(IdentityError::Forbidden(format!(
                "Group membership across backend boundaries is not allowed. Group in question is {group}, user is {user}."
            ))),
        }
    }
}
