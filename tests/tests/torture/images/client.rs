//! One client: it owns the images that it makes, does one thing after another to them, and bears with a cloud that is in
//! trouble as a careful user would.

use crate::chaos::Chaos;
use crate::check::Users;
use crate::library::{Book, Library};
use crate::model::{Content, Image, Model, STORES};
use crate::upload::Pace;
use crate::user::{IMAGE, PAUSE};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

const MOST_IMAGES: usize = 6;
const TAGS: [&str; 3] = ["one", "two", "three"];

pub struct Client {
    n: u64,
    made: u64,
    random: StdRng,
    users: Users,
    library: Library,
    chaos: Chaos,
    model: Model,
}

type Done = Option<&'static str>;

impl Client {
    pub fn new(n: u64, seed: u64, users: Users, library: Library, chaos: Chaos) -> Client {
        let random = StdRng::seed_from_u64(seed.wrapping_add(n + 1));
        Client { n, made: 0, random, users, library, chaos, model: Model::default() }
    }

    pub async fn run(mut self, end: Instant) -> Model {
        while Instant::now() < end {
            match self.step().await {
                Some(what) => *self.model.done.entry(what).or_default() += 1,
                None => tokio::time::sleep(PAUSE / 5).await,
            }
        }
        self.model
    }

    fn draw(&mut self, below: usize) -> usize {
        self.random.random_range(0..below)
    }

    /// One of its images that is so.
    fn any(&mut self, so: impl Fn(&Image) -> bool) -> Option<(String, Image)> {
        let all: Vec<_> = self.model.images.iter().filter(|(_, i)| so(i)).collect();
        let (id, image) = *all.get(self.random.random_range(0..all.len().max(1)))?;
        Some((id.clone(), image.clone()))
    }

    /// One that is active and has bytes.
    fn active(&mut self) -> Option<(String, Image)> {
        self.any(|i| i.status() == "active")
    }

    fn image(&mut self, id: &str) -> &mut Image {
        self.model.images.get_mut(id).unwrap()
    }

    /// Does something; what, if it came to pass.
    async fn step(&mut self) -> Done {
        match self.draw(23) {
            0 | 1 => self.upload(Pace::AtOnce).await,
            2 | 3 => self.upload(Pace::Slowly).await,
            4 => self.abandon("file").await,
            5 => self.abandon("stage").await,
            6 => self.stage().await,
            7 | 8 => self.import().await,
            9 => self.fetch().await,
            10 => self.locate().await,
            11 => self.copy().await,
            12 => self.leave_store().await,
            13 => self.mark().await,
            14 => self.tag().await,
            15 => self.share().await,
            16 => self.switch().await,
            17 => self.protect().await,
            18 => self.drop_busy().await,
            19 if self.model.images.len() >= MOST_IMAGES => self.drop_image().await,
            _ => self.download().await,
        }
    }

    // --- how images get their bytes ---

    /// An image without bytes: one that is there, or a new one.
    async fn blank(&mut self, format: &'static str) -> Option<String> {
        let empty = |i: &Image| matches!(i.content, Content::None) && i.format == format;
        if let Some((id, _)) = self.any(empty) {
            return Some(id);
        }
        if self.model.images.len() >= MOST_IMAGES {
            return None;
        }
        self.made += 1;
        let name = format!("torture-{}-{}", self.n, self.made);
        let body = json!({"name": name, "disk_format": format, "container_format": "bare", "mark": "0"});
        let id = match self.users.demo.call("POST", IMAGE.path, Some(body)).await {
            Some((201, body)) => body["id"].as_str()?.to_owned(),
            Some((status @ 400..=499, body)) => panic!("{name}: {status} {body}"),
            _ => self.users.demo.find(IMAGE, &name).await?,
        };
        self.model.images.insert(id.clone(), Image::new(format));
        Some(id)
    }

    fn book(&mut self) -> (usize, Arc<Book>) {
        let at = self.draw(self.library.books.len());
        (at, self.library.books[at].clone())
    }

    fn stores(&mut self) -> BTreeSet<String> {
        let all: &[&str] = [&STORES[..], &STORES[..1], &STORES[1..]][self.draw(3)];
        all.iter().map(|s| (*s).to_owned()).collect()
    }

    /// What became of bytes that were on their way into a blank image: true where it has them. Where the cloud has said
    /// that it takes them, only a pool that was full since `asked` excuses that it does not.
    async fn arrived(
        &mut self,
        id: &str,
        book: &Arc<Book>,
        wanted: &BTreeSet<String>,
        asked: Option<u32>,
    ) -> bool {
        let now = self.users.demo.settled(IMAGE, id).await;
        if now["status"] == "queued" {
            let excused = asked.is_none_or(|fulls| self.chaos.full_since(fulls));
            assert!(excused, "image {id} got no bytes without a reason: {now}");
            assert!(now["size"].is_null() && now["checksum"].is_null(), "{now}");
            return false;
        }
        let stores = stores(&now);
        assert!(stores == *wanted, "image {id} is not in {wanted:?}: {now}");
        (self.image(id).content, self.image(id).stores) = (Content::There(book.clone()), stores);
        true
    }

    async fn upload(&mut self, pace: Pace) -> Done {
        let (_, book) = self.book();
        let id = self.blank(book.format).await?;
        let store = [None, Some(STORES[1])][self.draw(2)];
        let fulls = self.chaos.fulls();
        let path = format!("{}/file", IMAGE.at(&id));
        let answer = self.users.demo.clone().put(path, store, book.clone(), pace).await;
        let stored = match answer {
            Some((204, _)) => true,
            Some((413 | 507, text)) => {
                assert!(self.chaos.full_since(fulls), "image {id} was refused without a full pool: {text}");
                false
            }
            Some((status @ 400..=499, text)) => panic!("upload to {id}: {status} {text}"),
            _ => false,
        };
        let wanted = [store.unwrap_or(STORES[0]).to_owned()].into();
        let there = self.arrived(&id, &book, &wanted, None).await;
        assert!(there || !stored, "image {id} was stored, and has no bytes");
        there.then_some("upload")
    }

    /// Begins an upload, and goes away.
    async fn abandon(&mut self, what: &'static str) -> Done {
        let (_, book) = self.book();
        let id = self.blank(book.format).await?;
        let sending = self.begin(&id, what, book).await;
        sending.abort();
        let _ = sending.await;
        self.users.demo.settled(IMAGE, &id).await;
        Some(if what == "file" { "abandon upload" } else { "abandon staging" })
    }

    /// Begins an upload that will not end by itself: when this returns, the cloud receives it, or has given it up.
    async fn begin(&self, id: &str, what: &str, book: Arc<Book>) -> tokio::task::JoinHandle<()> {
        let path = format!("{}/{what}", IMAGE.at(id));
        let user = self.users.demo.clone();
        let sending = tokio::spawn(async move {
            let answer = user.put(path, None, book, Pace::Half).await;
            assert!(
                answer.as_ref().is_none_or(|(s, _)| *s >= 400),
                "a half was taken for a whole: {answer:?}"
            );
        });
        let (user, at) = (&self.users.demo, IMAGE.at(id));
        while !sending.is_finished() {
            match user.call("GET", &at, None).await {
                Some((200, now)) if now["status"] != "queued" => break,
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
        sending
    }

    /// Puts bytes aside, for an import that may come later.
    async fn stage(&mut self) -> Done {
        let (_, book) = self.book();
        let id = self.blank(book.format).await?;
        let pace = [Pace::AtOnce, Pace::Slowly][self.draw(2)];
        let fulls = self.chaos.fulls();
        let path = format!("{}/stage", IMAGE.at(&id));
        match self.users.demo.clone().put(path, None, book.clone(), pace).await {
            Some((204, _)) => self.image(&id).content = Content::Staged(book),
            // Whether they are there is only told to who imports them.
            None | Some((503, _)) => return self.import_into(id, book, false).await,
            Some((413 | 507, text)) => {
                assert!(self.chaos.full_since(fulls), "{id} was refused without a full pool: {text}");
                self.users.demo.settled(IMAGE, &id).await;
            }
            Some((status, text)) => panic!("staging for {id}: {status} {text}"),
        }
        Some("stage")
    }

    async fn import(&mut self) -> Done {
        let (id, image) = self.any(|i| matches!(i.content, Content::Staged(_)))?;
        let Content::Staged(book) = image.content else { return None };
        self.import_into(id, book, true).await
    }

    /// Imports what was staged, which is certain to be there or not.
    async fn import_into(&mut self, id: String, book: Arc<Book>, certain: bool) -> Done {
        let stores = self.stores();
        let direct = json!({"method": {"name": "glance-direct"}, "stores": stores});
        let (path, fulls) = (format!("{}/import", IMAGE.at(&id)), self.chaos.fulls());
        let mut asked = false;
        loop {
            let now = self.users.demo.look(&IMAGE.at(&id), |i| i["status"] != "importing").await;
            if now["status"] != "uploading" {
                break;
            }
            match self.users.demo.call("POST", &path, Some(direct.clone())).await {
                Some((202, _)) => asked = true,
                // It is being received or taken back, or the answer to an earlier request was lost.
                Some((409, text)) => assert!(!asked, "{id}: {text}"),
                Some((status @ 400..=499, text)) => panic!("import of {id}: {status} {text}"),
                _ => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.image(&id).content = Content::None;
        let asked = (asked || certain).then_some(fulls);
        self.arrived(&id, &book, &stores, asked).await.then_some("import")
    }

    /// Has the cloud fetch an image.
    async fn fetch(&mut self) -> Done {
        let (at, book) = self.book();
        let id = self.blank(book.format).await?;
        let (stores, fulls) = (self.stores(), self.chaos.fulls());
        let web = json!({"method": {"name": "web-download", "uri": self.library.url(at)}, "stores": stores});
        let asked = self.ask(false, "POST", &format!("{}/import", IMAGE.at(&id)), Some(web)).await;
        self.arrived(&id, &book, &stores, asked.then_some(fulls)).await.then_some("fetch")
    }

    /// Gives an image the disk of another one.
    async fn locate(&mut self) -> Done {
        let (from, source) = self.active()?;
        let id = self.blank("raw").await?;
        let book = source.book()?.raw();
        let fulls = self.chaos.fulls();
        let path = |id: &str| format!("{}/locations", IMAGE.at(id));
        let places = self.users.admin.look(&path(&from), |_| true).await;
        let place = &places[self.draw(source.stores.len())];
        let data = json!({"os_hash_algo": "sha512", "os_hash_value": book.sha512});
        let body = json!({"url": place["url"], "validation_data": data});
        let asked = self.ask(true, "POST", &path(&id), Some(body)).await;
        let wanted = [STORES[0].to_owned()].into();
        self.arrived(&id, &book, &wanted, asked.then_some(fulls)).await.then_some("locate")
    }

    // --- where they are ---

    /// The stores that an image is in when nothing works on it any more.
    async fn at_rest(&mut self, id: &str) -> BTreeSet<String> {
        let idle = |i: &Value| i.get("os_glance_import_task").is_none();
        let now = self.users.demo.look(&IMAGE.at(id), idle).await;
        assert_eq!(now["status"], "active", "{now}");
        stores(&now)
    }

    async fn copy(&mut self) -> Done {
        let (id, image) = self.any(|i| i.status() == "active" && i.stores.len() == 1)?;
        let fulls = self.chaos.fulls();
        let body = json!({"method": {"name": "copy-image"}, "all_stores": true});
        let asked = self.ask(true, "POST", &format!("{}/import", IMAGE.at(&id)), Some(body)).await;
        let now = self.at_rest(&id).await;
        if now == image.stores {
            assert!(!asked || self.chaos.full_since(fulls), "image {id} was not copied without a full pool");
            return None;
        }
        assert_eq!(now.len(), STORES.len());
        self.image(&id).stores = now;
        Some("copy")
    }

    async fn leave_store(&mut self) -> Done {
        let (id, image) = self.any(|i| i.status() == "active" && i.stores.len() > 1)?;
        let store = STORES[self.draw(2)];
        let asked = self.ask(true, "DELETE", &format!("/image/v2/stores/{store}/{id}"), None).await;
        let now = self.at_rest(&id).await;
        let left: BTreeSet<_> = image.stores.iter().filter(|s| *s != store).cloned().collect();
        assert!(now == left || !asked && now == image.stores, "image {id} is in {now:?}, not {left:?}");
        self.image(&id).stores = now;
        Some("leave a store")
    }

    // --- what is said of them ---

    async fn mark(&mut self) -> Done {
        let (id, image) = self.any(|_| true)?;
        let new = self.draw(1000).to_string();
        let asked = self.patch(&id, json!([{"op": "replace", "path": "/mark", "value": new}])).await;
        let now = self.shown(&id).await["mark"].as_str()?.to_owned();
        assert!(now == new || !asked && now == image.mark, "image {id} is marked {now}, not {new}");
        self.image(&id).mark = now;
        Some("mark")
    }

    async fn tag(&mut self) -> Done {
        let (id, image) = self.any(|_| true)?;
        let tag = TAGS[self.draw(TAGS.len())];
        let had = image.tags.contains(tag);
        let path = format!("{}/tags/{tag}", IMAGE.at(&id));
        let asked = self.ask(false, if had { "DELETE" } else { "PUT" }, &path, None).await;
        let now: BTreeSet<String> = serde_json::from_value(self.shown(&id).await["tags"].clone()).ok()?;
        let mut wanted = image.tags.clone();
        if had {
            wanted.remove(tag)
        } else {
            wanted.insert(tag.to_owned())
        };
        assert!(now == wanted || !asked && now == image.tags, "image {id} has tags {now:?}, not {wanted:?}");
        self.image(&id).tags = now;
        Some("tag")
    }

    /// Offers an image to the other project, which takes it; then takes it away again.
    async fn share(&mut self) -> Done {
        let (id, image) = self.any(|_| true)?;
        let (all, other) = (format!("{}/members", IMAGE.at(&id)), self.users.other_project.clone());
        let path = format!("{all}/{other}");
        let (asked, wanted) = match image.member.as_deref() {
            None => (self.ask(false, "POST", &all, Some(json!({"member": other}))).await, Some("pending")),
            Some("pending") => {
                let answer = self.users.other.call("PUT", &path, Some(json!({"status": "accepted"}))).await;
                (taken(&path, &answer), Some("accepted"))
            }
            Some(_) => (self.ask(false, "DELETE", &path, None).await, None),
        };
        let members = self.users.demo.look(&all, |_| true).await;
        let now = members["members"][0]["status"].as_str().map(str::to_owned);
        let right = now.as_deref() == wanted || !asked && now == image.member;
        assert!(right, "image {id} has the members {members}, not {wanted:?}");
        self.image(&id).member = now;
        Some("share")
    }

    /// Deactivates an image, or activates it again.
    async fn switch(&mut self) -> Done {
        let (id, image) = self.any(|i| i.book().is_some())?;
        let (verb, wanted) =
            if image.active { ("deactivate", "deactivated") } else { ("reactivate", "active") };
        let asked = self.ask(false, "POST", &format!("{}/actions/{verb}", IMAGE.at(&id)), None).await;
        let now = self.shown(&id).await["status"].as_str()?.to_owned();
        assert!(now == wanted || !asked && now == image.status(), "image {id} is {now}, not {wanted}");
        self.image(&id).active = now == "active";
        Some(verb)
    }

    /// A protected image cannot be deleted.
    async fn protect(&mut self) -> Done {
        let (id, _) = self.any(|_| true)?;
        let turn = |on: bool| json!([{"op": "replace", "path": "/protected", "value": on}]);
        while !self.patch(&id, turn(true)).await {}
        if let Some((status, body)) = self.users.demo.call("DELETE", &IMAGE.at(&id), None).await {
            assert!(matches!(status, 403 | 503), "image {id} is protected: {status} {body}");
        }
        while !self.patch(&id, turn(false)).await {}
        Some("protect")
    }

    /// All of it, or a part: what comes is right.
    async fn download(&mut self) -> Done {
        let (id, image) = self.any(|i| i.book().is_some())?;
        let book = image.book()?.clone();
        let (first, last) = (self.draw(book.file.len()), self.draw(book.file.len()));
        let range = [None, Some((first.min(last), first.max(last)))][self.draw(2)];
        let got = self.users.demo.download(&format!("{}/file", IMAGE.at(&id)), range).await?;
        match (got, range) {
            (Ok(bytes), range) if image.active => {
                let (first, last) = range.unwrap_or((0, book.file.len() - 1));
                assert!(bytes == book.file[first..=last], "image {id}: {range:?} is wrong");
                Some("download")
            }
            (Err(403), _) if !image.active => Some("refused download"),
            (Err(503), _) => None,
            (got, _) => panic!("image {id} ({}) was downloaded: {got:?}", image.status()),
        }
    }

    // --- how they go ---

    async fn drop_image(&mut self) -> Done {
        let (id, _) = self.any(|_| true)?;
        self.drop_it(&id).await;
        Some("delete")
    }

    async fn drop_it(&mut self, id: &str) {
        self.users.demo.remove(IMAGE, id, "").await;
        self.model.images.remove(id);
    }

    /// Deletes an image while its bytes come, or while it is imported or copied.
    async fn drop_busy(&mut self) -> Done {
        if self.draw(2) == 0 {
            let (_, book) = self.book();
            let id = self.blank(book.format).await?;
            let what = ["file", "stage"][self.draw(2)];
            let sending = self.begin(&id, what, book).await;
            self.drop_it(&id).await;
            // The cloud would hear it out for a while before it says that the image is gone.
            sending.abort();
            let _ = sending.await;
            return Some("delete during upload");
        }
        let (id, image) = self.any(|i| !matches!(i.content, Content::None) && i.active)?;
        let (method, admin) = match image.content {
            Content::Staged(_) => ("glance-direct", false),
            _ => ("copy-image", true),
        };
        let body = json!({"method": {"name": method}, "all_stores": true});
        self.ask(admin, "POST", &format!("{}/import", IMAGE.at(&id)), Some(body)).await;
        self.drop_it(&id).await;
        Some("delete during import")
    }

    // --- how a careful user asks ---

    async fn shown(&self, id: &str) -> Value {
        self.users.demo.look(&IMAGE.at(id), |_| true).await
    }

    /// Asks for something: whether it was taken for certain.
    async fn ask(&self, admin: bool, method: &str, path: &str, body: Option<Value>) -> bool {
        let user = if admin { &self.users.admin } else { &self.users.demo };
        taken(path, &user.call(method, path, body).await)
    }

    async fn patch(&self, id: &str, changes: Value) -> bool {
        let path = IMAGE.at(id);
        taken(&path, &self.users.demo.patch(&path, changes).await)
    }
}

fn taken(path: &str, answer: &Option<(u16, Value)>) -> bool {
    match answer {
        Some((200..=299, _)) => true,
        Some((status @ 400..=499, body)) => panic!("{path}: {status} {body}"),
        _ => false,
    }
}

/// The stores that an image says it is in.
pub fn stores(image: &Value) -> BTreeSet<String> {
    let all = image["stores"].as_str().unwrap_or_default();
    all.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect()
}
