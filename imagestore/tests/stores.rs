//! Images in several stores: two tiers of one cluster here, in two namespaces.
//!
//! Failpoints are the process's, so these tests run one at a time.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Cloud, Mortal, disk, ended, import, new, noise, until};
use pool::CreateOptions;
use reqwest::StatusCode;
use serde_json::{Value, json};
use state::failpoint::{self, Action};
use tokio::sync::Mutex;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

fn cold(c: &Cloud) -> pool::Rbd {
    c.tiers.get("cold").unwrap().pool.rbd()
}

async fn unfinished(c: &Cloud, id: &str) -> Vec<String> {
    let tasks = state::tasks::unfinished(&c.db, &format!("image/{id}")).await.unwrap();
    tasks.into_iter().map(|(kind, _)| kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_stores() {
    let _one = ONE_AT_A_TIME.lock().await;
    let bytes = disk(6 << 20);
    let dir = tempfile::tempdir().unwrap();
    let (raw, qcow2) = (dir.path().join("raw"), dir.path().join("qcow2"));
    std::fs::write(&raw, &bytes).unwrap();
    let mut qemu = std::process::Command::new("qemu-img");
    let made = qemu.args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&qcow2).status().unwrap();
    assert!(made.success());
    let qcow2 = std::fs::read(&qcow2).unwrap();
    for db in testbed::databases().await {
        let c = Cloud::with_two_stores(db).await;
        let (home, cold) = (c.rbd(), c.tiers.get("cold").unwrap().pool.rbd());
        let stores = c.read("alice", "/v2/info/stores").await;
        assert_eq!(stores, json!({"stores": [{"id": "images", "default": "true"}, {"id": "cold"}]}));
        assert_eq!(c.read("admin", "/v2/info/stores/detail").await["stores"][1]["type"], "rbd");
        let methods = c.read("alice", "/v2/info/import").await;
        assert_eq!(
            methods["import-methods"]["value"],
            json!(["glance-direct", "web-download", "copy-image"])
        );

        // Imported into both, and into the other one alone.
        for (format, file) in [("raw", &bytes), ("qcow2", &qcow2)] {
            let direct = json!({"name": "glance-direct"});
            for (request, wanted) in [
                (json!({"method": direct, "all_stores": true}), "images,cold"),
                (json!({"method": direct, "stores": ["cold"]}), "cold"),
            ] {
                let id = new(&c, format).await;
                assert_eq!(c.put("alice", &id, "stage", file.clone()).await.status(), StatusCode::NO_CONTENT);
                assert_eq!(import(&c, &id, request).await, 202);
                c.until_status(&id, "active").await;
                until("it is in its stores alone", async || {
                    home.exists(&id).await.unwrap() == wanted.contains("images")
                        && home.exists(&format!("{id}.orig")).await.unwrap()
                            == (wanted.contains("images") && format == "qcow2")
                })
                .await;
                assert_eq!(c.show(&id).await["stores"], wanted);
                assert!(&c.file("alice", &id).await == file, "{format} from {wanted}");
                if wanted.contains(',') {
                    // From the first store the other one serves.
                    assert_eq!(
                        c.delete("alice", &format!("/v2/stores/images/{id}")).await,
                        StatusCode::FORBIDDEN
                    );
                    assert_eq!(
                        c.delete("admin", &format!("/v2/stores/attic/{id}")).await,
                        StatusCode::CONFLICT
                    );
                    assert_eq!(
                        c.delete("admin", &format!("/v2/stores/images/{id}")).await,
                        StatusCode::NO_CONTENT
                    );
                    until("its bytes are gone there", async || !home.exists(&id).await.unwrap()).await;
                    assert_eq!(c.show(&id).await["stores"], "cold");
                    assert!(&c.file("alice", &id).await == file, "{format}");
                    assert_eq!(
                        c.delete("admin", &format!("/v2/stores/cold/{id}")).await,
                        StatusCode::FORBIDDEN
                    );
                }
                assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
                until("nothing is left", async || {
                    home.list().await.unwrap().is_empty() && cold.list().await.unwrap().is_empty()
                })
                .await;
            }
        }

        // Copied where it is not yet, each step twice; a failure leaves the image where it was.
        let id = new(&c, "qcow2").await;
        assert_eq!(c.put("alice", &id, "file", qcow2.clone()).await.status(), StatusCode::NO_CONTENT);
        let copy = json!({"method": {"name": "copy-image"}, "stores": ["cold"]});
        let path = format!("/v2/images/{id}/import");
        assert_eq!(import(&c, &id, copy.clone()).await, 403, "an administrator's");
        for step in ["begin", "copy"] {
            failpoint::set(format!("image.copy:{step}:after"), Action::Fail);
            assert_eq!(c.post("admin", &path, copy.clone()).await.status(), StatusCode::ACCEPTED);
            assert_eq!(ended(&c, &id).await["status"], "failure");
            failpoint::clear(&format!("image.copy:{step}:after"));
            let image = c.show(&id).await;
            assert_eq!((&image["stores"], &image["status"]), (&json!("images"), &json!("active")));
            assert_eq!(image["os_glance_failed_import"], "cold");
            assert!(cold.list().await.unwrap().is_empty(), "{step}");
        }
        for step in ["begin", "copy", "end"] {
            failpoint::set(format!("image.copy:{step}:after"), Action::RetryOnce);
        }
        assert_eq!(c.post("admin", &path, copy.clone()).await.status(), StatusCode::ACCEPTED);
        assert_eq!(ended(&c, &id).await["status"], "success");
        let image = c.show(&id).await;
        assert_eq!(
            (&image["stores"], &image["os_glance_failed_import"]),
            (&json!("images,cold"), &json!(""))
        );
        assert_eq!(
            c.post("admin", &path, copy).await.status(),
            StatusCode::BAD_REQUEST,
            "it is there already"
        );
        assert_eq!(c.delete("admin", &format!("/v2/stores/images/{id}")).await, StatusCode::NO_CONTENT);
        assert!(c.file("alice", &id).await == qcow2);
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);

        // An upload names its store.
        let id = new(&c, "raw").await;
        let put = |store: &str| {
            let r = c.ask("alice", reqwest::Method::PUT, &format!("/v2/images/{id}/file"));
            let r = r.header("content-type", "application/octet-stream").header("x-image-meta-store", store);
            r.body("bytes").send()
        };
        assert_eq!(put("attic").await.unwrap().status(), StatusCode::BAD_REQUEST);
        assert_eq!(put("cold").await.unwrap().status(), StatusCode::NO_CONTENT);
        assert_eq!(c.show(&id).await["stores"], "cold");
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        until("nothing is left", async || cold.list().await.unwrap().is_empty()).await;
        c.end().await;
    }
}

/// Somebody comes back for the one image that is in the trash. It is not waited for: here the test takes it out.
async fn purged_later(c: &Cloud, rbd: &pool::Rbd) {
    let trash = rbd.trash_list().await.unwrap();
    let subject = format!("image-trash/images/{}", trash[0].id);
    let tasks = state::tasks::unfinished(&c.db, &subject).await.unwrap();
    assert_eq!((trash.len(), tasks.len()), (1, 1));
}

/// What clones hold back holds nothing else up: neither a copy to where it was, nor the deletion.
#[tokio::test(flavor = "multi_thread")]
async fn clones_keep_what_they_need_of_a_store() {
    let _one = ONE_AT_A_TIME.lock().await;
    let bytes = noise(3 << 20, 21);
    for db in testbed::databases().await {
        let c = Cloud::with_two_stores(db).await;
        let (home, cold) = (c.rbd(), cold(&c));
        let id = new(&c, "raw").await;
        assert_eq!(c.put("alice", &id, "stage", bytes.clone()).await.status(), StatusCode::NO_CONTENT);
        let both = json!({"method": {"name": "glance-direct"}, "stores": ["images", "cold"]});
        assert_eq!(import(&c, &id, both).await, 202);
        c.until_status(&id, "active").await;
        home.clone_image(&id, "snap", home.pool(), "child", CreateOptions::default()).await.unwrap();
        let removed = async |store: &str| c.delete("admin", &format!("/v2/stores/{store}/{id}")).await;
        assert_eq!(removed("images").await, StatusCode::NO_CONTENT);
        until("it has left the store", async || !home.exists(&id).await.unwrap()).await;
        let copy = json!({"method": {"name": "copy-image"}, "stores": ["images"]});
        let path = format!("/v2/images/{id}/import");
        assert_eq!(c.post("admin", &path, copy).await.status(), StatusCode::ACCEPTED);
        assert_eq!(ended(&c, &id).await["status"], "success");
        assert_eq!(c.show(&id).await["stores"], "cold,images");
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        until("only the clone is left", async || {
            home.list().await.unwrap() == ["child"] && cold.list().await.unwrap().is_empty()
        })
        .await;
        until("its tasks are done", async || unfinished(&c, &id).await.is_empty()).await;
        let child = home.open("child").await.unwrap();
        assert!(child.read_at(0, bytes.len()).await.unwrap() == bytes);
        purged_later(&c, &home).await;
        child.flatten(Box::new(|_, _| {})).await.unwrap();
        child.close().await.unwrap();
        home.remove("child").await.unwrap();
        home.purge_trash().await.unwrap();
        c.end().await;
    }
}

/// What was written down in the trash before a crash is still found after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_is_cut_short_leaves_nothing_in_the_trash() {
    let _one = ONE_AT_A_TIME.lock().await;
    for url in common::urls().await {
        let (tiers, namespace) = common::tiers().await;
        let config = imagestore::Config::default();
        let mortal = Mortal::start(&url, &tiers, &namespace, config.clone()).await;
        let first = &mortal.cloud;
        let id = first.raw("alice").await;
        assert_eq!(first.put("alice", &id, "file", noise(9000, 1)).await.status(), StatusCode::NO_CONTENT);
        let rbd = first.rbd();
        rbd.clone_image(&id, "snap", rbd.pool(), "child", CreateOptions::default()).await.unwrap();
        failpoint::set("image.delete:bytes:after", Action::Pause);
        assert_eq!(first.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        until("it is in the trash", async || !rbd.trash_list().await.unwrap().is_empty()).await;
        mortal.die();
        failpoint::clear("image.delete:bytes:after");
        let second = Cloud::start(common::open(&url).await, tiers, namespace, config).await;
        until("the deletion is done", async || unfinished(&second, &id).await.is_empty()).await;
        purged_later(&second, &rbd).await;
        rbd.remove("child").await.unwrap();
        rbd.purge_trash().await.unwrap();
        second.end().await;
    }
}

/// An image that is deleted just when it is active leaves nothing where its bytes were staged.
#[tokio::test(flavor = "multi_thread")]
async fn deleted_between_the_last_two_steps() {
    let _one = ONE_AT_A_TIME.lock().await;
    for db in testbed::databases().await {
        let c = Cloud::with_two_stores(db).await;
        let (home, cold) = (c.rbd(), cold(&c));
        let id = new(&c, "raw").await;
        assert_eq!(c.put("alice", &id, "stage", noise(9000, 1)).await.status(), StatusCode::NO_CONTENT);
        failpoint::set("image.import:tidy:before", Action::Pause);
        let one = json!({"method": {"name": "glance-direct"}, "stores": ["cold"]});
        assert_eq!(import(&c, &id, one).await, 202);
        c.until_status(&id, "active").await;
        assert_eq!(home.list().await.unwrap(), [id.as_str()]);
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        failpoint::clear("image.import:tidy:before");
        until("nothing is left", async || {
            home.list().await.unwrap().is_empty() && cold.list().await.unwrap().is_empty()
        })
        .await;
        c.end().await;
    }
}

/// The last step of a task may run again after a crash, when others have gone on with the image already.
#[tokio::test(flavor = "multi_thread")]
async fn a_last_step_that_runs_again_changes_nothing() {
    let _one = ONE_AT_A_TIME.lock().await;
    for db in testbed::databases().await {
        let c = Cloud::with_two_stores(db).await;
        let id = new(&c, "raw").await;
        let act = async |what: &str| {
            let path = format!("/v2/images/{id}/actions/{what}");
            assert_eq!(c.post("alice", &path, Value::Null).await.status(), StatusCode::NO_CONTENT);
        };
        assert_eq!(c.put("alice", &id, "stage", noise(9000, 1)).await.status(), StatusCode::NO_CONTENT);
        failpoint::set("image.import:activate:after", Action::Pause);
        let both = json!({"method": {"name": "glance-direct"}, "stores": ["images", "cold"]});
        assert_eq!(import(&c, &id, both).await, 202);
        c.until_status(&id, "active").await;
        assert_eq!(c.delete("admin", &format!("/v2/stores/cold/{id}")).await, StatusCode::NO_CONTENT);
        act("deactivate").await;
        failpoint::set("image.import:activate:after", Action::RetryOnce);
        until("all is done", async || unfinished(&c, &id).await.is_empty()).await;
        let image = c.show(&id).await;
        assert_eq!((&image["status"], &image["stores"]), (&json!("deactivated"), &json!("images")));
        act("reactivate").await;

        // The same of a copy.
        failpoint::set("image.copy:end:after", Action::Pause);
        let copy = json!({"method": {"name": "copy-image"}, "stores": ["cold"]});
        let path = format!("/v2/images/{id}/import");
        assert_eq!(c.post("admin", &path, copy.clone()).await.status(), StatusCode::ACCEPTED);
        assert_eq!(ended(&c, &id).await["status"], "success");
        assert_eq!(c.delete("admin", &format!("/v2/stores/images/{id}")).await, StatusCode::NO_CONTENT);
        failpoint::set("image.copy:end:after", Action::RetryOnce);
        until("all is done", async || unfinished(&c, &id).await.is_empty()).await;
        assert_eq!(c.show(&id).await["stores"], "cold");
        assert_eq!(c.file("alice", &id).await, noise(9000, 1));
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        until("nothing is left", async || cold(&c).list().await.unwrap().is_empty()).await;
        c.end().await;
    }
}

/// A copy ends with its image, and an image without bytes has nothing to copy.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_copied() {
    let _one = ONE_AT_A_TIME.lock().await;
    let c = Cloud::with_two_stores(testbed::databases().await.remove(0)).await;
    let copy = json!({"method": {"name": "copy-image"}, "all_stores": true});
    let asked = async |id: &str| {
        c.post("admin", &format!("/v2/images/{id}/import"), copy.clone()).await.status().as_u16()
    };
    let id = new(&c, "raw").await;
    assert_eq!(asked(&id).await, 409, "queued");
    assert_eq!(c.put("alice", &id, "file", noise(9000, 1)).await.status(), StatusCode::NO_CONTENT);
    failpoint::set("image.copy:copy:before", Action::Pause);
    assert_eq!(asked(&id).await, 202);
    assert_eq!(asked(&id).await, 409, "one at a time");
    assert_eq!(c.delete("admin", &format!("/v2/stores/images/{id}")).await, StatusCode::CONFLICT);
    assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
    failpoint::clear("image.copy:copy:before");
    until("nothing is left", async || cold(&c).list().await.unwrap().is_empty()).await;
    c.end().await;
}
