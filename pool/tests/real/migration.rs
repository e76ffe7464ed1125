//! Live migrations that were cut short where librbd itself does not find back.

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::TryStreamExt as _;
use pool::{CreateOptions, Error, Migration, Pool, WriteOp};

use crate::images::{bytes, image};
use crate::place;

const MIB: u64 = 1 << 20;

/// A source and a target place; the source has an image `i` with a snapshot, and its migration is prepared.
async fn prepared(name: &str) -> (Pool, Pool) {
    let p = place(name).await;
    let q = p.with_namespace(&testbed::unique(name));
    p.rbd().namespace_create(q.namespace()).await.unwrap();
    let i = image(&p, "i", 8 * MIB).await;
    i.write_at(MIB, bytes(1000, 4)).await.unwrap();
    i.snap_create("s").await.unwrap();
    i.write_at(5 * MIB, bytes(1000, 5)).await.unwrap();
    i.close().await.unwrap();
    p.rbd().migration_prepare("i", &q, "i", CreateOptions::default()).await.unwrap();
    assert!(!p.rbd().exists("i").await.unwrap());
    (p, q)
}

fn text(parts: &[&str]) -> Bytes {
    let mut out = BytesMut::new();
    for part in parts {
        out.put_u32_le(u32::try_from(part.len()).unwrap());
        out.put_slice(part.as_bytes());
    }
    out.freeze()
}

/// The id of what is alone in the trash.
async fn trashed(p: &Pool) -> String {
    let mut all = p.rbd().trash_list().await.unwrap();
    assert_eq!(all.len(), 1);
    let one = all.remove(0);
    assert!(one.migrating);
    one.id
}

/// The id of the target.
async fn target(q: &Pool) -> String {
    q.rbd().open_read_only("i").await.unwrap().info().await.unwrap().id
}

/// Says in a header that the migration is still being prepared.
async fn unprepare(p: &Pool, id: &str) {
    let mut state = BytesMut::new();
    state.put_u8(1);
    state.put_slice(&text(&[""]));
    p.exec(&format!("rbd_header.{id}"), "rbd", "migration_set_state", state.freeze()).await.unwrap();
}

/// Closed before it is removed: one that is open goes into the trash.
async fn remove_target(q: &Pool) {
    let target = q.rbd().open("i").await.unwrap();
    target.snap_remove_all().await.unwrap();
    target.close().await.unwrap();
    q.rbd().remove_or_trash("i").await.unwrap();
}

async fn end(p: &Pool, id: &str) {
    p.exec(&format!("rbd_header.{id}"), "rbd", "migration_remove", Bytes::new()).await.unwrap();
}

/// The source is there with all it had, and can be used and removed; the other place is empty.
async fn is_back(p: &Pool, q: &Pool) {
    assert_eq!(p.rbd().list().await.unwrap(), ["i"]);
    assert!(p.rbd().trash_list().await.unwrap().is_empty());
    assert_eq!(q.rbd().list().await.unwrap(), Vec::<String>::new());
    let left: Vec<String> = q.list().try_collect().await.unwrap();
    assert!(!left.iter().any(|o| o.starts_with("rbd_header")), "{left:?}");
    assert_eq!(p.rbd().migration_status("i").await.unwrap(), Migration::None);
    let i = p.rbd().open("i").await.unwrap();
    assert_eq!(i.read_at(MIB, 1000).await.unwrap(), bytes(1000, 4));
    assert_eq!(i.read_at(5 * MIB, 1000).await.unwrap(), bytes(1000, 5));
    assert_eq!(i.snap_list().await.unwrap().len(), 1);
    i.write_at(0, "x".into()).await.unwrap();
    i.close().await.unwrap();
    p.rbd().remove_or_trash("i").await.unwrap();
    assert!(p.rbd().list().await.unwrap().is_empty() && p.rbd().trash_list().await.unwrap().is_empty());
}

async fn recovered(p: &Pool, q: &Pool) {
    assert!(p.rbd().purge_trash().await.unwrap().is_empty(), "nobody takes it for garbage");
    for _ in 0..2 {
        p.rbd().migration_recover("i", &q.rbd(), "i").await.unwrap();
    }
    is_back(p, q).await;
}

/// librbd found no room for the target, removed it, and found none to take the source back either.
#[tokio::test]
async fn a_source_whose_target_is_gone() {
    let (p, q) = prepared("mig-gone").await;
    let id = trashed(&p).await;
    unprepare(&p, &id).await;
    let target = target(&q).await;
    end(&q, &target).await;
    remove_target(&q).await;
    recovered(&p, &q).await;
}

/// It was in the trash, and its header could not be written.
#[tokio::test]
async fn a_source_that_knows_of_no_migration() {
    let (p, q) = prepared("mig-none").await;
    let id = trashed(&p).await;
    let target = target(&q).await;
    end(&q, &target).await;
    remove_target(&q).await;
    end(&p, &id).await;
    recovered(&p, &q).await;
}

/// The target was made, but does not know yet what of.
#[tokio::test]
async fn a_target_that_knows_of_no_source() {
    let (p, q) = prepared("mig-half").await;
    let id = trashed(&p).await;
    unprepare(&p, &id).await;
    let target = target(&q).await;
    q.omap_remove(&format!("rbd_header.{target}"), vec!["migration".to_owned()]).await.unwrap();
    recovered(&p, &q).await;
}

/// Both know of it, and both are being prepared: who did so was killed. librbd waits for him for ever, as soon as somebody
/// opens the target.
#[tokio::test]
async fn a_target_that_nobody_prepares_any_more() {
    let (p, q) = prepared("mig-killed").await;
    let id = trashed(&p).await;
    let target = target(&q).await;
    unprepare(&p, &id).await;
    unprepare(&q, &target).await;
    assert_eq!(q.rbd().migration_status("i").await.unwrap(), Migration::Unsettled);
    recovered(&p, &q).await;
}

/// It was on its way back: its name leads to it, it is listed, or it is out of the trash, but in migration.
#[tokio::test]
async fn a_source_that_was_on_its_way_back() {
    for steps in 1..=3 {
        let (p, q) = prepared("mig-back").await;
        let id = trashed(&p).await;
        let target = target(&q).await;
        end(&q, &target).await;
        remove_target(&q).await;
        let calls = [
            ("rbd_id.i", "set_id", text(&[&id])),
            ("rbd_directory", "dir_add_image", text(&["i", &id])),
            ("rbd_trash", "trash_remove", text(&[&id])),
        ];
        for (object, method, input) in calls.into_iter().take(steps) {
            let op = WriteOp::new().create().exec("rbd", method, input);
            p.write_op(object, op).await.unwrap();
        }
        p.rbd().migration_recover("i", &q.rbd(), "i").await.unwrap();
        assert!(p.rbd().purge_trash().await.unwrap().is_empty());
        is_back(&p, &q).await;
    }
}

/// A target that serves is nobody's to take back.
#[tokio::test]
async fn a_target_that_serves_stays() {
    let (p, q) = prepared("mig-serves").await;
    p.rbd().migration_recover("i", &q.rbd(), "i").await.unwrap();
    p.rbd().migration_sweep("i").await.unwrap();
    assert!(p.rbd().purge_trash().await.unwrap().is_empty());
    assert_eq!(q.rbd().migration_status("i").await.unwrap(), Migration::Prepared);
    q.rbd().migration_execute("i", Box::new(|_, _| {})).await.unwrap();
    p.rbd().migration_recover("i", &q.rbd(), "i").await.unwrap();
    // The commit is cut short when the target stands on its own.
    let target = target(&q).await;
    end(&q, &target).await;
    p.rbd().migration_recover("i", &q.rbd(), "i").await.unwrap();
    for _ in 0..2 {
        p.rbd().migration_sweep("i").await.unwrap();
    }
    assert!(p.rbd().trash_list().await.unwrap().is_empty());
    assert!(matches!(p.rbd().open("i").await, Err(Error::NotFound { .. })));
    let i = q.rbd().open("i").await.unwrap();
    assert_eq!(i.read_at(MIB, 1000).await.unwrap(), bytes(1000, 4));
    assert_eq!(i.snap_list().await.unwrap().len(), 1);
    i.close().await.unwrap();
    q.rbd().remove_or_trash("i").await.unwrap();
}

/// The target says last, in its header, that it is one: a process may die before that.
#[tokio::test]
async fn a_target_that_does_not_know_itself_yet_is_only_begun() {
    let (p, q) = prepared("begun").await;
    assert!(!p.rbd().migration_is_over("i").await.unwrap());
    unprepare(&p, &trashed(&p).await).await;
    let made = format!("rbd_header.{}", target(&q).await);
    q.exec(&made, "rbd", "migration_remove", Bytes::new()).await.unwrap();
    assert_eq!(q.rbd().migration_status("i").await.unwrap(), Migration::None);
    assert!(!p.rbd().migration_is_over("i").await.unwrap());
    p.rbd().migration_recover("i", &q.rbd(), "i").await.unwrap();
    assert!(p.rbd().migration_is_over("i").await.unwrap());
    assert!(!q.rbd().exists("i").await.unwrap());
    let i = p.rbd().open("i").await.unwrap();
    assert_eq!(i.read_at(5 * MIB, 1000).await.unwrap(), bytes(1000, 5));
}
