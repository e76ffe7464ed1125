//! Volumes that have grown while a server has them: the host shows the guest, which then finds its disk larger. The record of
//! that is upstream's instance action `extend_volume`, by which clients see how it ended.

use crate::model::{PowerState, Server};
use crate::store::{actions, servers};
use crate::{ComputeError, moves, observe};
use blockstore::Grown;
use state::Tx;

pub(crate) const ACTION: &str = "extend_volume";

/// Asks the server's host, in the transaction that makes the volume larger. A server that is not ours, or has the disk no
/// more, is left alone.
pub(crate) async fn begin(tx: &mut Tx, server: &str, grown: &Grown) -> Result<(), ComputeError> {
    let Some(mut s) = servers::lock(tx, server).await? else { return Ok(()) };
    let running = moves::runs(&s) && s.intent.incarnation > 0;
    let Some(disk) = s.disks.iter_mut().find(|d| d.volume_id() == Some(&grown.volume)) else { return Ok(()) };
    disk.size_gib = grown.gib;
    let asker = &grown.asker;
    let by = (asker.request_id.as_str(), asker.project_id.as_str(), asker.user_id.as_str());
    actions::begin_by(tx, by, server, ACTION).await?;
    if running {
        disk.grown = Some(grown.bytes);
        s.bump();
        tx.wake(observe::host_topic(&s.host));
    } else {
        // It finds the disk as it is when it starts.
        actions::end_one(tx, server, ACTION, None).await?;
    }
    s.updated_at = state::Timestamp::now();
    servers::save(tx, &s).await
}

/// Takes in what the host has said of disks that have grown. Once nothing of that is open, how it ended: well, or why not.
pub(crate) fn settle(s: &mut Server) -> Option<Option<String>> {
    let down = is_down(s);
    let mut over = false;
    let mut error = None;
    for disk in s.disks.iter_mut().filter(|d| d.grown.is_some()) {
        let serial = disk.volume_id().unwrap_or_default();
        let shown = s.seen.grown.get(serial).filter(|shown| Some(shown.bytes) == disk.grown);
        if shown.is_some() || down {
            error = shown.and_then(|shown| shown.error.clone()).or(error);
            disk.grown = None;
            over = true;
        }
    }
    (over && s.disks.iter().all(|d| d.grown.is_none())).then_some(error)
}

/// Whether the guest does not run, and will find its disks as they are when it does.
fn is_down(s: &Server) -> bool {
    let off = !matches!(s.seen.power, PowerState::Running | PowerState::Paused | PowerState::NoState);
    off && (s.seen.generation >= s.intent.generation || !moves::runs(s))
}
