//! An index that grows while it is used: nothing is missed, nothing is doubled, whoever dies at whatever step.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use index::{Item, ListQuery, VersionQuery};
use objectstore::*;
use state::failpoint::{self, Action};
use state::{Db, Timestamp};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Failpoints are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

const STEPS: [&str; 5] =
    ["index.grow:claimed", "index.grow:filled", "index.grow:frozen", "index.grow:live", "index.grow:moved"];

/// Every container is full, so that every call makes it grow.
fn eager() -> Config {
    Config { index_shard_rows: 1, garbage_grace_s: 0, abandoned_s: 0, ..config() }
}

/// Nothing grows by itself.
fn idle() -> Config {
    Config { index_shard_rows: 0, ..eager() }
}

async fn container(s: &ObjectStore, name: &str) -> Arc<Container> {
    s.container(&Access::of(caller("p", "member")), "p", name, Need::Write).await.unwrap()
}

async fn versions(s: &ObjectStore, c: &Container) -> Vec<index::VersionItem> {
    s.list_versions(c, &VersionQuery { limit: 10_000, ..Default::default() }).await.unwrap().items
}

/// A process of its own: this very program, told by its environment what to do.
fn process(role: &str, url: &str, namespace: &str, env: &[(&str, &str)]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "role", "--nocapture"])
        .envs([("GROWTH_ROLE", role), ("GROWTH_DB", url), ("GROWTH_NAMESPACE", namespace)])
        .envs(env.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn lines(child: &mut Child) -> Vec<String> {
    BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).collect()
}

/// What a process of its own does. Run by the tests below, and by nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn role() {
    let var = |name: &str| std::env::var(name).ok();
    let (Some(role), Some(url), Some(namespace)) =
        (var("GROWTH_ROLE"), var("GROWTH_DB"), var("GROWTH_NAMESPACE"))
    else {
        return;
    };
    failpoint::from_env().unwrap();
    let s =
        store(Db::open(&url).await.unwrap(), &namespace, if role == "grow" { eager() } else { idle() }).await;
    let c = container(&s, "c").await;
    match role.as_str() {
        "grow" => {
            let most = var("GROWTH_MOST").and_then(|n| n.parse().ok()).unwrap_or(u32::MAX);
            while container(&s, "c").await.index_shards() < most {
                s.grow(c.id).await.unwrap();
                tell("grown");
                if most == u32::MAX {
                    return;
                }
            }
        }
        _ => work(&s, &c, role.parse().unwrap()).await,
    }
}

/// Tells the parent; a line is told whole or not at all.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

async fn a_room() -> (tempfile::TempDir, String, String, ObjectStore) {
    let work = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/growth.sqlite", work.path().display());
    let namespace = testbed::unique("growth");
    let s = store(Db::open(&url).await.unwrap(), &namespace, idle()).await;
    let access = Access::of(caller("p", "member"));
    s.make_container(&access, "p", "c", &NewContainer::default(), &|_| Ok(())).await.unwrap();
    (work, url, namespace, s)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_grows_by_itself_and_shows_the_same() {
    let _alone = ALONE.lock().await;
    let config = Config { index_shard_rows: 40, garbage_grace_s: 0, ..config() };
    let room = Room::with(config.clone()).await;
    let (s, access) = (&room.store, &room.access);
    let c = room.container("c").await;
    // Another process, which remembers the container as it was.
    let other = room.another(Config { index_shard_rows: 0, container_cache_s: 3600, ..config }).await;
    let stale = container(&other, "c").await;
    let new = NewObject { name: "dir/upload".into(), ..NewObject::default() };
    let upload = s.begin_upload(&c, new, None, false).await.unwrap();
    let on = |info: &mut ContainerInfo| {
        info.versioning = Versioning::Enabled;
        Ok(())
    };
    s.change_container(access, "p", "c", &on).await.unwrap();
    let c = container(s, "c").await;
    let stop = CancellationToken::new();
    let sweep = tokio::spawn({
        let (s, stop) = (s.clone(), stop.clone());
        async move { s.sweep(stop).await }
    });
    let name = |i: u64| format!("dir{}/k{i:04}", i % 7);
    for i in 0..300u64 {
        put(
            if i % 2 == 0 { s } else { &other },
            if i % 2 == 0 { &c } else { &stale },
            &name(i % 200),
            vec![7; i as usize],
        )
        .await;
        if i % 10 == 0 {
            other.delete_object(&stale, &name(i % 200), Condition::Always).await.unwrap();
        }
    }
    let grown = Instant::now();
    while container(s, "c").await.index_shards() < 8 {
        assert!(grown.elapsed() < Duration::from_secs(60), "{}", container(s, "c").await.index_shards());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    sweep.await.unwrap();
    let now = container(s, "c").await;
    // What was deleted and not put again.
    let gone: HashSet<String> =
        (0..300).filter(|i| i % 10 == 0 && (*i >= 100 || i + 200 >= 300)).map(|i| name(i % 200)).collect();
    let mut wanted: Vec<String> = (0..200).map(name).filter(|n| !gone.contains(n)).collect();
    wanted.sort();
    let mut bytes = 0;
    for (s, c) in [(s, &now), (&other, &stale)] {
        assert_eq!(names(s, c).await, wanted);
        let all = versions(s, c).await;
        assert_eq!(all.len(), 300 + 30);
        let sizes = all.iter().map(|v| match v {
            index::VersionItem::Version { entry, .. } => entry.size,
            index::VersionItem::Prefix(p) => panic!("{p}"),
        });
        bytes = sizes.sum();
        assert_eq!(s.counts(c).await.unwrap(), Counts { objects: wanted.len() as u64, bytes });
        let rolled = ListQuery { delimiter: "/".into(), limit: 100, ..Default::default() };
        let rolled = s.list_objects(c, &rolled).await.unwrap().items;
        assert_eq!(rolled, (0..7).map(|d| Item::Prefix(format!("dir{d}/"))).collect::<Vec<_>>());
        let uploads = s.list_uploads(c, &UploadQuery { limit: 10, ..Default::default() }).await.unwrap();
        assert_eq!(uploads.uploads.len(), 1);
        // Page after page, as clients read.
        let mut query = ListQuery { limit: 17, ..Default::default() };
        let mut paged = Vec::new();
        loop {
            let page = s.list_objects(c, &query).await.unwrap();
            paged.extend(page.items.iter().map(|i| i.name().to_owned()));
            if !page.truncated {
                break;
            }
            query.marker = paged.last().unwrap().clone();
        }
        assert_eq!(paged, wanted);
    }
    assert_eq!(bytes, (0..300).sum::<u64>());
    // Everything goes through the old map, and the container after it.
    other.abort_upload(&stale, "dir/upload", upload).await.unwrap();
    for item in versions(&other, &stale).await {
        let index::VersionItem::Version { name, entry, .. } = item else { panic!() };
        other.delete_version(&stale, &name, entry.id(), DeleteVersion::default()).await.unwrap();
    }
    assert_eq!(s.counts(&now).await.unwrap(), Counts::default());
    s.sweep_once().await.unwrap();
    other.delete_container(access, "p", "c").await.unwrap();
    assert!(everything(&room).await.is_empty());
}

/// What the container holds is this, by every way to look at it.
async fn assert_holds(s: &ObjectStore, wanted: &BTreeMap<String, Vec<u8>>) {
    let c = container(s, "c").await;
    let listed = names(s, &c).await;
    assert_eq!(listed, wanted.keys().cloned().collect::<Vec<_>>());
    for (name, data) in wanted {
        assert_eq!(get(s, &c, name).await.unwrap(), data);
    }
    let bytes = wanted.values().map(|v| v.len() as u64).sum();
    assert_eq!(s.counts(&c).await.unwrap(), Counts { objects: wanted.len() as u64, bytes });
}

async fn forget_grower(url: &str) {
    let db = Db::open(url).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    sqlx::query("UPDATE object_containers SET grower_at = $1")
        .bind(Timestamp(0))
        .execute(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_at_any_step_leaves_the_index_whole() {
    let _alone = ALONE.lock().await;
    let (_work, url, namespace, s) = a_room().await;
    let c = container(&s, "c").await;
    let mut wanted = BTreeMap::new();
    for (round, step) in STEPS.iter().enumerate() {
        for i in 0..30 {
            let (name, data) = (format!("k{round}-{i}"), noise(10 + i, (round * 100 + i) as u64));
            put(&s, &c, &name, data.clone()).await;
            wanted.insert(name, data);
        }
        let before = container(&s, "c").await.index_shards();
        let mut dead = process("grow", &url, &namespace, &[("AQUIFER_FAILPOINTS", &format!("{step}=abort"))]);
        assert!(!dead.wait().unwrap().success(), "{step}");
        // It is as it was, and takes changes.
        assert_holds(&s, &wanted).await;
        for i in 0..10 {
            let (name, data) = (format!("k{round}-{}", i * 2), noise(700 + i, (round * 1000 + i) as u64));
            put(&s, &c, &name, data.clone()).await;
            wanted.insert(name, data);
            let name = format!("k{round}-{}", i * 2 + 1);
            s.delete_object(&c, &name, Condition::Always).await.unwrap();
            wanted.remove(&name);
        }
        assert_holds(&s, &wanted).await;
        // Another process goes on.
        let next = store(Db::open(&url).await.unwrap(), &namespace, eager()).await;
        assert!(!next.grow(c.id).await.unwrap(), "{step}: the dead may only be slow");
        forget_grower(&url).await;
        assert!(next.grow(c.id).await.unwrap(), "{step}");
        assert!(container(&next, "c").await.index_shards() > before);
        for s in [&s, &next] {
            assert_holds(s, &wanted).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_wakes_when_another_has_gone_on_does_no_harm() {
    let _alone = ALONE.lock().await;
    for step in STEPS {
        let (_work, url, namespace, s) = a_room().await;
        let c = container(&s, "c").await;
        let mut wanted = BTreeMap::new();
        let fill = async |wanted: &mut BTreeMap<String, Vec<u8>>, seed: u64| {
            for i in 0..20 {
                let (name, data) = (format!("k{}", (seed + i) % 50), noise(10 + i as usize, seed * 100 + i));
                put(&s, &c, &name, data.clone()).await;
                wanted.insert(name, data);
            }
        };
        fill(&mut wanted, 1).await;
        let sleeper = store(Db::open(&url).await.unwrap(), &namespace, eager()).await;
        failpoint::set(step, Action::Pause);
        let asleep = tokio::spawn({
            let (sleeper, id) = (sleeper.clone(), c.id);
            async move { sleeper.grow(id).await }
        });
        at_rest(&namespace).await;
        fill(&mut wanted, 15).await;
        forget_grower(&url).await;
        let mut next = process("grow", &url, &namespace, &[]);
        assert!(next.wait().unwrap().success(), "{step}");
        fill(&mut wanted, 30).await;
        s.delete_object(&c, "k30", Condition::Always).await.unwrap();
        wanted.remove("k30");
        assert_holds(&s, &wanted).await;
        failpoint::clear(step);
        drop(asleep.await.unwrap()); // it may have noticed, or been refused
        assert_holds(&s, &wanted).await;
        fill(&mut wanted, 40).await;
        assert_holds(&sleeper, &wanted).await;
    }
}

/// Waits until the index has begun to grow and no longer changes.
async fn at_rest(namespace: &str) {
    use futures::TryStreamExt;
    let pool = tiers(namespace).await.get("index").unwrap().pool;
    let (mut last, mut same) = (Vec::new(), 0);
    while same < 20 {
        let mut oids: Vec<String> = pool.list().try_collect().await.unwrap();
        oids.retain(|o| o.starts_with("i."));
        oids.sort();
        let mut rows = Vec::new();
        for oid in oids {
            rows.push((pool.omap_get_all(&oid, "").await.unwrap(), oid));
        }
        let begun = rows.iter().any(|(rows, _)| rows.iter().any(|(k, _)| k == "#"));
        same = if begun && rows == last { same + 1 } else { 0 };
        last = rows;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const KEYS: u64 = 6;
const TASKS: u64 = 3;
const ROUNDS: u64 = 150;

/// One operation as a client saw it: from when to when (microseconds since the epoch), and what it did:
/// `W` wrote a value, `D` deleted, `G` read and `L` listed a value, or nothing (`-`).
#[derive(Debug, Clone)]
struct Op {
    from: u64,
    to: u64,
    kind: char,
    value: String,
}

fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

/// Overwrites, deletes, reads and lists a few keys that others do the same with.
async fn work(s: &ObjectStore, c: &Arc<Container>, me: u64) {
    let tasks = (0..TASKS).map(|t| {
        let (s, c) = (s.clone(), c.clone());
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                let key = format!("k{}", (me * 3 + t * 5 + round) % KEYS);
                let (from, at) = (micros(), (t + round) % 5);
                let (kind, value) = match at {
                    0 | 2 => {
                        let value = format!("{me}.{t}.{round}");
                        put(&s, &c, &key, value.clone()).await;
                        ('W', md5_hex(value.as_bytes()))
                    }
                    1 if round % 3 == 0 => match s.delete_object(&c, &key, Condition::Always).await {
                        Ok(_) => ('D', "-".into()),
                        Err(ObjectError::NoSuchObject) => ('G', "-".into()),
                        Err(e) => panic!("{e:?}"),
                    },
                    1 | 3 => match get(&s, &c, &key).await {
                        Ok(data) => ('G', md5_hex(&data)),
                        Err(ObjectError::NoSuchObject) => ('G', "-".into()),
                        // It was replaced while it was read.
                        Err(_) => continue,
                    },
                    _ => {
                        let page = s.list_objects(&c, &ListQuery { limit: 100, ..Default::default() }).await;
                        let (to, mut seen) = (micros(), HashMap::new());
                        for item in page.unwrap().items {
                            let Item::Object(name, entry) = item else { panic!() };
                            assert!(seen.insert(name, entry.etag).is_none(), "a name is listed twice");
                        }
                        for k in (0..KEYS).map(|k| format!("k{k}")) {
                            let value = seen.get(&k).map_or("-", |v| v);
                            tell(&format!("op {from} {to} {k} L {value}"));
                        }
                        continue;
                    }
                };
                tell(&format!("op {from} {} {key} {kind} {value}", micros()));
            }
        })
    });
    for done in futures::future::join_all(tasks).await {
        done.unwrap();
    }
    tell("finished");
}

/// Whether there is an order of these operations, each at some time between its beginning and its end, in which every
/// one that looks sees what the last one before it that changed something left (Wing and Gong's search).
fn is_linearizable(ops: &[Op]) -> bool {
    let mut ops = ops.to_vec();
    ops.sort_by_key(|o| (o.from, o.to));
    let mut seen: HashSet<(Vec<u64>, String)> = HashSet::new();
    let mut todo = vec![(vec![0u64; ops.len().div_ceil(64)], "-".to_owned())];
    while let Some((done, value)) = todo.pop() {
        let is_done = |i: usize| done[i / 64] >> (i % 64) & 1 == 1;
        let open = || (0..ops.len()).filter(|i| !is_done(*i));
        // The next may be any that began before every other ended.
        let Some(first_end) = open().map(|i| ops[i].to).min() else { return true };
        for i in open().take_while(|i| ops[*i].from <= first_end) {
            let after = match ops[i].kind {
                'W' => ops[i].value.clone(),
                'D' if value != "-" => "-".to_owned(),
                'G' | 'L' if ops[i].value == value => value.clone(),
                _ => continue,
            };
            let mut now = done.clone();
            now[i / 64] |= 1 << (i % 64);
            if seen.insert((now.clone(), after.clone())) {
                todo.push((now, after));
            }
        }
    }
    false
}

#[test]
fn the_checker_tells_right_from_wrong() {
    let op = |from, to, kind, value: &str| Op { from, to, kind, value: value.into() };
    assert!(is_linearizable(&[op(0, 9, 'W', "a"), op(1, 2, 'G', "-"), op(3, 4, 'G', "a")]));
    assert!(!is_linearizable(&[op(0, 9, 'W', "a"), op(1, 2, 'G', "a"), op(3, 4, 'G', "-")]));
    assert!(!is_linearizable(&[op(0, 1, 'W', "a"), op(2, 3, 'L', "-")]), "list after write");
    assert!(!is_linearizable(&[op(0, 1, 'W', "a"), op(2, 3, 'D', "-"), op(4, 5, 'L', "a")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_processes_do_while_a_third_is_killed_growing_is_linearizable() {
    let _alone = ALONE.lock().await;
    let (_work, url, namespace, s) = a_room().await;
    let mut workers: Vec<Child> = (0..2).map(|w| process(&w.to_string(), &url, &namespace, &[])).collect();
    let readers: Vec<_> = workers
        .iter_mut()
        .map(|w| {
            let out = w.stdout.take().unwrap();
            std::thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).collect::<Vec<_>>())
        })
        .collect();
    let (mut killed, mut patience) = (0, 30u64);
    while readers.iter().any(|r| !r.is_finished()) {
        let mut mover = process("grow", &url, &namespace, &[("GROWTH_MOST", "256")]);
        // Each lives a little longer than the one before, so that they are killed at many different steps.
        tokio::time::sleep(Duration::from_millis(patience)).await;
        mover.kill().unwrap();
        let grew = lines(&mut mover);
        mover.wait().unwrap();
        forget_grower(&url).await;
        killed += 1;
        patience = if grew.iter().any(|l| l == "grown") { 150 } else { patience + 20 };
    }
    let mut ops: BTreeMap<String, Vec<Op>> = BTreeMap::new();
    for reader in readers {
        let told = reader.join().unwrap();
        assert!(told.iter().any(|l| l == "finished"), "a worker failed: {:?}", told.last());
        for line in told.iter().filter_map(|l| l.strip_prefix("op ")) {
            let f: Vec<&str> = line.split(' ').collect();
            let (from, to) = (f[0].parse().unwrap(), f[1].parse().unwrap());
            let (kind, value) = (f[3].chars().next().unwrap(), f[4].to_owned());
            ops.entry(f[2].to_owned()).or_default().push(Op { from, to, kind, value });
        }
    }
    for w in &mut workers {
        assert!(w.wait().unwrap().success());
    }
    for (key, ops) in &ops {
        for looks in ['G', 'L'] {
            let some: Vec<Op> =
                ops.iter().filter(|o| "WD".contains(o.kind) || o.kind == looks).cloned().collect();
            assert!(is_linearizable(&some), "{key} {looks}: {some:#?}");
        }
    }
    // It did grow, and when all is quiet everything agrees.
    let last = store(Db::open(&url).await.unwrap(), &namespace, eager()).await;
    let c = container(&s, "c").await;
    last.grow(c.id).await.unwrap();
    let shards = container(&last, "c").await.index_shards();
    eprintln!("{killed} movers killed, {shards} shards in the end");
    assert!(shards > 1 && killed > 3);
    let mut wanted = BTreeMap::new();
    for k in (0..KEYS).map(|k| format!("k{k}")) {
        match get(&s, &c, &k).await {
            Ok(data) => drop(wanted.insert(k, data.to_vec())),
            Err(ObjectError::NoSuchObject) => {}
            Err(e) => panic!("{e:?}"),
        }
    }
    assert_holds(&s, &wanted).await;
    assert_holds(&last, &wanted).await;
}
