//! Which type a volume gets, and what is free of a type again. On both databases.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use blockstore::{NewVolume, Source, VolumeError, VolumeStatus};
use bytes::Bytes;
use futures::StreamExt;
use kit::{Kit, ctx, kits};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// An image whose volumes are to have this type.
async fn image(kit: &Kit, kind: &str) -> String {
    let new = imagestore::NewImage {
        disk_format: Some("raw".into()),
        container_format: Some("bare".into()),
        properties: [("cinder_img_volume_type".to_owned(), kind.to_owned())].into(),
        ..imagestore::NewImage::default()
    };
    let image = kit.images.create(&ctx("alice"), new).await.unwrap();
    let body = futures::stream::iter([Ok(Bytes::from(vec![1; 4096]))]).boxed();
    kit.images.upload(&ctx("alice"), &image.id, Some(4096), body).await.unwrap();
    image.id
}

#[tokio::test]
async fn an_image_names_the_type_of_its_volumes() {
    for kit in kits().await {
        kit.add_type("of-image", json!({})).await;
        let hidden = json!({"volume_type": {"name": "hidden", "os-volume-type-access:is_public": false}});
        kit.post("admin", "/types", hidden).await;
        let of = image(&kit, "of-image").await;
        let volume = kit.create(Source::Image(of.clone()), Some(1)).await;
        assert_eq!(volume.type_name, "of-image");
        // What is asked for goes first, and what is not there, or not for everybody, counts nothing.
        let asked = Some("__DEFAULT__".to_owned());
        let new = NewVolume {
            size_gib: Some(1),
            volume_type: asked,
            source: Source::Image(of),
            ..NewVolume::default()
        };
        let volume = kit.volumes.create(&ctx("alice"), new).await.unwrap();
        assert_eq!(volume.type_name, "__DEFAULT__");
        for kind in ["nowhere", "hidden"] {
            let of = image(&kit, kind).await;
            let volume = kit.create(Source::Image(of), Some(1)).await;
            assert_eq!(volume.type_name, "__DEFAULT__", "{kind}");
        }
    }
}

#[tokio::test]
async fn a_volume_without_a_place_goes_at_once_and_its_type_with_it() {
    for kit in kits().await {
        let kind = kit.add_type("none", json!({"vendor_name": "nobody"})).await;
        let new = NewVolume { size_gib: Some(1), volume_type: Some(kind.clone()), ..NewVolume::default() };
        let volume = kit.volumes.create(&ctx("alice"), new).await.unwrap();
        kit::until("the volume fails", || async {
            let now = kit.volumes.get(&ctx("alice"), &volume.id).await.unwrap().status;
            (now == VolumeStatus::Error).then_some(())
        })
        .await;
        let path = format!("/types/{kind}");
        assert_eq!(kit.call("admin", Method::DELETE, &path, Value::Null).await.0, StatusCode::BAD_REQUEST);
        let used =
            async || kit.get("alice", "/limits").await["limits"]["absolute"]["totalVolumesUsed"].clone();
        assert_eq!(used().await, 1);
        let there = format!("/volumes/{}", volume.id);
        assert_eq!(kit.call("alice", Method::DELETE, &there, Value::Null).await.0, StatusCode::ACCEPTED);
        let gone = kit.volumes.get(&ctx("alice"), &volume.id).await;
        assert!(matches!(gone, Err(VolumeError::VolumeNotFound(_))));
        assert_eq!(used().await, 0);
        assert_eq!(kit.call("admin", Method::DELETE, &path, Value::Null).await.0, StatusCode::ACCEPTED);
    }
}

#[tokio::test]
async fn who_may_not_manage_is_told_so_whatever_he_says() {
    for kit in kits().await {
        let volume = kit.create(Source::Empty, Some(1)).await;
        let by_id = json!({"id": "x"});
        for (path, body) in [
            ("/manageable_volumes", json!({"volume": {"host": "aquifer@volumes#volumes", "ref": by_id}})),
            ("/manageable_snapshots", json!({"snapshot": {"volume_id": volume.id, "ref": by_id}})),
        ] {
            let alice = kit.call("alice", Method::POST, path, body.clone()).await;
            assert_eq!(alice.0, StatusCode::FORBIDDEN, "{path}: {}", alice.1);
            let admin = kit.call("admin", Method::POST, path, body).await;
            assert_eq!(admin.0, StatusCode::BAD_REQUEST, "{path}: {}", admin.1);
        }
    }
}

/// cinderclient and the `openstack` command say `provider` where the API's reference has the encryption's id.
#[tokio::test]
async fn the_encryption_of_a_type_goes_by_any_name() {
    for kit in kits().await {
        let kind = kit.add_type("sealed", json!({})).await;
        let path = format!("/types/{kind}/encryption");
        let by_name = format!("{path}/provider");
        let change = json!({"encryption": {"key_size": 512, "control_location": "back-end"}});
        let none = kit.call("admin", Method::PUT, &by_name, change.clone()).await;
        assert_eq!(none.0, StatusCode::NOT_FOUND);
        let how = json!({"provider": "luks", "cipher": "aes-xts-plain64", "key_size": 256, "control_location": "front-end"});
        kit.seal_type(&kind, how).await;
        assert_eq!(kit.call("admin", Method::PUT, &by_name, change).await.0, StatusCode::OK);
        let now = kit.get("admin", &path).await;
        assert_eq!((&now["key_size"], &now["control_location"]), (&json!(512), &json!("back-end")));
        assert_eq!((&now["provider"], &now["cipher"]), (&json!("luks"), &json!("aes-xts-plain64")));
        assert_eq!(kit.call("admin", Method::DELETE, &by_name, Value::Null).await.0, StatusCode::ACCEPTED);
        assert_eq!(kit.get("admin", &path).await, json!({}));
    }
}
