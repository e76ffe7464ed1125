//! Every authentication and every change leaves a record, and none of them a secret.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Cloud, by_password, clouds};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

type Fields = BTreeMap<String, String>;

static RECORDS: Mutex<Vec<Fields>> = Mutex::new(Vec::new());

struct Reader(Fields);

impl Visit for Reader {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

struct Records;

impl Subscriber for Records {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "audit"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut reader = Reader(Fields::new());
        event.record(&mut reader);
        RECORDS.lock().unwrap().push(reader.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn taken() -> Vec<Fields> {
    std::mem::take(&mut *RECORDS.lock().unwrap())
}

#[tokio::test]
async fn records() {
    tracing::subscriber::set_global_default(Records).unwrap();
    for cloud in clouds().await {
        of(&cloud).await;
    }
}

async fn of(cloud: &Cloud) {
    let (project, ann) = cloud.tenant("ann", &["member"]).await;
    let admin = cloud.admin().await;
    taken();

    assert_eq!(cloud.auth(by_password("ann", "hunter2"), Value::Null).await.status, 401);
    let token = cloud.tenant_token("ann").await;
    let all = taken();
    assert_eq!(all.len(), 2, "{all:?}");
    let (refused, given) = (&all[0], &all[1]);
    assert_eq!(refused["typeURI"], "http://schemas.dmtf.org/cloud/audit/1.0/event");
    assert_eq!((&*refused["action"], &*refused["outcome"]), ("authenticate", "failure"));
    assert_eq!((&*refused["reason.reasonCode"], &*refused["initiator.name"]), ("401", "ann"));
    assert_eq!((&*given["outcome"], &*given["initiator.id"]), ("success", &*ann));
    assert_eq!((&*given["initiator.project_id"], &*given["initiator.scope"]), (&*project, "project"));
    assert!(given["eventTime"].ends_with('Z') && given["id"].len() == 36 && given["id"] != refused["id"]);

    let user = json!({"user": {"name": "eve", "password": "hunter2"}});
    let eve = cloud.call("POST", "/v3/users", &admin, user).await.expect(201);
    let eve = eve["user"]["id"].as_str().unwrap().to_owned();
    let path = format!("/v3/projects/{project}/users/{eve}/roles/{}", "nothing");
    cloud.call("PUT", &path, &admin, Value::Null).await.expect(404);
    cloud.call("DELETE", &format!("/v3/users/{eve}"), &token, Value::Null).await.expect(403);
    cloud.call("DELETE", &format!("/v3/users/{eve}"), "nonsense", Value::Null).await.expect(401);
    cloud.get(&format!("/v3/users/{eve}"), &admin).await.expect(200);
    let change = json!({"user": {"original_password": "pw", "password": "hunter2"}});
    let reply = cloud.raw("POST", &format!("/v3/users/{ann}/password"), None, change.to_string()).await;
    assert_eq!(reply.status, 204);
    let all = taken();
    let said: Vec<String> = all
        .iter()
        .map(|r| format!("{} {} {} by {}", r["action"], r["outcome"], r["target.id"], r["initiator.name"]))
        .collect();
    for wanted in [
        format!("created.user success {eve} by admin"),
        "created.role_assignment failure  by admin".into(),
        format!("deleted.user failure {eve} by ann"),
        format!("deleted.user failure {eve} by "),
        "updated.password success  by ".into(),
    ] {
        assert!(said.contains(&wanted), "{wanted:?} is not among {said:#?}");
    }
    let changed = all.iter().find(|r| r["action"] == "updated.password").unwrap();
    assert_eq!(changed["initiator.id"], ann, "who changes its password is known by the path");
    assert_eq!(all[0]["target.typeURI"], "data/security/account/user");
    let text = format!("{all:?}");
    for secret in ["hunter2", &admin, &token, "nonsense"] {
        assert!(!text.contains(secret), "{secret:.10}");
    }
}
