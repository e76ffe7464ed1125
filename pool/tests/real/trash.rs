//! The trash, and deleting in any order.

use std::time::Duration;

use pool::{ClusterConfig, Clusters, CreateOptions, Error, Removed};

use crate::images::{bytes, image};
use crate::place;

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn move_restore_remove() {
    let p = place("trash").await;
    let rbd = p.rbd();
    image(&p, "i", MIB).await.close().await.unwrap();
    rbd.trash_move("i", Duration::from_secs(3600)).await.unwrap();
    assert!(!rbd.exists("i").await.unwrap());
    let entry = rbd.trash_list().await.unwrap().remove(0);
    assert_eq!(entry.name, "i");
    assert!(entry.kept_until > entry.deleted + Duration::from_secs(3500));
    let e = rbd.trash_remove(&entry.id, false).await.unwrap_err();
    assert!(matches!(e, Error::Permission { .. }), "{e:?}");
    assert!(rbd.purge_trash().await.unwrap().is_empty());
    rbd.trash_restore(&entry.id, "j").await.unwrap();
    assert_eq!(rbd.list().await.unwrap(), ["j"]);
    rbd.trash_move("j", Duration::ZERO).await.unwrap();
    assert_eq!(rbd.purge_trash().await.unwrap(), ["j"]);
    assert!(rbd.trash_list().await.unwrap().is_empty());
    assert!(rbd.trash_remove("none", true).await.unwrap_err().is_not_found());
    assert!(rbd.trash_move("none", Duration::ZERO).await.unwrap_err().is_not_found());
}

/// image → clone → clone of the clone; removed in every order, with a clone open the while.
#[tokio::test]
async fn a_chain_goes_in_any_order() {
    for order in
        [["a", "b", "c"], ["a", "c", "b"], ["b", "a", "c"], ["b", "c", "a"], ["c", "a", "b"], ["c", "b", "a"]]
    {
        let p = place("chain").await;
        let rbd = p.rbd();
        let a = image(&p, "a", 8 * MIB).await;
        a.write_at(0, bytes(100, 1)).await.unwrap();
        a.snap_create("s").await.unwrap();
        a.close().await.unwrap();
        rbd.clone_image("a", "s", &p, "b", CreateOptions::default()).await.unwrap();
        let b = rbd.open("b").await.unwrap();
        b.snap_create("s").await.unwrap();
        b.close().await.unwrap();
        rbd.clone_image("b", "s", &p, "c", CreateOptions::default()).await.unwrap();

        for (n, name) in order.into_iter().enumerate() {
            let removed = rbd.remove_or_trash(name).await.unwrap();
            assert_ne!(removed, Removed::Absent);
            assert_eq!(rbd.remove_or_trash(name).await.unwrap(), Removed::Absent);
            if !order[..=n].contains(&"c") {
                let c = rbd.open("c").await.unwrap();
                assert_eq!(c.read_at(0, 100).await.unwrap(), bytes(100, 1), "{order:?} after {name}");
                c.close().await.unwrap();
            }
            rbd.purge_trash().await.unwrap();
        }
        assert!(rbd.list().await.unwrap().is_empty(), "{order:?}");
        assert!(rbd.trash_list().await.unwrap().is_empty(), "{order:?}");
        rbd.namespace_remove(p.namespace()).await.unwrap();
    }
}

#[tokio::test]
async fn a_parent_goes_while_its_clone_is_open() {
    let p = place("parent").await;
    let rbd = p.rbd();
    let a = image(&p, "a", 8 * MIB).await;
    a.write_at(0, bytes(100, 1)).await.unwrap();
    a.snap_create("s").await.unwrap();
    a.close().await.unwrap();
    rbd.clone_image("a", "s", &p, "b", CreateOptions::default()).await.unwrap();
    let b = rbd.open("b").await.unwrap();
    b.write_at(4 * MIB, "x".into()).await.unwrap();
    assert_eq!(rbd.remove_or_trash("a").await.unwrap(), Removed::Trashed);
    assert!(rbd.purge_trash().await.unwrap().is_empty());
    assert_eq!(b.read_at(0, 100).await.unwrap(), bytes(100, 1));
    let parent = b.parent().await.unwrap().unwrap();
    assert!(parent.trash);
    // Flattening sets the parent free.
    b.flatten(Box::new(|_, _| {})).await.unwrap();
    assert_eq!(rbd.purge_trash().await.unwrap(), ["a"]);
    assert_eq!(b.read_at(0, 100).await.unwrap(), bytes(100, 1));
}

#[tokio::test]
async fn snapshots_go_while_clones_exist() {
    let p = place("snap-go").await;
    let rbd = p.rbd();
    let a = image(&p, "a", 8 * MIB).await;
    a.write_at(0, bytes(100, 1)).await.unwrap();
    a.snap_create("s").await.unwrap();
    rbd.clone_image("a", "s", &p, "b", CreateOptions::default()).await.unwrap();
    a.snap_remove("s").await.unwrap();
    assert!(a.snap_list().await.unwrap().is_empty());
    assert_eq!(a.snap_list_all().await.unwrap().len(), 1);
    a.snap_create("s").await.unwrap(); // the name is free
    let b = rbd.open("b").await.unwrap();
    assert_eq!(b.read_at(0, 100).await.unwrap(), bytes(100, 1));
    b.close().await.unwrap();
    rbd.remove("b").await.unwrap();
    assert_eq!(a.snap_list_all().await.unwrap().len(), 1); // only the new one
}

#[tokio::test]
async fn what_others_keep_in_the_trash_stays() {
    let p = place("trash-others").await;
    let rbd = p.rbd();
    for name in ["ours", "theirs", "with-snapshot"] {
        let i = image(&p, name, MIB).await;
        if name == "with-snapshot" {
            i.snap_create("s").await.unwrap();
        }
        i.close().await.unwrap();
        rbd.trash_move(name, Duration::ZERO).await.unwrap();
    }
    assert_eq!(rbd.purge_trash_where(|e| e.name == "ours").await.unwrap(), ["ours"]);
    assert_eq!(rbd.purge_trash().await.unwrap(), ["theirs"]);
    assert_eq!(rbd.trash_list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_image_in_use_is_not_removed() {
    let p = place("in-use").await;
    let i = image(&p, "i", MIB).await;
    let other = crate::cluster().await.pool("rbd", Some(p.namespace()));
    let e = other.rbd().remove_or_trash("i").await;
    assert!(matches!(e, Err(Error::Busy { .. })), "{e:?}");
    i.write_at(0, "x".into()).await.unwrap();
    i.close().await.unwrap();
    assert_eq!(other.rbd().remove_or_trash("i").await.unwrap(), Removed::Gone);
}

/// What a process leaves that dies in the middle of a create or a removal is a name without an image.
#[tokio::test]
async fn remnants_go_too() {
    let p = place("remnant").await;
    let rbd = p.rbd();
    for without_id in [false, true] {
        let i = image(&p, "i", MIB).await;
        let id = i.info().await.unwrap().id;
        i.close().await.unwrap();
        p.remove(&format!("rbd_header.{id}")).await.unwrap();
        if without_id {
            p.remove("rbd_id.i").await.unwrap();
        }
        assert!(rbd.open("i").await.unwrap_err().is_not_found());
        assert_eq!(rbd.list().await.unwrap(), ["i"]);
        assert_eq!(rbd.remove_or_trash("i").await.unwrap(), Removed::Gone, "{without_id}");
        assert!(rbd.list().await.unwrap().is_empty());
        assert_eq!(rbd.remove_or_trash("i").await.unwrap(), Removed::Absent);
        // The name is free again.
        image(&p, "i", MIB).await.close().await.unwrap();
        rbd.remove("i").await.unwrap();
    }
    assert!(rbd.trash_list().await.unwrap().is_empty());
    rbd.namespace_remove(p.namespace()).await.unwrap();
}

/// An image in the trash, as Ceph keeps it: its state is the last byte.
async fn entry(p: &pool::Pool, id: &str) -> Option<Vec<u8>> {
    let found = p.omap_get_keys("rbd_trash", [format!("id_{id}")]).await.ok()?;
    found.into_values().next().map(|v| v.to_vec())
}

/// Where in that it stands whose it is.
const SOURCE: usize = 6;
/// A user's, and a removal's.
const USER: u8 = 0;
const REMOVAL: u8 = 3;
/// States on the way in and out.
const MOVING: u8 = 1;
const RESTORING: u8 = 3;

/// A process that dies while it moves an image into the trash, or out of it again, leaves it in between.
#[tokio::test]
async fn what_was_cut_short_on_its_way_through_the_trash_goes() {
    for (source, state, listed) in
        [(REMOVAL, MOVING, false), (REMOVAL, MOVING, true), (REMOVAL, RESTORING, false), (USER, MOVING, true)]
    {
        let p = place("between").await;
        let rbd = p.rbd();
        let i = image(&p, "i", MIB).await;
        let id = i.info().await.unwrap().id;
        i.close().await.unwrap();
        let list = p.omap_get_all("rbd_directory", "").await.unwrap();
        rbd.trash_move("i", Duration::ZERO).await.unwrap();
        let mut value = entry(&p, &id).await.unwrap();
        value[SOURCE] = source;
        *value.last_mut().unwrap() = state;
        p.omap_set("rbd_trash", [(format!("id_{id}"), value.into())]).await.unwrap();
        if listed {
            p.omap_set("rbd_directory", list).await.unwrap();
        }
        let removed = rbd.remove_or_trash("i").await.unwrap();
        if source == USER {
            assert_eq!(removed, Removed::Trashed);
            assert_eq!(rbd.purge_trash().await.unwrap(), ["i"]);
        }
        assert!(rbd.list().await.unwrap().is_empty());
        assert!(entry(&p, &id).await.is_none(), "{source} {state} {listed}: {removed:?}");
        rbd.namespace_remove(p.namespace()).await.unwrap();
    }
}

/// By its id it is found as well, and by whoever sweeps, once it is old enough.
#[tokio::test]
async fn a_move_into_the_trash_that_was_cut_short_is_settled() {
    let p = place("moving").await;
    let rbd = p.rbd();
    for name in ["a", "b"] {
        let i = image(&p, name, MIB).await;
        let id = i.info().await.unwrap().id;
        i.close().await.unwrap();
        rbd.trash_move(name, Duration::ZERO).await.unwrap();
        let mut value = entry(&p, &id).await.unwrap();
        *value.last_mut().unwrap() = MOVING;
        let set = async |value: Vec<u8>| {
            p.omap_set("rbd_trash", [(format!("id_{id}"), value.into())]).await.unwrap();
        };
        set(value.clone()).await;
        assert!(rbd.trash_remove(&id, false).await.unwrap_err().is_busy());
        if name == "a" {
            assert!(rbd.trash_settle(&id).await.unwrap());
            assert!(!rbd.trash_settle(&id).await.unwrap());
            rbd.trash_remove(&id, false).await.unwrap();
            continue;
        }
        assert!(rbd.purge_trash().await.unwrap().is_empty());
        // An hour ago: behind the name and its length stand two times, each in seconds and nanoseconds.
        let (at, ago) = (11 + name.len(), 3600);
        for place in [at, at + 8] {
            let seconds = u32::from_le_bytes(value[place..place + 4].try_into().unwrap()) - ago;
            value[place..place + 4].copy_from_slice(&seconds.to_le_bytes());
        }
        set(value).await;
        assert!(rbd.purge_trash().await.unwrap().is_empty());
        assert_eq!(rbd.purge_trash().await.unwrap(), ["b"]);
    }
    assert!(rbd.trash_list().await.unwrap().is_empty());
    rbd.namespace_remove(p.namespace()).await.unwrap();
}

/// A renaming that was cut short leaves an image with two names, of which one is listed.
#[tokio::test]
async fn a_renaming_that_was_cut_short() {
    let p = place("renaming").await;
    let rbd = p.rbd();
    for name in ["old", "other"] {
        image(&p, name, MIB).await.close().await.unwrap();
    }
    let id = p.read("rbd_id.old", 0, 100).await.unwrap();
    let cut_short = || p.write_full("rbd_id.new", id.clone());
    // The other name goes alone,
    cut_short().await.unwrap();
    rbd.remove_or_trash("new").await.unwrap();
    assert_eq!(rbd.list().await.unwrap(), ["old", "other"]);
    // or the renaming is done again. What is another image's name stays.
    cut_short().await.unwrap();
    let r = rbd.rename("old", "other").await;
    assert!(matches!(r, Err(Error::Exists { .. })), "{r:?}");
    rbd.rename("old", "new").await.unwrap();
    assert_eq!(rbd.list().await.unwrap(), ["new", "other"]);
    for name in ["new", "other"] {
        rbd.remove(name).await.unwrap();
    }
    rbd.namespace_remove(p.namespace()).await.unwrap();
}

/// The same place, as another process sees it: which removals are under way here is kept by the cluster's name.
async fn elsewhere(p: &pool::Pool) -> pool::Pool {
    let config = ClusterConfig::new("elsewhere", &testbed::ceph().conf);
    let cluster = Clusters::connect(&[config]).await.unwrap().get("elsewhere").unwrap();
    cluster.pool(p.name(), Some(p.namespace()))
}

/// Of those who remove an image at the same time one does; the others hear that it is busy, or gone. librbd alone lets one
/// more begin when the first has closed the image, and ends the process when the first then removes its header.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_removed_by_many_at_once() {
    let p = place("at-once").await;
    let other = elsewhere(&p).await;
    for n in 0..12 {
        let i = image(&p, &format!("i{n}"), 1 << 30).await;
        futures::future::join_all((0..64).map(|n| i.write_at(n * 16 * MIB, bytes(512, 1)))).await;
        i.close().await.unwrap();
        p.rbd().trash_move(&format!("i{n}"), Duration::ZERO).await.unwrap();
        let id = p.rbd().trash_list().await.unwrap().remove(0).id;
        let remove = async |pool: &pool::Pool| {
            loop {
                match pool.rbd().trash_remove(&id, false).await {
                    Ok(()) | Err(Error::NotFound { .. }) => return,
                    Err(Error::Busy { .. }) => tokio::task::yield_now().await,
                    Err(e) => panic!("{e}"),
                }
            }
        };
        tokio::join!(remove(&p), remove(&other), remove(&p), remove(&other), remove(&p));
        assert!(p.rbd().trash_list().await.unwrap().is_empty());
    }
}

/// Who removes an image has a lock on it, also between processes, and gives it back where it cannot go.
#[tokio::test]
async fn the_lock_of_a_removal_is_kept_and_given_back() {
    let p = place("alone").await;
    let (rbd, other) = (p.rbd(), elsewhere(&p).await);
    let i = image(&p, "i", MIB).await;
    i.snap_create("s").await.unwrap();
    let header = format!("rbd_header.{}", i.info().await.unwrap().id);
    let held = async |by: &pool::Pool| by.get_xattr(&header, "lock.aquifer.removal").await;
    for from in [&p, &other] {
        assert!(from.rbd().remove("i").await.unwrap_err().is_busy());
    }
    i.snap_remove("s").await.unwrap();
    i.close().await.unwrap();
    assert!(held(&p).await.is_ok(), "no lock was ever taken");
    other.rbd().remove("i").await.unwrap();
    assert!(!rbd.exists("i").await.unwrap());
    // Not even a header without an image is left.
    assert!(p.stat(&header).await.unwrap_err().is_not_found());
}
