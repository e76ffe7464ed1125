//! The cache: images of the store `cold` have their copies in the tier `images`.
//!
//! Failpoints are the process's, so these tests run one at a time.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use api::Context;
use common::{Cloud, Mortal, disk, ended, new, noise, two_stores, two_tiers, until};
use imagestore::Config;
use pool::CreateOptions;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use state::Db;
use state::failpoint::{self, Action};
use tokio::sync::Mutex;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

const MIB: u64 = 1 << 20;
const STEPS: [&str; 3] = ["weigh", "copy", "end"];

fn config(bytes: u64, grace: u64) -> Config {
    Config { cache_bytes: bytes, cache_grace_s: grace, ..two_stores() }
}

async fn cloud(db: Db, config: Config) -> Cloud {
    let (tiers, namespace) = two_tiers().await;
    Cloud::start(db, tiers, namespace, config).await
}

fn cold(c: &Cloud) -> pool::Rbd {
    c.tiers.get("cold").unwrap().pool.rbd()
}

/// An image of alice's that only the store `cold` has.
async fn far(c: &Cloud, format: &str, bytes: &[u8]) -> String {
    let id = new(c, format).await;
    let put = c.ask("alice", Method::PUT, &format!("/v2/images/{id}/file"));
    let put = put.header("content-type", "application/octet-stream").header("x-image-meta-store", "cold");
    assert_eq!(put.body(bytes.to_vec()).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    id
}

async fn ask(c: &Cloud, who: &str, method: Method, id: &str) -> u16 {
    c.ask(who, method, &format!("/v2/cache{id}")).send().await.unwrap().status().as_u16()
}

async fn queue(c: &Cloud, id: &str) {
    assert_eq!(ask(c, "admin", Method::PUT, &format!("/{id}")).await, 202);
}

async fn clear(c: &Cloud, target: &str) -> u16 {
    let r = c.ask("admin", Method::DELETE, "/v2/cache").header("x-image-cache-clear-target", target);
    r.send().await.unwrap().status().as_u16()
}

async fn state_of(c: &Cloud) -> Value {
    c.read("admin", "/v2/cache").await
}

/// What the list says of a cached image.
async fn entry(c: &Cloud, id: &str) -> Option<Value> {
    state_of(c).await["cached_images"].as_array().unwrap().iter().find(|e| e["image_id"] == id).cloned()
}

async fn is_idle(c: &Cloud) -> bool {
    state_of(c).await == json!({"cached_images": [], "queued_images": []})
}

async fn until_cached(c: &Cloud, id: &str) {
    until("it is cached", async || entry(c, id).await.is_some()).await;
}

async fn cache(c: &Cloud, id: &str) {
    queue(c, id).await;
    until_cached(c, id).await;
}

/// No task of the image's is left.
async fn done(c: &Cloud, id: &str) {
    let subject = format!("image/{id}");
    until("its tasks are done", async || state::tasks::unfinished(&c.db, &subject).await.unwrap().is_empty())
        .await;
}

async fn delete(c: &Cloud, id: &str) {
    assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
}

/// Ends where neither tier has anything.
async fn end(c: Cloud) {
    let cold = cold(&c);
    until("nothing is left", async || {
        cold.list().await.unwrap().is_empty() && cold.trash_list().await.unwrap().is_empty()
    })
    .await;
    c.end().await;
}

async fn rbd_id(rbd: &pool::Rbd, name: &str) -> String {
    rbd.open_read_only(name).await.unwrap().info().await.unwrap().id
}

/// The tier that clones of an image into the near one are made from.
async fn source(c: &Cloud, id: &str) -> String {
    source_for(c, id, "images").await
}

async fn source_for(c: &Cloud, id: &str, to: &str) -> String {
    let to = c.tiers.get(to).unwrap();
    c.images.source(&Context::service("volume"), id, &to).await.unwrap().tier.name.clone()
}

/// Takes the bytes away that the store `cold` has, without telling anybody.
async fn lose(c: &Cloud, id: &str) {
    for name in [id.to_owned(), format!("{id}.orig")] {
        cold(c).remove_or_trash(&name).await.unwrap();
    }
}

fn qcow2(bytes: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (raw, qcow2) = (dir.path().join("raw"), dir.path().join("qcow2"));
    std::fs::write(&raw, bytes).unwrap();
    let mut qemu = std::process::Command::new("qemu-img");
    let made = qemu.args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&qcow2).status().unwrap();
    assert!(made.success());
    std::fs::read(&qcow2).unwrap()
}

/// An image that is near by already is cached by saying so, and by its first download.
#[tokio::test(flavor = "multi_thread")]
async fn the_api() {
    let _one = ONE_AT_A_TIME.lock().await;
    for db in testbed::databases().await {
        let c = Cloud::new(db).await;
        let bytes = noise(9000, 1);
        let (one, two) = (c.raw("alice").await, c.raw("alice").await);
        let path = format!("/{one}");
        for (method, path) in
            [(Method::GET, ""), (Method::DELETE, ""), (Method::PUT, &*path), (Method::DELETE, &*path)]
        {
            assert_eq!(ask(&c, "alice", method, path).await, 403);
        }
        assert_eq!(ask(&c, "admin", Method::PUT, "/none").await, 404);
        assert_eq!(ask(&c, "admin", Method::DELETE, "/none").await, 404);
        assert_eq!(ask(&c, "admin", Method::PUT, &path).await, 400, "queued");
        for id in [&one, &two] {
            assert_eq!(c.put("alice", id, "file", bytes.clone()).await.status(), StatusCode::NO_CONTENT);
        }
        assert!(is_idle(&c).await);
        let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        queue(&c, &one).await;
        queue(&c, &one).await;
        let found = entry(&c, &one).await.unwrap();
        assert_eq!((&found["hits"], &found["size"]), (&json!(0), &json!(9000)));
        assert!(found["last_modified"].as_f64().unwrap() >= before.as_secs_f64() - 1.0, "{found}");
        assert_eq!(found["last_modified"], found["last_accessed"]);
        assert_eq!(found.as_object().unwrap().len(), 5);
        assert_eq!(state_of(&c).await["queued_images"], json!([]));
        assert_eq!(c.rbd().list().await.unwrap().len(), 2, "nothing was copied");

        // Whole downloads are hits; the first one of an image that is not cached has it cached.
        let part = c.ask("alice", Method::GET, &format!("/v2/images/{one}/file"));
        let part = part.header("range", "bytes=0-99").send().await.unwrap();
        assert_eq!(part.bytes().await.unwrap(), bytes[..100]);
        assert_eq!(c.file("alice", &one).await, bytes);
        until("the hit is counted", async || entry(&c, &one).await.unwrap()["hits"] == 1).await;
        let now = entry(&c, &one).await.unwrap();
        assert!(now["last_accessed"].as_f64() > found["last_accessed"].as_f64());
        assert_eq!(now["last_modified"], found["last_modified"]);
        assert_eq!(c.file("alice", &two).await, bytes);
        until_cached(&c, &two).await;
        assert_eq!(entry(&c, &two).await.unwrap()["hits"], 0);

        assert_eq!(ask(&c, "admin", Method::DELETE, &path).await, 204);
        assert_eq!(ask(&c, "admin", Method::DELETE, &path).await, 204, "it is there, and not cached");
        assert_eq!(state_of(&c).await["cached_images"].as_array().unwrap().len(), 1);
        assert_eq!(clear(&c, "invalid").await, 400);
        assert_eq!(clear(&c, "queue").await, 204);
        assert!(entry(&c, &two).await.is_some());
        assert_eq!(clear(&c, "Cache").await, 204);
        assert!(is_idle(&c).await);
        // What is not active is not cached.
        let act = format!("/v2/images/{one}/actions/deactivate");
        assert_eq!(c.post("alice", &act, Value::Null).await.status(), StatusCode::NO_CONTENT);
        assert_eq!(ask(&c, "admin", Method::PUT, &path).await, 400);
        assert_eq!(c.file("admin", &one).await, bytes);
        // An image that goes leaves the cache.
        queue(&c, &two).await;
        for id in [&one, &two] {
            delete(&c, id).await;
        }
        assert!(is_idle(&c).await);
        c.end().await;
    }
}

/// Each step twice; then the copy serves downloads and clones, though the image is still where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_used_and_goes() {
    let _one = ONE_AT_A_TIME.lock().await;
    let bytes = disk(6 << 20);
    let packed = qcow2(&bytes);
    for db in testbed::databases().await {
        let c = cloud(db, config(64 * MIB, 1)).await;
        let home = c.rbd();
        for (format, file) in [("raw", &bytes), ("qcow2", &packed)] {
            for step in STEPS {
                failpoint::set(format!("image.cache:{step}:after"), Action::RetryOnce);
            }
            for when in ["before", "after"] {
                failpoint::set(format!("image.uncache:drop:{when}"), Action::RetryOnce);
            }
            let id = far(&c, format, file).await;
            assert_eq!(source(&c, &id).await, "cold");
            failpoint::set("image.cache:end:before", Action::Pause);
            assert!(&c.file("alice", &id).await == file);
            until("it is queued", async || state_of(&c).await["queued_images"] == json!([id])).await;
            failpoint::clear("image.cache:end:before");
            until_cached(&c, &id).await;
            assert_eq!(entry(&c, &id).await.unwrap()["size"], file.len());
            let image = c.show(&id).await;
            assert_eq!((&image["stores"], &image["status"]), (&json!("cold"), &json!("active")));
            let locations = c.read("service", &format!("/v2/images/{id}/locations")).await;
            assert_eq!(locations.as_array().unwrap().len(), 1, "{locations}");
            assert_eq!(source(&c, &id).await, "images");
            assert_eq!(source_for(&c, &id, "cold").await, "cold", "what stays at home is cloned there");
            assert!(c.disk(&id).await == bytes);

            lose(&c, &id).await;
            assert!(&c.file("alice", &id).await == file, "{format}");
            until("the hit is counted", async || entry(&c, &id).await.unwrap()["hits"] == 1).await;
            home.clone_image(&id, "snap", home.pool(), "child", CreateOptions::default()).await.unwrap();
            assert_eq!(ask(&c, "admin", Method::DELETE, &format!("/{id}")).await, 204);
            assert!(is_idle(&c).await);
            assert_eq!(source(&c, &id).await, "cold");
            until("the copy goes", async || home.list().await.unwrap() == ["child"]).await;
            delete(&c, &id).await;
            done(&c, &id).await;
            // The clone has what it needs.
            let child = home.open("child").await.unwrap();
            assert!(child.read_at(0, bytes.len()).await.unwrap() == bytes);
            child.flatten(Box::new(|_, _| {})).await.unwrap();
            child.close().await.unwrap();
            home.remove("child").await.unwrap();
            home.purge_trash().await.unwrap();
        }
        end(c).await;
    }
}

/// A failure at each step leaves the image where it was, and nothing else; once the end is visible, nothing is done again.
#[tokio::test(flavor = "multi_thread")]
async fn failures() {
    let _one = ONE_AT_A_TIME.lock().await;
    let bytes = noise(5 << 20, 3);
    for db in testbed::databases().await {
        let c = cloud(db, config(64 * MIB, 3600)).await;
        let home = c.rbd();
        let id = far(&c, "raw", &bytes).await;
        for point in ["weigh:after", "copy:after", "end:before"] {
            let point = format!("image.cache:{point}");
            failpoint::set(&point, Action::Fail);
            for step in STEPS {
                failpoint::set(format!("image.cache:undo:{step}:after"), Action::RetryOnce);
            }
            queue(&c, &id).await;
            done(&c, &id).await;
            failpoint::clear(&point);
            assert!(is_idle(&c).await, "{point}");
            assert!(home.list().await.unwrap().is_empty(), "{point}");
            assert_eq!(c.show(&id).await["status"], "active");
        }
        let point = "image.cache:end:after";
        failpoint::set(point, Action::Pause);
        cache(&c, &id).await;
        assert_eq!(clear(&c, "").await, 204);
        failpoint::set(point, Action::Fail);
        done(&c, &id).await;
        failpoint::clear(point);
        assert!(is_idle(&c).await);
        // A copy that was dropped is there for a while, and asked for again it is cached at once.
        let was = rbd_id(&home, &id).await;
        queue(&c, &id).await;
        assert!(entry(&c, &id).await.is_some());
        assert_eq!(rbd_id(&home, &id).await, was);
        assert!(c.file("alice", &id).await == bytes);
        delete(&c, &id).await;
        end(c).await;
    }
}

/// Another life goes on with what an earlier one has begun, and with what was not wanted any more.
#[tokio::test(flavor = "multi_thread")]
async fn another_life() {
    let _one = ONE_AT_A_TIME.lock().await;
    let bytes = noise(5 << 20, 4);
    for url in common::urls().await {
        let (tiers, namespace) = two_tiers().await;
        let config = config(64 * MIB, 0);
        let mortal = Mortal::start(&url, &tiers, &namespace, config.clone()).await;
        let first = &mortal.cloud;
        let (one, two) = (far(first, "raw", &bytes).await, far(first, "raw", &bytes).await);
        failpoint::set("image.cache:copy:after", Action::Pause);
        for id in [&one, &two] {
            queue(first, id).await;
        }
        let home = first.rbd();
        until("both are copied", async || {
            home.open_snapshot(&one, "snap").await.is_ok() && home.open_snapshot(&two, "snap").await.is_ok()
        })
        .await;
        assert_eq!(state_of(first).await["queued_images"], json!([one, two]));
        assert_eq!(ask(first, "admin", Method::DELETE, &format!("/{two}")).await, 204);
        mortal.die();
        failpoint::clear("image.cache:copy:after");
        let second = Cloud::start(common::open(&url).await, tiers, namespace, config).await;
        until_cached(&second, &one).await;
        done(&second, &two).await;
        assert_eq!(second.rbd().list().await.unwrap(), [one.as_str()]);
        assert!(entry(&second, &two).await.is_none());
        lose(&second, &one).await;
        assert!(second.file("alice", &one).await == bytes);
        for id in [&one, &two] {
            delete(&second, id).await;
        }
        end(second).await;
    }
}

/// The budget: the least recently used go, what never fits is not copied, and what was dropped counts while it is there.
#[tokio::test(flavor = "multi_thread")]
async fn the_budget() {
    let _one = ONE_AT_A_TIME.lock().await;
    for db in testbed::databases().await {
        let c = cloud(db, config(18 * MIB, 3600)).await;
        let home = c.rbd();
        let bytes: Vec<_> = (1..6).map(|n| noise(8 << 20, n)).collect();
        let mut ids = Vec::new();
        for bytes in &bytes {
            ids.push(far(&c, "raw", bytes).await);
        }
        let large = far(&c, "raw", &noise(21 << 20, 9)).await;
        queue(&c, &large).await;
        done(&c, &large).await;
        assert!(is_idle(&c).await && home.list().await.unwrap().is_empty());

        cache(&c, &ids[0]).await;
        cache(&c, &ids[1]).await;
        assert!(c.file("alice", &ids[0]).await == bytes[0]);
        until("the hit is counted", async || entry(&c, &ids[0]).await.unwrap()["hits"] == 1).await;
        cache(&c, &ids[2]).await;
        assert!(entry(&c, &ids[1]).await.is_none(), "the least recently used");
        assert!(entry(&c, &ids[0]).await.is_some());
        // A clone that somebody makes is a use, too.
        let accessed = entry(&c, &ids[0]).await.unwrap()["last_accessed"].as_f64();
        assert_eq!(source(&c, &ids[0]).await, "images");
        until("the use is noted", async || {
            entry(&c, &ids[0]).await.unwrap()["last_accessed"].as_f64() > accessed
        })
        .await;
        cache(&c, &ids[3]).await;
        assert!(entry(&c, &ids[2]).await.is_none() && entry(&c, &ids[0]).await.is_some());
        // Two are cached and two dropped, 32 MiB of 36: there is no room for a fifth as long as those stay.
        queue(&c, &ids[4]).await;
        done(&c, &ids[4]).await;
        assert!(entry(&c, &ids[4]).await.is_none());
        assert!(!home.exists(&ids[4]).await.unwrap());
        assert_eq!(home.list().await.unwrap().len(), 4);
        // What a store has in that tier is no copy for the cache.
        let near = c.raw("alice").await;
        assert_eq!(c.put("alice", &near, "file", noise(30 << 20, 7)).await.status(), StatusCode::NO_CONTENT);
        queue(&c, &near).await;
        assert_eq!(state_of(&c).await["cached_images"].as_array().unwrap().len(), 3);
        for id in ids.iter().chain([&large, &near]) {
            delete(&c, id).await;
        }
        end(c).await;
    }
}

/// Deletion, clearing, stores and copies of an image, while it is cached and on its way.
#[tokio::test(flavor = "multi_thread")]
async fn along_with_others() {
    let _one = ONE_AT_A_TIME.lock().await;
    let bytes = noise(5 << 20, 5);
    for db in testbed::databases().await {
        let c = cloud(db, config(64 * MIB, 0)).await;
        let (home, cold) = (c.rbd(), cold(&c));
        let copy = async |id: &str| {
            let copy = json!({"method": {"name": "copy-image"}, "stores": ["images"]});
            let r = c.post("admin", &format!("/v2/images/{id}/import"), copy).await;
            assert_eq!(r.status(), StatusCode::ACCEPTED);
        };
        // Deleted, or taken from the queue, before and after it is copied.
        for point in ["image.cache:weigh:before", "image.cache:copy:before", "image.cache:copy:after"] {
            failpoint::set(point, Action::Pause);
            let (gone, stays) = (far(&c, "raw", &bytes).await, far(&c, "raw", &bytes).await);
            for id in [&gone, &stays] {
                queue(&c, id).await;
            }
            if point.ends_with("after") {
                until("both are copied", async || home.list().await.unwrap().len() == 2).await;
            }
            delete(&c, &gone).await;
            assert_eq!(clear(&c, "cache").await, 204);
            assert_eq!(state_of(&c).await["queued_images"], json!([stays]));
            assert_eq!(clear(&c, "queue").await, 204);
            assert!(is_idle(&c).await);
            failpoint::clear(point);
            for id in [&gone, &stays] {
                done(&c, id).await;
            }
            assert!(home.list().await.unwrap().is_empty(), "{point}");
            assert_eq!(cold.list().await.unwrap(), [stays.as_str()]);
            // Asked for again, it is cached.
            cache(&c, &stays).await;
            delete(&c, &stays).await;
            done(&c, &stays).await;
            assert!(home.list().await.unwrap().is_empty() && cold.list().await.unwrap().is_empty());
        }

        // A cached copy becomes the store's, and clearing the cache does not take it.
        let id = far(&c, "raw", &bytes).await;
        cache(&c, &id).await;
        let was = rbd_id(&home, &id).await;
        copy(&id).await;
        assert_eq!(ended(&c, &id).await["status"], "success");
        assert_eq!(c.show(&id).await["stores"], "cold,images");
        assert_eq!(rbd_id(&home, &id).await, was, "nothing is copied twice");
        assert_eq!(clear(&c, "").await, 204);
        done(&c, &id).await;
        assert_eq!(rbd_id(&home, &id).await, was);
        // What is cached there goes with the store's copy.
        queue(&c, &id).await;
        assert!(entry(&c, &id).await.is_some());
        assert_eq!(c.delete("admin", &format!("/v2/stores/images/{id}")).await, StatusCode::NO_CONTENT);
        assert!(is_idle(&c).await);
        done(&c, &id).await;
        assert!(home.list().await.unwrap().is_empty());
        // Of a copy that is taken back nothing is left in the cache either.
        cache(&c, &id).await;
        failpoint::set("image.copy:copy:after", Action::Fail);
        copy(&id).await;
        assert_eq!(ended(&c, &id).await["status"], "failure");
        failpoint::clear("image.copy:copy:after");
        done(&c, &id).await;
        assert!(is_idle(&c).await && home.list().await.unwrap().is_empty());
        // A copy for good that begins before the cache is cleared outlives that.
        cache(&c, &id).await;
        failpoint::set("image.copy:copy:before", Action::Pause);
        copy(&id).await;
        assert_eq!(clear(&c, "").await, 204);
        let subject = format!("image/{id}");
        until("its removal is asked for", async || {
            state::tasks::unfinished(&c.db, &subject).await.unwrap().len() == 2
        })
        .await;
        failpoint::clear("image.copy:copy:before");
        done(&c, &id).await;
        assert_eq!(c.show(&id).await["stores"], "cold,images");
        lose(&c, &id).await;
        assert!(c.file("alice", &id).await == bytes);
        delete(&c, &id).await;
        end(c).await;
    }
}

/// The copy goes in the middle of a download, which goes on from the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_outlives_the_copy_that_it_reads() {
    let _one = ONE_AT_A_TIME.lock().await;
    for db in testbed::databases().await {
        let c = cloud(db, config(256 * MIB, 0)).await;
        let bytes = noise(96 << 20, 6);
        let id = far(&c, "raw", &bytes).await;
        cache(&c, &id).await;
        let mut r = c.get("alice", &format!("/v2/images/{id}/file")).await;
        let mut got = r.chunk().await.unwrap().unwrap().to_vec();
        assert_eq!(clear(&c, "cache").await, 204);
        until("the copy is gone", async || c.rbd().list().await.unwrap().is_empty()).await;
        while let Some(chunk) = r.chunk().await.unwrap() {
            got.extend_from_slice(&chunk);
        }
        assert!(got == bytes);
        // It was whole, and the image is not cached any more.
        until_cached(&c, &id).await;
        // With a copy that cannot be opened at all it begins there.
        c.rbd().remove_or_trash(&id).await.unwrap();
        assert!(c.file("alice", &id).await == bytes);
        delete(&c, &id).await;
        end(c).await;
    }
}

/// A tier for the cache alone, which is no store; and a cache that is turned off.
#[tokio::test(flavor = "multi_thread")]
async fn a_tier_of_its_own() {
    let _one = ONE_AT_A_TIME.lock().await;
    let bytes = noise(3 << 20, 8);
    for url in common::urls().await {
        let (tiers, namespace) = two_tiers().await;
        let config = |bytes: u64| Config {
            tier: "cold".into(),
            cache_tier: "images".into(),
            cache_bytes: bytes,
            cache_grace_s: 0,
            ..Config::default()
        };
        let mortal = Mortal::start(&url, &tiers, &namespace, config(64 * MIB)).await;
        let first = &mortal.cloud;
        assert_eq!(first.read("alice", "/v2/info/stores").await["stores"].as_array().unwrap().len(), 1);
        let id = first.raw("alice").await;
        assert_eq!(first.put("alice", &id, "file", bytes.clone()).await.status(), StatusCode::NO_CONTENT);
        cache(first, &id).await;
        assert_eq!(source(first, &id).await, "images");
        assert_eq!(first.rbd().list().await.unwrap(), [id.as_str()]);
        mortal.die();
        let second = Cloud::start(common::open(&url).await, tiers, namespace, config(0)).await;
        assert_eq!(source(&second, &id).await, "cold");
        let (images, stop) = (second.images.clone(), second.stop.clone());
        tokio::spawn(async move { images.sweep(stop).await });
        second.until_empty().await;
        assert!(second.file("alice", &id).await == bytes);
        delete(&second, &id).await;
        end(second).await;
    }
}
