//! Wake-ups by topic. A signal says "look again", never what to do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The topics of one process; [`crate::Db`] relays them between processes where PostgreSQL is used.
#[derive(Clone, Default)]
pub struct Signals(Arc<Mutex<HashMap<String, watch::Sender<u64>>>>);

impl Signals {
    /// Listens to a topic from now on.
    pub fn subscribe(&self, topic: &str) -> Signal {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tx = topics.entry(topic.to_owned()).or_insert_with(|| watch::channel(0).0);
        Signal(tx.subscribe())
    }

    /// Wakes every listener of the topic; without one it does nothing. Topics that nobody listens to any
    /// more are forgotten here, so that per-resource topics do not pile up.
    pub fn wake(&self, topic: &str) {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tx) = topics.get(topic) {
            if tx.receiver_count() == 0 {
                topics.remove(topic);
            } else {
                tx.send_modify(|n| *n = n.wrapping_add(1));
            }
        }
    }
}

/// One listener.
pub struct Signal(watch::Receiver<u64>);

impl Signal {
    /// Returns when the topic was woken since the last call, or after `tick` at the latest.
    pub async fn wait(&mut self, tick: Duration) {
        // A closed channel cannot be: the topic's sender lives as long as it has listeners.
        let _ = tokio::time::timeout(tick, self.0.changed()).await;
    }
}
