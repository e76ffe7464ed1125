//! Encrypted volumes: what is in the pool tells nothing, QEMU opens them with the passphrase that the cloud keeps, and
//! whatever is made of them is as they are. On both databases.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use blockstore::{NewVolume, Source, Volume, VolumeEncryption, VolumeStatus};
use bytes::Bytes;
use kit::{GIB, Kit, ctx, kits, until};
use pool::EncryptionFormat;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const MARK: &[u8] = b"nobody else is to read this";

/// Makes an encrypted type.
async fn kind(kit: &Kit, name: &str, encryption: Value) -> String {
    let id = kit.add_type(name, json!({})).await;
    kit.seal_type(&id, encryption).await;
    id
}

async fn luks(kit: &Kit, provider: &str, key_size: i64) -> String {
    let settings = json!({"provider": provider, "control_location": "front-end", "cipher": "aes-xts-plain64",
        "key_size": key_size});
    kind(kit, provider, settings).await
}

async fn made(kit: &Kit, source: Source, kind: &str) -> Volume {
    let new = NewVolume { size_gib: Some(1), source, volume_type: Some(kind.into()), ..NewVolume::default() };
    let v = kit.volumes.create(&ctx("alice"), new).await.unwrap();
    kit.becomes(&v.id, VolumeStatus::Available).await
}

/// The volume, opened as its host would.
async fn unlocked(kit: &Kit, v: &Volume, luks2: bool) -> pool::Image {
    let secret = kit.volumes.passphrase(&v.id).await.unwrap().unwrap();
    let image = kit.tier.pool.rbd().open(&v.image_name()).await.unwrap();
    let how = EncryptionFormat { luks2, aes256: true };
    image.encryption_load(how, secret.0.as_bytes()).await.unwrap();
    image
}

/// A volume's passphrase and its disk, in QEMU's words.
async fn in_qemu(kit: &Kit, v: &Volume, luks2: bool, dir: &Path) -> (String, String) {
    let secret = dir.join("secret");
    std::fs::write(&secret, kit.volumes.passphrase(&v.id).await.unwrap().unwrap().0).unwrap();
    let place = [
        "driver=rbd".to_owned(),
        format!("pool={}", kit.tier.pool.name()),
        format!("namespace={}", kit.tier.pool.namespace()),
        format!("image={}", v.image_name()),
        format!("conf={}", testbed::ceph().conf.display()),
    ];
    let image = if luks2 {
        format!("{},encrypt.format=luks2,encrypt.key-secret=s", place.join(","))
    } else {
        format!("driver=luks,key-secret=s,file.{}", place.join(",file."))
    };
    (format!("secret,id=s,file={}", secret.display()), image)
}

/// Bytes of the disk that a guest has.
async fn size_in_qemu(kit: &Kit, v: &Volume, luks2: bool) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let (secret, image) = in_qemu(kit, v, luks2, dir.path()).await;
    let told = Command::new("qemu-img")
        .args(["info", "--object", &secret, "--image-opts", "--output", "json", &image])
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"));
    told["virtual-size"].as_u64().unwrap()
}

/// The first bytes, by QEMU as it opens a guest's disk: LUKS itself, LUKS2 through librbd.
async fn by_qemu(kit: &Kit, v: &Volume, luks2: bool, len: usize) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let (secret, image) = in_qemu(kit, v, luks2, dir.path()).await;
    let (image, to) = (format!("if={image}"), format!("of={}", out.display()));
    let count = format!("count={}", len.div_ceil(4096));
    let copied = Command::new("qemu-img")
        .args(["dd", "--object", &secret, "--image-opts", "-O", "raw", "bs=4096", &count, &image, &to])
        .output()
        .unwrap();
    assert!(copied.status.success(), "{copied:?}");
    let mut head = std::fs::read(&out).unwrap();
    head.truncate(len);
    head
}

async fn keys(kit: &Kit) -> i64 {
    sqlx::query_scalar("SELECT CAST(COUNT(*) AS BIGINT) FROM volume_keys")
        .fetch_one(kit.db.read())
        .await
        .unwrap()
}

async fn has_key(kit: &Kit, id: &str) -> bool {
    let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM volume_keys WHERE id = $1";
    let n: i64 = sqlx::query_scalar(sql).bind(id.to_owned()).fetch_one(kit.db.read()).await.unwrap();
    n == 1
}

#[tokio::test]
async fn a_volume_is_sealed_and_so_is_what_is_made_of_it() {
    // Opening a container costs a second by design: each database has one of the two formats.
    for (i, kit) in kits().await.into_iter().enumerate() {
        for (provider, size, luks2) in
            [("luks2", 512, true), ("luks", 256, false)].into_iter().skip(i % 2).take(1)
        {
            let kind = luks(&kit, provider, size).await;
            let v = made(&kit, Source::Empty, &kind).await;
            let image = unlocked(&kit, &v, luks2).await;
            let closed = kit.tier.pool.rbd().open(&v.image_name()).await.unwrap();
            let how = EncryptionFormat { luks2, aes256: true };
            assert!(closed.encryption_load(how, b"another passphrase").await.is_err());
            closed.close().await.unwrap();
            let had = image.size().await.unwrap();
            assert!(had < GIB, "the header is the volume's");
            image.write_at(0, Bytes::from_static(MARK)).await.unwrap();
            image.close().await.unwrap();
            // Whoever reads the pool reads a container, and nothing of what is in it.
            let raw = kit.open(&v.id).await;
            assert_eq!(raw.read_at(0, 6).await.unwrap(), &b"LUKS\xba\xbe"[..]);
            let all = raw.read_at(0, 24 << 20).await.unwrap();
            assert!(!all.windows(MARK.len()).any(|w| w == MARK));
            raw.close().await.unwrap();
            assert_eq!(by_qemu(&kit, &v, luks2, MARK.len()).await, MARK);

            let shown = kit.get("alice", &format!("/volumes/{}", v.id)).await["volume"].clone();
            assert_eq!(shown["encrypted"], true);
            let settings = kit.get("alice", &format!("/volumes/{}/encryption", v.id)).await;
            assert_eq!((&settings["provider"], &settings["key_size"]), (&json!(provider), &json!(size)));
            assert_eq!(settings["encryption_key_id"], shown["encryption_key_id"]);
            let path = format!("/volumes/{}/encryption", v.id);
            assert_eq!(kit.call("bob", Method::GET, &path, Value::Null).await.0, StatusCode::NOT_FOUND);
            let one = kit.get("alice", &format!("/volumes/{}/encryption/cipher", v.id)).await;
            assert_eq!(one, "aes-xts-plain64");
            let unmanage = json!({"os-unmanage": {}});
            let action = format!("/volumes/{}/action", v.id);
            let refused = kit.call("admin", Method::POST, &action, unmanage).await.0;
            assert_eq!(refused, StatusCode::BAD_REQUEST, "nobody would have its passphrase");
            let info = kit.act("alice", &v.id, json!({"os-initialize_connection": {"connector": {}}})).await;
            assert_eq!(info["connection_info"]["data"]["encrypted"], true);
            let held = kit.volumes.attach_begin(&ctx("alice"), &v.id, "server", Some("h")).await.unwrap();
            let format = if luks2 { VolumeEncryption::Luks2 } else { VolumeEncryption::Luks };
            assert_eq!(held.encryption, Some(format));
            kit.volumes.attach_abort(&ctx("alice"), &held.attachment.id).await.unwrap();

            // Clones: the same container, a key of their own, also after the first is gone.
            let snapshot = kit.snapshot(&v.id).await;
            let of_snapshot = made(&kit, Source::Snapshot(snapshot.clone()), &kind).await;
            let of_volume = made(&kit, Source::Volume(v.id.clone()), &kind).await;
            let ids = [&v, &of_snapshot, &of_volume].map(|v| v.encryption_key_id.clone().unwrap());
            assert!(ids[0] != ids[1] && ids[1] != ids[2]);
            kit.settled().await;
            kit.delete_snapshot(&snapshot).await;
            // Grown, it holds more.
            kit.act("alice", &of_volume.id, json!({"os-extend": {"new_size": 2}})).await;
            kit.becomes(&of_volume.id, VolumeStatus::Available).await;
            assert_eq!(size_in_qemu(&kit, &of_volume, luks2).await, had + GIB);

            // As an image: the container, and the way to its key for who may have it.
            let body = json!({"os-volume_upload_image": {"image_name": "sealed", "disk_format": "raw"}});
            let answer = kit.act("alice", &v.id, body).await["os-volume_upload_image"].clone();
            kit.becomes(&v.id, VolumeStatus::Available).await;
            let id = answer["image_id"].as_str().unwrap().to_owned();
            let uploaded = kit.images.get(&ctx("alice"), &id).await.unwrap();
            assert_ne!(
                uploaded.properties["cinder_encryption_key_id"], ids[0],
                "the volume's own goes with it"
            );
            assert_eq!(uploaded.properties["cinder_encryption_key_deletion_policy"], "on_image_deletion");
            let qcow2 = json!({"os-volume_upload_image": {"image_name": "i", "disk_format": "qcow2"}});
            let action = format!("/volumes/{}/action", v.id);
            assert_eq!(kit.call("alice", Method::POST, &action, qcow2).await.0, StatusCode::BAD_REQUEST);
            kit.settled().await;
            kit.delete(&v.id).await;
            let of_image = made(&kit, Source::Image(id.clone()), &kind).await;
            for v in [&of_snapshot, &of_volume, &of_image] {
                assert_eq!(by_qemu(&kit, v, luks2, MARK.len()).await, MARK);
                // librbd, which decrypts only LUKS2 for guests, must not meet a clone.
                let raw = kit.open(&v.id).await;
                assert_eq!(raw.parent().await.unwrap().is_none(), luks2, "{}", v.id);
                raw.close().await.unwrap();
            }
            let plain =
                NewVolume { size_gib: Some(1), source: Source::Image(id.clone()), ..NewVolume::default() };
            assert!(kit.volumes.create(&ctx("alice"), plain).await.is_err(), "not into the clear");
            // Bob's word on whose key goes with an image of his is worth nothing.
            let key = uploaded.properties["cinder_encryption_key_id"].clone();
            let bobs = imagestore::NewImage {
                properties: uploaded.properties.clone(),
                ..imagestore::NewImage::default()
            };
            let bobs = kit.images.create(&ctx("bob"), bobs).await.unwrap();
            kit.images.delete(&ctx("bob"), &bobs.id).await.unwrap();
            // Nor does a volume's go with an image that only names it.
            let named = of_image.encryption_key_id.clone().unwrap();
            let mut properties = uploaded.properties.clone();
            properties.insert("cinder_encryption_key_id".into(), named.clone());
            let mine = imagestore::NewImage { properties, ..imagestore::NewImage::default() };
            let mine = kit.images.create(&ctx("alice"), mine).await.unwrap();
            kit.images.delete(&ctx("alice"), &mine.id).await.unwrap();
            kit.settled().await;
            for id in [&key, &named] {
                assert!(has_key(&kit, id).await);
            }
            kit.images.delete(&ctx("alice"), &id).await.unwrap();
            for v in [of_snapshot, of_volume, of_image] {
                kit.delete(&v.id).await;
            }
            kit.settled().await;
            assert_eq!(keys(&kit).await, 0);
        }
    }
}

#[tokio::test]
async fn an_image_in_the_clear_is_sealed_on_its_way_in() {
    let formats = [("luks", 256, false), ("luks2", 512, true)];
    for (kit, (provider, size, luks2)) in kits().await.into_iter().zip(formats.into_iter().cycle()) {
        let kind = luks(&kit, provider, size).await;
        // With zeroes in it, which are nothing that a pool would keep.
        let noise = (0..10u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
        let content = noise.enumerate().map(|(i, b)| if (1 << 20..9 << 20).contains(&i) { 0 } else { b });
        let content = Bytes::from_iter(content);
        let image = kit.image(content.clone()).await;
        let v = made(&kit, Source::Image(image), &kind).await;
        assert!(v.bootable);
        let there = unlocked(&kit, &v, luks2).await;
        assert_eq!(there.read_at(0, content.len()).await.unwrap(), content);
        there.close().await.unwrap();
        assert!(by_qemu(&kit, &v, luks2, content.len()).await == content);
        let new = |source| NewVolume {
            size_gib: Some(1),
            source,
            volume_type: Some(kind.clone()),
            ..NewVolume::default()
        };
        // In the clear and sealed do not mix.
        let plain = kit.create(Source::Empty, Some(1)).await;
        assert!(kit.volumes.create(&ctx("alice"), new(Source::Volume(plain.id.clone()))).await.is_err());
        let settings = kit.get("alice", &format!("/volumes/{}/encryption", plain.id)).await;
        assert_eq!(settings, json!({"encryption_key_id": null}));
    }
}

#[tokio::test]
async fn a_foreign_key_opens_nothing() {
    for kit in kits().await {
        let kind = luks(&kit, "luks2", 512).await;
        let v = made(&kit, Source::Empty, &kind).await;
        let key = v.encryption_key_id.clone().unwrap();
        // Bob says of an image of his that it is encrypted with Alice's key.
        let new = imagestore::NewImage {
            disk_format: Some("raw".into()),
            container_format: Some("bare".into()),
            properties: [("cinder_encryption_key_id".to_owned(), key)].into(),
            ..imagestore::NewImage::default()
        };
        let image = kit.images.create(&ctx("bob"), new).await.unwrap();
        let body = futures::stream::iter([Ok(Bytes::from(vec![0; 1 << 20]))]);
        kit.images.upload(&ctx("bob"), &image.id, None, Box::pin(body)).await.unwrap();
        let new = NewVolume {
            size_gib: Some(1),
            source: Source::Image(image.id),
            volume_type: Some(kind.clone()),
            ..NewVolume::default()
        };
        assert!(kit.volumes.create(&ctx("bob"), new).await.is_err());
        // A transfer takes the key along, since 3.70.
        let offer = json!({"transfer": {"volume_id": v.id}});
        let (status, _) =
            kit.call_at("3.69", "alice", Method::POST, "/volume-transfers", offer.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let (status, made) = kit.call("alice", Method::POST, "/volume-transfers", offer).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{made}");
        let path = format!("/volume-transfers/{}/accept", made["transfer"]["id"].as_str().unwrap());
        let accept = json!({"accept": {"auth_key": made["transfer"]["auth_key"]}});
        assert_eq!(kit.call("bob", Method::POST, &path, accept).await.0, StatusCode::ACCEPTED);
        let body = json!({"os-volume_upload_image": {"image_name": "mine"}});
        let answer = kit.act("bob", &v.id, body).await["os-volume_upload_image"].clone();
        let id = answer["image_id"].as_str().unwrap().to_owned();
        until("the image is active", || async {
            let image = kit.images.get(&ctx("bob"), &id).await.unwrap();
            (image.status == imagestore::Status::Active).then_some(())
        })
        .await;
        let new = NewVolume {
            size_gib: Some(1),
            source: Source::Image(id),
            volume_type: Some(kind),
            ..NewVolume::default()
        };
        let back = kit.volumes.create(&ctx("bob"), new).await.unwrap();
        until("the volume is made of it", || async {
            let now = kit.volumes.get(&ctx("bob"), &back.id).await.unwrap();
            (now.status == VolumeStatus::Available).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn settings_that_cannot_be_met_are_refused() {
    for kit in kits().await {
        for (name, settings) in [
            ("plain", json!({"provider": "plain", "control_location": "front-end"})),
            (
                "cbc",
                json!({"provider": "luks", "control_location": "front-end", "cipher": "aes-cbc-essiv:sha256"}),
            ),
            ("odd", json!({"provider": "luks", "control_location": "front-end", "key_size": 100})),
        ] {
            let kind = kind(&kit, name, settings).await;
            let body = json!({"volume": {"size": 1, "volume_type": kind}});
            assert_eq!(
                kit.call("alice", Method::POST, "/volumes", body).await.0,
                StatusCode::NOT_IMPLEMENTED
            );
        }
    }
}

#[tokio::test]
async fn clones_of_clones_are_overwritten_and_unsealed() {
    for kit in kits().await {
        let kind = luks(&kit, "luks", 256).await;
        let v = made(&kit, Source::Empty, &kind).await;
        let image = unlocked(&kit, &v, false).await;
        image.write_at(0, Bytes::from_static(MARK)).await.unwrap();
        image.close().await.unwrap();
        let one = made(&kit, Source::Volume(v.id.clone()), &kind).await;
        let two = made(&kit, Source::Volume(one.id.clone()), &kind).await;
        kit.settled().await;
        let content = Bytes::from([&[7; 4096][..], &[0; 8 << 20], &[8; 4096]].concat());
        let body =
            json!({"os-reimage": {"image_id": kit.image(content.clone()).await, "reimage_reserved": false}});
        kit.act("alice", &two.id, body).await;
        kit.becomes(&two.id, VolumeStatus::Available).await;
        assert!(by_qemu(&kit, &two, false, content.len()).await == content);
        assert_eq!(by_qemu(&kit, &one, false, MARK.len()).await, MARK);

        let body = json!({"os-retype": {"new_type": "__DEFAULT__", "migration_policy": "on-demand"}});
        kit.act("alice", &one.id, body).await;
        until("it is in the clear", || async {
            let now = kit.volumes.get(&ctx("alice"), &one.id).await.unwrap();
            (now.encryption_key_id.is_none() && now.status == VolumeStatus::Available).then_some(())
        })
        .await;
        let clear = kit.open(&one.id).await;
        assert_eq!(clear.read_at(0, MARK.len()).await.unwrap(), MARK);
        clear.close().await.unwrap();
        assert_eq!(by_qemu(&kit, &v, false, MARK.len()).await, MARK);
    }
}
