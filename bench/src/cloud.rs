//! The cloud under measurement, and a session with it.

use crate::{BenchError, Result};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) struct Cloud {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) first_start: Duration,
    aquifer: PathBuf,
    listen: [String; 2],
    settings: PathBuf,
    child: Option<Child>,
}

impl Cloud {
    pub(crate) fn start_new(aquifer: &Path) -> Result<Cloud> {
        let free = || -> Result<String> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string()) };
        let dir = tempfile::Builder::new().prefix("aquifer-bench-").tempdir()?;
        let listen = [free()?, free()?];
        let settings = dir.path().join("bench.toml");
        std::fs::write(&settings, "")?;
        let aquifer = aquifer.into();
        let mut cloud = Cloud { dir, first_start: Duration::ZERO, aquifer, listen, settings, child: None };
        cloud.first_start = cloud.start()?;
        Ok(cloud)
    }

    fn start(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let out = std::fs::File::options().create(true).append(true).open(self.dir.path().join("up.out"))?;
        let child = Command::new(&self.aquifer)
            .args([
                "up",
                "--osd-size",
                "30",
                "--listen",
                &self.listen[0],
                "--s3-listen",
                &self.listen[1],
                "--data-dir",
            ])
            .arg(self.dir.path())
            .arg("--config")
            .arg(&self.settings)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        let child = self.child.insert(child);
        while !self.dir.path().join("ready").exists() {
            if let Some(status) = child.try_wait()? {
                let said = std::fs::read_to_string(self.dir.path().join("up.out"))?;
                return Err(BenchError::Said(format!("aquifer up ended with {status}: {said}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(began.elapsed())
    }

    /// Stops the cloud and starts it again with these tables of the configuration.
    pub(crate) fn configure(&mut self, settings: &str) -> Result<()> {
        std::fs::write(&self.settings, settings)?;
        self.restart().map(drop)
    }

    /// Stops the cloud and says how long it takes to come back.
    pub(crate) fn restart(&mut self) -> Result<Duration> {
        self.stop()?;
        self.start()
    }

    pub(crate) fn stop(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
            child.wait()?;
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map(Child::id).unwrap_or_default()
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.listen[0])
    }

    /// The program's own memory, MiB.
    pub(crate) fn memory(&self) -> Result<f64> {
        crate::memory::mib(self.pid())
    }

    pub(crate) fn admin_password(&self) -> Result<String> {
        let clouds = self.clouds()?;
        let password = clouds["clouds"]["aquifer-admin"]["auth"]["password"].as_str().map(str::to_owned);
        password.ok_or_else(|| BenchError::Said("clouds.yaml has no password of the admin".into()))
    }

    fn clouds(&self) -> Result<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("clouds.yaml"))?;
        serde_saphyr::from_str(&text).map_err(|e| BenchError::Said(e.to_string()))
    }

    pub(crate) fn s3_address(&self) -> &str {
        &self.listen[1]
    }

    /// What `s3.env` says.
    pub(crate) fn s3_env(&self, name: &str) -> Result<String> {
        let text = std::fs::read_to_string(self.dir.path().join("s3.env"))?;
        let value = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
        value.map(str::to_owned).ok_or_else(|| BenchError::Said(format!("s3.env has no {name}")))
    }

    /// The address of the engines' network that this host reaches.
    pub(crate) fn engines_address(&self) -> Result<String> {
        let conf = std::fs::read_to_string(self.ceph_conf())?;
        let address = conf.lines().find_map(|l| l.strip_prefix("public_addr = "));
        address.map(str::to_owned).ok_or_else(|| BenchError::Said("ceph.conf has no public_addr".into()))
    }

    pub(crate) fn ceph_conf(&self) -> PathBuf {
        self.dir.path().join("ceph/ceph.conf")
    }

    /// A command that runs beside the engines, where their addresses are local.
    pub(crate) fn beside_engines(&self, program: &str) -> Result<Command> {
        let pid = std::fs::read_to_string(self.dir.path().join("run/ceph-mon.a.pid"))?;
        let mut command = Command::new("nsenter");
        command.arg("--net").args(["-t", pid.trim(), program]);
        Ok(command)
    }

    pub(crate) async fn session(&self) -> Result<Session> {
        let clouds = self.clouds()?;
        let auth = &clouds["clouds"]["aquifer"]["auth"];
        let domain = json!({"id": "default"});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user":
                {"name": auth["username"], "password": auth["password"], "domain": domain}}},
            "scope": {"project": {"name": auth["project_name"], "domain": domain}}}});
        let base = self.base();
        let http = reqwest::Client::new();
        let r = http
            .post(format!("{base}/identity/v3/auth/tokens"))
            .json(&body)
            .send()
            .await?
            .error_for_status()?;
        let token =
            r.headers().get("x-subject-token").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        Ok(Session { base, token, http })
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

pub(crate) struct Session {
    base: String,
    token: String,
    http: reqwest::Client,
}

impl Session {
    pub(crate) fn request(&self, method: &str, path: &str) -> Result<reqwest::RequestBuilder> {
        let method = method.parse().map_err(|_| BenchError::Said(format!("no method {method}")))?;
        let request = self.http.request(method, format!("{}{path}", self.base));
        Ok(request.header("x-auth-token", &self.token).header("openstack-api-version", "compute 2.90"))
    }

    /// A call that must succeed; its JSON body, or null.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let mut request = self.request(method, path)?;
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let (status, text) = (response.status(), response.text().await?);
        if !status.is_success() {
            return Err(BenchError::Said(format!("{method} {path}: {status} {text}")));
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Polls until `pointer` at `path` is `wanted`.
    pub(crate) async fn until(&self, path: &str, pointer: &str, wanted: &str) -> Result<()> {
        for _ in 0..24_000 {
            let body = self.call("GET", path, None).await?;
            match body.pointer(pointer).and_then(Value::as_str).unwrap_or_default() {
                now if now == wanted => return Ok(()),
                now if now.eq_ignore_ascii_case("error") => {
                    return Err(BenchError::Said(format!("{path}: {body}")));
                }
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        Err(BenchError::Said(format!("{path} did not become {wanted} in two minutes")))
    }

    pub(crate) async fn gone(&self, path: &str) -> Result<()> {
        while self.request("GET", path)?.send().await?.status() != 404 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The test image that the first start made.
    pub(crate) async fn image(&self) -> Result<String> {
        let images = self.call("GET", "/image/v2/images", None).await?;
        id(&images["images"][0])
    }
}

pub(crate) fn id(of: &Value) -> Result<String> {
    of["id"].as_str().map(str::to_owned).ok_or_else(|| BenchError::Said(format!("no id in {of}")))
}
