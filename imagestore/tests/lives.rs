//! Images whose lives are tangled with others': staged and imported, cloned from and into, cut off by a crash.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod common;

use api::Context;
use common::{Cloud, Mortal, body, disk, noise, tiers, until};
use imagestore::{Config, ImageError, NewImage, RbdSource, Status};
use reqwest::{Method, StatusCode};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn staged_then_imported() {
    for db in testbed::databases().await {
        let c = Cloud::new(db).await;
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("raw");
        let bytes = disk(5 << 20);
        std::fs::write(&raw, &bytes).unwrap();
        let qcow2 = dir.path().join("qcow2");
        let mut made = std::process::Command::new("qemu-img");
        made.args(["convert", "-f", "raw", "-O", "qcow2", "-c"]);
        assert!(made.arg(&raw).arg(&qcow2).status().unwrap().success());
        let packed = std::fs::read(&qcow2).unwrap();
        for (format, file) in [("raw", &bytes), ("qcow2", &packed)] {
            let id = c.create("alice", json!({"disk_format": format, "container_format": "bare"})).await;
            let import = format!("/v2/images/{id}/import");
            let direct = json!({"method": {"name": "glance-direct"}, "all_stores": true});
            assert_eq!(c.post("alice", &import, direct.clone()).await.status(), StatusCode::CONFLICT);
            assert_eq!(c.put("alice", &id, "stage", file.clone()).await.status(), StatusCode::NO_CONTENT);
            assert_eq!(c.show(&id).await["status"], "uploading");
            assert_eq!(c.put("alice", &id, "stage", "x").await.status(), StatusCode::CONFLICT);
            let unknown = json!({"method": {"name": "carrier-pigeon"}});
            assert_eq!(c.post("alice", &import, unknown).await.status(), StatusCode::BAD_REQUEST);
            let web = json!({"method": {"name": "web-download", "uri": "http://x"}});
            assert_eq!(c.post("alice", &import, web).await.status(), StatusCode::CONFLICT, "it is staged");
            let r = c.post("alice", &import, direct).await;
            assert_eq!(r.status(), StatusCode::ACCEPTED);
            let request = r.headers()["x-openstack-request-id"].to_str().unwrap().to_owned();
            c.until_status(&id, "active").await;
            let image = c.show(&id).await;
            assert_eq!((&image["size"], &image["stores"]), (&json!(file.len()), &json!("images")));
            assert_eq!(image["os_glance_failed_import"], "");
            assert!(c.disk(&id).await == bytes);
            assert!(&c.file("alice", &id).await == file);
            let tasks = c.read("alice", &format!("/v2/images/{id}/tasks")).await;
            let task = &tasks["tasks"][0];
            assert_eq!((&task["status"], &task["request_id"]), (&json!("success"), &json!(request)));
            assert_eq!(task["input"]["import_req"]["method"]["name"], "glance-direct");
            assert_eq!(c.get("alice", "/v2/tasks").await.status(), StatusCode::FORBIDDEN);
            let shown = c.read("admin", &format!("/v2/tasks/{}", task["id"].as_str().unwrap())).await;
            assert_eq!(shown["result"]["image_id"], id);
            c.delete("alice", &format!("/v2/images/{id}")).await;
        }
        c.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_import_leaves_a_queued_image_with_its_reason() {
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    for (format, bytes) in
        [("qcow2", noise(100_000, 1)), ("raw", [b"QFI\xfb".to_vec(), noise(70_000, 2)].concat())]
    {
        let id = c.create("alice", json!({"disk_format": format, "container_format": "bare"})).await;
        c.put("alice", &id, "stage", bytes).await;
        let r = c
            .post("alice", &format!("/v2/images/{id}/import"), json!({"method": {"name": "glance-direct"}}))
            .await;
        assert_eq!(r.status(), StatusCode::ACCEPTED);
        c.until_status(&id, "queued").await;
        assert_eq!(c.show(&id).await["os_glance_failed_import"], "images");
        let tasks = c.read("alice", &format!("/v2/images/{id}/tasks")).await;
        assert_eq!(tasks["tasks"][0]["status"], "failure");
        assert!(tasks["tasks"][0]["message"].as_str().unwrap().contains("does not match"));
        c.until_empty().await;
        assert_eq!(c.put("alice", &id, "stage", "anew").await.status(), StatusCode::NO_CONTENT);
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
    }
    c.end().await;
}

async fn alice(c: &Cloud) -> Context {
    use api::TokenValidator;
    let _ = c;
    Context::new(api::RequestId::new(), common::Tokens.validate("alice").await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_becomes_an_image_and_an_image_a_volume_without_copying() {
    for db in testbed::databases().await {
        let c = Cloud::new(db).await;
        let (ctx, rbd) = (alice(&c).await, c.rbd());
        rbd.create("volume-1", 8 << 20, pool::CreateOptions::default()).await.unwrap();
        let volume = rbd.open("volume-1").await.unwrap();
        volume.write_at(4096, bytes::Bytes::from(noise(65536, 1))).await.unwrap();
        volume.snap_create("s").await.unwrap();
        let source =
            |image: &str| RbdSource { tier: "volumes".into(), image: image.into(), snap: "s".into() };
        // What the volume was made of was signed; these bytes are not.
        let signed = ["img_signature", "img_signature_hash_method", "img_signature_key_type"];
        let mut properties: std::collections::BTreeMap<String, String> =
            signed.map(|name| (name.to_owned(), "x".to_owned())).into();
        properties.insert("img_signature_certificate_uuid".into(), "x".into());
        properties.insert("os_distro".into(), "debian".into());
        let new = NewImage { name: Some("of a volume".into()), properties, ..NewImage::default() };
        let image = c.images.create_from_rbd(&ctx, new, source("volume-1")).await.unwrap();
        assert_eq!(image.status, Status::Saving);
        c.until_status(&image.id, "active").await;
        let shown = c.show(&image.id).await;
        assert_eq!((&shown["size"], &shown["disk_format"]), (&json!(8 << 20), &json!("raw")));
        assert!(shown["checksum"].is_null());
        assert!(shown.as_object().unwrap().keys().all(|k| !k.starts_with("img_signature")), "{shown}");
        assert_eq!(shown["os_distro"], "debian");
        let parent = rbd.open_read_only(&image.id).await.unwrap().parent().await.unwrap().unwrap();
        assert_eq!(parent.name, "volume-1");
        // The volume goes first.
        volume.snap_remove("s").await.unwrap();
        volume.close().await.unwrap();
        rbd.remove_or_trash("volume-1").await.unwrap();
        let file = c.file("alice", &image.id).await;
        assert!(file[4096..4096 + 65536] == noise(65536, 1));
        // And the image before the volume that is made of it.
        let from = c.images.source(&ctx, &image.id, &c.tiers.get("images").unwrap()).await.unwrap();
        assert_eq!((from.snap, from.size_bytes), ("snap", 8 << 20));
        let options = pool::CreateOptions::default();
        from.tier
            .pool
            .rbd()
            .clone_image(&from.image, from.snap, &from.tier.pool, "volume-2", options)
            .await
            .unwrap();
        assert_eq!(c.delete("alice", &format!("/v2/images/{}", image.id)).await, StatusCode::NO_CONTENT);
        until("the image leaves the list", async || rbd.list().await.unwrap() == ["volume-2"]).await;
        let child = rbd.open("volume-2").await.unwrap();
        assert!(child.read_at(4096, 65536).await.unwrap() == noise(65536, 1));
        child.flatten(Box::new(|_, _| {})).await.unwrap();
        child.close().await.unwrap();
        rbd.remove("volume-2").await.unwrap();
        until("the trash is purged", async || {
            let _ = rbd.purge_trash().await.unwrap();
            rbd.trash_list().await.unwrap().is_empty()
        })
        .await;
        // What is not there cannot become an image.
        let killed = c.images.create_from_rbd(&ctx, NewImage::default(), source("none")).await.unwrap();
        c.until_status(&killed.id, "killed").await;
        assert!(matches!(
            c.images.source(&ctx, &killed.id, &c.tiers.get("images").unwrap()).await,
            Err(ImageError::Conflict(_))
        ));
        c.delete("alice", &format!("/v2/images/{}", killed.id)).await;
        c.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_are_handed() {
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    let ctx = alice(&c).await;
    let id = c
        .create("admin", json!({"disk_format": "raw", "container_format": "bare", "visibility": "private"}))
        .await;
    assert!(matches!(c.images.get(&ctx, &id).await, Err(ImageError::NotFound(_))));
    assert!(matches!(
        c.images.source(&ctx, &id, &c.tiers.get("images").unwrap()).await,
        Err(ImageError::NotFound(_))
    ));
    let archive = c.create("alice", json!({"disk_format": "qcow2", "container_format": "docker"})).await;
    assert_eq!(c.put("alice", &archive, "file", "any bytes").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(c.file("alice", &archive).await, b"any bytes");
    assert!(matches!(
        c.images.source(&ctx, &archive, &c.tiers.get("images").unwrap()).await,
        Err(ImageError::Invalid(_))
    ));
    // The image that the cloud brings.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, disk(3 << 20)).unwrap();
    let props = BTreeMap::from([("os_distro".to_owned(), "debian".to_owned())]);
    let one = c.images.ensure("cloud", &file, "raw", props.clone(), None).await.unwrap();
    let two = c.images.ensure("cloud", &file, "raw", props, None).await.unwrap();
    assert_eq!((one.id.as_str(), one.status), (two.id.as_str(), Status::Active));
    assert_eq!(c.images.find_by_name(&ctx, "cloud").await.unwrap().unwrap().id, one.id);
    assert_eq!(c.images.find_by_name(&ctx, "none").await.unwrap(), None);
    for id in [id, archive, one.id] {
        assert_eq!(c.delete("admin", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
    }
    c.end().await;
}

/// A process that dies during an upload: here its service object is dropped with the upload in the middle. What it
/// leaves is a `saving` image, bytes in the pool, and its rows.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_an_upload_is_taken_back() {
    for url in common::urls().await {
        for same_node in [true, false] {
            let (tiers, namespace) = tiers().await;
            let config = |node: &str| Config { node: node.into(), upload_lease_s: 3, ..Config::default() };
            let mortal = Mortal::start(&url, &tiers, &namespace, config("a")).await;
            let first = &mortal.cloud;
            let id = first.raw("alice").await;
            let (images, ctx, target) = (first.images.clone(), alice(first).await, id.clone());
            mortal.spawn(async move {
                let bytes = futures::stream::iter([Ok(bytes::Bytes::from(noise(5_000_000, 1)))]);
                let body = futures::StreamExt::chain(bytes, futures::stream::pending());
                let _ = images.upload(&ctx, &target, None, Box::pin(body)).await;
            });
            until("bytes are in the pool", async || !first.rbd().list().await.unwrap().is_empty()).await;
            mortal.die();
            // Taking it back may be cut short and done again, too.
            state::failpoint::set("image.watch:look:after", state::failpoint::Action::RetryOnce);
            let node = if same_node { "a" } else { "b" };
            let second = Cloud::start(common::open(&url).await, tiers, namespace, config(node)).await;
            second.until_status(&id, "queued").await;
            second.until_empty().await;
            assert_eq!(second.put("alice", &id, "file", "anew").await.status(), StatusCode::NO_CONTENT);
            assert_eq!(second.file("alice", &id).await, b"anew");
            assert_eq!(second.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
            second.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_at_once_do_not_disturb_each_other() {
    let c = Cloud::new(testbed::databases().await.remove(0)).await;
    let ids = futures::future::join_all((0..6).map(|n| {
        let c = &c;
        async move {
            let id = c.raw("alice").await;
            let bytes = noise(6_000_000 + n * 1000, n as u64 + 1);
            assert_eq!(c.put("alice", &id, "file", bytes.clone()).await.status(), StatusCode::NO_CONTENT);
            assert!(c.file("alice", &id).await == bytes);
            id
        }
    }))
    .await;
    // Two uploads into one image: one wins.
    let one = c.raw("alice").await;
    let put = || c.put("alice", &one, "file", noise(3_000_000, 3));
    let (a, b) = tokio::join!(put(), put());
    let mut codes = [a.status().as_u16(), b.status().as_u16()];
    codes.sort_unstable();
    assert_eq!(codes, [204, 409]);
    for id in ids.iter().chain([&one]) {
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
    }
    let gone = c.ask("alice", Method::GET, &format!("/v2/images/{one}")).send().await.unwrap();
    assert_eq!(body(gone).await["message"], format!("No image found with ID {one}"));
    tokio::time::timeout(Duration::from_secs(60), c.end()).await.unwrap();
}
