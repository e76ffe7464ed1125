//! Upstream's Keystone in a scratch folder: a venv that is installed once a set of versions, MariaDB, memcached and
//! uwsgi on loopback ports of their own. All of it ends with the value.

use crate::{BenchError, Result};
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const REQUIREMENTS: &str = include_str!("../../keystone/requirements.txt");
pub(super) const PASSWORD: &str = "adminpw";
/// Anything that starts here is up within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// How uwsgi treats connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    KeepAlive,
    Close,
}

pub(super) struct Keystone {
    venv: PathBuf,
    dir: tempfile::TempDir,
    ports: [u16; 3],
    engines: Vec<Child>,
    service: Option<Child>,
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(BenchError::Said(format!("{command:?}: {}", said.trim())))
        }
    }
}

/// The venv of these versions, made if absent.
fn venv() -> Result<PathBuf> {
    let mut hash = std::hash::DefaultHasher::new();
    std::hash::Hash::hash(REQUIREMENTS, &mut hash);
    let name = format!("keystone-{:016x}", std::hash::Hasher::finish(&hash));
    let venv = std::env::current_dir()?.join("target/bench").join(name);
    if !venv.join("complete").exists() {
        println!("installing Keystone into {}", venv.display());
        let file = venv.with_extension("txt");
        fs::create_dir_all(venv.parent().unwrap_or(Path::new(".")))?;
        fs::write(&file, REQUIREMENTS)?;
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        let pip = venv.join("bin/pip");
        run(Command::new(pip).args(["-q", "--disable-pip-version-check", "install", "-r"]).arg(&file))?;
        fs::write(venv.join("complete"), "")?;
    }
    Ok(venv)
}

impl Keystone {
    /// Installs it, starts MariaDB and memcached, and makes the database.
    pub(super) fn install() -> Result<Keystone> {
        let venv = venv()?;
        let dir = tempfile::Builder::new().prefix("aquifer-bench-keystone-").tempdir()?;
        let listeners =
            (0..3).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
        let mut ports = [0; 3];
        for (port, listener) in ports.iter_mut().zip(&listeners) {
            *port = listener.local_addr()?.port();
        }
        drop(listeners);
        let mut keystone = Keystone { venv, dir, ports, engines: Vec::new(), service: None };
        keystone.start_engines()?;
        keystone.set_up()?;
        Ok(keystone)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn spawn(&self, name: &str, command: &mut Command) -> Result<Child> {
        let log = File::create(self.path(&format!("{name}.log")))?;
        Ok(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?)
    }

    fn start_engines(&mut self) -> Result<()> {
        let [db, cache, _] = self.ports;
        let data = self.path("mysql");
        fs::create_dir(&data)?;
        run(Command::new("mariadb-install-db")
            .arg("--no-defaults")
            .arg(format!("--datadir={data}"))
            .args(["--auth-root-authentication-method=normal", "--user=root", "--skip-test-db"]))?;
        let socket = self.path("mysql.sock");
        let mut mariadb = Command::new("mariadbd");
        mariadb.args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--skip-log-bin"]).args([
            format!("--datadir={data}"),
            format!("--port={db}"),
            format!("--socket={socket}"),
            format!("--pid-file={}", self.path("mysql.pid")),
            "--innodb-buffer-pool-size=256M".into(),
            "--max-connections=1000".into(),
            "--skip-name-resolve".into(),
        ]);
        self.engines.push(self.spawn("mariadb", &mut mariadb)?);
        let mut memcached = Command::new("memcached");
        memcached.args(["-u", "root", "-l", "127.0.0.1", "-m", "256", "-p", &cache.to_string()]);
        self.engines.push(self.spawn("memcached", &mut memcached)?);
        reachable(db)?;
        reachable(cache)?;
        let sql = "CREATE DATABASE keystone CHARACTER SET utf8mb4; \
            CREATE USER keystone@'127.0.0.1' IDENTIFIED BY 'bench'; GRANT ALL ON keystone.* TO keystone@'127.0.0.1';";
        run(Command::new("mariadb").args(["--no-defaults", "-uroot", "-S", &socket, "-e", sql]))
    }

    fn set_up(&self) -> Result<()> {
        let [db, cache, _] = self.ports;
        let config = format!(
            "[DEFAULT]\nlog_file = {log}\n\
             [database]\nconnection = mysql+pymysql://keystone:bench@127.0.0.1:{db}/keystone?charset=utf8mb4\n\
             [token]\nprovider = fernet\n[fernet_tokens]\nkey_repository = {fernet}\n\
             [fernet_receipts]\nkey_repository = {fernet}\n[credential]\nkey_repository = {credential}\n\
             [cache]\nenabled = true\nbackend = dogpile.cache.pymemcache\nmemcache_servers = 127.0.0.1:{cache}\n\
             [identity]\npassword_hash_algorithm = bcrypt\npassword_hash_rounds = {cost}\n",
            log = self.path("keystone.log"),
            fernet = self.path("fernet"),
            credential = self.path("credential"),
            cost = super::COST,
        );
        fs::write(self.path("keystone.conf"), config)?;
        let manage = |args: &[&str]| {
            let program = self.venv.join("bin/keystone-manage");
            run(Command::new(program).arg("--config-file").arg(self.path("keystone.conf")).args(args))
        };
        let owner = ["--keystone-user", "root", "--keystone-group", "root"];
        manage(&["db_sync"])?;
        manage(&[&["fernet_setup"], &owner[..]].concat())?;
        manage(&[&["credential_setup"], &owner[..]].concat())?;
        let url = self.url();
        manage(&[
            "bootstrap",
            "--bootstrap-password",
            PASSWORD,
            "--bootstrap-region-id",
            "RegionOne",
            "--bootstrap-public-url",
            &url,
            "--bootstrap-internal-url",
            &url,
            "--bootstrap-admin-url",
            &url,
        ])
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v3", self.ports[2])
    }

    /// Starts uwsgi with a worker for each core; the address of the API.
    pub(super) fn start(&mut self, served: Served) -> Result<String> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let address = format!("127.0.0.1:{}", self.ports[2]);
        let mut uwsgi = Command::new(self.venv.join("bin/uwsgi"));
        match served {
            Served::KeepAlive => uwsgi.args(["--http11-socket", &address]),
            Served::Close => uwsgi.args(["--http-socket", &address, "--add-header", "Connection: close"]),
        };
        uwsgi
            .args(["--module", "keystone.wsgi.api:application", "--processes", &cores.to_string()])
            .args(["--master", "--enable-threads", "--lazy-apps", "--die-on-term", "--need-app"])
            .args(["--buffer-size", "65535", "--disable-logging", "--virtualenv"])
            .arg(&self.venv)
            .env("OS_KEYSTONE_CONFIG_DIRS", self.dir.path())
            .env("OS_KEYSTONE_CONFIG_FILES", "keystone.conf")
            .current_dir(self.dir.path());
        self.service = Some(self.spawn("uwsgi", &mut uwsgi)?);
        reachable(self.ports[2])?;
        Ok(self.url())
    }

    /// MiB of the service, its database and its cache together.
    pub(super) fn memory(&self) -> Result<f64> {
        let mut all = 0.0;
        for child in self.engines.iter().chain(&self.service) {
            all += crate::memory::of_tree(child.id())?;
        }
        Ok(all)
    }

    pub(super) fn stop_service(&mut self) -> Result<()> {
        self.service.take().map_or(Ok(()), end)
    }
}

impl Drop for Keystone {
    fn drop(&mut self) {
        for child in self.service.take().into_iter().chain(self.engines.drain(..)) {
            let _ = end(child);
        }
    }
}

fn end(mut child: Child) -> Result<()> {
    run(Command::new("kill").args(["-TERM", &child.id().to_string()]))?;
    child.wait()?;
    Ok(())
}

fn reachable(port: u16) -> Result<()> {
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if began.elapsed() > PATIENCE {
            return Err(BenchError::Said(format!("nothing answers on port {port} after {PATIENCE:?}")));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
