//! A volume as an image of every format that may be asked for: what is downloaded is what QEMU reads the volume's bytes from.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use blockstore::{Source, VolumeStatus};
use bytes::Bytes;
use kit::{GIB, Tokens, ctx, kits};
use reqwest::{Method, StatusCode};
use serde_json::json;
use std::process::Command;
use std::sync::Arc;

/// The images' API beside the volumes'; its URL.
async fn images(kit: &kit::Kit) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/image/v2/images", listener.local_addr().unwrap());
    let router = imagestore::router(kit.images.clone(), Arc::new(Tokens));
    tokio::spawn(api::server::serve(listener, router, tokio_util::sync::CancellationToken::new()));
    url
}

#[tokio::test]
async fn an_upload_in_every_format_holds_the_volume() {
    let dir = tempfile::tempdir().unwrap();
    for kit in kits().await {
        let url = images(&kit).await;
        let v = kit.create(Source::Empty, Some(1)).await;
        let (there, mut raw) = (kit.tier.pool.rbd().open(&v.image_name()).await.unwrap(), vec![0u8; 1 << 30]);
        for (off, len) in [(0usize, 1usize << 20), (9 << 20, 70_000), ((1 << 30) - 4096, 4096)] {
            let data: Vec<u8> = (0..len).map(|i| u8::try_from((i + off) % 251).unwrap() | 1).collect();
            raw[off..off + len].copy_from_slice(&data);
            there.write_at(off as u64, data.into()).await.unwrap();
        }
        there.close().await.unwrap();
        let disk = dir.path().join("disk.raw");
        std::fs::write(&disk, &raw).unwrap();
        for (format, qemu) in
            [("qcow2", "qcow2"), ("vmdk", "vmdk"), ("vdi", "vdi"), ("vhd", "vpc"), ("vhdx", "vhdx")]
        {
            let body = json!({"os-volume_upload_image": {"image_name": format, "disk_format": format}});
            let answer = kit.act("alice", &v.id, body).await["os-volume_upload_image"].clone();
            assert_eq!(answer["disk_format"], format);
            let id = answer["image_id"].as_str().unwrap().to_owned();
            kit.becomes(&v.id, VolumeStatus::Available).await;
            let image = kit.images.get(&ctx("alice"), &id).await.unwrap();
            assert_eq!(image.status, imagestore::Status::Active, "{format}");
            assert!(image.checksum.is_some() && image.size.unwrap() < 64 << 20, "{format}: {:?}", image.size);
            let file = dir.path().join("downloaded");
            let request =
                reqwest::Client::new().get(format!("{url}/{id}/file")).header("x-auth-token", "alice");
            let bytes: Bytes =
                request.send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap();
            std::fs::write(&file, &bytes).unwrap();
            let done = Command::new("qemu-img")
                .args(["compare", "-f", "raw", "-F", qemu])
                .args([&disk, &file])
                .output()
                .unwrap();
            assert!(done.status.success(), "{format}: {done:?}");
            // The cloud's own readers agree.
            let back = kit.create(Source::Image(id.clone()), Some(1)).await;
            let read = kit.open(&back.id).await;
            assert_eq!(read.size().await.unwrap(), GIB);
            assert_eq!(
                read.read_at(9 << 20, 70_000).await.unwrap(),
                raw[9 << 20..(9 << 20) + 70_000],
                "{format}"
            );
            read.close().await.unwrap();
            kit.delete(&back.id).await;
            kit.images.delete(&ctx("alice"), &id).await.unwrap();
        }
        for wrong in [
            json!({"image_name": "i", "disk_format": "iso"}),
            json!({"image_name": "i", "container_format": "compressed"}),
        ] {
            let path = format!("/volumes/{}/action", v.id);
            let (status, _) =
                kit.call("alice", Method::POST, &path, json!({"os-volume_upload_image": wrong})).await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
        }
    }
}
