//! Which tier a volume goes to: those that may be used are filtered by what the type asks for, by room and by the
//! request's hints; of what is left, the one with most room.
//!
//! A type that names its tier (`volume_backend_name`) may name any tier of the configuration; one that names none gets one of
//! those that are for volumes (`tier`, `tiers`).

use crate::model::VolumeType;
use crate::services::{capability, meets};
use crate::{VolumeError, Volumes, store};
use pool::Tier;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where a volume should be, in terms of others (`OS-SCH-HNT:scheduler_hints`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// In the tier of one of these volumes.
    pub same_host: Vec<String>,
    /// In the tier of none of these.
    pub different_host: Vec<String>,
}

/// What is asked of a tier.
pub(crate) struct Request<'a> {
    pub(crate) kind: &'a VolumeType,
    /// GiB that come in addition to what is there.
    pub(crate) size_gib: i64,
    pub(crate) hints: &'a Hints,
    /// The tier that wins wherever it may be taken: the source's.
    pub(crate) prefer: Option<&'a str>,
}

/// A tier's room, in GiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Room {
    pub(crate) total: f64,
    pub(crate) free: f64,
}

/// What was last heard of tiers' rooms. A cluster is asked at most every few seconds: how full it is changes slowly, and a
/// burst of requests must not become a burst of questions.
#[derive(Debug, Default)]
pub(crate) struct Rooms(Mutex<HashMap<String, (Instant, Option<Room>)>>);

const FRESH: Duration = Duration::from_secs(5);

impl Rooms {
    fn known(&self, tier: &str) -> Option<Option<Room>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(tier).filter(|(at, _)| at.elapsed() < FRESH).map(|(_, room)| *room)
    }

    fn learn(&self, tier: &str, room: Option<Room>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(tier.to_owned(), (Instant::now(), room));
    }
}

impl Volumes {
    /// A tier's room; `None` where its cluster does not answer.
    pub(crate) async fn room(&self, tier: &Tier) -> Option<Room> {
        const GIB: f64 = (1u64 << 30) as f64;
        if let Some(known) = self.rooms.known(&tier.name) {
            return known;
        }
        let pool = tier.data_pool.as_deref().unwrap_or(tier.pool.name());
        let room = match tier.cluster.pool_usage(pool).await {
            // Of a pool that was made a moment ago the cluster knows nothing yet.
            Ok(u) if u.available + u.stored == 0 => None,
            Ok(u) => {
                Some(Room { total: (u.available + u.stored) as f64 / GIB, free: u.available as f64 / GIB })
            }
            Err(e) => {
                tracing::info!(tier = %tier.name, error = %e, "how full a tier is is not known");
                None
            }
        };
        self.rooms.learn(&tier.name, room);
        room
    }

    /// Whether a tier has what a type asks for, its room aside.
    pub(crate) fn offers(&self, tier: &str, kind: &VolumeType) -> bool {
        let named = kind.extra_specs.keys().any(|k| key(k) == Some("volume_backend_name"));
        let usual = self.config.tier == tier || self.config.tiers.iter().any(|t| t == tier);
        (named || usual)
            && kind.extra_specs.iter().all(|(k, wanted)| match key(k) {
                None => true,
                Some("volume_backend_name" | "pool_name") => meets(tier, wanted),
                Some("replication_enabled") => {
                    meets(if self.replicas.of(tier).is_some() { "True" } else { "False" }, wanted)
                }
                Some(other) => capability(other).is_some_and(|has| meets(has, wanted)),
            })
    }

    /// The tier for a volume; `None` where none is left.
    pub(crate) async fn place(&self, want: Request<'_>) -> Result<Option<String>, VolumeError> {
        let off = self.tiers_off().await?;
        let near = self.tiers_of(&want.hints.same_host).await?;
        let far = self.tiers_of(&want.hints.different_host).await?;
        let mut left: Vec<&Tier> = self
            .tiers
            .iter()
            .filter(|t| self.offers(&t.name, want.kind))
            .filter(|t| !off.contains(&t.name))
            .filter(|t| (near.is_empty() || near.contains(&t.name)) && !far.contains(&t.name))
            .collect();
        if let Some(one) = left.iter().position(|t| want.prefer == Some(&t.name)) {
            left.swap(0, one);
            if self.spare(left[0], want.size_gib).await?.is_some() {
                return Ok(Some(left[0].name.clone()));
            }
        }
        let mut best: Option<(f64, &Tier)> = None;
        for tier in left {
            if let Some(spare) = self.spare(tier, want.size_gib).await?
                && best.is_none_or(|(most, _)| spare > most)
            {
                best = Some((spare, tier));
            }
        }
        Ok(best.map(|(_, t)| t.name.clone()))
    }

    /// GiB that may still be promised in a tier, if so many can be. A tier that does not tell is not ruled out: the request
    /// fails there, or waits, with a reason of its own.
    async fn spare(&self, tier: &Tier, size_gib: i64) -> Result<Option<f64>, VolumeError> {
        let Some(room) = self.room(tier).await else { return Ok(Some(0.0)) };
        let filter = store::volumes::Filter { tier: Some(tier.name.clone()), ..Default::default() };
        let (_, promised) = store::volumes::total(self.db.read(), &filter).await?;
        let spare = room.total * self.config.max_over_subscription_ratio - promised as f64;
        Ok((room.free > 0.0 && spare >= size_gib as f64).then_some(spare))
    }

    /// The tiers that these volumes are in; what is no volume is not counted.
    async fn tiers_of(&self, ids: &[String]) -> Result<Vec<String>, VolumeError> {
        let mut all = Vec::new();
        for id in ids {
            all.extend(store::volumes::get(self.db.read(), id).await?.map(|v| v.tier));
        }
        Ok(all)
    }
}

/// The capability that an extra spec speaks of; `None` for other scopes, which are not the scheduler's.
fn key(spec: &str) -> Option<&str> {
    match spec.split_once(':') {
        None => Some(spec),
        Some(("capabilities", rest)) => Some(rest),
        Some(_) => None,
    }
}
