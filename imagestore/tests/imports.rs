//! Imports from the web, into several stores, and as tasks; each on both databases.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Cloud, Mortal, body, disk, ended, import, new, noise, until};
use imagestore::{Config, ImportFilter};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What is said to whom asks for a path.
type Pages = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// A web server that says exactly what it is told to, byte for byte, and counts who asks. A page that ends without
/// its announced length hangs.
struct Web {
    port: u16,
    pages: Pages,
    asked: Arc<AtomicUsize>,
}

impl Web {
    async fn new() -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (pages, asked) = (Pages::default(), Arc::<AtomicUsize>::default());
        let (known, count) = (pages.clone(), asked.clone());
        tokio::spawn(async move {
            while let Ok((mut peer, _)) = listener.accept().await {
                let (known, count) = (known.clone(), count.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(peer.read_u8().await.unwrap_or(b'\n'));
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or("/").to_owned();
                    let page = known.lock().unwrap().get(&path).cloned();
                    let page =
                        page.unwrap_or_else(|| b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n".to_vec());
                    let _ = peer.write_all(&page).await;
                    if path == "/hangs" {
                        // until the other side gives up
                        let _ = peer.read_u8().await;
                    }
                });
            }
        });
        Web { port, pages, asked }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn says(&self, path: &str, head: &str, bytes: &[u8]) {
        let page = [format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), bytes].concat();
        self.pages.lock().unwrap().insert(path.to_owned(), page);
    }

    fn has(&self, path: &str, bytes: &[u8]) -> String {
        self.says(path, &format!("200 OK\r\ncontent-length: {}", bytes.len()), bytes);
        self.url(path)
    }

    fn redirects(&self, path: &str, to: &str) -> String {
        self.says(path, &format!("302 Found\r\ncontent-length: 0\r\nlocation: {to}"), b"");
        self.url(path)
    }
}

/// The machine itself may be asked, on every port.
fn open() -> Config {
    let import_filter = ImportFilter {
        allowed_ports: Vec::new(),
        allowed_networks: vec!["127.0.0.1/32".parse().unwrap()],
        ..ImportFilter::default()
    };
    Config { import_filter, size_cap: 64 << 20, ..Config::default() }
}

fn web(uri: &str) -> Value {
    json!({"method": {"name": "web-download", "uri": uri}})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_from_the_web() {
    let server = Web::new().await;
    let bytes = disk(9 << 20);
    let dir = tempfile::tempdir().unwrap();
    let (raw, qcow2) = (dir.path().join("raw"), dir.path().join("qcow2"));
    std::fs::write(&raw, &bytes).unwrap();
    let mut qemu = std::process::Command::new("qemu-img");
    let made = qemu.args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(&qcow2).status().unwrap();
    assert!(made.success());
    let file = std::fs::read(&qcow2).unwrap();
    let plain = server.has("/raw", &bytes);
    server.says("/endless", "200 OK\r\nconnection: close", &bytes);
    server.redirects("/there", "raw");
    for db in testbed::databases().await {
        let c = Cloud::with(db, open()).await;
        for (format, uri, sent) in [
            ("raw", plain.clone(), &bytes),
            ("raw", server.url("/endless"), &bytes),
            ("raw", server.redirects("/here", &server.url("/there")), &bytes),
            ("qcow2", server.has("/qcow2", &file), &file),
        ] {
            let id = new(&c, format).await;
            assert_eq!(import(&c, &id, web(&uri)).await, 202);
            let task = ended(&c, &id).await;
            assert_eq!((&task["status"], &task["message"]), (&json!("success"), &json!("")), "{uri}");
            assert_eq!(task["input"]["import_req"]["method"]["uri"], uri);
            let image = c.show(&id).await;
            assert_eq!((&image["status"], &image["size"]), (&json!("active"), &json!(sent.len())));
            assert_eq!(
                (&image["os_glance_importing_to_stores"], &image["os_glance_failed_import"]),
                (&json!(""), &json!(""))
            );
            assert!(image.get("os_glance_import_task").is_none(), "{image}");
            assert!(
                &c.file("alice", &id).await == sent && c.disk(&id).await[..bytes.len()] == bytes,
                "{uri}"
            );
            assert_eq!(import(&c, &id, web(&uri)).await, 409, "active already");
            assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        }
        c.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_web_does_wrong_leaves_a_queued_image() {
    let server = Web::new().await;
    let short = noise(3000, 3);
    server.says("/short", "200 OK\r\ncontent-length: 5000", &short);
    server.says("/large", "200 OK\r\ncontent-length: 99999999999", &short);
    server.says("/broken", "200 OK\r\ntransfer-encoding: chunked", b"bb8\r\nnot that much");
    server.redirects("/loop", "/loop");
    server.says("/nowhere", "302 Found\r\ncontent-length: 0", b"");
    let qcow2 = server.has("/noqcow2", &short);
    for db in testbed::databases().await {
        let c = Cloud::with(db, open()).await;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        for (format, uri) in [
            ("raw", server.url("/missing")),
            ("raw", server.url("/short")),
            ("raw", server.url("/large")),
            ("raw", server.url("/broken")),
            ("raw", server.url("/loop")),
            ("raw", server.url("/nowhere")),
            ("qcow2", qcow2.clone()),
            ("raw", "http://does-not.exist/no/possible/way".to_owned()),
            ("raw", format!("http://127.0.0.1:{closed}/")),
            // Hops that lead where nobody may ask.
            ("raw", server.redirects("/to-metadata", "http://169.254.169.254/latest/meta-data/")),
            ("raw", server.redirects("/to-other", &format!("http://127.0.0.2:{}/raw", server.port))),
            ("raw", server.redirects("/to-file", "file:///etc/passwd")),
            ("raw", server.redirects("/to-six", "http://[::ffff:10.0.0.1]/")),
        ] {
            let id = new(&c, format).await;
            assert_eq!(import(&c, &id, web(&uri)).await, 202, "{uri}");
            let task = ended(&c, &id).await;
            assert_eq!(task["status"], "failure", "{uri}");
            assert!(!task["message"].as_str().unwrap().is_empty(), "{task}");
            let image = c.show(&id).await;
            assert_eq!((&image["status"], &image["size"]), (&json!("queued"), &Value::Null), "{uri}");
            assert_eq!(
                (&image["os_glance_failed_import"], &image["os_glance_importing_to_stores"]),
                (&json!("images"), &json!(""))
            );
            assert!(c.rbd().list().await.unwrap().is_empty(), "{uri}");
        }
        c.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_inside_is_asked() {
    let server = Web::new().await;
    server.has("/raw", b"secret");
    let db = testbed::databases().await.remove(0);
    let filter = ImportFilter { allowed_ports: Vec::new(), ..ImportFilter::default() };
    let c = Cloud::with(db, Config { import_filter: filter, ..Config::default() }).await;
    for bad in [
        server.url("/raw"),
        format!("http://2130706433:{}/raw", server.port),
        format!("http://[::ffff:127.0.0.1]:{}/raw", server.port),
        "http://169.254.169.254/".to_owned(),
        "ftp://example.org/".to_owned(),
        String::new(),
    ] {
        let id = new(&c, "raw").await;
        let r = c.post("alice", &format!("/v2/images/{id}/import"), web(&bad)).await;
        assert_eq!(r.status(), StatusCode::BAD_REQUEST, "{bad}");
        assert!(r.text().await.unwrap().contains("does not pass filtering"), "{bad}");
        assert_eq!(c.show(&id).await["status"], "queued");
    }
    // A name is looked at when it is resolved: only that address is connected to.
    let id = new(&c, "raw").await;
    assert_eq!(import(&c, &id, web(&format!("http://localhost:{}/raw", server.port))).await, 202);
    assert_eq!(ended(&c, &id).await["status"], "failure");
    assert_eq!(server.asked.load(Ordering::SeqCst), 0, "nobody was asked");
    c.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_image_ends_its_fetch_and_a_silent_server_is_given_up() {
    let server = Web::new().await;
    server.says("/hangs", "200 OK\r\ncontent-length: 5000", b"one");
    let mut config = open();
    config.import_filter.timeout_s = 2;
    for (db, config) in testbed::databases().await.into_iter().zip([open(), config]) {
        let waits = config.import_filter.timeout_s > 2;
        let c = Cloud::with(db, config).await;
        let id = new(&c, "raw").await;
        let before = server.asked.load(Ordering::SeqCst);
        assert_eq!(import(&c, &id, web(&server.url("/hangs"))).await, 202);
        until("it is asked", async || server.asked.load(Ordering::SeqCst) > before).await;
        if waits {
            assert_eq!(import(&c, &id, web(&server.url("/hangs"))).await, 409, "one at a time");
            assert_eq!(c.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
            assert_eq!(c.get("alice", &format!("/v2/images/{id}")).await.status(), StatusCode::NOT_FOUND);
        } else {
            assert!(ended(&c, &id).await["message"].as_str().unwrap().contains("in time"));
        }
        c.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_task_import_makes_an_image() {
    let server = Web::new().await;
    let bytes = noise(70_000, 5);
    let uri = server.has("/raw", &bytes);
    for db in testbed::databases().await {
        let c = Cloud::with(db, open()).await;
        let ask = |uri: &str, format: &str| {
            json!({"type": "import", "input": {"import_from": uri, "import_from_format": format,
                "image_properties": {"name": "fetched", "disk_format": "raw", "container_format": "bare"}}})
        };
        assert_eq!(c.post("alice", "/v2/tasks", ask(&uri, "raw")).await.status(), StatusCode::FORBIDDEN);
        for bad in [
            json!({}),
            json!({"type": "export", "input": {}}),
            json!({"type": "import", "input": {}}),
            ask(&uri, "qcow2"),
            ask("http://10.0.0.1/x", "raw"),
        ] {
            assert_eq!(
                c.post("admin", "/v2/tasks", bad.clone()).await.status(),
                StatusCode::BAD_REQUEST,
                "{bad}"
            );
        }
        let run = async |uri: &str| {
            let r = c.post("admin", "/v2/tasks", ask(uri, "raw")).await;
            assert_eq!(r.status(), StatusCode::CREATED);
            let task = body(r).await;
            assert_eq!((&task["type"], &task["status"]), (&json!("import"), &json!("pending")));
            let path = format!("/v2/tasks/{}", task["id"].as_str().unwrap());
            let state = async || c.read("admin", &path).await["status"].clone();
            until("the task ends", async || {
                !["pending", "processing"].contains(&state().await.as_str().unwrap())
            })
            .await;
            c.read("admin", &path).await
        };
        let task = run(&uri).await;
        assert_eq!(
            (&task["status"], &task["input"]["import_from"]),
            (&json!("success"), &json!(uri)),
            "{task}"
        );
        let id = task["result"]["image_id"].as_str().unwrap();
        assert_eq!(c.show(id).await["name"], "fetched");
        assert!(c.file("admin", id).await == bytes);
        assert_eq!(c.delete("admin", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        // A failed one says why, and leaves no image.
        let task = run(&server.url("/missing")).await;
        assert_eq!(task["status"], "failure", "{task}");
        assert!(task["message"].as_str().unwrap().contains("404"), "{task}");
        assert_eq!(c.read("admin", "/v2/images?visibility=all").await["images"], json!([]));

        // Tasks by state and type, a page at a time, in either order.
        for _ in 0..2 {
            run(&server.url("/missing")).await;
        }
        let list = async |query: &str| c.read("admin", &format!("/v2/tasks{query}")).await;
        let times = |page: &Value| {
            let tasks = page["tasks"].as_array().unwrap().clone();
            tasks.iter().map(|t| t["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let all = times(&list("?type=import&status=failure").await);
        assert_eq!(all.len(), 3);
        until("the first one goes with its image", async || {
            list("?status=success").await["tasks"] == json!([])
        })
        .await;
        assert_eq!(list("?type=location_import").await["tasks"], json!([]));
        let mut back = times(&list("?sort_key=created_at&sort_dir=asc").await);
        back.reverse();
        assert_eq!(back, all);
        let first = list("?limit=2&status=failure").await;
        assert_eq!(times(&first), all[..2]);
        let second = c.read("admin", first["next"].as_str().unwrap()).await;
        assert_eq!((times(&second), second.get("next")), (all[2..].to_vec(), None));
        for (bad, status) in [
            ("?type=x", 400),
            ("?status=x", 400),
            ("?sort_key=x", 400),
            ("?sort_dir=x", 400),
            ("?limit=-1", 400),
            ("?marker=x", 404),
        ] {
            assert_eq!(c.get("admin", &format!("/v2/tasks{bad}")).await.status().as_u16(), status, "{bad}");
        }
        c.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_a_fetch_begins_anew() {
    let bytes = noise(70_000, 9);
    for url in common::urls().await {
        let server = Web::new().await;
        server.says("/hangs", "200 OK\r\ncontent-length: 70000", &bytes[..5000]);
        let (tiers, namespace) = common::tiers().await;
        let mortal = Mortal::start(&url, &tiers, &namespace, open()).await;
        let first = &mortal.cloud;
        let id = new(first, "raw").await;
        assert_eq!(import(first, &id, web(&server.url("/hangs"))).await, 202);
        until("bytes are in the pool", async || !first.rbd().list().await.unwrap().is_empty()).await;
        mortal.die();
        server.has("/hangs", &bytes);
        let second = Cloud::start(common::open(&url).await, tiers, namespace, open()).await;
        second.until_status(&id, "active").await;
        assert!(second.file("alice", &id).await == bytes);
        assert_eq!(ended(&second, &id).await["status"], "success");
        assert_eq!(second.delete("alice", &format!("/v2/images/{id}")).await, StatusCode::NO_CONTENT);
        second.end().await;
    }
}
