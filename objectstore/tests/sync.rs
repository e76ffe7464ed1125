//! Container sync: two clouds, each with its own database and pools, that talk to each other over HTTP; and clouds that
//! are not ours, or not well.

#![allow(clippy::unwrap_used)]

mod common;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::IntoResponse;
use common::wire::{Answer, ask};
use common::*;
use hmac::{Hmac, KeyInit, Mac};
use objectstore::*;
use serde_json::{Value, json};
use sha1::Sha1;
use state::failpoint::{self, Action};
use state::{Db, Timestamp};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex as Locked};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

/// Failpoints are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

const REALM_KEY: &str = "the realm's";
const KEY: &str = "x-container-sync-key: the owner's";

struct Cloud {
    room: Room,
    door: Router,
    stop: CancellationToken,
    /// Whose account it is here.
    user: &'static str,
}

impl Cloud {
    async fn new(db: Db, config: Config, listener: TcpListener, user: &'static str) -> Cloud {
        let namespace = testbed::unique("sync");
        let store = store(db.clone(), &namespace, config).await;
        let (door, stop) = (store.swift_router(), CancellationToken::new());
        tokio::spawn(api::server::serve(listener, door.clone(), stop.clone()));
        let access = Access::of(caller(user, "member"));
        Cloud { room: Room { store, db, namespace, access }, door, stop, user }
    }

    /// `METHOD container/object` in its user's account.
    async fn ask(&self, what: &str, headers: &[&str], body: &str) -> Answer {
        let token = format!("x-auth-token: {}:member", self.user);
        let headers: Vec<&str> = [token.as_str()].into_iter().chain(headers.iter().copied()).collect();
        let (method, path) = what.split_once(' ').unwrap();
        ask(&self.door, &format!("{method} /v1/AUTH_{}/{path}", self.user), &headers, body).await
    }

    async fn ok(&self, what: &str, headers: &[&str], body: &str) -> Answer {
        let answer = self.ask(what, headers, body).await;
        assert!((200..300).contains(&answer.status), "{what}: {answer:?}");
        answer
    }

    async fn sync(&self) {
        self.room.store.sync_once().await.unwrap();
    }

    async fn listing(&self, container: &str) -> Value {
        let answer = self.ok(&format!("GET {container}?format=json"), &[], "").await;
        serde_json::from_str(&answer.body).unwrap()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn realm(clusters: &[(&str, String)]) -> Realm {
    Realm {
        name: "Lab".into(),
        key: SyncKey(REALM_KEY.into()),
        key2: SyncKey::default(),
        clusters: clusters.iter().map(|(n, url)| ((*n).to_owned(), url.clone())).collect(),
    }
}

fn with_sync(sync: SyncConfig) -> Config {
    Config { sync, ..config() }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

/// Two clouds of one realm: `p`'s account in the one, `q`'s in the other.
async fn pair(dbs: [Db; 2]) -> [Cloud; 2] {
    let ((here, a), (there, b)) = (listener().await, listener().await);
    let clusters = [("a", format!("http://{a}/v1/")), ("b", format!("http://{b}/v1"))];
    let sync = |current: &str| {
        with_sync(SyncConfig {
            realms: vec![realm(&clusters)],
            current: format!("lab/{current}"),
            ..SyncConfig::default()
        })
    };
    let [first, second] = dbs;
    [Cloud::new(first, sync("a"), here, "p").await, Cloud::new(second, sync("b"), there, "q").await]
}

async fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clouds_are_kept_in_step() {
    let _alone = alone().await;
    for (first, second) in testbed::databases().await.into_iter().zip(testbed::databases().await) {
        let [a, b] = pair([first, second]).await;
        a.ok("PUT left", &[KEY], "").await;
        a.ok("PUT left/before", &["content-type: text/x-before", "x-object-meta-colour: grün"], "1").await;
        b.ok("PUT right", &[KEY, "x-container-sync-to: //lab/A/AUTH_p/left"], "").await;
        b.ok("PUT right/a%20b/%C3%BC%3F", &[], "from b").await;
        a.ok("POST left", &["x-container-sync-to: //lab/b/AUTH_q/right"], "").await;
        a.ok("PUT left/after", &["x-delete-after: 3600"], "2").await;
        a.sync().await;
        b.sync().await;
        let listed = a.listing("left").await;
        assert_eq!(listed.as_array().unwrap().len(), 3, "{listed}");
        assert_eq!(listed, b.listing("right").await);
        let got = b.ok("GET right/before", &[], "").await;
        assert_eq!((got.body.as_str(), got.header("content-type")), ("1", "text/x-before"));
        assert_eq!(got.headers["x-object-meta-colour"].as_bytes(), "grün".as_bytes());
        assert_eq!(a.ok("GET left/a%20b/%C3%BC%3F", &[], "").await.body, "from b");
        let due = |answer: Answer| answer.header("x-delete-at").to_owned();
        assert_eq!(due(a.ok("HEAD left/after", &[], "").await), due(b.ok("HEAD right/after", &[], "").await));

        // Changed metadata follow, and of two writes the later wins, whoever is told first.
        a.ok("POST left/before", &["x-object-meta-colour: blue"], "").await;
        a.ok("PUT left/both", &[], "earlier").await;
        b.ok("PUT right/both", &[], "later").await;
        a.sync().await;
        assert_eq!(b.ok("GET right/both", &[], "").await.body, "later");
        b.sync().await;
        assert_eq!(a.ok("GET left/both", &[], "").await.body, "later");
        assert_eq!(b.ok("HEAD right/before", &[], "").await.header("x-object-meta-colour"), "blue");

        // Deletions follow, and do not come back; what is written anew does.
        b.ok("DELETE right/both", &[], "").await;
        b.sync().await;
        assert_eq!(a.ask("GET left/both", &[], "").await.status, 404);
        a.sync().await;
        b.sync().await;
        assert_eq!(b.ask("GET right/both", &[], "").await.status, 404);
        a.ok("PUT left/both", &[], "again").await;
        a.sync().await;
        assert_eq!(b.ok("GET right/both", &[], "").await.body, "again");
        assert_eq!(a.listing("left").await, b.listing("right").await);

        // What both say of it, and to whom.
        let head = a.ok("HEAD left", &[], "").await;
        assert_eq!(head.header("x-container-sync-to"), "//lab/b/AUTH_q/right");
        assert_eq!(head.header("x-container-sync-key"), "the owner's");
        let reader = ask(&a.door, "HEAD /v1/AUTH_p/left", &["x-auth-token: p:reader"], "").await;
        assert_eq!((reader.status, reader.header("x-container-sync-key")), (204, ""));
        let info: Value = serde_json::from_str(&ask(&a.door, "GET /info", &[], "").await.body).unwrap();
        let realms = json!({"LAB": {"clusters": {"A": {"current": true}, "B": {}}}});
        assert_eq!(info["container_sync"]["realms"], realms);

        // Taken back: nothing is sent any more.
        a.ok("POST left", &["x-container-sync-to: "], "").await;
        a.ok("PUT left/own", &[], "").await;
        a.sync().await;
        assert_eq!(b.ask("GET right/own", &[], "").await.status, 404);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_objects_and_links_go_as_they_are() {
    let _alone = alone().await;
    let [a, b] = pair([testbed::databases().await.remove(0), testbed::databases().await.remove(0)]).await;
    for container in ["all", "parts"] {
        b.ok(&format!("PUT {container}"), &[KEY], "").await;
        let to = format!("x-container-sync-to: //lab/b/AUTH_q/{container}");
        a.ok(&format!("PUT {container}"), &[KEY, &to], "").await;
    }
    a.ok("PUT parts/s1", &[], "one, ").await;
    a.ok("PUT parts/s2", &[], "two").await;
    let manifest = json!([{"path": "/parts/s1"}, {"path": "/parts/s2", "range": "0-1"}]).to_string();
    a.ok("PUT all/large?multipart-manifest=put", &["x-object-meta-is: large"], &manifest).await;
    a.ok("PUT all/link", &["x-symlink-target: all/large"], "").await;
    let etag = a.ok("HEAD parts/s1", &[], "").await.header("etag").to_owned();
    let bound = format!("x-symlink-target-etag: {etag}");
    a.ok("PUT all/bound", &["x-symlink-target: parts/s1", &bound], "").await;
    a.ok("PUT all/dynamic", &["x-object-manifest: parts/s"], "").await;
    a.sync().await;
    assert_eq!(
        a.listing("all").await.to_string().replace("AUTH_p", "AUTH_q"),
        b.listing("all").await.to_string()
    );
    for (name, content) in
        [("large", "one, tw"), ("link", "one, tw"), ("bound", "one, "), ("dynamic", "one, two")]
    {
        let (here, there) = (
            a.ok(&format!("GET all/{name}"), &[], "").await,
            b.ok(&format!("GET all/{name}"), &[], "").await,
        );
        assert_eq!((here.body.as_str(), there.body.as_str()), (content, content), "{name}");
        assert_eq!(here.header("etag"), there.header("etag"), "{name}");
        assert_eq!(here.header("x-static-large-object"), there.header("x-static-large-object"), "{name}");
    }
    // A second round finds everything there and moves nothing.
    let times = b.listing("all").await;
    a.ok("POST all", &["x-container-meta-any: thing"], "").await;
    a.sync().await;
    assert_eq!(b.listing("all").await, times);
}

/// A peer that writes down what it is asked.
#[derive(Clone, Default)]
struct Peer(Arc<Locked<Seen>>);

#[derive(Default)]
struct Seen {
    requests: Vec<(String, http::HeaderMap, String)>,
    status: u16,
}

impl Peer {
    async fn serve(&self, listener: TcpListener) -> CancellationToken {
        let (this, stop) = (self.clone(), CancellationToken::new());
        let router = Router::new().fallback(move |request: Request| {
            let this = this.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
                let mut seen = this.0.lock().unwrap();
                let line = format!("{} {}", parts.method, parts.uri.path());
                let head = parts.method == http::Method::HEAD;
                seen.requests.push((line, parts.headers, String::from_utf8_lossy(&body).into_owned()));
                let status = if head && seen.status < 500 { 404 } else { seen.status };
                (http::StatusCode::from_u16(status).unwrap(), Body::empty()).into_response()
            }
        });
        tokio::spawn(api::server::serve(listener, router, stop.clone()));
        stop
    }

    fn answer(&self, status: u16) {
        self.0.lock().unwrap().status = status;
    }

    fn take(&self) -> Vec<(String, http::HeaderMap, String)> {
        std::mem::take(&mut self.0.lock().unwrap().requests)
    }

    fn lines(&self) -> Vec<String> {
        self.take().into_iter().map(|(line, ..)| line).collect()
    }
}

/// As upstream's documentation has it.
fn signature(method: &str, path: &str, timestamp: &str, nonce: &str, realm: &str, owner: &str) -> String {
    let mac = Hmac::<Sha1>::new_from_slice(realm.as_bytes()).unwrap();
    let text = format!("{method}\n{path}\n{timestamp}\n{nonce}\n{owner}");
    hex::encode(mac.chain_update(text.as_bytes()).finalize().into_bytes())
}

/// A cloud of ours, and a peer in its realm.
async fn with_peer(host: &str) -> (Cloud, Peer, CancellationToken) {
    let ((here, _), (there, at)) = (listener().await, listener().await);
    let peer = Peer::default();
    peer.answer(201);
    let stop = peer.serve(there).await;
    let url = format!("http://{host}:{}/v1/", at.port());
    let sync = SyncConfig { realms: vec![realm(&[("peer", url)])], ..SyncConfig::default() };
    let db = testbed::databases().await.remove(0);
    let cloud = Cloud::new(db, with_sync(sync), here, "p").await;
    cloud.ok("PUT c", &[KEY, "x-container-sync-to: //lab/peer/AUTH_x/d"], "").await;
    // Nothing was there before: from now on only what changes is told.
    cloud.sync().await;
    (cloud, peer, stop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_cloud_is_sent() {
    let _alone = alone().await;
    let (cloud, peer, stop) = with_peer("127.0.0.1").await;
    cloud.ok("PUT c/%C3%BC", &["content-type: text/plain", "content-encoding: none"], "content").await;
    cloud.ok("PUT c/gone", &[], "").await;
    cloud.ok("DELETE c/gone", &[], "").await;
    cloud.sync().await;
    let mut seen = peer.take();
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let lines: Vec<&str> = seen.iter().map(|(line, ..)| line.as_str()).collect();
    let own = "/v1/AUTH_x/d/%C3%BC";
    assert_eq!(lines, ["DELETE /v1/AUTH_x/d/gone", &format!("HEAD {own}"), &format!("PUT {own}")]);
    for (line, headers, _) in &seen {
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        let (method, path) = line.split_once(' ').unwrap();
        let auth = text("x-container-sync-auth");
        let [realm, nonce, given] = auth.split(' ').collect::<Vec<_>>()[..] else { panic!("{auth}") };
        let wanted = signature(method, path, &text("x-timestamp"), nonce, REALM_KEY, "the owner's");
        assert_eq!((realm, given), ("LAB", wanted.as_str()), "{line}");
        assert!(!headers.contains_key("x-container-sync-key") && !headers.contains_key("x-auth-token"));
    }
    let (_, headers, body) = &seen[2];
    assert_eq!(body, "content");
    assert_eq!(headers["content-type"], "text/plain");
    assert_eq!(headers["content-encoding"], "none");
    assert_eq!(headers["etag"], md5_hex(b"content"));
    assert_eq!(headers["content-length"], "7");
    let modified = cloud.ok("HEAD c/%C3%BC", &[], "").await;
    assert_eq!(headers["x-timestamp"], modified.header("x-timestamp"));
    // Told once.
    cloud.sync().await;
    assert!(peer.take().is_empty());
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_takes_nothing_is_left_alone_and_misses_nothing() {
    let _alone = alone().await;
    let (cloud, peer, stop) = with_peer("127.0.0.1").await;
    peer.answer(503);
    for i in 0..5 {
        cloud.ok("PUT c/often", &[], &i.to_string()).await;
    }
    cloud.ok("PUT c/other", &[], "").await;
    cloud.sync().await;
    assert!(peer.take().len() <= 2, "many versions of an object are one");
    let row = async || {
        let row: (i64, i64) = sqlx::query_as("SELECT failures, next_at FROM object_syncs")
            .fetch_one(cloud.room.db.read())
            .await
            .unwrap();
        row
    };
    let (failures, next) = row().await;
    assert!(failures == 1 && next > Timestamp::now().micros(), "{failures} {next}");
    cloud.sync().await;
    assert_eq!(row().await.0, 2);
    let puts = || {
        let mut lines: Vec<String> = peer.lines().into_iter().filter(|l| l.starts_with("PUT")).collect();
        lines.sort();
        lines
    };
    // What is not taken for its own sake is tried again, and keeps nothing else back.
    peer.answer(413);
    cloud.sync().await;
    assert_eq!((puts().len(), row().await.0), (2, 0));
    peer.answer(201);
    cloud.sync().await;
    assert_eq!(puts(), ["PUT /v1/AUTH_x/d/often", "PUT /v1/AUTH_x/d/other"]);
    // What never will be is not.
    peer.answer(400);
    cloud.ok("PUT c/refused", &[], "").await;
    cloud.sync().await;
    assert_eq!(puts(), ["PUT /v1/AUTH_x/d/refused"]);
    peer.answer(201);
    cloud.sync().await;
    assert!(puts().is_empty());
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_is_taken_over_from() {
    let _alone = alone().await;
    let (cloud, peer, stop) = with_peer("127.0.0.1").await;
    cloud.ok("PUT c/o", &[], "1").await;
    // Sent, but not on record as sent: it is sent again, by whoever is next.
    failpoint::set("sync.sent", Action::Fail);
    assert!(matches!(cloud.room.store.sync_once().await, Err(ObjectError::Failpoint)));
    failpoint::clear("sync.sent");
    assert_eq!(peer.lines().len(), 2);
    let next = cloud.room.another(cloud.room.store.config().clone()).await;
    let set = async |worker: &str, until: i64| {
        let mut tx = cloud.room.db.begin().await.unwrap();
        sqlx::query("UPDATE object_syncs SET worker = $1, until = $2")
            .bind(worker.to_owned())
            .bind(until)
            .execute(tx.conn())
            .await
            .unwrap();
        tx.commit().await.unwrap();
    };
    // Another process has it: as long as that is so, nobody else is at it.
    set("another", Timestamp::now().micros() + 60_000_000).await;
    next.sync_once().await.unwrap();
    assert!(peer.take().is_empty());
    set("another", Timestamp::now().micros() - 1).await;
    next.sync_once().await.unwrap();
    assert_eq!(peer.lines(), ["HEAD /v1/AUTH_x/d/o", "PUT /v1/AUTH_x/d/o"]);
    next.sync_once().await.unwrap();
    cloud.sync().await;
    assert!(peer.take().is_empty());
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_where_nothing_may_be_sent() {
    let _alone = alone().await;
    // A name that leads inside, in a realm, is not followed there.
    let (cloud, peer, stop) = with_peer("localhost").await;
    cloud.ok("PUT c/o", &[], "secret").await;
    cloud.sync().await;
    assert!(peer.take().is_empty());
    for (to, told) in [
        ("//other/peer/AUTH_x/d", "No realm key for 'OTHER'"),
        ("//lab/peer/d", "Invalid X-Container-Sync-To format '//lab/peer/d'"),
        ("http://127.0.0.1:1/v1/AUTH_x/d", "Invalid host '127.0.0.1' in X-Container-Sync-To"),
        (
            "gopher://x/y",
            "Invalid scheme 'gopher' in X-Container-Sync-To, must be \"//\", \"http\", or \"https\".",
        ),
    ] {
        let refused = cloud.ask("POST c", &[&format!("x-container-sync-to: {to}")], "").await;
        assert_eq!((refused.status, refused.body.as_str()), (400, told));
    }
    // Only an owner says where to.
    let stranger = ["x-auth-token: z:member", "x-container-sync-to: //lab/peer/AUTH_z/c"];
    assert_eq!(ask(&cloud.door, "POST /v1/AUTH_p/c", &stranger, "").await.status, 403);
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_from_another_cloud_must_prove_it() {
    let _alone = alone().await;
    let (cloud, _, stop) = with_peer("127.0.0.1").await;
    cloud.ok("PUT open", &[], "").await;
    let now = Timestamp::now().secs();
    let time = |ago: i64| format!("{}.00000", now - ago);
    let send = async |method: &str, path: &str, at: &str, signed: &str, body: &str| {
        let (at, signed) = (format!("x-timestamp: {at}"), format!("x-container-sync-auth: {signed}"));
        ask(&cloud.door, &format!("{method} {path}"), &[&at, &signed], body).await.status
    };
    let sign = |method: &str, path: &str, at: &str| {
        format!("lab nonce {}", signature(method, path, at, "nonce", REALM_KEY, "the owner's"))
    };
    let (path, at) = ("/v1/AUTH_p/c/o", time(100));
    let good = sign("PUT", path, &at);
    for (method, path, at, signed) in [
        ("PUT", path, at.as_str(), "lab nonce 00"),
        ("PUT", path, &at, "lab nonce"),
        ("PUT", path, &at, &good.replace("lab", "other")),
        ("PUT", path, &at, &good.replace("nonce", "other")),
        ("PUT", path, &time(0), &good),
        ("DELETE", path, &at, &good),
        ("POST", path, &at, &sign("POST", path, &at)),
        ("PUT", "/v1/AUTH_p/c/p", &at, &good),
        ("PUT", "/v1/AUTH_p/open/o", &at, &sign("PUT", "/v1/AUTH_p/open/o", &at)),
        ("PUT", "/v1/AUTH_p/absent/o", &at, &sign("PUT", "/v1/AUTH_p/absent/o", &at)),
        ("PUT", "/v1/AUTH_p/c", &at, &sign("PUT", "/v1/AUTH_p/c", &at)),
    ] {
        assert_eq!(send(method, path, at, signed, "stolen").await, 401, "{method} {path} {signed}");
    }
    // With no time there is none to compare.
    assert_eq!(send("PUT", path, "soon", &sign("PUT", path, "soon"), "x").await, 400);
    assert_eq!(send("PUT", path, &at, &good, "first").await, 201);
    assert_eq!(cloud.ok("HEAD c/o", &[], "").await.header("x-timestamp"), at);
    // The same, and an earlier one, change nothing; a deletion from before neither.
    assert_eq!(send("PUT", path, &at, &good, "second").await, 202);
    let earlier = time(200);
    assert_eq!(send("PUT", path, &earlier, &sign("PUT", path, &earlier), "older").await, 202);
    assert_eq!(send("DELETE", path, &earlier, &sign("DELETE", path, &earlier), "").await, 409);
    assert_eq!(cloud.ok("GET c/o", &[], "").await.body, "first");
    let later = time(50);
    assert_eq!(send("DELETE", path, &later, &sign("DELETE", path, &later), "").await, 204);
    // It does not rise again by what was under way before, but by what came after.
    let between = time(75);
    assert_eq!(send("PUT", path, &between, &sign("PUT", path, &between), "zombie").await, 202);
    assert_eq!(cloud.ask("GET c/o", &[], "").await.status, 404);
    // Nor what was deleted before it came.
    let early = "/v1/AUTH_p/c/early";
    assert_eq!(send("DELETE", early, &later, &sign("DELETE", early, &later), "").await, 404);
    assert_eq!(send("PUT", early, &between, &sign("PUT", early, &between), "zombie").await, 202);
    let last = time(25);
    assert_eq!(send("PUT", path, &last, &sign("PUT", path, &last), "new").await, 201);
    assert_eq!(cloud.ok("GET c/o", &[], "").await.body, "new");
    // The permission is the container's alone.
    cloud.ok("PUT open/secret", &[], "secret").await;
    let signed = format!("x-container-sync-auth: {}", sign("PUT", path, &time(1)));
    let at = format!("x-timestamp: {}", time(1));
    let done =
        ask(&cloud.door, &format!("PUT {path}"), &[&signed, &at, "x-copy-from: open/secret"], "").await;
    assert_eq!((done.status, cloud.ok("GET c/o", &[], "").await.body.as_str()), (201, ""));
    // A key alone is not enough here; where it is, it must be the right one.
    let plain = ["x-container-sync-key: the owner's", "x-timestamp: 9999999999.00000"];
    assert_eq!(ask(&cloud.door, "PUT /v1/AUTH_p/c/k", &plain, "").await.status, 401);
    let sync = SyncConfig { accept_plain_keys: true, ..cloud.room.store.config().sync.clone() };
    let lax = cloud.room.another(with_sync(sync)).await.swift_router();
    assert_eq!(
        ask(&lax, "PUT /v1/AUTH_p/c/k", &["x-container-sync-key: no", plain[1]], "").await.status,
        401
    );
    assert_eq!(ask(&lax, "PUT /v1/AUTH_p/c/k", &plain[..1], "").await.status, 401);
    assert_eq!(ask(&lax, "PUT /v1/AUTH_p/open/k", &plain, "").await.status, 401);
    assert_eq!(ask(&lax, "PUT /v1/AUTH_p/c/k", &plain, "").await.status, 201);
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_happens_by_itself() {
    let _alone = alone().await;
    let [a, b] = pair([testbed::databases().await.remove(0), testbed::databases().await.remove(0)]).await;
    for (cloud, own, other) in [(&a, "left", "//lab/b/AUTH_q/right"), (&b, "right", "//lab/a/AUTH_p/left")] {
        cloud.ok(&format!("PUT {own}"), &[KEY, &format!("x-container-sync-to: {other}")], "").await;
        let (store, stop) = (cloud.room.store.clone(), cloud.stop.clone());
        tokio::spawn(async move { store.sweep(stop).await });
    }
    a.ok("PUT left/from-a", &[], "1").await;
    b.ok("PUT right/from-b", &[], "2").await;
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let (here, there) = (a.listing("left").await, b.listing("right").await);
        if here == there && here.as_array().unwrap().len() == 2 {
            break;
        }
        assert!(Instant::now() < end, "{here} {there}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
