//! Live migration of an image to another place of its cluster, and what one leaves that was cut short.
//!
//! librbd moves the source into the trash, notes the migration in its header, makes the target, and says in both headers
//! that it is prepared; giving up, it removes the target and takes the source back out of the trash. Where it finds no room
//! in the middle of either, or its process dies, the source stays in the trash, where nobody sees it by its name. At the end
//! of a commit the target stands on its own before the source goes: cut short there, the source stays in the trash, too.

use bytes::{Buf, Bytes, BytesMut};

use super::manage::blocking;
use super::remnant::{DIRECTORY, Entry, TRASH, encoded};
use super::{CreateOptions, Progress, Rbd};
use crate::OptionalExt as _;
use crate::cluster::Work;
use crate::error::Error;
use crate::ffi::manage::{MigrationStep, migration_state};
use crate::rados::{Pool, WriteOp};

/// How far a live migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migration {
    /// There is none.
    None,
    /// It was cut short while it was prepared or given up: it is to be aborted.
    Unsettled,
    /// The target serves; not everything has come over.
    Prepared,
    /// Everything has come over.
    Executed,
}

/// What the header of a migration's source, or of its target, says.
struct Note {
    of_source: bool,
    state: u8,
}

impl Note {
    const SOURCE: u8 = 1;
    const TARGET: u8 = 2;
    const PREPARING: u8 = 1;
    /// The states in which the target serves.
    const PREPARED: u8 = 2;
    const EXECUTED: u8 = 4;

    fn target_serves(&self) -> bool {
        (Self::PREPARED..=Self::EXECUTED).contains(&self.state)
    }

    /// Reads one as Ceph keeps it (`cls::rbd::MigrationSpec`); `None` where it is no such thing.
    fn read(mut v: Bytes) -> Option<Note> {
        let version = v.try_get_u8().ok()?;
        // Compatible version, length; the other's pool.
        let take = |v: &mut Bytes, n: usize| (v.len() >= n).then(|| v.advance(n));
        take(&mut v, 5)?;
        let kind = v.try_get_u8().ok().filter(|kind| [Self::SOURCE, Self::TARGET].contains(kind))?;
        take(&mut v, 8)?;
        // The other's namespace, name and id.
        for _ in 0..3 {
            let n = usize::try_from(v.try_get_u32_le().ok()?).ok()?;
            take(&mut v, n)?;
        }
        let snapshots = usize::try_from(v.try_get_u32_le().ok()?).ok()?;
        take(&mut v, snapshots.checked_mul(16)?)?;
        // Overlap, flatten, mirroring; in the first version that was all of these.
        take(&mut v, if version >= 1 { 8 + 1 + 1 } else { 8 })?;
        Some(Note { of_source: kind == Self::SOURCE, state: v.try_get_u8().ok()? })
    }
}

impl Rbd {
    /// Begins a live migration to another place of the same cluster: from here on the image is opened there
    /// (`target`), and reads what has not come over yet from here. It must not be open when this begins.
    pub async fn migration_prepare(
        &self,
        image: &str,
        to: &Pool,
        target: &str,
        options: CreateOptions,
    ) -> Result<(), Error> {
        let path = || self.pool.path("migrate image", image);
        if self.pool.cluster() != to.cluster() {
            return Err(Error::invalid(format!("{}: the target is in another cluster", path())));
        }
        let (io, to) = (self.pool.io().await?, to.io().await?);
        let (i, t, options) = (image.to_owned(), target.to_owned(), options.raw());
        blocking(&self.pool, Work::Short, path, &io.clone(), move || {
            io.migration_prepare(&i, &to, &t, &options)
        })
        .await
    }

    /// How far the live migration is that this image, by its name in its place, is the source or the target of.
    /// `NotFound`: there is no such image.
    pub async fn migration_status(&self, image: &str) -> Result<Migration, Error> {
        // librbd would open it, and wait for ever for who prepares it, who may have been killed.
        if let Some(id) = self.id_of(image).await?
            && self.note(&id).await?.is_some_and(|note| note.state == Note::PREPARING)
        {
            return Ok(Migration::Unsettled);
        }
        let i = image.to_owned();
        match self.run(Work::Short, "look at migration of", image, move |io| io.migration_status(&i)).await {
            Ok(state) => Ok(match migration_state(state) {
                (true, true) => Migration::Executed,
                (true, false) => Migration::Prepared,
                (false, _) => Migration::Unsettled,
            }),
            Err(Error::Invalid { .. }) => Ok(Migration::None),
            Err(e) => Err(e),
        }
    }

    /// Brings over what has not come yet. `image` is the target.
    pub async fn migration_execute(&self, image: &str, progress: Progress) -> Result<(), Error> {
        self.migration(image, MigrationStep::Execute, progress).await
    }

    /// Ends a migration: the source goes. `image` is the target.
    pub async fn migration_commit(&self, image: &str) -> Result<(), Error> {
        self.migration(image, MigrationStep::Commit, Box::new(|_, _| {})).await
    }

    /// Gives a migration up: the target goes, the source is as it was. `image` is the target.
    pub async fn migration_abort(&self, image: &str) -> Result<(), Error> {
        self.migration(image, MigrationStep::Abort, Box::new(|_, _| {})).await
    }

    async fn migration(&self, image: &str, step: MigrationStep, progress: Progress) -> Result<(), Error> {
        let i = image.to_owned();
        self.run(Work::Long, "migrate image", image, move |io| io.migration(&i, step, &progress)).await
    }

    /// The images of this name that a migration has put into the trash, each with what its header says of it. Those whose
    /// header is gone are none any more: their entries go.
    async fn migrating(&self, name: &str) -> Result<Vec<(String, Option<Note>)>, Error> {
        let all = self.pool().omap_get_all(TRASH, "id_").await.optional()?.unwrap_or_default();
        let mut found = Vec::new();
        for entry in all.into_iter().filter_map(|(k, v)| Entry::read(&k, v)) {
            if entry.source != Entry::MIGRATION || entry.name != name {
                continue;
            }
            if self.is_there(&format!("rbd_header.{}", entry.id)).await? {
                let note = self.source_note(&entry.id).await?;
                found.push((entry.id, note));
            } else {
                self.forget(&entry.id).await?;
            }
        }
        Ok(found)
    }

    async fn note(&self, id: &str) -> Result<Option<Note>, Error> {
        Ok(self.header(id, "migration_get").await?.and_then(Note::read))
    }

    /// What a migration's source says.
    async fn source_note(&self, id: &str) -> Result<Option<Note>, Error> {
        Ok(self.note(id).await?.filter(|note| note.of_source))
    }

    /// The image with this id is in no migration any more.
    async fn end_migration(&self, id: &str) -> Result<(), Error> {
        self.header(id, "migration_remove").await.map(drop)
    }

    /// Asks the header of an image in migration; `None` where it is in none.
    async fn header(&self, id: &str, method: &str) -> Result<Option<Bytes>, Error> {
        match self.pool().exec(&format!("rbd_header.{id}"), "rbd", method, Bytes::new()).await {
            Err(Error::Invalid { .. } | Error::NotFound { .. }) => Ok(None),
            r => r.map(Some),
        }
    }

    /// The image with this id is not in the trash any more.
    async fn forget(&self, id: &str) -> Result<(), Error> {
        let mut input = BytesMut::new();
        encoded(&mut input, id);
        self.pool().exec(TRASH, "rbd", "trash_remove", input.freeze()).await.optional().map(drop)
    }

    /// Takes a migration's source back out of the trash where its target does not serve and librbd did not live, or find
    /// the room, to do it itself; what there is of the target goes. Twice is no error, and neither is it where there is
    /// nothing to do. `NoSpace`: there is no room yet. Nobody else may be at the migration.
    pub async fn migration_recover(&self, image: &str, to: &Rbd, target: &str) -> Result<(), Error> {
        let mut found = self.migrating(image).await?;
        if let Some(id) = self.id_of(image).await?
            && found.iter().all(|(trashed, _)| *trashed != id)
            && let Some(note) = self.source_note(&id).await?
        {
            found.push((id, Some(note)));
        }
        for (id, note) in found {
            let serves = note.as_ref().is_some_and(Note::target_serves);
            match self.id_of(image).await? {
                Some(other) if other != id => continue,
                None if serves && to.exists(target).await? => continue,
                // It is in the trash, or on its way back from there.
                _ => {}
            }
            if note.is_some() {
                if let Some(unmade) = to.id_of(target).await? {
                    to.end_migration(&unmade).await?;
                    to.remove_or_trash(target).await?;
                }
                self.end_migration(&id).await?;
            }
            self.untrash(&id, image).await?;
        }
        Ok(())
    }

    /// Whether no source of this name waits in the trash for a target that does not stand on its own. (Such a target may look
    /// like any image: what it is stands in its header last.)
    pub async fn migration_is_over(&self, image: &str) -> Result<bool, Error> {
        let all = self.migrating(image).await?;
        Ok(all.iter().all(|(_, note)| note.as_ref().is_some_and(|n| n.state == Note::EXECUTED)))
    }

    /// Removes the source of a migration from the trash whose target stands on its own: its commit was cut short. Twice is
    /// no error.
    pub async fn migration_sweep(&self, image: &str) -> Result<(), Error> {
        for (id, note) in self.migrating(image).await? {
            if note.is_some_and(|n| n.state == Note::EXECUTED) {
                self.end_migration(&id).await?;
                let source = self.open_by_id(&id, false).await?;
                let emptied = source.snap_remove_all().await;
                source.close().await?;
                emptied?;
                self.trash_remove(&id, true).await.optional()?;
            }
        }
        Ok(())
    }

    /// Brings an image back that a migration put into the trash, which librbd does for itself alone.
    async fn untrash(&self, id: &str, name: &str) -> Result<(), Error> {
        let name_object = format!("rbd_id.{name}");
        let (mut named, mut listed) = (BytesMut::new(), BytesMut::new());
        encoded(&mut named, id);
        encoded(&mut listed, name);
        encoded(&mut listed, id);
        let naming = WriteOp::new().create_exclusive().exec("rbd", "set_id", named.freeze());
        let done = [
            self.pool().write_op(&name_object, naming).await.map(drop),
            self.pool().exec(DIRECTORY, "rbd", "dir_add_image", listed.freeze()).await.map(drop),
        ];
        for step in done {
            match step {
                // It has come so far before; or there is another of this name.
                Err(Error::Exists { .. }) if self.id_of(name).await?.as_deref() == Some(id) => {}
                r => r?,
            }
        }
        self.forget(id).await
    }

    /// The id of the image with this name.
    pub(super) async fn id_of(&self, name: &str) -> Result<Option<String>, Error> {
        let id =
            self.pool().exec(&format!("rbd_id.{name}"), "rbd", "get_id", Bytes::new()).await.optional()?;
        Ok(id.and_then(super::remnant::decoded))
    }
}
