//! Bringing the mirror of a directory up to date: only a difference is written, and what changes for somebody who is
//! known already ends what is remembered of it.
//!
//! The difference is first looked for outside of any transaction; where there is one, it is worked out again inside, so
//! that of two processes that have read the same only one writes.

use super::SOURCE;
use super::directory::Directory;
use super::entry::Found;
use crate::federation::public_id;
use crate::store::directory::{self as rows, Entity};
use crate::store::record::Fields;
use crate::store::{Record, assignments};
use crate::{Identity, IdentityError};
use sqlx::AnyConnection;
use std::collections::{HashMap, HashSet};

/// What was read: all that there is, or some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    All,
    Some,
}

/// What was read of one kind in one directory.
#[derive(Clone, Copy)]
struct Read<'a> {
    directory: &'a Directory,
    entity: Entity,
    found: &'a [Found],
    extent: Extent,
}

/// What a difference comes to.
#[derive(Default)]
struct Difference {
    /// The public ids of all that was read, in order.
    ids: Vec<String>,
    /// Those that are new: `(local id, public id)`.
    unknown: Vec<(String, String)>,
    new: Vec<Record>,
    changed: Vec<Record>,
    gone: Vec<String>,
}

impl Difference {
    fn is_none(&self) -> bool {
        self.unknown.is_empty() && self.new.is_empty() && !self.ends()
    }

    /// Something that may be remembered is no longer so.
    fn ends(&self) -> bool {
        !self.changed.is_empty() || !self.gone.is_empty()
    }
}

/// The sides of a membership.
#[derive(Clone, Copy)]
pub(super) enum Side<'a> {
    GroupsOf(&'a str),
    UsersOf(&'a str),
}

impl Identity {
    /// Mirrors what was read; the public ids, in order. Of several with one name only the first has one: nobody could
    /// say which is meant.
    pub(super) async fn mirror(
        &self,
        directory: &Directory,
        entity: Entity,
        found: &[Found],
        extent: Extent,
    ) -> Result<Vec<String>, IdentityError> {
        let read = Read { directory, entity, found, extent };
        let first = read.difference(&mut *self.db.read().acquire().await?).await?;
        if first.is_none() {
            return Ok(first.ids);
        }
        let mut ends = first.ends();
        loop {
            let mut change = if ends { self.begin().await? } else { self.begin_aside().await? };
            change.lock(&format!("directory:{}", directory.domain)).await?;
            let difference = read.difference(change.conn()).await?;
            if difference.ends() && !ends {
                ends = true;
                continue;
            }
            read.write(change.conn(), &difference).await?;
            change.commit().await?;
            return Ok(difference.ids);
        }
    }

    /// What is called so in its directory is there no more.
    pub(super) async fn unmirror(&self, id: &str, entity: Entity) -> Result<(), IdentityError> {
        if entity.kind().get(self.db.read(), id).await?.is_none() {
            return Ok(());
        }
        let mut change = self.begin().await?;
        rows::unmirror(change.conn(), entity, id).await?;
        change.commit().await
    }

    /// Makes memberships those that were read.
    pub(super) async fn mirror_members(
        &self,
        side: Side<'_>,
        wanted: Vec<String>,
    ) -> Result<(), IdentityError> {
        let wanted: HashSet<String> = wanted.into_iter().collect();
        let (held, of) = match side {
            Side::GroupsOf(user) => (rows::groups_of(self.db.read(), user).await?, user),
            Side::UsersOf(group) => (rows::users_in(self.db.read(), group).await?, group),
        };
        let held: HashSet<String> = held.into_iter().collect();
        if wanted == held {
            return Ok(());
        }
        let pair = |one: &str| match side {
            Side::GroupsOf(_) => (one.to_owned(), of.to_owned()),
            Side::UsersOf(_) => (of.to_owned(), one.to_owned()),
        };
        // Who is in more groups than before has more roles when it is looked at the next time. Fewer are so at once.
        let ends = held.difference(&wanted).next().is_some();
        let mut change = if ends { self.begin().await? } else { self.begin_aside().await? };
        for one in wanted.difference(&held) {
            let (group, user) = pair(one);
            assignments::join(change.conn(), &group, &user).await?;
        }
        for one in held.difference(&wanted) {
            let (group, user) = pair(one);
            assignments::leave(change.conn(), &group, &user).await?;
        }
        change.commit().await
    }
}

impl Read<'_> {
    async fn difference(&self, on: &mut AnyConnection) -> Result<Difference, IdentityError> {
        let domain = &self.directory.domain;
        let locals: Vec<&str> = self.found.iter().map(|f| f.local.as_str()).collect();
        let some = (self.extent == Extent::Some).then_some(&locals[..]);
        let known: HashMap<String, String> =
            rows::ids(on, domain, self.entity, some).await?.into_iter().collect();
        let names: HashSet<&str> = self.found.iter().map(|f| f.record.text("name")).collect();
        let mut out = Difference::default();
        let mut wanted = Vec::new();
        for one in self.found {
            let id = match known.get(&one.local) {
                Some(id) => id.clone(),
                None => {
                    let id = self.new_public_id(on, &one.local).await?;
                    out.unknown.push((one.local.clone(), id.clone()));
                    id
                }
            };
            wanted.push((id, one));
        }
        let before = match self.extent {
            Extent::All => rows::mirrored(on, domain, self.entity).await?,
            Extent::Some => {
                let ids: Vec<&str> = wanted.iter().map(|(id, _)| id.as_str()).collect();
                let names: Vec<&str> = names.iter().copied().collect();
                rows::mirrored_among(on, domain, self.entity, &ids, &names).await?
            }
        };
        let before: HashMap<&str, &Record> = before.iter().map(|r| (r.text("id"), r)).collect();
        let (mut seen, mut taken) = (HashSet::new(), HashSet::new());
        for (id, one) in wanted {
            if !taken.insert(one.record.text("name")) || !seen.insert(id.clone()) {
                tracing::warn!(domain, id, "several entries of a directory have one name or id");
                continue;
            }
            let record = whole(&one.record, &id, domain);
            match before.get(id.as_str()) {
                None => out.new.push(record),
                Some(b) if differ(b, &record) => out.changed.push(record),
                Some(_) => {}
            }
            out.ids.push(id);
        }
        // Whoever has one of these names but is not among them had it before.
        let gone = |r: &&Record| !seen.contains(r.text("id"));
        out.gone = before.values().copied().filter(gone).map(|r| r.text("id").to_owned()).collect();
        let ids: HashSet<&str> = out.ids.iter().map(String::as_str).collect();
        out.unknown.retain(|(_, id)| ids.contains(id.as_str()));
        Ok(out)
    }

    /// Upstream's public id, but where that is a federated user's.
    async fn new_public_id(&self, on: &mut AnyConnection, local: &str) -> Result<String, IdentityError> {
        let domain = &self.directory.domain;
        let id = public_id(domain, local, self.entity.as_str());
        let taken = self.entity.kind().get(on, &id).await?.is_some_and(|r| r.text("source") != SOURCE);
        Ok(if taken { public_id(domain, local, "directory's") } else { id })
    }

    async fn write(&self, on: &mut AnyConnection, difference: &Difference) -> Result<(), IdentityError> {
        for (local, id) in &difference.unknown {
            rows::add_id(on, &self.directory.domain, local, self.entity, id).await?;
        }
        for id in &difference.gone {
            rows::unmirror(on, self.entity, id).await?;
        }
        // Names may have been exchanged.
        for record in &difference.changed {
            rows::free_name(on, self.entity, record.text("id")).await?;
        }
        for record in &difference.changed {
            self.entity.kind().update(&mut *on, record).await?;
        }
        for record in &difference.new {
            self.entity.kind().insert(&mut *on, record).await?;
        }
        Ok(())
    }
}

fn whole(record: &Record, id: &str, domain: &str) -> Record {
    let mut record = record.clone();
    for (name, value) in [("id", id), ("domain_id", domain), ("source", SOURCE)] {
        record.insert(name.into(), value.into());
    }
    record
}

/// Whether what is known differs from what was read.
fn differ(before: &Record, read: &Record) -> bool {
    let held = |(_, v): &(&String, &serde_json::Value)| !v.is_null();
    before.iter().filter(held).count() != read.len()
        || read.iter().any(|(name, v)| before.get(name) != Some(v))
}
