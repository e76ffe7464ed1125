//! What the cloud around the images has a say in: limits of projects, and the image services of other regions.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use async_trait::async_trait;
use common::{Cloud, Mortal, body, disk, ended, import, new, noise, until};
use futures::StreamExt;
use imagestore::{ImageError, Surroundings};
use reqwest::StatusCode;
use serde_json::{Value, json};
use state::failpoint::{self, Action};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::Mutex as Turn;

/// Failpoints are the process's.
static ONE_AT_A_TIME: Turn<()> = Turn::const_new(());

/// Limits and regions as a test says them.
#[derive(Default)]
struct Around {
    limits: Mutex<HashMap<String, i64>>,
    regions: Mutex<HashMap<(String, String), String>>,
}

impl Around {
    fn limit(&self, resource: &str, n: i64) {
        self.limits.lock().unwrap().insert(resource.into(), n);
    }
}

#[async_trait]
impl Surroundings for Around {
    async fn limit(&self, project: &str, resource: &str) -> Result<Option<i64>, ImageError> {
        assert_eq!(project, "p1");
        Ok(self.limits.lock().unwrap().get(resource).copied())
    }

    async fn image_service(&self, region: &str, interface: &str) -> Result<Option<String>, ImageError> {
        Ok(self.regions.lock().unwrap().get(&(region.to_owned(), interface.to_owned())).cloned())
    }
}

/// As tempest tries upstream's unified limits, step by step.
#[tokio::test(flavor = "multi_thread")]
async fn registered_limits() {
    let _one = ONE_AT_A_TIME.lock().await;
    let mib = noise(1 << 20, 3);
    for db in testbed::databases().await {
        let c = Cloud::new(db).await;
        let around = Arc::new(Around::default());
        c.images.surround(around.clone());
        let put = async |id: &str, what: &str| {
            let r = c.put("alice", id, what, mib.clone()).await;
            let status = r.status().as_u16();
            assert!(
                status != 413 || r.text().await.unwrap().contains("is over a limit for [Resource image_")
            );
            status
        };
        let create = async || c.post("alice", "/v2/images", json!({})).await.status().as_u16();
        let clear = async || {
            for image in c.read("alice", "/v2/images").await["images"].as_array().unwrap() {
                let path = format!("/v2/images/{}", image["id"].as_str().unwrap());
                assert_eq!(c.delete("alice", &path).await, StatusCode::NO_CONTENT);
            }
        };

        // How many there are.
        around.limit("image_count_total", 1);
        assert_eq!((create().await, create().await), (201, 413));
        around.limit("image_count_total", 2);
        assert_eq!((create().await, create().await), (201, 413));
        clear().await;
        assert_eq!(create().await, 201);
        clear().await;
        around.limit("image_count_total", 10);

        // How many are being filled.
        around.limit("image_count_uploading", 1);
        let (one, two, three) = (new(&c, "raw").await, new(&c, "raw").await, new(&c, "raw").await);
        assert_eq!(
            (put(&one, "stage").await, put(&two, "stage").await, put(&three, "file").await),
            (204, 413, 413)
        );
        let usage = c.read("alice", "/v2/info/usage").await["usage"].clone();
        assert_eq!(usage["image_count_uploading"], json!({"limit": 1, "usage": 1}));
        assert_eq!(usage["image_stage_total"], json!({"limit": -1, "usage": 1}));
        around.limit("image_count_uploading", 2);
        assert_eq!(put(&three, "file").await, 204);
        let direct = json!({"method": {"name": "glance-direct"}});
        assert_eq!(import(&c, &one, direct).await, 202);
        c.until_status(&one, "active").await;
        let usage = c.read("alice", "/v2/info/usage").await["usage"].clone();
        assert_eq!(usage["image_size_total"], json!({"limit": -1, "usage": 2}));
        assert_eq!(usage["image_count_total"], json!({"limit": 10, "usage": 3}));
        clear().await;

        // Bytes: whoever is not above the limit may go above it once.
        for (resource, what) in [("image_size_total", "file"), ("image_stage_total", "stage")] {
            around.limit(resource, 1);
            let ids = [new(&c, "raw").await, new(&c, "raw").await, new(&c, "raw").await];
            assert_eq!((put(&ids[0], what).await, put(&ids[1], what).await), (204, 204));
            assert_eq!(put(&ids[2], what).await, 413, "{what}");
            assert_eq!(c.show(&ids[2]).await["status"], "queued");
            assert_eq!(c.delete("alice", &format!("/v2/images/{}", ids[0])).await, StatusCode::NO_CONTENT);
            assert_eq!(put(&ids[2], what).await, 204, "{what}");
            clear().await;
        }
        c.end().await;
    }
}

/// Two clouds with tokens in common, as two regions have.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_another_region() {
    let _one = ONE_AT_A_TIME.lock().await;
    let bytes = disk(5 << 20);
    for db in testbed::databases().await {
        let far = Cloud::new(testbed::databases().await.remove(0)).await;
        let c = Cloud::new(db).await;
        assert!(
            !c.read("alice", "/v2/info/import").await["import-methods"]["value"]
                .to_string()
                .contains("glance-download")
        );
        let around = Arc::new(Around::default());
        around.regions.lock().unwrap().insert(("far".into(), "public".into()), format!("{}/image/", far.url));
        around
            .regions
            .lock()
            .unwrap()
            .insert(("gone".into(), "public".into()), "http://127.0.0.1:1/image".into());
        c.images.surround(around);
        assert_eq!(
            c.read("alice", "/v2/info/import").await["import-methods"]["value"],
            json!(["glance-direct", "web-download", "glance-download"])
        );
        let source = json!({"disk_format": "raw", "container_format": "bare", "visibility": "private",
            "hw_cpu_cores": "5", "trait:STORAGE_DISK_SSD": "required", "os_distro": "rhel", "speed": "88mph"});
        let src = far.create("alice", source).await;
        let ask = |region: &str, id: &str| json!({"method": {"name": "glance-download", "glance_region": region, "glance_image_id": id}});
        let dst = json!({"disk_format": "iso", "container_format": "ovf", "hw_cpu_cores": "1", "os_distro": "windows"});
        let id = c.create("alice", dst.clone()).await;
        for bad in [ask("far", "foo"), json!({"method": {"name": "glance-download", "glance_image_id": src}})]
        {
            assert_eq!(import(&c, &id, bad).await, 400);
        }
        // Whatever is wrong there leaves a queued image with its own properties.
        let theirs = far.raw("bob").await;
        let unknown = "36d4b546-64a2-4bb9-bdd0-ba676aa48f2c";
        for (region, image, why) in [
            ("nowhere", src.as_str(), "No public endpoint"),
            ("gone", &src, "could not be reached"),
            ("far", unknown, "404"),
            ("far", &theirs, "404"),
            ("far", &src, "instead of queued"),
        ] {
            assert_eq!(import(&c, &id, ask(region, image)).await, 202);
            let task = ended(&c, &id).await;
            assert_eq!(task["status"], "failure", "{task}");
            assert!(task["message"].as_str().unwrap().contains(why), "{task}");
            let image = c.show(&id).await;
            for (name, value) in dst.as_object().unwrap() {
                assert_eq!(&image[name], value, "{name}");
            }
            assert_eq!(image["status"], "queued");
        }
        assert_eq!(far.put("alice", &src, "file", bytes.clone()).await.status(), StatusCode::NO_CONTENT);
        assert_eq!(import(&c, &id, ask("far", &src)).await, 202);
        let task = ended(&c, &id).await;
        assert_eq!(task["status"], "success", "{task}");
        let image = c.show(&id).await;
        for (name, value) in [
            ("status", "active"),
            ("disk_format", "raw"),
            ("container_format", "bare"),
            ("hw_cpu_cores", "5"),
            ("trait:STORAGE_DISK_SSD", "required"),
            ("os_distro", "rhel"),
        ] {
            assert_eq!(image[name], value);
        }
        assert_eq!((image.get("speed"), &image["owner"]), (None, &json!("p1")));
        assert!(c.disk(&id).await == bytes);
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);

        // The token is in this process's memory alone: what is durable does not have it.
        let id = new(&c, "raw").await;
        failpoint::set("image.import:fetch:before", Action::Pause);
        assert_eq!(import(&c, &id, ask("far", &src)).await, 202);
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT params, memo FROM tasks").fetch_all(c.db.read()).await.unwrap();
        assert!(!rows.is_empty());
        let shown = rows.iter().any(|(params, memo)| params.contains("alice") || memo.contains("alice"));
        assert!(!shown, "{rows:?}");
        failpoint::clear("image.import:fetch:before");
        assert_eq!(ended(&c, &id).await["status"], "success");
        for (cloud, id) in [(&c, &id), (&far, &src), (&far, &theirs)] {
            assert_eq!(cloud.delete("admin", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        }
        far.end().await;
        c.end().await;
    }
}

/// A restart forgets the token: the import fails, and the image waits for another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_ends_an_import_from_another_region() {
    let _one = ONE_AT_A_TIME.lock().await;
    for url in common::urls().await {
        let (tiers, namespace) = common::tiers().await;
        let config = imagestore::Config::default();
        let mortal = Mortal::start(&url, &tiers, &namespace, config.clone()).await;
        let first = &mortal.cloud;
        first.images.surround(Arc::new(Around::default()));
        let id = new(first, "raw").await;
        failpoint::set("image.import:begin:before", Action::Pause);
        let ask = json!({"method": {"name": "glance-download", "glance_region": "far",
            "glance_image_id": "36d4b546-64a2-4bb9-bdd0-ba676aa48f2c"}});
        assert_eq!(import(first, &id, ask).await, 202);
        mortal.die();
        failpoint::clear("image.import:begin:before");
        let second = Cloud::start(common::open(&url).await, tiers, namespace, config).await;
        let task = ended(&second, &id).await;
        assert!(task["message"].as_str().unwrap().contains("restarted"), "{task}");
        assert_eq!(second.show(&id).await["status"], "queued");
        assert_eq!(second.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        second.end().await;
    }
}

/// Without certificates no signature can be verified, and nothing unverified becomes active.
#[tokio::test(flavor = "multi_thread")]
async fn a_signed_image() {
    let _one = ONE_AT_A_TIME.lock().await;
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    let signed = |hash: &str| {
        json!({"disk_format": "raw", "container_format": "bare", "img_signature": "YWJj",
            "img_signature_hash_method": hash, "img_signature_key_type": "RSA-PSS",
            "img_signature_certificate_uuid": "fea14bc2-d75f-4ba5-bccc-b5c924ad0693"})
    };
    for (hash, why) in [
        ("SHA-256", "Unable to retrieve certificate with ID: fea14bc2-d75f-4ba5-bccc-b5c924ad0693"),
        ("MD5", "Invalid signature hash method: MD5"),
    ] {
        let id = c.create("alice", signed(hash)).await;
        let r = c.put("alice", &id, "file", "bytes").await;
        assert_eq!(r.status(), StatusCode::BAD_REQUEST);
        let text: Value = body(r).await;
        assert!(text["message"].as_str().unwrap().contains(why), "{text}");
        assert_eq!(c.show(&id).await["status"], "killed");
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
    }
    let id = c.create("alice", signed("SHA-512")).await;
    assert_eq!(c.put("alice", &id, "stage", "bytes").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(import(&c, &id, json!({"method": {"name": "glance-direct"}})).await, 202);
    assert!(ended(&c, &id).await["message"].as_str().unwrap().contains("Unable to retrieve certificate"));
    assert_eq!(c.show(&id).await["status"], "queued");
    assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
    // Asked for while the bytes come.
    let id = new(&c, "raw").await;
    let (tx, rx) = tokio::sync::oneshot::channel::<()>();
    let rest = futures::stream::once(async move { rx.await.map(|()| "end").map_err(std::io::Error::other) });
    let bytes = futures::stream::iter([Ok("begin")]).chain(rest);
    let sent = tokio::spawn(
        c.ask("alice", reqwest::Method::PUT, &format!("/v2/images/{id}/file"))
            .header("content-type", "application/octet-stream")
            .body(reqwest::Body::wrap_stream(bytes))
            .send(),
    );
    c.until_status(&id, "saving").await;
    let late: Vec<_> = signed("SHA-256")
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| name.starts_with("img_"))
        .map(|(name, value)| json!({"op": "add", "path": format!("/{name}"), "value": value}))
        .collect();
    assert_eq!(c.patch("alice", &id, json!(late)).await.status(), StatusCode::OK);
    tx.send(()).unwrap();
    assert_eq!(sent.await.unwrap().unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(c.show(&id).await["status"], "killed");
    assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
    // Less than all four properties ask for nothing.
    let mut part = signed("SHA-256");
    part.as_object_mut().unwrap().remove("img_signature");
    let id = c.create("alice", part).await;
    assert_eq!(c.put("alice", &id, "file", "bytes").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
    until("all is gone", async || c.rbd().list().await.unwrap().is_empty()).await;
    c.end().await;
}
