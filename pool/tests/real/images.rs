//! Images: data, snapshots, clones, metadata, locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use pool::{CreateOptions, Error, Extent, Image, Pool, SnapshotKind, features};

use crate::{cluster, place};

const MIB: u64 = 1 << 20;

pub(crate) async fn image(p: &Pool, name: &str, size: u64) -> Image {
    p.rbd().create(name, size, CreateOptions::default()).await.unwrap();
    p.rbd().open(name).await.unwrap()
}

pub(crate) fn bytes(n: usize, seed: u8) -> Bytes {
    (0..n).map(|i| (i / 251) as u8 ^ seed | 1).collect::<Vec<_>>().into()
}

const LUKS2: pool::EncryptionFormat = pool::EncryptionFormat { luks2: true, aes256: true };

#[tokio::test]
async fn life() {
    let p = place("image").await;
    let rbd = p.rbd();
    assert!(rbd.open("i").await.unwrap_err().is_not_found());
    assert!(!rbd.exists("i").await.unwrap());
    assert!(matches!(rbd.create("", MIB, CreateOptions::default()).await, Err(Error::Invalid { .. })));
    rbd.create("i", 10 * MIB, CreateOptions::default()).await.unwrap();
    assert!(rbd.create("i", MIB, CreateOptions::default()).await.unwrap_err().is_exists());
    assert!(rbd.exists("i").await.unwrap());
    let i = rbd.open("i").await.unwrap();
    let info = i.info().await.unwrap();
    assert_eq!((info.size, info.order, info.object_size, info.parent), (10 * MIB, 22, 4 * MIB, None));
    assert_eq!(info.features & features::EXCLUSIVE_LOCK, features::EXCLUSIVE_LOCK);
    let id = info.id;

    i.resize(20 * MIB, false).await.unwrap();
    assert!(matches!(i.resize(MIB, false).await, Err(Error::Invalid { .. })));
    assert_eq!(i.size().await.unwrap(), 20 * MIB);
    i.resize(MIB, true).await.unwrap();
    i.close().await.unwrap();

    rbd.rename("i", "j").await.unwrap();
    assert!(rbd.rename("i", "k").await.unwrap_err().is_not_found());
    rbd.create("k", MIB, CreateOptions::default()).await.unwrap();
    assert!(rbd.rename("j", "k").await.unwrap_err().is_exists());
    assert_eq!(rbd.list().await.unwrap(), ["j", "k"]);
    let j = rbd.open_by_id(&id, true).await.unwrap();
    assert_eq!(j.size().await.unwrap(), MIB);
    assert!(matches!(j.write_at(0, "x".into()).await, Err(Error::ReadOnly { .. })));
    j.close().await.unwrap();
    for n in ["j", "k"] {
        rbd.remove(n).await.unwrap();
    }
    assert!(rbd.remove("j").await.unwrap_err().is_not_found());
    assert!(rbd.list().await.unwrap().is_empty());
    rbd.namespace_remove(p.namespace()).await.unwrap();
    assert!(!rbd.namespace_exists(p.namespace()).await.unwrap());
}

#[tokio::test]
async fn options() {
    let p = place("options").await;
    let options = CreateOptions {
        order: Some(20),
        features: Some(features::LAYERING),
        stripe: None,
        data_pool: Some("rbd".into()),
    };
    p.rbd().create("i", MIB, options).await.unwrap();
    let i = p.rbd().open("i").await.unwrap();
    let info = i.info().await.unwrap();
    assert_eq!(info.order, 20);
    assert_eq!(info.features & !features::DATA_POOL, features::LAYERING);
    i.update_features(features::EXCLUSIVE_LOCK, true).await.unwrap();
    assert!(i.info().await.unwrap().features & features::EXCLUSIVE_LOCK != 0);
    let bad = CreateOptions { data_pool: Some("no-such-pool".into()), ..Default::default() };
    assert!(p.rbd().create("j", MIB, bad).await.unwrap_err().is_not_found());
    let bad = CreateOptions { order: Some(60), ..Default::default() };
    assert!(matches!(p.rbd().create("j", MIB, bad).await, Err(Error::Invalid { .. } | Error::Range { .. })));
}

#[tokio::test]
async fn data() {
    let p = place("image-data").await;
    let i = image(&p, "i", 12 * MIB).await;
    assert!(i.read_at(0, MIB as usize).await.unwrap().iter().all(|b| *b == 0));
    let data = bytes(5 * MIB as usize, 3);
    i.write_at(3 * MIB - 7, data.clone()).await.unwrap(); // across objects
    i.flush().await.unwrap();
    assert_eq!(i.read_at(3 * MIB - 7, data.len()).await.unwrap(), data);
    assert_eq!(i.used_bytes().await.unwrap(), 8 * MIB);

    i.write_zeroes(3 * MIB, 100).await.unwrap();
    let back = i.read_at(3 * MIB - 7, 200).await.unwrap();
    assert!(back[..7] == data[..7] && back[7..107].iter().all(|b| *b == 0) && back[107..] == data[107..200]);
    i.discard(4 * MIB, 4 * MIB).await.unwrap();
    assert!(i.read_at(4 * MIB, 4 * MIB as usize).await.unwrap().iter().all(|b| *b == 0));
    assert_eq!(i.used_bytes().await.unwrap(), 4 * MIB);

    i.compare_and_write(0, Bytes::from(vec![0; 512]), bytes(512, 1)).await.unwrap();
    let e = i.compare_and_write(0, Bytes::from(vec![0; 512]), bytes(512, 2)).await.unwrap_err();
    assert!(e.is_cancelled());
    assert_eq!(i.read_at(0, 512).await.unwrap(), bytes(512, 1));

    // Beyond the end.
    assert!(matches!(i.write_at(12 * MIB, "x".into()).await, Err(Error::Invalid { .. })));
    assert!(matches!(i.read_at(13 * MIB, 1).await, Err(Error::Invalid { .. })));
    assert_eq!(i.read_at(12 * MIB - 3, 10).await.unwrap().len(), 3);
    // An empty image.
    let e = image(&p, "empty", 0).await;
    assert!(matches!(e.read_at(0, 1).await, Ok(b) if b.is_empty()) || e.read_at(0, 1).await.is_err());
    assert_eq!(e.used_bytes().await.unwrap(), 0);
}

#[tokio::test]
async fn snapshots() {
    let p = place("snaps").await;
    let i = image(&p, "i", 8 * MIB).await;
    i.write_at(0, bytes(100, 1)).await.unwrap();
    i.snap_create("a").await.unwrap();
    assert!(i.snap_create("a").await.unwrap_err().is_exists());
    i.write_at(0, bytes(100, 2)).await.unwrap();
    i.write_at(5 * MIB, bytes(100, 2)).await.unwrap();
    i.resize(16 * MIB, false).await.unwrap();
    i.snap_create("b").await.unwrap();
    let list = i.snap_list().await.unwrap();
    let brief: Vec<_> = list.iter().map(|s| (s.name.as_str(), s.size, s.kind)).collect();
    assert_eq!(brief, [("a", 8 * MIB, SnapshotKind::User), ("b", 16 * MIB, SnapshotKind::User)]);

    let a = p.rbd().open_snapshot("i", "a").await.unwrap();
    assert_eq!(a.read_at(0, 100).await.unwrap(), bytes(100, 1));
    assert_eq!(a.size().await.unwrap(), 8 * MIB);
    assert!(a.write_at(0, "x".into()).await.is_err());
    assert!(p.rbd().open_snapshot("i", "none").await.unwrap_err().is_not_found());
    a.close().await.unwrap();

    let whole = i.diff_iterate(Some("a"), 0, 16 * MIB, true).await.unwrap();
    let ranges: Vec<_> = whole.iter().map(|e| (e.off, e.len, e.exists)).collect();
    assert_eq!(ranges, [(0, 4 * MIB, true), (4 * MIB, 4 * MIB, true)]);
    let exact = i.diff_iterate(Some("a"), 5 * MIB, MIB, false).await.unwrap();
    assert_eq!(exact.iter().map(|e| e.len).sum::<u64>(), 100, "{exact:?}");

    i.snap_rename("b", "c").await.unwrap();
    assert!(i.snap_exists("c").await.unwrap() && !i.snap_exists("b").await.unwrap());
    i.snap_protect("a").await.unwrap();
    i.snap_protect("a").await.unwrap();
    assert!(i.snap_is_protected("a").await.unwrap());
    i.snap_unprotect("a").await.unwrap();
    i.snap_unprotect("a").await.unwrap();
    i.snap_rollback("a", Box::new(|_, _| {})).await.unwrap();
    assert_eq!(i.read_at(0, 100).await.unwrap(), bytes(100, 1));
    assert_eq!(i.size().await.unwrap(), 8 * MIB);
    assert!(p.rbd().remove("i").await.unwrap_err().is_busy());
    i.snap_protect("c").await.unwrap();
    i.snap_remove_all().await.unwrap();
    assert!(i.snap_remove("a").await.unwrap_err().is_not_found());
    i.close().await.unwrap();
    p.rbd().remove("i").await.unwrap();
}

/// librbd alone ends the process within a few thousand rounds.
#[tokio::test]
async fn a_snapshot_is_closed_as_soon_as_it_is_open() {
    let p = place("at-once").await;
    let i = image(&p, "i", 8 * MIB).await;
    i.snap_create("a").await.unwrap();
    let rounds = async || {
        for _ in 0..600 {
            p.rbd().open_snapshot("i", "a").await.unwrap().close().await.unwrap();
        }
    };
    tokio::join!(rounds(), rounds(), rounds(), rounds());
}

#[tokio::test]
async fn clones_across_namespaces() {
    let p = place("clone").await;
    let q = p.with_namespace(&testbed::unique("clone-child"));
    p.rbd().namespace_create(q.namespace()).await.unwrap();
    let i = image(&p, "base", 8 * MIB).await;
    i.write_at(0, bytes(1000, 1)).await.unwrap();
    i.snap_create("snap").await.unwrap();

    p.rbd().clone_image("base", "snap", &q, "child", CreateOptions::default()).await.unwrap();
    let again = p.rbd().clone_image("base", "snap", &q, "child", CreateOptions::default()).await;
    assert!(again.unwrap_err().is_exists());
    let none = p.rbd().clone_image("base", "none", &q, "c", CreateOptions::default()).await;
    assert!(none.unwrap_err().is_not_found());
    let elsewhere = cluster().await.pool("rbd", None);
    let other = p.rbd().clone_image("base", "snap", &elsewhere, "c", CreateOptions::default()).await;
    assert!(matches!(other, Err(Error::Invalid { .. })));

    let child = q.rbd().open("child").await.unwrap();
    let parent = child.parent().await.unwrap().unwrap();
    assert_eq!((parent.name.as_str(), parent.snap.as_deref()), ("base", Some("snap")));
    assert_eq!((parent.namespace.as_str(), parent.trash), (p.namespace(), false));
    assert_eq!(child.info().await.unwrap().overlap, 8 * MIB);
    assert_eq!(child.used_bytes().await.unwrap(), 0);
    assert_eq!(child.read_at(0, 1000).await.unwrap(), bytes(1000, 1));
    child.write_at(10, "changed".into()).await.unwrap();
    assert_eq!(child.used_bytes().await.unwrap(), 4 * MIB);
    assert_eq!(i.read_at(0, 1000).await.unwrap(), bytes(1000, 1));

    let children = i.children().await.unwrap();
    assert_eq!(children.len(), 1);
    assert_eq!((children[0].name.as_str(), children[0].namespace.as_str()), ("child", q.namespace()));
    // A clone of the clone.
    child.snap_create("s").await.unwrap();
    q.rbd().clone_image("child", "s", &p, "grandchild", CreateOptions::default()).await.unwrap();
    assert_eq!(i.descendants().await.unwrap().len(), 2);
    let g = p.rbd().open("grandchild").await.unwrap();
    assert_eq!(&g.read_at(10, 7).await.unwrap()[..], b"changed");

    let seen = Arc::new(AtomicU64::new(0));
    let count = seen.clone();
    g.flatten(Box::new(move |_, total| count.store(total, Ordering::Relaxed))).await.unwrap();
    assert!(seen.load(Ordering::Relaxed) > 0);
    assert!(g.parent().await.unwrap().is_none());
    g.flatten(Box::new(|_, _| {})).await.unwrap();
    assert_eq!(&g.read_at(10, 7).await.unwrap()[..], b"changed");
    assert!(child.children().await.unwrap().is_empty());
}

#[tokio::test]
async fn metadata() {
    let p = place("meta").await;
    let i = image(&p, "i", MIB).await;
    assert!(i.metadata_get("a").await.unwrap_err().is_not_found());
    assert!(i.metadata_list().await.unwrap().is_empty());
    let long = "v".repeat(3000);
    i.metadata_set("long", &long).await.unwrap();
    assert_eq!(i.metadata_get("long").await.unwrap(), long);
    for n in 0..200 {
        i.metadata_set(&format!("k{n}"), &format!("v{n}")).await.unwrap();
    }
    i.metadata_set("empty", "").await.unwrap();
    let all = i.metadata_list().await.unwrap();
    assert_eq!(all.len(), 202);
    assert_eq!((all["k17"].as_str(), all["empty"].as_str(), all["long"].len()), ("v17", "", 3000));
    i.metadata_remove("k17").await.unwrap();
    i.metadata_remove("k17").await.unwrap();
    assert_eq!(i.metadata_list().await.unwrap().len(), 201);
}

#[tokio::test]
async fn locks() {
    let p = place("lock").await;
    let i = image(&p, "i", MIB).await;
    assert!(i.lock_owners().await.unwrap().is_empty());
    i.lock_acquire().await.unwrap();
    assert!(i.lock_owned().await.unwrap());
    let owners = i.lock_owners().await.unwrap();
    assert_eq!(owners.len(), 1);
    // Somebody else cannot take it; nor write.
    let other = cluster().await.pool("rbd", Some(p.namespace()));
    let j = other.rbd().open("i").await.unwrap();
    let refused = j.lock_acquire().await.unwrap_err();
    assert!(matches!(refused, Error::Busy { .. } | Error::ReadOnly { .. }), "{refused:?}");
    let watchers = i.watchers().await.unwrap();
    assert_eq!(watchers.len(), 2);
    let ours = p.cluster().client_id().await.unwrap();
    assert!(watchers.iter().any(|w| w.client as u64 == ours));
    i.lock_release().await.unwrap();
    assert!(!i.lock_owned().await.unwrap());
    j.lock_acquire().await.unwrap();
    j.write_at(0, "x".into()).await.unwrap();
    j.lock_release().await.unwrap();
    // Open for writing elsewhere: not removable.
    i.close().await.unwrap();
    assert!(p.rbd().remove("i").await.unwrap_err().is_busy());
    j.close().await.unwrap();
    p.rbd().remove("i").await.unwrap();
}

#[tokio::test]
async fn a_broken_lock_fences_and_the_fenced_client_comes_back() {
    let p = place("fence").await;
    let i = image(&p, "i", MIB).await;
    i.lock_acquire().await.unwrap();
    let other = cluster().await.pool("rbd", Some(p.namespace()));
    let j = other.rbd().open("i").await.unwrap();
    let owner = j.lock_owners().await.unwrap().remove(0);
    j.lock_break(&owner).await.unwrap();
    j.lock_acquire().await.unwrap();
    j.write_at(0, "mine".into()).await.unwrap();
    // The fenced client's writes fail, until it has connected anew.
    let e = p.write_full("o", "x".into()).await.unwrap_err();
    assert!(matches!(e, Error::Unreachable { .. }), "{e:?}");
    p.write_full("o", "x".into()).await.unwrap();
    assert_eq!(&p.rbd().open_read_only("i").await.unwrap().read_at(0, 4).await.unwrap()[..], b"mine");
}

#[tokio::test]
async fn encryption() {
    let p = place("luks").await;
    let luks1 = pool::EncryptionFormat { luks2: false, aes256: false };
    for (name, how) in [("two", LUKS2), ("one", luks1)] {
        let i = image(&p, name, 64 * MIB).await;
        i.encryption_format(how, b"secret").await.unwrap();
        let size = i.size().await.unwrap();
        assert!((40 * MIB..64 * MIB).contains(&size), "{size}");
        i.write_at(0, bytes(4096, 9)).await.unwrap();
        i.close().await.unwrap();
        let i = p.rbd().open(name).await.unwrap();
        assert_eq!(&i.read_at(0, 4).await.unwrap()[..], b"LUKS");
        match how.luks2 {
            true => assert!(matches!(i.luks_payload().await, Err(Error::Invalid { .. }))),
            false => assert_eq!(i.luks_payload().await.unwrap(), 64 * MIB - size),
        }
        assert!(matches!(i.encryption_load(how, b"wrong").await, Err(Error::Permission { .. })));
        i.encryption_load(how, b"secret").await.unwrap();
        assert_eq!(i.read_at(0, 4096).await.unwrap(), bytes(4096, 9));
    }
    // What librbd would do to the parents of a clone ends in memory that was freed.
    let i = p.rbd().open("two").await.unwrap();
    i.snap_create("s").await.unwrap();
    i.close().await.unwrap();
    p.rbd().clone_image("two", "s", &p, "clone", CreateOptions::default()).await.unwrap();
    let i = p.rbd().open("clone").await.unwrap();
    assert!(matches!(i.encryption_load(LUKS2, b"secret").await, Err(Error::Invalid { .. })));
    i.flatten(Box::new(|_, _| {})).await.unwrap();
    i.encryption_load(LUKS2, b"secret").await.unwrap();
    assert_eq!(i.read_at(0, 4096).await.unwrap(), bytes(4096, 9));
    // The key is as random as the volume's own: stretching it would cost seconds at every opening.
    let header = p.rbd().open_read_only("two").await.unwrap().read_at(4096, 12 << 10).await.unwrap();
    let text = header.split(|b| *b == 0).next().unwrap();
    let header: serde_json::Value = serde_json::from_slice(text).unwrap();
    let kdf = &header["keyslots"]["0"]["kdf"];
    assert_eq!((&kdf["type"], &kdf["iterations"]), (&"pbkdf2".into(), &1000.into()), "{header}");
    assert_eq!(header["digests"]["0"]["iterations"], 1000);
    // One that is too small stays as it is.
    let small = image(&p, "small", 4 * MIB).await;
    assert!(matches!(small.encryption_format(LUKS2, b"secret").await, Err(Error::NoSpace { .. })));
    assert_eq!(&small.read_at(0, 4).await.unwrap()[..], [0; 4]);
}

#[tokio::test]
async fn migration() {
    let p = place("migrate").await;
    let q = p.with_namespace(&testbed::unique("migrate-to"));
    p.rbd().namespace_create(q.namespace()).await.unwrap();
    let i = image(&p, "i", 8 * MIB).await;
    i.write_at(MIB, bytes(1000, 4)).await.unwrap();
    i.close().await.unwrap();
    p.rbd().migration_prepare("i", &q, "moved", CreateOptions::default()).await.unwrap();
    let moved = q.rbd().open("moved").await.unwrap();
    assert_eq!(moved.read_at(MIB, 1000).await.unwrap(), bytes(1000, 4));
    moved.close().await.unwrap();
    q.rbd().migration_execute("moved", Box::new(|_, _| {})).await.unwrap();
    q.rbd().migration_commit("moved").await.unwrap();
    assert!(!p.rbd().exists("i").await.unwrap());
    let moved = q.rbd().open_read_only("moved").await.unwrap();
    assert_eq!(moved.read_at(MIB, 1000).await.unwrap(), bytes(1000, 4));
}

#[tokio::test]
async fn handles_are_closed_in_any_order() {
    let p = place("close").await;
    let i = image(&p, "i", 8 * MIB).await;
    let j = i.clone();
    let writing = tokio::spawn(async move { j.write_at(0, bytes(4 << 20, 1)).await });
    i.close().await.unwrap(); // waits for the clone
    writing.await.unwrap().unwrap();
    assert!(p.rbd().open_read_only("i").await.unwrap().watchers().await.unwrap().is_empty());
    // Opening that nobody waits for leaves nothing open.
    for _ in 0..20 {
        let rbd = p.rbd();
        let opening = tokio::spawn(async move { rbd.open("i").await.map(drop) });
        tokio::task::yield_now().await;
        opening.abort();
        let _ = opening.await;
    }
    let i = p.rbd().open("i").await.unwrap();
    i.write_at(0, "x".into()).await.unwrap();
    i.close().await.unwrap();
    // The dropped handles close in the background; removal waits for nobody, so look until they have.
    let mut left = usize::MAX;
    for _ in 0..200 {
        let look = p.rbd().open_read_only("i").await.unwrap();
        left = look.watchers().await.unwrap().len();
        if left == 0 {
            break;
        }
    }
    assert_eq!(left, 0);
    p.rbd().remove("i").await.unwrap();
}

#[tokio::test]
async fn diffs_of_clones() {
    let p = place("diff-clone").await;
    let i = image(&p, "i", 16 * MIB).await;
    i.write_at(0, bytes(10, 1)).await.unwrap();
    i.snap_create("s").await.unwrap();
    p.rbd().clone_image("i", "s", &p, "c", CreateOptions::default()).await.unwrap();
    let c = p.rbd().open("c").await.unwrap();
    c.write_at(9 * MIB, bytes(10, 1)).await.unwrap();
    let all = c.diff_iterate(None, 0, 16 * MIB, true).await.unwrap();
    let want = |off| Extent { off, len: 4 * MIB, exists: true };
    assert_eq!(all, [want(0), want(8 * MIB)]);
    assert_eq!(c.used_bytes().await.unwrap(), 4 * MIB);
}

/// A rollback whose caller has given up goes on in librbd. Another one waits for it, and what is written after that stays.
#[tokio::test]
async fn a_rollback_never_begins_again_behind_another() {
    let p = place("rollback").await;
    let small = CreateOptions { order: Some(12), ..CreateOptions::default() };
    p.rbd().create("i", 8 << 20, small).await.unwrap();
    let image = p.rbd().open("i").await.unwrap();
    let fill = |byte| image.write_at(0, bytes(8 << 20, byte));
    fill(1).await.unwrap();
    image.snap_create("s").await.unwrap();
    fill(2).await.unwrap();

    let other = cluster().await.pool("rbd", Some(p.namespace())).rbd().open("i").await.unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let begun = other.snap_rollback("s", Box::new(move |done, _| tell.send(done).unwrap_or(())));
    tokio::select! {
        biased;
        _ = told.recv() => {}
        _ = begun => {}
    }
    drop(other);
    let began = std::time::Instant::now();
    while let Err(e) = image.snap_rollback("s", Box::new(|_, _| {})).await {
        assert!(e.is_busy() && began.elapsed().as_secs() < 60, "{e}");
    }
    fill(3).await.unwrap();
    // Until the first call has ended, and dropped what it told of itself to.
    while told.recv().await.is_some() {}
    assert!(image.read_at(0, 8 << 20).await.unwrap() == bytes(8 << 20, 3), "what was written is set back");
}

#[tokio::test]
async fn how_deep_clones_of_clones_are() {
    let p = place("depth").await;
    let mut last = image(&p, "0", 8 * MIB).await;
    assert_eq!(last.depth().await.unwrap(), 0);
    for n in 1..=3u32 {
        last.snap_create("s").await.unwrap();
        last.close().await.unwrap();
        let (from, to) = ((n - 1).to_string(), n.to_string());
        p.rbd().clone_image(&from, "s", &p, &to, CreateOptions::default()).await.unwrap();
        last = p.rbd().open(&to).await.unwrap();
        assert_eq!(last.depth().await.unwrap(), n);
    }
    // What is flattened is so at its snapshots, too, also at one that only a clone keeps.
    let middle = p.rbd().open("2").await.unwrap();
    middle.flatten(Box::new(|_, _| {})).await.unwrap();
    middle.snap_remove("s").await.unwrap();
    assert_eq!(middle.depth().await.unwrap(), 0);
    middle.close().await.unwrap();
    assert_eq!(last.depth().await.unwrap(), 1);

    last.flatten(Box::new(|_, _| {})).await.unwrap();
    assert_eq!(last.depth().await.unwrap(), 0);
}
