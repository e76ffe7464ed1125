//! libvirt, asynchronously: its calls block, so they run on a bounded number of threads. A connection that is
//! lost is opened again at the next call.

use super::domain::{self, Devices, Mark, NAMESPACE};
use super::xml::El;
use crate::ComputeError;
use crate::states::PowerState;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use virt::connect::Connect;
use virt::domain::{Domain, DomainShutoffReason, DomainState, DomainStateReason};
use virt::enumutil::Enum;
use virt::error::ErrorNumber;
use virt::secret::Secret;
use virt::sys;

/// libvirt serves a client's calls with a few workers; more threads than that only wait.
const THREADS: usize = 6;

/// One connection to a libvirtd. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hypervisor {
    uri: Arc<str>,
    connection: Arc<Mutex<Option<Connect>>>,
    slots: Arc<Semaphore>,
}

/// A domain of ours, as libvirt has it now.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) power: PowerState,
    pub(crate) off: Option<WhyOff>,
    pub(crate) mark: Mark,
    pub(crate) saved: bool,
    pub(crate) devices: Devices,
    pub(crate) xml: Arc<El>,
}

/// Why a domain does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhyOff {
    /// The guest switched itself off, or was asked to.
    Shutdown,
    /// It was switched off from outside.
    Destroyed,
    Crashed,
    /// It was never started since the host came up, or libvirt lost it.
    Lost,
    /// Its memory is saved.
    Saved,
    /// It could not be started.
    Failed,
}

impl Hypervisor {
    pub(crate) fn new(uri: &str) -> Self {
        virt::error::clear_error_callback();
        Hypervisor { uri: uri.into(), connection: Arc::default(), slots: Arc::new(Semaphore::new(THREADS)) }
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Runs blocking calls on a connection that was alive a moment ago.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Connect) -> Result<T, virt::error::Error> + Send + 'static,
    ) -> Result<T, ComputeError> {
        let closed = |_| ComputeError::Unavailable("The agent is stopping.".into(), None);
        let permit = self.slots.clone().acquire_owned().await.map_err(closed)?;
        let this = self.clone();
        let joined = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let connection = this.connected()?;
            work(&connection)
        })
        .await;
        match joined {
            Ok(done) => done.map_err(|source| ComputeError::Libvirt { what, source }),
            Err(e) => Err(ComputeError::Unavailable("A call to libvirt ended early.".into(), Some(e.into()))),
        }
    }

    fn connected(&self) -> Result<Connect, virt::error::Error> {
        let mut held = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        match &*held {
            Some(c) if c.is_alive().unwrap_or(false) => Ok(c.clone()),
            _ => {
                let opened = Connect::open(Some(&self.uri))?;
                *held = Some(opened.clone());
                Ok(opened)
            }
        }
    }

    /// Every domain that carries our mark.
    pub(crate) async fn guests(&self) -> Result<Vec<Found>, ComputeError> {
        self.call("list domains", |c| {
            let mut found = Vec::new();
            for domain in c.list_all_domains(0)? {
                match look(&domain) {
                    Ok(Some(guest)) => found.push(guest),
                    Ok(None) => {}
                    // Gone between the listing and the look.
                    Err(e) if is_absent(&e) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(found)
        })
        .await
    }

    /// One guest, as it is now.
    pub(crate) async fn guest(&self, id: &str) -> Result<Option<Found>, ComputeError> {
        self.on(id, "look at a guest", look).await.map(Option::flatten)
    }

    /// Defines the domain and starts it. One that cannot be started is undefined again.
    pub(crate) async fn start(&self, id: &str, xml: String) -> Result<(), ComputeError> {
        let id = id.to_owned();
        self.call("start a guest", move |c| {
            let domain = c.define_domain_xml(&xml)?;
            let resumed = domain.has_managed_save(0).unwrap_or(false);
            domain.create().inspect_err(|e| {
                tracing::warn!(guest = %id, error = %e, resumed, "a guest cannot be started");
                if !resumed {
                    let _ = domain.undefine_flags(UNDEFINE);
                }
            })
        })
        .await
    }

    /// Runs a call on a guest's domain; a domain that is not there is `None`.
    pub(crate) async fn on<T: Send + 'static>(
        &self,
        id: &str,
        what: &'static str,
        work: impl FnOnce(&Domain) -> Result<T, virt::error::Error> + Send + 'static,
    ) -> Result<Option<T>, ComputeError> {
        let id = id.to_owned();
        self.call(what, move |c| match c.lookup_domain_by_uuid_string(&id).and_then(|d| work(&d)) {
            Ok(done) => Ok(Some(done)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(e),
        })
        .await
    }

    pub(crate) async fn destroy(&self, id: &str) -> Result<(), ComputeError> {
        self.on(id, "destroy a guest", |d| if d.is_active()? { d.destroy() } else { Ok(()) }).await.map(drop)
    }

    /// Leaves nothing of the guest.
    pub(crate) async fn remove(&self, id: &str) -> Result<(), ComputeError> {
        self.on(id, "remove a guest", |d| {
            if d.is_active()? {
                d.destroy()?;
            }
            d.undefine_flags(UNDEFINE)
        })
        .await
        .map(drop)
    }

    /// Asks the guest to shut down, as its power button does.
    pub(crate) async fn press_power(&self, id: &str) -> Result<(), ComputeError> {
        self.on(id, "shut a guest down", |d| d.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN))
            .await
            .map(drop)
    }

    /// Writes our mark, into the domain as it is and as it will be.
    pub(crate) async fn set_mark(&self, id: &str, mark: Mark) -> Result<(), ComputeError> {
        self.on(id, "mark a guest", move |d| {
            let text = mark.render();
            let mut flags = sys::VIR_DOMAIN_AFFECT_CONFIG;
            if d.is_active()? {
                flags |= sys::VIR_DOMAIN_AFFECT_LIVE;
            }
            let kind = sys::VIR_DOMAIN_METADATA_ELEMENT as i32;
            d.set_metadata(kind, Some(&text), Some("aquifer"), Some(NAMESPACE), flags)
        })
        .await
        .map(drop)
    }

    pub(crate) async fn attach(&self, id: &str, xml: String) -> Result<(), ComputeError> {
        self.on(id, "attach a device", move |d| d.attach_device_flags(&xml, sys::VIR_DOMAIN_AFFECT_LIVE))
            .await
            .map(drop)
    }

    /// Shows a guest that one of its disks is so many bytes large.
    pub(crate) async fn grow(&self, id: &str, device: &str, bytes: u64) -> Result<(), ComputeError> {
        let device = device.to_owned();
        self.on(id, "grow a disk", move |d| {
            d.block_resize(&device, bytes, sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        })
        .await
        .map(drop)
    }

    pub(crate) async fn detach(&self, id: &str, xml: String) -> Result<(), ComputeError> {
        self.on(id, "detach a device", move |d| d.detach_device_flags(&xml, sys::VIR_DOMAIN_AFFECT_LIVE))
            .await
            .map(drop)
    }

    /// Makes a cluster's key known to libvirt; again and again is fine.
    pub(crate) async fn set_secret(&self, uuid: &str, usage: &str, key: Vec<u8>) -> Result<(), ComputeError> {
        let usage = El::new("usage").attr("type", "ceph").with(El::new("name").text(usage));
        self.keep_secret(uuid, "no", usage, key).await
    }

    /// Makes a volume's passphrase known to libvirt, which never writes it down; again and again is fine.
    pub(crate) async fn set_passphrase(
        &self,
        uuid: &str,
        volume: &str,
        passphrase: Vec<u8>,
    ) -> Result<(), ComputeError> {
        let usage = El::new("usage").attr("type", "volume").with(El::new("volume").text(volume));
        self.keep_secret(uuid, "yes", usage, passphrase).await
    }

    async fn keep_secret(
        &self,
        uuid: &str,
        ephemeral: &str,
        usage: El,
        key: Vec<u8>,
    ) -> Result<(), ComputeError> {
        let xml = El::new("secret")
            .attr("ephemeral", ephemeral)
            .attr("private", "yes")
            .with(El::new("uuid").text(uuid))
            .with(usage)
            .render();
        self.call("define a secret", move |c| {
            let secret: Secret = c.define_secret_xml(&xml, 0)?;
            secret.set_value(&key, 0)
        })
        .await
    }
}

const UNDEFINE: sys::virDomainUndefineFlagsValues = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | sys::VIR_DOMAIN_UNDEFINE_NVRAM;

fn is_absent(e: &virt::error::Error) -> bool {
    e.code() == Enum::Known(ErrorNumber::NoDomain)
}

/// Whether libvirt itself is away, which says nothing of the guest.
pub(crate) fn is_away(e: &ComputeError) -> bool {
    match e {
        ComputeError::Libvirt { source, .. } => matches!(
            source.code(),
            Enum::Known(
                ErrorNumber::NoConnect
                    | ErrorNumber::InvalidConn
                    | ErrorNumber::Rpc
                    | ErrorNumber::SystemError
                    | ErrorNumber::OperationTimeout
            )
        ),
        ComputeError::Unavailable(..) => true,
        _ => false,
    }
}

fn look(domain: &Domain) -> Result<Option<Found>, virt::error::Error> {
    let Some(xml) = El::parse(&domain.xml_desc(0)?) else { return Ok(None) };
    let Some(mark) = domain::mark(&xml) else { return Ok(None) };
    let (state, reason) = domain.state()?;
    let saved = domain.has_managed_save(0).unwrap_or(false);
    let (power, off) = power(state, reason, saved);
    Ok(Some(Found {
        id: domain.uuid_string()?,
        power,
        off,
        mark,
        saved,
        devices: domain::devices(&xml),
        xml: Arc::new(xml),
    }))
}

fn power(
    state: virt::domain::DomainStateEnum,
    reason: virt::domain::DomainStateReasonEnum,
    saved: bool,
) -> (PowerState, Option<WhyOff>) {
    let Enum::Known(state) = state else { return (PowerState::NoState, None) };
    match state {
        DomainState::Running | DomainState::Blocked | DomainState::PMSuspended => (PowerState::Running, None),
        // Its shutdown has begun and ends without anybody's help.
        DomainState::Shutdown => (PowerState::Running, None),
        DomainState::Paused => (PowerState::Paused, None),
        DomainState::Crashed => (PowerState::Crashed, Some(WhyOff::Crashed)),
        DomainState::NoState => (PowerState::NoState, None),
        DomainState::Shutoff if saved => (PowerState::Suspended, Some(WhyOff::Saved)),
        DomainState::Shutoff => match why(reason) {
            WhyOff::Crashed => (PowerState::Crashed, Some(WhyOff::Crashed)),
            other => (PowerState::Shutdown, Some(other)),
        },
    }
}

fn why(reason: virt::domain::DomainStateReasonEnum) -> WhyOff {
    let Enum::Known(DomainStateReason::Shutoff(Enum::Known(reason))) = reason else { return WhyOff::Lost };
    match reason {
        DomainShutoffReason::Shutdown => WhyOff::Shutdown,
        DomainShutoffReason::Destroyed => WhyOff::Destroyed,
        DomainShutoffReason::Crashed => WhyOff::Crashed,
        DomainShutoffReason::Saved => WhyOff::Saved,
        DomainShutoffReason::Failed => WhyOff::Failed,
        DomainShutoffReason::Unknown
        | DomainShutoffReason::Daemon
        | DomainShutoffReason::Migrated
        | DomainShutoffReason::FromSnapshot => WhyOff::Lost,
    }
}
