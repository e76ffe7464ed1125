//! Events on a real cluster: told at least once, only of what happened, to nobody inside, and bounded.

#![allow(clippy::unwrap_used)]

mod common;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use common::*;
use objectstore::*;
use serde_json::Value;
use state::failpoint::{self, Action};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Failpoints belong to the whole process.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Somebody who listens: takes events while `open`.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<(bool, Vec<Value>)>>);

impl Listener {
    async fn start(open: bool) -> (Listener, SocketAddr) {
        let listener = Listener::default();
        listener.open(open);
        let take = async |State(this): State<Listener>, body: String| {
            let mut inner = this.0.lock().unwrap();
            if !inner.0 {
                return http::StatusCode::SERVICE_UNAVAILABLE;
            }
            inner.1.push(serde_json::from_str(&body).unwrap());
            http::StatusCode::OK
        };
        let router = Router::new().route("/hook", post(take)).with_state(listener.clone());
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(socket, router).await });
        (listener, at)
    }

    fn open(&self, open: bool) {
        self.0.lock().unwrap().0 = open;
    }

    /// What was told: event and key.
    fn told(&self) -> Vec<(String, String)> {
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        let all = &self.0.lock().unwrap().1;
        let one = |v: &Value| {
            let record = &v["Records"][0];
            (text(&record["eventName"]), text(&record["s3"]["object"]["key"]))
        };
        all.iter().map(one).collect()
    }

    async fn until(&self, n: usize) {
        tokio::time::timeout(Duration::from_secs(40), async {
            while self.told().iter().collect::<HashSet<_>>().len() < n {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("only {:?}", self.told()));
    }
}

fn config() -> Config {
    Config { notification_networks: vec!["127.0.0.0/8".parse().unwrap()], ..common::config() }
}

/// The doors of a room, over HTTP: events are told by what comes through them.
async fn door(s: &ObjectStore) -> SocketAddr {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    tokio::spawn(api::server::serve(socket, s.swift_router(), CancellationToken::new()));
    at
}

async fn ask(door: SocketAddr, method: &str, path: &str, body: &str) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(door).await.unwrap();
    let head = format!(
        "{method} /v1/AUTH_p/{path} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: p:member\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// A container that tells a topic of everything below `in/`.
async fn telling(room: &Room, name: &str, endpoint: &str) -> Arc<Container> {
    room.container(name).await;
    let attributes = [("push-endpoint".to_owned(), endpoint.to_owned())];
    let topic = room.store.make_topic(&room.access, name, &attributes).await.unwrap();
    let rule = |info: &mut ContainerInfo| {
        info.notifications = vec![Notification {
            id: "all".into(),
            topic: topic.clone(),
            events: Vec::new(),
            prefix: Some("in/".into()),
            suffix: None,
        }];
        Ok(())
    };
    room.store.change_container(&room.access, "p", name, &rule).await.unwrap();
    room.store.container(&room.access, "p", name, Need::Read).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_wait_until_they_are_taken_whoever_dies() {
    let _alone = ALONE.lock().await;
    let room = Room::with(config()).await;
    let (listener, at) = Listener::start(false).await;
    let c = telling(&room, "wait", &format!("http://{at}/hook")).await;
    let swift = door(&room.store).await;
    for n in 0..20 {
        assert_eq!(ask(swift, "PUT", &format!("wait/in/{n}"), "x").await, 201);
    }
    assert_eq!(ask(swift, "PUT", "wait/out", "x").await, 201);
    assert_eq!(ask(swift, "DELETE", "wait/in/0", "").await, 204);
    // Nobody takes them. This process goes; another one finds them, in rows of the index and nowhere else.
    assert_eq!(room.store.deliver_events(&c).await.unwrap(), 21);
    let next = room.another(config()).await;
    let stop = CancellationToken::new();
    let (sweeping, ended) = (next.clone(), stop.clone());
    tokio::spawn(async move { sweeping.sweep(ended).await });
    listener.open(true);
    listener.until(21).await;
    let told = listener.told();
    assert!(told.contains(&("ObjectRemoved:Delete".into(), "in/0".into())), "{told:?}");
    assert!(told.iter().all(|(_, key)| key.starts_with("in/")));
    tokio::time::timeout(Duration::from_secs(20), async {
        while room.store.deliver_events(&c).await.unwrap() > 0 {}
    })
    .await
    .unwrap();
    // Nobody wants to hear any more: nothing is kept.
    let quiet = |info: &mut ContainerInfo| {
        info.notifications.clear();
        Ok(())
    };
    room.store.change_container(&room.access, "p", "wait", &quiet).await.unwrap();
    assert_eq!(ask(swift, "PUT", "wait/in/later", "x").await, 201);
    assert_eq!(room.store.deliver_events(&c).await.unwrap(), 0);
    assert_eq!(listener.told().len(), told.len());
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_not_acknowledged_is_not_told_and_one_that_was_is() {
    let _alone = ALONE.lock().await;
    let room = Room::with(config()).await;
    let (listener, at) = Listener::start(true).await;
    let c = telling(&room, "crash", &format!("http://{at}/hook")).await;
    let swift = door(&room.store).await;
    failpoint::set("object.put:index:before", Action::Fail);
    assert_eq!(ask(swift, "PUT", "crash/in/cut", "x").await, 500);
    failpoint::clear("object.put:index:before");
    assert_eq!(ask(swift, "PUT", "crash/in/whole", "x").await, 201);
    room.store.reconcile().await.unwrap();
    assert_eq!(names(&room.store, &c).await, ["in/cut", "in/whole"]);
    assert_eq!(room.store.deliver_events(&c).await.unwrap(), 0);
    assert_eq!(listener.told(), [("ObjectCreated:Put".to_owned(), "in/whole".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_takes_is_bounded_and_nothing_inside_is_asked() {
    let _alone = ALONE.lock().await;
    // Without the operator's word, a listener on this machine is none.
    let few = Config { notification_backlog: 5, ..common::config() };
    let room = Room::with(few).await;
    let (listener, at) = Listener::start(true).await;
    let c = telling(&room, "bounded", &format!("http://{at}/hook")).await;
    let swift = door(&room.store).await;
    for n in 0..12 {
        assert_eq!(ask(swift, "PUT", &format!("bounded/in/{n:02}"), "x").await, 201);
    }
    assert_eq!(room.store.deliver_events(&c).await.unwrap(), 5);
    assert!(listener.told().is_empty());
    // The newest are those that stay.
    let open = room.another(config()).await;
    assert_eq!(open.deliver_events(&c).await.unwrap(), 0);
    let mut keys: Vec<String> = listener.told().into_iter().map(|(_, key)| key).collect();
    keys.sort();
    assert_eq!(keys, ["in/07", "in/08", "in/09", "in/10", "in/11"]);
    // Of a topic that is gone nobody is told, and nothing stays.
    assert_eq!(ask(swift, "PUT", "bounded/in/x", "x").await, 201);
    open.delete_topic(&room.access, &c.info.notifications[0].topic.to_string()).await.unwrap();
    assert_eq!(open.deliver_events(&c).await.unwrap(), 0);
    assert_eq!(listener.told().len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_outlive_their_container() {
    let _alone = ALONE.lock().await;
    let room = Room::with(config()).await;
    let (listener, at) = Listener::start(false).await;
    telling(&room, "short", &format!("http://{at}/hook")).await;
    let swift = door(&room.store).await;
    assert_eq!(ask(swift, "PUT", "short/in/x", "x").await, 201);
    assert_eq!(ask(swift, "DELETE", "short/in/x", "").await, 204);
    assert_eq!(ask(swift, "DELETE", "short", "").await, 204);
    let next = room.another(config()).await;
    let stop = CancellationToken::new();
    let (sweeping, ended) = (next.clone(), stop.clone());
    tokio::spawn(async move { sweeping.sweep(ended).await });
    listener.open(true);
    listener.until(2).await;
    stop.cancel();
    assert_eq!(room.store.deliver_orphans().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_their_projects_and_stay() {
    let _alone = ALONE.lock().await;
    for db in testbed::databases().await {
        let s = store(db, &testbed::unique("obj"), config()).await;
        let (mine, other) = (Access::of(caller("p", "member")), Access::of(caller("q", "member")));
        let endpoint = [("push-endpoint".to_owned(), "http://example.org/".to_owned())];
        let topic = s.make_topic(&mine, "t", &endpoint).await.unwrap();
        assert!(s.make_topic(&Access::default(), "t", &[]).await.is_err());
        assert!(s.make_topic(&mine, "t t", &[]).await.is_err());
        s.make_topic(&mine, "t", &endpoint).await.unwrap();
        s.make_topic(&mine, "u", &[]).await.unwrap();
        assert!(matches!(s.delete_topic(&other, &topic.to_string()).await, Err(ObjectError::Forbidden)));
        assert_eq!(s.list_topics(&mine, "", 10).await.unwrap().len(), 2);
        assert_eq!(s.list_topics(&mine, "t", 10).await.unwrap()[0].name, "u");
        assert!(s.list_topics(&other, "", 10).await.unwrap().is_empty());
        s.delete_topic(&mine, &topic.to_string()).await.unwrap();
        s.delete_topic(&mine, &topic.to_string()).await.unwrap();
        assert_eq!(s.list_topics(&mine, "", 10).await.unwrap().len(), 1);
    }
}
