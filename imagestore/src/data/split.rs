//! Takes a qcow2 apart while it comes in: plain clusters go to their place in the disk, the rest stays the file.
//!
//! A cluster's place is known once the tables that name it have come, and writers put tables before what they name.
//! Whatever is not known in time stays in the file, and `convert.rs` makes up for it afterwards: it looks at the whole
//! map again, and what was done here only spares it work. A file never changes what it said before, so both see
//! the same map.

use super::moved::{Moved, Part, Run};
use super::{Blobs, Disk};
use crate::ImageError;
use crate::inspect::qcow2::{self, Streamed};
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use tokio::task::JoinSet;

/// Writes in flight.
const DEPTH: usize = 8;
/// The most clusters that wait for their bytes; 16 MiB or so.
const EXPECTED: usize = 1 << 19;
/// L1 tables larger than this (a disk of 32 TiB) are not read on the way.
const MAX_L1: u64 = 512 << 10;

/// What came of it.
pub(crate) struct Split {
    pub(crate) disk: pool::Image,
    pub(crate) moved: Moved,
}

pub(crate) struct Splitter {
    blobs: Blobs,
    id: String,
    /// Bytes of the disk that are allowed.
    cap: u64,
    header: Option<Streamed>,
    disk: Option<pool::Image>,
    l1: BytesMut,
    /// Where L2 tables are in the file, and the first cluster of the disk that each names.
    l2: HashMap<u64, u64>,
    /// Clusters of the file, and which of the disk they are.
    expected: HashMap<u64, u64>,
    moved: Moved,
    writes: JoinSet<Result<(), pool::Error>>,
}

impl Splitter {
    pub(crate) fn new(blobs: Blobs, id: &str, cap: u64) -> Self {
        Splitter {
            blobs,
            id: id.to_owned(),
            cap,
            header: None,
            disk: None,
            l1: BytesMut::new(),
            l2: HashMap::new(),
            expected: HashMap::new(),
            moved: Moved::default(),
            writes: JoinSet::new(),
        }
    }

    /// Takes the chunk at `at` of the file. Chunks are whole multiples of a cluster, but for the last.
    pub(crate) async fn take(&mut self, at: u64, chunk: &Bytes) -> Result<Vec<Part>, ImageError> {
        if at == 0 {
            let header = qcow2::streamed(chunk, self.cap)?;
            self.disk = Some(self.blobs.create(&self.id, Disk::Main, header.size).await?);
            self.header = Some(header).filter(|h| h.l1_entries * 8 <= MAX_L1);
        }
        let Some(h) = self.header else { return Ok(vec![Part::Kept(chunk.clone())]) };
        self.tables(h, at, chunk);
        let cluster = 1usize << h.cluster_bits;
        let (mut parts, mut kept) = (Vec::new(), 0);
        let mut here = 0;
        while here < chunk.len() {
            let Some((end, to)) = self.run(h, at, here, chunk.len()) else {
                here += cluster;
                continue;
            };
            if kept < here {
                parts.push(Part::Kept(chunk.slice(kept..here)));
            }
            parts.push(Part::Moved((end - here) as u64));
            self.put(Run { at: at + here as u64, len: (end - here) as u64, to }, chunk.slice(here..end))
                .await?;
            (here, kept) = (end, end);
        }
        if kept < chunk.len() {
            parts.push(Part::Kept(chunk.slice(kept..)));
        }
        Ok(parts)
    }

    /// The run of clusters that begins at `here` in the chunk and is one in the disk, too: its end, and its place.
    fn run(&mut self, h: Streamed, at: u64, here: usize, len: usize) -> Option<(usize, u64)> {
        let number = (at + here as u64) >> h.cluster_bits;
        if self.moved.is_full() || !self.expected.contains_key(&number) {
            return None;
        }
        let (cluster, first) = (1usize << h.cluster_bits, self.expected.remove(&number)?);
        let (mut end, mut n) = ((here + cluster).min(len), 1);
        while end < len && self.expected.get(&(number + n)) == Some(&(first + n)) {
            self.expected.remove(&(number + n));
            (end, n) = ((end + cluster).min(len), n + 1);
        }
        let to = first << h.cluster_bits;
        // The last cluster may be longer than what is left of the disk.
        (to + (end - here) as u64 <= h.size).then_some((end, to))
    }

    /// Reads the tables that are in this chunk.
    fn tables(&mut self, h: Streamed, at: u64, chunk: &[u8]) {
        let (end, l1_end) = (at + chunk.len() as u64, h.l1_at + h.l1_entries * 8);
        if at < l1_end && end > h.l1_at {
            let from = h.l1_at.max(at) - at;
            let to = l1_end.min(end) - at;
            self.l1.extend_from_slice(&chunk[index(from)..index(to)]);
            if end >= l1_end {
                self.l2 = h.l2_tables(&self.l1);
            }
        }
        let cluster = 1usize << h.cluster_bits;
        for here in (0..chunk.len()).step_by(cluster) {
            let Some(first) = self.l2.remove(&(at + here as u64)) else { continue };
            let Some(table) = chunk.get(here..here + cluster) else { continue };
            for (number, cluster) in h.plain_clusters(table, first) {
                if number << h.cluster_bits >= at && self.expected.len() < EXPECTED {
                    self.expected.entry(number).or_insert(cluster);
                }
            }
        }
    }

    async fn put(&mut self, run: Run, data: Bytes) -> Result<(), ImageError> {
        self.moved.push(run);
        if data.chunks(4096).all(|c| c.iter().fold(0, |a, b| a | b) == 0) {
            return Ok(());
        }
        while self.writes.len() >= DEPTH {
            self.written().await?;
        }
        if let Some(disk) = self.disk.clone() {
            self.writes.spawn(async move { disk.write_at(run.to, data).await });
        }
        Ok(())
    }

    async fn written(&mut self) -> Result<(), ImageError> {
        match self.writes.join_next().await {
            Some(done) => Ok(done??),
            None => Ok(()),
        }
    }

    /// Ends where the rest does not come: the disk is nobody's any more when this returns.
    pub(crate) async fn give_up(mut self) -> Result<(), ImageError> {
        self.writes.shutdown().await;
        match self.disk {
            Some(disk) => Ok(disk.close().await?),
            None => Ok(()),
        }
    }

    /// Waits for what is being written. `None` where nothing has come at all.
    pub(crate) async fn finish(mut self) -> Result<Option<Split>, ImageError> {
        while !self.writes.is_empty() {
            self.written().await?;
        }
        let Some(disk) = self.disk else { return Ok(None) };
        disk.flush().await?;
        Ok(Some(Split { disk, moved: self.moved }))
    }
}

/// Within a chunk.
fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
