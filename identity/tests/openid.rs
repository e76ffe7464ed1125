//! The openstack client, unmodified, logs in by a real OpenID Connect provider (node's `oidc-provider`), both installed by
//! `scripts/install tests` into `.clients`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod idp;

use api::{Links, Secret};
use common::PASSWORD;
use identity::{Bootstrap, CatalogueEntry, Config, Federation, Identity, OidcProvider};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

struct World {
    address: String,
    issuer: String,
    identity: Arc<Identity>,
    stop: CancellationToken,
    provider: Child,
    _dir: tempfile::TempDir,
}

fn clients() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.clients/bin");
    std::env::var_os("AQUIFER_TEST_BIN").map_or(own, PathBuf::from)
}

fn node() -> Command {
    let mut node = Command::new("node");
    node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc/provider.mjs"));
    node.kill_on_drop(true);
    node
}

/// What the mini browser ends at.
async fn browse(url: &str, user: &str, stop: &str) -> Value {
    let done = node().args(["browse", url, user, stop]).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

impl World {
    async fn start(db: state::Db) -> World {
        let modules = clients().join("../oidc/node_modules");
        assert!(modules.is_dir(), "run scripts/install tests");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let redirect = format!("{address}/identity/v3/auth/OS-FEDERATION/redirect_uri");
        let mut provider = node()
            .arg("serve")
            .arg(modules)
            .arg(&redirect)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(provider.stdout.take().unwrap()).lines();
        let ready: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
        let issuer = ready["issuer"].as_str().unwrap().to_owned();
        let dir = tempfile::tempdir().unwrap();
        let oidc = |protocol: &str, client: &str, audiences: &[&str]| OidcProvider {
            identity_provider: "corp".into(),
            protocol: protocol.into(),
            issuer: issuer.clone(),
            client_id: client.into(),
            client_secret: Some(Secret("s3cret".into())),
            audiences: audiences.iter().map(|a| (*a).to_owned()).collect(),
            ..OidcProvider::default()
        };
        let federation = Federation {
            trusted_dashboard: vec![DASHBOARD.into()],
            oidc: vec![oidc("openid", "aquifer", &[]), oidc("signed", "signed", &["cloud"])],
            ..Federation::default()
        };
        let config = Config { federation, ..common::config(&dir) };
        db.migrate(&identity::MIGRATIONS).await.unwrap();
        let links = Links::new(&address);
        let identity = Identity::new(db, config, links.clone()).await.unwrap();
        let entry = CatalogueEntry {
            service_type: "identity".into(),
            name: "keystone".into(),
            description: String::new(),
            path: "/identity/v3".into(),
        };
        let wanted = Bootstrap {
            admin_password: Secret(PASSWORD.into()),
            region: "RegionOne".into(),
            services: vec![entry],
        };
        identity.bootstrap(wanted).await.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(api::server::serve(listener, identity::router(identity.clone(), &links), stop.clone()));
        World { address, issuer, identity, stop, provider, _dir: dir }
    }

    fn openstack(&self, options: &[&str], command: &[&str]) -> Command {
        let mut openstack = Command::new(clients().join("openstack"));
        openstack.env_clear().env("HOME", self._dir.path()).env("PATH", std::env::var_os("PATH").unwrap());
        openstack.args(["--os-auth-url", &format!("{}/identity/v3", self.address)]);
        openstack.args(["--os-identity-api-version", "3"]).args(options).args(command).kill_on_drop(true);
        openstack
    }

    async fn run(&self, options: &[&str], command: &[&str]) -> Value {
        let done = self.openstack(options, command).args(["-f", "json"]).output().await.unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{options:?} {command:?}: {said}");
        serde_json::from_slice(&done.stdout).unwrap_or(Value::Null)
    }

    async fn admin(&self, command: &[&str]) -> Value {
        let options = [
            "--os-username",
            "admin",
            "--os-password",
            PASSWORD,
            "--os-project-name",
            "admin",
            "--os-user-domain-id",
            "default",
            "--os-project-domain-id",
            "default",
        ];
        let format: &[&str] =
            if ["delete", "add", "set"].iter().any(|c| command.contains(c)) { &[] } else { &["-f", "json"] };
        let done = self.openstack(&options, command).args(format).output().await.unwrap();
        assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap_or(Value::Null)
    }

    /// The provider, its mapping and protocols, made as an operator makes them.
    async fn set_up(&self) {
        let rules = json!([
            {"local": [{"user": {"name": "{0}"}}, {"groups": "{1}", "domain": {"id": "default"}}],
                "remote": [{"type": "OIDC-preferred_username"}, {"type": "OIDC-groups"}]},
            {"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "OIDC-preferred_username"}]},
            {"local": [{"user": {"name": "client {0}"}}], "remote": [{"type": "OIDC-client_id"}]},
        ]);
        let file = self._dir.path().join("rules.json");
        std::fs::write(&file, rules.to_string()).unwrap();
        self.admin(&["identity", "provider", "create", "corp", "--remote-id", &self.issuer]).await;
        self.admin(&["mapping", "create", "corp", "--rules", file.to_str().unwrap()]).await;
        for protocol in ["openid", "signed"] {
            let made = [
                "federation",
                "protocol",
                "create",
                protocol,
                "--identity-provider",
                "corp",
                "--mapping",
                "corp",
            ];
            self.admin(&made).await;
        }
        self.admin(&["group", "create", "ops"]).await;
        self.identity.ensure_project("ops-p").await.unwrap();
        self.admin(&["role", "add", "--group", "ops", "--project", "ops-p", "member"]).await;
    }

    /// What the provider gives its user's program.
    async fn access_token(&self, user: &str) -> String {
        let form = format!("grant_type=password&username={user}&password=pw&scope=openid profile email");
        let url = format!("{}/token", self.issuer);
        let mut curl = Command::new("curl");
        curl.args(["-s", "-u", "aquifer:s3cret", "-d", &form, &url]);
        let said: Value = serde_json::from_slice(&curl.output().await.unwrap().stdout).unwrap();
        said["access_token"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned()
    }

    fn oidc<'a>(&'a self, auth: &'a str, protocol: &'a str, client: &'a str) -> Vec<&'a str> {
        let mut options =
            vec!["--os-auth-type", auth, "--os-identity-provider", "corp", "--os-protocol", protocol];
        if auth != "v3oidcaccesstoken" {
            options.extend([
                "--os-client-id",
                client,
                "--os-client-secret",
                "s3cret",
                "--os-openid-scope",
                "openid profile email",
            ]);
        }
        options
    }

    async fn end(mut self) {
        self.stop.cancel();
        self.provider.kill().await.unwrap();
    }
}

/// A provider is who its certificate says.
#[tokio::test]
async fn a_providers_certificate_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    common::certificates(dir.path());
    let mut idp = idp::Idp::start().await;
    let plain = idp.issuer.rsplit(':').next().unwrap().to_owned();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let mut door = node().arg("tls").args([cert, key]).arg(&plain).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(door.stdout.take().unwrap()).lines();
    let ready: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    for (host, ca, status) in [
        ("127.0.0.1", Some("ca.pem"), 201),
        ("127.0.0.1", None, 503),
        // The certificate is not for this name.
        ("localhost", Some("ca.pem"), 503),
    ] {
        let before = idp.said.document.lock().unwrap().to_string();
        let issuer = format!("https://{host}:{}", ready["port"]);
        let document = before.replace(&idp.issuer, &issuer);
        *idp.said.document.lock().unwrap() = serde_json::from_str(&document).unwrap();
        idp.issuer = issuer;
        let (ca_file, oidc) = (ca.map(|f| dir.path().join(f)), vec![idp.config()]);
        let clouds = common::clouds_with(|c| Config {
            federation: Federation { ca_file: ca_file.clone(), oidc: oidc.clone(), ..Federation::default() },
            ..c
        });
        let cloud = clouds.await.remove(0);
        let admin = cloud.admin().await;
        let provider = json!({"identity_provider": {"enabled": true}});
        idp::put(&cloud, &admin, "identity_providers/corp", provider).await.expect(201);
        let rules = json!([{"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "OIDC-sub"}]}]);
        idp::put(&cloud, &admin, "mappings/corp", json!({"mapping": {"rules": rules}})).await.expect(201);
        let protocol = json!({"protocol": {"mapping_id": "corp"}});
        idp::put(&cloud, &admin, "identity_providers/corp/protocols/openid", protocol).await.expect(201);
        let reply = idp::enter(&cloud, &idp.token("ann")).await;
        assert_eq!(reply.status, status, "{host} {ca:?} {}", reply.body);
    }
    door.kill().await.unwrap();
}

/// Nobody is there: the browser stops before it.
const DASHBOARD: &str = "http://localhost:9990/auth/websso/";
const ON_OPS: [&str; 4] = ["--os-project-name", "ops-p", "--os-project-domain-id", "default"];

#[tokio::test]
async fn the_openstack_client_logs_in() {
    // What databases do differently shows in the other tests of federation; the client's programs take their time.
    let db = testbed::databases().await.remove(0);
    let world = World::start(db).await;
    world.set_up().await;
    let discovery = format!("{}/.well-known/openid-configuration", world.issuer);
    let found = ["--os-discovery-endpoint", &discovery];

    // What an operator does beside.
    let other = ["--auth-url", "https://a.example/v3", "--service-provider-url", "https://a.example/sp"];
    let made = world.admin(&[&["service", "provider", "create", "other"], &other[..]].concat()).await;
    assert_eq!((&made["id"], &made["relay_state_prefix"]), (&json!("other"), &json!("ss:mem:")));
    world
        .admin(&["identity", "provider", "set", "corp", "--authorization-ttl", "5", "--description", "C"])
        .await;
    let shown = world.admin(&["identity", "provider", "show", "corp"]).await;
    assert_eq!((&shown["authorization_ttl"], &shown["description"]), (&json!(5), &json!("C")), "{shown}");
    let listed = world.admin(&["federation", "protocol", "list", "--identity-provider", "corp"]).await;
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");

    // By password: with opaque tokens that the provider is asked about, and with signed ones.
    let mut users = Vec::new();
    for (protocol, client) in [("openid", "aquifer"), ("signed", "signed")] {
        let mut by_password = world.oidc("v3oidcpassword", protocol, client);
        by_password.extend(found);
        by_password.extend(["--os-username", "ann", "--os-password", "pw"]);
        by_password.extend(ON_OPS);
        let token = world.run(&by_password, &["token", "issue"]).await;
        let user = token["user_id"].as_str().unwrap().to_owned();
        assert_eq!(user.len(), 64, "{token}");
        assert!(token["project_id"].is_string());
        users.push(user);
        let wrong: Vec<&str> = by_password.iter().map(|o| if *o == "pw" { "no" } else { *o }).collect();
        assert!(!world.openstack(&wrong, &["token", "issue"]).output().await.unwrap().status.success());
    }
    assert_ne!(users[0], users[1], "whom two protocols name the same are two");
    // The token of another of the provider's clients is not for us.
    let mut other = world.oidc("v3oidcpassword", "openid", "wiki");
    other.extend(found);
    other.extend(["--os-username", "ann", "--os-password", "pw"]);
    let done = world.openstack(&other, &["token", "issue"]).output().await.unwrap();
    assert!(String::from_utf8_lossy(&done.stderr).contains("401"), "{done:?}");

    // A client for itself.
    let mut itself = world.oidc("v3oidcclientcredentials", "openid", "aquifer");
    itself.extend(found);
    let token = world.run(&itself, &["token", "issue"]).await;
    assert!(token["user_id"].is_string() && token["project_id"].is_null(), "{token}");

    // A device, while somebody logs in for it elsewhere.
    let mut device = world.oidc("v3oidcdeviceauthz", "openid", "aquifer");
    device.extend(found);
    device.extend(ON_OPS);
    let mut waiting = world
        .openstack(&device, &["token", "issue", "-f", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let page = loop {
        let line = lines.next_line().await.unwrap().expect("a page to go to");
        if let Some((_, page)) = line.split_once("please go to: ") {
            break page.trim().to_owned();
        }
    };
    browse(&page, "ann", "").await;
    let done = waiting.wait_with_output().await.unwrap();
    let token: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(token["user_id"], users[0], "{token}");

    // A token that the user has from the provider already.
    let bearer = world.access_token("ann").await;
    let mut shown = world.oidc("v3oidcaccesstoken", "openid", "");
    shown.extend(["--os-access-token", &bearer]);
    shown.extend(ON_OPS);
    let token = world.run(&shown, &["token", "issue"]).await;
    assert_eq!(token["user_id"], users[0], "{token}");
    let projects = world.run(&shown, &["federation", "project", "list"]).await;
    assert_eq!(projects[0]["Name"], "ops-p", "{projects}");

    // A browser, sent by a dashboard, which gets the token posted.
    let begin = format!("{}/identity/v3/auth/OS-FEDERATION/websso/openid?origin={DASHBOARD}", world.address);
    for (user, same) in [("ann", true), ("bob", false)] {
        let end = browse(&begin, user, "http://localhost:9990/").await;
        assert_eq!(end["action"], DASHBOARD, "{end}");
        let token = end["fields"]["token"].as_str().unwrap();
        let by_token = ["--os-auth-type", "v3token", "--os-token", token];
        let issued = world.run(&by_token, &["token", "issue"]).await;
        assert_eq!(issued["user_id"] == users[0], same, "{issued}");
    }
    // Somebody whom the provider does not let in comes back without one.
    let end = browse(&begin, "nobody", "http://localhost:9990/").await;
    assert!(end["fields"]["token"].is_null(), "{end}");

    world.end().await;
}
