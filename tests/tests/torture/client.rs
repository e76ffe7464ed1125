//! One client: it owns what it makes, does one thing after another, and bears with a cloud that is in trouble as a
//! careful user would.

use crate::chaos::Chaos;
use crate::model::{Content, Disks, Model, PLACES, TIERS, Volume};
use crate::user::{IMAGE, Kind, User};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::time::Instant;

const MOST_VOLUMES: usize = 6;

pub const VOLUME: Kind = Kind { path: "/volume/v3/volumes", one: "volume", many: "volumes" };
pub const SNAPSHOT: Kind = Kind { path: "/volume/v3/snapshots", one: "snapshot", many: "snapshots" };
pub const BACKUP: Kind = Kind { path: "/volume/v3/backups", one: "backup", many: "backups" };

pub struct Client {
    n: u64,
    made: u64,
    random: StdRng,
    user: User,
    disks: Disks,
    chaos: Chaos,
    model: Model,
    /// Chains of backups whose volume is gone.
    loose: Vec<Vec<String>>,
    began: Instant,
}

impl Client {
    pub fn new(n: u64, seed: u64, user: User, disks: Disks, chaos: Chaos) -> Client {
        let random = StdRng::seed_from_u64(seed.wrapping_add(n + 1));
        Client {
            n,
            made: 0,
            random,
            user,
            disks,
            chaos,
            model: Model::default(),
            loose: Vec::new(),
            began: Instant::now(),
        }
    }

    pub async fn run(mut self, end: Instant) -> Model {
        while Instant::now() < end {
            let what = self.step().await;
            if let Some(what) = what {
                *self.model.done.entry(what).or_default() += 1;
            }
        }
        self.model
    }

    fn draw(&mut self, below: usize) -> usize {
        self.random.random_range(0..below)
    }

    fn name(&mut self) -> String {
        self.made += 1;
        format!("torture-{}-{}", self.n, self.made)
    }

    /// A volume of its own.
    fn any(&mut self) -> Option<(String, Volume)> {
        let n = self.model.volumes.len();
        let at = if n == 0 { return None } else { self.draw(n) };
        self.model.volumes.iter().nth(at).map(|(id, v)| (id.clone(), v.clone()))
    }

    /// Does something; what, if it came to pass.
    async fn step(&mut self) -> Option<&'static str> {
        let room = self.model.volumes.len() < MOST_VOLUMES;
        match self.draw(17) {
            0 if room => self.create(json!({}), 1, [0; PLACES]).await.map(|()| "create"),
            1 | 2 if room => self.clone_volume().await,
            3 if room => self.copy_snapshot().await,
            4 if room => self.copy_image().await,
            5 if room => self.restore().await,
            6 | 7 => self.snapshot().await,
            8 => self.drop_snapshot().await,
            9 => self.revert().await,
            10 => self.extend().await,
            11 => self.back_up().await,
            12 => self.drop_backup().await,
            13 => self.upload().await,
            14 => self.drop_image().await,
            15 if !room => self.drop_volume().await,
            16 => self.retype().await,
            _ => self.write().await,
        }
    }

    async fn create(&mut self, from: Value, size: u64, content: Content) -> Option<()> {
        let mut body = json!({"name": self.name(), "size": size});
        body.as_object_mut()?.extend(from.as_object()?.clone());
        let id = self.make(VOLUME, body).await?;
        let volume = Volume { size, content, ..Volume::default() };
        self.model.volumes.insert(id.clone(), volume);
        self.note(&id, format!("made from {from} with {content:?}"));
        Some(())
    }

    async fn clone_volume(&mut self) -> Option<&'static str> {
        let (id, v) = self.any()?;
        self.create(json!({"source_volid": id}), v.size, v.content).await.map(|()| "clone")
    }

    async fn copy_snapshot(&mut self) -> Option<&'static str> {
        let (_, v) = self.any()?;
        let (id, size, content) = v.snapshots.first()?.clone();
        self.create(json!({"snapshot_id": id}), size, content).await.map(|()| "create from snapshot")
    }

    async fn copy_image(&mut self) -> Option<&'static str> {
        let (id, (size, content)) = self.model.images.iter().next().map(|(i, c)| (i.clone(), *c))?;
        self.create(json!({"imageRef": id}), size, content).await.map(|()| "create from image")
    }

    async fn restore(&mut self) -> Option<&'static str> {
        let (id, (size, content)) = self.model.backups.iter().next_back().map(|(i, c)| (i.clone(), *c))?;
        self.create(json!({"backup_id": id}), size, content).await.map(|()| "restore")
    }

    async fn write(&mut self) -> Option<&'static str> {
        let (id, _) = self.any()?;
        let (place, byte) = (self.draw(PLACES), self.draw(255) as u8 + 1);
        let calm = self.chaos.calm.clone().read_owned().await;
        self.disks.write(&id, place, byte).await;
        drop(calm);
        self.note(&id, format!("{byte} written to {place}"));
        self.model.volumes.get_mut(&id)?.content[place] = byte;
        Some("write")
    }

    async fn snapshot(&mut self) -> Option<&'static str> {
        let (id, v) = self.any()?;
        let body = json!({"name": self.name(), "volume_id": id});
        let snapshot = self.make(SNAPSHOT, body).await?;
        self.note(&id, format!("snapshot {snapshot} with {:?}", v.content));
        self.model.volumes.get_mut(&id)?.snapshots.push((snapshot, v.size, v.content));
        Some("snapshot")
    }

    async fn drop_snapshot(&mut self) -> Option<&'static str> {
        let (id, v) = self.any()?;
        let at = if v.snapshots.is_empty() { return None } else { self.draw(v.snapshots.len()) };
        self.user.remove(SNAPSHOT, &v.snapshots[at].0, "").await;
        self.model.volumes.get_mut(&id)?.snapshots.remove(at);
        Some("delete snapshot")
    }

    async fn revert(&mut self) -> Option<&'static str> {
        let (id, v) = self.any()?;
        let (snapshot, size, content) = v.snapshots.last()?.clone();
        if size != v.size {
            return None;
        }
        let (asked, _) = self.act(&id, json!({"revert": {"snapshot_id": snapshot}})).await?;
        let now = self.content(&id).await;
        if now != content && (asked || now != v.content) {
            let story = self.model.volumes[&id].history.join("\n");
            let seen = self.disks.tell(&id, &v.snapshots).await;
            panic!("volume {id} was reverted to {now:?}, not {content:?} of {snapshot}\n{story}\n{seen}");
        }
        self.model.volumes.get_mut(&id)?.content = now;
        Some("revert")
    }

    async fn extend(&mut self) -> Option<&'static str> {
        let (id, v) = self.any()?;
        if v.size > 2 {
            return None;
        }
        let (_, body) = self.act(&id, json!({"os-extend": {"new_size": v.size + 1}})).await?;
        self.model.volumes.get_mut(&id)?.size = body["size"].as_u64()?;
        Some("extend")
    }

    /// Moves a volume to the other tier, with its snapshots.
    async fn retype(&mut self) -> Option<&'static str> {
        let (id, _) = self.any()?;
        let now = self.user.settled(VOLUME, &id).await;
        let new = if now["volume_type"] == TIERS[1] { TIERS[0] } else { TIERS[1] };
        let fulls = self.chaos.fulls();
        let ask = json!({"os-retype": {"new_type": new, "migration_policy": "on-demand"}});
        let (asked, now) = self.act(&id, ask).await?;
        if now["volume_type"] != new {
            let excused = !asked || self.chaos.full_since(fulls);
            assert!(excused, "volume {id} did not move without a full pool: {now}");
            return None;
        }
        Some("retype")
    }

    async fn back_up(&mut self) -> Option<&'static str> {
        let (id, v) = self.any()?;
        if self.model.backups.len() > 4 {
            return None;
        }
        let body = json!({"name": self.name(), "volume_id": id, "incremental": !v.backups.is_empty()});
        let backup = self.make(BACKUP, body).await?;
        // The volume is `backing-up` for a moment longer.
        self.user.settled(VOLUME, &id).await;
        self.model.volumes.get_mut(&id)?.backups.push(backup.clone());
        self.model.backups.insert(backup, (v.size, v.content));
        Some("backup")
    }

    async fn drop_backup(&mut self) -> Option<&'static str> {
        let gone = match self.loose.last_mut() {
            Some(chain) => chain.pop(),
            None => {
                let (id, _) = self.any()?;
                self.model.volumes.get_mut(&id)?.backups.pop()
            }
        };
        self.loose.retain(|chain| !chain.is_empty());
        let gone = gone?;
        self.user.remove(BACKUP, &gone, "").await;
        self.model.backups.remove(&gone);
        Some("delete backup")
    }

    async fn upload(&mut self) -> Option<&'static str> {
        let (id, v) = self.any()?;
        if self.model.images.len() > 2 {
            return None;
        }
        let name = self.name();
        let ask = json!({"os-volume_upload_image": {"image_name": name, "disk_format": "raw",
            "container_format": "bare"}});
        self.act(&id, ask).await?;
        let image = self.user.find(IMAGE, &name).await?;
        if self.user.settled(IMAGE, &image).await["status"] != "active" {
            self.user.remove(IMAGE, &image, "").await;
            return None;
        }
        self.model.images.insert(image, (v.size, v.content));
        Some("upload")
    }

    async fn drop_image(&mut self) -> Option<&'static str> {
        let id = self.model.images.keys().next()?.clone();
        self.user.remove(IMAGE, &id, "").await;
        self.model.images.remove(&id);
        Some("delete image")
    }

    async fn drop_volume(&mut self) -> Option<&'static str> {
        let (id, _) = self.any()?;
        self.drop_it(&id).await;
        Some("delete volume")
    }

    async fn drop_it(&mut self, id: &str) {
        self.user.remove(VOLUME, id, "?cascade=True").await;
        let gone = self.model.volumes.remove(id);
        self.loose.extend(gone.map(|v| v.backups).filter(|chain| !chain.is_empty()));
    }

    /// Keeps for a failure's report what has become of a volume.
    fn note(&mut self, id: &str, what: String) {
        let at = self.began.elapsed().as_millis();
        if let Some(volume) = self.model.volumes.get_mut(id) {
            volume.history.push(format!("{at} ms: {what}"));
        }
    }

    async fn content(&self, id: &str) -> Content {
        let _calm = self.chaos.calm.clone().read_owned().await;
        self.disks.volume(id).await
    }

    // --- how a careful user asks ---

    /// Makes one of a kind and waits for it: its id. `None` where the trouble has kept it from being made; then nothing
    /// is left of it.
    async fn make(&self, kind: Kind, body: Value) -> Option<String> {
        let name = body["name"].as_str()?.to_owned();
        let fulls = self.chaos.fulls();
        let answer = self.user.call("POST", kind.path, Some(json!({kind.one: body}))).await;
        let id = match answer {
            Some((200..=299, body)) => body[kind.one]["id"].as_str()?.to_owned(),
            Some((status @ 400..=499, body)) => panic!("{} {name}: {status} {body}", kind.path),
            _ => self.user.find(kind, &name).await?,
        };
        let now = self.user.settled(kind, &id).await;
        if now["status"] == "available" {
            return Some(id);
        }
        assert!(self.chaos.full_since(fulls), "{} {id} is in error without a full pool: {now}", kind.one);
        self.user.remove(kind, &id, "").await;
        None
    }

    /// An action on a volume: whether it was taken for certain, and how the volume is at rest then. One that a full pool
    /// has left in error is deleted.
    async fn act(&mut self, id: &str, body: Value) -> Option<(bool, Value)> {
        let path = format!("{}/{id}/action", VOLUME.path);
        let (fulls, what) = (self.chaos.fulls(), body.to_string());
        let asked = match self.user.call("POST", &path, Some(body)).await {
            Some((200..=299, _)) => true,
            Some((status @ 400..=499, body)) => panic!("{path}: {status} {body}"),
            _ => false,
        };
        let now = self.user.settled(VOLUME, id).await;
        self.note(id, format!("{what}, taken: {asked}, then {} in {}", now["status"], now["volume_type"]));
        if now["status"] == "available" {
            return Some((asked, now));
        }
        assert!(self.chaos.full_since(fulls), "volume {id} is in error without a full pool: {now}");
        self.drop_it(id).await;
        None
    }
}
