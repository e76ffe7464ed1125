//! What libceph's C++ side leaves of a burst.
//!
//! glibc raises the size from which a buffer is mapped on its own, up to 32 MiB, as soon as such a buffer has been
//! freed. Naming the size keeps it where it is. Smaller buffers come from its heaps, between small ones that stay; what
//! the heaps keep of a burst is given back when it is quiet ([`super::rados::trim`]).

use std::ffi::c_int;

const M_TRIM_THRESHOLD: c_int = -1;
const M_MMAP_THRESHOLD: c_int = -3;
/// Bytes. What moves through librados is smaller: mapped and unmapped for each operation, it would be a page fault for
/// every 4 KiB, a fifth of what a large write costs.
const LARGE: c_int = 8 << 20;

unsafe extern "C" {
    fn mallopt(param: c_int, value: c_int) -> c_int;
}

/// Has glibc give large buffers back to the system when they are freed. For a process that lives long: called
/// once, at its beginning. It is about C and C++ code (libceph, libvirt, SQLite), whatever Rust allocates with.
pub fn return_large_buffers() {
    for param in [M_TRIM_THRESHOLD, M_MMAP_THRESHOLD] {
        // SAFETY: sets a number of glibc's; a refusal changes nothing.
        unsafe { mallopt(param, LARGE) };
    }
}
