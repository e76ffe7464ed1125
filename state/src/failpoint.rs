//! Failpoints: named places where a test can make the program stop, fail or die.
//!
//! Off, a failpoint costs one atomic load. In a test: [`set`]. For a whole process:
//! `AQUIFER_FAILPOINTS="volume.create:clone:after=abort;image.import:hash:before=error"`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, PoisonError, RwLock};

/// What happens at a failpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The step fails for good.
    Fail,
    /// The step fails once as if an engine was away; the failpoint is then off.
    RetryOnce,
    /// The process dies at once, as by `kill -9`.
    Abort,
    /// The step waits until the failpoint is cleared.
    Pause,
}

static ARMED: AtomicBool = AtomicBool::new(false);
static POINTS: LazyLock<RwLock<HashMap<String, Action>>> = LazyLock::new(RwLock::default);

/// Arms a failpoint in this process.
pub fn set(name: impl Into<String>, action: Action) {
    POINTS.write().unwrap_or_else(PoisonError::into_inner).insert(name.into(), action);
    ARMED.store(true, Ordering::Release);
}

/// Disarms a failpoint.
pub fn clear(name: &str) {
    POINTS.write().unwrap_or_else(PoisonError::into_inner).remove(name);
}

/// Arms what the environment names; unknown actions are refused with their text.
pub fn from_env() -> Result<(), String> {
    let Ok(list) = std::env::var("AQUIFER_FAILPOINTS") else { return Ok(()) };
    for item in list.split(';').filter(|i| !i.is_empty()) {
        let action = match item.split_once('=') {
            Some((_, "error")) => Action::Fail,
            Some((_, "retry")) => Action::RetryOnce,
            Some((_, "abort")) => Action::Abort,
            Some((_, "pause")) => Action::Pause,
            _ => return Err(format!("AQUIFER_FAILPOINTS: {item:?} is not name=error|retry|abort|pause")),
        };
        set(item.split('=').next().unwrap_or_default(), action);
    }
    Ok(())
}

/// Passes the failpoint `name`: `None` to go on, `Some` with what the step is to fail with.
pub async fn hit(name: &str) -> Option<Action> {
    loop {
        if !ARMED.load(Ordering::Acquire) {
            return None;
        }
        let action = POINTS.read().unwrap_or_else(PoisonError::into_inner).get(name).copied()?;
        match action {
            Action::Abort => std::process::abort(),
            Action::Pause => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            Action::RetryOnce => {
                clear(name);
                return Some(action);
            }
            Action::Fail => return Some(action),
        }
    }
}
