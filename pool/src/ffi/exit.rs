//! Ending the process.
//!
//! When a process ends by `exit`, the destructors of libceph's global objects run while its threads are still
//! at work on them: a process with a live connection crashes now and then instead of ending. So, before those
//! destructors: connections that are being shut down are waited for, and where any is left (a runtime that was
//! not taken down, a future that was forgotten), the process ends here, with its status, without them.

use std::ffi::{c_int, c_void};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

/// How long the end of the process waits for connections that are being shut down.
const PATIENCE: Duration = Duration::from_secs(5);

struct Count {
    live: usize,
    shutting_down: usize,
}

static COUNT: Mutex<Count> = Mutex::new(Count { live: 0, shutting_down: 0 });
static CHANGED: Condvar = Condvar::new();

fn count() -> MutexGuard<'static, Count> {
    COUNT.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "C" {
    /// glibc: runs `f(status, arg)` at exit, before what was registered earlier (libceph's, at load time).
    fn on_exit(f: unsafe extern "C" fn(c_int, *mut c_void), arg: *mut c_void) -> c_int;
    fn fflush(stream: *mut c_void) -> c_int;
    fn _exit(status: c_int) -> !;
}

unsafe extern "C" fn at_exit(status: c_int, _: *mut c_void) {
    let until = Instant::now() + PATIENCE;
    let mut state = count();
    while state.shutting_down > 0 && Instant::now() < until {
        let left = until.saturating_duration_since(Instant::now());
        state = CHANGED.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    if state.live > 0 {
        // SAFETY: no arguments that could be wrong; C's buffers are written out as `exit` would.
        unsafe {
            fflush(std::ptr::null_mut());
            _exit(status);
        }
    }
}

/// A handle was made.
pub(super) fn created() {
    static ONCE: Once = Once::new();
    // SAFETY: the handler is a function of this program and takes no argument.
    ONCE.call_once(|| unsafe {
        on_exit(at_exit, std::ptr::null_mut());
    });
    count().live += 1;
}

/// A thread is about to shut a handle down.
pub(super) fn shutting_down() {
    count().shutting_down += 1;
}

/// It has.
pub(super) fn shut_down() {
    let mut state = count();
    state.live -= 1;
    state.shutting_down -= 1;
    CHANGED.notify_all();
}
