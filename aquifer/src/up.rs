//! `aquifer up`: a whole cloud on this machine, in one process and one data directory.
//!
//! ```text
//! lock ─► engines (Ceph, OVN, libvirt) ─► services, first-start things ─► listeners, workers, agent ─► ready
//!   Ctrl-C: no longer ready ─► guests shut down ─► listeners, workers ─► engines ─► lock released
//! ```
//! A crash skips the second line: engines and guests go on, and the next `up` takes them up again.

mod files;
pub(crate) mod first;
mod lock;
mod plan;

use crate::cli::UpArgs;
use crate::cloud::{self, Cloud};
use crate::config::Services;
use crate::control::{self, Line, Report};
use crate::error::AquiferError;
use crate::progress::Lines;
use crate::roles::Role;
use crate::secrets::Secrets;
use crate::{logging, terminal};
use api::server::HeaderNames;
use compute::Agent;
use engines::{Engines, EnginesConfig, Progress, Running};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What guests get to shut down in when the cloud stops.
const GUESTS: Duration = Duration::from_secs(20);
/// What requests and tasks in flight get to finish in; what is cut off carries on at the next start.
const FINISH: Duration = Duration::from_secs(15);
/// A first poll of the agent and the import of the test image take no longer than this, or something is wrong.
const SETTLE: Duration = Duration::from_secs(120);

pub(crate) async fn run(args: UpArgs) -> Result<(), AquiferError> {
    let began = Instant::now();
    need_root("aquifer up", &args.dir.data_dir)?;
    let dir = &prepare(&args.dir.data_dir)?;
    let _lock = lock::Lock::take(dir)?;
    forget_ready(dir)?;
    logging::to_file(&dir.join("log/aquifer.log"))?;
    state::failpoint::from_env().map_err(AquiferError::Config)?;
    api::metrics::install();
    // A mistake in the file or a taken port is told before anything is started.
    let settings = args.config.as_deref().map(Services::read).transpose()?.unwrap_or_default();
    let api = cloud::listen(args.listen).await?;
    let s3 = cloud::listen(args.s3_listen).await?;
    let secrets = Secrets::load_or_make(&dir.join("secrets.toml"))?;
    let mut interrupted = interrupts()?;

    terminal::say(&format!("Bringing up the cloud in {}", dir.display()));
    let wanted = EnginesConfig {
        osds: args.osds,
        osd_size: args.osd_size.map(|gib| gib << 30),
        ..EnginesConfig::default()
    };
    let running = tokio::select! {
        running = Engines::up(dir, &wanted, &Lines) => Arc::new(running?),
        () = interrupted.recv() => {
            terminal::say("Interrupted: stopping what has started …");
            return Ok(engines::stop(dir).await?);
        }
    };
    let stop = CancellationToken::new();
    let served = async {
        let services = Instant::now();
        let config = plan::config(&args, settings, &secrets, dir, running.endpoints());
        let cloud = Arc::new(Cloud::assemble(&config).await?);
        let tracker = TaskTracker::new();
        tracker.spawn(api::server::serve(api, cloud.router(&Role::ALL), stop.clone()));
        tracker.spawn(api::server::serve_named(
            s3,
            cloud.objects.s3_router(),
            stop.clone(),
            HeaderNames::Lower,
        ));
        cloud.work(&config.node, &Role::ALL, &stop, &tracker);
        first::ensure(&cloud, &secrets, &config, running.endpoints()).await?;
        let agent = plan::agent(&args, dir, running.endpoints(), &cloud).await?;
        let (polling, until) = (agent.clone(), stop.clone());
        tracker.spawn(async move { polling.run(until).await });
        control::serve(
            &dir.join("control.sock"),
            Arc::new(Told(cloud.clone(), running.clone())),
            stop.clone(),
        )?;
        tokio::time::timeout(SETTLE, first::settled(&cloud, running.endpoints())).await.map_err(|_| {
            AquiferError::Config("the host agent did not report in time; see log/aquifer.log".into())
        })??;
        Lines.done("serve every API", services.elapsed());
        Ok::<_, AquiferError>((config, tracker, agent))
    };
    let outcome = tokio::select! {
        outcome = served => outcome.map(Some),
        () = interrupted.recv() => Ok(None),
    };
    let result = match outcome {
        Ok(Some((config, tracker, agent))) => {
            files::write(
                dir,
                &secrets,
                &config.region,
                &config.listen.base_url(),
                &format!("http://{}", config.listen.s3),
            )?;
            mark_ready(dir)?;
            terminal::say(&welcome(dir, began.elapsed()));
            interrupted.recv().await;
            forget_ready(dir)?;
            terminal::say("\nStopping: servers first, then the engines. Ctrl-C again hurries.");
            wind_down(&agent, &stop, &tracker, &mut interrupted).await;
            Ok(())
        }
        Ok(None) => {
            terminal::say("Interrupted: stopping what has started …");
            Ok(())
        }
        Err(e) => Err(e),
    };
    stop.cancel();
    running.stop().await?;
    if result.is_ok() {
        terminal::say("Stopped. `aquifer up` brings the same cloud back.");
    }
    result
}

/// `aquifer stop`: asks the running process, or cleans up after one that crashed.
pub(crate) async fn stop(dir: &Path) -> Result<(), AquiferError> {
    need_root("aquifer stop", dir)?;
    let Some(pid) = lock::holder(dir) else {
        engines::stop(dir).await?;
        terminal::say("Stopped.");
        return Ok(());
    };
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)
        .map_err(|e| AquiferError::Config(format!("pid {pid} cannot be signalled: {e}")))?;
    terminal::say("Stopping: servers first, then the engines …");
    while lock::holder(dir).is_some() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    terminal::say("Stopped.");
    Ok(())
}

/// Guests, then requests in flight and running tasks. A second Ctrl-C cuts it short.
async fn wind_down(agent: &Agent, stop: &CancellationToken, tracker: &TaskTracker, hurry: &mut Interrupts) {
    tokio::select! {
        stopped = agent.stop_guests(GUESTS) => {
            if let Err(e) = stopped {
                tracing::warn!(error = %e, "guests could not be shut down; they are ended with libvirt");
            }
        }
        () = hurry.recv() => terminal::say("Hurrying."),
    }
    stop.cancel();
    tracker.close();
    tokio::select! {
        finished = tokio::time::timeout(FINISH, tracker.wait()) => {
            if finished.is_err() {
                tracing::warn!("work still in flight after {FINISH:?} is cut off; it carries on at the next start");
            }
        }
        () = hurry.recv() => terminal::say("Hurrying."),
    }
}

struct Interrupts(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

impl Interrupts {
    /// The next Ctrl-C or SIGTERM.
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

fn interrupts() -> Result<Interrupts, AquiferError> {
    let on = |kind| signal(kind).map_err(AquiferError::service("signals"));
    Ok(Interrupts(on(SignalKind::interrupt())?, on(SignalKind::terminate())?))
}

fn need_root(what: &'static str, dir: &Path) -> Result<(), AquiferError> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(AquiferError::NeedsRoot(what, format!("{what} --data-dir {}", dir.display())))
}

/// Makes the directory, readable by root alone: it holds every secret of the cloud.
fn prepare(dir: &Path) -> Result<std::path::PathBuf, AquiferError> {
    use std::os::unix::fs::DirBuilderExt;
    let failed = |e| AquiferError::file(dir, e);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.join("log")).map_err(failed)?;
    dir.canonicalize().map_err(failed)
}

fn mark_ready(dir: &Path) -> Result<(), AquiferError> {
    let path = dir.join("ready");
    std::fs::write(&path, "").map_err(|e| AquiferError::file(&path, e))
}

fn forget_ready(dir: &Path) -> Result<(), AquiferError> {
    let path = dir.join("ready");
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(AquiferError::file(&path, e)),
        _ => Ok(()),
    }
}

fn welcome(dir: &Path, took: Duration) -> String {
    let dir = dir.display();
    format!(
        "\nThe cloud is ready after {:.1} s. In another terminal:\n\n\
         \x20 export OS_CLIENT_CONFIG_FILE={dir}/clouds.yaml OS_CLOUD=aquifer\n\
         \x20 openstack server create --image testimg --flavor m1.nano --network public --wait hello\n\
         \x20 openstack console log show hello\n\n\
         S3: set -a; . {dir}/s3.env    Status: aquifer status --data-dir {dir}    Stop: Ctrl-C",
        took.as_secs_f64()
    )
}

/// What `aquifer status` is told.
struct Told(Arc<Cloud>, Arc<Running>);

impl Report for Told {
    fn lines(&self) -> futures::future::BoxFuture<'_, Vec<Line>> {
        Box::pin(async {
            let mut lines = self.0.lines(&Role::ALL).await;
            lines.extend(self.1.status().into_iter().map(|e| Line {
                kind: "engine".into(),
                name: e.name,
                state: if e.pid.is_some() { "up" } else { "down" }.into(),
                detail: match e.pid {
                    Some(pid) => format!("pid {pid}, {} MiB, {} restarts", e.rss >> 20, e.restarts),
                    None => e.last_exit.unwrap_or_default(),
                },
            }));
            lines
        })
    }
}
