//! The Swift door's finer points, request by request: what is answered, in which words, with which headers.

#![allow(clippy::unwrap_used)]

mod common;

use axum::Router;
use base64::prelude::*;
use common::wire::{Answer, ask};
use common::*;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use objectstore::*;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const USER: &str = "x-auth-token: p:member";

struct Door {
    router: Router,
}

impl Door {
    async fn with(config: Config) -> Door {
        let room = Room::with(config).await;
        let router = room.store.remapped(room.store.swift_router());
        Door { router }
    }

    async fn new() -> Door {
        Door::with(config()).await
    }

    /// As the owner of `AUTH_p`, below its account.
    async fn ask(&self, what: &str, headers: &[&str], body: impl Into<Vec<u8>>) -> Answer {
        let (method, path) = what.split_once(' ').unwrap();
        let headers: Vec<&str> = [USER].into_iter().chain(headers.iter().copied()).collect();
        ask(&self.router, &format!("{method} /v1/AUTH_p{path}"), &headers, body).await
    }

    async fn ok(&self, what: &str, headers: &[&str], body: impl Into<Vec<u8>>) -> Answer {
        let answer = self.ask(what, headers, body).await;
        assert!((200..300).contains(&answer.status), "{what}: {answer:?}");
        answer
    }

    async fn told(&self, what: &str, headers: &[&str], body: impl Into<Vec<u8>>) -> (u16, String) {
        let answer = self.ask(what, headers, body).await;
        (answer.status, answer.body)
    }

    async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("GET {path}"), &[], "").await.body).unwrap()
    }
}

fn told(status: u16, text: &str) -> (u16, String) {
    (status, text.to_owned())
}

/// Two segments of four bytes in `seg`, and a manifest of both in `c`.
async fn large() -> Door {
    let door = Door::new().await;
    for path in ["seg", "c"] {
        door.ok(&format!("PUT /{path}"), &[], "").await;
    }
    door.ok("PUT /seg/1", &[], "aaaa").await;
    door.ok("PUT /seg/2", &[], "bbbb").await;
    let list = json!([{"path": "seg/1"}, {"path": "/seg/2", "range": "-4"}]).to_string();
    door.ok("PUT /c/large?multipart-manifest=put", &["content-type: image/x"], list).await;
    door
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_segment_of_a_large_object_by_its_number() {
    let door = large().await;
    let whole = door.ok("GET /c/large", &[], "").await;
    assert_eq!(whole.body, "aaaabbbb");
    let manifest = door.ok("GET /c/large?multipart-manifest=get", &[], "").await;
    assert_eq!(whole.header("x-manifest-etag"), manifest.header("etag"));
    for method in ["GET", "HEAD"] {
        let part = door.ok(&format!("{method} /c/large?part-number=2"), &[], "").await;
        assert_eq!((part.status, part.header("content-range")), (206, "bytes 4-7/8"));
        assert_eq!((part.header("content-length"), part.header("x-parts-count")), ("4", "2"));
        assert_eq!(part.header("etag"), whole.header("etag"));
        assert_eq!(part.body, if method == "GET" { "bbbb" } else { "" });
    }
    let none = door.ask("GET /c/large?part-number=3", &[], "").await;
    assert_eq!((none.status, none.header("content-range")), (416, "bytes */8"));
    assert_eq!(none.header("x-parts-count"), "2");
    for bad in ["0", "x", "-1"] {
        let refused = door.told(&format!("GET /c/large?part-number={bad}"), &[], "").await;
        assert_eq!(refused, told(400, "Part number must be an integer greater than 0"), "{bad}");
    }
    assert_eq!(door.ask("GET /c/large?part-number=1", &["range: bytes=0-1"], "").await.status, 400);
    // Of other objects it says nothing; of copies it says what is copied.
    assert_eq!(door.ok("GET /seg/1?part-number=7", &[], "").await.status, 200);
    door.ok("COPY /c/large?part-number=1", &["destination: c/copy"], "").await;
    assert_eq!(door.ok("GET /c/copy", &[], "").await.body, "aaaa");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_is_kept_in_one_form_and_shown_as_it_came() {
    let door = large().await;
    // A range that is all of a segment is none.
    let kept = door.json("/c/large?multipart-manifest=get").await;
    assert_eq!((&kept[1]["name"], &kept[1]["range"]), (&"/seg/2".into(), &Value::Null));
    let raw = door.ok("GET /c/large?multipart-manifest=get&format=raw", &[], "").await;
    assert_eq!(raw.header("content-type"), "image/x");
    assert_eq!(raw.header("etag"), md5_hex(raw.body.as_bytes()));
    let list = json!([{"path": "seg/1", "range": "-3"}, {"path": "seg/2", "range": "1-"}]).to_string();
    door.ok("PUT /c/ranged?multipart-manifest=put", &[], list).await;
    let kept = door.json("/c/ranged?multipart-manifest=get").await;
    assert_eq!((&kept[0]["range"], &kept[1]["range"]), (&"1-3".into(), &"1-3".into()));
    // One of nothing, and one whose last segment is empty.
    door.ok("PUT /c/none?multipart-manifest=put", &[], "[]").await;
    assert_eq!(door.ok("GET /c/none", &[], "").await.body, "");
    door.ok("PUT /seg/empty", &[], "").await;
    let list = json!([{"path": "seg/1"}, {"path": "seg/empty"}]).to_string();
    door.ok("PUT /c/ends?multipart-manifest=put", &[], list).await;
    assert_eq!(door.ok("GET /c/ends", &[], "").await.body, "aaaa");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_segments_is_told_of_each() {
    let door = large().await;
    let list = json!([
        {"path": "seg/gone x"},
        {"path": "seg/1", "size_bytes": 5, "etag": "other"},
        {"path": "seg/2", "range": "9-"},
    ]);
    let list = list.to_string();
    let wrong = "Errors:\nseg/gone%20x, 404 Not Found\nseg/1, Size Mismatch\nseg/1, Etag Mismatch\n\
                 seg/2, Unsatisfiable Range\n";
    assert_eq!(door.told("PUT /c/bad?multipart-manifest=put", &[], list.clone()).await, told(400, wrong));
    let answer = door.ask("PUT /c/bad?multipart-manifest=put", &["accept: application/json"], list).await;
    let report: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(report["Errors"][0], json!(["seg/gone%20x", "404 Not Found"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_hears_that_a_manifest_is_looked_at() {
    let door = large().await;
    let put = "PUT /c/slow?multipart-manifest=put&heartbeat=on";
    let list = json!([{"path": "seg/1"}]).to_string();
    let answer = door.ask(put, &[], list.clone()).await;
    assert_eq!((answer.status, answer.header("content-length")), (202, ""));
    let etag = format!("Etag: \"{}\"", md5_hex(md5_hex(b"aaaa").as_bytes()));
    let (blank, report) = answer.body.split_once("\r\n\r\n").unwrap();
    assert!(blank.trim().is_empty() && report.contains(&etag), "{report}");
    assert!(report.contains("Response Status: 201 Created\nErrors:\n") || report.contains("Errors:\n"));
    assert_eq!(door.ok("GET /c/slow", &[], "").await.body, "aaaa");
    let json = "accept: application/json";
    let report = |answer: Answer| serde_json::from_str::<Value>(answer.body.trim()).unwrap();
    let missing = json!([{"path": "seg/gone"}]).to_string();
    let told = report(door.ask(put, &[json], missing).await);
    assert_eq!(told["Response Status"], "400 Bad Request");
    assert_eq!(told["Errors"], json!([["seg/gone", "404 Not Found"]]));
    assert!(told["Response Body"].as_str().unwrap().starts_with("Bad Request\n"), "{told}");
    let told = report(door.ask(put, &[json, "etag: other"], list).await);
    assert_eq!((&told["Response Status"], &told["Etag"]), (&"422 Unprocessable Entity".into(), &Value::Null));
    // What is no list at all is refused at once.
    assert_eq!(door.told(put, &[], "{}").await.0, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_is_copied_only_where_its_segments_are() {
    let door = large().await;
    let q = "x-auth-token: q:member";
    let put = async |path: &str, body: &str| ask(&door.router, path, &[q], body).await;
    assert_eq!(put("PUT /v1/AUTH_q/to", "").await.status, 201);
    let open = [q, "x-container-write: *:*", "x-container-read: *:*"];
    assert_eq!(ask(&door.router, "POST /v1/AUTH_q/to", &open, "").await.status, 204);
    let copy = ["destination: to/large", "destination-account: AUTH_q"];
    let refused = door.ask("COPY /c/large?multipart-manifest=get", &copy, "").await;
    assert_eq!((refused.status, refused.body.matches("403 Forbidden").count()), (400, 2), "{refused:?}");
    assert_eq!(ask(&door.router, "PUT /v1/AUTH_q/seg", &open, "").await.status, 201);
    let refused = door.ask("COPY /c/large?multipart-manifest=get", &copy, "").await;
    assert_eq!((refused.status, refused.body.matches("404 Not Found").count()), (400, 2), "{refused:?}");
    assert_eq!(put("PUT /v1/AUTH_q/seg/1", "aaaa").await.status, 201);
    assert_eq!(put("PUT /v1/AUTH_q/seg/2", "bbbb").await.status, 201);
    let copied = door.ok("COPY /c/large?multipart-manifest=get", &copy, "").await;
    assert_eq!((copied.status, copied.header("x-copied-from")), (201, "c/large"));
    assert_eq!(put("GET /v1/AUTH_q/to/large", "").await.body, "aaaabbbb");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_that_are_none() {
    let door = Door::new().await;
    for (path, status) in
        [("/v1", 412), ("/v1/", 412), ("/v1//c/o", 404), ("/v1/AUTH_p//o", 404), ("/v1///o", 404)]
    {
        let answer = ask(&door.router, &format!("GET {path}"), &[USER], "").await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.header("x-trans-id").starts_with("tx"), "{path}");
    }
    let refused = ask(&door.router, "GET /v1/AUTH_q%22%0Ax", &[], "").await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, "Swift realm=\"AUTH_q%22%0Ax\""));
    let long = format!("x-account-meta-a: {}", "x".repeat(8192));
    assert_eq!(door.told("POST ", &[&long], "").await, told(400, "Header Line Too Long"));
    let info = ask(&door.router, "OPTIONS /info", &[], "").await;
    assert_eq!((info.status, info.header("allow")), (200, "HEAD, GET, OPTIONS"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_a_request_is_sent() {
    let door = Door::new().await;
    door.ok("PUT /c", &[], "").await;
    let put = async |coding: &str| door.ask("PUT /c/o", &[coding], "").await;
    assert_eq!(put("transfer-encoding: gzip, chunked").await.status, 501);
    assert_eq!(put("transfer-encoding: gzip").await.status, 400);
    let stays = door.ok("HEAD /c", &["connection: Keep-Alive"], "").await;
    assert_eq!(stays.header("connection"), "keep-alive");
    assert_eq!(door.ok("HEAD /c", &[], "").await.header("connection"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_of_an_object_tells_which_it_is() {
    let door = Door::new().await;
    door.ok("PUT /c", &[], "").await;
    let etag = door.ok("PUT /c/o", &["content-type: text/x"], "0123456789").await.header("etag").to_owned();
    for (header, status) in [("if-match: \"other\"", 412), ("range: bytes=10-", 416)] {
        let answer = door.ask("GET /c/o", &[header], "").await;
        assert_eq!((answer.status, answer.header("etag")), (status, etag.as_str()), "{header}");
    }
    // Each condition counts.
    let old = "if-unmodified-since: Sun, 06 Nov 1994 08:49:37 GMT";
    let both = door.ask("GET /c/o", &[&format!("if-match: {etag}"), old], "").await;
    assert_eq!((both.status, both.header("etag")), (412, etag.as_str()));
    for range in ["BYTES=0-3", "bytes = 0 - 3", "Bytes=-10, 0-3"] {
        assert_eq!(door.ok("GET /c/o", &[&format!("range: {range}")], "").await.status, 206, "{range}");
    }
    // A dynamic large object is served in one range, or whole.
    door.ok("PUT /c/dlo", &["x-object-manifest: c/o"], "").await;
    assert_eq!(door.ok("GET /c/dlo", &["range: bytes=0-1,4-5"], "").await.status, 200);
    assert_eq!(door.ok("GET /c/dlo", &["range: bytes=0-1"], "").await.body, "01");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_an_object_is_to_go() {
    let door = Door::new().await;
    door.ok("PUT /c", &[], "").await;
    for header in [format!("x-delete-at: {}", "1".repeat(100)), "x-delete-after: 99999999999999".into()] {
        door.ok("PUT /c/late", &[&header], "").await;
        assert_eq!(door.ok("HEAD /c/late", &[], "").await.header("x-delete-at"), "9999999999");
    }
    for (header, why) in [
        ("x-delete-at: 1.5", "Non-integer X-Delete-At"),
        ("x-delete-at: -1", "X-Delete-At in past"),
        ("x-delete-after: 0", "X-Delete-After in past"),
        ("x-delete-after: soon", "Non-integer X-Delete-After"),
    ] {
        assert_eq!(door.told("PUT /c/o", &[header], "").await, told(400, why), "{header}");
    }
    let delete = async |header: &str| door.ask("DELETE /c/late", &[header], "").await;
    assert_eq!(delete("x-if-delete-at: soon").await.status, 400);
    assert_eq!(delete("x-if-delete-at: 1").await.status, 412);
    assert_eq!(delete("x-if-delete-at: 9999999999").await.status, 204);
    assert_eq!(door.ask("GET /c/late", &[], "").await.status, 404);
}

const OPEN: &str = "x-open-expired: true";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_is_opened_where_that_is_allowed() {
    let room = Room::with(Config { allow_open_expired: true, ..config() }).await;
    let door = Door { router: room.store.swift_router() };
    door.ok("PUT /c", &["x-container-meta-temp-url-key: key"], "").await;
    let soon = "x-delete-after: 1";
    for (name, body) in [("o", "aaaa"), ("p", "bbbb")] {
        door.ok(&format!("PUT /c/{name}"), &[soon], body).await;
    }
    let list = json!([{"path": "c/o"}, {"path": "c/p"}]).to_string();
    door.ok("PUT /c/large?multipart-manifest=put", &[soon], list).await;
    door.ok("PUT /c/link", &["x-symlink-target: c/o"], "").await;
    while door.ask("GET /c/large", &[], "").await.status == 200 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let status = async |what: &str, headers: &[&str]| door.ask(what, headers, "").await.status;
    for path in ["o", "link", "large", "large?part-number=2"] {
        for method in ["GET", "HEAD"] {
            let what = format!("{method} /c/{path}");
            assert_eq!(status(&what, &[]).await, 404, "{what}");
            assert_eq!(status(&what, &["x-open-expired: no"]).await, 404, "{what}");
        }
    }
    let o = door.ok("GET /c/o", &[OPEN], "").await;
    assert_eq!(o.body, "aaaa");
    assert!(o.header("x-delete-at").parse::<i64>().unwrap() <= state::Timestamp::now().secs());
    assert_eq!(door.ok("GET /c/link", &[OPEN], "").await.body, "aaaa");
    assert_eq!(door.ok("GET /c/large", &[OPEN], "").await.body, "aaaabbbb");
    assert_eq!(door.ok("GET /c/large?part-number=2", &[OPEN], "").await.body, "bbbb");
    assert_eq!(status("HEAD /c/large?part-number=1", &[OPEN]).await, 206);
    let copy = ["destination: c/kept", OPEN];
    assert_eq!(door.told("COPY /c/p", &copy, "").await, told(400, "X-Delete-At in past"));
    assert_eq!(status("COPY /c/p", &[copy[0], OPEN, "x-fresh-metadata: true"]).await, 201);
    assert_eq!(door.ok("GET /c/kept", &[], "").await.body, "bbbb");
    // A signed URL opens nothing more by it.
    let url = format!("GET /v1/AUTH_p/c/o?{}", signed("GET", "c", None, "o"));
    assert_eq!(ask(&door.router, &url, &[OPEN], "").await.status, 404);
    // Nor without the operator's word.
    let strict = Door { router: room.another(config()).await.swift_router() };
    assert_eq!(strict.ask("GET /c/o", &[OPEN], "").await.status, 404);
    assert_eq!(strict.ask("POST /c/o", &[OPEN], "").await.status, 404);
    let word = async |door: &Door| {
        let info: Value = serde_json::from_str(&ask(&door.router, "GET /info", &[], "").await.body).unwrap();
        info["swift"]["allow_open_expired"].clone()
    };
    assert_eq!((word(&door).await, word(&strict).await), (json!(true), json!(false)));
    // A new time brings it back.
    let later = ["x-delete-after: 3600", "x-object-meta-a: restored"];
    assert_eq!(status("POST /c/o", &later).await, 404);
    assert_eq!(status("POST /c/o", &[OPEN, later[0], later[1]]).await, 202);
    assert_eq!(door.ok("GET /c/link", &[], "").await.header("x-object-meta-a"), "restored");
    assert_eq!(door.ok("GET /c", &[], "").await.body, "kept\nlink\no\n");
    room.store.sweep_once().await.unwrap();
    assert_eq!(door.ok("GET /c/o", &[], "").await.body, "aaaa");
    assert_eq!(status("GET /c/p", &[OPEN]).await, 404, "it is removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_is_gone_before_it_is_removed() {
    let room = Room::new().await;
    let door = Door { router: room.store.swift_router() };
    let versions = async |path: &str, on: &str| {
        let header = format!("x-versions-enabled: {on}");
        door.ok(&format!("POST /{path}"), &[&header], "").await;
    };
    for path in ["c", "kept", "suspended"] {
        door.ok(&format!("PUT /{path}"), &[], "").await;
    }
    versions("kept", "true").await;
    versions("suspended", "true").await;
    let due = state::Timestamp::now().secs() + 1;
    let soon = format!("x-delete-at: {due}");
    door.ok("PUT /suspended/own", &[&soon], "a").await;
    versions("suspended", "false").await;
    for path in ["c/o", "c/id", "c/if", "c/new", "c/bulk", "kept/o", "suspended/null"] {
        door.ok(&format!("PUT /{path}"), &[&soon], "a").await;
    }
    while state::Timestamp::now().secs() < due {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let objects = async |name: &str| {
        let c = room.container(name).await;
        room.store.counts(&c).await.unwrap().objects
    };
    assert_eq!((objects("c").await, objects("kept").await, objects("suspended").await), (5, 1, 2));
    let status = async |what: &str, headers: &[&str]| door.ask(what, headers, "").await.status;
    assert_eq!(status("POST /c/o", &["x-delete-after: 60"]).await, 404);
    assert_eq!(status("COPY /c/o", &["destination: c/copy", "x-fresh-metadata: true"]).await, 404);
    // Its deletion finds nothing, and leaves nothing to be removed.
    for path in ["c/o", "c/id?version-id=null", "kept/o", "suspended/own", "suspended/null"] {
        assert_eq!(status(&format!("DELETE /{path}"), &[]).await, 404, "{path}");
    }
    assert_eq!((objects("c").await, objects("kept").await, objects("suspended").await), (3, 0, 0));
    // Who knows its time has taken it away.
    assert_eq!(status("DELETE /c/if", &["x-if-delete-at: 1"]).await, 412);
    let when = format!("x-if-delete-at: {due}");
    assert_eq!(status("DELETE /c/if", &[&when]).await, 204);
    assert_eq!(status("DELETE /c/if", &[&when]).await, 404);
    let told = door.ok("DELETE /c?bulk-delete", &["content-type: text/plain"], "c/bulk\n").await.body;
    assert!(told.contains("Number Deleted: 0\nNumber Not Found: 1\n"), "{told}");
    // And it is in nobody's way.
    assert_eq!(status("PUT /c/new", &["if-none-match: *"]).await, 201);
    assert_eq!(status("PUT /c/new", &["if-none-match: *"]).await, 412);
    assert_eq!(door.ok("GET /c", &[], "").await.body, "new\n");
    room.store.sweep_once().await.unwrap();
    assert_eq!(door.ok("GET /c", &[], "").await.body, "new\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_are_deleted_wherever_the_request_goes() {
    let door = Door::new().await;
    for path in ["c", "c/1", "c/2", "d"] {
        door.ok(&format!("PUT /{path}"), &[], "").await;
    }
    // The container comes last, though it is named first.
    let told =
        door.ok("DELETE /c/1?bulk-delete", &["content-type: text/plain"], "c\nc/1\nc/2\n/gone/o\n").await;
    assert!(told.body.starts_with("Number Deleted: 3\nNumber Not Found: 1\n"), "{}", told.body);
    assert_eq!(door.ok("GET ", &[], "").await.body, "d\n");
    let xml = door.ok("POST /d?bulk-delete", &["accept: application/xml"], "d").await.body;
    assert!(xml.contains("<number_deleted>1</number_deleted>") && xml.ends_with("</delete>\n"), "{xml}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_of_any_bytes_come_back() {
    let door = Door::new().await;
    door.ok("PUT /c", &[], "").await;
    let value = HeaderValue::from_bytes(b"ol\xe9 \xf0\x9f\xa6\x80 \xf4\x8f\xbf\xbf").unwrap();
    let request = |method: &str, path: &str| {
        let request = http::Request::builder().method(method).uri(path).header("x-auth-token", "p:member");
        request.header("content-length", 0).header("x-object-meta-a", &value)
    };
    for (method, status) in [("PUT", 201), ("POST", 202)] {
        let request = request(method, "/v1/AUTH_p/c/o").body(axum::body::Body::empty()).unwrap();
        let answer = tower::ServiceExt::oneshot(door.router.clone(), request).await.unwrap();
        assert_eq!(answer.status(), status);
        let copy = door.ok("COPY /c/o", &["destination: c/copy"], "").await;
        assert_eq!(copy.headers["x-object-meta-a"], value);
        for path in ["o", "copy"] {
            assert_eq!(door.ok(&format!("HEAD /c/{path}"), &[], "").await.headers["x-object-meta-a"], value);
        }
    }
    // Accounts and containers say what is text.
    let refused =
        http::Request::builder().method("POST").uri("/v1/AUTH_p/c").header("x-auth-token", "p:member");
    let refused = refused.header("x-container-meta-a", &value).body(axum::body::Body::empty()).unwrap();
    let refused = tower::ServiceExt::oneshot(door.router.clone(), refused).await.unwrap();
    assert_eq!(refused.status(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn static_links_are_bound_to_what_is_behind_static_links() {
    let door = large().await;
    let etag = md5_hex(b"aaaa");
    let link =
        |to: &str, etag: &str| (format!("x-symlink-target: {to}"), format!("x-symlink-target-etag: {etag}"));
    let (to, bound) = link("seg/1", &etag);
    door.ok("POST /seg/1", &["content-type: text/x"], "").await;
    door.ok("PUT /c/static", &[&to, &bound], "").await;
    let listed = door.json("/c?format=json&prefix=static").await;
    assert_eq!((&listed[0]["content_type"], &listed[0]["symlink_bytes"]), (&"text/x".into(), &4.into()));
    // Through another static one, but not through a dynamic one.
    let (to, bound) = link("c/static", &etag);
    door.ok("PUT /c/twice", &[&to, &bound], "").await;
    assert_eq!(door.ok("GET /c/twice", &[], "").await.body, "aaaa");
    door.ok("PUT /c/soft", &["x-symlink-target: seg/1"], "").await;
    let (to, bound) = link("c/soft", &etag);
    let refused = door.ask("PUT /c/hard", &[&to, &bound], "").await;
    assert_eq!((refused.status, refused.header("content-location")), (409, "/v1/AUTH_p/c/soft"));
    let why = format!("Object Etag '{}' does not match X-Symlink-Target-Etag header '{etag}'", md5_hex(b""));
    assert_eq!(refused.body, why);
    // A static large object is known by its manifest.
    let manifest = door.ok("HEAD /c/large", &[], "").await.header("x-manifest-etag").to_owned();
    let (to, bound) = link("c/large", &manifest);
    door.ok("PUT /c/to-large", &[&to, &bound], "").await;
    assert_eq!(door.ok("GET /c/to-large", &[], "").await.body, "aaaabbbb");
    let listed = door.json("/c?format=json&prefix=to-large").await;
    let slo_etag = door.ok("HEAD /c/large", &[], "").await.header("etag").to_owned();
    assert_eq!((&listed[0]["slo_etag"], &listed[0]["symlink_etag"]), (&slo_etag.into(), &manifest.into()));
    assert!(!format!("{:?}", door.ok("HEAD /c/to-large?symlink=get", &[], "").await).contains("slo-etag"));
    // Where a broken one leads is still told.
    door.ok("PUT /seg/1", &[], "other").await;
    let broken = door.ask("GET /c/static", &[], "").await;
    assert_eq!((broken.status, broken.header("content-location")), (409, "/v1/AUTH_p/seg/1"));
    let posted = door.ask("POST /c/static", &["x-object-meta-a: 1"], "").await;
    assert_eq!((posted.status, posted.header("location")), (307, "/v1/AUTH_p/seg/1"));
    assert_eq!(posted.header("x-symlink-target-etag"), etag);
    door.ok("DELETE /seg/1", &[], "").await;
    let gone = door.ask("GET /c/static", &[], "").await;
    assert_eq!((gone.status, gone.header("content-location")), (404, "/v1/AUTH_p/seg/1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_as_clients_name_them() {
    let door = Door::new().await;
    door.ok("PUT /c", &["x-versions-enabled: true", "x-container-read: *:*"], "").await;
    let mut ids = Vec::new();
    for body in ["1", "2", "3"] {
        ids.push(door.ok("PUT /c/o", &[], body).await.header("x-object-version-id").to_owned());
    }
    // The listing says which version is shown.
    let listed = door.json("/c?format=json").await;
    let path = format!("/v1/AUTH_p/c/o?version-id={}", ids[2]);
    assert_eq!((&listed[0]["symlink_path"], &listed[0]["version_symlink"]), (&path.into(), &true.into()));
    // An older one that is the latest again stays among the others by its age.
    assert_eq!(door.ask("PUT /c/o?version-id=null", &[], "").await.status, 400);
    door.ok(&format!("PUT /c/o?version-id={}", ids[1]), &[], "").await;
    let all = door.json("/c?versions&format=json").await;
    let seen: Vec<(&Value, &Value)> =
        all.as_array().unwrap().iter().map(|v| (&v["version_id"], &v["is_latest"])).collect();
    let id = |n: usize| Value::from(ids[n].as_str());
    let (no, yes) = (Value::Bool(false), Value::Bool(true));
    assert_eq!(seen, [(&id(2), &no), (&id(1), &yes), (&id(0), &no)]);
    assert_eq!(door.ask("GET /c?versions&format=xml", &[], "").await.status, 406);
    // The container's ACL is about the latest.
    let other = "x-auth-token: q:member";
    assert_eq!(ask(&door.router, "GET /v1/AUTH_p/c/o", &[other], "").await.body, "2");
    let older = format!("GET /v1/AUTH_p/c/o?version-id={}", ids[0]);
    assert_eq!(ask(&door.router, &older, &[other], "").await.status, 403);
    assert_eq!(ask(&door.router, &older, &[USER], "").await.body, "1");
    // Without a null version it is the object that goes, and its versions stay.
    assert_eq!(door.ok("DELETE /c/o?version-id=null", &[], "").await.status, 204);
    assert_eq!(door.ask("GET /c/o", &[], "").await.status, 404);
    assert_eq!(door.json("/c?versions&format=json").await.as_array().unwrap().len(), 3);
    // A version of a link leads where that link led.
    let link = door.ok("PUT /c/link", &["x-symlink-target: d/target"], "").await;
    let link = link.header("x-object-version-id").to_owned();
    door.ok("PUT /d", &[], "").await;
    door.ok("PUT /d/target", &[], "found").await;
    door.ok("PUT /c/link", &[], "no link").await;
    assert_eq!(door.ok(&format!("GET /c/link?version-id={link}"), &[], "").await.body, "found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_version_of_a_manifest_goes_with_its_segments() {
    let door = large().await;
    door.ok("POST /c", &["x-versions-enabled: true"], "").await;
    let put = async |path: &str| {
        let list = json!([{"path": path}, {"data": "eA=="}]).to_string();
        let made = door.ok("PUT /c/m?multipart-manifest=put", &[], list).await;
        made.header("x-object-version-id").to_owned()
    };
    let (first, _) = (put("seg/1").await, put("seg/2").await);
    // What is content of the manifest itself is kept as it came.
    let kept = door.json("/c/m?multipart-manifest=get").await;
    assert_eq!(kept[1], json!({"data": "eA=="}));
    let delete = format!("DELETE /c/m?multipart-manifest=delete&version-id={first}");
    let told = door.ok(&delete, &["accept: application/json"], "").await;
    let told: Value = serde_json::from_str(&told.body).unwrap();
    assert_eq!((&told["Number Deleted"], &told["Errors"]), (&2.into(), &json!([])));
    assert_eq!(door.ask("GET /seg/1", &[], "").await.status, 404);
    assert_eq!(door.ok("GET /c/m", &[], "").await.body, "bbbbx");
    assert_eq!(door.ask(&format!("GET /c/m?version-id={first}"), &[], "").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_may_be_links_and_need_to_be_readable() {
    let door = large().await;
    door.ok("PUT /c/link", &["x-symlink-target: seg/1"], "").await;
    let list = json!([{"path": "c/link"}, {"path": "seg/2"}]).to_string();
    door.ok("PUT /c/linked?multipart-manifest=put", &[], list).await;
    assert_eq!(door.ok("GET /c/linked", &[], "").await.body, "aaaabbbb");
    // Who may read the manifest, but not what it names.
    door.ok("POST /c", &["x-container-read: .r:*"], "").await;
    assert_eq!(ask(&door.router, "GET /v1/AUTH_p/c/large", &[], "").await.status, 409);
    door.ok("POST /seg", &["x-container-read: .r:*"], "").await;
    assert_eq!(ask(&door.router, "GET /v1/AUTH_p/c/large", &[], "").await.body, "aaaabbbb");
}

/// The parameters of a signed URL for what begins with `prefix` in `container`, or for one object.
fn signed(method: &str, container: &str, prefix: Option<&str>, object: &str) -> String {
    let at = state::Timestamp::now().secs() + 600;
    let text = match prefix {
        Some(prefix) => format!("{method}\n{at}\nprefix:/v1/AUTH_p/{container}/{prefix}"),
        None => format!("{method}\n{at}\n/v1/AUTH_p/{container}/{object}"),
    };
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"key").unwrap();
    mac.update(text.as_bytes());
    let sum = BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    let prefix = prefix.map(|p| format!("&temp_url_prefix={p}")).unwrap_or_default();
    format!("temp_url_sig=sha256:{sum}&temp_url_expires={at}{prefix}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_url_gives_what_it_says_and_no_more() {
    let door = Door::new().await;
    door.ok("POST ", &["x-account-meta-temp-url-key: key"], "").await;
    door.ok("PUT /c", &[], "").await;
    let meta = [
        "content-disposition: attachment; filename=own",
        "x-object-meta-secret: 1",
        "x-object-meta-public-a: 2",
    ];
    door.ok("PUT /c/o", &meta, "content").await;
    door.ok("PUT /c/plain", &[], "content").await;
    let get = async |query: &str, object: &str| {
        ask(&door.router, &format!("GET /v1/AUTH_p/c/{object}?{query}"), &[], "").await
    };
    let read = get(&signed("GET", "c", None, "o"), "o").await;
    assert_eq!((read.status, read.body.as_str()), (200, "content"));
    assert_eq!(read.header("content-disposition"), "attachment; filename=own");
    assert_eq!((read.header("x-object-meta-secret"), read.header("x-object-meta-public-a")), ("", "2"));
    let plain = get(&signed("GET", "c", None, "plain"), "plain").await;
    assert_eq!(plain.header("content-disposition"), "attachment; filename=\"plain\"; filename*=UTF-8''plain");
    let named = get(&format!("{}&filename=a%22b&inline", signed("GET", "c", None, "o")), "o").await;
    assert_eq!(named.header("content-disposition"), "inline; filename=\"a%22b\"; filename*=UTF-8''a%22b");
    // What is not signed is not heard: this would delete what the manifest names.
    let list = json!([{"path": "c/plain"}]).to_string();
    door.ok("PUT /c/large?multipart-manifest=put", &[], list).await;
    let delete = format!(
        "DELETE /v1/AUTH_p/c/large?multipart-manifest=delete&{}",
        signed("DELETE", "c", None, "large")
    );
    assert_eq!(ask(&door.router, &delete, &[], "").await.status, 204);
    assert_eq!(door.ok("GET /c/plain", &[], "").await.body, "content");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_url_leads_through_a_web_site() {
    let door = Door::with(Config { swift_domains: vec!["swift.example".into()], ..config() }).await;
    door.ok("PUT /c", &["x-container-meta-temp-url-key: key"], "").await;
    door.ok("PUT /c/dir/o", &[], "content").await;
    let all = signed("GET", "c", Some(""), "");
    let get =
        async |path: &str, headers: &[&str]| ask(&door.router, &format!("GET {path}"), headers, "").await;
    // Of a container that is no site, its objects alone.
    assert_eq!(get(&format!("/v1/AUTH_p/c?{all}"), &[]).await.status, 401);
    door.ok("POST /c", &["x-container-meta-web-listings: true"], "").await;
    let moved = get(&format!("/v1/AUTH_p/c?{all}"), &["host: here:80"]).await;
    assert_eq!((moved.status, moved.header("location")), (301, "http://here:80/v1/AUTH_p/c/"));
    let page = get(&format!("/v1/AUTH_p/c/?{all}"), &[]).await;
    assert_eq!((page.status, page.header("content-disposition")), (200, "inline"));
    assert!(page.body.contains("href=\"./dir/?temp_url_prefix=&amp;temp_url_expires="), "{}", page.body);
    // A URL for a folder goes no higher than that.
    let dir = signed("GET", "c", Some("dir/"), "");
    let page = get(&format!("/v1/AUTH_p/c/dir/?{dir}"), &[]).await;
    assert!(page.status == 200 && !page.body.contains("href=\"../"), "{page:?}");
    assert_eq!(get(&format!("/v1/AUTH_p/c/?{dir}"), &[]).await.status, 401);
    // By the account's own host name, a folder is where the browser asked for it.
    door.ok("POST /c", &["x-container-read: .r:*,.rlistings"], "").await;
    let by_name = ["host: c.AUTH_p.swift.example", "x-forwarded-proto: https"];
    let moved = get("/dir", &by_name).await;
    assert_eq!((moved.status, moved.header("location")), (301, "https://c.AUTH_p.swift.example/dir/"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_asks_for_its_source_first() {
    let door = Door::new().await;
    door.ok("PUT /c", &[], "").await;
    let q = ["destination: none/o", "destination-account: AUTH_q"];
    assert_eq!(door.ask("COPY /c/gone", &q, "").await.status, 404);
    door.ok("PUT /c/o", &[], "").await;
    assert_eq!(door.ask("COPY /c/o", &q, "").await.status, 403);
    let q = "x-auth-token: q:member";
    let from = ["x-copy-from: c/o", "x-copy-from-account: AUTH_p"];
    let put = ask(&door.router, "PUT /v1/AUTH_q/none/o", &[q, from[0], from[1]], "").await;
    assert_eq!(put.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_is_put_again_has_changed() {
    let room = Room::new().await;
    let door = Door { router: room.store.swift_router() };
    let changed = async || door.json("?format=json").await[0]["last_modified"].clone();
    door.ok("PUT /c", &[], "").await;
    let first = changed().await;
    assert_eq!(door.ok("PUT /c", &[], "").await.status, 202);
    assert_ne!(changed().await, first);
    // The other processes need not hear of that: they go on with what they remember.
    let process = room.another(config()).await;
    let remembered = async || process.container(&room.access, "p", "c", Need::Read).await.unwrap();
    while !Arc::ptr_eq(&remembered().await, &remembered().await) {
        tokio::time::sleep(Duration::from_millis(50)).await; // it does not watch yet
    }
    let before = remembered().await;
    door.ok("PUT /c", &[], "").await;
    assert!(Arc::ptr_eq(&before, &remembered().await));
    // Whoever puts it with something new does change it, for every process at once.
    let other = Door { router: process.swift_router() };
    for (meta, shown) in [("x-container-meta-a: 1", "1"), ("x-container-meta-a: 2", "2")] {
        for door in [&door, &other] {
            assert_eq!(door.ok("PUT /c", &[meta], "").await.status, 202);
            assert_eq!(other.ok("HEAD /c", &[], "").await.header("x-container-meta-a"), shown);
        }
    }
    assert_eq!(door.ask("PUT /c", &["x-storage-policy: silver"], "").await.status, 409);
    other.ok("DELETE /c", &[], "").await;
    assert_eq!(door.ok("PUT /c", &["x-storage-policy: silver"], "").await.status, 201);
    let long = door.ask(&format!("PUT /{}", "x".repeat(257)), &[], "").await;
    assert_eq!((long.status, long.header("content-type")), (400, "text/html; charset=UTF-8"));
    // The folder without a name is one of its own.
    for name in ["%2Fa", "b"] {
        door.ok(&format!("PUT /c/{name}"), &[], "").await;
    }
    assert_eq!(door.ok("GET /c?path=/", &[], "").await.body, "/a\n");
    assert_eq!(door.ok("GET /c?path=", &[], "").await.body, "b\n");
}
