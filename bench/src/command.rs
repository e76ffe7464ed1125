//! Programs that must succeed.

use crate::{BenchError, Result};
use std::process::{Command, Stdio};

/// Runs it to its end; what it wrote to standard output.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(BenchError::Said(format!("{command:?}: {}", said.trim())))
        }
    }
}
