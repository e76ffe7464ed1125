//! The operator's policy file: read as YAML or JSON, and read again when it changes.

use super::PolicyError;
use serde::Deserialize;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// How often a followed file is looked at, microseconds.
const LOOK: i64 = 1_000_000;

/// A rule as the file may write it: as text, or as upstream's older lists (any of lists of which all must hold).
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Lists(Vec<OneOrAll>),
    Flag(bool),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrAll {
    One(String),
    All(Vec<String>),
}

impl Written {
    fn text(self) -> String {
        match self {
            Written::Text(text) => text,
            Written::Flag(yes) => if yes { "@" } else { "!" }.to_owned(),
            Written::Lists(any) => {
                let all = any.into_iter().map(|part| match part {
                    OneOrAll::One(check) => check,
                    OneOrAll::All(checks) if checks.is_empty() => "@".to_owned(),
                    OneOrAll::All(checks) => format!("({})", checks.join(" and ")),
                });
                all.collect::<Vec<_>>().join(" or ")
            }
        }
    }
}

/// The rules that a file replaces. One that holds only comments replaces none.
pub(super) fn read(file: &Path) -> Result<HashMap<String, String>, PolicyError> {
    let shown = file.display().to_string();
    let text = fs::read_to_string(file).map_err(|e| PolicyError::Read(shown.clone(), e))?;
    read_text(&text, shown)
}

/// The same for what a file says; `shown` names it in errors.
pub(super) fn read_text(text: &str, shown: String) -> Result<HashMap<String, String>, PolicyError> {
    if text.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#') || l.trim() == "---") {
        return Ok(HashMap::new());
    }
    let written: HashMap<String, Written> =
        serde_saphyr::from_str(text).map_err(|e| PolicyError::Yaml(shown, e.to_string()))?;
    Ok(written.into_iter().map(|(name, rule)| (name, rule.text())).collect())
}

/// What tells one state of a file from another: when it was written, how long it is, which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp(i64, i64, u64, u64);

pub(super) fn stamp(file: &Path) -> Option<Stamp> {
    fs::metadata(file).ok().map(|m| Stamp(m.mtime(), m.mtime_nsec(), m.len(), m.ino()))
}

/// The file that a policy follows, if it does.
#[derive(Default)]
pub(super) struct Followed {
    file: OnceLock<PathBuf>,
    seen: Mutex<Option<Stamp>>,
    looked_at: AtomicI64,
}

impl Followed {
    /// Follows the file from the state that was seen: what changes from there on is told.
    pub(super) fn begin(&self, file: &Path, seen: Option<Stamp>) {
        if self.file.set(file.to_owned()).is_ok() {
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        }
    }

    /// The file, once for each change of it, and at most once a second.
    pub(super) fn changed(&self) -> Option<&Path> {
        let file = self.file.get()?;
        let now = state::Timestamp::now().micros();
        let last = self.looked_at.load(Ordering::Relaxed);
        if now.saturating_sub(last).abs() < LOOK
            || self.looked_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return None;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is = stamp(file);
        (std::mem::replace(&mut *seen, is) != is).then_some(file)
    }
}
