//! Management of an open image: blocking calls, each called from a lane.

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::ptr;

use super::image::{ImageHandle, Progress, on_progress};
use super::manage::{Done, RawLink, link, listed, no_progress, progress_arg};
use super::{check, cstr, decl, luks, string};
use crate::error::{Errno, errno};

/// A snapshot, as librbd lists it.
#[derive(Debug, Clone)]
pub(crate) struct RawSnap {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) created: i64,
    /// 0: the user's own; 1: of a group; 2: in the trash, because clones still need it; 3: mirroring's.
    pub(crate) kind: u32,
}

/// What librbd knows about an image.
#[derive(Debug, Clone)]
pub(crate) struct RawInfo {
    pub(crate) id: String,
    pub(crate) size: u64,
    pub(crate) object_size: u64,
    pub(crate) order: u8,
    pub(crate) features: u64,
    pub(crate) flags: u64,
    pub(crate) overlap: u64,
    pub(crate) data_pool_id: i64,
    pub(crate) created: i64,
    pub(crate) block_name_prefix: String,
}

impl ImageHandle {
    pub(crate) fn size(&self) -> Result<u64, Errno> {
        let mut size = 0;
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_get_size(self.raw(), &mut size) })?;
        Ok(size)
    }

    pub(crate) fn info(&self) -> Result<RawInfo, Errno> {
        // SAFETY: every out-parameter lives through its call; the structure's zeroes are valid.
        unsafe {
            let raw = self.raw();
            let mut stat: decl::rbd_image_info_t = MaybeUninit::zeroed().assume_init();
            check(decl::rbd_stat(raw, &mut stat, size_of::<decl::rbd_image_info_t>()))?;
            let (mut features, mut flags, mut overlap) = (0, 0, 0);
            check(decl::rbd_get_features(raw, &mut features))?;
            check(decl::rbd_get_flags(raw, &mut flags))?;
            check(decl::rbd_get_overlap(raw, &mut overlap))?;
            let mut created = decl::timespec { tv_sec: 0, tv_nsec: 0 };
            check(decl::rbd_get_create_timestamp(raw, &mut created))?;
            let mut id = [0u8; 128];
            check(decl::rbd_get_id(raw, id.as_mut_ptr().cast(), id.len()))?;
            Ok(RawInfo {
                id: string(id.as_ptr().cast()),
                size: stat.size,
                object_size: stat.obj_size,
                order: u8::try_from(stat.order).unwrap_or(0),
                features,
                flags,
                overlap,
                data_pool_id: decl::rbd_get_data_pool_id(raw),
                created: created.tv_sec,
                block_name_prefix: string(stat.block_name_prefix.as_ptr()),
            })
        }
    }

    pub(crate) fn update_features(&self, features: u64, enabled: bool) -> Done {
        // SAFETY: a valid image.
        check(unsafe { decl::rbd_update_features(self.raw(), features, u8::from(enabled)) }).map(drop)
    }

    pub(crate) fn resize(&self, size: u64, allow_shrink: bool, p: &Progress) -> Done {
        // SAFETY: the progress callback's argument lives through the call.
        check(unsafe {
            decl::rbd_resize2(self.raw(), size, allow_shrink, Some(on_progress), progress_arg(p))
        })
        .map(drop)
    }

    /// The parent, and of the snapshot that it is a clone of the name, and whether that was deleted.
    pub(crate) fn parent(&self) -> Result<Option<(RawLink, u64, String, bool)>, Errno> {
        // SAFETY: librbd fills both; copied, then cleaned up by it.
        unsafe {
            let mut image: decl::rbd_linked_image_spec_t = MaybeUninit::zeroed().assume_init();
            let mut snap: decl::rbd_snap_spec_t = MaybeUninit::zeroed().assume_init();
            match check(decl::rbd_get_parent(self.raw(), &mut image, &mut snap)) {
                Err(Errno(errno::ENOENT)) => return Ok(None),
                Err(e) => return Err(e),
                Ok(_) => {}
            }
            let deleted =
                snap.namespace_type == decl::rbd_snap_namespace_type_t_RBD_SNAP_NAMESPACE_TYPE_TRASH;
            let out = (link(&image), snap.id, string(snap.name), deleted);
            decl::rbd_linked_image_spec_cleanup(&mut image);
            decl::rbd_snap_spec_cleanup(&mut snap);
            Ok(Some(out))
        }
    }

    /// The clones of this image's snapshots (of the one that is open, where one is).
    pub(crate) fn children(&self, descendants: bool) -> Result<Vec<RawLink>, Errno> {
        let call = if descendants { decl::rbd_list_descendants } else { decl::rbd_list_children3 };
        let mut items = listed::<decl::rbd_linked_image_spec_t, usize>(32, |p, n| {
            // SAFETY: `p` has room for `n` items.
            i64::from(unsafe { call(self.raw(), p, n) })
        })?;
        // SAFETY: filled by librbd, copied, then cleaned up by it.
        unsafe {
            let out = items.iter().map(|i| link(i)).collect();
            decl::rbd_linked_image_spec_list_cleanup(items.as_mut_ptr(), items.len());
            Ok(out)
        }
    }

    /// All snapshots, those in other namespaces than the user's too.
    pub(crate) fn snaps(&self) -> Result<Vec<RawSnap>, Errno> {
        let mut items = listed::<decl::rbd_snap_info_t, i32>(32, |p, n| {
            // SAFETY: `p` has room for `n` items. The return value is their number.
            let r = unsafe { decl::rbd_snap_list(self.raw(), p, n) };
            if let Ok(got) = i32::try_from(check(r).unwrap_or(0))
                && r >= 0
            {
                *n = got;
            }
            i64::from(r)
        })?;
        let mut out = Vec::with_capacity(items.len());
        for i in &items {
            // SAFETY: the names were filled by librbd; out-parameters live through their calls. A snapshot that
            // was removed meanwhile has no time stamp any more.
            unsafe {
                let mut kind = 0;
                let mut at = decl::timespec { tv_sec: 0, tv_nsec: 0 };
                let known = check(decl::rbd_snap_get_namespace_type(self.raw(), i.id, &mut kind)).is_ok()
                    && check(decl::rbd_snap_get_timestamp(self.raw(), i.id, &mut at)).is_ok();
                if known {
                    let name = string(i.name);
                    out.push(RawSnap { id: i.id, name, size: i.size, created: at.tv_sec, kind });
                }
            }
        }
        if !items.is_empty() {
            // The list ends with an entry whose name is null; librbd's own end call walks up to it.
            free_snaps(&mut items);
        }
        Ok(out)
    }

    pub(crate) fn snap_exists(&self, name: &str) -> Result<bool, Errno> {
        let name = cstr(name)?;
        let mut exists = false;
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_snap_exists(self.raw(), name.as_ptr(), &mut exists) })?;
        Ok(exists)
    }

    pub(crate) fn snap_create(&self, name: &str) -> Done {
        let (name, p) = (cstr(name)?, no_progress());
        // SAFETY: arguments live through the call.
        check(unsafe {
            decl::rbd_snap_create2(self.raw(), name.as_ptr(), 0, Some(on_progress), progress_arg(&p))
        })
        .map(drop)
    }

    /// Removes a snapshot; `unprotect`: also a protected one.
    pub(crate) fn snap_remove(&self, name: &str, unprotect: bool) -> Done {
        let (name, p) = (cstr(name)?, no_progress());
        let flags = if unprotect { 1 } else { 0 }; // RBD_SNAP_REMOVE_UNPROTECT
        // SAFETY: arguments live through the call.
        check(unsafe {
            decl::rbd_snap_remove2(self.raw(), name.as_ptr(), flags, Some(on_progress), progress_arg(&p))
        })
        .map(drop)
    }

    pub(crate) fn snap_rename(&self, from: &str, to: &str) -> Done {
        let (from, to) = (cstr(from)?, cstr(to)?);
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_snap_rename(self.raw(), from.as_ptr(), to.as_ptr()) }).map(drop)
    }

    pub(crate) fn snap_rollback(&self, name: &str, p: &Progress) -> Done {
        let name = cstr(name)?;
        // SAFETY: arguments live through the call.
        check(unsafe {
            decl::rbd_snap_rollback_with_progress(
                self.raw(),
                name.as_ptr(),
                Some(on_progress),
                progress_arg(p),
            )
        })
        .map(drop)
    }

    pub(crate) fn snap_protect(&self, name: &str, protect: bool) -> Done {
        let call = if protect { decl::rbd_snap_protect } else { decl::rbd_snap_unprotect };
        let name = cstr(name)?;
        // SAFETY: arguments live through the call.
        check(unsafe { call(self.raw(), name.as_ptr()) }).map(drop)
    }

    pub(crate) fn snap_is_protected(&self, name: &str) -> Result<bool, Errno> {
        let name = cstr(name)?;
        let mut protected = 0;
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_snap_is_protected(self.raw(), name.as_ptr(), &mut protected) })?;
        Ok(protected != 0)
    }

    /// Lets the image stand at a snapshot (by its id, trash included), read-only.
    pub(crate) fn snap_set(&self, id: u64) -> Done {
        // SAFETY: a valid image.
        check(unsafe { decl::rbd_snap_set_by_id(self.raw(), id) }).map(drop)
    }

    pub(crate) fn flatten(&self, p: &Progress) -> Done {
        // SAFETY: the progress callback's argument lives through the call.
        check(unsafe { decl::rbd_flatten_with_progress(self.raw(), Some(on_progress), progress_arg(p)) })
            .map(drop)
    }

    pub(crate) fn sparsify(&self, grain: usize, p: &Progress) -> Done {
        // SAFETY: the progress callback's argument lives through the call.
        check(unsafe {
            decl::rbd_sparsify_with_progress(self.raw(), grain, Some(on_progress), progress_arg(p))
        })
        .map(drop)
    }

    pub(crate) fn rebuild_object_map(&self, p: &Progress) -> Done {
        // SAFETY: the progress callback's argument lives through the call.
        check(unsafe { decl::rbd_rebuild_object_map(self.raw(), Some(on_progress), progress_arg(p)) })
            .map(drop)
    }

    pub(crate) fn metadata_get(&self, key: &str) -> Result<String, Errno> {
        let key = cstr(key)?;
        let value = listed::<u8, usize>(1024, |p, n| {
            // SAFETY: `p` has room for `n` bytes.
            i64::from(unsafe { decl::rbd_metadata_get(self.raw(), key.as_ptr(), p.cast(), n) })
        })?;
        let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
        Ok(String::from_utf8_lossy(&value[..end]).into_owned())
    }

    pub(crate) fn metadata_set(&self, key: &str, value: &str) -> Done {
        let (key, value) = (cstr(key)?, cstr(value)?);
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_metadata_set(self.raw(), key.as_ptr(), value.as_ptr()) }).map(drop)
    }

    pub(crate) fn metadata_remove(&self, key: &str) -> Done {
        let key = cstr(key)?;
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_metadata_remove(self.raw(), key.as_ptr()) }).map(drop)
    }

    /// Up to `max` (key, value) pairs after a key.
    pub(crate) fn metadata_list(&self, after: &str, max: u64) -> Result<Vec<(String, String)>, Errno> {
        let after = cstr(after)?;
        let (mut key_cap, mut val_cap) = (4096usize, 16384usize);
        loop {
            let (mut keys, mut vals) = (vec![0u8; key_cap], vec![0u8; val_cap]);
            let (mut key_len, mut val_len) = (key_cap, val_cap);
            // SAFETY: both buffers have the room that is said.
            let r = check(unsafe {
                decl::rbd_metadata_list(
                    self.raw(),
                    after.as_ptr(),
                    max,
                    keys.as_mut_ptr().cast(),
                    &mut key_len,
                    vals.as_mut_ptr().cast(),
                    &mut val_len,
                )
            });
            match r {
                Ok(_) => {
                    let split = |buf: &[u8], len: usize| -> Vec<String> {
                        let text = |s: &[u8]| String::from_utf8_lossy(s).into_owned();
                        let mut all: Vec<_> =
                            buf[..len.min(buf.len())].split(|b| *b == 0).map(text).collect();
                        all.pop(); // behind the last NUL
                        all
                    };
                    return Ok(split(&keys, key_len).into_iter().zip(split(&vals, val_len)).collect());
                }
                Err(Errno(errno::ERANGE)) if key_cap < 1 << 24 => {
                    key_cap = key_len.max(key_cap * 2);
                    val_cap = val_len.max(val_cap * 2);
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Takes the exclusive lock.
    pub(crate) fn lock_acquire(&self) -> Done {
        // SAFETY: a valid image.
        check(unsafe { decl::rbd_lock_acquire(self.raw(), decl::rbd_lock_mode_t_RBD_LOCK_MODE_EXCLUSIVE) })
            .map(drop)
    }

    pub(crate) fn lock_release(&self) -> Done {
        // SAFETY: a valid image.
        check(unsafe { decl::rbd_lock_release(self.raw()) }).map(drop)
    }

    pub(crate) fn lock_owned(&self) -> Result<bool, Errno> {
        let mut owner = 0;
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_is_exclusive_lock_owner(self.raw(), &mut owner) })?;
        Ok(owner != 0)
    }

    /// Who owns the exclusive lock.
    pub(crate) fn lock_owners(&self) -> Result<Vec<String>, Errno> {
        let mut mode = 0;
        let items = listed::<*mut c_char, usize>(8, |p, n| {
            // SAFETY: `p` has room for `n` pointers.
            i64::from(unsafe { decl::rbd_lock_get_owners(self.raw(), &mut mode, p, n) })
        });
        let mut items = match items {
            Err(Errno(errno::ENOENT)) => return Ok(Vec::new()),
            r => r?,
        };
        // SAFETY: filled by librbd, copied, then cleaned up by it.
        unsafe {
            let out = items.iter().map(|p| string(*p)).collect();
            decl::rbd_lock_get_owners_cleanup(items.as_mut_ptr(), items.len());
            Ok(out)
        }
    }

    pub(crate) fn lock_break(&self, owner: &str) -> Done {
        let owner = cstr(owner)?;
        let mode = decl::rbd_lock_mode_t_RBD_LOCK_MODE_EXCLUSIVE;
        // SAFETY: arguments live through the call.
        check(unsafe { decl::rbd_lock_break(self.raw(), mode, owner.as_ptr()) }).map(drop)
    }

    /// (address, client id, cookie) of everybody who has the image open for writing.
    pub(crate) fn watchers(&self) -> Result<Vec<(String, i64, u64)>, Errno> {
        let mut items = listed::<decl::rbd_image_watcher_t, usize>(8, |p, n| {
            // SAFETY: `p` has room for `n` items.
            i64::from(unsafe { decl::rbd_watchers_list(self.raw(), p, n) })
        })?;
        // SAFETY: filled by librbd, copied, then cleaned up by it.
        unsafe {
            let out = items.iter().map(|w| (string(w.addr), w.id, w.cookie)).collect();
            decl::rbd_watchers_list_cleanup(items.as_mut_ptr(), items.len());
            Ok(out)
        }
    }

    /// Unlocks a LUKS image (LUKS2, else LUKS1).
    pub(crate) fn unlock(&self, luks2: bool, passphrase: &[u8]) -> Done {
        let _alone = luks::alone();
        // The header says which it is.
        let alg = decl::rbd_encryption_algorithm_t_RBD_ENCRYPTION_ALGORITHM_AES256;
        let (passphrase, passphrase_size) = (passphrase.as_ptr().cast(), passphrase.len());
        // SAFETY: the options live through the call, which copies the passphrase.
        check(unsafe {
            if luks2 {
                let mut o = decl::rbd_encryption_luks2_format_options_t { alg, passphrase, passphrase_size };
                let format = decl::rbd_encryption_format_t_RBD_ENCRYPTION_FORMAT_LUKS2;
                decl::rbd_encryption_load(self.raw(), format, (&raw mut o).cast(), size_of_val(&o))
            } else {
                let mut o = decl::rbd_encryption_luks1_format_options_t { alg, passphrase, passphrase_size };
                let format = decl::rbd_encryption_format_t_RBD_ENCRYPTION_FORMAT_LUKS1;
                decl::rbd_encryption_load(self.raw(), format, (&raw mut o).cast(), size_of_val(&o))
            }
        })
        .map(drop)
    }
}

/// Frees the names in a list of snapshots.
fn free_snaps(items: &mut Vec<decl::rbd_snap_info_t>) {
    // librbd's `rbd_snap_list_end` frees names until it meets a null one: there is always one behind.
    items.push(decl::rbd_snap_info_t { id: 0, size: 0, name: ptr::null() });
    // SAFETY: the names were allocated by librbd; the list ends with a null name.
    unsafe { decl::rbd_snap_list_end(items.as_mut_ptr()) };
    items.clear();
}
