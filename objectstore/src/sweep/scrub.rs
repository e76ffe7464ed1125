//! Silent damage, looked for: the content of every object and version is read, slowly, and compared with the sums that
//! were taken when it was written. What is damaged is logged as an error and stays on record
//! ([`ObjectStore::damage`]) until it is sound, replaced or deleted; nothing is repaired here, and no good copy is
//! thrown away.
//!
//! Every process tells how much is damaged as a metric (`aquifer_object_damaged`), and how many bytes it has looked at
//! (`aquifer_object_scrubbed_bytes_total`); which objects they are stands in the log and in the rows.
//!
//! One process is at it at a time; how far it has come is a row, so another goes on where it ended. What is encrypted
//! with a client's key cannot be opened and is not looked at; everything else that is encrypted is.

use super::ObjectStore;
use crate::ObjectError;
use crate::container::Container;
use crate::digest::{Algorithm, Summed, Sums};
use crate::index::{Entry, VersionItem, VersionQuery};
use crate::meta::{Checksum, Kind};
use crate::object::Object;
use crate::range::Span;
use crate::store::scrub::{self, Damage, Progress};
use crate::store::{self};
use crate::version::VersionId;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use state::Timestamp;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often it is looked whether there is something to do, and after how long without a word another process goes on.
const LOOK: Duration = Duration::from_secs(60);
const SILENT: Duration = Duration::from_secs(600);
/// Versions that are listed at once; between two pages a word is said.
const PAGE: usize = 200;
/// Before damage is believed it is looked at again: it may have been replaced or deleted at this moment.
const AGAIN: Duration = Duration::from_secs(2);

/// What is known of an object's content.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Sound,
    /// Nothing is known: nobody but the client can open it.
    Closed,
    Damaged(String),
}

/// Bytes that may be read in a second.
struct Pace {
    bytes_per_s: u64,
    since: Instant,
    bytes: u64,
}

impl Pace {
    async fn take(&mut self, bytes: usize) {
        metrics::counter!("aquifer_object_scrubbed_bytes_total").increment(bytes as u64);
        self.bytes += bytes as u64;
        let due = Duration::from_secs_f64(self.bytes as f64 / self.bytes_per_s.max(1) as f64);
        if let Some(wait) = due.checked_sub(self.since.elapsed()) {
            tokio::time::sleep(wait).await;
        }
    }
}

/// One run of bytes, and what it must add up to.
struct Run {
    len: u64,
    etag: String,
    checksum: Option<Checksum>,
}

impl Run {
    fn sums(&self) -> Sums {
        Sums::new(self.checksum.as_ref().and_then(|c| Algorithm::of(&c.algorithm)))
    }

    fn is(&self, found: &Summed) -> bool {
        let same = match (&self.checksum, &found.checksum) {
            (Some(was), Some(is)) if was.algorithm == is.algorithm => was.value == is.value,
            _ => true,
        };
        same && found.etag.eq_ignore_ascii_case(&self.etag)
    }
}

impl ObjectStore {
    /// What the scrub has found to be damaged.
    pub async fn damage(&self) -> Result<Vec<Damage>, ObjectError> {
        scrub::damage(&self.inner.db).await
    }

    pub(super) async fn scrubs(self, stop: CancellationToken) {
        let every = i64::try_from(self.inner.config.scrub_interval_s).unwrap_or(i64::MAX);
        if every == 0 {
            return;
        }
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            self.logged("scrub", self.tell_damage().await);
            tokio::select! {
                () = stop.cancelled() => return,
                done = self.scrub_if_due(every) => self.logged("scrub", done),
            }
        }
    }

    /// Says as a metric how much is on record.
    async fn tell_damage(&self) -> Result<(), ObjectError> {
        let count = scrub::count(&self.inner.db).await?;
        metrics::gauge!("aquifer_object_damaged").set(count as f64);
        Ok(())
    }

    async fn scrub_if_due(&self, every: i64) -> Result<(), ObjectError> {
        let stale = Timestamp(Timestamp::now().micros() - i64::try_from(SILENT.as_micros()).unwrap_or(0));
        let process = self.inner.process.to_string();
        let Some(mut progress) = scrub::claim(&self.inner.db, &process, stale).await? else { return Ok(()) };
        if progress.container.is_empty() {
            if progress.ended_at > Timestamp::now().micros() - every.saturating_mul(1_000_000) {
                return Ok(());
            }
            progress = Progress { began_at: Timestamp::now().micros(), ..progress };
        }
        self.scrub_from(progress).await
    }

    /// Looks at everything. What `sweep` does every so often; tests call it.
    pub async fn scrub_once(&self) -> Result<(), ObjectError> {
        let process = self.inner.process.to_string();
        if scrub::claim(&self.inner.db, &process, Timestamp::now()).await?.is_some() {
            self.scrub_from(Progress { began_at: Timestamp::now().micros(), ..Progress::default() }).await?;
        }
        Ok(())
    }

    async fn scrub_from(&self, mut progress: Progress) -> Result<(), ObjectError> {
        let bytes_per_s = self.inner.config.scrub_bytes_per_s;
        let mut pace = Pace { bytes_per_s, since: Instant::now(), bytes: 0 };
        let process = self.inner.process.to_string();
        if let Some(id) = crate::names::ContainerId::parse(&progress.container)
            && let Some(row) = store::containers::find_id(&self.inner.db, id).await?
        {
            let container = Arc::new(self.read_row(row)?);
            if !self.scrub_container(&container, &process, &mut progress, &mut pace).await? {
                return Ok(());
            }
        }
        loop {
            let rows = store::containers::round(&self.inner.db, &progress.container, 1).await?;
            let Some(row) = rows.into_iter().next() else { break };
            (progress.container, progress.marker) = (row.id.to_string(), String::new());
            let container = Arc::new(self.read_row(row)?);
            if !self.scrub_container(&container, &process, &mut progress, &mut pace).await? {
                return Ok(());
            }
        }
        self.forget_mended().await?;
        self.tell_damage().await?;
        progress = Progress {
            ended_at: Timestamp::now().micros(),
            began_at: progress.began_at,
            ..Progress::default()
        };
        scrub::note(&self.inner.db, &process, &progress).await.map(drop)
    }

    /// Looks at a container from the marker on; whether this process is still the one that is at it.
    async fn scrub_container(
        &self,
        container: &Arc<Container>,
        process: &str,
        progress: &mut Progress,
        pace: &mut Pace,
    ) -> Result<bool, ObjectError> {
        let mut query =
            VersionQuery { limit: PAGE, key_marker: progress.marker.clone(), ..VersionQuery::default() };
        loop {
            if !scrub::note(&self.inner.db, process, progress).await? {
                return Ok(false);
            }
            let page = self.list_versions(container, &query).await?;
            for item in page.items {
                let VersionItem::Version { name, entry, .. } = item else { continue };
                self.scrub_version(container, &name, &entry, pace).await?;
                // A name whose versions are on two pages is begun again after a break, not left out.
                if query.key_marker != name {
                    progress.marker.clone_from(&query.key_marker);
                }
                (query.key_marker, query.version_marker) = (name, Some(entry.id()));
            }
            if !page.truncated {
                return Ok(true);
            }
        }
    }

    async fn scrub_version(
        &self,
        container: &Arc<Container>,
        name: &str,
        entry: &Entry,
        pace: &mut Pace,
    ) -> Result<(), ObjectError> {
        if entry.marker {
            return Ok(());
        }
        let id = entry.id();
        let Some((first, verdict)) = self.look_at(container, name, id, pace).await? else { return Ok(()) };
        let Verdict::Damaged(_) = verdict else { return Ok(()) };
        tokio::time::sleep(AGAIN).await;
        match self.look_at(container, name, id, pace).await? {
            Some((second, Verdict::Damaged(what))) if first == second => {
                tracing::error!(container = %container.id, object = name, version = %id, what, "an object is damaged");
                scrub::record(&self.inner.db, container.id, name, id, Some(&what)).await?;
                self.tell_damage().await
            }
            _ => Ok(()),
        }
    }

    /// Takes off the record what is sound again, or is no more.
    async fn forget_mended(&self) -> Result<(), ObjectError> {
        let mut pace = Pace { bytes_per_s: u64::MAX, since: Instant::now(), bytes: 0 };
        for damage in self.damage().await? {
            let row = store::containers::find_id(&self.inner.db, damage.container).await?;
            let still = match row {
                None => false,
                Some(row) => {
                    let container = Arc::new(self.read_row(row)?);
                    let look = self.look_at(&container, &damage.name, damage.version, &mut pace).await?;
                    matches!(look, Some((_, Verdict::Damaged(_))))
                }
            };
            if !still {
                scrub::record(&self.inner.db, damage.container, &damage.name, damage.version, None).await?;
            }
        }
        Ok(())
    }

    /// What is to be said of a version, and of which state of it (its RADOS version, or that of its line in the index
    /// where it is missing); nothing if it is no more.
    async fn look_at(
        &self,
        container: &Arc<Container>,
        name: &str,
        id: VersionId,
        pace: &mut Pace,
    ) -> Result<Option<(u64, Verdict)>, ObjectError> {
        let object = match self.open_version(container, name, id, self.first_read()).await {
            Ok(object) => object,
            Err(ObjectError::NoSuchVersion | ObjectError::NoSuchObject) => {
                let line = self.listed(container, name).await?.filter(|e| e.id() == id);
                let missing = line.filter(|e| !e.expired(Timestamp::now()));
                let verdict = || Verdict::Damaged("it is listed, and is not there".into());
                return Ok(missing.map(|e| (e.version, verdict())));
            }
            Err(ObjectError::Damaged(what)) => return Ok(Some((0, Verdict::Damaged(what.into())))),
            Err(e) => return Err(e),
        };
        let state = object.version;
        match self.verify(object, pace).await {
            Ok(verdict) => Ok(Some((state, verdict))),
            Err(e) if e.is_transient() => Err(e),
            Err(ObjectError::Damaged(what)) => Ok(Some((state, Verdict::Damaged(what.into())))),
            Err(ObjectError::Storage(e)) => {
                Ok(Some((state, Verdict::Damaged(format!("its content cannot be read: {e}")))))
            }
            Err(e) => Err(e),
        }
    }

    async fn verify(&self, object: Object, pace: &mut Pace) -> Result<Verdict, ObjectError> {
        if object.meta.seal.as_ref().is_some_and(|s| s.customer.is_some()) {
            return Ok(Verdict::Closed);
        }
        let size = object.meta.size;
        let runs: Vec<Run> = match object.meta.kind {
            Kind::Multipart => {
                let parts = self.parts(&object).await?;
                parts.into_iter().map(|p| Run { len: p.size, etag: p.etag, checksum: p.checksum }).collect()
            }
            _ => {
                let (etag, checksum) = (object.meta.etag.clone(), object.meta.checksum.clone());
                vec![Run { len: size, etag, checksum }]
            }
        };
        let stream = pin!(self.source(object).await?.stream(Span { start: 0, end: size }));
        compare(runs, stream, pace).await
    }
}

/// Reads a stream and compares each run's sums.
async fn compare(
    runs: Vec<Run>,
    mut stream: impl Stream<Item = Result<Bytes, ObjectError>> + Unpin,
    pace: &mut Pace,
) -> Result<Verdict, ObjectError> {
    let (mut at, mut rest) = (0, Bytes::new());
    for run in runs {
        let (mut sums, mut left) = (run.sums(), run.len);
        while left > 0 {
            if rest.is_empty() {
                match stream.next().await {
                    Some(more) => rest = more?,
                    None => return Ok(Verdict::Damaged(format!("it ends after {at} bytes"))),
                }
                pace.take(rest.len()).await;
            }
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            sums.update(&rest.split_to(n));
            (left, at) = (left - n as u64, at + n as u64);
        }
        let found = sums.finish();
        if !run.is(&found) {
            let from = at - run.len;
            return Ok(Verdict::Damaged(format!("its bytes {from} to {at} are not what was written")));
        }
    }
    Ok(Verdict::Sound)
}
