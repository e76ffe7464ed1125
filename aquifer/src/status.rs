//! `aquifer status`: every service and engine of the cloud in a data directory.

use crate::control;
use crate::error::AquiferError;
use crate::terminal;
use std::path::Path;
use std::process::ExitCode;

/// Exit code 0 when everything runs, 1 when something does not, also when nothing is running.
pub(crate) async fn run(dir: &Path) -> Result<ExitCode, AquiferError> {
    let Some(lines) = control::ask(&dir.join("control.sock")).await else {
        let left = engines::observe(dir).await;
        let alive: Vec<_> = left.iter().filter(|e| e.pid.is_some()).collect();
        if alive.is_empty() {
            return Err(AquiferError::NotRunning(dir.display().to_string()));
        }
        terminal::say(
            "aquifer is not running; these engines outlived it (`aquifer up` takes them up again):",
        );
        for e in alive {
            terminal::say(&format!("  {} (pid {})", e.name, e.pid.unwrap_or_default()));
        }
        return Ok(ExitCode::FAILURE);
    };
    let heading = ["KIND", "NAME", "STATE", "DETAIL"].map(str::to_owned).to_vec();
    let well = lines.iter().all(|l| l.state == "up");
    let rows = lines.into_iter().map(|l| vec![l.kind, l.name, l.state, l.detail]);
    terminal::table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>());
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
