//! Dumps of a real Cinder's and Glance's tables (`fixtures/`, made by their own `db sync` and filled with rows of ours),
//! taken over in a real pool.

use super::*;
use api::{Context, ProjectRef};
use blockstore::{AttachStatus, NewVolume, Source, VolumeStatus};
use bytes::Bytes;
use imagestore::Form;
use pool::{ClusterConfig, Clusters, CreateOptions, Rbd, Tier, TierConfig, Tiers};
use state::{Worker, WorkerConfig};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const PROJECT: &str = "11111111111111111111111111111111";

fn id(n: u32) -> String {
    format!("{n:08x}-0000-4000-8000-000000000000")
}

fn ctx() -> Context {
    Context::service_in("tests", ProjectRef { id: PROJECT.into(), name: "p".into(), ..ProjectRef::default() })
}

struct Place {
    tiers: Tiers,
    tier: Tier,
    volumes: Arc<Volumes>,
    images: Arc<Images>,
    cinder: Dump,
    glance: Dump,
}

fn dump(text: &str, tables: &[&str]) -> Dump {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Dump::read(file.path(), tables).unwrap()
}

async fn place(db: Db) -> Place {
    let namespace = testbed::unique("adopt");
    let clusters = Clusters::connect(&[ClusterConfig::new("main", &testbed::ceph().conf)]).await.unwrap();
    let tier = |name: &str| TierConfig {
        name: name.into(),
        cluster: "main".into(),
        pool: "rbd".into(),
        data_pool: None,
        namespace: Some(namespace.clone()),
    };
    let tiers = Tiers::new(&clusters, &[tier("volumes"), tier("images")]).unwrap();
    let tier = tiers.get("volumes").unwrap();
    tier.pool.rbd().namespace_create(&namespace).await.unwrap();
    let fsid = tier.cluster.fsid().await.unwrap();
    db.migrate(&imagestore::MIGRATIONS).await.unwrap();
    db.migrate(&blockstore::MIGRATIONS).await.unwrap();
    let links = Links::new("http://127.0.0.1:1");
    let images =
        Images::new(db.clone(), tiers.clone(), imagestore::Config::default(), links.clone()).unwrap();
    let config = blockstore::Config::default();
    let volumes = Volumes::new(db, tiers.clone(), images.clone(), config, links).await.unwrap();
    let glance = include_str!("../../fixtures/glance.sql").replace("@FSID@", &fsid);
    let cinder = dump(include_str!("../../fixtures/cinder.sql"), &cinder::TABLES);
    Place { tiers, tier, volumes, images, cinder, glance: dump(&glance, &glance::TABLES) }
}

async fn image(rbd: &Rbd, name: &str, size: u64, snaps: &[&str]) {
    rbd.create(name, size, CreateOptions::default()).await.unwrap();
    let image = rbd.open(name).await.unwrap();
    image.write_at(0, Bytes::from(name.to_owned())).await.unwrap();
    for snap in snaps {
        image.snap_create(snap).await.unwrap();
        // As Cinder and Glance do.
        image.snap_protect(snap).await.unwrap();
    }
    image.close().await.unwrap();
}

/// What the dumped Cinder and Glance have in the pool, as far as it is there.
async fn fill(rbd: &Rbd) {
    let snap = format!("snapshot-{}", id(0xc1));
    image(rbd, &format!("volume-{}", id(0xb1)), 1 << 30, &[&snap]).await;
    for n in [0xb2, 0xb3, 0xb4, 0xb7, 0xb8, 0xb9, 0xba, 0xbc, 0xbd] {
        image(rbd, &format!("volume-{}", id(n)), 1 << 30, &[]).await;
    }
    for n in [0xd1, 0xd2, 0xd3, 0xd5, 0xd7] {
        image(rbd, &id(n), 1 << 20, &["snap"]).await;
    }
}

async fn adopt(p: &Place, apply: bool) -> Tally {
    let backends = Backends {
        given: [("rbd-nvme".to_owned(), "volumes".to_owned())].into(),
        tiers: p.tiers.iter().map(|t| t.name.clone()).collect(),
    };
    let mut tally = Tally::default();
    adopt_images(&p.glance, &p.tiers, &p.images, apply, &mut tally).await.unwrap();
    adopt_volumes(&p.cinder, &backends, &p.volumes, apply, &mut tally).await.unwrap();
    tally
}

#[tokio::test]
async fn what_is_there_is_taken_over_in_place() {
    for db in testbed::databases().await {
        let p = place(db.clone()).await;
        let rbd = p.tier.pool.rbd();
        fill(&rbd).await;
        let before = rbd.list().await.unwrap();
        for apply in [false, true, true] {
            let tally = adopt(&p, apply).await;
            let there = usize::from(p.images.get(&ctx(), &id(0xd1)).await.is_ok());
            assert_eq!(there == 1, apply);
            let why: Vec<_> =
                tally.conflicts.iter().map(|(k, id, why)| format!("{k} {}: {why}", &id[6..8])).collect();
            // `lost`'s backend is no tier; `__DEFAULT__` is this cloud's own.
            assert_eq!(tally.of("volume type")[2], 1, "{why:#?}");
            assert_eq!(tally.of("volume")[2], 8, "{why:#?}");
            assert_eq!(tally.of("snapshot")[2], 3, "{why:#?}");
            assert_eq!((tally.of("image")[2], tally.of("backup")[2]), (4, 1), "{why:#?}");
            for (what, text) in [
                ("volume b4", "deleting"),
                ("volume b5", "has no volume-"),
                ("volume b6", "_name_id"),
                ("volume b8", "encrypted"),
                ("volume b9", "--backend"),
                ("volume ba", "0 attachments"),
                ("volume bc", "type"),
                ("volume bd", "of 2 GiB"),
                ("image d3", "not in RBD"),
                ("image d4", "has no"),
                ("image d5", "cluster"),
                ("image d7", "queued"),
                ("backup ca", "CephBackupDriver"),
            ] {
                assert!(why.iter().any(|w| w.starts_with(what) && w.contains(text)), "{what}: {why:#?}");
            }
            let sum = |kind| tally.of(kind)[0] + tally.of(kind)[1];
            assert_eq!((sum("volume"), sum("snapshot"), sum("image"), sum("volume type")), (3, 1, 2, 2));
        }
        // The third time everything was there.
        let again = adopt(&p, true).await;
        assert!(["volume", "snapshot", "image", "volume type"].iter().all(|k| again.of(k)[0] == 0));
        assert_eq!(rbd.list().await.unwrap(), before);

        let first = p.volumes.get(&ctx(), &id(0xb1)).await.unwrap();
        assert_eq!(first.name.as_deref(), Some("it's a \"name\"\nof two lines"));
        assert_eq!(first.description.as_deref(), Some("\\ and ;"));
        assert_eq!(first.created_at.seconds_z(), "2026-01-02T03:04:05Z");
        assert_eq!(
            (first.status, first.bootable, first.type_name.as_str()),
            (VolumeStatus::Available, true, "fast")
        );
        assert_eq!(first.metadata.iter().collect::<Vec<_>>(), [(&"mark".to_owned(), &"mine".to_owned())]);
        assert_eq!(first.image_metadata["image_id"], id(0xd1));
        let second = p.volumes.get(&ctx(), &id(0xb2)).await.unwrap();
        let held = &second.attachments[0];
        assert_eq!((second.status, held.status), (VolumeStatus::InUse, AttachStatus::Attached));
        assert_eq!(
            (held.server_id.clone(), held.connector["ip"].as_str()),
            (Some(id(0xf1)), Some("192.0.2.1"))
        );
        assert_eq!(p.volumes.get(&ctx(), &id(0xb3)).await.unwrap().type_name, "__DEFAULT__");
        let picture = p.images.get(&ctx(), &id(0xd1)).await.unwrap();
        assert_eq!((picture.form, picture.tags.as_slice()), (Form::Disk, &["tagged".to_owned()][..]));
        assert_eq!(picture.properties.keys().collect::<Vec<_>>(), ["os_distro"]);
        assert!(picture.protected && picture.checksum.is_some());
        assert_eq!(p.images.get(&ctx(), &id(0xd2)).await.unwrap().form, Form::Opaque);

        lives_on(&p, &db).await;
    }
}

/// They are this cloud's now: a volume of the image, of the snapshot; and the volume goes, its protected snapshot too.
async fn lives_on(p: &Place, db: &Db) {
    let stop = CancellationToken::new();
    let worker = Worker::new(db.clone(), WorkerConfig::new("test"))
        .with_all(imagestore::operations(&p.images))
        .with_all(blockstore::operations(&p.volumes));
    let worker = tokio::spawn(worker.run(stop.clone()));
    for (source, name) in
        [(Source::Image(id(0xd1)), id(0xd1)), (Source::Snapshot(id(0xc1)), format!("volume-{}", id(0xb1)))]
    {
        let new = NewVolume { size_gib: Some(1), source, ..NewVolume::default() };
        let made = p.volumes.create(&ctx(), new).await.unwrap();
        becomes(p, &made.id, Some(VolumeStatus::Available)).await;
        let opened = p.tier.pool.rbd().open_read_only(&format!("volume-{}", made.id)).await.unwrap();
        assert_eq!(opened.read_at(0, name.len()).await.unwrap(), name.as_bytes());
        opened.close().await.unwrap();
    }
    p.volumes.delete_snapshot(&ctx(), &id(0xc1), false).await.unwrap();
    let began = Instant::now();
    while p.volumes.get_snapshot(&ctx(), &id(0xc1)).await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    p.volumes.delete(&ctx(), &id(0xb1)).await.unwrap();
    becomes(p, &id(0xb1), None).await;
    stop.cancel();
    worker.await.unwrap();
}

async fn becomes(p: &Place, id: &str, status: Option<VolumeStatus>) {
    let began = Instant::now();
    while p.volumes.get(&ctx(), id).await.ok().map(|v| v.status) != status {
        assert!(began.elapsed() < Duration::from_secs(60), "{id} does not become {status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
