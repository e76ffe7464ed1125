//! Volumes on a real cluster: every source is a clone that costs nothing, and what is deleted leaves no ghost,
//! in whatever order.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use blockstore::{Source, VolumeStatus};
use bytes::Bytes;
use kit::{GIB, ctx, kits, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

fn content() -> Bytes {
    Bytes::from_iter((0..8u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8))
}

#[tokio::test]
async fn every_source_is_a_copy_on_write_clone() {
    for kit in kits().await {
        let image = kit.image(content()).await;
        let a = kit.create(Source::Image(image.clone()), Some(1)).await;
        assert!(a.bootable);
        assert_eq!(a.image_metadata["image_id"], image);
        let of_image = kit.open(&a.id).await;
        let parent = of_image.parent().await.unwrap().expect("a clone has a parent");
        assert_eq!((parent.name.as_str(), parent.snap.as_deref()), (image.as_str(), Some("snap")));
        assert_eq!(of_image.used_bytes().await.unwrap(), 0, "nothing is copied");
        assert_eq!(of_image.size().await.unwrap(), GIB, "grown to what was asked for");
        assert_eq!(of_image.read_at(0, 8 << 20).await.unwrap(), content());

        let snapshot = kit.snapshot(&a.id).await;
        let b = kit.create(Source::Snapshot(snapshot.clone()), Some(2)).await;
        let of_snapshot = kit.open(&b.id).await;
        let parent = of_snapshot.parent().await.unwrap().expect("a clone has a parent");
        assert_eq!(parent.name, format!("volume-{}", a.id));
        assert_eq!(parent.snap, Some(format!("snapshot-{snapshot}")));
        assert_eq!(of_snapshot.used_bytes().await.unwrap(), 0);
        assert_eq!(of_snapshot.size().await.unwrap(), 2 * GIB);

        let c = kit.create(Source::Volume(a.id.clone()), None).await;
        assert_eq!((c.size_gib, c.bootable, c.source_volid.as_deref()), (1, true, Some(a.id.as_str())));
        let of_volume = kit.open(&c.id).await;
        let parent = of_volume.parent().await.unwrap().expect("a clone has a parent");
        assert_eq!(parent.name, format!("volume-{}", a.id));
        assert_eq!(of_volume.used_bytes().await.unwrap(), 0);
        assert_eq!(of_volume.read_at(0, 8 << 20).await.unwrap(), content());
        // The hidden snapshot goes by itself; what the clone needs of it stays out of sight.
        until("the hidden snapshot is gone", || async {
            let names = kit.open(&a.id).await.snap_list().await.unwrap();
            (names.len() == 1).then_some(())
        })
        .await;

        let empty = kit.create(Source::Empty, Some(3)).await;
        assert!(!empty.bootable);
        let of_nothing = kit.open(&empty.id).await;
        assert_eq!((of_nothing.size().await.unwrap(), of_nothing.parent().await.unwrap()), (3 * GIB, None));
    }
}

#[tokio::test]
async fn deleting_parents_first_is_never_refused_and_leaves_nothing() {
    for kit in kits().await {
        let image = kit.image(content()).await;
        let a = kit.create(Source::Image(image.clone()), Some(1)).await;
        let snapshot = kit.snapshot(&a.id).await;
        let b = kit.create(Source::Snapshot(snapshot.clone()), None).await;
        let c = kit.create(Source::Volume(b.id.clone()), None).await;
        kit.settled().await;

        kit.images.delete(&ctx("alice"), &image).await.unwrap();
        let (status, refused) =
            kit.call("alice", Method::DELETE, &format!("/volumes/{}", a.id), Value::Null).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "it has a snapshot: {refused}");
        kit.delete_snapshot(&snapshot).await;
        kit.delete(&a.id).await;
        kit.delete(&b.id).await;
        let last = kit.open(&c.id).await;
        assert_eq!(last.read_at(0, 8 << 20).await.unwrap(), content(), "the last clone has everything");
        last.close().await.unwrap();
        let there = kit.images_there().await;
        assert_eq!(there, [format!("volume-{}", c.id)], "no ghost in the pool's list");

        kit.delete(&c.id).await;
        assert!(kit.images_there().await.is_empty());
        until("the trash is empty", || async { (kit.trash().await == 0).then_some(()) }).await;
    }
}

#[tokio::test]
async fn cascade_takes_the_snapshots_along() {
    for kit in kits().await {
        let a = kit.create(Source::Empty, Some(1)).await;
        let snapshots = [kit.snapshot(&a.id).await, kit.snapshot(&a.id).await];
        let b = kit.create(Source::Snapshot(snapshots[0].clone()), None).await;
        let path = format!("/volumes/{}?cascade=True", a.id);
        let (status, body) = kit.call("alice", Method::DELETE, &path, Value::Null).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        kit.gone(&a.id).await;
        assert_eq!(kit.get("alice", "/snapshots").await["snapshots"], json!([]));
        assert_eq!(kit.images_there().await, [format!("volume-{}", b.id)]);
    }
}

#[tokio::test]
async fn extend_grows_the_image_and_never_shrinks() {
    for kit in kits().await {
        let a = kit.create(Source::Empty, Some(1)).await;
        for bad in [json!(1), json!(0), json!(-5), json!("abc"), Value::Null] {
            let body = json!({"os-extend": {"new_size": bad}});
            let (status, answer) =
                kit.call("alice", Method::POST, &format!("/volumes/{}/action", a.id), body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
            if bad == -5 {
                let why = answer["badRequest"]["message"].as_str().unwrap();
                assert!(why.ends_with("new_size. Value: -5. -5 is less than the minimum of 1"), "{why}");
            }
        }
        kit.act("alice", &a.id, json!({"os-extend": {"new_size": 3}})).await;
        let grown = kit.becomes(&a.id, VolumeStatus::Available).await;
        assert_eq!((grown.size_gib, grown.growth), (3, 0));
        assert_eq!(kit.open(&a.id).await.size().await.unwrap(), 3 * GIB);
    }
}

#[tokio::test]
async fn an_upload_is_a_clone_too_and_outlives_its_volume() {
    for kit in kits().await {
        let image = kit.image(content()).await;
        let a = kit.create(Source::Image(image), Some(1)).await;
        let body = json!({"os-volume_upload_image": {"image_name": "from-volume", "disk_format": "raw"}});
        let answer = kit.act("alice", &a.id, body).await["os-volume_upload_image"].clone();
        assert_eq!((&answer["status"], &answer["image_name"]), (&json!("uploading"), &json!("from-volume")));
        let id = answer["image_id"].as_str().unwrap().to_owned();
        until("the image is active", || async {
            let image = kit.images.get(&ctx("alice"), &id).await.unwrap();
            (image.status == imagestore::Status::Active).then_some(())
        })
        .await;
        kit.becomes(&a.id, VolumeStatus::Available).await;
        kit.delete(&a.id).await;
        let b = kit.create(Source::Image(id), Some(1)).await;
        assert_eq!(kit.open(&b.id).await.read_at(0, 8 << 20).await.unwrap(), content());
    }
}

#[tokio::test]
async fn no_row_of_parents_grows_without_end() {
    for kit in kits().await {
        let mut last = kit.create(Source::Image(kit.image(content()).await), Some(1)).await;
        let depth = async |image: &str| {
            let image = kit.tier.pool.rbd().open_read_only(image).await.unwrap();
            let depth = image.depth().await.unwrap();
            image.close().await.unwrap();
            depth
        };
        // Clones of clones.
        let mut seen = Vec::new();
        for n in 0..7 {
            let source = match n % 2 {
                0 => Source::Volume(last.id.clone()),
                _ => Source::Snapshot(kit.snapshot(&last.id).await),
            };
            last = kit.create(source, Some(1)).await;
            kit.settled().await;
            seen.push(depth(&last.image_name()).await);
        }
        assert_eq!(seen, [2, 3, 4, 5, 0, 1, 2], "one that was sixth has bytes of its own");
        // Images of volumes of images.
        let mut seen = Vec::new();
        for _ in 0..3 {
            let body = json!({"os-volume_upload_image": {"image_name": "i", "disk_format": "raw"}});
            let answer = kit.act("alice", &last.id, body).await["os-volume_upload_image"].clone();
            let id = answer["image_id"].as_str().unwrap().to_owned();
            kit.becomes(&last.id, VolumeStatus::Available).await;
            kit.settled().await;
            seen.push(depth(&id).await);
            last = kit.create(Source::Image(id), Some(1)).await;
        }
        assert_eq!(seen, [3, 5, 0], "and so has an image that would be deeper");
        let whole = kit.open(&last.id).await;
        assert_eq!(whole.read_at(0, 8 << 20).await.unwrap(), content());
        whole.close().await.unwrap();
    }
}
