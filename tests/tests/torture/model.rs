//! What a client believes to be there. The content of a disk is one byte for each of a few places on it: enough to tell
//! every state that it was in from every other.

use crate::chaos;
use crate::cloud::Cloud;
use bytes::Bytes;
use pool::{Clusters, Pool, Rbd};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Places on a disk that are written and compared; they lie in objects of their own.
pub const PLACES: usize = 12;
/// Bytes between them: the first GiB has them all.
const APART: u64 = 80 << 20;
const LEN: usize = 8 << 10;

/// The tiers that volumes are moved between; a volume type of the same name has its volumes there.
pub const TIERS: [&str; 2] = ["volumes", "vms"];

pub type Content = [u8; PLACES];

#[derive(Debug, Clone, Default)]
pub struct Volume {
    pub size: u64,
    pub content: Content,
    /// In the order in which they were made.
    pub snapshots: Vec<(String, u64, Content)>,
    /// Full first; each later one is incremental.
    pub backups: Vec<String>,
    /// What has become of it, for a failure's report.
    pub history: Vec<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Model {
    pub volumes: BTreeMap<String, Volume>,
    /// Size in GiB and content; whether their volume is still there does not matter to them.
    pub backups: BTreeMap<String, (u64, Content)>,
    pub images: BTreeMap<String, (u64, Content)>,
    pub done: BTreeMap<&'static str, u64>,
}

impl Model {
    pub fn sum(all: Vec<Model>) -> Model {
        let mut whole = Model::default();
        for one in all {
            whole.volumes.extend(one.volumes);
            whole.backups.extend(one.backups);
            whole.images.extend(one.images);
            for (what, n) in one.done {
                *whole.done.entry(what).or_default() += n;
            }
        }
        whole
    }

    pub fn snapshots(&self) -> impl Iterator<Item = (&String, &(String, u64, Content))> {
        self.volumes.iter().flat_map(|(id, v)| v.snapshots.iter().map(move |s| (id, s)))
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshots = self.snapshots().count();
        let (volumes, backups, images) = (self.volumes.len(), self.backups.len(), self.images.len());
        write!(
            f,
            "{volumes} volumes, {snapshots} snapshots, {backups} backups, {images} images; {:?}",
            self.done
        )
    }
}

/// The disks themselves, as a guest has them.
#[derive(Clone)]
pub struct Disks {
    _clusters: Arc<Clusters>,
    /// The tiers that volumes may be in.
    pub tiers: [Pool; 2],
    images: Pool,
}

impl Disks {
    pub async fn open(cloud: &Cloud) -> Disks {
        let [near, far] = TIERS;
        let (clusters, [near, far, images]) = chaos::pools(cloud, [near, far, "images"]).await;
        Disks { tiers: [near, far], images, _clusters: Arc::new(clusters) }
    }

    /// Where a volume is.
    async fn home(&self, volume: &str) -> Rbd {
        let [near, far] = &self.tiers;
        let at = if far.rbd().exists(&format!("volume-{volume}")).await.unwrap() { far } else { near };
        at.rbd()
    }

    /// Writes one place of a volume.
    pub async fn write(&self, volume: &str, place: usize, byte: u8) {
        let image = self.home(volume).await.open(&format!("volume-{volume}")).await.unwrap();
        image.write_at(place as u64 * APART, Bytes::from(vec![byte; LEN])).await.unwrap();
        image.flush().await.unwrap();
        image.close().await.unwrap();
    }

    pub async fn volume(&self, id: &str) -> Content {
        read(self.home(id).await.open_read_only(&format!("volume-{id}")).await.unwrap()).await
    }

    pub async fn snapshot(&self, volume: &str, id: &str) -> Content {
        let (image, snap) = (format!("volume-{volume}"), format!("snapshot-{id}"));
        let home = self.home(volume).await;
        match home.open_snapshot(&image, &snap).await {
            Ok(image) => read(image).await,
            Err(e) => {
                let head = home.open_read_only(&image).await.unwrap();
                let (all, parent) = (head.snap_list_all().await, head.parent().await);
                panic!("{e}\nthere are {all:#?}\nof a clone of {parent:?}");
            }
        }
    }

    /// What a volume is made of and what its snapshots hold, for a failure's report.
    pub async fn tell(&self, id: &str, snapshots: &[(String, u64, Content)]) -> String {
        let image = self.home(id).await.open_read_only(&format!("volume-{id}")).await.unwrap();
        let (all, parent) = (image.snap_list_all().await, image.parent().await);
        let mut text = format!("a clone of {parent:?} with {all:#?}");
        for (snapshot, _, content) in snapshots {
            let now = self.snapshot(id, snapshot).await;
            text += &format!("\nsnapshot {snapshot} holds {now:?}, and was taken with {content:?}");
        }
        text
    }

    pub async fn image(&self, id: &str) -> Content {
        read(self.images.rbd().open_snapshot(id, "snap").await.unwrap()).await
    }
}

async fn read(image: pool::Image) -> Content {
    let mut content = [0; PLACES];
    for (place, byte) in content.iter_mut().enumerate() {
        let bytes = image.read_at(place as u64 * APART, LEN).await.unwrap();
        assert!(bytes.iter().all(|b| *b == bytes[0]), "a write is torn");
        *byte = bytes[0];
    }
    image.close().await.unwrap();
    content
}
