//! The MD5 of many bodies that come in at the same time.
//!
//! MD5 is most of what a large upload costs, and one body's cannot be made faster than some 850 MB/s. Those of several
//! can be made side by side ([`super::lanes`]), at a small part of the cost each. So what has been gathered of large
//! bodies is queued while others are received too, and one thread at a time (more, when many wait) works the queue off,
//! as many bodies abreast as there are. A body that is alone is summed where it is received, while it is: handing it
//! over would only delay it.

use super::lanes::{self, BLOCK, LANES};
use crate::ObjectError;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Bytes of each body until it is looked who else is waiting.
const TURN: usize = 64 << 10;
/// For so long the first waits for others that are being received.
const PATIENCE: Duration = Duration::from_millis(2);

/// The MD5 of a body, taken piece by piece.
pub(crate) struct Md5Sum {
    state: [u32; 4],
    length: u64,
    /// The end of what has been taken, where it makes no whole block.
    rest: [u8; BLOCK],
}

impl Default for Md5Sum {
    fn default() -> Self {
        let state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
        Md5Sum { state, length: 0, rest: [0; BLOCK] }
    }
}

impl Md5Sum {
    pub(crate) fn update(&mut self, data: &[u8]) {
        let data = &data[self.fill(data)..];
        let (whole, rest) = data.split_at(data.len() - data.len() % BLOCK);
        lanes::compress_one(&mut self.state, whole);
        self.length += whole.len() as u64;
        self.keep(rest);
    }

    /// The same, side by side with what others are having summed.
    pub(crate) async fn update_with(&mut self, together: &Together, data: &Bytes) -> Result<(), ObjectError> {
        let from = self.fill(data);
        let to = data.len() - (data.len() - from) % BLOCK;
        if from < to {
            self.state = together.sum(self.state, data.slice(from..to)).await?;
            self.length += (to - from) as u64;
        }
        self.keep(&data[to..]);
        Ok(())
    }

    pub(crate) fn finish(mut self) -> [u8; 16] {
        let (bits, have) = (self.length.wrapping_mul(8), self.have());
        let mut end = [0; 2 * BLOCK];
        end[..have].copy_from_slice(&self.rest[..have]);
        end[have] = 0x80;
        let len = if have < BLOCK - 8 { BLOCK } else { 2 * BLOCK };
        end[len - 8..len].copy_from_slice(&bits.to_le_bytes());
        lanes::compress_one(&mut self.state, &end[..len]);
        let mut sum = [0; 16];
        for (bytes, word) in sum.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        sum
    }

    /// Bytes that wait for the rest of their block.
    fn have(&self) -> usize {
        (self.length % BLOCK as u64) as usize
    }

    /// Takes what the block that waits can do with; how much that was.
    fn fill(&mut self, data: &[u8]) -> usize {
        let have = self.have();
        if have == 0 {
            return 0;
        }
        let n = data.len().min(BLOCK - have);
        self.rest[have..have + n].copy_from_slice(&data[..n]);
        self.length += n as u64;
        if have + n == BLOCK {
            lanes::compress_one(&mut self.state, &self.rest);
        }
        n
    }

    /// Keeps what makes no whole block, at the end of a piece.
    fn keep(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.rest[..rest.len()].copy_from_slice(rest);
            self.length += rest.len() as u64;
        }
    }
}

/// Who has bodies summed, in this process. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Together(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Large bodies that are being received.
    bodies: AtomicUsize,
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    threads: usize,
}

/// Whole blocks to be summed.
struct Job {
    state: [u32; 4],
    data: Bytes,
    done: oneshot::Sender<[u32; 4]>,
}

/// One large body that is being received.
pub(crate) struct Body(Together);

impl Body {
    /// There is no other.
    pub(crate) fn is_alone(&self) -> bool {
        self.0.0.bodies.load(Ordering::Relaxed) < 2
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.0.0.bodies.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Together {
    pub(crate) fn begin(&self) -> Body {
        self.0.bodies.fetch_add(1, Ordering::Relaxed);
        Body(self.clone())
    }

    async fn sum(&self, state: [u32; 4], data: Bytes) -> Result<[u32; 4], ObjectError> {
        let (done, sum) = oneshot::channel();
        let start = {
            let mut queue = self.0.queue();
            queue.waiting.push_back(Job { state, data, done });
            let wanted = queue.waiting.len().div_ceil(LANES).min(most_threads());
            let start = queue.threads < wanted;
            queue.threads += usize::from(start);
            start
        };
        self.0.more.notify_one();
        if start {
            let shared = self.0.clone();
            tokio::task::spawn_blocking(move || shared.work());
        }
        sum.await.map_err(|_| ObjectError::Damaged("a sum was lost"))
    }
}

/// Half of the machine: the bytes have to come and go, too.
fn most_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2))
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is waiting, as far as there is room; whether there is anything to do. If not, this thread ends.
    fn fill(&self, lanes: &mut Vec<Job>) -> bool {
        let until = lanes.is_empty().then(|| Instant::now() + PATIENCE);
        let mut queue = self.queue();
        loop {
            let room = (LANES - lanes.len()).min(queue.waiting.len());
            lanes.extend(queue.waiting.drain(..room));
            if lanes.is_empty() {
                queue.threads -= 1;
                return false;
            }
            let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() || lanes.len() >= LANES.min(self.bodies.load(Ordering::Relaxed)) {
                return true;
            }
            queue = self.more.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Works the queue off.
    fn work(&self) {
        let mut lanes: Vec<Job> = Vec::with_capacity(LANES);
        while self.fill(&mut lanes) {
            let turn = lanes.iter().map(|job| job.data.len()).min().unwrap_or(0).min(TURN);
            let pieces: Vec<Bytes> = lanes.iter_mut().map(|job| job.data.split_to(turn)).collect();
            let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
            let mut states: Vec<&mut [u32; 4]> = lanes.iter_mut().map(|job| &mut job.state).collect();
            lanes::compress(&mut states, &pieces);
            for job in lanes.extract_if(.., |job| job.data.is_empty()) {
                // Whoever asked may be gone.
                let _ = job.done.send(job.state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use md5::{Digest, Md5};
    use proptest::prelude::*;

    fn noise(len: usize, seed: usize) -> Bytes {
        (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8 ^ seed as u8).collect::<Vec<u8>>().into()
    }

    proptest! {
        #[test]
        fn pieces_add_up(len in 0..1000usize, cuts in proptest::collection::vec(0..1000usize, 0..6)) {
            let data = noise(len, len);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(len)).chain([0, len]).collect();
            cuts.sort_unstable();
            let mut sum = Md5Sum::default();
            cuts.windows(2).for_each(|w| sum.update(&data[w[0]..w[1]]));
            prop_assert_eq!(&sum.finish()[..], &Md5::digest(&data)[..]);
        }
    }

    #[test]
    fn messages_abreast_do_not_mix() {
        for many in 0..=LANES {
            let data: Vec<Bytes> = (0..many).map(|n| noise(4 * BLOCK, n)).collect();
            let pieces: Vec<&[u8]> = data.iter().map(|d| &d[..]).collect();
            let mut sums: Vec<Md5Sum> = (0..many).map(|_| Md5Sum::default()).collect();
            let mut states: Vec<&mut [u32; 4]> = sums.iter_mut().map(|s| &mut s.state).collect();
            lanes::compress(&mut states, &pieces);
            for (mut sum, data) in sums.into_iter().zip(&data) {
                sum.length = data.len() as u64;
                assert_eq!(sum.finish()[..], Md5::digest(data)[..], "{many} at once");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn bodies_of_all_lengths_are_summed_together() {
        let together = Together::default();
        let one = together.begin();
        assert!(one.is_alone());
        let bodies = (0..40).map(|n| {
            let (together, data) = (together.clone(), noise(n * 7919, n));
            async move {
                let body = together.begin();
                assert!(!body.is_alone());
                let (mut sum, mut rest) = (Md5Sum::default(), data.clone());
                while !rest.is_empty() {
                    let piece = rest.split_to(rest.len().min(100_000));
                    sum.update_with(&together, &piece).await.unwrap();
                }
                assert_eq!(sum.finish()[..], Md5::digest(&data)[..], "{n}");
            }
        });
        futures::future::join_all(bodies).await;
        assert!(one.is_alone());
        assert_eq!(together.0.queue().waiting.len(), 0);
    }
}
