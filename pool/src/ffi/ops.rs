//! Compound operations: the safe description (`rados::op`) becomes librados' op when it is submitted, and
//! what each step gave is taken out when it is done.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_int};
use std::ptr;
use std::sync::Arc;

use bytes::Bytes;

use super::completion::{Done, RadosPending, ReadBuf, submit_rados};
use super::rados::IoCtx;
use super::{bytes as copy, cstr, decl, string};
use crate::error::{Errno, errno};
use crate::rados::op::{OmapPage, ReadResult, ReadStep, WriteStep};

struct WriteRaw(decl::rados_write_op_t);
// SAFETY: an op is used by one thread at a time: built, submitted, released.
unsafe impl Send for WriteRaw {}
impl Drop for WriteRaw {
    fn drop(&mut self) {
        // SAFETY: created by us, released once.
        unsafe { decl::rados_release_write_op(self.0) };
    }
}

struct ReadRaw(decl::rados_read_op_t);
// SAFETY: as for `WriteRaw`.
unsafe impl Send for ReadRaw {}
impl Drop for ReadRaw {
    fn drop(&mut self) {
        // SAFETY: created by us, released once.
        unsafe { decl::rados_release_read_op(self.0) };
    }
}

/// What a write operation in flight uses: its op, one return value a step.
pub(crate) struct WriteKeep {
    _raw: WriteRaw,
    _oid: CString,
    rets: Box<[c_int]>,
}

impl WriteKeep {
    /// The first step that reported an error of its own (comparisons and class calls do), and that error.
    pub(crate) fn failed_step(&self) -> Option<(usize, i32)> {
        self.rets.iter().position(|r| *r < 0).map(|i| (i, -self.rets[i]))
    }
}

fn key_ptrs<K: AsRef<[u8]>>(keys: &[K]) -> (Vec<*const c_char>, Vec<usize>) {
    keys.iter().map(|k| (k.as_ref().as_ptr().cast::<c_char>(), k.as_ref().len())).unzip()
}

fn out_of_memory() -> Errno {
    Errno(12)
}

/// Submits a compound write. The buffers are given back before it is under way: librados has copies.
pub(crate) fn write<H: Send + 'static>(
    io: &Arc<IoCtx>,
    hold: H,
    oid: CString,
    steps: Vec<WriteStep>,
) -> Result<RadosPending<WriteKeep>, Errno> {
    // SAFETY: no arguments.
    let raw = WriteRaw(unsafe { decl::rados_create_write_op() });
    if raw.0.is_null() {
        return Err(out_of_memory());
    }
    let mut rets = vec![0; steps.len()].into_boxed_slice();
    let rets_ptr: *mut c_int = rets.as_mut_ptr();
    for (i, step) in steps.iter().enumerate() {
        // SAFETY: `i` is within `rets`, whose heap memory `keep` owns until the callback.
        unsafe { write_step(raw.0, step, rets_ptr.add(i))? };
    }
    let (op, oid_ptr) = (raw.0, oid.as_ptr());
    let keep = WriteKeep { _raw: raw, _oid: oid, rets };
    drop(steps);
    // SAFETY: librados copied what the steps point to when they were added; the return values are in `keep`.
    unsafe {
        submit_rados(io, hold, keep, |io, comp, _| {
            decl::rados_aio_write_op_operate(op, io, comp, oid_ptr, ptr::null_mut(), 0)
        })
    }
}

/// # Safety
/// `op` is a valid op; `ret` stays valid until the op is done.
unsafe fn write_step(op: decl::rados_write_op_t, step: &WriteStep, ret: *mut c_int) -> Result<(), Errno> {
    use WriteStep as W;
    // SAFETY (whole block): every pointer is to memory that lives through the call; librados copies.
    unsafe {
        match step {
            W::AssertExists => decl::rados_write_op_assert_exists(op),
            W::AssertVersion(v) => decl::rados_write_op_assert_version(op, *v),
            W::Create { exclusive } => {
                let flag = if *exclusive { decl::LIBRADOS_OP_FLAG_EXCL as c_int } else { 0 };
                decl::rados_write_op_create(op, flag, ptr::null());
            }
            W::CmpXattr { name, op: cmp, value } => {
                let name = cstr(name)?;
                decl::rados_write_op_cmpxattr(
                    op,
                    name.as_ptr(),
                    cmp.flipped() as u8,
                    value.as_ptr().cast(),
                    value.len(),
                );
            }
            W::CmpExt { off, data } => {
                decl::rados_write_op_cmpext(op, data.as_ptr().cast(), data.len(), *off, ret);
            }
            W::OmapCmp { key, op: cmp, value } => {
                decl::rados_write_op_omap_cmp2(
                    op,
                    key.as_ptr().cast(),
                    *cmp as u8,
                    value.as_ptr().cast(),
                    key.len(),
                    value.len(),
                    ret,
                );
            }
            W::Write { off, data } => {
                decl::rados_write_op_write(op, data.as_ptr().cast(), data.len(), *off);
            }
            W::WriteFull { data } => decl::rados_write_op_write_full(op, data.as_ptr().cast(), data.len()),
            W::Append { data } => decl::rados_write_op_append(op, data.as_ptr().cast(), data.len()),
            W::Truncate { size } => decl::rados_write_op_truncate(op, *size),
            W::Zero { off, len } => decl::rados_write_op_zero(op, *off, *len),
            W::Remove => decl::rados_write_op_remove(op),
            W::SetXattr { name, value } => {
                let name = cstr(name)?;
                decl::rados_write_op_setxattr(op, name.as_ptr(), value.as_ptr().cast(), value.len());
            }
            W::RmXattr { name } => {
                let name = cstr(name)?;
                decl::rados_write_op_rmxattr(op, name.as_ptr());
            }
            W::OmapSet { entries } => {
                let keys: Vec<&[u8]> = entries.iter().map(|(k, _)| k.as_bytes()).collect();
                let vals: Vec<&[u8]> = entries.iter().map(|(_, v)| &v[..]).collect();
                let (kp, kl) = key_ptrs(&keys);
                let (vp, vl) = key_ptrs(&vals);
                decl::rados_write_op_omap_set2(
                    op,
                    kp.as_ptr(),
                    vp.as_ptr(),
                    kl.as_ptr(),
                    vl.as_ptr(),
                    entries.len(),
                );
            }
            W::OmapRemove { keys } => {
                let (kp, kl) = key_ptrs(keys);
                decl::rados_write_op_omap_rm_keys2(op, kp.as_ptr(), kl.as_ptr(), keys.len());
            }
            W::OmapRemoveRange { from, to } => decl::rados_write_op_omap_rm_range2(
                op,
                from.as_ptr().cast(),
                from.len(),
                to.as_ptr().cast(),
                to.len(),
            ),
            W::OmapClear => decl::rados_write_op_omap_clear(op),
            W::AllocHint { object_size, write_size, flags } => {
                decl::rados_write_op_set_alloc_hint2(op, *object_size, *write_size, *flags);
            }
            W::Exec { class, method, input } => {
                let (class, method) = (cstr(class)?, cstr(method)?);
                decl::rados_write_op_exec(
                    op,
                    class.as_ptr(),
                    method.as_ptr(),
                    input.as_ptr().cast(),
                    input.len(),
                    ret,
                );
            }
            W::FailOk => decl::rados_write_op_set_flags(op, decl::LIBRADOS_OP_FLAG_FAILOK as c_int),
        }
    }
    Ok(())
}

/// Where librados puts what one read step gives. Boxed: its address must not change.
enum Slot {
    Nothing,
    Read { buf: ReadBuf, len: usize },
    Stat { size: u64, mtime: decl::time_t },
    Xattrs { iter: decl::rados_xattrs_iter_t },
    Omap { iter: decl::rados_omap_iter_t, more: u8 },
    Exec { buf: *mut c_char, len: usize },
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: iterators and buffers are librados' allocations, ours since the op is done, freed once.
        unsafe {
            match self {
                Slot::Xattrs { iter } if !iter.is_null() => decl::rados_getxattrs_end(*iter),
                Slot::Omap { iter, .. } if !iter.is_null() => decl::rados_omap_get_end(*iter),
                Slot::Exec { buf, .. } if !buf.is_null() => decl::rados_buffer_free(*buf),
                _ => {}
            }
        }
    }
}

struct Cell {
    slot: Slot,
    ret: c_int,
}

/// What a read operation in flight uses. The op is dropped before the cells it points to.
pub(crate) struct ReadKeep {
    raw: Option<ReadRaw>,
    _oid: CString,
    _steps: Vec<ReadStep>,
    cells: Vec<*mut Cell>,
}

// SAFETY: the cells are plain memory and librados allocations that any thread may free.
unsafe impl Send for ReadKeep {}

impl Drop for ReadKeep {
    fn drop(&mut self) {
        self.raw = None;
        for cell in self.cells.drain(..) {
            // SAFETY: made by `Box::into_raw` in `read`, freed once, when librados is done with it.
            drop(unsafe { Box::from_raw(cell) });
        }
    }
}

/// Submits a compound read.
pub(crate) fn read<H: Send + 'static>(
    io: &Arc<IoCtx>,
    hold: H,
    oid: CString,
    steps: Vec<ReadStep>,
) -> Result<RadosPending<ReadKeep>, Errno> {
    // SAFETY: no arguments.
    let raw = ReadRaw(unsafe { decl::rados_create_read_op() });
    if raw.0.is_null() {
        return Err(out_of_memory());
    }
    let (op, oid_ptr) = (raw.0, oid.as_ptr());
    let mut keep = ReadKeep { raw: Some(raw), _oid: oid, _steps: Vec::new(), cells: Vec::new() };
    for step in &steps {
        let cell = Box::into_raw(Box::new(Cell { slot: Slot::Nothing, ret: 0 }));
        keep.cells.push(cell);
        // SAFETY: the cell lives, at this address, until `keep` is dropped.
        unsafe { read_step(op, step, cell)? };
    }
    keep._steps = steps;
    // SAFETY: librados writes into the cells, which `keep` owns.
    unsafe {
        submit_rados(io, hold, keep, |io, comp, _| decl::rados_aio_read_op_operate(op, io, comp, oid_ptr, 0))
    }
}

/// # Safety
/// `op` is a valid op, `cell` stays where it is until the op is done.
unsafe fn read_step(op: decl::rados_read_op_t, step: &ReadStep, cell: *mut Cell) -> Result<(), Errno> {
    use ReadStep as R;
    // SAFETY (whole block): inputs are copied by librados; outputs are in the cell, addressed only after its
    // slot has been set, so no Rust write follows.
    unsafe {
        let ret = &raw mut (*cell).ret;
        match step {
            R::AssertExists => decl::rados_read_op_assert_exists(op),
            R::AssertVersion(v) => decl::rados_read_op_assert_version(op, *v),
            R::CmpXattr { name, op: cmp, value } => {
                let name = cstr(name)?;
                decl::rados_read_op_cmpxattr(
                    op,
                    name.as_ptr(),
                    cmp.flipped() as u8,
                    value.as_ptr().cast(),
                    value.len(),
                );
            }
            R::CmpExt { off, data } => {
                decl::rados_read_op_cmpext(op, data.as_ptr().cast(), data.len(), *off, ret);
            }
            R::OmapCmp { key, op: cmp, value } => decl::rados_read_op_omap_cmp2(
                op,
                key.as_ptr().cast(),
                *cmp as u8,
                value.as_ptr().cast(),
                key.len(),
                value.len(),
                ret,
            ),
            // To Ceph a length of 0 means "to the end".
            R::Read { len: 0, .. } => (*cell).slot = Slot::Read { buf: ReadBuf::new(0), len: 0 },
            R::Read { off, len } => {
                let mut buf = ReadBuf::new(*len);
                let ptr = buf.ptr();
                (*cell).slot = Slot::Read { buf, len: 0 };
                if let Slot::Read { len: got, .. } = &mut (*cell).slot {
                    let got: *mut usize = got;
                    decl::rados_read_op_read(op, *off, *len, ptr, got, ret);
                }
            }
            R::Stat => {
                (*cell).slot = Slot::Stat { size: 0, mtime: 0 };
                if let Slot::Stat { size, mtime } = &mut (*cell).slot {
                    let (size, mtime): (*mut u64, *mut decl::time_t) = (size, mtime);
                    decl::rados_read_op_stat(op, size, mtime, ret);
                }
            }
            R::GetXattrs => {
                (*cell).slot = Slot::Xattrs { iter: ptr::null_mut() };
                if let Slot::Xattrs { iter } = &mut (*cell).slot {
                    let iter: *mut decl::rados_xattrs_iter_t = iter;
                    decl::rados_read_op_getxattrs(op, iter, ret);
                }
            }
            R::OmapGet { after, prefix, max } => {
                let (after, prefix) = (cstr(after)?, cstr(prefix)?);
                let (iter, more) = omap_slot(cell);
                decl::rados_read_op_omap_get_vals2(
                    op,
                    after.as_ptr(),
                    prefix.as_ptr(),
                    *max,
                    iter,
                    more,
                    ret,
                );
            }
            R::OmapGetByKeys { keys } => {
                let (kp, kl) = key_ptrs(keys);
                let (iter, _) = omap_slot(cell);
                decl::rados_read_op_omap_get_vals_by_keys2(
                    op,
                    kp.as_ptr(),
                    keys.len(),
                    kl.as_ptr(),
                    iter,
                    ret,
                );
            }
            R::Exec { class, method, input } => {
                let (class, method) = (cstr(class)?, cstr(method)?);
                (*cell).slot = Slot::Exec { buf: ptr::null_mut(), len: 0 };
                if let Slot::Exec { buf, len } = &mut (*cell).slot {
                    let (buf, len): (*mut *mut c_char, *mut usize) = (buf, len);
                    decl::rados_read_op_exec(
                        op,
                        class.as_ptr(),
                        method.as_ptr(),
                        input.as_ptr().cast(),
                        input.len(),
                        buf,
                        len,
                        ret,
                    );
                }
            }
            R::FailOk => decl::rados_read_op_set_flags(op, decl::LIBRADOS_OP_FLAG_FAILOK as c_int),
        }
    }
    Ok(())
}

/// # Safety
/// As for [`read_step`].
unsafe fn omap_slot(cell: *mut Cell) -> (*mut decl::rados_omap_iter_t, *mut u8) {
    unsafe {
        (*cell).slot = Slot::Omap { iter: ptr::null_mut(), more: 0 };
        match &mut (*cell).slot {
            Slot::Omap { iter, more } => (iter, more),
            _ => (ptr::null_mut(), ptr::null_mut()),
        }
    }
}

impl Done<ReadKeep> {
    /// One result a step, in order. Steps that only assert give `ReadResult::Nothing`.
    pub(crate) fn results(mut self) -> Vec<Result<ReadResult, Errno>> {
        let cells: Vec<_> = self.keep.cells.drain(..).collect();
        cells
            .into_iter()
            .map(|cell| {
                // SAFETY: made by `Box::into_raw` in `read`; the op is done, so the memory is ours alone.
                let mut cell = unsafe { Box::from_raw(cell) };
                if cell.ret < 0 {
                    return Err(Errno(-cell.ret));
                }
                // SAFETY: the slots were filled by the finished op.
                unsafe { take(&mut cell.slot) }
            })
            .collect()
    }
}

/// # Safety
/// The op that filled the slot is done.
unsafe fn take(slot: &mut Slot) -> Result<ReadResult, Errno> {
    // SAFETY (whole block): iterators give pointers that are valid until the iterator's end.
    unsafe {
        Ok(match slot {
            Slot::Nothing => ReadResult::Nothing,
            Slot::Read { buf, len } => ReadResult::Data(std::mem::replace(buf, ReadBuf::new(0)).filled(*len)),
            Slot::Stat { size, mtime } => ReadResult::Stat { size: *size, mtime: *mtime },
            Slot::Xattrs { iter } => {
                let mut all = BTreeMap::new();
                while !iter.is_null() {
                    let (mut name, mut val, mut len) = (ptr::null(), ptr::null(), 0);
                    super::check(decl::rados_getxattrs_next(*iter, &mut name, &mut val, &mut len))?;
                    if name.is_null() {
                        break;
                    }
                    all.insert(string(name), Bytes::from(copy(val, len)));
                }
                ReadResult::Xattrs(all)
            }
            Slot::Omap { iter, more } => {
                let mut entries = Vec::new();
                while !iter.is_null() {
                    let (mut key, mut val) = (ptr::null_mut(), ptr::null_mut());
                    let (mut key_len, mut val_len) = (0, 0);
                    let r = decl::rados_omap_get_next2(*iter, &mut key, &mut val, &mut key_len, &mut val_len);
                    super::check(r)?;
                    if key.is_null() {
                        break;
                    }
                    let key = String::from_utf8(copy(key, key_len)).map_err(|_| Errno(errno::EILSEQ))?;
                    entries.push((key, Bytes::from(copy(val, val_len))));
                }
                ReadResult::Omap(OmapPage { entries, more: *more != 0 })
            }
            Slot::Exec { buf, len } => ReadResult::Output(Bytes::from(copy(*buf, *len))),
        })
    }
}
