//! Identity beside upstream's Keystone, on the same machine in the same run with the same bcrypt cost: Keystone under
//! uwsgi with memcached and MariaDB, as operators run it. Each is loaded by wrk while the other is idle.
//!
//! A password's hash takes what it takes, on both sides; there the comparison is with bcrypt alone on the cores.

pub(crate) mod many;

use crate::cloud::Cloud;
use crate::report::Report;
use crate::upstream::{self, KEYSTONE, Served, Upstream};
use crate::wrk::{self, Load};
use crate::{BenchError, Result};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Projects that a listing shows.
const PROJECTS: usize = 100;
/// The cost of both sides' passwords.
pub(crate) const COST: u32 = 12;

/// One side: where it is, and what the requests need.
struct Side {
    url: String,
    http: reqwest::Client,
    token: String,
    login: Value,
    app_credential: Value,
}

impl Side {
    async fn prepare(url: &str, password: &str) -> Result<Side> {
        let domain = json!({"id": "default"});
        let login = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user":
                {"name": "admin", "password": password, "domain": domain}}},
            "scope": {"project": {"name": "admin", "domain": domain}}}});
        let http = reqwest::Client::new();
        let mut side =
            Side { url: url.to_owned(), http, token: String::new(), login, app_credential: Value::Null };
        let (token, body) = side.ask("POST", "/auth/tokens", Some(&side.login)).await?;
        side.token = token;
        let user = body["token"]["user"]["id"].as_str().unwrap_or_default().to_owned();
        let known = side.ask("GET", "/projects", None).await?.1["projects"].as_array().map_or(0, Vec::len);
        for n in known..PROJECTS {
            let project = json!({"project": {"name": format!("bench-{n}"), "domain_id": "default"}});
            side.ask("POST", "/projects", Some(&project)).await?;
        }
        let app =
            json!({"application_credential": {"name": format!("bench-{:016x}", rand::random::<u64>())}});
        let path = format!("/users/{user}/application_credentials");
        let made = side.ask("POST", &path, Some(&app)).await?.1["application_credential"].clone();
        side.app_credential = json!({"auth": {"identity": {"methods": ["application_credential"],
            "application_credential": {"id": made["id"], "secret": made["secret"]}}}});
        Ok(side)
    }

    /// The token of the answer's header, and its body.
    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(String, Value)> {
        let method = method.parse().map_err(|_| BenchError::Said(format!("no method {method}")))?;
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if !self.token.is_empty() {
            request = request.header("x-auth-token", &self.token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?.error_for_status()?;
        let token = response.headers().get("x-subject-token").and_then(|v| v.to_str().ok());
        let token = token.unwrap_or_default().to_owned();
        Ok((token, response.json().await?))
    }

    /// Every load, by name, with so many connections.
    fn loads(&self) -> Vec<(&'static str, usize, Load)> {
        let token = ("X-Auth-Token", self.token.clone());
        let subject = ("X-Subject-Token", self.token.clone());
        let again = json!({"auth": {"identity": {"methods": ["token"], "token": {"id": self.token}},
            "scope": {"project": {"name": "admin", "domain": {"id": "default"}}}}});
        let get = |path: &str, headers: Vec<(&'static str, String)>| Load::get(&self.url, path, headers);
        let post = |body: &Value| Load::post(&self.url, "/auth/tokens", body);
        vec![
            ("validate a token", 16, get("/auth/tokens", vec![token.clone(), subject])),
            ("list 100 projects", 16, get("/projects?domain_id=default&limit=100", vec![token])),
            ("token from a token", 16, post(&again)),
            ("token from an application credential", 16, post(&self.app_credential)),
            ("token from a password", 4, post(&self.login)),
        ]
    }
}

fn aim(what: &str) -> &'static str {
    match what {
        "validate a token" | "list 100 projects" => "≥ 40×",
        "token from a token" | "token from an application credential" => "≥ 30×",
        _ => "see bcrypt alone",
    }
}

pub(crate) async fn against_keystone(cloud: &Cloud, seconds: u64, report: &mut Report) -> Result<()> {
    let mut keystone = Upstream::install()?;
    let password = cloud.admin_password()?;
    let ours = Side::prepare(&format!("{}/identity/v3", cloud.base()), &password).await?;
    for served in Served::BOTH {
        keystone.start(&KEYSTONE, served)?;
        let theirs = Side::prepare(&keystone.identity(), upstream::PASSWORD).await?;
        for ((what, connections, own), (_, _, other)) in ours.loads().into_iter().zip(theirs.loads()) {
            let run = |load: &Load| wrk::run(load, connections, seconds, served == Served::Close);
            let (own, other) = (run(&own)?, run(&other)?);
            report.rates(&format!("{what}, {}", served.suffix()), own, other, aim(what));
        }
        if served == Served::Close {
            let theirs = keystone.memory()?;
            report.sizes("RSS after the run", cloud.memory()?, theirs, "≤ 1/5");
        }
        keystone.stop(&KEYSTONE)?;
    }
    let alone = bcrypt_alone(Duration::from_secs(seconds))?;
    let (_, connections, login) = ours.loads().remove(4);
    let own = wrk::run(&login, connections, seconds, false)?;
    report.rates("token from a password, against bcrypt alone on the cores", own, alone, "≥ 0.95×");
    Ok(())
}

/// Passwords checked in a second by all cores that do nothing else.
fn bcrypt_alone(time: Duration) -> Result<f64> {
    let failed = |e: bcrypt::BcryptError| BenchError::Said(e.to_string());
    let hash = bcrypt::hash("password", COST).map_err(failed)?;
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let began = Instant::now();
    let checked: u64 = std::thread::scope(|scope| {
        let one = || {
            let mut n = 0;
            while began.elapsed() < time {
                n += u64::from(bcrypt::verify("password", &hash).unwrap_or(false));
            }
            n
        };
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|t| t.join().unwrap_or(0)).sum()
    });
    Ok(checked as f64 / began.elapsed().as_secs_f64())
}
