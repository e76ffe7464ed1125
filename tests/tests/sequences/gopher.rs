//! Requests as gophercloud makes them: endpoints from the catalogue in the token, its microversion headers, and for
//! every call the one status that is no error to it.

use crate::cloud::Cloud;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Which gophercloud: 1, as Terraform's provider had it until its version 3, names Cinder `volumev3` in the catalogue and
/// in the microversion's header; 2, as cinder-csi-plugin has it, `block-storage` and `volume`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    V1,
    V2,
}

/// An authenticated client of one project.
pub struct Gopher {
    http: reqwest::Client,
    token: String,
    catalogue: Value,
    era: Era,
    pub project: String,
}

/// One service, at one microversion.
pub struct Api<'a> {
    of: &'a Gopher,
    base: String,
    headers: Vec<(&'static str, String)>,
}

/// An answer as it came.
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }

    fn told(&self) -> String {
        format!("{} {}", self.status, String::from_utf8_lossy(&self.bytes))
    }
}

impl Gopher {
    /// Logs in as one of the users of `clouds.yaml`, in a project.
    pub async fn login(cloud: &Cloud, user: &str, project: &str, era: Era) -> Gopher {
        let domain = json!({"id": "default"});
        let password = cloud.password(if user == "demo" { "aquifer" } else { "aquifer-admin" });
        let user = json!({"name": user, "password": password, "domain": domain});
        let scope = json!({"project": {"name": project, "domain": domain}});
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        let http = reqwest::Client::builder().user_agent("gophercloud/v2.8.0").build().unwrap();
        let request = http.post(cloud.url("/identity/v3/auth/tokens")).header("accept", "application/json");
        let r = request.json(&json!({"auth": {"identity": identity, "scope": scope}})).send().await.unwrap();
        assert_eq!(r.status(), 201);
        let token = r.headers()["x-subject-token"].to_str().unwrap().to_owned();
        let body: Value = r.json().await.unwrap();
        let project = body["token"]["project"]["id"].as_str().unwrap().to_owned();
        Gopher { http, token, catalogue: body["token"]["catalog"].clone(), era, project }
    }

    fn api(&self, kind: &str, headers: Vec<(&'static str, String)>) -> Api<'_> {
        let services = self.catalogue.as_array().unwrap().iter();
        let endpoints =
            services.filter(|s| s["type"] == kind).flat_map(|s| s["endpoints"].as_array().unwrap());
        let mut public = endpoints.filter(|e| e["interface"] == "public" && e["region"] == "RegionOne");
        let url =
            public.next().unwrap_or_else(|| panic!("no {kind} in the catalogue"))["url"].as_str().unwrap();
        assert!(public.next().is_none(), "{kind} stands twice in the catalogue");
        Api { of: self, base: format!("{}/", url.trim_end_matches('/')), headers }
    }

    /// gophercloud adds the API's version to what the catalogue says, here and for images.
    pub fn identity(&self) -> Api<'_> {
        let mut api = self.api("identity", Vec::new());
        if !api.base.ends_with("/v3/") {
            api.base.push_str("v3/");
        }
        api
    }

    pub fn block(&self) -> Api<'_> {
        self.api(if self.era == Era::V1 { "volumev3" } else { "block-storage" }, Vec::new())
    }

    pub fn block_at(&self, version: &str) -> Api<'_> {
        let mut api = self.block();
        match self.era {
            Era::V1 => api.headers.push(("OpenStack-API-Version", format!("volumev3 {version}"))),
            Era::V2 => {
                api.headers.push(("X-OpenStack-Volume-API-Version", version.to_owned()));
                api.headers.push(("OpenStack-API-Version", format!("volume {version}")));
            }
        }
        api
    }

    pub fn compute(&self) -> Api<'_> {
        self.api("compute", Vec::new())
    }

    pub fn compute_at(&self, version: &str) -> Api<'_> {
        let headers = vec![
            ("X-OpenStack-Nova-API-Version", version.to_owned()),
            ("OpenStack-API-Version", format!("compute {version}")),
        ];
        self.api("compute", headers)
    }

    pub fn image(&self) -> Api<'_> {
        let mut api = self.api("image", Vec::new());
        api.base.push_str("v2/");
        api
    }

    pub fn object(&self) -> Api<'_> {
        self.api("object-store", Vec::new())
    }
}

impl Api<'_> {
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// One request with headers and bytes of its own.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Reply {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let url = if path.starts_with("http") { path.to_owned() } else { self.url(path) };
        let mut request = self.of.http.request(method, url).header("x-auth-token", &self.of.token);
        request = request.header("accept", "application/json");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-length", body.len()).body(body);
        }
        let r = request.send().await.unwrap();
        let (status, headers) = (r.status().as_u16(), r.headers().clone());
        Reply { status, headers, bytes: r.bytes().await.unwrap().to_vec() }
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        let json = [("content-type", "application/json")];
        match body {
            Some(body) => self.send(method, path, &json, Some(body.to_string().into_bytes())).await,
            None => self.send(method, path, &[], None).await,
        }
    }

    /// A call that must be answered with this status.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>, ok: u16) -> Value {
        let said = body.clone().unwrap_or_default();
        let reply = self.ask(method, path, body).await;
        assert_eq!(reply.status, ok, "{method} {path} {said}: {}", reply.told());
        reply.json()
    }

    pub async fn get(&self, path: &str) -> Value {
        self.call("GET", path, None, 200).await
    }

    /// Deletes, which some services answer with 202 and some with 204.
    pub async fn delete(&self, path: &str) {
        let reply = self.ask("DELETE", path, None).await;
        assert!([202, 204].contains(&reply.status), "DELETE {path}: {}", reply.told());
    }

    pub async fn status(&self, path: &str) -> u16 {
        self.ask("GET", path, None).await.status
    }

    /// Polls until `pointer` is `wanted`; an error ends it, as it ends the clients' own waits.
    pub async fn until(&self, path: &str, pointer: &str, wanted: &str) -> Value {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let body = self.get(path).await;
            let now = body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            if now == wanted {
                return body;
            }
            assert!(!now.to_ascii_lowercase().starts_with("error"), "{path} is in error: {body}");
            assert!(Instant::now() < end, "{path} is not {wanted}: {body}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn until_gone(&self, path: &str) {
        let end = Instant::now() + Duration::from_secs(120);
        while self.status(path).await != 404 {
            assert!(Instant::now() < end, "{path} is still there");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
