//! What a client believes its images to be, and the pools in which they are.

use crate::chaos;
use crate::cloud::Cloud;
use crate::library::Book;
use pool::{Clusters, ImageReader, Pool};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// The stores of images, that of new ones first.
pub const STORES: [&str; 2] = ["images", "volumes"];

#[derive(Debug, Clone)]
pub enum Content {
    None,
    /// It waits for its import.
    Staged(Arc<Book>),
    There(Arc<Book>),
}

#[derive(Debug, Clone)]
pub struct Image {
    pub format: &'static str,
    pub content: Content,
    pub stores: BTreeSet<String>,
    pub active: bool,
    /// What was last written into its property `mark`.
    pub mark: String,
    pub tags: BTreeSet<String>,
    /// What the project that it is shared with has said.
    pub member: Option<String>,
}

impl Image {
    pub fn new(format: &'static str) -> Image {
        let (stores, tags) = (BTreeSet::new(), BTreeSet::new());
        Image { format, content: Content::None, stores, active: true, mark: "0".into(), tags, member: None }
    }

    pub fn book(&self) -> Option<&Arc<Book>> {
        if let Content::There(book) = &self.content { Some(book) } else { None }
    }

    pub fn status(&self) -> &'static str {
        match (&self.content, self.active) {
            (Content::None, _) => "queued",
            (Content::Staged(_), _) => "uploading",
            (Content::There(_), true) => "active",
            (Content::There(_), false) => "deactivated",
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Model {
    pub images: BTreeMap<String, Image>,
    pub done: BTreeMap<&'static str, u64>,
}

impl Model {
    pub fn sum(all: Vec<Model>) -> Model {
        let mut whole = Model::default();
        for one in all {
            whole.images.extend(one.images);
            for (what, n) in one.done {
                *whole.done.entry(what).or_default() += n;
            }
        }
        whole
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut states = BTreeMap::<_, u32>::new();
        for image in self.images.values() {
            *states.entry(image.status()).or_default() += 1;
        }
        write!(f, "{states:?}; {:?}", self.done)
    }
}

/// The pools of the stores, and what was there before.
pub struct Pools {
    _clusters: Clusters,
    pools: [Pool; 2],
    before: [BTreeSet<String>; 2],
}

impl Pools {
    pub async fn open(cloud: &Cloud) -> Pools {
        let (clusters, pools) = chaos::pools(cloud, STORES).await;
        let mut all = Pools { _clusters: clusters, pools, before: Default::default() };
        all.before = all.there().await;
        all
    }

    /// What came since.
    pub async fn since(&self) -> [BTreeSet<String>; 2] {
        let mut now = self.there().await;
        for (now, before) in now.iter_mut().zip(&self.before) {
            now.retain(|name| !before.contains(name));
        }
        now
    }

    async fn there(&self) -> [BTreeSet<String>; 2] {
        let mut all = [BTreeSet::new(), BTreeSet::new()];
        for (all, pool) in all.iter_mut().zip(&self.pools) {
            all.extend(pool.rbd().list().await.unwrap());
        }
        all
    }

    /// What is in the trash.
    pub async fn trash(&self) -> Vec<String> {
        let mut all = Vec::new();
        for pool in &self.pools {
            all.extend(pool.rbd().trash_list().await.unwrap().into_iter().map(|e| e.name));
        }
        all
    }

    /// The disk that a clone would see.
    pub async fn disk(&self, store: &str, id: &str) -> Vec<u8> {
        let at = STORES.iter().position(|s| *s == store).unwrap();
        let image = self.pools[at].rbd().open_snapshot(id, "snap").await.unwrap();
        let size = image.size().await.unwrap();
        let mut reader = ImageReader::new(image, 0, size);
        let mut all = Vec::new();
        while let Some(part) = reader.next().await.unwrap() {
            all.extend_from_slice(&part);
        }
        all
    }
}
