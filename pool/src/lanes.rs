//! Threads for the calls that librados and librbd have only in a blocking form (most of RBD's management,
//! monitor commands, object listings).
//!
//! They are the cluster's own and few: a hung cluster fills its lanes and nothing else, neither tokio's
//! blocking pool nor another cluster's lanes. Threads start when there is work and end when there has been
//! none for a while, so that an idle process has none. What may take minutes (flatten, copy, removal of a
//! large image) has a lane of its own, so that it cannot keep a create or an open waiting.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

const IDLE: Duration = Duration::from_secs(5);
const STACK: usize = 1 << 20;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    max: usize,
    name: &'static str,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // A job that panics has reported it by dropping its sender; the thread lives on.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let (next, timeout) = self.wake.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = next;
            state.idle -= 1;
            if timeout.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

/// One bounded set of threads with a queue.
#[derive(Clone)]
pub(crate) struct Lane(Arc<Shared>);

impl Lane {
    pub(crate) fn new(name: &'static str, max: usize) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), wake: Condvar::new(), max, name }))
    }

    /// Runs `f` on a thread of this lane. A call whose future was dropped before a thread was free never
    /// starts; one that has started runs to its end. `None`: the closure panicked or no thread could start.
    pub(crate) async fn run<R: Send + 'static>(&self, f: impl FnOnce() -> R + Send + 'static) -> Option<R> {
        let (tx, rx) = oneshot::channel();
        self.push(Box::new(move || {
            if !tx.is_closed() {
                let _ = tx.send(f());
            }
        }));
        rx.await.ok()
    }

    fn push(&self, job: Job) {
        let mut state = self.0.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            self.0.wake.notify_one();
        } else if state.threads < self.0.max {
            state.threads += 1;
            let shared = self.0.clone();
            let spawned = std::thread::Builder::new()
                .name(self.0.name.into())
                .stack_size(STACK)
                .spawn(move || shared.work());
            if spawned.is_err() {
                state.threads -= 1;
                if state.threads == 0 {
                    state.jobs.clear(); // drops their senders: the callers see it
                }
            }
        }
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lane({}, {})", self.0.name, self.0.max)
    }
}
