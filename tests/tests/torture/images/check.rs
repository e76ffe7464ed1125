//! Whether the images are what the models say.

use crate::client::stores;
use crate::cloud::{Cloud, Session};
use crate::model::{Content, Image, Model, Pools, STORES};
use crate::user::{IMAGE, PAUSE, User};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The background may take so long to clear away what was deleted.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who works with the images: their owner, the administrator, and one of another project.
#[derive(Clone)]
pub struct Users {
    pub demo: User,
    pub admin: User,
    pub other: User,
    pub other_project: String,
}

impl Users {
    /// Empties the cache, of whose copies no model knows.
    async fn uncache(&self) {
        self.admin.0.ok("DELETE", "/image/v2/cache", None).await;
    }
}

pub async fn users(cloud: &Cloud) -> Users {
    let admin = cloud.admin().await;
    let make = async |what: &str, body: Value| {
        let made = admin.ok("POST", &format!("/identity/v3/{what}s"), Some(json!({what: body}))).await;
        made[what]["id"].as_str().unwrap().to_owned()
    };
    let project = make("project", json!({"name": "other", "domain_id": "default"})).await;
    let user = json!({"name": "other", "domain_id": "default", "password": "of-the-other"});
    let user = make("user", user).await;
    let roles = admin.ok("GET", "/identity/v3/roles?name=member", None).await;
    let role = roles["roles"][0]["id"].as_str().unwrap();
    let grant = format!("/identity/v3/projects/{project}/users/{user}/roles/{role}");
    admin.ok("PUT", &grant, None).await;
    let other = Session::login(&cloud.url(""), "other", "of-the-other").await;
    let [demo, admin, other] = [cloud.demo().await, admin, other].map(|s| User(Arc::new(s)));
    Users { demo, admin, other, other_project: project }
}

/// All rows, all images in the pools, all usage and every byte.
pub async fn the_images_are(model: &Model, users: &Users, pools: &Pools) {
    let wanted: BTreeSet<&str> = model.images.keys().map(String::as_str).collect();
    assert_eq!(ids(&users.demo, "").await, own(&wanted));
    let shared = |i: &&Image| i.member.as_deref() == Some("accepted");
    let seen: BTreeSet<&str> =
        model.images.iter().filter(|(_, i)| shared(i)).map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids(&users.other, "&visibility=shared").await, own(&seen), "what others see");
    for (id, image) in &model.images {
        let now = users.demo.0.ok("GET", &IMAGE.at(id), None).await;
        is(id, image, &now);
        if let (Some(book), true) = (image.book(), image.active) {
            let file = users.demo.download(&format!("{}/file", IMAGE.at(id)), None).await.unwrap().unwrap();
            assert!(file == book.file, "image {id} is not what was uploaded");
        }
        for store in &image.stores {
            let disk = pools.disk(store, id).await;
            assert!(disk == image.book().unwrap().disk, "the disk of image {id} in {store} is another");
        }
        let tasks = users.demo.0.ok("GET", &format!("{}/tasks", IMAGE.at(id)), None).await;
        let ended = |t: &Value| ["success", "failure"].contains(&t["status"].as_str().unwrap());
        assert!(tasks["tasks"].as_array().unwrap().iter().all(ended), "image {id} has tasks: {tasks}");
    }
    used(users, model).await;
    in_pools(pools, model, users).await;
}

/// Everything can be deleted, and nothing is left of it.
pub async fn everything_goes(model: &Model, users: &Users, pools: &Pools) {
    for id in model.images.keys() {
        users.demo.0.ok("DELETE", &IMAGE.at(id), None).await;
    }
    let nothing = Model::default();
    used(users, &nothing).await;
    in_pools(pools, &nothing, users).await;
    let end = Instant::now() + PATIENCE;
    while !pools.trash().await.is_empty() {
        assert!(Instant::now() < end, "in the trash is still {:?}", pools.trash().await);
        tokio::time::sleep(PAUSE).await;
    }
}

fn own(ids: &BTreeSet<&str>) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// This test's images that a user has in a list.
async fn ids(user: &User, filter: &str) -> BTreeSet<String> {
    let list = user.0.ok("GET", &format!("{}?limit=1000{filter}", IMAGE.path), None).await;
    let mine = |i: &&Value| i["name"].as_str().unwrap_or_default().starts_with("torture-");
    let all = list["images"].as_array().unwrap().iter().filter(mine);
    all.map(|i| i["id"].as_str().unwrap().to_owned()).collect()
}

/// Whether an image says of itself what the model does.
fn is(id: &str, image: &Image, now: &Value) {
    let tags: BTreeSet<String> = serde_json::from_value(now["tags"].clone()).unwrap();
    let said = (now["status"].as_str().unwrap(), now["mark"].as_str().unwrap(), tags, stores(now));
    let wanted = (image.status(), image.mark.as_str(), image.tags.clone(), image.stores.clone());
    assert_eq!(said, wanted, "image {id}: {now}");
    assert!(now.get("os_glance_import_task").is_none(), "{now}");
    assert_eq!(now["protected"], false);
    match image.book() {
        Some(book) => {
            let numbers = (json!(book.file.len()), json!(book.disk.len()), json!(book.sha512));
            let said = (now["size"].clone(), now["virtual_size"].clone(), now["os_hash_value"].clone());
            assert_eq!(said, numbers, "image {id}");
        }
        None => assert!(now["size"].is_null() && now["os_hash_value"].is_null(), "{now}"),
    }
}

/// Images, those that wait, MiB in the stores, MiB that wait.
async fn used(users: &Users, model: &Model) {
    let mut wanted = [model.images.len(), 0, 0, 0];
    for image in model.images.values() {
        match &image.content {
            Content::None => {}
            Content::Staged(book) => {
                wanted[1] += 1;
                wanted[3] += book.file.len();
            }
            Content::There(book) => wanted[2] += book.file.len() * image.stores.len(),
        }
    }
    let wanted = [wanted[0], wanted[1], wanted[2] >> 20, wanted[3] >> 20].map(|n| json!(n));
    let usage = users.demo.0.ok("GET", "/image/v2/info/usage", None).await["usage"].clone();
    let now = ["image_count_total", "image_count_uploading", "image_size_total", "image_stage_total"]
        .map(|name| usage[name]["usage"].clone());
    assert_eq!(now, wanted, "{usage}");
}

/// The pools have what the model says, and nothing else; the background may have some work to do yet.
async fn in_pools(pools: &Pools, model: &Model, users: &Users) {
    let mut wanted = [BTreeSet::new(), BTreeSet::new()];
    for (id, image) in &model.images {
        match &image.content {
            Content::None => {}
            Content::Staged(_) => drop(wanted[0].insert(format!("{id}.orig"))),
            Content::There(book) => {
                for store in &image.stores {
                    let all = &mut wanted[STORES.iter().position(|s| s == store).unwrap()];
                    all.insert(id.clone());
                    if book.format != "raw" {
                        all.insert(format!("{id}.orig"));
                    }
                }
            }
        }
    }
    let end = Instant::now() + PATIENCE;
    loop {
        users.uncache().await;
        let now = pools.since().await;
        if now == wanted {
            return;
        }
        assert!(Instant::now() < end, "in the pools is {now:#?}\nnot {wanted:#?}");
        tokio::time::sleep(PAUSE).await;
    }
}
