//! What the log says of logins: everything but the secrets.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{clouds, on_project};
use serde_json::{Value, json};
use std::io::Write;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// CVE-2013-2006, CVE-2014-3632 and many more: passwords and tokens in a log.
#[tokio::test]
async fn no_secret_in_any_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        let (project, ann) = cloud.tenant("ann", &["member"]).await;
        let body = json!({"user": {"password": "hunter2-given"}});
        cloud.call("PATCH", &format!("/v3/users/{ann}"), &admin, body).await.expect(200);
        let body = json!({"user": {"original_password": "hunter2-given", "password": "hunter2-mine"}});
        let path = format!("/v3/users/{ann}/password");
        assert_eq!(cloud.raw("POST", &path, None, body.to_string()).await.status, 204);
        let token = cloud.login("ann", "hunter2-mine", on_project("ann-p")).await.ok().unwrap();
        assert!(cloud.login("ann", "hunter2-wrong", Value::Null).await.is_err());
        let misplaced = json!({"methods": ["password"], "password": {"user": "hunter2-misplaced"}});
        assert_eq!(cloud.auth(misplaced, Value::Null).await.status, 400);
        let blob = json!({"access": "k", "secret": "hunter2-key"}).to_string();
        let body =
            json!({"credential": {"type": "ec2", "blob": blob, "user_id": ann, "project_id": project}});
        cloud.call("POST", "/v3/credentials", &token, body).await.expect(201);
        cloud.identity.s3_credential("k").await.unwrap().unwrap();
        let body = json!({"application_credential": {"name": "a", "secret": "hunter2-app"}});
        let path = format!("/v3/users/{ann}/application_credentials");
        cloud.call("POST", &path, &token, body).await.expect(201);
        let totp = json!({"methods": ["totp"], "totp": {"user": {"id": ann, "passcode": "hunter2-code"}}});
        assert_eq!(cloud.auth(totp, Value::Null).await.status, 401);
        let text = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
        assert!(text.contains("audit"), "the log was caught");
        for secret in ["hunter2", token.as_str(), admin.as_str()] {
            let at = text.find(secret).map(|at| &text[at.saturating_sub(200)..at + 20]);
            assert_eq!(at, None);
        }
    }
}
