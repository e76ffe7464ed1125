//! Durable tasks on both databases: every step repeated, unwinding from every step, leases, order.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use async_trait::async_trait;
use state::failpoint::{self, Action};
use state::{Db, Job, NewTask, Operation, StepError, Worker, WorkerConfig};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

type Log = Arc<Mutex<Vec<String>>>;

/// Writes down what it is asked to do. `kind` is its own in every test: failpoints are global.
struct Recorder {
    kind: &'static str,
    log: Log,
}

impl Recorder {
    fn note(&self, what: &str, step: &str, job: &Job) {
        let name: String = job.params().unwrap();
        self.log.lock().unwrap().push(format!("{name}:{what}{step}"));
    }
}

#[async_trait]
impl Operation for Recorder {
    fn kind(&self) -> &'static str {
        self.kind
    }
    fn steps(&self) -> &'static [&'static str] {
        &["one", "two"]
    }
    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        self.note("", step, job);
        if step == "one" {
            job.remember("seen", &1)?;
        } else {
            assert_eq!(job.recall::<i32>("seen"), Some(1));
        }
        Ok(())
    }
    async fn undo(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        self.note("undo ", step, job);
        Ok(())
    }
    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        self.note("unwound by ", reason, job);
        Ok(())
    }
    fn attempts(&self) -> u32 {
        3
    }
}

async fn spawn(db: &Db, kind: &'static str, name: &str, subject: &str) {
    let mut tx = db.begin().await.unwrap();
    NewTask { kind, subject }.spawn(&mut tx, &name).await.unwrap();
    tx.commit().await.unwrap();
}

/// Works until the subject has nothing left to do, and says what happened.
async fn work(db: &Db, kind: &'static str, subject: &str) -> Vec<String> {
    let log = Log::default();
    work_with(db, Recorder { kind, log: log.clone() }, &log, subject).await
}

async fn work_with(db: &Db, operation: impl Operation, log: &Log, subject: &str) -> Vec<String> {
    let stop = CancellationToken::new();
    let config = WorkerConfig { backoff: Duration::from_millis(10), ..WorkerConfig::new("test") };
    let worker = Worker::new(db.clone(), config).with(operation);
    let running = tokio::spawn(worker.run(stop.clone()));
    let done = async {
        while !state::tasks::unfinished(db, subject).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), done).await.unwrap();
    stop.cancel();
    running.await.unwrap();
    log.lock().unwrap().clone()
}

#[tokio::test]
async fn runs_to_the_end_and_leaves_no_row() {
    for db in testbed::databases().await {
        spawn(&db, "plain", "a", "s/1").await;
        assert_eq!(work(&db, "plain", "s/1").await, ["a:one", "a:two"]);
    }
}

#[tokio::test]
async fn repeats_a_step_whose_end_was_not_saved() {
    for db in testbed::databases().await {
        for point in ["again:one:after", "again:two:after"] {
            failpoint::set(point, Action::RetryOnce);
            spawn(&db, "again", "a", "s/1").await;
            let seen = work(&db, "again", "s/1").await;
            assert_eq!(seen.len(), 3, "{point}: {seen:?}");
        }
    }
}

/// Makes its end visible with its task's: `Ok` for good, `Err` where it unwinds.
struct Finisher(Recorder);

#[async_trait]
impl Operation for Finisher {
    fn kind(&self) -> &'static str {
        self.0.kind
    }
    fn steps(&self) -> &'static [&'static str] {
        &["one"]
    }
    async fn run(&self, step: &str, job: &mut Job) -> Result<(), StepError> {
        self.0.note("", step, job);
        if job.params::<String>()? == "bad" {
            return Err(StepError::fail("it is bad"));
        }
        let mut tx = job.db.begin().await.unwrap();
        job.finish(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = job.db.begin().await.unwrap();
        assert!(matches!(job.finish(&mut tx).await, Err(state::StateError::NotFound)), "twice");
        Ok(())
    }
    async fn undo(&self, _: &str, _: &mut Job) -> Result<(), StepError> {
        Ok(())
    }
    async fn unwound(&self, job: &mut Job, reason: &str) -> Result<(), StepError> {
        self.0.note("unwound by ", reason, job);
        let mut tx = job.db.begin().await.unwrap();
        job.fail(&mut tx, reason).await.unwrap();
        tx.commit().await.unwrap();
        Err(StepError::retry("cut short"))
    }
}

/// What has made its end visible does nothing any more, whatever happens before its worker knows.
#[tokio::test]
async fn what_has_finished_never_runs_again() {
    for db in testbed::databases().await {
        failpoint::set("finish:one:after", Action::RetryOnce);
        for name in ["a", "bad", "b"] {
            spawn(&db, "finish", name, "s/1").await;
        }
        let log = Log::default();
        let recorder = Recorder { kind: "finish", log: log.clone() };
        let seen = work_with(&db, Finisher(recorder), &log, "s/1").await;
        assert_eq!(seen, ["a:one", "bad:one", "bad:unwound by it is bad", "b:one"]);
    }
}

#[tokio::test]
async fn unwinds_from_every_step() {
    for db in testbed::databases().await {
        failpoint::set("unwind:two:before", Action::Fail);
        spawn(&db, "unwind", "a", "s/1").await;
        assert_eq!(
            work(&db, "unwind", "s/1").await,
            ["a:one", "a:undo two", "a:undo one", "a:unwound by failpoint unwind:two:before"]
        );
        failpoint::clear("unwind:two:before");
        failpoint::set("unwind:one:after", Action::Fail);
        failpoint::set("unwind:undo:one:after", Action::RetryOnce);
        spawn(&db, "unwind", "b", "s/1").await;
        assert_eq!(
            work(&db, "unwind", "s/1").await,
            ["b:one", "b:undo one", "b:undo one", "b:unwound by failpoint unwind:one:after"]
        );
        failpoint::clear("unwind:one:after");
    }
}

#[tokio::test]
async fn one_subject_is_served_in_order() {
    for db in testbed::databases().await {
        for name in ["a", "b", "c"] {
            spawn(&db, "order", name, "s/1").await;
        }
        let seen = work(&db, "order", "s/1").await;
        assert_eq!(seen, ["a:one", "a:two", "b:one", "b:two", "c:one", "c:two"]);
    }
}

#[tokio::test]
async fn a_dead_workers_task_is_taken_up() {
    for db in testbed::databases().await {
        spawn(&db, "dead", "a", "s/1").await;
        let mut tx = db.begin().await.unwrap();
        let until = state::Timestamp::now().plus(Duration::from_millis(300));
        sqlx::query(
            "UPDATE tasks SET lease_node = 'other', lease_until = $1, step = 1, memo = '{\"seen\":1}'",
        )
        .bind(until)
        .execute(tx.conn())
        .await
        .unwrap();
        tx.commit().await.unwrap();
        assert_eq!(work(&db, "dead", "s/1").await, ["a:two"]);
        assert!(state::Timestamp::now() > until, "the other's lease was respected");
    }
}

#[tokio::test]
async fn a_dropped_transaction_leaves_nothing() {
    for db in testbed::databases().await {
        let mut tx = db.begin().await.unwrap();
        NewTask { kind: "gone", subject: "s/1" }.spawn(&mut tx, &"a").await.unwrap();
        drop(tx);
        assert!(state::tasks::unfinished(&db, "s/1").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_wake_up_crosses_processes() {
    for db in testbed::databases().await {
        let mut signal = db.signal("topic");
        let began = std::time::Instant::now();
        let mut tx = db.begin().await.unwrap();
        tx.wake("topic");
        tx.commit().await.unwrap();
        signal.wait(Duration::from_secs(10)).await;
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
