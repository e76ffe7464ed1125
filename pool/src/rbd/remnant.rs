//! What a process leaves behind that dies in the middle of a create, an open or a removal: names without an image, and
//! watchers without a client.
//!
//! librbd lists a new image before it makes it. A removal notes it in the trash, takes its name and then the list's entry
//! away, says that it is in the trash, and then takes it out of there. So whoever is cut short in between leaves a name
//! that `rbd ls` shows and nobody can open, or an entry of the trash that is on its way in or out for ever: librbd calls
//! that busy, and shows removals nobody but whoever goes on with them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::time::Duration;

use super::{Image, Rbd, Removed};
use crate::OptionalExt as _;
use crate::error::Error;

/// The object that lists the images of a place: `name_<name>` leads to an id, `id_<id>` to a name.
pub(super) const DIRECTORY: &str = "rbd_directory";
/// The object that lists what is in the trash.
pub(super) const TRASH: &str = "rbd_trash";

/// How long a watcher may take to answer; one that takes longer is alive all the same.
const NOTIFY: Duration = Duration::from_secs(2);

/// A string as Ceph encodes it.
pub(super) fn encoded(out: &mut BytesMut, text: &str) {
    out.put_u32_le(u32::try_from(text.len()).unwrap_or(u32::MAX));
    out.put_slice(text.as_bytes());
}

pub(super) fn decoded(mut value: Bytes) -> Option<String> {
    let len = usize::try_from(value.try_get_u32_le().ok()?).ok()?;
    String::from_utf8(value.get(..len)?.to_vec()).ok()
}

/// An image in the trash, also one that librbd does not list.
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) name: String,
    /// Who has put it there.
    pub(super) source: u8,
    state: u8,
}

impl Entry {
    /// A migration, whose source it is.
    pub(super) const MIGRATION: u8 = 2;
    /// It is where it is to be.
    const SETTLED: u8 = 0;
    const MOVING: u8 = 1;
    const RESTORING: u8 = 3;

    /// Reads an entry as Ceph keeps it; `None` before there were states.
    pub(super) fn read(key: &str, mut value: Bytes) -> Option<Entry> {
        // Version, compatible version, length.
        value.try_get_u8().ok().filter(|version| *version >= 2)?;
        (value.len() >= 5).then(|| value.advance(5))?;
        let source = value.try_get_u8().ok()?;
        let len = usize::try_from(value.try_get_u32_le().ok()?).ok()?;
        let name = String::from_utf8(value.get(..len)?.to_vec()).ok()?;
        // Two times stand before the state.
        let state = *value.get(len + 16)?;
        Some(Entry { id: key.strip_prefix("id_")?.to_owned(), name, source, state })
    }
}

impl Rbd {
    /// Ends what was begun with images in the trash and cut short on their way in or out: they are in there. Whether
    /// there were such. Nobody else may be at them.
    async fn settle(&self, which: impl Fn(&Entry) -> bool) -> Result<bool, Error> {
        let all = self.pool().omap_get_all(TRASH, "id_").await.optional()?.unwrap_or_default();
        let between = |e: &Entry| matches!(e.state, Entry::MOVING | Entry::RESTORING) && which(e);
        let all: Vec<_> = all.into_iter().filter_map(|(k, v)| Entry::read(&k, v)).filter(between).collect();
        for entry in &all {
            let mut input = BytesMut::new();
            encoded(&mut input, &entry.id);
            input.put_u8(Entry::SETTLED);
            input.put_u8(entry.state);
            match self.pool().exec(TRASH, "rbd", "trash_state_set", input.freeze()).await {
                Err(e) if !e.is_not_found() => return Err(e),
                _ => {}
            }
        }
        Ok(!all.is_empty())
    }

    /// Ends the move of an image into the trash that its process did not live to end; until then it is busy. Whether
    /// there was such a one. Nobody else may be at it.
    pub async fn trash_settle(&self, id: &str) -> Result<bool, Error> {
        self.settle(|e| e.id == id).await
    }

    /// The id that the directory has for a name.
    async fn listed(&self, name: &str) -> Result<Option<String>, Error> {
        let key = format!("name_{name}");
        match self.pool().omap_get_keys(DIRECTORY, [key.clone()]).await {
            Ok(mut found) => Ok(found.remove(&key).and_then(decoded)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Removes what is left of an image that cannot be opened. `Absent`: nothing is.
    pub(super) async fn remove_remnant(&self, name: &str) -> Result<Removed, Error> {
        self.settle(|e| e.name == name).await?;
        let listed = self.listed(name).await?;
        let named = listed.is_some() || self.exists(name).await?;
        let moved = match &listed {
            Some(id) => self.is_there(&format!("rbd_header.{id}")).await?,
            None => false,
        };
        if moved {
            // It was on its way into the trash, perhaps with snapshots that clones keep.
            self.trash_move(name, Duration::ZERO).await?;
        }
        // librbd goes on with a removal that it has begun: what that has left in the trash nobody else is shown.
        match self.remove(name).await {
            Ok(()) => return Ok(Removed::Gone),
            Err(Error::NotFound { .. }) if moved => return Ok(Removed::Trashed),
            // Without an image it says these.
            Err(Error::NotFound { .. } | Error::NoSpace { .. }) if named => {}
            Err(Error::NotFound { .. }) => return Ok(Removed::Absent),
            Err(e) => return Err(e),
        }
        if let Some(id) = self.listed(name).await? {
            let mut input = BytesMut::new();
            encoded(&mut input, name);
            encoded(&mut input, &id);
            self.pool().exec(DIRECTORY, "rbd", "dir_remove_image", input.freeze()).await?;
        }
        self.remove_name(name).await?;
        Ok(Removed::Gone)
    }

    /// Removes the object that leads from a name to an image.
    async fn remove_name(&self, name: &str) -> Result<(), Error> {
        self.pool().remove(&format!("rbd_id.{name}")).await.optional().map(drop)
    }

    /// Removes a name that a renaming gave an image and that was cut short: the new name is there first, and the
    /// directory lists the image by the old one until the end. Whether it was such a name; the image stays. Nobody else
    /// may be at it.
    pub(super) async fn remove_second_name(&self, name: &str) -> Result<bool, Error> {
        if self.listed(name).await?.is_some() {
            return Ok(false);
        }
        let leads = self.pool().read(&format!("rbd_id.{name}"), 0, 1024).await.optional()?;
        let Some(id) = leads.and_then(decoded) else { return Ok(false) };
        let key = format!("id_{id}");
        let listed = self.pool().omap_get_keys(DIRECTORY, [key.clone()]).await.optional()?;
        let first = listed.and_then(|mut found| found.remove(&key)).and_then(decoded);
        if first.is_none() {
            return Ok(false);
        }
        self.remove_name(name).await?;
        Ok(true)
    }

    /// Removes an image that can be opened, also where an earlier removal was cut short while librbd took it back out
    /// of the trash: as long as that stands there, it calls the image busy.
    pub(super) async fn remove_again(&self, name: &str) -> Result<(), Error> {
        let busy = match self.remove(name).await {
            Err(e) if e.is_busy() => e,
            r => return r,
        };
        let Some(id) = self.listed(name).await? else {
            // It has its name back, but is not listed yet: it stays in the trash, and goes from there.
            if !self.settle(|e| e.name == name).await? {
                return Err(busy);
            }
            self.remove_name(name).await?;
            return self.remove(name).await;
        };
        let mut input = BytesMut::new();
        encoded(&mut input, &id);
        match self.pool().exec(TRASH, "rbd", "trash_remove", input.freeze()).await {
            Ok(_) => self.remove(name).await,
            Err(Error::NotFound { .. }) => Err(busy),
            Err(e) => Err(e),
        }
    }

    /// Whether another client has an image open that this handle has open for writing.
    ///
    /// An OSD that gets the watch of a client which has died meanwhile notes the watcher with the object and knows nothing
    /// of it itself: nobody ever times it out, as long as the object's metadata stay in the OSD's cache, and librbd calls
    /// such an image open. A notification reaches those alone that the OSD knows of. (An empty one is librbd's old word
    /// for "read the header again": no user of the image minds it.)
    pub(super) async fn is_alive_elsewhere(&self, image: &Image) -> Result<bool, Error> {
        let header = format!("rbd_header.{}", image.info().await?.id);
        let heard = self.pool().notify(&header, Bytes::new(), NOTIFY).await?;
        Ok(heard.acks.len() + heard.timed_out.len() > 1)
    }

    pub(super) async fn is_there(&self, object: &str) -> Result<bool, Error> {
        match self.pool().stat(object).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }
}
