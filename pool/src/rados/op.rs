//! Compound operations on one object: several steps that happen together or not at all.
//!
//! A [`WriteOp`] or [`ReadOp`] is a plain description, built in safe Rust; `Pool::write_op` and
//! `Pool::read_op` hand it to librados. Steps run in order; an assertion that fails ends the operation with
//! [`Error::Cancelled`](crate::Error::Cancelled) (or `Exists`, `NotFound`) and nothing is changed.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::error::Error;

/// How a comparison compares the stored value with the given one: `Gt` holds where the stored one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cmp {
    Eq = 1,
    Ne = 2,
    Gt = 3,
    Gte = 4,
    Lt = 5,
    Lte = 6,
}

impl Cmp {
    /// The same with its sides exchanged: attributes are compared the other way round than omap values.
    pub(crate) fn flipped(self) -> Self {
        match self {
            Self::Gt => Self::Lt,
            Self::Gte => Self::Lte,
            Self::Lt => Self::Gt,
            Self::Lte => Self::Gte,
            same => same,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum WriteStep {
    AssertExists,
    AssertVersion(u64),
    Create { exclusive: bool },
    CmpXattr { name: String, op: Cmp, value: Bytes },
    CmpExt { off: u64, data: Bytes },
    OmapCmp { key: String, op: Cmp, value: Bytes },
    Write { off: u64, data: Bytes },
    WriteFull { data: Bytes },
    Append { data: Bytes },
    Truncate { size: u64 },
    Zero { off: u64, len: u64 },
    Remove,
    SetXattr { name: String, value: Bytes },
    RmXattr { name: String },
    OmapSet { entries: Vec<(String, Bytes)> },
    OmapRemove { keys: Vec<String> },
    OmapRemoveRange { from: String, to: String },
    OmapClear,
    AllocHint { object_size: u64, write_size: u64, flags: u32 },
    Exec { class: String, method: String, input: Bytes },
    FailOk,
}

/// A compound write. Build it with the methods below, in the order the steps are to run.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct WriteOp {
    pub(crate) steps: Vec<WriteStep>,
}

impl WriteOp {
    /// An operation without steps.
    pub fn new() -> Self {
        Self::default()
    }

    fn step(mut self, s: WriteStep) -> Self {
        self.steps.push(s);
        self
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The sum of the bytes that the steps carry.
    pub(crate) fn cost(&self) -> usize {
        self.steps
            .iter()
            .map(|s| match s {
                WriteStep::Write { data, .. }
                | WriteStep::WriteFull { data }
                | WriteStep::Append { data }
                | WriteStep::CmpExt { data, .. } => data.len(),
                WriteStep::SetXattr { value, .. } => value.len(),
                WriteStep::OmapSet { entries } => entries.iter().map(|(k, v)| k.len() + v.len()).sum(),
                WriteStep::Exec { input, .. } => input.len(),
                _ => 0,
            })
            .sum()
    }

    pub(crate) fn asserts_version(&self) -> bool {
        self.steps.iter().any(|s| matches!(s, WriteStep::AssertVersion(_)))
    }

    /// `NotFound` unless the object exists.
    pub fn assert_exists(self) -> Self {
        self.step(WriteStep::AssertExists)
    }
    /// `Cancelled` unless the object's version is this one (as a previous outcome gave it). `NotFound` where
    /// there is no object.
    pub fn assert_version(self, version: u64) -> Self {
        self.step(WriteStep::AssertVersion(version))
    }
    /// Creates the object; `Exists` if there is one already.
    pub fn create_exclusive(self) -> Self {
        self.step(WriteStep::Create { exclusive: true })
    }
    /// Creates the object if there is none.
    pub fn create(self) -> Self {
        self.step(WriteStep::Create { exclusive: false })
    }
    /// `Cancelled` unless the attribute compares so (an absent one compares as empty).
    pub fn cmp_xattr(self, name: impl Into<String>, op: Cmp, value: impl Into<Bytes>) -> Self {
        self.step(WriteStep::CmpXattr { name: name.into(), op, value: value.into() })
    }
    /// `Cancelled` unless these bytes stand at this offset (beyond the end stand zeroes).
    pub fn cmp_ext(self, off: u64, data: impl Into<Bytes>) -> Self {
        self.step(WriteStep::CmpExt { off, data: data.into() })
    }
    /// `Cancelled` unless the omap value compares so (an absent key compares as empty). Only `Eq`, `Gt` and `Lt`;
    /// `Invalid` otherwise.
    pub fn omap_cmp(self, key: impl Into<String>, op: Cmp, value: impl Into<Bytes>) -> Self {
        self.step(WriteStep::OmapCmp { key: key.into(), op, value: value.into() })
    }
    /// Writes bytes at an offset.
    pub fn write(self, off: u64, data: impl Into<Bytes>) -> Self {
        self.step(WriteStep::Write { off, data: data.into() })
    }
    /// Replaces the object's bytes.
    pub fn write_full(self, data: impl Into<Bytes>) -> Self {
        self.step(WriteStep::WriteFull { data: data.into() })
    }
    /// Writes bytes at the end.
    pub fn append(self, data: impl Into<Bytes>) -> Self {
        self.step(WriteStep::Append { data: data.into() })
    }
    /// Cuts or extends (with zeroes) to this size.
    pub fn truncate(self, size: u64) -> Self {
        self.step(WriteStep::Truncate { size })
    }
    /// Zeroes a range.
    pub fn zero(self, off: u64, len: u64) -> Self {
        self.step(WriteStep::Zero { off, len })
    }
    /// Removes the object.
    pub fn remove(self) -> Self {
        self.step(WriteStep::Remove)
    }
    /// Sets an attribute.
    pub fn set_xattr(self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.step(WriteStep::SetXattr { name: name.into(), value: value.into() })
    }
    /// Removes an attribute (`NotFound` where there is none).
    pub fn rm_xattr(self, name: impl Into<String>) -> Self {
        self.step(WriteStep::RmXattr { name: name.into() })
    }
    /// Sets omap entries.
    pub fn omap_set(self, entries: impl IntoIterator<Item = (String, Bytes)>) -> Self {
        self.step(WriteStep::OmapSet { entries: entries.into_iter().collect() })
    }
    /// Removes omap entries; absent ones do not matter.
    pub fn omap_remove(self, keys: impl IntoIterator<Item = String>) -> Self {
        self.step(WriteStep::OmapRemove { keys: keys.into_iter().collect() })
    }
    /// Removes the omap entries from `from` (inclusive) to `to` (exclusive) that were there before this operation:
    /// entries that it sets itself stay.
    pub fn omap_remove_range(self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.step(WriteStep::OmapRemoveRange { from: from.into(), to: to.into() })
    }
    /// Removes all omap entries.
    pub fn omap_clear(self) -> Self {
        self.step(WriteStep::OmapClear)
    }
    /// Tells the OSD how large the object will be and by how much it will be written (librados'
    /// `LIBRADOS_ALLOC_HINT_FLAG_*`).
    pub fn alloc_hint(self, object_size: u64, write_size: u64, flags: u32) -> Self {
        self.step(WriteStep::AllocHint { object_size, write_size, flags })
    }
    /// Calls a method of an object class (its output is lost: use [`ReadOp::exec`] or `Pool::exec` for that).
    pub fn exec(self, class: impl Into<String>, method: impl Into<String>, input: impl Into<Bytes>) -> Self {
        self.step(WriteStep::Exec { class: class.into(), method: method.into(), input: input.into() })
    }
    /// Lets the step before fail without ending the operation.
    pub fn fail_ok(self) -> Self {
        self.step(WriteStep::FailOk)
    }
}

/// What came of a compound write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOutcome {
    /// The object's version after the write: grows with every change, fit for `assert_version`.
    pub version: u64,
}

#[derive(Debug, Clone)]
pub(crate) enum ReadStep {
    AssertExists,
    AssertVersion(u64),
    CmpXattr { name: String, op: Cmp, value: Bytes },
    CmpExt { off: u64, data: Bytes },
    OmapCmp { key: String, op: Cmp, value: Bytes },
    Read { off: u64, len: usize },
    Stat,
    GetXattrs,
    OmapGet { after: String, prefix: String, max: u64 },
    OmapGetByKeys { keys: Vec<String> },
    Exec { class: String, method: String, input: Bytes },
    FailOk,
}

/// A compound read: everything is from one version of the object.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct ReadOp {
    pub(crate) steps: Vec<ReadStep>,
}

impl ReadOp {
    /// An operation without steps.
    pub fn new() -> Self {
        Self::default()
    }

    fn step(mut self, s: ReadStep) -> Self {
        self.steps.push(s);
        self
    }

    pub(crate) fn cost(&self) -> usize {
        self.steps
            .iter()
            .map(|s| match s {
                ReadStep::Read { len, .. } => *len,
                ReadStep::OmapGet { max, .. } => usize::try_from(*max).unwrap_or(1 << 20).min(1 << 16) * 64,
                _ => 0,
            })
            .sum()
    }

    pub(crate) fn asserts_version(&self) -> bool {
        self.steps.iter().any(|s| matches!(s, ReadStep::AssertVersion(_)))
    }

    /// `NotFound` unless the object exists.
    pub fn assert_exists(self) -> Self {
        self.step(ReadStep::AssertExists)
    }
    /// `Cancelled` unless the object's version is this one.
    pub fn assert_version(self, version: u64) -> Self {
        self.step(ReadStep::AssertVersion(version))
    }
    /// `Cancelled` unless the attribute compares so.
    pub fn cmp_xattr(self, name: impl Into<String>, op: Cmp, value: impl Into<Bytes>) -> Self {
        self.step(ReadStep::CmpXattr { name: name.into(), op, value: value.into() })
    }
    /// `Cancelled` unless these bytes stand at this offset.
    pub fn cmp_ext(self, off: u64, data: impl Into<Bytes>) -> Self {
        self.step(ReadStep::CmpExt { off, data: data.into() })
    }
    /// `Cancelled` unless the omap value compares so. Only `Eq`, `Gt` and `Lt`; `Invalid` otherwise.
    pub fn omap_cmp(self, key: impl Into<String>, op: Cmp, value: impl Into<Bytes>) -> Self {
        self.step(ReadStep::OmapCmp { key: key.into(), op, value: value.into() })
    }
    /// Reads a range; what is beyond the end is missing from the result.
    pub fn read(self, off: u64, len: usize) -> Self {
        self.step(ReadStep::Read { off, len })
    }
    /// Size and time of last change.
    pub fn stat(self) -> Self {
        self.step(ReadStep::Stat)
    }
    /// All attributes.
    pub fn get_xattrs(self) -> Self {
        self.step(ReadStep::GetXattrs)
    }
    /// Up to `max` omap entries after the key `after` ("" for the start) that begin with `prefix`. The OSD may
    /// give fewer and say that there are more.
    pub fn omap_get(self, after: impl Into<String>, prefix: impl Into<String>, max: u64) -> Self {
        self.step(ReadStep::OmapGet { after: after.into(), prefix: prefix.into(), max })
    }
    /// The omap entries of these keys, those that exist.
    pub fn omap_get_by_keys(self, keys: impl IntoIterator<Item = String>) -> Self {
        self.step(ReadStep::OmapGetByKeys { keys: keys.into_iter().collect() })
    }
    /// Calls a method of an object class and gives its output.
    pub fn exec(self, class: impl Into<String>, method: impl Into<String>, input: impl Into<Bytes>) -> Self {
        self.step(ReadStep::Exec { class: class.into(), method: method.into(), input: input.into() })
    }
    /// Lets the step before fail without ending the operation.
    pub fn fail_ok(self) -> Self {
        self.step(ReadStep::FailOk)
    }
}

/// A page of omap entries, in key order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OmapPage {
    /// (key, value), ascending by the keys' bytes.
    pub entries: Vec<(String, Bytes)>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// What one step of a compound read gave.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadResult {
    /// An assertion that held, or a flag.
    Nothing,
    /// Bytes of the object.
    Data(Bytes),
    /// Size in bytes; seconds since the epoch of the last change.
    Stat { size: u64, mtime: i64 },
    /// All attributes.
    Xattrs(BTreeMap<String, Bytes>),
    /// Omap entries.
    Omap(OmapPage),
    /// An object class method's output.
    Output(Bytes),
}

/// What came of a compound read.
#[derive(Debug)]
pub struct ReadOutcome {
    /// The object's version that was read.
    pub version: u64,
    /// One result a step, in the order of the steps (`fail_ok` counts as a step).
    pub results: Vec<Result<ReadResult, Error>>,
}

impl ReadOutcome {
    fn find<T>(&mut self, f: impl Fn(&mut ReadResult) -> Option<T>) -> Option<T> {
        self.results.iter_mut().filter_map(|r| r.as_mut().ok()).find_map(f)
    }

    /// The bytes of the first `read` step.
    pub fn data(&mut self) -> Option<Bytes> {
        self.find(|r| match r {
            ReadResult::Data(d) => Some(d.clone()),
            _ => None,
        })
    }

    /// The size and mtime of the first `stat` step.
    pub fn stat(&mut self) -> Option<(u64, i64)> {
        self.find(|r| match r {
            ReadResult::Stat { size, mtime } => Some((*size, *mtime)),
            _ => None,
        })
    }

    /// The attributes of the first `get_xattrs` step.
    pub fn xattrs(&mut self) -> Option<BTreeMap<String, Bytes>> {
        self.find(|r| match r {
            ReadResult::Xattrs(x) => Some(std::mem::take(x)),
            _ => None,
        })
    }

    /// The entries of the first omap step that has not been taken yet.
    pub fn omap(&mut self) -> Option<OmapPage> {
        let at = self.results.iter().position(|r| matches!(r, Ok(ReadResult::Omap(_))))?;
        match std::mem::replace(&mut self.results[at], Ok(ReadResult::Nothing)) {
            Ok(ReadResult::Omap(page)) => Some(page),
            _ => None,
        }
    }

    /// The output of the first `exec` step.
    pub fn output(&mut self) -> Option<Bytes> {
        self.find(|r| match r {
            ReadResult::Output(o) => Some(o.clone()),
            _ => None,
        })
    }
}
