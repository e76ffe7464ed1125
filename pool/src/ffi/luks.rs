//! LUKS headers, made by libcryptsetup (its API 2.6, which librbd uses too).
//!
//! librbd's own `rbd_encryption_format` stretches the passphrase as if a person had thought of it: two seconds of
//! processor and a gibibyte of memory, then and whenever the image is unlocked, one image of a process at a time. Keys
//! of volumes are random and need none of that. What is made here, librbd and QEMU unlock in a millisecond.

use super::{check, cstr};
use crate::error::{Errno, errno};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// As little stretching as the formats allow.
const ITERATIONS: u32 = 1000;
/// `CRYPT_PBKDF_NO_BENCHMARK`: as often as is said here.
const NO_BENCHMARK: u32 = 1 << 1;
/// `CRYPT_ANY_SLOT`
const ANY_SLOT: c_int = -1;
const SECTOR: u64 = 512;

/// libcryptsetup keeps state of the whole process: one call at a time, librbd's among them.
pub(super) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a header says of the image behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// LUKS2, else LUKS1.
    pub(crate) luks2: bool,
    /// AES-256, else AES-128.
    pub(crate) aes256: bool,
    /// Content begins at a multiple of this many bytes.
    pub(crate) alignment: u64,
}

/// A header with a fresh key that `passphrase` unlocks, and where content begins behind it (bytes).
pub(crate) fn header(layout: Layout, passphrase: &[u8]) -> Result<(Vec<u8>, u64), Errno> {
    let _alone = alone();
    // Of a file that has no name: libcryptsetup works on paths.
    let mut file = memory().map_err(number)?;
    let device = Device::of(&file)?;
    device.format(layout)?;
    // SAFETY: the passphrase lives through the call; without a key, that of `format` is meant.
    let slot = unsafe {
        let (data, len) = (passphrase.as_ptr().cast(), passphrase.len());
        crypt_keyslot_add_by_volume_key(device.0, ANY_SLOT, ptr::null(), 0, data, len)
    };
    check(slot)?;
    // SAFETY: the device is open.
    let offset = unsafe { crypt_get_data_offset(device.0) } * SECTOR;
    drop(device);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(number)?;
    Ok((bytes, offset))
}

fn number(e: std::io::Error) -> Errno {
    Errno(e.raw_os_error().unwrap_or(errno::EINVAL))
}

/// A file in memory that is large enough to be taken for a device.
fn memory() -> std::io::Result<File> {
    let file: File = rustix::fs::memfd_create(c"luks", rustix::fs::MemfdFlags::CLOEXEC)?.into();
    file.set_len(4096)?;
    Ok(file)
}

struct Device(*mut CryptDevice);

impl Device {
    fn of(file: &File) -> Result<Device, Errno> {
        let path = cstr(&format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let mut device = ptr::null_mut();
        // SAFETY: the path lives through the call, which makes the device or fails.
        check(unsafe { crypt_init(&mut device, path.as_ptr()) })?;
        let device = Device(device);
        // SAFETY: the device is open; what it would say goes nowhere.
        unsafe { crypt_set_log_callback(device.0, Some(silent), ptr::null_mut()) };
        Ok(device)
    }

    fn format(&self, layout: Layout) -> Result<(), Errno> {
        let pbkdf = Pbkdf {
            kind: c"pbkdf2".as_ptr(),
            hash: c"sha256".as_ptr(),
            time_ms: 1,
            iterations: ITERATIONS,
            max_memory_kb: 0,
            parallel_threads: 0,
            flags: NO_BENCHMARK,
        };
        let alignment = usize::try_from(layout.alignment / SECTOR).map_err(|_| Errno(errno::EINVAL))?;
        let mut luks1 =
            Luks1 { hash: c"sha256".as_ptr(), data_alignment: alignment, data_device: ptr::null() };
        let mut luks2 = Luks2 {
            pbkdf: &raw const pbkdf,
            integrity: ptr::null(),
            integrity_params: ptr::null(),
            data_alignment: alignment,
            data_device: ptr::null(),
            sector_size: 4096,
            label: ptr::null(),
            subsystem: ptr::null(),
        };
        let (kind, params): (&CStr, *mut c_void) = match layout.luks2 {
            true => (c"LUKS2", (&raw mut luks2).cast()),
            false => (c"LUKS1", (&raw mut luks1).cast()),
        };
        // Two keys, for XTS.
        let key_bytes = if layout.aes256 { 64 } else { 32 };
        let (cipher, mode) = (c"aes".as_ptr(), c"xts-plain64".as_ptr());
        // SAFETY: everything pointed to lives through the calls; without a key and a UUID, fresh ones are made.
        unsafe {
            check(crypt_set_pbkdf_type(self.0, &raw const pbkdf))?;
            check(crypt_format(
                self.0,
                kind.as_ptr(),
                cipher,
                mode,
                ptr::null(),
                ptr::null(),
                key_bytes,
                params,
            ))?;
        }
        Ok(())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: made by `crypt_init`, freed once.
        unsafe { crypt_free(self.0) }
    }
}

unsafe extern "C" fn silent(_: c_int, _: *const c_char, _: *mut c_void) {}

#[repr(C)]
struct CryptDevice {
    _opaque: [u8; 0],
}

/// `struct crypt_pbkdf_type`
#[repr(C)]
struct Pbkdf {
    kind: *const c_char,
    hash: *const c_char,
    time_ms: c_uint,
    iterations: c_uint,
    max_memory_kb: c_uint,
    parallel_threads: c_uint,
    flags: c_uint,
}

/// `struct crypt_params_luks1`
#[repr(C)]
struct Luks1 {
    hash: *const c_char,
    /// Sectors.
    data_alignment: usize,
    data_device: *const c_char,
}

/// `struct crypt_params_luks2`
#[repr(C)]
struct Luks2 {
    pbkdf: *const Pbkdf,
    integrity: *const c_char,
    integrity_params: *const c_void,
    /// Sectors.
    data_alignment: usize,
    data_device: *const c_char,
    sector_size: c_uint,
    label: *const c_char,
    subsystem: *const c_char,
}

type Log = unsafe extern "C" fn(c_int, *const c_char, *mut c_void);

unsafe extern "C" {
    fn crypt_init(device: *mut *mut CryptDevice, path: *const c_char) -> c_int;
    fn crypt_free(device: *mut CryptDevice);
    fn crypt_set_log_callback(device: *mut CryptDevice, log: Option<Log>, context: *mut c_void);
    fn crypt_set_pbkdf_type(device: *mut CryptDevice, pbkdf: *const Pbkdf) -> c_int;
    fn crypt_format(
        device: *mut CryptDevice,
        kind: *const c_char,
        cipher: *const c_char,
        mode: *const c_char,
        uuid: *const c_char,
        key: *const c_char,
        key_bytes: usize,
        params: *mut c_void,
    ) -> c_int;
    fn crypt_keyslot_add_by_volume_key(
        device: *mut CryptDevice,
        slot: c_int,
        key: *const c_char,
        key_bytes: usize,
        passphrase: *const c_char,
        passphrase_bytes: usize,
    ) -> c_int;
    /// Sectors.
    fn crypt_get_data_offset(device: *mut CryptDevice) -> u64;
}
