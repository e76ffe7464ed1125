//! A small cloud of identity alone, in this process, and short ways to talk to it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use api::{Links, Secret};
use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use identity::{Bootstrap, CatalogueEntry, Config, Identity};
use serde_json::{Value, json};
use state::Db;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tower::ServiceExt;

pub const PASSWORD: &str = "adm1n";

pub struct Cloud {
    pub db: Db,
    pub dir: Arc<tempfile::TempDir>,
    pub identity: Arc<Identity>,
    pub router: Router,
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Reply {
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self.body
    }

    pub fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }
}

pub fn config(dir: &tempfile::TempDir) -> Config {
    Config {
        token_keys: dir.path().join("token-keys"),
        jws_keys: dir.path().join("jws-keys"),
        credential_keys: dir.path().join("credential-keys"),
        password_hash_rounds: 4,
        ..Config::default()
    }
}

/// One cloud per database engine.
pub async fn clouds() -> Vec<Cloud> {
    clouds_with(|c| c).await
}

pub async fn clouds_with(adjust: impl Fn(Config) -> Config) -> Vec<Cloud> {
    let mut all = Vec::new();
    for db in testbed::databases().await {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        all.push(Cloud::start(db, dir, &adjust).await);
    }
    all
}

impl Cloud {
    pub async fn start(db: Db, dir: Arc<tempfile::TempDir>, adjust: impl Fn(Config) -> Config) -> Cloud {
        db.migrate(&identity::MIGRATIONS).await.unwrap();
        let links = Links::new("http://cloud.example:5000");
        let identity = Identity::new(db.clone(), adjust(config(&dir)), links.clone()).await.unwrap();
        let entry = |kind: &str, path: &str| CatalogueEntry {
            service_type: kind.into(),
            name: kind.into(),
            description: String::new(),
            path: path.into(),
        };
        let services =
            vec![entry("identity", "/identity/v3"), entry("volumev3", "/volume/v3/$(project_id)s")];
        let wanted =
            Bootstrap { admin_password: Secret(PASSWORD.into()), region: "RegionOne".into(), services };
        identity.bootstrap(wanted).await.unwrap();
        let router = identity::router(identity.clone(), &links);
        Cloud { db, dir, identity, router }
    }

    /// Another process on the same database and keys.
    pub async fn sibling(&self) -> Cloud {
        Cloud::start(self.db.clone(), self.dir.clone(), |c| c).await
    }

    /// Another process on them that knows these providers.
    pub async fn sibling_with(&self, federation: identity::Federation) -> Cloud {
        let config = |c| Config { federation: federation.clone(), ..c };
        Cloud::start(self.db.clone(), self.dir.clone(), config).await
    }

    /// Clouds of two processes that share nothing but the database and the keys, one for each engine.
    pub async fn pairs(adjust: fn(Config) -> Config) -> Vec<(Cloud, Cloud)> {
        let mut urls = Vec::new();
        let dir = Arc::new(tempfile::tempdir().unwrap());
        urls.push((format!("sqlite://{}", dir.path().join("db.sqlite").display()), dir));
        if std::env::var_os("AQUIFER_TEST_PG").is_some() {
            urls.push((testbed::database_url().await, Arc::new(tempfile::tempdir().unwrap())));
        }
        let mut all = Vec::new();
        for (url, dir) in urls {
            let one = Cloud::start(Db::open(&url).await.unwrap(), dir.clone(), adjust).await;
            let other = Cloud::start(Db::open(&url).await.unwrap(), dir, adjust).await;
            all.push((one, other));
        }
        all
    }

    pub async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Reply { status: parts.status, headers: parts.headers, body }
    }

    pub async fn raw(&self, method: &str, path: &str, token: Option<&str>, body: impl Into<Body>) -> Reply {
        let mut request = Request::builder().method(method).uri(format!("/identity{path}"));
        if let Some(token) = token {
            request = request.header("x-auth-token", token);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    pub async fn call(&self, method: &str, path: &str, token: &str, body: Value) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.raw(method, path, Some(token), body).await
    }

    pub async fn get(&self, path: &str, token: &str) -> Reply {
        self.call("GET", path, token, Value::Null).await
    }

    /// `HEAD`, `GET` or `DELETE /v3/auth/tokens` of `subject`.
    pub async fn token(&self, method: &str, token: &str, subject: &str) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri("/identity/v3/auth/tokens")
            .header("x-auth-token", token)
            .header("x-subject-token", subject);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub async fn auth(&self, identity: Value, scope: Value) -> Reply {
        let mut auth = json!({"identity": identity});
        if !scope.is_null() {
            auth["scope"] = scope;
        }
        self.raw("POST", "/v3/auth/tokens", None, json!({"auth": auth}).to_string()).await
    }

    /// A login from an address, with headers.
    pub async fn auth_from(&self, from: &str, headers: &[(&str, &str)], auth: Value) -> Reply {
        let mut request = Request::builder().method("POST").uri("/identity/v3/auth/tokens");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let peer = SocketAddr::new(from.parse().unwrap(), 4711);
        let request = request.extension(api::server::Peer(peer));
        self.send(request.body(json!({"auth": auth}).to_string().into()).unwrap()).await
    }

    /// Runs a statement on the rows themselves.
    pub async fn sql(&self, sql: &'static str, args: &[&str]) {
        let mut tx = self.db.begin().await.unwrap();
        let query = args.iter().fold(sqlx::query(sql), |q, a| q.bind((*a).to_owned()));
        query.execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub async fn login(&self, user: &str, password: &str, scope: Value) -> Result<String, Reply> {
        let reply = self.auth(by_password(user, password), scope).await;
        match reply.status.as_u16() {
            201 => Ok(reply.headers["x-subject-token"].to_str().unwrap().to_owned()),
            _ => Err(reply),
        }
    }

    pub async fn admin(&self) -> String {
        self.login("admin", PASSWORD, on_project("admin")).await.unwrap_or_else(|r| panic!("{}", r.body))
    }

    /// A project, a user and its roles there: `(project id, user id)`.
    pub async fn tenant(&self, name: &str, roles: &[&str]) -> (String, String) {
        let project = self.identity.ensure_project(&format!("{name}-p")).await.unwrap();
        let user = self.identity.ensure_user(name, &Secret("pw".into()), &project, roles).await.unwrap();
        (project, user)
    }

    pub async fn tenant_token(&self, name: &str) -> String {
        let scope = on_project(&format!("{name}-p"));
        self.login(name, "pw", scope).await.unwrap_or_else(|r| panic!("{}", r.body))
    }

    pub async fn role(&self, name: &str) -> String {
        let admin = self.admin().await;
        let found = self.get(&format!("/v3/roles?name={name}"), &admin).await.expect(200);
        found["roles"][0]["id"].as_str().unwrap().to_owned()
    }

    pub fn key_dir(&self) -> PathBuf {
        self.dir.path().join("token-keys")
    }
}

pub fn by_password(user: &str, password: &str) -> Value {
    json!({"methods": ["password"],
        "password": {"user": {"name": user, "domain": {"id": "default"}, "password": password}}})
}

pub fn by_token(token: &str) -> Value {
    json!({"methods": ["token"], "token": {"id": token}})
}

pub fn on_project(name: &str) -> Value {
    json!({"project": {"name": name, "domain": {"id": "default"}}})
}

/// A certificate `cert.pem` for 127.0.0.1, its `key.pem`, and the authority `ca.pem` that has signed it.
pub fn certificates(dir: &Path) {
    let run = |args: &str| {
        let out =
            std::process::Command::new("openssl").args(args.split(' ')).current_dir(dir).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    run(&format!("req -x509 {ec} -keyout ca.key -out ca.pem -subj /CN=corp-ca -days 2"));
    run(&format!("req {ec} -keyout key.pem -out cert.csr -subj /CN=test"));
    std::fs::write(dir.join("ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    run("x509 -req -in cert.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile ext -days 2 -out cert.pem");
}
