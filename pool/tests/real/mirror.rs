//! Mirroring between two clusters by real rbd-mirror daemons.

use std::time::{Duration, Instant};

use bytes::Bytes;
use pool::{CreateOptions, Error, MirrorBy, MirrorMode, OptionalExt, Rbd, features};
use testbed::Pair;

use crate::connect;

/// Which is here before long: rbd-mirror looks for new images, and for those to be brought anew, twice a minute.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(120) {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not within two minutes");
}

/// Whether an image holds these bytes at its beginning.
async fn holds(rbd: &Rbd, name: &str, bytes: &Bytes) -> Option<()> {
    let image = rbd.open_read_only(name).await.optional().unwrap()?;
    let found = image.read_at(0, bytes.len()).await;
    image.close().await.unwrap();
    (found.ok()? == *bytes).then_some(())
}

async fn word(rbd: &Rbd) -> Option<String> {
    let image = rbd.open_read_only("image").await.optional().unwrap()?;
    let word = image.metadata_get("word").await;
    image.close().await.unwrap();
    word.optional().unwrap()
}

async fn say(rbd: &Rbd, word: &str) {
    let image = rbd.open("image").await.unwrap();
    image.metadata_set("word", word).await.unwrap();
    image.close().await.unwrap();
}

/// Waits until what is written comes over. (What rbd-mirror says of its state is up to half a minute old.)
async fn follows(from: &Rbd, to: &Rbd) {
    for next in ["one", "two"].map(|n| format!("{n} {:?}", Instant::now())) {
        say(from, &next).await;
        until("it follows", || async { (word(to).await? == next).then_some(()) }).await;
    }
}

#[tokio::test]
async fn an_image_changes_its_cluster_and_comes_back() {
    let mut pair = Pair::start().await;
    let (a, b) = (connect(&pair.first.conf()).await, connect(&pair.second.conf()).await);
    let (here, there) = (a.pool("volumes", None).rbd(), b.pool("volumes", None).rbd());

    assert_eq!(here.mirror_mode().await.unwrap(), MirrorMode::Disabled);
    here.set_mirror_mode(MirrorMode::Image).await.unwrap();
    there.set_mirror_mode(MirrorMode::Image).await.unwrap();
    assert_eq!(there.mirror_mode().await.unwrap(), MirrorMode::Image);
    a.set_mirror_site_name("a").await.unwrap();
    b.set_mirror_site_name("b").await.unwrap();
    assert_eq!(a.mirror_site_name().await.unwrap(), "a");
    let token = here.mirror_token().await.unwrap();
    for _ in 0..2 {
        there.import_mirror_token(&token).await.unwrap();
    }
    for (rbd, other) in [(&here, "b"), (&there, "a")] {
        let peers = rbd.mirror_peers().await.unwrap();
        assert_eq!(peers.iter().map(|p| p.site_name.as_str()).collect::<Vec<_>>(), [other]);
    }
    pair.mirror();

    let wanted = features::LAYERING | features::EXCLUSIVE_LOCK | features::JOURNALING;
    let options = CreateOptions { features: Some(wanted), ..CreateOptions::default() };
    here.create("image", 8 << 20, options).await.unwrap();
    let first = Bytes::from(vec![1; 64 << 10]);
    let image = here.open("image").await.unwrap();
    image.mirror_enable(MirrorBy::Journal).await.unwrap();
    image.mirror_enable(MirrorBy::Journal).await.unwrap();
    let info = image.mirror_info().await.unwrap();
    assert!(info.enabled && info.primary && !info.global_id.is_empty());
    image.write_at(0, first.clone()).await.unwrap();
    image.flush().await.unwrap();
    image.close().await.unwrap();
    until("the first bytes there", || holds(&there, "image", &first)).await;
    follows(&here, &there).await;

    // What follows cannot be written to, nor take over while the other one is primary.
    let copy = there.open("image").await.unwrap();
    let info = copy.mirror_info().await.unwrap();
    assert!(info.enabled && !info.primary);
    assert!(copy.write_at(0, first.clone()).await.is_err());
    assert!(matches!(copy.mirror_promote(false).await, Err(Error::Busy { .. })));
    copy.close().await.unwrap();

    // There, and back.
    let second = Bytes::from(vec![2; 64 << 10]);
    let image = here.open("image").await.unwrap();
    image.mirror_demote().await.unwrap();
    image.close().await.unwrap();
    assert!(!is_primary(&here).await && !is_primary(&there).await);
    let image = here.open("image").await.unwrap();
    image.mirror_promote(false).await.unwrap();
    image.close().await.unwrap();
    // A demotion that was taken back does no harm as soon as the copy follows again.
    let kept = Bytes::from(vec![5; 64 << 10]);
    write(&here, &kept).await;
    follows(&here, &there).await;
    change_places(&here, &there).await;
    assert!(holds(&there, "image", &kept).await.is_some());
    write(&there, &second).await;
    until("the second bytes here", || holds(&here, "image", &second)).await;
    follows(&there, &here).await;
    change_places(&there, &here).await;
    until("the second bytes stay", || holds(&here, "image", &second)).await;

    // Without the first cluster: by force, and what only that one has is given up afterwards.
    let lost = Bytes::from(vec![3; 64 << 10]);
    follows(&here, &there).await;
    let third = Bytes::from(vec![4; 64 << 10]);
    let image = there.open("image").await.unwrap();
    image.mirror_promote(true).await.unwrap();
    image.close().await.unwrap();
    write(&here, &lost).await;
    write(&there, &third).await;
    let image = here.open("image").await.unwrap();
    image.mirror_demote().await.unwrap();
    image.mirror_resync().await.unwrap();
    image.close().await.unwrap();
    until("the third bytes here", || holds(&here, "image", &third)).await;

    // Mirrored no more, it goes where it is a copy.
    let image = there.open("image").await.unwrap();
    image.mirror_disable(false).await.unwrap();
    assert!(!image.mirror_info().await.unwrap().enabled);
    image.close().await.unwrap();
    until("no copy", || async { here.list().await.unwrap().is_empty().then_some(()) }).await;
}

async fn is_primary(rbd: &Rbd) -> bool {
    let image = rbd.open_read_only("image").await.unwrap();
    let info = image.mirror_info().await.unwrap();
    image.close().await.unwrap();
    info.primary
}

async fn change_places(from: &Rbd, to: &Rbd) {
    let last = format!("last {:?}", Instant::now());
    say(from, &last).await;
    let image = from.open("image").await.unwrap();
    image.mirror_demote().await.unwrap();
    image.close().await.unwrap();
    until("all of it", || async { (word(to).await? == last).then_some(()) }).await;
    until("its turn", || async {
        let image = to.open("image").await.unwrap();
        let turn = image.mirror_promote(false).await;
        image.close().await.unwrap();
        match turn {
            Ok(()) => Some(()),
            Err(Error::Busy { .. }) => None,
            Err(e) => panic!("{e}"),
        }
    })
    .await;
}

async fn write(rbd: &Rbd, bytes: &Bytes) {
    let image = rbd.open("image").await.unwrap();
    image.write_at(0, bytes.clone()).await.unwrap();
    image.flush().await.unwrap();
    image.close().await.unwrap();
}
