//! Access logs: what was asked of a bucket through S3, delivered as objects to another bucket of its project.
//!
//! As with S3 itself delivery is made an effort for and no more: lines gather in memory and become an object every so
//! often; a process that is killed takes its last lines with it. A request of a bucket that keeps no log pays one load of
//! a flag.

use crate::container::Container;
use crate::grants::Grant;
use crate::names::{ContainerId, Tag};
use crate::object::{Body, Condition, NewObject};
use crate::{ObjectError, ObjectStore};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Where a bucket's log goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    pub bucket: String,
    pub prefix: String,
    /// The log's objects are named by owner, region, bucket and day.
    pub partitioned: bool,
    /// Who else may use the log's objects.
    #[serde(default)]
    pub grants: Vec<Grant>,
}

/// Bytes of lines that become an object at once; and that all buckets together may have in memory.
const FULL: usize = 1 << 20;
const MOST: usize = 16 << 20;

/// Lines that are not delivered yet.
#[derive(Default)]
pub(crate) struct AccessLogs {
    /// This process has seen a container that keeps a log.
    any: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    lines: HashMap<ContainerId, (Arc<Container>, String)>,
    bytes: usize,
    /// Lines for which there was no room.
    lost: u64,
}

impl AccessLogs {
    pub(crate) fn seen(&self) {
        self.any.store(true, Ordering::Relaxed);
    }

    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Takes a line; the text that is to be delivered at once, if there is enough of it.
    fn take(&self, container: &Arc<Container>, line: &str) -> Option<String> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.bytes + line.len() > MOST {
            waiting.lost += 1;
            return None;
        }
        waiting.bytes += line.len() + 1;
        let (_, text) =
            waiting.lines.entry(container.id).or_insert_with(|| (container.clone(), String::new()));
        text.push_str(line);
        text.push('\n');
        if text.len() < FULL {
            return None;
        }
        let (_, text) = waiting.lines.remove(&container.id)?;
        waiting.bytes -= text.len();
        Some(text)
    }

    fn take_all(&self) -> Vec<(Arc<Container>, String)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Waiting { lines, lost, .. } = std::mem::take(&mut *waiting);
        if lost > 0 {
            tracing::warn!(lines = lost, "access logs have lost lines: storage did not keep up");
        }
        lines.into_values().collect()
    }
}

impl ObjectStore {
    /// Logs a line of a bucket that keeps a log.
    pub(crate) fn log_access(&self, container: &Arc<Container>, line: &str) {
        if let Some(text) = self.inner.logs.take(container, line) {
            let (this, container) = (self.clone(), container.clone());
            tokio::spawn(async move { this.deliver_log(&container, text).await });
        }
    }

    /// Delivers access logs, until `stop`.
    pub(crate) async fn log_rounds(self, stop: CancellationToken) {
        let every = Duration::from_secs(self.inner.config.access_log_interval_s.max(1));
        while tokio::time::timeout(every, stop.cancelled()).await.is_err() {
            self.deliver_logs().await;
        }
        self.deliver_logs().await;
    }

    async fn deliver_logs(&self) {
        for (container, text) in self.inner.logs.take_all() {
            self.deliver_log(&container, text).await;
        }
    }

    async fn deliver_log(&self, container: &Arc<Container>, text: String) {
        let Some(log) = &container.info.sharing.log else { return };
        let put = async {
            let target = self.find_container(&container.project_id, &log.bucket).await?;
            let name = log.name(container, &self.inner.config.s3_region);
            let grants = Some(log.grants.clone()).filter(|g| !g.is_empty());
            let new = NewObject { name, content_type: "text/plain".into(), grants, ..NewObject::default() };
            self.put_object(&target, new, Body::of(text), Condition::Always).await.map(drop)
        };
        match put.await {
            Ok(()) => {}
            // The owner has taken the log's bucket away.
            Err(ObjectError::NoSuchContainer) => {}
            Err(e) => {
                tracing::warn!(container = %container.id, error = ?e, "an access log could not be delivered")
            }
        }
    }
}

impl AccessLog {
    /// The name of an object with lines of now.
    fn name(&self, source: &Container, region: &str) -> String {
        let now = Utc::now();
        let (prefix, at) = (&self.prefix, now.format("%Y-%m-%d-%H-%M-%S"));
        let unique = Tag::new().to_string().to_uppercase();
        let unique = &unique[16..];
        match self.partitioned {
            false => format!("{prefix}{at}-{unique}"),
            true => {
                let day = now.format("%Y/%m/%d");
                format!("{prefix}{}/{region}/{}/{day}/{at}-{unique}", source.project_id, source.name)
            }
        }
    }
}
