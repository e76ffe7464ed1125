//! A process that is killed while 64 writers are at work: what it acknowledged is whole, listed and counted; what it
//! did not acknowledge is whole or absent.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use index::{VersionItem, VersionQuery};
use objectstore::*;
use state::Db;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

const WRITERS: u64 = 64;
/// Names that all writers of versions share.
const NAMES: u64 = 6;

fn small() -> Config {
    Config {
        head_bytes: 4096,
        stripe_bytes: 65536,
        piece_bytes: 65536,
        garbage_grace_s: 0,
        abandoned_s: 0,
        index_shards: 2,
        ..config()
    }
}

fn content(writer: u64, round: u64) -> Vec<u8> {
    noise(if round.is_multiple_of(4) { 30_000 } else { 700 }, writer << 20 | round)
}

/// Tells the parent; a line is told whole or not at all.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

async fn container(s: &ObjectStore, name: &str) -> Arc<Container> {
    s.container(&Access::of(caller("p", "member")), "p", name, Need::Write).await.unwrap()
}

/// The process that is killed. Run by the test below, and by nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let (Ok(url), Ok(namespace)) = (std::env::var("STORM_DB"), std::env::var("STORM_NAMESPACE")) else {
        return;
    };
    let s = store(Db::open(&url).await.unwrap(), &namespace, small()).await;
    let (plain, versions) = (container(&s, "plain").await, container(&s, "versions").await);
    let writers = (0..WRITERS).map(|w| {
        let (s, plain, versions) = (s.clone(), plain.clone(), versions.clone());
        tokio::spawn(async move {
            for round in 0.. {
                if w % 2 == 0 {
                    tell(&format!("begin {w} {round}"));
                    put(&s, &plain, &format!("w{w}"), content(w, round)).await;
                    tell(&format!("done {w} {round}"));
                    continue;
                }
                let name = format!("k{}", (w + round) % NAMES);
                if round % 7 == 5 {
                    s.delete_object(&versions, &name, Condition::Always).await.unwrap();
                    continue;
                }
                let id = put(&s, &versions, &name, content(w, round)).await.version.unwrap();
                tell(&format!("version {name} {id} {w} {round}"));
                if round % 3 == 1 {
                    tell(&format!("deleting {name} {id}"));
                    let how = DeleteVersion { promote: true, ..DeleteVersion::default() };
                    s.delete_version(&versions, &name, id, how).await.unwrap();
                    tell(&format!("deleted {name} {id}"));
                }
            }
        })
    });
    futures::future::join_all(writers).await;
}

/// Lets a process work, kills it, and gives what it told.
fn storm(url: &str, namespace: &str, lines: usize) -> Vec<Vec<String>> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .envs([("STORM_DB", url), ("STORM_NAMESPACE", namespace)])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut told = Vec::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    // What was told up to the kill counts, also what is read after it.
    while out.read_line(&mut line).unwrap() > 0 {
        if line.ends_with('\n') {
            told.push(line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        }
        if told.len() == lines {
            child.kill().unwrap();
        }
        line.clear();
    }
    child.wait().unwrap();
    assert!(told.len() >= lines, "the process ended by itself: {told:?}");
    told
}

async fn read(
    s: &ObjectStore,
    c: &Arc<Container>,
    name: &str,
    id: VersionId,
) -> Result<Vec<u8>, ObjectError> {
    use futures::TryStreamExt;
    let object = s.open_version(c, name, id, s.first_read()).await?;
    let (size, etag) = (object.meta.size, object.meta.etag.clone());
    let span = Span { start: 0, end: size };
    let parts: Vec<bytes::Bytes> = s.source(object).await?.stream(span).try_collect().await?;
    let data = parts.concat();
    assert_eq!(md5_hex(&data), etag, "{name} {id} is not whole");
    Ok(data)
}

async fn versions_of(s: &ObjectStore, c: &Container) -> Vec<(String, index::Entry, bool)> {
    let mut query = VersionQuery { limit: 100, ..VersionQuery::default() };
    let mut all = Vec::new();
    loop {
        let page = s.list_versions(c, &query).await.unwrap();
        for item in page.items {
            if let VersionItem::Version { name, entry, latest } = item {
                (query.key_marker, query.version_marker) = (name.clone(), Some(entry.id()));
                all.push((name, *entry, latest));
            }
        }
        if !page.truncated {
            return all;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_acknowledged_is_there() {
    let work = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/storm.sqlite", work.path().display());
    let namespace = testbed::unique("storm");
    let s = store(Db::open(&url).await.unwrap(), &namespace, small()).await;
    let access = Access::of(caller("p", "member"));
    for (name, versioning) in [("plain", Versioning::Unset), ("versions", Versioning::Enabled)] {
        let rule = |info: &mut ContainerInfo| {
            info.versioning = versioning;
            Ok(())
        };
        s.make_container(&access, "p", name, &NewContainer::default(), &rule).await.unwrap();
    }
    let mut acked: BTreeMap<(String, VersionId), Vec<u8>> = BTreeMap::new();
    let (mut doomed, mut gone) = (BTreeSet::new(), BTreeSet::new());
    for lines in [400, 900, 250] {
        // Of each writer of plain objects: what was done last, and what was begun after it.
        let mut plain: BTreeMap<u64, (Option<u64>, u64)> = BTreeMap::new();
        for told in storm(&url, &namespace, lines) {
            let id = |text: &str| VersionId::parse(text).unwrap();
            let told: Vec<&str> = told.iter().map(String::as_str).collect();
            match told.as_slice() {
                ["begin", w, round] => {
                    plain.entry(w.parse().unwrap()).or_default().1 = round.parse().unwrap()
                }
                ["done", w, round] => plain.entry(w.parse().unwrap()).or_default().0 = round.parse().ok(),
                ["version", name, v, w, round] => {
                    let data = content(w.parse().unwrap(), round.parse().unwrap());
                    acked.insert((name.to_string(), id(v)), data);
                }
                ["deleting", name, v] => drop(doomed.insert((name.to_string(), id(v)))),
                ["deleted", name, v] => drop(gone.insert((name.to_string(), id(v)))),
                _ => {} // the test harness's own lines
            }
        }
        // The dead process is noticed after a minute; its successor looks at once here.
        s.reconcile().await.unwrap();
        let c = container(&s, "plain").await;
        let mut bytes = 0;
        for (w, (done, begun)) in &plain {
            let found = get(&s, &c, &format!("w{w}")).await;
            match (&found, done) {
                (Ok(data), _) => {
                    bytes += data.len() as u64;
                    let wanted = [done.map(|r| content(*w, r)), Some(content(*w, *begun))];
                    assert!(wanted.iter().flatten().any(|c| c == data), "writer {w}");
                }
                (Err(ObjectError::NoSuchObject), None) => {}
                (Err(e), _) => panic!("writer {w}: {e}"),
            }
        }
        let listed = names(&s, &c).await;
        assert_eq!(s.counts(&c).await.unwrap(), Counts { objects: listed.len() as u64, bytes });

        let c = container(&s, "versions").await;
        let all = versions_of(&s, &c).await;
        let ids: BTreeSet<(String, VersionId)> = all.iter().map(|(n, e, _)| (n.clone(), e.id())).collect();
        for (key, data) in acked.iter().filter(|(key, _)| !doomed.contains(*key)) {
            assert!(ids.contains(key), "{key:?} is lost");
            assert_eq!(read(&s, &c, &key.0, key.1).await.unwrap(), *data, "{key:?}");
        }
        for key in &gone {
            assert!(!ids.contains(key), "{key:?} came back");
            assert!(matches!(read(&s, &c, &key.0, key.1).await, Err(ObjectError::NoSuchVersion)));
        }
        let (mut last, mut shown, mut bytes) = (String::new(), 0, 0);
        for (name, e, latest) in &all {
            assert_eq!(*latest, *name != last, "{name} {}", e.id());
            if *latest {
                match (get(&s, &c, name).await, e.marker) {
                    (Ok(data), false) => assert_eq!(data, read(&s, &c, name, e.id()).await.unwrap()),
                    (Err(ObjectError::NoSuchObject), true) => {}
                    (found, marker) => panic!("{name}: {found:?}, marker: {marker}"),
                }
                shown += u64::from(!e.marker);
            }
            if !e.marker {
                bytes += read(&s, &c, name, e.id()).await.unwrap().len() as u64;
            }
            last.clone_from(name);
        }
        assert_eq!(s.counts(&c).await.unwrap(), Counts { objects: shown, bytes });
    }
    // Everything can be deleted, and nothing is left but copies that came to nothing, which settle first.
    let c = container(&s, "versions").await;
    for (name, e, _) in versions_of(&s, &c).await {
        s.delete_version(&c, &name, e.id(), DeleteVersion::default()).await.unwrap();
    }
    let c = container(&s, "plain").await;
    for name in names(&s, &c).await {
        s.delete_object(&c, &name, Condition::Always).await.unwrap();
    }
    s.sweep_once().await.unwrap();
    for name in ["plain", "versions"] {
        s.delete_container(&access, "p", name).await.unwrap();
    }
    let room = Room { store: s, db: Db::open(&url).await.unwrap(), namespace, access };
    let left = everything(&room).await;
    assert!(left.iter().all(|o| o.starts_with("v.")) && left.len() <= 3 * WRITERS as usize, "{left:?}");
}
