//! A connection whose callbacks have stopped: it is given up, and what it held is free.

use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use pool::{Cluster, ClusterConfig, CreateOptions, Pool, WatchEvent};

use crate::{cluster, place};

const MINUTE: Duration = Duration::from_secs(60);

/// Holds threads that librados calls back on until it calls back no more; they are free when the answer is dropped.
async fn deafen(p: &Pool) -> Vec<mpsc::Sender<()>> {
    let mut held = Vec::new();
    while p.stat("o").await.is_ok() {
        assert!(held.len() < 8, "it has more threads than that");
        // The last one held may begin to be missed a moment later only.
        let Some(one) = hold(p, &format!("held-{}", held.len())).await else { break };
        held.push(one);
    }
    held
}

/// Holds one such thread, by the work on an image. `None`: nothing is answered any more.
async fn hold(p: &Pool, name: &str) -> Option<mpsc::Sender<()>> {
    let made = async {
        p.rbd().create(name, 256 << 20, CreateOptions::default()).await?;
        p.rbd().open(name).await
    };
    let image = match made.await {
        Err(e) if e.is_unavailable() => return None,
        made => made.unwrap(),
    };
    let (release, held) = mpsc::channel();
    let (tell, is_held) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let hold = std::sync::Mutex::new(move || {
        // The first calls come from the thread that asks; those after them from librados' own, which have no names.
        if std::thread::current().name().is_none() {
            tell.take().map(|tell| tell.send(()));
            let _ = held.recv();
        }
    });
    tokio::spawn(async move { image.rebuild_object_map(Box::new(move |_, _| hold.lock().unwrap()())).await });
    match tokio::time::timeout(MINUTE, is_held).await.unwrap() {
        Ok(()) => Some(release),
        // The work has failed for want of an answer.
        Err(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_calls_nobody_back_is_left() {
    let other = place("deaf").await;
    let config = ClusterConfig { timeout_s: 1, ..ClusterConfig::new("deaf", &testbed::ceph().conf) };
    let cluster = Cluster::new(config);
    let p = cluster.pool("rbd", Some(other.namespace()));
    p.write_full("o", "x".into()).await.unwrap();
    let mut watch = p.watch("o").await.unwrap();
    p.rbd().create("i", 8 << 20, CreateOptions::default()).await.unwrap();
    let image = p.rbd().open("i").await.unwrap();
    image.lock_acquire().await.unwrap();
    let client = cluster.client_id().await.unwrap();

    let release = deafen(&p).await;
    let lost = tokio::time::timeout(MINUTE, watch.next()).await.unwrap();
    assert!(matches!(lost, Some(WatchEvent::Lost(_))), "{lost:?}");
    let back = tokio::time::timeout(MINUTE, watch.next()).await.unwrap();
    assert!(matches!(back, Some(WatchEvent::Restored)), "{back:?}");
    assert_eq!(p.stat("o").await.unwrap().size, 1);
    assert_ne!(cluster.client_id().await.unwrap(), client);
    let hear = async { matches!(watch.next().await, Some(WatchEvent::Notify(_))) };
    let (heard, event) = tokio::join!(other.notify("o", Bytes::from("hello"), MINUTE), hear);
    assert!(event);
    let heard = heard.unwrap();
    assert_eq!((heard.acks.len(), heard.timed_out.len()), (1, 0), "the old watch is free");

    // The lock's owner is fenced: others write to the image.
    let before = owner_of(&other).await;
    other.rbd().open("i").await.unwrap().write_at(0, Bytes::from_static(b"written")).await.unwrap();
    assert_ne!(owner_of(&other).await, before);
    drop(release);
    // And what is let go at last changes nothing.
    let e = image.write_at(0, Bytes::from_static(b"too late")).await.unwrap_err();
    assert!(e.is_unavailable(), "{e}");
    let now = p.rbd().open("i").await.unwrap().read_at(0, 7).await.unwrap();
    assert_eq!(now, "written");
}

/// Who has the exclusive lock of the image.
async fn owner_of(p: &Pool) -> Vec<pool::LockOwner> {
    p.rbd().open("i").await.unwrap().lock_owners().await.unwrap()
}

/// A cluster that is away makes nobody deaf: the connection stays, and the operations after it work.
#[tokio::test]
async fn a_deadline_that_passed_is_no_reason_to_leave() {
    let cluster = cluster().await;
    let p = cluster.pool("rbd", Some(&testbed::unique("hears")));
    let client = cluster.client_id().await.unwrap();
    let hurried = p.with_deadline(Duration::ZERO);
    let mut unanswered = 0;
    while unanswered < 20 {
        unanswered += usize::from(hurried.write_full("o", "x".into()).await.is_err());
    }
    p.write_full("o", "y".into()).await.unwrap();
    assert_eq!(cluster.client_id().await.unwrap(), client);
}
