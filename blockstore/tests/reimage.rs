//! Volumes that start anew from an image, and what could be taken into management. On both databases; failpoints belong to
//! the whole process, so these tests run one at a time.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use blockstore::{Source, Volume, VolumeStatus};
use bytes::Bytes;
use kit::{Kit, ctx, kits, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use state::failpoint::{self, Action};
use tokio::sync::Mutex;

static ONE: Mutex<()> = Mutex::const_new(());

async fn ask(kit: &Kit, v: &Volume, body: Value) -> StatusCode {
    kit.call("alice", Method::POST, &format!("/volumes/{}/action", v.id), body).await.0
}

async fn holds(kit: &Kit, v: &Volume, byte: u8, len: usize) {
    let image = kit.open(&v.id).await;
    assert_eq!(image.size().await.unwrap(), kit::GIB);
    let read = image.read_at(0, 4 << 20).await.unwrap();
    assert!(read[..len].iter().all(|b| *b == byte) && read[len..].iter().all(|b| *b == 0), "all {byte}");
    image.close().await.unwrap();
}

#[tokio::test]
async fn a_volume_starts_anew() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let images =
            [kit.image(Bytes::from(vec![1; 2 << 20])).await, kit.image(Bytes::from(vec![2; 1 << 20])).await];
        let lens = [2 << 20, 1 << 20];
        let plain = kit.create(Source::Empty, Some(1)).await;
        let snapped = kit.create(Source::Image(images[0].clone()), Some(1)).await;
        let s = kit.snapshot(&snapped.id).await;
        let mut turn = 0;
        for v in [&plain, &snapped] {
            for step in ["prepare", "replace"] {
                for when in ["before", "after"] {
                    turn += 1;
                    let which = turn % 2;
                    let point = format!("volume.reimage:{step}:{when}");
                    failpoint::set(point.clone(), Action::RetryOnce);
                    let body = json!({"os-reimage": {"image_id": images[which]}});
                    assert_eq!(ask(&kit, v, body).await, StatusCode::ACCEPTED);
                    let now = kit.becomes(&v.id, VolumeStatus::Available).await;
                    kit.settled().await;
                    failpoint::clear(&point);
                    holds(&kit, v, u8::try_from(which + 1).unwrap(), lens[which]).await;
                    assert!(now.bootable && now.image_metadata["image_id"] == images[which], "{point}");
                }
            }
        }
        let of_image = kit.open(&plain.id).await;
        assert!(of_image.parent().await.unwrap().is_some(), "a clone, without copying");
        of_image.close().await.unwrap();
        let old =
            kit.tier.pool.rbd().open_snapshot(&snapped.image_name(), &format!("snapshot-{s}")).await.unwrap();
        assert!(old.read_at(0, 2 << 20).await.unwrap().iter().all(|b| *b == 1), "snapshots stay");
        // One that fails says so, keeps something to open, and can be asked for again.
        for (point, volume) in
            [("volume.reimage:prepare:after", &plain), ("volume.reimage:replace:before", &plain)]
        {
            failpoint::set(point, Action::Fail);
            failpoint::set("volume.reimage:undo:prepare:after", Action::RetryOnce);
            ask(&kit, volume, json!({"os-reimage": {"image_id": images[0]}})).await;
            until("error", || async {
                let now = kit.volumes.get(&ctx("alice"), &volume.id).await.unwrap();
                (now.status == VolumeStatus::Error).then_some(())
            })
            .await;
            kit.settled().await;
            failpoint::clear(point);
            failpoint::clear("volume.reimage:undo:prepare:after");
            assert!(!kit.images_there().await.iter().any(|i| i.ends_with(".reimage")));
            ask(&kit, volume, json!({"os-reimage": {"image_id": images[1]}})).await;
            kit.becomes(&volume.id, VolumeStatus::Available).await;
            holds(&kit, volume, 2, 1 << 20).await;
        }
    }
}

#[tokio::test]
async fn who_may_start_anew_and_when() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let image = kit.image(Bytes::from(vec![1; 1 << 20])).await;
        let v = kit.create(Source::Empty, Some(1)).await;
        let body = |reserved: bool| json!({"os-reimage": {"image_id": image, "reimage_reserved": reserved}});
        let path = format!("/volumes/{}/action", v.id);
        for (who, want) in [("bob", 404), ("rita", 403)] {
            assert_eq!(kit.call(who, Method::POST, &path, body(false)).await.0.as_u16(), want, "{who}");
        }
        assert_eq!(
            kit.call_at("3.67", "alice", Method::POST, &path, body(false)).await.0,
            StatusCode::NOT_FOUND
        );
        let nobody = json!({"os-reimage": {"image_id": uuid::Uuid::new_v4().to_string()}});
        assert!(ask(&kit, &v, nobody).await.is_client_error());
        assert_eq!(ask(&kit, &v, json!({"os-reimage": {"image_id": "x"}})).await, StatusCode::BAD_REQUEST);
        let held = kit.volumes.attach_begin(&ctx("alice"), &v.id, "server", None).await.unwrap();
        assert_eq!(ask(&kit, &v, body(false)).await, StatusCode::BAD_REQUEST, "it is reserved");
        assert_eq!(ask(&kit, &v, body(true)).await, StatusCode::ACCEPTED);
        kit.becomes(&v.id, VolumeStatus::Reserved).await;
        kit.settled().await;
        holds(&kit, &v, 1, 1 << 20).await;
        kit.volumes.attach_abort(&ctx("alice"), &held.attachment.id).await.unwrap();

        let done = json!({"os-extend_volume_completion": {"error": false}});
        assert_eq!(kit.call("alice", Method::POST, &path, done.clone()).await.0, StatusCode::FORBIDDEN);
        assert_eq!(kit.call("admin", Method::POST, &path, done.clone()).await.0, StatusCode::BAD_REQUEST);
        assert_eq!(kit.call_at("3.70", "admin", Method::POST, &path, done).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn what_could_be_managed_is_listed() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let v = kit.create(Source::Empty, Some(2)).await;
        let s = kit.snapshot(&v.id).await;
        let image = kit.image(Bytes::from(vec![1; 1 << 20])).await;
        kit.tier.pool.rbd().create("stray", 3 << 30, pool::CreateOptions::default()).await.unwrap();
        let open = kit.tier.pool.rbd().open(&v.image_name()).await.unwrap();
        open.snap_create("by-hand").await.unwrap();
        open.close().await.unwrap();
        let host = "host=aquifer@volumes%23volumes";
        assert_eq!(
            kit.call("alice", Method::GET, &format!("/manageable_volumes?{host}"), Value::Null).await.0,
            403
        );
        assert_eq!(kit.call("admin", Method::GET, "/manageable_volumes", Value::Null).await.0, 400);
        assert_eq!(
            kit.call_at("3.7", "admin", Method::GET, &format!("/manageable_volumes?{host}"), Value::Null)
                .await
                .0,
            404
        );
        let path = format!("/manageable_volumes/detail?{host}&sort=size:desc");
        let all = kit.get("admin", &path).await["manageable-volumes"].clone();
        let told: Vec<_> = all
            .as_array()
            .unwrap()
            .iter()
            .map(|m| {
                (
                    m["reference"]["source-name"].clone(),
                    m["size"].clone(),
                    m["safe_to_manage"].clone(),
                    m["cinder_id"].clone(),
                )
            })
            .collect();
        let want = [
            (json!("stray"), json!(3), json!(true), Value::Null),
            (json!(v.image_name()), json!(2), json!(false), json!(v.id)),
            (json!(image), json!(1), json!(false), Value::Null),
        ];
        assert_eq!(told, want);
        let page =
            kit.get("admin", &format!("/manageable_volumes?{host}&sort=size:asc&limit=1&offset=2")).await;
        assert_eq!(page["manageable-volumes"][0]["reference"]["source-name"], "stray");
        assert!(page["manageable-volumes"][0].get("cinder_id").is_none());
        let all = kit.get("admin", &format!("/manageable_snapshots/detail?{host}&sort=reference:asc")).await;
        let all = all["manageable-snapshots"].as_array().unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(
            (&all[0]["reference"], &all[0]["safe_to_manage"]),
            (&json!({"source-name": "by-hand"}), &json!(true))
        );
        assert_eq!((&all[1]["cinder_id"], &all[1]["source_reference"]), (&json!(s), &json!({"id": v.id})));
        // Upstream's own group type is there.
        let types = kit.get("alice", "/group_types").await["group_types"].clone();
        assert!(types.as_array().unwrap().iter().any(|t| t["name"] == "default_cgsnapshot_type"));
    }
}
