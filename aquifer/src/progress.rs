//! Progress of long work, as lines that stay readable in a log too.

use crate::terminal;
use std::time::Duration;

/// Prints a line when a step is done, and says what takes long.
pub(crate) struct Lines;

impl engines::Progress for Lines {
    fn begin(&self, _step: &str) {}

    fn done(&self, step: &str, elapsed: Duration) {
        let mark = if terminal::is_interactive() { "\x1b[32m✓\x1b[0m" } else { "ok" };
        terminal::say(&format!("  {mark} {step:<34} {:>6.1} s", elapsed.as_secs_f64()));
    }

    fn note(&self, text: &str) {
        terminal::say(&format!("    {text}"));
    }
}
