//! Mirroring to another cluster: what rbd-mirror daemons are told, and what they say. Blocking calls, each called from a
//! lane.

use std::ffi::c_char;
use std::mem::MaybeUninit;

use super::image::ImageHandle;
use super::manage::{Done, listed};
use super::rados::{IoCtx, Rados};
use super::{check, cstr, decl, string};
use crate::error::{Errno, errno};

/// A mirrored image as librbd describes it.
#[derive(Debug, Clone)]
pub(crate) struct RawMirrorInfo {
    pub(crate) global_id: String,
    /// 0: being disabled; 1: enabled; 2: disabled.
    pub(crate) state: u32,
    pub(crate) primary: bool,
}

/// What one cluster's rbd-mirror says of an image.
#[derive(Debug, Clone)]
pub(crate) struct RawSiteStatus {
    /// Empty for the cluster that was asked.
    pub(crate) mirror_uuid: String,
    pub(crate) state: u32,
    pub(crate) description: String,
    pub(crate) up: bool,
}

/// Another cluster that a pool is mirrored with.
#[derive(Debug, Clone)]
pub(crate) struct RawPeer {
    pub(crate) uuid: String,
    pub(crate) site_name: String,
    pub(crate) mirror_uuid: String,
}

/// A text that librbd writes into a buffer, saying ERANGE and how long it is where it does not fit.
fn text(mut fill: impl FnMut(*mut c_char, &mut usize) -> i64) -> Result<String, Errno> {
    let buffer = listed::<u8, usize>(512, |p, n| fill(p.cast(), n))?;
    let end = buffer.iter().position(|b| *b == 0).unwrap_or(buffer.len());
    Ok(String::from_utf8_lossy(&buffer[..end]).into_owned())
}

impl Rados {
    pub(crate) fn mirror_site_name(&self) -> Result<String, Errno> {
        // SAFETY: `p` has room for `n` bytes.
        text(|p, n| i64::from(unsafe { decl::rbd_mirror_site_name_get(self.raw(), p, n) }))
    }

    pub(crate) fn mirror_site_name_set(&self, name: &str) -> Done {
        let name = cstr(name)?;
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_mirror_site_name_set(self.raw(), name.as_ptr()) }).map(drop)
    }
}

impl IoCtx {
    /// 0: not mirrored; 1: the images that say so; 2: all with a journal.
    pub(crate) fn mirror_mode(&self) -> Result<u32, Errno> {
        let mut mode = 0;
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_mirror_mode_get(self.raw(), &mut mode) })?;
        Ok(mode)
    }

    pub(crate) fn mirror_mode_set(&self, mode: u32) -> Done {
        // SAFETY: a valid io context.
        check(unsafe { decl::rbd_mirror_mode_set(self.raw(), mode) }).map(drop)
    }

    pub(crate) fn mirror_token(&self) -> Result<String, Errno> {
        // SAFETY: `p` has room for `n` bytes.
        text(|p, n| i64::from(unsafe { decl::rbd_mirror_peer_bootstrap_create(self.raw(), p, n) }))
    }

    /// Makes both clusters peers, each of them sending and receiving.
    pub(crate) fn mirror_token_import(&self, token: &str) -> Done {
        let token = cstr(token)?;
        let direction = decl::rbd_mirror_peer_direction_t_RBD_MIRROR_PEER_DIRECTION_RX_TX;
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_mirror_peer_bootstrap_import(self.raw(), direction, token.as_ptr()) })
            .map(drop)
    }

    pub(crate) fn mirror_peers(&self) -> Result<Vec<RawPeer>, Errno> {
        let mut items = listed::<decl::rbd_mirror_peer_site_t, i32>(8, |p, n| {
            // SAFETY: `p` has room for `n` items.
            i64::from(unsafe { decl::rbd_mirror_peer_site_list(self.raw(), p, n) })
        })?;
        let n = i32::try_from(items.len()).map_err(|_| Errno(errno::ERANGE))?;
        // SAFETY: filled by librbd, copied, then cleaned up by it.
        unsafe {
            let copy = |p: &decl::rbd_mirror_peer_site_t| RawPeer {
                uuid: string(p.uuid),
                site_name: string(p.site_name),
                mirror_uuid: string(p.mirror_uuid),
            };
            let out = items.iter().map(copy).collect();
            decl::rbd_mirror_peer_site_list_cleanup(items.as_mut_ptr(), n);
            Ok(out)
        }
    }
}

impl ImageHandle {
    pub(crate) fn mirror_enable(&self, by_snapshots: bool) -> Done {
        let mode = match by_snapshots {
            false => decl::rbd_mirror_image_mode_t_RBD_MIRROR_IMAGE_MODE_JOURNAL,
            true => decl::rbd_mirror_image_mode_t_RBD_MIRROR_IMAGE_MODE_SNAPSHOT,
        };
        // SAFETY: a valid image.
        check(unsafe { decl::rbd_mirror_image_enable2(self.raw(), mode) }).map(drop)
    }

    pub(crate) fn mirror_disable(&self, force: bool) -> Done {
        // SAFETY: a valid image.
        check(unsafe { decl::rbd_mirror_image_disable(self.raw(), force) }).map(drop)
    }

    pub(crate) fn mirror_promote(&self, force: bool) -> Done {
        // SAFETY: a valid image.
        check(unsafe { decl::rbd_mirror_image_promote(self.raw(), force) }).map(drop)
    }

    pub(crate) fn mirror_demote(&self) -> Done {
        // SAFETY: a valid image.
        check(unsafe { decl::rbd_mirror_image_demote(self.raw()) }).map(drop)
    }

    pub(crate) fn mirror_resync(&self) -> Done {
        // SAFETY: a valid image.
        check(unsafe { decl::rbd_mirror_image_resync(self.raw()) }).map(drop)
    }

    /// A snapshot for the mirror to bring over; its id.
    pub(crate) fn mirror_snapshot(&self) -> Result<u64, Errno> {
        let mut id = 0;
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_mirror_image_create_snapshot(self.raw(), &mut id) })?;
        Ok(id)
    }

    pub(crate) fn mirror_info(&self) -> Result<RawMirrorInfo, Errno> {
        // SAFETY: its zeroes are valid; filled by librbd, copied, then cleaned up by it.
        unsafe {
            let mut raw: decl::rbd_mirror_image_info_t = MaybeUninit::zeroed().assume_init();
            let size = size_of_val(&raw);
            check(decl::rbd_mirror_image_get_info(self.raw(), &mut raw, size))?;
            let out =
                RawMirrorInfo { global_id: string(raw.global_id), state: raw.state, primary: raw.primary };
            decl::rbd_mirror_image_get_info_cleanup(&mut raw);
            Ok(out)
        }
    }

    /// What the rbd-mirror of this image's own cluster and those of its peers say.
    pub(crate) fn mirror_status(&self) -> Result<Vec<RawSiteStatus>, Errno> {
        // SAFETY: its zeroes are valid; filled by librbd, copied, then cleaned up by it.
        unsafe {
            let mut raw: decl::rbd_mirror_image_global_status_t = MaybeUninit::zeroed().assume_init();
            let size = size_of_val(&raw);
            check(decl::rbd_mirror_image_get_global_status(self.raw(), &mut raw, size))?;
            let count = usize::try_from(raw.site_statuses_count).unwrap_or(0);
            let sites = match raw.site_statuses.is_null() {
                true => &[][..],
                false => std::slice::from_raw_parts(raw.site_statuses, count),
            };
            let copy = |s: &decl::rbd_mirror_image_site_status_t| RawSiteStatus {
                mirror_uuid: string(s.mirror_uuid),
                state: s.state,
                description: string(s.description),
                up: s.up,
            };
            let out = sites.iter().map(copy).collect();
            decl::rbd_mirror_image_global_status_cleanup(&mut raw);
            Ok(out)
        }
    }
}
