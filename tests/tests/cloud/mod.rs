//! A whole cloud for a test: `aquifer up` in a folder and on ports of its own.
#![allow(dead_code, unreachable_pub)] // each test binary uses a part of it

pub mod wire;

use serde_json::{Value, json};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long the first start may take on a loaded machine before a test gives up.
const READY: Duration = Duration::from_secs(180);

pub struct Cloud {
    pub dir: tempfile::TempDir,
    pub api: u16,
    pub s3: u16,
    args: Vec<String>,
    child: Option<Child>,
}

/// A file for `--config` with this in it; it goes with what is returned.
pub fn config(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

impl Cloud {
    /// Brings up a new cloud.
    pub fn up() -> Cloud {
        Cloud::up_with(&[])
    }

    /// Brings up a new cloud with more arguments.
    pub fn up_with(args: &[&str]) -> Cloud {
        let args = args.iter().map(|a| (*a).to_owned()).collect();
        let dir = tempfile::Builder::new().prefix("aquifer-cloud-").tempdir().unwrap();
        let (api, s3) = (free_port(), free_port());
        let mut cloud = Cloud { dir, api, s3, args, child: None };
        cloud.start();
        cloud
    }

    /// Starts `aquifer up` in this cloud's folder, also after a crash or a stop.
    pub fn start(&mut self) {
        // A killed process could not take its own away.
        let _ = std::fs::remove_file(self.path("ready"));
        let log = std::fs::File::options().create(true).append(true).open(self.path("up.out")).unwrap();
        let child = Command::new(aquifer())
            .arg("up")
            .arg("--data-dir")
            .arg(self.dir.path())
            .args([
                "--listen",
                &format!("127.0.0.1:{}", self.api),
                "--s3-listen",
                &format!("127.0.0.1:{}", self.s3),
            ])
            .args(["--osd-size", "20"])
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let end = Instant::now() + READY;
        while !self.path("ready").exists() {
            let gone = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(gone.is_none(), "`aquifer up` ended: {gone:?}\n{}", self.output());
            assert!(Instant::now() < end, "not ready within {READY:?}\n{}", self.output());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn pid(&self) -> i32 {
        self.child.as_ref().unwrap().id() as i32
    }

    /// `kill -9`: engines and guests live on.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ctrl-C, as a terminal sends it.
    pub fn stop(&mut self) -> ExitStatus {
        let Some(mut child) = self.child.take() else { return ExitStatus::from_raw(0) };
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        child.wait().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.api)
    }

    pub fn output(&self) -> String {
        let out = std::fs::read_to_string(self.path("up.out")).unwrap_or_default();
        let log = std::fs::read_to_string(self.path("log/aquifer.log")).unwrap_or_default();
        // What was asked while the database was away says nothing else.
        let away = "The database is unavailable; please try again.";
        let tail: Vec<_> = log.lines().rev().filter(|line| !line.contains(away)).take(100).collect();
        format!("{out}\n--- log/aquifer.log\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    /// The password that `clouds.yaml` gives for a cloud entry.
    pub fn password(&self, cloud: &str) -> String {
        let text = std::fs::read_to_string(self.path("clouds.yaml")).unwrap();
        let entry = text.split(&format!("  {cloud}:\n")).nth(1).unwrap();
        entry.lines().find_map(|l| l.trim().strip_prefix("password: ")).unwrap().to_owned()
    }

    pub async fn demo(&self) -> Session {
        Session::login(&self.url(""), "demo", &self.password("aquifer")).await
    }

    pub async fn admin(&self) -> Session {
        Session::login(&self.url(""), "admin", &self.password("aquifer-admin")).await
    }

    /// Runs one of the walks against this cloud with the project's own clients on PATH.
    pub fn walk(&self, name: &str) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let clients = root.join("../.clients/bin");
        let path = format!("{}:{}", clients.display(), std::env::var("PATH").unwrap_or_default());
        let out = Command::new(root.join("walk").join(name))
            .arg(self.dir.path())
            .env("PATH", path)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{text}\n{}\n{}", String::from_utf8_lossy(&out.stderr), self.output());
        let last = text.lines().last().unwrap_or_default();
        assert!(last.ends_with(" passed, 0 failed"), "{text}");
        eprintln!("{name}: {last}");
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.output());
        }
        self.stop();
        // What a killed process left behind; a no-op after a clean stop.
        let _ = Command::new(aquifer()).arg("stop").arg("--data-dir").arg(self.dir.path()).output();
    }
}

/// A user's session with the APIs.
pub struct Session {
    base: String,
    pub token: String,
}

impl Session {
    /// A session of a user in the project of the same name.
    pub async fn login(base: &str, user: &str, password: &str) -> Session {
        let domain = json!({"id": "default"});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user":
                {"name": user, "domain": domain, "password": password}}},
            "scope": {"project": {"name": user, "domain": domain}}}});
        let url = format!("{base}/identity/v3/auth/tokens");
        let r = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        assert_eq!(r.status(), 201, "{}", r.text().await.unwrap());
        let token = r.headers()["x-subject-token"].to_str().unwrap().to_owned();
        Session { base: base.to_owned(), token }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The id of the session's project.
    pub async fn project(&self) -> String {
        let projects = self.ok("GET", "/identity/v3/auth/projects", None).await;
        projects["projects"][0]["id"].as_str().unwrap().to_owned()
    }

    /// Puts bytes at a whole URL, which must succeed.
    pub async fn put(&self, url: &str, bytes: &[u8]) {
        let (status, text) = self.try_put(url, bytes).await;
        assert!((200..300).contains(&status), "PUT {url}: {status} {text}");
    }

    /// Puts bytes at a whole URL: the status and what the body says.
    pub async fn try_put(&self, url: &str, bytes: &[u8]) -> (u16, String) {
        let request = reqwest::Client::new().put(url).header("x-auth-token", &self.token);
        let request = request.header("content-type", "application/octet-stream");
        let r = request.body(bytes.to_owned()).send().await.unwrap();
        (r.status().as_u16(), r.text().await.unwrap())
    }

    /// The bytes at a whole URL.
    pub async fn bytes(&self, url: &str) -> Vec<u8> {
        let r = reqwest::Client::new().get(url).header("x-auth-token", &self.token).send().await.unwrap();
        assert!(r.status().is_success(), "GET {url}: {}", r.status());
        r.bytes().await.unwrap().to_vec()
    }

    /// One call: the status and the body (null where it is not JSON).
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.try_call(method, path, body).await.unwrap()
    }

    /// The same where nobody may be there to answer.
    pub async fn try_call(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> reqwest::Result<(u16, Value)> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = reqwest::Client::new()
            .request(method, format!("{}{path}", self.base))
            .header("x-auth-token", &self.token)
            .header("openstack-api-version", "volume 3.60, compute 2.90");
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok((status, response.json().await.unwrap_or(Value::Null)))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, None).await
    }

    /// A call that must succeed.
    pub async fn ok(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, body) = self.call(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {body}");
        body
    }

    /// Waits until `pointer` of the resource at `path` is `wanted`; an `error` ends the wait.
    pub async fn until(&self, path: &str, pointer: &str, wanted: &str) {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let (status, body) = self.get(path).await;
            let now = body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            if now == wanted {
                return;
            }
            assert!(!now.eq_ignore_ascii_case("error"), "{path} is in error: {body}");
            assert!(Instant::now() < end, "{path} is {now:?} ({status}), not {wanted:?}: {body}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the resource is gone.
    pub async fn until_gone(&self, path: &str) {
        let end = Instant::now() + Duration::from_secs(120);
        while self.get(path).await.0 != 404 {
            assert!(Instant::now() < end, "{path} is still there: {:?}", self.get(path).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A process of `aquifer serve`, ended with this value.
pub struct Program(Child);

impl Program {
    /// Starts it and waits until its listener answers.
    pub async fn serve(config: &Path, roles: &str, port: u16) -> Program {
        let mut program = Program::start(config, roles);
        let end = Instant::now() + READY;
        while reqwest::get(format!("http://127.0.0.1:{port}/healthz")).await.is_err() {
            assert!(program.0.try_wait().unwrap().is_none(), "serve --roles {roles} ended");
            assert!(Instant::now() < end, "serve --roles {roles} does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        program
    }

    pub fn agent(config: &Path) -> Program {
        Program::start(config, "agent")
    }

    fn start(config: &Path, roles: &str) -> Program {
        let mut command = Command::new(aquifer());
        command.arg("serve").arg("--config").arg(config).args(["--roles", roles]).stdin(Stdio::null());
        Program(command.spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// What a short command of the program prints.
pub fn run(args: &[&str]) -> String {
    let out = Command::new(aquifer()).args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The program under test: beside the tests, as cargo builds it.
fn aquifer() -> PathBuf {
    if let Some(path) = std::env::var_os("AQUIFER") {
        return path.into();
    }
    let exe = std::env::current_exe().unwrap();
    let built = exe.parent().unwrap().parent().unwrap().join("aquifer");
    assert!(built.exists(), "{} is not built: cargo build -p aquifer", built.display());
    built
}

/// A port that is free now. Another process may take it before the cloud does; then the cloud says so and
/// the test fails with its words.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
