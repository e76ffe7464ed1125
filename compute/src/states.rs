//! The states of a server, and which step is legal from where.
//!
//! ```text
//!                         create                  stop, or the guest's own power-off
//!              (none) ──► BUILDING ──► ACTIVE ◄──────────────────────────► STOPPED
//!                            │          │ ▲ ▲     start, reboot --hard
//!                            │    pause ▼ │ │ resume
//!                            │     PAUSED ┘ └── SUSPENDED (suspend)
//!                            ▼
//!                          ERROR ◄── any, when the host cannot do what is asked; reboot --hard leads back
//!
//!            ACTIVE, STOPPED ── resize ──► RESIZED ── confirm, revert ──► ACTIVE, STOPPED
//!
//!            delete leads from every state, in the middle of every task, to (none)
//! ```
//!
//! `vm_state` is where a server stands, `task_state` what is being done to it now, `power_state` what its
//! host last saw. A task ends when the host's report shows what the task was to reach ([`settle`]).

use serde::{Deserialize, Serialize};
use state::Timestamp;

use crate::model::{Plug, Server};
use crate::wire::Power;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum VmState {
    Building,
    Active,
    Paused,
    Suspended,
    Stopped,
    /// Has another flavor, until that is confirmed or taken back.
    Resized,
    Error,
    Deleted,
}

impl VmState {
    /// Upstream's word, as it stands in views and messages.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            VmState::Building => "building",
            VmState::Active => "active",
            VmState::Paused => "paused",
            VmState::Suspended => "suspended",
            VmState::Stopped => "stopped",
            VmState::Resized => "resized",
            VmState::Error => "error",
            VmState::Deleted => "deleted",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TaskState {
    Scheduling,
    Networking,
    BlockDeviceMapping,
    Spawning,
    PoweringOff,
    PoweringOn,
    Rebooting,
    RebootingHard,
    Pausing,
    Unpausing,
    Suspending,
    Resuming,
    Rebuilding,
    ResizePrep,
    ResizeFinish,
    ResizeReverting,
    ImageSnapshot,
    Deleting,
}

impl TaskState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            TaskState::Scheduling => "scheduling",
            TaskState::Networking => "networking",
            TaskState::BlockDeviceMapping => "block_device_mapping",
            TaskState::Spawning => "spawning",
            TaskState::PoweringOff => "powering-off",
            TaskState::PoweringOn => "powering-on",
            TaskState::Rebooting => "rebooting",
            TaskState::RebootingHard => "rebooting_hard",
            TaskState::Pausing => "pausing",
            TaskState::Unpausing => "unpausing",
            TaskState::Suspending => "suspending",
            TaskState::Resuming => "resuming",
            TaskState::Rebuilding => "rebuilding",
            TaskState::ResizePrep => "resize_prep",
            TaskState::ResizeFinish => "resize_finish",
            TaskState::ResizeReverting => "resize_reverting",
            TaskState::ImageSnapshot => "image_snapshot",
            TaskState::Deleting => "deleting",
        }
    }
}

/// What a host saw of a guest's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PowerState {
    #[default]
    NoState,
    Running,
    Paused,
    Shutdown,
    Crashed,
    Suspended,
    /// The host has nothing of the guest.
    Absent,
}

impl PowerState {
    /// Upstream's number.
    pub fn code(self) -> i64 {
        match self {
            PowerState::NoState | PowerState::Absent => 0,
            PowerState::Running => 1,
            PowerState::Paused => 3,
            PowerState::Shutdown => 4,
            PowerState::Crashed => 6,
            PowerState::Suspended => 7,
        }
    }
}

/// The `status` of the API.
pub(crate) fn status(vm: VmState, task: Option<TaskState>) -> &'static str {
    match (vm, task) {
        (VmState::Active, Some(TaskState::Rebooting)) => "REBOOT",
        (
            VmState::Active | VmState::Stopped | VmState::Paused | VmState::Suspended | VmState::Error,
            Some(TaskState::RebootingHard),
        ) => "HARD_REBOOT",
        (VmState::Active | VmState::Stopped | VmState::Error, Some(TaskState::Rebuilding)) => "REBUILD",
        (VmState::Active | VmState::Stopped, Some(TaskState::ResizePrep | TaskState::ResizeFinish)) => {
            "RESIZE"
        }
        (VmState::Resized, Some(TaskState::ResizeReverting)) => "REVERT_RESIZE",
        (VmState::Resized, _) => "VERIFY_RESIZE",
        (VmState::Building, _) => "BUILD",
        (VmState::Active, _) => "ACTIVE",
        (VmState::Paused, _) => "PAUSED",
        (VmState::Suspended, _) => "SUSPENDED",
        (VmState::Stopped, _) => "SHUTOFF",
        (VmState::Error, _) => "ERROR",
        (VmState::Deleted, _) => "DELETED",
    }
}

/// The states that a `status` filter means; `None` for a word that is no status.
pub(crate) fn of_status(status: &str) -> Option<VmState> {
    match status.to_ascii_uppercase().as_str() {
        "BUILD" => Some(VmState::Building),
        "ACTIVE" | "REBOOT" | "HARD_REBOOT" => Some(VmState::Active),
        "PAUSED" => Some(VmState::Paused),
        "SUSPENDED" => Some(VmState::Suspended),
        "SHUTOFF" => Some(VmState::Stopped),
        "VERIFY_RESIZE" | "REVERT_RESIZE" => Some(VmState::Resized),
        "ERROR" => Some(VmState::Error),
        "DELETED" => Some(VmState::Deleted),
        _ => None,
    }
}

/// What a user may do to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Stop,
    Start,
    RebootSoft,
    RebootHard,
    Pause,
    Unpause,
    Suspend,
    Resume,
    AttachVolume,
    DetachVolume,
    AttachInterface,
    DetachInterface,
    ConsoleOutput,
    CreateImage,
    Rebuild,
    Resize,
    ConfirmResize,
    RevertResize,
}

impl Act {
    /// The word in upstream's 409.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Act::Stop => "stop",
            Act::Start => "start",
            Act::RebootSoft | Act::RebootHard => "reboot",
            Act::Pause => "pause",
            Act::Unpause => "unpause",
            Act::Suspend => "suspend",
            Act::Resume => "resume",
            Act::AttachVolume => "attach_volume",
            Act::DetachVolume => "detach_volume",
            Act::AttachInterface => "attach_interface",
            Act::DetachInterface => "detach_interface",
            Act::ConsoleOutput => "get_console_output",
            Act::CreateImage => "createImage",
            Act::Rebuild => "rebuild",
            Act::Resize => "resize",
            Act::ConfirmResize => "confirmResize",
            Act::RevertResize => "revertResize",
        }
    }

    fn vm_allows(self, vm: VmState) -> bool {
        use VmState::{Active, Error, Paused, Stopped, Suspended};
        match self {
            Act::Stop => matches!(vm, Active | Error),
            Act::Resize => matches!(vm, Active | Stopped),
            Act::ConfirmResize | Act::RevertResize => matches!(vm, VmState::Resized),
            Act::Start => matches!(vm, Stopped),
            Act::RebootSoft => matches!(vm, Active),
            Act::RebootHard => matches!(vm, Active | Stopped | Paused | Suspended | Error),
            Act::Pause | Act::Suspend => matches!(vm, Active),
            Act::Unpause => matches!(vm, Paused),
            Act::Resume => matches!(vm, Suspended),
            Act::AttachVolume | Act::DetachVolume => {
                matches!(vm, Active | Paused | Stopped | Suspended | VmState::Resized)
            }
            Act::AttachInterface | Act::DetachInterface => matches!(vm, Active | Paused | Stopped),
            Act::ConsoleOutput => !matches!(vm, VmState::Building | VmState::Deleted),
            Act::CreateImage => matches!(vm, Active | Stopped | Paused | Suspended),
            Act::Rebuild => matches!(vm, Active | Stopped | Error),
        }
    }

    fn task_allows(self, task: Option<TaskState>) -> bool {
        use TaskState as T;
        let Some(task) = task else { return true };
        match self {
            // A reboot that hangs gives way to a hard one.
            Act::RebootHard => matches!(
                task,
                T::Rebooting
                    | T::RebootingHard
                    | T::Pausing
                    | T::Unpausing
                    | T::Suspending
                    | T::Resuming
                    | T::PoweringOff
                    | T::PoweringOn
            ),
            Act::ConsoleOutput => true,
            Act::AttachVolume | Act::DetachVolume => task != T::Deleting && task != T::Rebuilding,
            _ => false,
        }
    }
}

/// Which rule a server's state breaks, as the 409 names it: `(attribute, state)`.
pub(crate) fn refused(
    act: Act,
    vm: VmState,
    task: Option<TaskState>,
) -> Option<(&'static str, &'static str)> {
    if !act.vm_allows(vm) {
        return Some(("vm_state", vm.as_str()));
    }
    match task {
        Some(t) if !act.task_allows(task) => Some(("task_state", t.as_str())),
        _ => None,
    }
}

/// What [`settle`] found worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Nothing that a user sees has changed.
    Unchanged,
    /// Something has, and the action that caused it is over.
    Changed,
    /// The host could not do what was asked.
    Failed,
}

/// Brings a server's states into line with what its host last saw (`server.seen`). Run on every report;
/// running it again changes nothing more.
pub(crate) fn settle(s: &mut Server) -> Settled {
    let plugged = settle_devices(s);
    let moved = settle_power(s);
    if moved == Settled::Unchanged && plugged { Settled::Changed } else { moved }
}

fn settle_power(s: &mut Server) -> Settled {
    use TaskState as T;
    if s.task_state == Some(T::Deleting) || s.deleted_at.is_some() || s.host.is_empty() {
        return Settled::Unchanged;
    }
    let applied = s.seen.generation >= s.intent.generation && s.seen.incarnation >= s.intent.incarnation;
    let power = s.seen.power;
    if let Some(error) = s.seen.error.clone() {
        return fail(s, &error);
    }
    let done = match s.task_state {
        Some(
            T::Spawning
            | T::PoweringOn
            | T::Rebooting
            | T::RebootingHard
            | T::Unpausing
            | T::Resuming
            | T::Rebuilding
            | T::ResizeReverting,
        ) => {
            let up = power == PowerState::Running && s.seen.incarnation >= s.intent.incarnation;
            (up && s.intent.power == Power::On).then_some(VmState::Active)
        }
        Some(T::ResizeFinish) => {
            let up = power == PowerState::Running && s.seen.incarnation >= s.intent.incarnation;
            (up && s.intent.power == Power::On).then_some(VmState::Resized)
        }
        Some(T::PoweringOff) => (power == PowerState::Shutdown && applied).then_some(VmState::Stopped),
        Some(T::Pausing) => (power == PowerState::Paused && applied).then_some(VmState::Paused),
        Some(T::Suspending) => (power == PowerState::Suspended && applied).then_some(VmState::Suspended),
        Some(_) => None,
        // The guest has switched itself off, or died: that is a stop by the user.
        None if s.vm_state == VmState::Active
            && s.intent.power == Power::On
            && s.seen.incarnation >= s.intent.incarnation
            && matches!(power, PowerState::Shutdown | PowerState::Crashed) =>
        {
            s.want(Power::Off, false, false);
            Some(VmState::Stopped)
        }
        None => None,
    };
    let Some(state) = done else { return Settled::Unchanged };
    let now = Timestamp::now();
    if s.launched_at.is_none() && state == VmState::Active {
        s.launched_at = Some(now);
    }
    (s.vm_state, s.task_state, s.updated_at) = (state, None, now);
    Settled::Changed
}

fn fail(s: &mut Server, error: &str) -> Settled {
    if s.fault.as_ref().is_some_and(|f| f.message == error) && s.task_state.is_none() {
        return Settled::Unchanged;
    }
    s.fail(500, error);
    s.vm_state = match s.task_state {
        // A server that did not start is as stopped as before.
        Some(TaskState::PoweringOn) => VmState::Stopped,
        Some(TaskState::PoweringOff | TaskState::Pausing | TaskState::Suspending) => s.vm_state,
        _ => VmState::Error,
    };
    s.task_state = None;
    if s.seen.power != PowerState::Running && s.intent.power != Power::Off {
        s.want(Power::Off, false, false);
    }
    s.updated_at = Timestamp::now();
    Settled::Failed
}

/// Attached is what the guest has, or will have when it starts.
fn settle_devices(s: &mut Server) -> bool {
    let on = matches!(s.seen.power, PowerState::Running | PowerState::Paused);
    let applied = s.seen.generation >= s.intent.generation;
    let off = matches!(
        s.seen.power,
        PowerState::Shutdown | PowerState::Crashed | PowerState::Absent | PowerState::NoState
    );
    let mut changed = false;
    for disk in &mut s.disks {
        let serial = disk.volume_id().unwrap_or(&s.id);
        let has = s.seen.disks.contains(serial);
        changed |= step(&mut disk.plug, has, on, off && applied);
    }
    s.nics.iter_mut().fold(changed, |changed, nic| {
        changed | step(&mut nic.plug, s.seen.ports.contains(&nic.port_id), on, off && applied)
    })
}

fn step(plug: &mut Plug, has: bool, on: bool, off: bool) -> bool {
    let next = match *plug {
        Plug::Attaching if (on && has) || off => Plug::Attached,
        other => other,
    };
    let changed = next != *plug;
    *plug = next;
    changed
}

#[cfg(test)]
pub(crate) mod tests;
