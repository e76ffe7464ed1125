//! S3's clients on the wire that lie about lengths, leave in the middle, or send slowly; and small bodies that never end:
//! nothing of theirs is listed or stays in storage, no connection waits for ever, and memory is bounded.

#![allow(clippy::unwrap_used)]

mod common;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::*;
use hmac::{Hmac, KeyInit, Mac};
use objectstore::*;
use sha1::Sha1;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

struct Doors {
    room: Room,
    bucket: Arc<Container>,
    s3: SocketAddr,
    swift: SocketAddr,
    stop: CancellationToken,
}

async fn doors(config: Config) -> Doors {
    let room = Room::with(Config { garbage_grace_s: 0, abandoned_s: 0, ..config }).await;
    let bucket = room.container("bucket").await;
    let stop = CancellationToken::new();
    let serve = async |router: axum::Router| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(api::server::serve(listener, router, stop.clone()));
        at
    };
    let (s3, swift) = (serve(room.store.s3_router()).await, serve(room.store.swift_router()).await);
    Doors { room, bucket, s3, swift, stop }
}

/// A small head, so that little makes tails.
fn tight() -> Config {
    Config { body_idle_s: 1, head_bytes: 4096, stripe_bytes: 65_536, piece_bytes: 65_536, ..config() }
}

/// The head of a request, signed by version 2: its body is not.
fn head(what: &str, headers: &[(&str, &str)]) -> String {
    let (method, path) = what.split_once(' ').unwrap();
    let date = httpdate::fmt_http_date(SystemTime::now());
    let mut amz: Vec<String> =
        headers.iter().filter(|(n, _)| n.starts_with("x-amz-")).map(|(n, v)| format!("{n}:{v}\n")).collect();
    amz.sort();
    let text = format!("{method}\n\n\n{date}\n{}{path}", amz.concat());
    let mac = Hmac::<Sha1>::new_from_slice(SECRET_KEY.as_bytes()).unwrap();
    let sum = BASE64_STANDARD.encode(mac.chain_update(text.as_bytes()).finalize().into_bytes());
    let rest: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
    format!(
        "{what} HTTP/1.1\r\nhost: x\r\ndate: {date}\r\nauthorization: AWS {ACCESS_KEY}:{sum}\r\nconnection: close\r\n{rest}\r\n"
    )
}

/// Sends bytes, and reads what comes until the server is done with the connection.
async fn send(at: SocketAddr, parts: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    for part in parts {
        if stream.write_all(part).await.is_err() {
            break; // it has answered, and does not want the rest
        }
    }
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection is stuck");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends bytes and leaves.
async fn leave(at: SocketAddr, parts: &[&[u8]]) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    for part in parts {
        stream.write_all(part).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    // Until the server has noticed: what it does then is done before it closes.
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.unwrap();
}

fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0)
}

/// A body in chunks without signatures.
fn chunked(data: &[u8]) -> Vec<u8> {
    let mut out = format!("{:x}\r\n", data.len()).into_bytes();
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n0\r\n\r\n");
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_clients_that_lie_or_leave_leave_nothing() {
    let d = doors(tight()).await;
    let data = noise(200_000, 1);
    let half = &data[..100_000];
    let whole = chunked(&data);
    let lengths = |http: usize, decoded: &str| {
        head(
            "PUT /bucket/lies",
            &[
                ("content-length", http.to_string().as_str()),
                ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
                ("x-amz-decoded-content-length", decoded),
            ],
        )
    };
    // The length behind the chunks is what is said, or it is nothing.
    for decoded in ["199999", "200001", "0", "5000000000"] {
        let answer = send(d.s3, &[lengths(whole.len(), decoded).as_bytes(), &whole]).await;
        assert_eq!(status(&answer), 400, "{decoded}: {answer}");
        assert!(answer.contains("IncompleteBody"), "{decoded}: {answer}");
    }
    for decoded in ["many", "-1", ""] {
        let answer = send(d.s3, &[lengths(whole.len(), decoded).as_bytes(), &whole]).await;
        assert_eq!(status(&answer), 411, "{decoded}: {answer}");
    }
    // A chunk that ends early, or says that it is longer than everything.
    for broken in
        [&whole[..whole.len() - 5], &whole[..half.len()], b"ffffffffffffffff\r\nabc", b"5\r\nabcdefg\r\n"]
    {
        let answer = send(d.s3, &[lengths(broken.len(), "200000").as_bytes(), broken]).await;
        assert_eq!(status(&answer), 400, "{answer}");
    }
    // Promises more than it sends, and holds the connection: within a short time it is told so.
    let began = Instant::now();
    let plain = |name: &str, n: usize| {
        head(&format!("PUT /bucket/{name}"), &[("content-length", n.to_string().as_str())])
    };
    let answer = send(d.s3, &[plain("idle", data.len()).as_bytes(), half]).await;
    assert_eq!(status(&answer), 400, "{answer}");
    assert!(answer.contains("RequestTimeout") && began.elapsed() < Duration::from_secs(10), "{answer}");
    leave(d.s3, &[plain("leaves", data.len()).as_bytes(), half]).await;
    leave(d.s3, &[lengths(whole.len(), "200000").as_bytes(), &whole[..100_000]]).await;
    // Less than it sends: the rest is no request of its own.
    let answer = send(d.s3, &[plain("less", 10).as_bytes(), half]).await;
    assert_eq!(status(&answer), 200, "{answer}");
    // A part of an upload is no other than an object.
    let new = NewObject { name: "upload".into(), ..NewObject::default() };
    let upload = d.room.store.begin_upload(&d.bucket, new, None, false).await.unwrap();
    let part = format!("PUT /bucket/upload?partNumber=1&uploadId={upload}");
    leave(d.s3, &[head(&part, &[("content-length", "200000")]).as_bytes(), half]).await;
    let store = &d.room.store;
    store.abort_upload(&d.bucket, "upload", upload).await.unwrap();
    assert_eq!(names(store, &d.bucket).await, ["less"]);
    assert_eq!(store.counts(&d.bucket).await.unwrap(), Counts { objects: 1, bytes: 10 });
    d.stop.cancel();
    store.sweep_once().await.unwrap();
    store.sweep_once().await.unwrap();
    let all = everything(&d.room).await;
    assert!(matches!(all.as_slice(), [only] if only.ends_with(".less")), "{all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_bodies_that_do_not_end_are_given_up() {
    let d = doors(tight()).await;
    let keep = |info: &mut ContainerInfo| {
        info.versioning = Versioning::Enabled;
        Ok(())
    };
    let (room, new) = (&d.room, NewContainer::default());
    let kept = room.store.make_container(&room.access, "p", "kept", &new, &keep).await.unwrap().container;
    let version = put(&room.store, &kept, "o", "x").await.version.unwrap();
    let restore = format!("PUT /v1/AUTH_p/kept/o?version-id={version}");
    let token = "x-auth-token: p:member\r\nconnection: close\r\n";
    let swift = |what: &str, length: &str| format!("{what} HTTP/1.1\r\nhost: x\r\n{token}{length}\r\n\r\n");
    let (sized, chunks) = ("content-length: 1000", "transfer-encoding: chunked");
    let sns = "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 1000\r\nauthorization: AWS4-HMAC-SHA256 Credential=x/20260101/r/sns/aws4_request, SignedHeaders=host, Signature=0\r\nconnection: close\r\n\r\n";
    let mut waits = JoinSet::new();
    for (at, request, wanted) in [
        (d.s3, head("POST /bucket?delete", &[("content-length", "1000")]), 400),
        (d.s3, head("PUT /bucket?tagging", &[("content-length", "1000")]), 400),
        (d.s3, sns.to_owned(), 400),
        (d.swift, swift("PUT /v1/AUTH_p/bucket/o?multipart-manifest=put", sized), 408),
        (d.swift, swift("POST /v1/AUTH_p?bulk-delete", sized), 408),
        (d.swift, swift(&restore, chunks), 408),
    ] {
        waits.spawn(async move {
            let began = Instant::now();
            let some: &[u8] = if request.contains("chunked") { b"8\r\n" } else { b"<Delete>" };
            let answer = send(at, &[request.as_bytes(), some]).await;
            assert!(began.elapsed() < Duration::from_secs(15), "{request}");
            (request, wanted, answer)
        });
    }
    while let Some(done) = waits.join_next().await {
        let (request, wanted, answer) = done.unwrap();
        assert_eq!(status(&answer), wanted, "{request}{answer}");
    }
    assert!(names(&d.room.store, &d.bucket).await.is_empty());
    d.stop.cancel();
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_slow_clients_hold_little() {
    let d = doors(config()).await;
    let (mut held, piece) = (Vec::new(), noise(16_384, 1));
    let before = resident();
    // Each says that 4 MiB come, and sends some of it: 800 MiB in all.
    for i in 0..200 {
        let mut stream = TcpStream::connect(d.s3).await.unwrap();
        let request = head(&format!("PUT /bucket/{i}"), &[("content-length", "4194304")]);
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.write_all(&piece).await.unwrap();
        held.push(stream);
    }
    // Whoever is not slow is served meanwhile.
    let quick = head("PUT /bucket/quick", &[("content-length", "16384")]);
    assert_eq!(status(&send(d.s3, &[quick.as_bytes(), &piece]).await), 200);
    let grown = resident().saturating_sub(before);
    assert!(grown < 160 << 20, "{} MiB", grown >> 20);
    drop(held);
    assert_eq!(names(&d.room.store, &d.bucket).await, ["quick"]);
    d.stop.cancel();
}
