//! The host agent: the only part of the cloud that is not in the controller's process, or need not be. It asks
//! the controller over HTTP what its guests are to be, makes them so, and says what it sees.
//!
//! Three loops, each of which may die and begin again without the others: one holds the long poll open, one
//! reconciles and reports, one reads consoles for whoever asks. Guests live on when the agent does not.

mod client;
mod console;
mod domain;
mod doors;
mod facts;
mod growth;
mod hypervisor;
mod mirror;
mod plan;
mod reconcile;
mod secrets;
mod virsh;
mod xml;

pub(crate) use domain::tap as tap_name;

use crate::ComputeError;
use crate::config::{Accelerator, AgentConfig};
use crate::wire::{ConsoleReply, Desired, HostFacts, Observed, Report};
use client::Controller;
use domain::Machine;
use hypervisor::Hypervisor;
use netagent::agent::NetAgent;
use reconcile::{Pace, Reconciler};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often libvirt is looked at while something is under way, and while nothing is.
const BUSY: Duration = Duration::from_millis(150);
const IDLE: Duration = Duration::from_secs(2);
/// While disks are copied, which may take hours.
const COPYING: Duration = Duration::from_millis(400);
/// A report goes out this often even if nothing has changed.
const HEARTBEAT: Duration = Duration::from_secs(10);
const FACTS: Duration = Duration::from_secs(60);
/// How long Open vSwitch is waited for in one go.
const SWITCH: Duration = Duration::from_secs(20);
/// After a failure to reach the controller or libvirt.
const AGAIN: Duration = Duration::from_secs(1);

/// A host's agent.
pub struct Agent {
    config: AgentConfig,
    controller: Controller,
    hypervisor: Hypervisor,
    net: NetAgent,
    desired: watch::Sender<Option<Arc<Desired>>>,
    /// Ends the loops for good: the cloud is being stopped.
    holding: CancellationToken,
}

impl Agent {
    /// Fails where the secret cannot be read. Nothing is contacted yet.
    pub async fn new(config: AgentConfig) -> Result<Agent, ComputeError> {
        let io = |source| ComputeError::Io { what: config.secret_file.display().to_string(), source };
        let text = tokio::fs::read_to_string(&config.secret_file).await.map_err(io)?;
        let secret = api::Secret(text.lines().next().unwrap_or_default().trim().to_owned());
        let controller = Controller::new(&config.controller, &config.host, secret)?;
        let hypervisor = Hypervisor::new(&config.libvirt_uri);
        let net = doors::start(&config, controller.clone())?;
        let desired = watch::Sender::new(None);
        let holding = CancellationToken::new();
        Ok(Agent { config, controller, hypervisor, net, desired, holding })
    }

    /// Works until `stop`. Guests are left as they are.
    pub async fn run(&self, stop: CancellationToken) {
        let ended = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.holding.cancelled() => {}
            }
        };
        tokio::select! {
            () = ended => {}
            () = self.poll_loop() => {}
            () = self.guest_loop() => {}
            () = self.console_loop() => {}
            () = doors::keep(&self.net, self.desired.subscribe()) => {}
        }
    }

    /// Ends [`Agent::run`] and shuts every guest down, so that the next run starts them again. Guests that do
    /// not shut down within the deadline are switched off.
    pub async fn stop_guests(&self, deadline: Duration) -> Result<(), ComputeError> {
        self.holding.cancel();
        let machine = self.machine().await?;
        let held = Reconciler::new(self.hypervisor.clone(), machine, self.controller.clone())
            .hold_all(deadline)
            .await;
        // No guest is left to ask for metadata: the doors' namespaces go too.
        self.net.reconcile(&[]).await?;
        self.net.stop().await;
        held
    }

    async fn machine(&self) -> Result<Machine, ComputeError> {
        let c = &self.config;
        let consoles = c.state_dir.join("consoles");
        tokio::fs::create_dir_all(&consoles)
            .await
            .map_err(|source| ComputeError::Io { what: consoles.display().to_string(), source })?;
        let kvm = match c.accelerator {
            Accelerator::Auto => c.kvm_works,
            Accelerator::Kvm => true,
            Accelerator::Tcg => false,
        };
        // How guests are plugged in depends on the bridge's datapath, so the switch must be there.
        self.net.ready(SWITCH).await?;
        Ok(Machine {
            kvm,
            cpu: c.cpu.clone(),
            consoles,
            bridge: c.bridge.clone(),
            offload: !self.net.guest_interface("", "", 0).userspace_datapath,
            spare_ports: c.spare_ports,
            ceph: secrets::install(&self.hypervisor, &c.ceph).await?,
        })
    }

    async fn poll_loop(&self) {
        let mut well = true;
        loop {
            let known = self.desired.borrow().as_ref().map(|d| d.version.clone()).unwrap_or_default();
            match self.controller.poll(&known).await {
                Ok(desired) => {
                    well = true;
                    if desired.version != known {
                        self.desired.send_replace(Some(Arc::new(desired)));
                    }
                }
                Err(e) => {
                    if std::mem::take(&mut well) {
                        tracing::warn!(error = %e, "the controller is out of reach; guests go on meanwhile");
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn guest_loop(&self) {
        loop {
            match self.machine().await {
                Ok(machine) => self.reconcile(machine).await,
                Err(e) => tracing::warn!(error = %e, "this host is not ready for guests yet"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Returns only when libvirt was lost; its secrets are then told again.
    async fn reconcile(&self, machine: Machine) {
        let mut desired = self.desired.subscribe();
        let mut reconciler = Reconciler::new(self.hypervisor.clone(), machine, self.controller.clone());
        let mut told = Told::default();
        loop {
            let wanted = desired.borrow_and_update().clone();
            // Before the first word of the controller nothing is known of any guest.
            let guests = wanted.as_ref().map(|d| d.guests.as_slice()).unwrap_or_default();
            let round = match reconciler.round(guests).await {
                Ok(round) => round,
                Err(e) => {
                    tracing::warn!(error = %e, "libvirt is out of reach");
                    return;
                }
            };
            let pace = round.pace;
            let kept = self.tell(&mut told, round.guests, &reconciler.machine, wanted.is_some()).await;
            let pause = match pace {
                Pace::Busy => BUSY,
                _ if !kept => BUSY,
                Pace::Copying => COPYING,
                Pace::Idle => IDLE,
            };
            tokio::select! {
                _ = desired.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Reports what has changed since the last report, and now and then that nothing has. False where the
    /// report did not arrive.
    async fn tell(&self, told: &mut Told, guests: Vec<Observed>, machine: &Machine, known: bool) -> bool {
        if told.facts_at.is_none_or(|t| t.elapsed() >= FACTS) {
            match facts::gather(&self.hypervisor, &self.config, machine).await {
                Ok(f) => (told.facts, told.facts_at) = (Some(f), Some(Instant::now())),
                Err(e) => tracing::warn!(error = %e, "the host's facts cannot be read"),
            }
            told.at = None;
        }
        let changed = known && told.guests.as_ref() != Some(&guests);
        if !changed && told.at.is_some_and(|t| t.elapsed() < HEARTBEAT) {
            return true;
        }
        // Until the controller has spoken, only the host itself is reported.
        let reported = if known { guests.clone() } else { Vec::new() };
        let report = Report { facts: told.facts.clone(), guests: reported };
        match self.controller.report(&report).await {
            Ok(()) => {
                told.at = Some(Instant::now());
                if known {
                    told.guests = Some(guests);
                }
                true
            }
            Err(e) => {
                tracing::debug!(error = %e, "a report did not arrive");
                false
            }
        }
    }

    async fn console_loop(&self) {
        let mut desired = self.desired.subscribe();
        let mut answered: Vec<String> = Vec::new();
        loop {
            let asked = desired.borrow_and_update().as_ref().map(|d| d.consoles.clone()).unwrap_or_default();
            answered.retain(|r| asked.iter().any(|a| a.request == *r));
            for ask in asked {
                if answered.contains(&ask.request) {
                    continue;
                }
                let log = self.config.state_dir.join("consoles").join(format!("{}.log", ask.guest));
                let text = console::tail(&log, ask.bytes).await;
                let reply = ConsoleReply { request: ask.request.clone(), text };
                match self.controller.console(&reply).await {
                    Ok(()) => answered.push(ask.request),
                    Err(e) => tracing::debug!(error = %e, "a console's text did not arrive"),
                }
            }
            if desired.changed().await.is_err() {
                return;
            }
        }
    }
}

/// What the controller was last told.
#[derive(Default)]
struct Told {
    facts: Option<HostFacts>,
    facts_at: Option<Instant>,
    guests: Option<Vec<Observed>>,
    at: Option<Instant>,
}
