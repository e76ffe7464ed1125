//! What a change of an object's versions does to its rows.
//!
//! The row `o<name>` shows what the head holds, if that is an object; every other version has a row `v<name>…`.
//! Changes arrive in any order. What the head holds is decided by the RADOS version of the head's write, as for
//! objects without versions; a version is there from the first change that tells of it to the one that removes it,
//! and a tombstone of its own keeps a late one from bringing it back.

use super::entry::{self, Entry, Garbage, Tombstone};
use super::shard::{Committed, Rows};
use crate::ObjectError;
use crate::names::Tag;
use state::Timestamp;

/// A change of one object's versions.
#[derive(Debug, Clone, Default)]
pub(crate) struct VersionChange {
    pub(crate) name: String,
    /// RADOS version of the head's write; zero where the head was not touched.
    pub(crate) written: u64,
    /// What the head holds since then, if it is there.
    pub(crate) head: Option<Entry>,
    /// Versions that have objects of their own.
    pub(crate) behind: Vec<Entry>,
    /// Versions that are no more.
    pub(crate) gone: Vec<Entry>,
    /// A version behind the head whose content has moved: what it is now, and what it was.
    pub(crate) moved: Option<(Entry, Entry)>,
    /// The multipart upload that this completes.
    pub(crate) upload: Option<Tag>,
}

impl VersionChange {
    fn all(&self) -> impl Iterator<Item = &Entry> {
        self.head.iter().chain(&self.behind).chain(&self.gone)
    }

    pub(super) fn touched(&self, keys: &mut Vec<String>) {
        keys.push(entry::object_key(&self.name));
        keys.push(entry::tombstone_key(&self.name));
        for e in self.all().chain(self.moved.iter().map(|(e, _)| e)) {
            keys.push(entry::version_key(&self.name, e.order()));
            keys.push(entry::buried_version_key(&self.name, e.order()));
        }
    }
}

impl Rows {
    pub(super) fn versions(
        &mut self,
        change: &VersionChange,
        now: Timestamp,
    ) -> Result<Committed, ObjectError> {
        let name = change.name.as_str();
        if self.header.closed != 0 && change.head.is_some() {
            return Err(ObjectError::NoSuchContainer);
        }
        for e in change.head.iter().chain(&change.behind) {
            e.tag.into_iter().for_each(|tag| self.remove(entry::intent_key(tag)));
        }
        if let Some(upload) = change.upload {
            self.remove(entry::upload_key(name, upload));
        }
        let mut garbage = Vec::new();
        for gone in &change.gone {
            self.hide_version(name, gone.order())?;
            self.set(
                entry::buried_version_key(name, gone.order()),
                Tombstone { version: 1, since: now.micros(), versions: true }.encode(),
            );
            let old = self.object(name)?;
            if let Some(old) = old.filter(|o| o.order() == gone.order() && o.id() == gone.id()) {
                self.unshow(name, &old, old.version, now);
            }
            garbage.extend(self.bin(gone.garbage(now)));
        }
        if let Some((moved, from)) = &change.moved {
            garbage.extend(self.moved(name, moved, from, now)?);
        }
        let stale = self.head(change, now, &mut garbage)?;
        let shown = self.object(name)?.map(|e| e.id());
        for behind in change.behind.iter().filter(|b| shown != Some(b.id())) {
            self.add_version(name, behind)?;
        }
        Ok(Committed { stale, garbage, ..Committed::default() })
    }

    /// What becomes of the row `o<name>`; whether a later head was reported before.
    fn head(
        &mut self,
        change: &VersionChange,
        now: Timestamp,
        garbage: &mut Vec<(Tag, Garbage)>,
    ) -> Result<bool, ObjectError> {
        let name = change.name.as_str();
        let old = self.object(name)?;
        let newest = old.as_ref().map_or(0, |e| e.version).max(self.buried(name)?.map_or(0, |t| t.version));
        if change.written == 0 || change.written == newest {
            return Ok(false); // not about the head, or repeated after an answer was lost
        }
        if change.written < newest {
            if let Some(head) = change.head.as_ref().filter(|h| old.is_none_or(|o| o.id() != h.id())) {
                self.add_version(name, head)?;
            }
            return Ok(true);
        }
        if let Some(old) = old {
            self.unshow(name, &old, change.written, now);
            let same = |h: &&Entry| h.id() == old.id() && h.order() == old.order() && h.tag != old.tag;
            if change.head.as_ref().filter(same).is_some() {
                garbage.extend(self.bin(old.garbage(now))); // its content has moved
            }
            // The change that put something between this one and the head is still under way.
            if !change.all().any(|e| e.id() == old.id()) {
                self.add_version(name, &old)?;
            }
        }
        match &change.head {
            Some(head) if !head.marker => {
                self.hide_version(name, head.order())?;
                self.remove(entry::tombstone_key(name));
                self.show(name, head);
            }
            head => {
                let stone = Tombstone { version: change.written, since: now.micros(), versions: true };
                self.set(entry::tombstone_key(name), stone.encode());
                if let Some(marker) = head {
                    self.add_version(name, marker)?;
                }
            }
        }
        Ok(false)
    }

    /// Takes an object off the listing. Until something else is listed, a tombstone says since which head.
    fn unshow(&mut self, name: &str, old: &Entry, version: u64, now: Timestamp) {
        self.uncount(name, Some(old));
        self.remove(entry::object_key(name));
        self.set(
            entry::tombstone_key(name),
            Tombstone { version, since: now.micros(), versions: true }.encode(),
        );
    }

    /// A version behind the head has its content elsewhere now. What is left of the old one is garbage, unless the
    /// version was put into the head meanwhile: then whoever did so tells where its content is, and until then the new
    /// tails keep their intent.
    fn moved(
        &mut self,
        name: &str,
        to: &Entry,
        from: &Entry,
        now: Timestamp,
    ) -> Result<Vec<(Tag, Garbage)>, ObjectError> {
        let buried = self.get(&entry::buried_version_key(name, to.order())).is_some();
        let mut garbage = Vec::new();
        match self.version_row(name, to.order())? {
            Some(row) if row.tag == from.tag || row.tag == to.tag => {
                self.set(entry::version_key(name, to.order()), to.encode());
            }
            None if buried => garbage.extend(self.bin(to.garbage(now))),
            _ => return Ok(garbage),
        }
        to.tag.into_iter().for_each(|tag| self.remove(entry::intent_key(tag)));
        garbage.extend(self.bin(from.garbage(now)));
        Ok(garbage)
    }

    fn version_row(&self, name: &str, order: Tag) -> Result<Option<Entry>, ObjectError> {
        let row = self.get(&entry::version_key(name, order));
        Ok(row.map(|v| Entry::decode(v)).transpose()?)
    }

    /// Adds a version's row, unless it is there or has been removed.
    fn add_version(&mut self, name: &str, e: &Entry) -> Result<(), ObjectError> {
        let order = e.order();
        if self.get(&entry::buried_version_key(name, order)).is_some()
            || self.version_row(name, order)?.is_some()
        {
            return Ok(());
        }
        if let Some(due) = e.delete_at {
            self.set(entry::expiry_key(due, name), Vec::new());
        }
        self.header.versions += 1;
        self.header.version_bytes += e.size;
        self.set(entry::version_key(name, order), Entry { order: Some(order), ..e.clone() }.encode());
        Ok(())
    }

    fn hide_version(&mut self, name: &str, order: Tag) -> Result<(), ObjectError> {
        if let Some(old) = self.version_row(name, order)? {
            self.header.versions = self.header.versions.saturating_sub(1);
            self.header.version_bytes = self.header.version_bytes.saturating_sub(old.size);
            self.remove(entry::version_key(name, order));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "versions_tests.rs"]
mod tests;
