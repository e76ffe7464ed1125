//! Names without an image: what a process leaves behind that dies in the middle of a create or a removal.
//!
//! librbd lists a new image before it makes it. A removal takes it into the trash, from the list, and then out of the
//! trash. So whoever is cut short in between leaves a name that `rbd ls` shows and nobody can open.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::time::Duration;

use super::{Rbd, Removed};
use crate::error::Error;

/// The object that lists the images of a place: `name_<name>` leads to an id, `id_<id>` to a name.
const DIRECTORY: &str = "rbd_directory";
/// The object that lists what is in the trash.
const TRASH: &str = "rbd_trash";

/// A string as Ceph encodes it.
fn encoded(out: &mut BytesMut, text: &str) {
    out.put_u32_le(u32::try_from(text.len()).unwrap_or(u32::MAX));
    out.put_slice(text.as_bytes());
}

fn decoded(mut value: Bytes) -> Option<String> {
    let len = usize::try_from(value.try_get_u32_le().ok()?).ok()?;
    String::from_utf8(value.get(..len)?.to_vec()).ok()
}

impl Rbd {
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
        let named = self.listed(name).await?.is_some() || self.exists(name).await?;
        // librbd goes on with a removal that it has begun: what that has left in the trash nobody else is shown.
        match self.remove(name).await {
            Ok(()) => return Ok(Removed::Gone),
            // Without an image it says these.
            Err(Error::NotFound { .. } | Error::NoSpace { .. }) if named => {}
            Err(Error::NotFound { .. }) => return Ok(Removed::Absent),
            Err(e) => return Err(e),
        }
        if let Some(id) = self.listed(name).await? {
            if self.is_there(&format!("rbd_header.{id}")).await? {
                // It was on its way into the trash.
                return self.trash_move(name, Duration::ZERO).await.map(|()| Removed::Trashed);
            }
            let mut input = BytesMut::new();
            encoded(&mut input, name);
            encoded(&mut input, &id);
            self.pool().exec(DIRECTORY, "rbd", "dir_remove_image", input.freeze()).await?;
        }
        match self.pool().remove(&format!("rbd_id.{name}")).await {
            Err(e) if !e.is_not_found() => Err(e),
            _ => Ok(Removed::Gone),
        }
    }

    /// Removes an image that can be opened, also where an earlier removal was cut short while librbd took it back out
    /// of the trash: as long as that stands there, it calls the image busy.
    pub(super) async fn remove_again(&self, name: &str) -> Result<(), Error> {
        let busy = match self.remove(name).await {
            Err(e) if e.is_busy() => e,
            r => return r,
        };
        let Some(id) = self.listed(name).await? else { return Err(busy) };
        let mut input = BytesMut::new();
        encoded(&mut input, &id);
        match self.pool().exec(TRASH, "rbd", "trash_remove", input.freeze()).await {
            Ok(_) => self.remove(name).await,
            Err(Error::NotFound { .. }) => Err(busy),
            Err(e) => Err(e),
        }
    }

    async fn is_there(&self, object: &str) -> Result<bool, Error> {
        match self.pool().stat(object).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }
}
