//! The worker: claims due tasks, runs their steps, renews leases, retries and unwinds.

use super::rows::{self, Progress, Row};
use super::{Job, Operation, StepError};
use crate::failpoint::{self, Action};
use crate::{Db, StateError, Timestamp};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Idle workers look at the table this often even if no wake-up came.
const TICK: Duration = Duration::from_secs(5);
const KEEP_FAILED: Duration = Duration::from_secs(7 * 24 * 3600);

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// This process's name in leases: stable over its restarts, unlike any other process's.
    pub node: String,
    /// Tasks that run at once.
    pub concurrency: usize,
    /// How long a dead worker's task waits for another.
    pub lease: Duration,
    /// The first retry's delay; it doubles up to a minute.
    pub backoff: Duration,
}

impl WorkerConfig {
    pub fn new(node: impl Into<String>) -> Self {
        WorkerConfig {
            node: node.into(),
            concurrency: 16,
            lease: Duration::from_secs(30),
            backoff: Duration::from_millis(250),
        }
    }
}

/// Runs the operations it was given.
pub struct Worker {
    db: Db,
    config: WorkerConfig,
    operations: HashMap<&'static str, Arc<dyn Operation>>,
}

impl Worker {
    pub fn new(db: Db, config: WorkerConfig) -> Self {
        Worker { db, config, operations: HashMap::new() }
    }

    #[must_use]
    pub fn with(mut self, operation: impl Operation) -> Self {
        self.operations.insert(operation.kind(), Arc::new(operation));
        self
    }

    #[must_use]
    pub fn with_all(mut self, operations: Vec<Arc<dyn Operation>>) -> Self {
        self.operations.extend(operations.into_iter().map(|o| (o.kind(), o)));
        self
    }

    /// Works until `stop`; running steps are then finished, waiting ones stay rows.
    pub async fn run(self, stop: CancellationToken) {
        let kinds: Vec<_> = self.operations.keys().copied().collect();
        if kinds.is_empty() {
            return;
        }
        let slots = Arc::new(Semaphore::new(self.config.concurrency));
        let mut signal = self.db.signal(rows::TOPIC);
        let mut running = tokio::task::JoinSet::new();
        let mut started = false;
        while !stop.is_cancelled() {
            let free = slots.available_permits();
            let claimed = async {
                if !started {
                    rows::release(&self.db, &self.config.node).await?;
                    rows::purge(&self.db, KEEP_FAILED).await?;
                    started = true;
                }
                let max = i64::try_from(free).unwrap_or(1);
                if max == 0 {
                    Ok(Vec::new())
                } else {
                    rows::claim(&self.db, &kinds, &self.config.node, self.config.lease, max).await
                }
            };
            let tick = match claimed.await {
                Ok(rows) if !rows.is_empty() => {
                    for row in rows {
                        let Some(operation) = self.operations.get(row.kind.as_str()).cloned() else {
                            continue;
                        };
                        let permit = slots.clone().acquire_owned().await;
                        let runner = Runner { db: self.db.clone(), config: self.config.clone(), operation };
                        running.spawn(async move {
                            runner.run(row).await;
                            drop(permit);
                        });
                    }
                    continue;
                }
                Ok(_) => self.until_next(&kinds).await,
                Err(e) => {
                    tracing::warn!(error = %e, "tasks cannot be claimed; trying again");
                    Duration::from_secs(1)
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = signal.wait(tick) => {}
                Some(_) = running.join_next(), if !running.is_empty() => {}
            }
        }
        while running.join_next().await.is_some() {}
    }

    async fn until_next(&self, kinds: &[&'static str]) -> Duration {
        match rows::next_due(&self.db, kinds).await {
            Ok(Some(at)) => {
                let micros = at.0.saturating_sub(Timestamp::now().0).max(20_000);
                Duration::from_micros(u64::try_from(micros).unwrap_or(20_000)).min(TICK)
            }
            _ => TICK,
        }
    }
}

struct Runner {
    db: Db,
    config: WorkerConfig,
    operation: Arc<dyn Operation>,
}

impl Runner {
    /// Carries a claimed task as far as it goes, renewing its lease meanwhile.
    async fn run(&self, row: Row) {
        let (id, kind) = (row.id.clone(), row.kind.clone());
        let work = async {
            if let Err(e) = self.carry(row).await {
                tracing::warn!(task = %id, %kind, error = %e, "a task's progress cannot be saved; its lease will run out");
            }
        };
        let lost = async {
            loop {
                tokio::time::sleep(self.config.lease / 3).await;
                if let Ok(false) = rows::renew(&self.db, &id, &self.config.node, self.config.lease).await {
                    return;
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = lost => tracing::warn!(task = %id, %kind, "lease lost; another worker carries on"),
        }
    }

    async fn carry(&self, row: Row) -> Result<(), StateError> {
        let mut job = Job {
            id: row.id.clone(),
            subject: row.subject.clone(),
            db: self.db.clone(),
            node: self.config.node.clone(),
            params: serde_json::from_str(&row.params)?,
            memo: serde_json::from_str(&row.memo)?,
        };
        let mut at = At {
            step: row.step,
            attempts: row.attempts,
            reason: row.reason.clone(),
            unwinding: row.state == "unwinding",
        };
        loop {
            if !at.unwinding {
                let Some(step) = self.step(at.step) else {
                    return rows::remove(&self.db, &row.id, &self.config.node).await;
                };
                match self.guarded(step, "", &mut job).await {
                    Ok(()) => {
                        (at.step, at.attempts) = (at.step + 1, 0);
                        // The last step done, the row goes: saying so first would cost one more commit. Whoever
                        // finds the row after a crash in between runs the last step again.
                        if self.step(at.step).is_none() {
                            return rows::remove(&self.db, &row.id, &self.config.node).await;
                        }
                    }
                    Err(e) => {
                        if let Some(delay) = self.after_failure(&mut at, &row, step, e) {
                            self.save(&row.id, &job, &at, delay, None).await?;
                            return Ok(());
                        }
                    }
                }
            } else if let Some(step) = self.step(at.step) {
                // The step that failed may be half done, so it is undone too.
                match self.guarded(step, "undo:", &mut job).await {
                    Ok(()) => (at.step, at.attempts) = (at.step - 1, 0),
                    Err(e) => return self.undo_later(&row, &job, &mut at, step, e).await,
                }
            } else {
                let reason = at.reason.clone();
                match self.operation.unwound(&mut job, &reason).await {
                    Ok(()) => return rows::keep(&self.db, &row.id, &self.config.node, &reason).await,
                    Err(e) => return self.undo_later(&row, &job, &mut at, "unwound", e).await,
                }
            }
            if !self.save(&row.id, &job, &at, Duration::ZERO, Some(self.config.lease)).await? {
                return Ok(());
            }
        }
    }

    fn step(&self, index: i64) -> Option<&'static str> {
        usize::try_from(index).ok().and_then(|i| self.operation.steps().get(i)).copied()
    }

    /// Runs one do or undo between its two failpoints; a panic counts as a failed attempt.
    async fn guarded(&self, step: &'static str, prefix: &str, job: &mut Job) -> Result<(), StepError> {
        let point = |when: &str| format!("{}:{prefix}{step}:{when}", self.operation.kind());
        stopped(&point("before")).await?;
        let done = async {
            if prefix.is_empty() {
                self.operation.run(step, job).await
            } else {
                self.operation.undo(step, job).await
            }
        };
        match futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(done)).await {
            Ok(result) => result?,
            Err(_) => return Err(StepError::retry("the operation failed inside")),
        }
        stopped(&point("after")).await
    }

    /// Says how a failed step goes on: a delay for another try, or `None` to unwind at once.
    fn after_failure(&self, at: &mut At, row: &Row, step: &str, e: StepError) -> Option<Duration> {
        match e {
            StepError::Wait(delay) => return Some(delay),
            StepError::Retry { reason, source } => {
                at.attempts += 1;
                at.reason = reason;
                tracing::warn!(task = %row.id, kind = %row.kind, subject = %row.subject, step, attempt = at.attempts,
                    reason = %at.reason, cause = %chain(source.as_deref()), "step failed");
                if at.attempts < i64::from(self.operation.attempts()) {
                    return Some(self.backoff(at.attempts));
                }
            }
            StepError::Fail { reason, source } => {
                at.reason = reason;
                tracing::warn!(task = %row.id, kind = %row.kind, subject = %row.subject, step,
                    reason = %at.reason, cause = %chain(source.as_deref()), "operation unwinds");
            }
        }
        (at.unwinding, at.attempts) = (true, 0);
        None
    }

    /// An undo is never given up: it is tried again for as long as it takes.
    async fn undo_later(
        &self,
        row: &Row,
        job: &Job,
        at: &mut At,
        step: &str,
        e: StepError,
    ) -> Result<(), StateError> {
        at.attempts += 1;
        let delay = if let StepError::Wait(d) = e { d } else { self.backoff(at.attempts) };
        let cause = match &e {
            StepError::Retry { source, .. } | StepError::Fail { source, .. } => chain(source.as_deref()),
            StepError::Wait(_) => String::new(),
        };
        tracing::error!(task = %row.id, kind = %row.kind, subject = %row.subject, step, attempt = at.attempts,
            error = %e, cause, "undo failed; trying again");
        self.save(&row.id, job, at, delay, None).await.map(|_| ())
    }

    fn backoff(&self, attempts: i64) -> Duration {
        let doubled =
            self.config.backoff.saturating_mul(1 << attempts.clamp(1, 12).unsigned_abs().saturating_sub(1));
        doubled.min(Duration::from_secs(60)).mul_f64(rand::random_range(0.8..1.2))
    }

    async fn save(
        &self,
        id: &str,
        job: &Job,
        at: &At,
        delay: Duration,
        hold: Option<Duration>,
    ) -> Result<bool, StateError> {
        let memo = serde_json::to_string(&job.memo)?;
        let state = if at.unwinding { "unwinding" } else { "ready" };
        let (step, attempts, reason) = (at.step, at.attempts, &at.reason);
        let progress = Progress { state, step, attempts, reason, memo: &memo, delay, hold };
        rows::save(&self.db, id, &self.config.node, progress).await
    }
}

struct At {
    step: i64,
    attempts: i64,
    reason: String,
    unwinding: bool,
}

async fn stopped(point: &str) -> Result<(), StepError> {
    match failpoint::hit(point).await {
        Some(Action::Fail) => Err(StepError::fail(format!("failpoint {point}"))),
        Some(_) => Err(StepError::retry(format!("failpoint {point}"))),
        None => Ok(()),
    }
}

/// An error with everything that caused it, on one line.
fn chain(e: Option<&(dyn std::error::Error + Send + Sync + 'static)>) -> String {
    let mut out = String::new();
    let mut next = e.map(|e| e as &dyn std::error::Error);
    while let Some(e) = next {
        if !out.is_empty() {
            out.push_str(": ");
        }
        out.push_str(&e.to_string());
        next = e.source();
    }
    out
}
