//! What is asked often costs no round trip to the database: checking a token, and whose an S3 key is.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use api::{Secret, TokenValidator};
use common::Cloud;
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing::{Event, Metadata, Subscriber, span};

static QUERIES: AtomicU64 = AtomicU64::new(0);

/// Counts what sqlx logs: one event a statement.
struct Counter;

impl Subscriber for Counter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("sqlx::query")
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {
        QUERIES.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The statements that `work` takes.
async fn queries<T>(work: impl Future<Output = T>) -> (u64, T) {
    let before = QUERIES.load(Ordering::Relaxed);
    let done = work.await;
    (QUERIES.load(Ordering::Relaxed) - before, done)
}

#[tokio::test]
async fn the_hot_paths_ask_no_database() {
    tracing::subscriber::set_global_default(Counter).unwrap();
    for (cloud, other) in Cloud::pairs(|c| c).await {
        // Made by the process that is measured: of another's changes it may hear in the middle of that.
        let (project, user) = other.tenant("ann", &["member"]).await;
        let token = cloud.tenant_token("ann").await;
        let key = Secret("s3cr3t".into());
        other.identity.ensure_ec2_credential(&user, &project, "AKEY", &key).await.unwrap();
        // The process that did not issue the token learns of it once.
        let (first, _) = queries(other.identity.validate(&token)).await;
        assert!(first > 0, "the statements are counted");
        other.identity.s3_credential("AKEY").await.unwrap().unwrap();

        let began = Instant::now();
        let (asked, ()) = queries(async {
            for _ in 0..2000 {
                other.identity.validate(&token).await.unwrap();
                assert!(other.identity.s3_credential("AKEY").await.unwrap().is_some());
            }
        })
        .await;
        // One look at the epoch in nine tenths of a second, however many requests there are.
        let looks = began.elapsed().as_millis() as u64 / 900 + 1;
        assert!(asked <= looks, "{asked} statements in {:?}", began.elapsed());

        // The same over HTTP, with the whole body.
        assert_eq!(other.token("GET", &token, &token).await.status, 200);
        let began = Instant::now();
        let (asked, ()) = queries(async {
            for _ in 0..200 {
                let body = other.token("GET", &token, &token).await.expect(200);
                assert!(body["token"]["catalog"].is_array());
            }
        })
        .await;
        let looks = began.elapsed().as_millis() as u64 / 900 + 1;
        assert!(asked <= looks, "{asked} statements in {:?}", began.elapsed());
        let again = json!({"project": {"name": "ann-p", "domain": {"id": "default"}}});
        other.auth(common::by_token(&token), again.clone()).await.expect(201);
        let (asked, reply) = queries(other.auth(common::by_token(&token), again)).await;
        assert_eq!(reply.status, 201);
        assert!(asked <= 2, "a token from a token: {asked} statements");

        lists_are_made_once(&cloud, &other).await;

        // New users, credentials and limits take nothing from what is remembered.
        let admin = cloud.admin().await;
        cloud.identity.validate(&admin).await.unwrap();
        cloud.identity.validate(&token).await.unwrap();
        let region = json!({"credential": {"type": "cert", "blob": "x", "user_id": user}});
        cloud.call("POST", "/v3/credentials", &admin, region).await.expect(201);
        let (asked, _) = queries(cloud.identity.validate(&token)).await;
        assert!(asked <= 1, "{asked}");
        // What may change a token's meaning is looked at again, here at once and there within the second.
        cloud
            .call("PATCH", &format!("/v3/users/{user}"), &admin, json!({"user": {"enabled": false}}))
            .await
            .expect(200);
        assert!(cloud.identity.validate(&token).await.is_err());
        assert!(cloud.identity.s3_credential("AKEY").await.unwrap().is_none());
        let seen = async {
            while other.identity.validate(&token).await.is_ok()
                || other.identity.s3_credential("AKEY").await.unwrap().is_some()
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(1), seen).await.expect("not seen within a second");
    }
}

/// A list is made again when anything has changed in any process, and not before; it is the caller's own.
async fn lists_are_made_once(cloud: &Cloud, other: &Cloud) {
    let admin = cloud.admin().await;
    let list = async |query: &str| {
        let page = other.get(&format!("/v3/projects{query}"), &admin).await.expect(200);
        let names =
            page["projects"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let first = list("").await;
    let (asked, ()) = queries(async {
        for _ in 0..100 {
            assert_eq!(list("").await, first);
        }
    })
    .await;
    // The numbers of changes each time, a look at the epoch now and then, and what listeners ask; reading the rows too
    // would be 200.
    assert!(asked <= 130, "{asked} statements");

    let body = json!({"project": {"name": "seen-at-once", "domain_id": "default"}});
    let made = cloud.call("POST", "/v3/projects", &admin, body).await.expect(201);
    assert!(list("").await.contains(&"seen-at-once".to_owned()));
    assert_eq!(list("?name=seen-at-once").await, ["seen-at-once"]);
    let path = format!("/v3/projects/{}", made["project"]["id"].as_str().unwrap());
    let renamed = json!({"project": {"name": "renamed"}});
    cloud.call("PATCH", &path, &admin, renamed).await.expect(200);
    assert!(list("?name=seen-at-once").await.is_empty());
    assert_eq!(list("?name=renamed").await, ["renamed"]);
    cloud.call("DELETE", &path, &admin, json!(null)).await.expect(204);
    assert_eq!(list("").await, first);

    // Who may not list gets nothing that somebody else's request left.
    let token = cloud.tenant_token("ann").await;
    assert_eq!(other.get("/v3/projects", &token).await.status, 403);
}
