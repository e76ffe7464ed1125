//! The cloud under measurement, and a session with it.

use crate::command::run;
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

    /// A tool of Ceph's, as the cluster's administrator.
    pub(crate) fn tool(&self, program: &str) -> Result<Command> {
        let mut command = self.beside_engines(program)?;
        command.arg("-c").arg(self.ceph_conf()).args(["-n", "client.admin"]);
        Ok(command)
    }

    /// Bytes that the OSDs have answered to reads.
    pub(crate) fn bytes_read(&self) -> Result<u64> {
        let osds = run(self.tool("ceph")?.args(["osd", "ls"]))?;
        let one = |osd: &str| -> Result<u64> {
            let said = run(self.tool("ceph")?.args(["tell", &format!("osd.{osd}"), "perf", "dump"]))?;
            let counters: Value = serde_json::from_str(&said).unwrap_or_default();
            let read = counters["osd"]["op_r_out_bytes"].as_u64();
            read.ok_or_else(|| BenchError::Said(format!("osd.{osd} does not say what it has read")))
        };
        osds.split_whitespace().map(one).sum()
    }

    pub(crate) async fn session(&self) -> Result<Session> {
        self.session_of("aquifer").await
    }

    pub(crate) async fn admin(&self) -> Result<Session> {
        self.session_of("aquifer-admin").await
    }

    async fn session_of(&self, name: &str) -> Result<Session> {
        let clouds = self.clouds()?;
        let auth = &clouds["clouds"][name]["auth"];
        let [user, password, project] =
            ["username", "password", "project_name"].map(|k| auth[k].as_str().unwrap_or_default());
        let base = self.base();
        Session::login(&format!("{base}/identity/v3"), &base, user, password, project).await
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

#[derive(Clone)]
pub(crate) struct Session {
    base: String,
    token: String,
    http: reqwest::Client,
    /// Ids of who it is, and in which project.
    pub(crate) user: String,
    pub(crate) project: String,
}

impl Session {
    /// Calls go to what is at `base`.
    pub(crate) async fn login(
        identity: &str,
        base: &str,
        user: &str,
        password: &str,
        project: &str,
    ) -> Result<Session> {
        let domain = json!({"id": "default"});
        let body = json!({"auth": {
            "identity": {"methods": ["password"],
                "password": {"user": {"name": user, "password": password, "domain": domain}}},
            "scope": {"project": {"name": project, "domain": domain}}}});
        let http = reqwest::Client::new();
        let url = format!("{identity}/auth/tokens");
        let response = http.post(url).json(&body).send().await?.error_for_status()?;
        let token = response.headers().get("x-subject-token").and_then(|v| v.to_str().ok());
        let token = token.unwrap_or_default().to_owned();
        let body: Value = response.json().await?;
        let (user, project) = (id(&body["token"]["user"])?, id(&body["token"]["project"])?);
        Ok(Session { base: base.to_owned(), token, http, user, project })
    }

    /// The same who, elsewhere.
    pub(crate) fn at(&self, base: &str) -> Session {
        Session { base: base.to_owned(), ..self.clone() }
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

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
