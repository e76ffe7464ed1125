//! How a careful user asks a cloud that is in trouble: what was refused or lost is looked up before it is believed.

use crate::cloud::Session;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whatever takes longer than this is stuck.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// How often a user looks.
pub const PAUSE: Duration = Duration::from_millis(50);

/// A collection of an API, and what one of it is called.
#[derive(Clone, Copy)]
pub struct Kind {
    pub path: &'static str,
    pub one: &'static str,
    pub many: &'static str,
}

pub const IMAGE: Kind = Kind { path: "/image/v2/images", one: "", many: "images" };

impl Kind {
    /// Where one is.
    pub fn at(self, id: &str) -> String {
        format!("{}/{id}", self.path)
    }

    /// What an answer says of one.
    pub fn of(self, body: &Value) -> Value {
        if self.one.is_empty() { body.clone() } else { body[self.one].clone() }
    }
}

/// What an answer says of the state of one.
pub fn status(kind: Kind, body: &Value) -> String {
    kind.of(body)["status"].as_str().unwrap_or_default().to_owned()
}

#[derive(Clone)]
pub struct User(pub Arc<Session>);

impl User {
    /// `None` where nothing answers.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
        let answer = self.0.try_call(method, path, body).await.ok()?;
        assert!(answer.0 < 500 || matches!(answer.0, 503 | 507), "{method} {path}: {answer:?}");
        Some(answer)
    }

    /// The id of the one with this name, as soon as the cloud can tell.
    pub async fn find(&self, kind: Kind, name: &str) -> Option<String> {
        let list = self.look(&format!("{}?name={name}", kind.path), |_| true).await;
        list[kind.many][0]["id"].as_str().map(str::to_owned)
    }

    /// How what is at `path` is, as soon as it is so.
    pub async fn look(&self, path: &str, so: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.call("GET", path, None).await;
            if let Some((200, body)) = &answer
                && so(body)
            {
                return body.clone();
            }
            assert!(Instant::now() < end, "{path} is stuck: {answer:?}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until it is at rest: how it is then.
    pub async fn settled(&self, kind: Kind, id: &str) -> Value {
        let resting = |body: &Value| {
            let status = status(kind, body);
            matches!(&*status, "available" | "active" | "killed" | "queued") || status.starts_with("error")
        };
        kind.of(&self.look(&kind.at(id), resting).await)
    }

    /// Deletes, again and again until it is gone.
    pub async fn remove(&self, kind: Kind, id: &str, query: &str) {
        let path = kind.at(id);
        let end = Instant::now() + PATIENCE;
        let mut asked = false;
        loop {
            if !asked {
                match self.call("DELETE", &format!("{path}{query}"), None).await {
                    Some((200..=299, _)) => asked = true,
                    Some((404, _)) => return,
                    Some((status @ 400..=499, body)) => panic!("DELETE {path}: {status} {body}"),
                    _ => {}
                }
            }
            match self.call("GET", &path, None).await {
                Some((404, _)) => return,
                // What was refused with a 503 may have been taken all the same.
                Some((200, body)) => {
                    let status = status(kind, &body);
                    asked |= status == "deleting";
                    assert!(!status.starts_with("error_"), "{path} cannot be deleted: {body}");
                }
                _ => {}
            }
            assert!(Instant::now() < end, "{path} is not gone after {PATIENCE:?}");
            tokio::time::sleep(PAUSE).await;
        }
    }
}
