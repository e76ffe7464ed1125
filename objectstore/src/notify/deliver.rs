//! Taking events from the index to their topics.
//!
//! One process at a time has a container (a row of `object_notifying`, claimed for a while): two would deliver
//! everything twice. Events that were taken are removed; those that were not stay, and their topic is left alone for a
//! while that grows. What is too old, and the oldest of what is too much, is given up: a topic that nobody listens at
//! costs the cloud a bounded number of rows.

use super::record::Event;
use super::topic::{Topic, TopicInfo};
use super::webhook::Webhook;
use crate::container::Container;
use crate::index::Change;
use crate::index::entry::{self, ShardId};
use crate::names::{self, ContainerId};
use crate::{ObjectError, ObjectStore, store};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use ipnet::IpNet;
use pool::OptionalExt;
use state::Timestamp;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

/// How often a process looks for events of others; its own it knows of.
const LOOK: Duration = Duration::from_secs(1);
/// How long a container is claimed.
const CLAIM: Duration = Duration::from_secs(30);
/// Containers told of at once, events of one under way, and events that are removed together.
const CONTAINERS: usize = 32;
const AT_ONCE: usize = 16;
const CHUNK: usize = 256;
/// Stands, in the rows, for the containers that were deleted before their events were delivered.
pub(crate) const ORPHANS: &str = "orphans";
/// A topic that did not take an event is left alone so long at first, and at most.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// What this process knows of deliveries.
#[derive(Default)]
pub(crate) struct Deliverer {
    wake: Notify,
    /// Containers that it is telling of right now.
    busy: Mutex<HashSet<String>>,
    /// Topics that did not take an event: until when they are left alone, and for how long that was.
    waits: Mutex<HashMap<Topic, (Instant, Duration)>>,
    webhook: OnceLock<Option<Webhook>>,
}

impl Deliverer {
    /// There is an event.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    fn webhook(&self, networks: &[IpNet]) -> Option<&Webhook> {
        let made = self.webhook.get_or_init(|| {
            Webhook::new(networks)
                .inspect_err(|e| tracing::error!(error = ?e, "no event can be delivered"))
                .ok()
        });
        made.as_ref()
    }

    fn waits(&self, topic: &Topic) -> bool {
        let waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        waits.get(topic).is_some_and(|(until, _)| Instant::now() < *until)
    }

    /// Leaves a topic alone for a while; whether that is news.
    fn failed(&self, topic: &Topic) -> bool {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let wait = match waits.get(topic) {
            Some((until, _)) if now < *until => return false, // another of the same moment
            Some((_, wait)) => (*wait * 2).min(LONGEST),
            None => SHORTEST,
        };
        waits.insert(topic.clone(), (now + wait, wait)).is_none()
    }

    fn took(&self, topic: &Topic) {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }
}

impl ObjectStore {
    /// Delivers events, until `stop`.
    pub(crate) async fn deliver_rounds(self, stop: CancellationToken) {
        let permits = Arc::new(Semaphore::new(CONTAINERS));
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
                () = self.inner.deliverer.wake.notified() => {}
            }
            if let Err(e) = self.deliver_round(&permits, &stop).await {
                tracing::warn!(error = ?e, "events wait: their containers cannot be looked up");
            }
        }
    }

    async fn deliver_round(
        &self,
        permits: &Arc<Semaphore>,
        stop: &CancellationToken,
    ) -> Result<(), ObjectError> {
        let (me, now) = (self.inner.process.to_string(), Timestamp::now());
        for (id, until) in store::topics::free(&self.inner.db, &me, now).await? {
            let busy = &self.inner.deliverer.busy;
            if !busy.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone()) {
                continue;
            }
            let (this, permits, stop, me) = (self.clone(), permits.clone(), stop.clone(), me.clone());
            tokio::spawn(async move {
                let work = async {
                    let _permit = permits.acquire().await.ok()?;
                    this.tell_of(&id, &me, until)
                        .await
                        .inspect_err(|e| tracing::warn!(container = id, error = ?e, "events wait"))
                        .ok()
                };
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = work => {}
                }
                let busy = &this.inner.deliverer.busy;
                busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            });
        }
        Ok(())
    }

    /// Delivers one container's events, if no other process does.
    async fn tell_of(&self, id: &str, me: &str, claimed: i64) -> Result<(), ObjectError> {
        let now = Timestamp::now();
        let claim = i64::try_from(CLAIM.as_micros()).unwrap_or(0);
        if claimed < now.micros() + claim / 2 {
            let until = Timestamp(now.micros() + claim);
            if !store::topics::claim(&self.inner.db, id, me, now, until).await? {
                return Ok(());
            }
        }
        if id == ORPHANS {
            return self.deliver_orphans().await.map(drop);
        }
        let Some(container) = ContainerId::parse(id) else { return Ok(()) };
        let Some(row) = store::containers::find_id(&self.inner.db, container).await? else {
            return store::topics::end(&self.inner.db, id).await; // it is gone, and its index with it
        };
        let container = Arc::new(self.read_row(row)?);
        let stays = self.deliver_events(&container).await?;
        if stays == 0 && container.info.notifications.is_empty() {
            store::topics::end(&self.inner.db, id).await?;
        }
        Ok(())
    }

    /// Delivers what can be delivered of a container's events; how many stay.
    pub async fn deliver_events(&self, container: &Arc<Container>) -> Result<usize, ObjectError> {
        let mut topics: HashMap<Topic, Option<TopicInfo>> = HashMap::new();
        let mut stay: Vec<(String, ShardId)> = Vec::new();
        for shard in container.shards() {
            let mut rows = self.inner.index.rows(&container.policy.index, shard, entry::EVENT).await?;
            rows.sort_unstable();
            for rows in rows.chunks(CHUNK) {
                let mut gone = Vec::new();
                for (key, done) in self.deliver_rows(rows, &mut topics).await? {
                    match done {
                        true => gone.push(key),
                        false => stay.push((key, shard)),
                    }
                }
                self.forget_events(container, shard, gone).await?;
            }
        }
        let most = self.inner.config.notification_backlog;
        if stay.len() > most {
            stay.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            let mut old: HashMap<ShardId, Vec<String>> = HashMap::new();
            for (key, shard) in stay.drain(..stay.len() - most) {
                old.entry(shard).or_default().push(key);
            }
            for (shard, keys) in old {
                tracing::warn!(container = %container.id, events = keys.len(), "events that nobody took are given up");
                self.forget_events(container, shard, keys).await?;
            }
        }
        Ok(stay.len())
    }

    /// Keeps the events of a container that is being deleted; whether there are any.
    pub(crate) async fn keep_events(&self, container: &Container) -> Result<bool, ObjectError> {
        let mut all = Vec::new();
        for shard in container.shards() {
            all.extend(self.inner.index.rows(&container.policy.index, shard, entry::EVENT).await?);
        }
        let any = !all.is_empty();
        if any {
            self.inner.policies.default_policy().index.omap_set(names::EVENTS, all).await?;
        }
        Ok(any)
    }

    /// Delivers what can be delivered of the events of containers that are gone; how many stay.
    pub async fn deliver_orphans(&self) -> Result<usize, ObjectError> {
        let index = self.inner.policies.default_policy().index.clone();
        let mut rows = index.omap_get_all(names::EVENTS, entry::EVENT).await.optional()?.unwrap_or_default();
        rows.sort_unstable();
        let (mut topics, mut stay) = (HashMap::new(), Vec::new());
        for rows in rows.chunks(CHUNK) {
            let fates = self.deliver_rows(rows, &mut topics).await?;
            let (gone, left): (Vec<_>, Vec<_>) = fates.into_iter().partition(|(_, done)| *done);
            stay.extend(left.into_iter().map(|(key, _)| key));
            if !gone.is_empty() {
                index.omap_remove(names::EVENTS, gone.into_iter().map(|(key, _)| key)).await?;
            }
        }
        let most = self.inner.config.notification_backlog;
        if stay.len() > most {
            let old: Vec<String> = stay.drain(..stay.len() - most).collect();
            tracing::warn!(events = old.len(), "events of deleted containers that nobody took are given up");
            index.omap_remove(names::EVENTS, old).await?;
        }
        Ok(stay.len())
    }

    /// Tries to deliver some events; each is done with, or stays.
    async fn deliver_rows(
        &self,
        rows: &[(String, Bytes)],
        topics: &mut HashMap<Topic, Option<TopicInfo>>,
    ) -> Result<Vec<(String, bool)>, ObjectError> {
        let too_old = Timestamp::now().micros()
            - i64::try_from(self.inner.config.notification_keep_s).unwrap_or(0).saturating_mul(1_000_000);
        let mut events = Vec::with_capacity(rows.len());
        for (key, value) in rows {
            let event: Event =
                serde_json::from_slice(value).map_err(|_| ObjectError::Damaged("an event cannot be read"))?;
            if !topics.contains_key(&event.topic) {
                let found = store::topics::find(&self.inner.db, &event.topic).await?;
                topics.insert(event.topic.clone(), found.map(|row| row.info));
            }
            events.push((key, event));
        }
        let mut deliveries = Vec::with_capacity(events.len());
        for (key, event) in events {
            let info = topics.get(&event.topic).and_then(Option::as_ref);
            let delivery = async move {
                let done = match info {
                    Some(info) if !info.endpoint.is_empty() && event.at >= too_old => {
                        self.deliver(&event, key, info).await
                    }
                    // Nobody is to hear of it, or nobody did for too long.
                    _ => true,
                };
                (key.clone(), done)
            };
            deliveries.push(delivery.boxed());
        }
        Ok(futures::stream::iter(deliveries).buffered(AT_ONCE).collect().await)
    }

    /// Delivers one event, if its topic takes events; whether it did.
    async fn deliver(&self, event: &Event, key: &str, info: &TopicInfo) -> bool {
        let deliverer = &self.inner.deliverer;
        let Some(webhook) = deliverer.webhook(&self.inner.config.notification_networks) else { return false };
        if deliverer.waits(&event.topic) {
            return false;
        }
        let message = event.message(&key[1..], &info.opaque).to_string();
        match webhook.post(&info.endpoint, message.into_bytes()).await {
            Ok(()) => {
                deliverer.took(&event.topic);
                true
            }
            Err(e) => {
                if deliverer.failed(&event.topic) {
                    tracing::info!(topic = %event.topic, error = ?e, "a topic takes no events at the moment");
                }
                false
            }
        }
    }

    async fn forget_events(
        &self,
        container: &Container,
        shard: ShardId,
        keys: Vec<String>,
    ) -> Result<(), ObjectError> {
        if keys.is_empty() {
            return Ok(());
        }
        let change = Change::Rows { set: Vec::new(), remove: keys, adds: false };
        self.inner.index.commit(&container.policy.index, shard, change).await.map(drop)
    }
}
