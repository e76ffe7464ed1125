//! Watches and notifications.

use std::time::Duration;

use pool::WatchEvent;

use crate::{cluster, space};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn notifications_are_heard_and_answered() {
    let p = space("watch").await;
    assert!(p.watch("o").await.unwrap_err().is_not_found());
    p.write_full("o", "x".into()).await.unwrap();
    let alone = p.notify("o", "anybody?".into(), SECOND).await.unwrap();
    assert_eq!((alone.acks.len(), alone.timed_out.len()), (0, 0));

    let mut a = p.watch("o").await.unwrap();
    let mut b = p.watch("o").await.unwrap();
    let other = cluster().await.pool("rbd", Some(p.namespace()));
    let notifier = tokio::spawn(async move { other.notify("o", "hello".into(), 10 * SECOND).await });
    let Some(WatchEvent::Notify(n)) = a.next().await else { panic!() };
    assert_eq!(n.data, "hello");
    n.ack(b"answer");
    let Some(WatchEvent::Notify(n)) = b.next().await else { panic!() };
    drop(n);
    let heard = notifier.await.unwrap().unwrap();
    let mut answers: Vec<_> = heard.acks.iter().map(|a| a.answer.clone()).collect();
    answers.sort();
    assert_eq!(answers, ["", "answer"]);
    assert!(heard.timed_out.is_empty());

    // One that does not answer in time is named.
    drop(b);
    let silent = tokio::join!(p.notify("o", "hello?".into(), SECOND), a.next());
    let outcome = silent.0.unwrap();
    assert_eq!(outcome.timed_out.len(), 1, "{outcome:?}");
    drop(silent.1);
}

#[tokio::test]
async fn a_watch_ends_with_its_object() {
    let p = space("watch-gone").await;
    p.write_full("o", "x".into()).await.unwrap();
    let mut w = p.watch("o").await.unwrap();
    p.remove("o").await.unwrap();
    let mut events = Vec::new();
    while let Ok(Some(e)) = tokio::time::timeout(60 * SECOND, w.next()).await {
        events.push(e);
    }
    assert!(matches!(events.last(), Some(WatchEvent::Gone)), "{events:?}");
}

#[tokio::test]
async fn dropped_watches_are_removed() {
    let p = space("watch-drop").await;
    p.write_full("o", "x".into()).await.unwrap();
    let watches = futures::future::try_join_all((0..20).map(|_| p.watch("o"))).await.unwrap();
    drop(watches);
    // Ends when the last of them is gone at the OSD: until then, notifications have somebody to wait for.
    let started = std::time::Instant::now();
    loop {
        let heard = p.notify("o", "x".into(), SECOND).await.unwrap();
        if heard.acks.is_empty() && heard.timed_out.is_empty() {
            break;
        }
        assert!(started.elapsed() < 20 * SECOND, "{heard:?}");
    }
}
