//! Locations: where an image's bytes are, asked and told by the cloud's own services.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Cloud, ended, noise, until};
use imagestore::Config;
use pool::{TierConfig, Tiers};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};
use state::Db;
use state::failpoint::{self, Action};

/// A service whose images are in a namespace, with the tier `disks` outside of any: what locations can name.
async fn cloud(db: Db) -> (Cloud, pool::Rbd) {
    let clusters = common::clusters().await;
    let namespace = testbed::unique("image");
    let tier = |name: &str, namespace: Option<String>| TierConfig {
        name: name.into(),
        cluster: "main".into(),
        pool: "rbd".into(),
        data_pool: None,
        namespace,
    };
    let all = [tier("images", Some(namespace.clone())), tier("disks", None)];
    let tiers = Tiers::new(&clusters, &all).unwrap();
    tiers.get("images").unwrap().pool.rbd().namespace_create(&namespace).await.unwrap();
    let disks = tiers.get("disks").unwrap().pool.rbd();
    (Cloud::start(db, tiers, namespace, Config::default()).await, disks)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_in_the_pool_becomes_an_image() {
    let bytes = noise(3 << 20, 11);
    for db in testbed::databases().await {
        let (c, disks) = cloud(db).await;
        let name = testbed::unique("disk");
        disks.create(&name, 3 << 20, pool::CreateOptions::default()).await.unwrap();
        let disk = disks.open(&name).await.unwrap();
        disk.write_at(0, bytes.clone().into()).await.unwrap();
        disk.snap_create("s").await.unwrap();
        disk.close().await.unwrap();
        let fsid = c.tiers.get("disks").unwrap().cluster.fsid().await.unwrap();
        let url = format!("rbd://{fsid}/rbd/{name}/s");
        let add = async |who: &str, id: &str, body: Value| {
            c.post(who, &format!("/v2/images/{id}/locations"), body).await.status().as_u16()
        };
        let new = async || {
            let body = json!({"disk_format": "raw", "container_format": "bare", "visibility": "community"});
            c.create("alice", body).await
        };

        // Whose word is taken, and for what.
        let id = new().await;
        assert_eq!(add("alice", &id, json!({"url": url})).await, 403, "it could be anybody's disk");
        assert_eq!(add("bob", &id, json!({"url": url})).await, 403);
        for bad in [
            json!({"url": "http://example.org/x"}),
            json!({"url": "file:///etc/passwd"}),
            json!({"url": format!("rbd://{fsid}/rbd/{name}")}),
            json!({"url": format!("rbd://11111111-2222-3333-4444-555555555555/rbd/{name}/s")}),
            json!({"url": format!("rbd://{fsid}/other/{name}/s")}),
            json!({"url": url, "validation_data": {"os_hash_algo": "sha512", "os_hash_value": "beef"}}),
        ] {
            assert_eq!(add("service", &id, bad.clone()).await, 400, "{bad}");
        }
        // Nobody can tell here whether it is what was signed.
        let signed = json!({"disk_format": "raw", "container_format": "bare", "img_signature": "YWJj",
            "img_signature_hash_method": "SHA-256", "img_signature_key_type": "RSA-PSS",
            "img_signature_certificate_uuid": "fea14bc2-d75f-4ba5-bccc-b5c924ad0693"});
        let signed = c.create("alice", signed).await;
        assert_eq!(add("service", &signed, json!({"url": url})).await, 400);
        assert_eq!(c.delete("alice", &format!("/v2/images/{signed}")).await, StatusCode::NO_CONTENT);
        assert_eq!(c.show(&id).await["status"], "queued");
        assert_eq!(c.read("service", &format!("/v2/images/{id}/locations")).await, json!([]));

        // Nothing there, or something else than was said: queued again.
        let wrong = json!({"os_hash_algo": "sha512", "os_hash_value": "beefdead".repeat(16)});
        for bad in [
            json!({"url": format!("rbd://{fsid}/rbd/none/s")}),
            json!({"url": url, "validation_data": wrong}),
        ] {
            assert_eq!(add("service", &id, bad).await, 202);
            let task = ended(&c, &id).await;
            assert_eq!(
                (&task["status"], &task["type"]),
                (&json!("failure"), &json!("location_import")),
                "{task}"
            );
            let image = c.show(&id).await;
            assert_eq!((&image["status"], &image["os_hash_value"]), (&json!("queued"), &Value::Null));
            assert!(c.rbd().list().await.unwrap().is_empty());
        }

        // Every step twice.
        for step in ["clone", "seal", "hash", "activate"] {
            failpoint::set(format!("image.locate:{step}:after"), Action::RetryOnce);
        }
        let hash = hex::encode(Sha256::digest(&bytes));
        let data = json!({"os_hash_algo": "sha256", "os_hash_value": hash});
        assert_eq!(add("service", &id, json!({"url": url, "validation_data": data})).await, 202);
        assert_eq!(ended(&c, &id).await["status"], "success");
        let image = c.show(&id).await;
        assert_eq!((&image["status"], &image["os_hash_algo"]), (&json!("active"), &json!("sha256")));
        assert_eq!((&image["os_hash_value"], &image["size"]), (&json!(hash), &json!(3 << 20)));
        assert_eq!(add("service", &id, json!({"url": url})).await, 409, "it has its bytes");
        // The disk may go: the image keeps what it is made of.
        disks.remove_or_trash(&name).await.unwrap();
        assert!(c.file("alice", &id).await == bytes);

        // Where it is, for services; also of an image that only its owner sees.
        let private = json!([{"op": "replace", "path": "/visibility", "value": "private"}]);
        assert_eq!(c.patch("alice", &id, private).await.status(), StatusCode::OK);
        assert_eq!(c.get("bob", &format!("/v2/images/{id}/locations")).await.status(), StatusCode::NOT_FOUND);
        let path = format!("/v2/images/{id}/locations");
        assert_eq!(c.get("alice", &path).await.status(), StatusCode::FORBIDDEN);
        let there = c.read("service", &path).await;
        assert_eq!(there[0]["url"], format!("rbd://{fsid}/rbd/{id}/snap"));
        assert_eq!(there[0]["metadata"], json!({"store": "images", "namespace": c.namespace}));
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        c.until_empty().await;
        for old in disks.trash_list().await.unwrap().into_iter().filter(|t| t.name == name) {
            until("the disk is gone", async || disks.trash_remove(&old.id, true).await.is_ok()).await;
        }

        // Without a word on the hash, the operator's algorithm.
        let (id, name) = (new().await, testbed::unique("disk"));
        disks.create(&name, 1 << 20, pool::CreateOptions::default()).await.unwrap();
        let disk = disks.open(&name).await.unwrap();
        disk.snap_create("s").await.unwrap();
        disk.close().await.unwrap();
        assert_eq!(
            add("admin", &id, json!({"url": format!("rbd://{fsid}/rbd/{name}/s"), "validation_data": {}}))
                .await,
            202
        );
        assert_eq!(ended(&c, &id).await["status"], "success");
        assert_eq!(c.show(&id).await["os_hash_value"], hex::encode(Sha512::digest(vec![0; 1 << 20])));
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        c.until_empty().await;
        disks.remove_or_trash(&name).await.unwrap();
        c.end().await;
    }
}
