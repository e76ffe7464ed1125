//! Every durable operation: each step done twice, failing at each step, each undo done twice.
//!
//! Failpoints are the process's, so these tests run one at a time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod common;

use api::{Context, TokenValidator};
use common::{Cloud, disk, until};
use imagestore::{NewImage, RbdSource};
use reqwest::StatusCode;
use serde_json::{Value, json};
use state::failpoint::{self, Action};
use tokio::sync::Mutex;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Lets every step and every undo of an operation run twice.
fn twice(kind: &str, steps: &[&str]) {
    for step in steps {
        failpoint::set(format!("{kind}:{step}:after"), Action::RetryOnce);
    }
}

async fn alice() -> Context {
    Context::new(api::RequestId::new(), common::Tokens.validate("alice").await.unwrap())
}

/// No task of the image's is left.
async fn done(c: &Cloud, id: &str) {
    let subject = format!("image/{id}");
    until("its tasks are done", async || state::tasks::unfinished(&c.db, &subject).await.unwrap().is_empty())
        .await;
}

async fn volume(c: &Cloud) -> RbdSource {
    let rbd = c.rbd();
    rbd.create("volume-1", 1 << 20, pool::CreateOptions::default()).await.unwrap();
    let volume = rbd.open("volume-1").await.unwrap();
    volume.write_at(0, bytes::Bytes::from(vec![7; 4096])).await.unwrap();
    volume.snap_create("s").await.unwrap();
    volume.close().await.unwrap();
    RbdSource { tier: "volumes".into(), image: "volume-1".into(), snap: "s".into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn clone() {
    const STEPS: [&str; 3] = ["clone", "seal", "activate"];
    let _one = ONE_AT_A_TIME.lock().await;
    for db in testbed::databases().await {
        let c = Cloud::new(db).await;
        let (ctx, source) = (alice().await, volume(&c).await);
        let make =
            async || c.images.create_from_rbd(&ctx, NewImage::default(), source.clone()).await.unwrap().id;
        twice("image.clone", &STEPS);
        let id = make().await;
        c.until_status(&id, "active").await;
        assert!(c.disk(&id).await[..4096] == [7; 4096]);
        assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        until("it is gone", async || c.rbd().list().await.unwrap() == ["volume-1"]).await;
        for point in ["clone:after", "seal:after", "activate:before"] {
            let point = format!("image.clone:{point}");
            failpoint::set(&point, Action::Fail);
            twice("image.clone:undo", &STEPS);
            let id = make().await;
            c.until_status(&id, "killed").await;
            failpoint::clear(&point);
            assert!(c.show(&id).await["size"].is_null());
            assert_eq!(c.rbd().list().await.unwrap(), ["volume-1"], "{point}");
            assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        }
        // Once it is active, nothing of that is done again or taken back: others go on with the image.
        let end = "image.clone:activate:after";
        failpoint::set(end, Action::Pause);
        let id = make().await;
        c.until_status(&id, "active").await;
        let path = format!("/v2/images/{id}");
        let off = c.post("alice", &format!("{path}/actions/deactivate"), Value::Null).await;
        assert_eq!(off.status(), StatusCode::NO_CONTENT);
        failpoint::set(end, Action::Fail);
        done(&c, &id).await;
        failpoint::clear(end);
        assert_eq!(c.show(&id).await["status"], "deactivated");
        assert!(c.disk(&id).await[..4096] == [7; 4096]);
        assert_eq!(c.delete("alice", &path).await, StatusCode::NO_CONTENT);
        done(&c, &id).await;
        c.rbd().remove_or_trash("volume-1").await.unwrap();
        c.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn import() {
    const STEPS: [&str; 6] = ["begin", "fetch", "shape", "copies", "activate", "tidy"];
    let _one = ONE_AT_A_TIME.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let (raw, qcow2) = (dir.path().join("raw"), dir.path().join("qcow2"));
    let bytes = disk(5 << 20);
    std::fs::write(&raw, &bytes).unwrap();
    let mut qemu = std::process::Command::new("qemu-img");
    qemu.args(["convert", "-f", "raw", "-O", "qcow2"]);
    assert!(qemu.arg(&raw).arg(&qcow2).status().unwrap().success());
    for db in testbed::databases().await {
        let c = Cloud::new(db).await;
        for (format, file) in [("raw", &raw), ("qcow2", &qcow2)] {
            let file = std::fs::read(file).unwrap();
            let id = c.create("alice", json!({"disk_format": format, "container_format": "bare"})).await;
            let import = async || {
                assert_eq!(c.put("alice", &id, "stage", file.clone()).await.status(), StatusCode::NO_CONTENT);
                let path = format!("/v2/images/{id}/import");
                let r = c.post("alice", &path, json!({"method": {"name": "glance-direct"}})).await;
                assert_eq!(r.status(), StatusCode::ACCEPTED);
            };
            for step in ["begin", "fetch", "shape", "copies"] {
                let point = format!("image.import:{step}:after");
                failpoint::set(&point, Action::Fail);
                twice("image.import:undo", &STEPS);
                import().await;
                c.until_status(&id, "queued").await;
                failpoint::clear(&point);
                assert_eq!(c.show(&id).await["os_glance_failed_import"], "images");
                assert_eq!(c.rbd().list().await.unwrap(), Vec::<String>::new(), "{format} {step}");
            }
            let point = "image.import:activate:before";
            failpoint::set(point, Action::Fail);
            import().await;
            c.until_status(&id, "queued").await;
            failpoint::clear(point);
            assert_eq!(c.rbd().list().await.unwrap(), Vec::<String>::new(), "{format} activate");
            twice("image.import", &STEPS);
            import().await;
            c.until_status(&id, "active").await;
            assert!(c.disk(&id).await == bytes, "{format}");
            assert!(c.file("alice", &id).await == file, "{format}");
            assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
            c.until_empty().await;
        }
        c.end().await;
    }
}

/// A delete goes forward only: whatever fails is tried again, and nothing of it is undone.
#[tokio::test(flavor = "multi_thread")]
async fn delete() {
    const STEPS: [&str; 4] = ["quiet", "bytes", "trash", "row"];
    let _one = ONE_AT_A_TIME.lock().await;
    for db in testbed::databases().await {
        let c = Cloud::new(db).await;
        for when in ["before", "after"] {
            let id = c.raw("alice").await;
            assert_eq!(c.put("alice", &id, "file", disk(5 << 20)).await.status(), StatusCode::NO_CONTENT);
            for step in STEPS {
                failpoint::set(format!("image.delete:{step}:{when}"), Action::RetryOnce);
            }
            assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
            assert_eq!(c.get("alice", &format!("/v2/images/{id}")).await.status(), StatusCode::NOT_FOUND);
            done(&c, &id).await;
            assert!(c.rbd().list().await.unwrap().is_empty());
            // The id is free again once nothing is left of the image.
            let again = c.create("alice", json!({"id": id})).await;
            assert_eq!(c.delete("alice", &format!("/v2/images/{again}")).await, StatusCode::NO_CONTENT);
            done(&c, &id).await;
        }
        // Then its deletion is over, whoever died there: it does not take the next one of that id.
        let end = "image.delete:row:after";
        failpoint::set(end, Action::Pause);
        let id = c.raw("alice").await;
        let path = format!("/v2/images/{id}");
        assert_eq!(c.delete("alice", &path).await, StatusCode::NO_CONTENT);
        until("the id is free", async || {
            c.post("alice", "/v2/images", json!({"id": id})).await.status() == StatusCode::CREATED
        })
        .await;
        failpoint::set(end, Action::RetryOnce);
        done(&c, &id).await;
        assert_eq!(c.get("alice", &path).await.status(), StatusCode::OK);
        failpoint::clear(end);
        assert_eq!(c.delete("alice", &path).await, StatusCode::NO_CONTENT);
        done(&c, &id).await;
        c.end().await;
    }
}
