//! How the engines tell what they are doing, so that a command line can draw it.

use std::time::Duration;

/// Steps overlap: several may have begun before one is done. A step's name is its identity.
pub trait Progress: Send + Sync {
    fn begin(&self, step: &str);
    fn done(&self, step: &str, elapsed: Duration);
    /// Something a person should read that is no step: a fallback taken, an engine taken up again.
    fn note(&self, text: &str);
}

/// Says nothing.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _step: &str) {}
    fn done(&self, _step: &str, _elapsed: Duration) {}
    fn note(&self, _text: &str) {}
}

/// Runs `work` as the step `step`.
pub(crate) async fn step<T, E>(
    progress: &dyn Progress,
    step: &str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let from = std::time::Instant::now();
    progress.begin(step);
    let result = work.await;
    if result.is_ok() {
        progress.done(step, from.elapsed());
    }
    result
}
