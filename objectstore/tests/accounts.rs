//! Accounts beside a project's own, that a service keeps things in; accounts that are not to be changed; projects that
//! are switched off.

#![allow(clippy::unwrap_used)]

mod common;

use common::wire::ask;
use common::*;
use objectstore::*;

const USER: &str = "x-auth-token: p:member";
const SERVICE: &str = "x-service-token: svc:service";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_account_takes_both_tokens() {
    let prefix = ResellerPrefix {
        name: "SERVICE".into(),
        service_roles: vec!["service".into()],
        operator_roles: Vec::new(),
    };
    let room = Room::with(Config { reseller_prefixes: vec![prefix], ..config() }).await;
    let door = room.store.swift_router();
    let status = async |what: &str, headers: &[&str]| ask(&door, what, headers, "").await.status;
    for (tokens, wanted) in [
        (&[][..], 401),
        (&[USER], 403),
        (&[SERVICE], 401),
        (&[USER, "x-service-token: svc:member"], 403),
        (&[USER, "x-service-token: nonsense"], 401),
        // A service that stands in for nobody of the project, and a reader: upstream's table has no row for them.
        (&["x-auth-token: svc:service", SERVICE], 403),
        (&["x-auth-token: p:guest", SERVICE], 403),
        (&["x-auth-token: p:reader"], 403),
        (&[USER, SERVICE], 201),
    ] {
        assert_eq!(status("PUT /v1/SERVICE_p/backups", tokens).await, wanted, "{tokens:?}");
    }
    assert_eq!(status("PUT /v1/SERVICE_p/backups/o", &[USER, SERVICE]).await, 201);
    assert_eq!(status("GET /v1/SERVICE_p/backups/o", &[USER]).await, 403);
    assert_eq!(status("GET /v1/SERVICE_p/backups/o", &["x-auth-token: p:reader"]).await, 403);
    assert_eq!(status("GET /v1/SERVICE_p/backups/o", &["x-auth-token: p:reader", SERVICE]).await, 200);
    // The project's own account is another one, and needs no second token.
    assert_eq!(status("GET /v1/AUTH_p/backups/o", &[USER]).await, 404);
    assert_eq!(status("PUT /v1/AUTH_p/backups", &[USER]).await, 201);
    assert_eq!(ask(&door, "GET /v1/AUTH_p/backups", &[USER], "").await.body, "");
    assert_eq!(ask(&door, "GET /v1/SERVICE_p/backups", &[USER, SERVICE], "").await.body, "o\n");
    let listed = ask(&door, "GET /v1/SERVICE_p?format=xml", &[USER, SERVICE], "").await.body;
    assert!(listed.contains("<account name=\"SERVICE_p\">"), "{listed}");
    // Neither copies nor links nor names that look alike are a way around.
    let from = ["x-copy-from: backups/o", "x-copy-from-account: SERVICE_p"];
    assert_eq!(status("PUT /v1/AUTH_p/backups/stolen", &[USER, from[0], from[1]]).await, 403);
    assert_eq!(status("PUT /v1/AUTH_p/backups/kept", &[USER, SERVICE, from[0], from[1]]).await, 201);
    let link = ["x-symlink-target: backups/o", "x-symlink-target-account: SERVICE_p"];
    assert_eq!(status("PUT /v1/AUTH_p/backups/link", &[USER, link[0], link[1]]).await, 201);
    assert_eq!(status("GET /v1/AUTH_p/backups/link", &[USER]).await, 403);
    assert_eq!(status("GET /v1/AUTH_SERVICE_%2Fp/backups/o", &[USER]).await, 401);
    assert_eq!(status("GET /v1/OTHER_p/backups/o", &[USER, SERVICE]).await, 401);
    // Through S3 there is no second token.
    let refused = room.store.bucket(&room.access, "backups", Need::Own).await.unwrap();
    assert_eq!(refused.project_id, "p");
    let admin = "x-auth-token: any:ResellerAdmin";
    assert_eq!(status("GET /v1/SERVICE_p/backups/o", &[admin]).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_prefix_there_is_no_service_account() {
    let room = Room::new().await;
    let door = room.store.swift_router();
    assert_eq!(ask(&door, "PUT /v1/SERVICE_p/c", &[USER, SERVICE], "").await.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_only_is_read() {
    let room = Room::new().await;
    let door = room.store.swift_router();
    let status = async |what: &str, headers: &[&str]| ask(&door, what, headers, "").await.status;
    assert_eq!(status("PUT /v1/AUTH_p/con", &[USER]).await, 201);
    assert_eq!(status("PUT /v1/AUTH_p/con/o", &[USER]).await, 201);
    let closed = "x-account-sysmeta-read-only: true";
    assert_eq!(status("POST /v1/AUTH_p", &[USER, closed]).await, 403);
    let admin = "x-auth-token: any:ResellerAdmin";
    assert_eq!(status("POST /v1/AUTH_p", &[admin, closed]).await, 204);
    for what in [
        "PUT /v1/AUTH_p/con/o",
        "POST /v1/AUTH_p/con/o",
        "DELETE /v1/AUTH_p/con/o",
        "PUT /v1/AUTH_p/new",
        "POST /v1/AUTH_p",
        "POST /v1/AUTH_p?bulk-delete",
    ] {
        assert_eq!(status(what, &[USER]).await, 405, "{what}");
    }
    let told = ask(&door, "POST /v1/AUTH_p?bulk-delete", &[USER, closed], "con/o").await;
    assert_eq!((told.status, told.body.as_str()), (405, "Writes are disabled for this account."));
    assert_eq!(status("GET /v1/AUTH_p/con/o", &[USER]).await, 200);
    // A copy out of it is none into it; the other way round is refused.
    assert_eq!(status("PUT /v1/AUTH_q/con", &["x-auth-token: q:member"]).await, 201);
    let to = ["destination: con/o", "destination-account: AUTH_q"];
    assert_eq!(status("COPY /v1/AUTH_p/con/o", &[admin, to[0], to[1]]).await, 201);
    let to = ["destination: con/o", "destination-account: AUTH_p"];
    assert_eq!(status("COPY /v1/AUTH_q/con/o", &[admin, to[0], to[1]]).await, 405);
    assert_eq!(status("POST /v1/AUTH_p", &[admin, "x-account-sysmeta-read-only: false"]).await, 204);
    // All accounts but this one; and deletions go on where that is wanted.
    let strict = room.another(Config { read_only: true, ..config() }).await.swift_router();
    assert_eq!(ask(&strict, "PUT /v1/AUTH_p/con/o", &[USER], "").await.status, 201);
    let q = "x-auth-token: q:member";
    assert_eq!(ask(&strict, "DELETE /v1/AUTH_q/con/o", &[q], "").await.status, 405);
    let lax = Config { read_only: true, read_only_allows_deletes: true, ..config() };
    let lax = room.another(lax).await.swift_router();
    assert_eq!(ask(&lax, "PUT /v1/AUTH_q/con/o", &[q], "").await.status, 405);
    assert_eq!(ask(&lax, "DELETE /v1/AUTH_q/con/o", &[q], "").await.status, 204);
}

/// A project that is switched off has no tokens and no access keys any more. What it has opened to everybody stays so:
/// Swift knows nothing of projects, and neither do anonymous readers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_projects_account_is_open_to_who_needs_no_token() {
    let room = Room::new().await;
    let door = room.store.swift_router();
    assert_eq!(ask(&door, "PUT /v1/AUTH_p/open", &[USER, "x-container-read: .r:*"], "").await.status, 201);
    assert_eq!(ask(&door, "PUT /v1/AUTH_p/open/o", &[USER], "all").await.status, 201);
    // What identity answers for its tokens and keys: it knows none of them.
    for token in ["x-auth-token: revoked", "x-storage-token: revoked"] {
        let refused = ask(&door, "GET /v1/AUTH_p/open/o", &[token], "").await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.header("www-authenticate"), "Swift realm=\"AUTH_p\"");
    }
    let s3 = room.store.s3_router();
    let date = format!("date: {}", httpdate::fmt_http_date(std::time::SystemTime::now()));
    let refused = ask(&s3, "GET /open/o", &["authorization: AWS GONE:AAAA", &date, "host: x"], "").await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert!(refused.body.contains("InvalidAccessKeyId"), "{}", refused.body);
    let read = ask(&door, "GET /v1/AUTH_p/open/o", &[], "").await;
    assert_eq!((read.status, read.body.as_str()), (200, "all"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_objects_lie_is_told_where_that_is_wanted() {
    let small = Config { head_bytes: 4096, stripe_bytes: 65_536, piece_bytes: 65_536, ..config() };
    let room = Room::with(Config { list_endpoints: true, ..small }).await;
    let c = room.container("c").await;
    put(&room.store, &c, "a b", "1").await;
    put(&room.store, &c, "large", noise(200_000, 1)).await;
    let door = room.store.swift_router();
    let told = async |path: &str| {
        let answer = ask(&door, &format!("GET /endpoints/{path}"), &[], "").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{answer:?}");
        serde_json::from_str::<serde_json::Value>(&answer.body).unwrap()
    };
    let places = told("AUTH_p/c/a%20b").await;
    let first = places[0].as_str().unwrap();
    let parts: Vec<&str> = first.split('/').collect();
    assert!(first.ends_with("/AUTH_p/c/a%20b") && parts[3] == "osd.0" && parts[4].contains('.'), "{places}");
    assert!(parts[2].parse::<std::net::SocketAddr>().is_ok(), "{places}");
    let second = told("v2/AUTH_p/c/a%20b").await;
    assert_eq!(
        second,
        serde_json::json!({"endpoints": places, "headers": {"X-Backend-Storage-Policy-Index": "0"}})
    );
    assert!(told("AUTH_p/c/large").await[0].as_str().unwrap().ends_with("/AUTH_p/c/large"));
    assert!(told("v1/AUTH_p/c").await[0].as_str().unwrap().ends_with("/AUTH_p/c"));
    assert_eq!(told("v2/AUTH_p").await, serde_json::json!({"endpoints": [], "headers": {}}));
    for (what, status) in [
        ("GET /endpoints/AUTH_p/none/o", 404),
        ("GET /endpoints/v3/AUTH_p/c", 400),
        ("GET /endpoints/v1/", 400),
        ("POST /endpoints/AUTH_p/c/o", 405),
    ] {
        assert_eq!(ask(&door, what, &[], "").await.status, status, "{what}");
    }
    let quiet = room.another(config()).await.swift_router();
    assert_eq!(ask(&quiet, "GET /endpoints/AUTH_p/c/a%20b", &[], "").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_quotas_only_reseller_admins_speak() {
    let room = Room::new().await;
    let door = room.store.swift_router();
    for header in [
        "x-remove-account-meta-quota-bytes: x",
        "x-remove-account-quota-count: x",
        "x-account-quota-bytes: ",
        "x-account-quota-bytes-policy-gold: 5",
    ] {
        assert_eq!(ask(&door, "POST /v1/AUTH_p", &[USER, header], "").await.status, 403, "{header}");
        let admin = "x-auth-token: any:ResellerAdmin";
        assert_eq!(ask(&door, "POST /v1/AUTH_p", &[admin, header], "").await.status, 204, "{header}");
    }
}

/// Names in ACLs are of the default domain, so that they count only in accounts of that. Which domain an account is of is
/// told by its own people.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_count_in_accounts_of_their_domain() {
    let room = Room::new().await;
    let door = room.store.swift_router();
    let (own, read) = ("x-auth-token: far-q:member", "x-container-read: p:user, *:other-user");
    assert_eq!(ask(&door, "PUT /v1/AUTH_far-q/c", &[own, read], "").await.status, 201);
    assert_eq!(ask(&door, "PUT /v1/AUTH_far-q/c/o", &[own], "").await.status, 201);
    let told = ask(&door, "HEAD /v1/AUTH_far-q", &[own], "").await;
    assert_eq!(told.header("x-account-project-domain-id"), "elsewhere");
    assert_eq!(ask(&door, "GET /v1/AUTH_far-q/c/o", &[USER], "").await.status, 403);
    let other = "x-auth-token: other:member";
    assert_eq!(ask(&door, "GET /v1/AUTH_far-q/c/o", &[other], "").await.status, 200);
    // In one of the default domain names count, and ids do everywhere.
    let q = "x-auth-token: q:member";
    assert_eq!(ask(&door, "PUT /v1/AUTH_q/c", &[q, read], "").await.status, 201);
    assert_eq!(ask(&door, "HEAD /v1/AUTH_q", &[q], "").await.header("x-account-project-domain-id"), "");
    assert_eq!(ask(&door, "GET /v1/AUTH_q/c", &[USER], "").await.status, 204);
}

/// A name server that calls every name `c.auth-p.swift.example`.
async fn name_server() -> std::net::SocketAddr {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 512];
        while let Ok((n, from)) = socket.recv_from(&mut packet).await {
            let mut answer = packet[..n].to_vec();
            (answer[2], answer[7]) = (0x81, 1);
            answer.extend_from_slice(
                b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x18\x01c\x06auth-p\x05swift\x07example\0",
            );
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    at
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_of_ones_own_leads_to_a_container() {
    let cname =
        CnameConfig { enabled: true, nameservers: vec![name_server().await], ..CnameConfig::default() };
    let named = Config { cname, swift_domains: vec!["swift.example".into()], ..config() };
    let room = Room::with(named).await;
    let c = room.container("c").await;
    put(&room.store, &c, "dir/o", "by its own name").await;
    let door = room.store.remapped(room.store.swift_router());
    let got = ask(&door, "GET /dir/o", &["host: files.customer.test:8080", USER], "").await;
    assert_eq!((got.status, got.body.as_str()), (200, "by its own name"));
    // Addresses and our own names are not looked up.
    assert_eq!(ask(&door, "GET /v1/AUTH_p/c/dir/o", &["host: 127.0.0.1:80", USER], "").await.status, 200);
    assert_eq!(ask(&door, "GET /v1/AUTH_p/c/dir/o", &["host: swift.example", USER], "").await.status, 200);
    let nowhere = ask(&door, "GET /dir/o", &["host: no..name", USER], "").await;
    assert_eq!(nowhere.status, 400);
    assert_eq!(nowhere.body, "CNAME lookup failed to resolve to a valid domain");
    let info = ask(&door, "GET /info", &["host: 127.0.0.1"], "").await.body;
    assert!(info.contains("\"cname_lookup\":{\"lookup_depth\":1}"), "{info}");
}
