//! A connection that calls nobody back any more.
//!
//! librados hands all completions to one strand of threads, and librbd does its own work on it, too. Where librbd 16.2
//! locks itself up there (seen now and then: a journal that is closed while the last entry's acknowledgement is still
//! being handled), nothing on the connection has an answer ever again, whatever the cluster does. It can be told from a
//! cluster that is away: an operation on an object ends by librados' own time-out even then.
//!
//! So an operation that was not answered in time is a reason to look. A connection that is found deaf is left to itself:
//! the next call connects anew, and the old client is fenced, so that its locks and watches are free.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::ffi::rados::{IoCtx, Rados, oid};

/// An object that is looked at to see whether there is an answer; it need not be there.
const ASKED: &str = "aquifer.deaf";

impl Cluster {
    /// To be told when something on this io context was not answered in time. Looks at its connection, if nobody does.
    pub(crate) fn doubt(&self, io: &Arc<IoCtx>) {
        if io.rados().is_dead() || io.rados().set_doubted(true) {
            return;
        }
        let (this, io) = (self.clone(), io.clone());
        tokio::spawn(async move {
            let hears = hears(&io, this.timeout()).await;
            io.rados().set_doubted(false);
            if !hears {
                this.leave(io.rados()).await;
            }
        });
    }

    async fn leave(&self, old: &Rados) {
        if !old.give_up() {
            return;
        }
        let client = old.instance_id();
        tracing::error!(
            cluster = self.name(),
            client,
            "librados calls nobody back any more; connecting anew"
        );
        self.leave_lanes();
        if let Err(error) = self.fence(old).await {
            tracing::error!(cluster = self.name(), client, %error, "the old connection's locks are not free yet");
        }
    }

    /// Has the OSDs refuse whatever comes from this client from now on (for an hour, as librbd does with dead owners).
    async fn fence(&self, old: &Rados) -> Result<(), Error> {
        let address = old.address().map_err(|e| Error::from_errno(e.0, "this client's address"))?;
        let command = serde_json::json!({"prefix": "osd blocklist", "blocklistop": "add", "addr": address});
        self.mon_command(command).await.map(drop)
    }
}

/// Whether librados calls back, with whatever answer. `timeout` is after how long it does at the latest.
async fn hears(io: &Arc<IoCtx>, timeout: Duration) -> bool {
    let Ok(asked) = oid(ASKED).and_then(|name| io.object_stat((), name)) else { return true };
    let mut answer = pin!(asked.wait());
    // Twice: a process that was held still finds the first time over when it goes on.
    for _ in 0..2 {
        if tokio::time::timeout(timeout + Duration::from_secs(1), &mut answer).await.is_ok() {
            return true;
        }
    }
    false
}
