//! One supervised daemon.
//!
//! A daemon is started in a session of its own with its output in a log file, and writes its own pid
//! file before it becomes the daemon (`sh -c 'echo $$ …; exec …'`), so that a crash of ours at any
//! instant leaves no daemon that nobody knows. Every link of the chain that starts it only execs: the
//! pid in the file is the daemon's. Nothing ties its life to ours: the next process finds it by its pid
//! file and checks through /proc that the pid is really that daemon before it takes it up again.

use crate::error::{EngineError, Result};
use crate::files;
use chrono::{DateTime, Utc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// A log that is larger than this is moved aside, one generation.
const LOG_LIMIT: u64 = 16 << 20;
const LOG_WATCH: Duration = Duration::from_secs(60);
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MOST: Duration = Duration::from_secs(30);
/// A daemon that has lived this long is healthy: the next fault starts from the first back-off again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// How often a daemon that is not our child is looked at.
const WATCH: Duration = Duration::from_millis(250);

/// What a daemon is: how it is started, how it is recognised, how it ends.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// Unique in the data directory; names the pid file and the log.
    pub(crate) name: String,
    /// The network namespace it runs in, if not the host's.
    pub(crate) netns: Option<String>,
    /// Shell text that runs in a mount namespace of the daemon's own before it starts.
    pub(crate) mounts: Option<String>,
    /// The daemon and its arguments. At least one argument holds a path below the data directory.
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) dir: PathBuf,
    /// How long the daemon may take to end after SIGTERM before it is killed.
    pub(crate) grace: Duration,
}

impl Spec {
    pub(crate) fn new(dir: &Path, name: impl Into<String>, argv: Vec<String>) -> Self {
        Self {
            name: name.into(),
            netns: None,
            mounts: None,
            argv,
            env: Vec::new(),
            dir: dir.to_owned(),
            grace: Duration::from_secs(10),
        }
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        pid_file(&self.dir, &self.name)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("log").join(format!("{}.log", self.name))
    }

    /// The pid of this daemon if it runs, by whoever it was started.
    pub(crate) fn running(&self) -> Option<u32> {
        let program = Path::new(self.argv.first()?).file_name()?.to_str()?;
        running(&self.pid_file(), &self.dir, program)
    }

    fn command(&self) -> Command {
        let mut chain: Vec<String> = vec!["setsid".into()];
        if let Some(netns) = &self.netns {
            chain.extend(["nsenter".into(), format!("--net=/run/netns/{netns}")]);
        }
        if self.mounts.is_some() {
            chain.extend(["unshare".into(), "--mount".into(), "--propagation".into(), "private".into()]);
        }
        let mounts = self.mounts.as_deref().unwrap_or("");
        let script = format!("set -e\necho $$ >\"$0.new\"\nmv \"$0.new\" \"$0\"\n{mounts}\nexec \"$@\"");
        chain.extend(["sh".into(), "-c".into(), script, self.pid_file().display().to_string()]);
        chain.extend(self.argv.iter().cloned());
        let mut command = Command::new(&chain[0]);
        command.args(&chain[1..]).envs(self.env.iter().cloned()).current_dir(&self.dir);
        command
    }

    fn spawn(&self) -> Result<Child> {
        let path = self.log();
        rotate(&path);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(EngineError::file(&path))?;
        let errors = log.try_clone().map_err(EngineError::file(&path))?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log).stderr(errors).kill_on_drop(false);
        let program = self.argv.first().cloned().unwrap_or_default();
        let child = command.spawn().map_err(|source| EngineError::Spawn { command: program, source })?;
        // The chain writes it too, for the case that we end here; this is for who looks at once.
        if let Some(pid) = child.id() {
            let path = self.pid_file();
            std::fs::write(&path, format!("{pid}\n")).map_err(EngineError::file(path))?;
        }
        Ok(child)
    }
}

/// Copies a log that has grown too large aside and empties it. Everyone appends to it, so that its
/// writer goes on at its start.
fn rotate(log: &Path) {
    let large = std::fs::metadata(log).is_ok_and(|meta| meta.len() > LOG_LIMIT);
    let moved = || {
        std::fs::copy(log, log.with_extension("log.1"))?;
        std::fs::OpenOptions::new().write(true).open(log)?.set_len(0)
    };
    if large && let Err(error) = moved() {
        tracing::warn!(log = %log.display(), %error, "a log cannot be rotated");
    }
}

fn pid_file(dir: &Path, name: &str) -> PathBuf {
    dir.join("run").join(format!("{name}.pid"))
}

/// The pid in `pid_file` if that process lives and is `program` of the data directory `dir`.
pub(crate) fn running(pid_file: &Path, dir: &Path, program: &str) -> Option<u32> {
    let pid: u32 = files::read_if_there(pid_file).ok()??.trim().parse().ok()?;
    is_ours(pid, dir, program).then_some(pid)
}

/// Whether `pid` lives (a zombie does not) and its command line names `program` and a path in `dir`.
fn is_ours(pid: u32, dir: &Path, program: &str) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let line = String::from_utf8_lossy(&line);
    // A zombie's command line is empty.
    line.contains(&format!("{}/", dir.display())) && line.contains(program)
}

/// The resident memory of `pid` in bytes, without what it shares with its own kind on disk counted twice.
pub(crate) fn rss(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// ```text
/// Running ──ends──► Restarting ──back-off──► Running
///    └──────────stop──────────┴────────────► Stopped
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineState {
    Running,
    Restarting,
    Stopped,
}

/// How an engine stands.
#[derive(Debug, Clone, Serialize)]
pub struct EngineStatus {
    pub name: String,
    pub state: EngineState,
    pub pid: Option<u32>,
    /// Since when it is in this state.
    pub since: DateTime<Utc>,
    /// Resident memory in bytes.
    pub rss: u64,
    /// How often it was started again after it had ended by itself, since it is supervised.
    pub restarts: u32,
    /// How it ended the last time, if it ever did.
    pub last_exit: Option<String>,
}

struct Shared {
    spec: Spec,
    status: Mutex<EngineStatus>,
}

impl Shared {
    fn status(&self) -> MutexGuard<'_, EngineStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, state: EngineState, pid: Option<u32>) {
        let mut status = self.status();
        (status.state, status.pid, status.since) = (state, pid, Utc::now());
    }
}

/// A daemon under supervision. Dropping it ends the supervision, not the daemon.
pub(crate) struct Daemon {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    /// Taken by whoever stops the daemon first.
    supervisor: tokio::sync::Mutex<Option<Supervisor>>,
    adopted: bool,
}

impl Daemon {
    /// Starts the daemon, or takes up the one that runs.
    pub(crate) fn start(spec: Spec) -> Result<Self> {
        let found = spec.running();
        let child = if found.is_some() { None } else { Some(spec.spawn()?) };
        let pid = found.or_else(|| child.as_ref().and_then(Child::id));
        let status = EngineStatus {
            name: spec.name.clone(),
            state: EngineState::Running,
            pid,
            since: found.and_then(started).unwrap_or_else(Utc::now),
            rss: 0,
            restarts: 0,
            last_exit: None,
        };
        let shared = Arc::new(Shared { spec, status: Mutex::new(status) });
        let (stop, stopping) = watch::channel(false);
        let supervisor = Supervisor(tokio::spawn(supervise(shared.clone(), child, stopping)));
        let supervisor = tokio::sync::Mutex::new(Some(supervisor));
        Ok(Self { shared, stop, supervisor, adopted: found.is_some() })
    }

    /// Whether the daemon ran already when it was to be started.
    pub(crate) fn adopted(&self) -> bool {
        self.adopted
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.shared.status().pid
    }

    pub(crate) fn status(&self) -> EngineStatus {
        let mut status = self.shared.status().clone();
        status.rss = status.pid.map_or(0, rss);
        status
    }

    /// Waits until `ready` says so. Fails at once if the daemon ends meanwhile, and after `limit`.
    pub(crate) async fn wait_ready<F: Future<Output = bool>>(
        &self,
        limit: Duration,
        mut ready: impl FnMut() -> F,
    ) -> Result<()> {
        let spec = &self.shared.spec;
        let until = Instant::now() + limit;
        loop {
            if ready().await {
                return Ok(());
            }
            let status = self.status();
            if status.restarts > 0 || status.state != EngineState::Running {
                let last = status.last_exit.unwrap_or_else(|| "stopped".into());
                return Err(EngineError::Died { engine: spec.name.clone(), last, log: spec.log() });
            }
            if Instant::now() >= until {
                let (engine, log) = (spec.name.clone(), spec.log());
                return Err(EngineError::NotReady { engine, after: limit, log });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends supervision, then the daemon. Can be called again.
    pub(crate) async fn stop(&self) -> Result<()> {
        self.stop.send_replace(true);
        let mut supervisor = self.supervisor.lock().await;
        if let Some(mut supervisor) = supervisor.take()
            && let Err(error) = (&mut supervisor.0).await
        {
            tracing::error!(engine = self.shared.spec.name, %error, "the supervisor ended by itself");
        }
        let spec = &self.shared.spec;
        let result = end(&spec.pid_file(), spec.running(), &spec.name, spec.grace).await;
        self.shared.enter(EngineState::Stopped, None);
        result
    }
}

/// Aborts its task when dropped.
struct Supervisor(tokio::task::JoinHandle<()>);

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits for the daemon to end, over and over, and starts it again, until told to stop.
async fn supervise(shared: Arc<Shared>, mut child: Option<Child>, mut stopping: watch::Receiver<bool>) {
    let name = shared.spec.name.clone();
    let log = shared.spec.log();
    let mut backoff = BACKOFF_FIRST;
    loop {
        let from = Instant::now();
        let last = tokio::select! {
            last = ended(&shared, &mut child) => last,
            () = keep_small(&log) => return,
            _ = stopping.wait_for(|stop| *stop) => {
                // The child is reaped while the caller ends it.
                if let Some(mut child) = child { tokio::spawn(async move { child.wait().await }); }
                return;
            }
        };
        if from.elapsed() >= HEALTHY_AFTER {
            backoff = BACKOFF_FIRST;
        }
        tracing::warn!(engine = name, exit = last, "engine ended; it is started again");
        shared.enter(EngineState::Restarting, None);
        shared.status().last_exit = Some(last);
        loop {
            tokio::select! {
                _ = tokio::time::sleep(backoff) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            backoff = (backoff * 2).min(BACKOFF_MOST);
            match shared.spec.spawn() {
                Ok(fresh) => {
                    shared.status().restarts += 1;
                    shared.enter(EngineState::Running, fresh.id());
                    child = Some(fresh);
                    break;
                }
                Err(error) => tracing::error!(engine = name, %error, "engine cannot be started"),
            }
        }
    }
}

/// Rotates a log for ever.
async fn keep_small(log: &Path) {
    loop {
        tokio::time::sleep(LOG_WATCH).await;
        rotate(log);
    }
}

/// Returns when the daemon has ended, and how.
async fn ended(shared: &Shared, child: &mut Option<Child>) -> String {
    if let Some(child) = child {
        return match child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
    }
    while shared.spec.running().is_some() {
        tokio::time::sleep(WATCH).await;
    }
    "ended (it was started by an earlier process)".into()
}

/// SIGTERM, then SIGKILL after `grace`; returns once the process is gone, and removes its pid file.
pub(crate) async fn end(pid_file: &Path, pid: Option<u32>, name: &str, grace: Duration) -> Result<()> {
    if let Some(pid) = pid {
        for (signal, patience) in [(Signal::SIGTERM, grace), (Signal::SIGKILL, Duration::from_secs(10))] {
            send(pid, signal);
            let until = Instant::now() + patience;
            while alive(pid) && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        if alive(pid) {
            return Err(EngineError::Stuck { engine: name.into(), pid });
        }
    }
    match std::fs::remove_file(pid_file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(EngineError::file(pid_file)(error)),
        _ => Ok(()),
    }
}

/// Sends a signal; that the process is gone already is no error.
pub(crate) fn send(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Whether the process exists and is no zombie.
fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses and may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z') && !rest.starts_with('X'))
}

/// When the process was started, to the second.
fn started(pid: u32) -> Option<DateTime<Utc>> {
    std::fs::metadata(format!("/proc/{pid}")).ok()?.modified().ok().map(DateTime::from)
}

/// How the daemon `name` of `dir` stands, as seen from outside by its pid file.
pub(crate) fn look(dir: &Path, name: &str, program: &str) -> EngineStatus {
    let pid = running(&pid_file(dir, name), dir, program);
    EngineStatus {
        name: name.into(),
        state: if pid.is_some() { EngineState::Running } else { EngineState::Stopped },
        pid,
        since: pid.and_then(started).unwrap_or_else(Utc::now),
        rss: pid.map_or(0, rss),
        restarts: 0,
        last_exit: None,
    }
}

/// Ends the daemon `name` of `dir`, whoever started it.
pub(crate) async fn end_by_name(dir: &Path, name: &str, program: &str, grace: Duration) -> Result<()> {
    let file = pid_file(dir, name);
    end(&file, running(&file, dir, program), name, grace).await
}

/// Runs a program to its end and gives its standard output; a failure carries what it wrote.
pub(crate) async fn run(argv: &[&str]) -> Result<String> {
    run_with(argv, &[], None).await
}

/// [`run`] with environment and standard input.
pub(crate) async fn run_with(argv: &[&str], env: &[(&str, &str)], input: Option<&str>) -> Result<String> {
    let shown = || argv.join(" ");
    let spawn_error = |source| EngineError::Spawn { command: shown(), source };
    let mut command = Command::new(argv[0]);
    command.args(&argv[1..]).envs(env.iter().copied()).kill_on_drop(true);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(spawn_error)?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        use tokio::io::AsyncWriteExt as _;
        stdin.write_all(input.as_bytes()).await.map_err(spawn_error)?;
    }
    let output = child.wait_with_output().await.map_err(spawn_error)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        let output = format!("{} {} ({})", text(&output.stderr), text(&output.stdout), output.status);
        Err(EngineError::Command { command: shown(), output: output.trim().to_owned() })
    }
}

/// `program` is found in PATH, or in the places where daemons live.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let places = path.split(':').chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"]);
    places.map(|place| Path::new(place).join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(dir: &Path) -> Spec {
        files::make_dir(&dir.join("run")).unwrap();
        files::make_dir(&dir.join("log")).unwrap();
        let script = format!("# {}/\nwhile :; do sleep 1; done", dir.display());
        Spec::new(dir, "sleeper", vec!["bash".into(), "-c".into(), script])
    }

    async fn until(mut what: impl FnMut() -> bool) {
        for _ in 0..1000 {
            if what() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came to that");
    }

    #[tokio::test]
    async fn outlives_its_supervisor_and_is_taken_up_again() {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(dir.path());
        let first = Daemon::start(spec.clone()).unwrap();
        until(|| spec.running().is_some()).await;
        let pid = first.pid();
        drop(first);
        let second = Daemon::start(spec.clone()).unwrap();
        assert!(second.adopted());
        assert_eq!(second.pid(), pid);
        second.stop().await.unwrap();
        assert_eq!(spec.running(), None);
        assert!(!spec.pid_file().exists());
    }

    #[tokio::test]
    async fn a_dead_daemon_is_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(dir.path());
        let daemon = Daemon::start(spec.clone()).unwrap();
        until(|| spec.running().is_some()).await;
        let first = daemon.pid().unwrap();
        send(first, Signal::SIGKILL);
        until(|| daemon.status().restarts == 1 && spec.running().is_some()).await;
        assert_ne!(daemon.pid(), Some(first));
        assert!(daemon.status().last_exit.unwrap().contains("signal: 9"));
        daemon.stop().await.unwrap();
    }

    #[test]
    fn a_large_log_is_moved_aside_under_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        log.set_len(LOG_LIMIT + 1).unwrap();
        rotate(&path);
        std::io::Write::write_all(&mut log, b"more").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"more");
        assert_eq!(path.with_extension("log.1").metadata().unwrap().len(), LOG_LIMIT + 1);
    }

    #[tokio::test]
    async fn a_reused_pid_is_not_taken_for_the_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(dir.path());
        std::fs::write(spec.pid_file(), format!("{}\n", std::process::id())).unwrap();
        assert_eq!(spec.running(), None);
        std::fs::write(spec.pid_file(), "not a number").unwrap();
        assert_eq!(spec.running(), None);
    }
}
