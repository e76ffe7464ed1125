//! Upstream's services in a scratch folder, as operators run them: a venv that is installed once a set of versions,
//! MariaDB, memcached, and uwsgi with a worker for each core, on loopback ports of their own. All of it ends with the
//! value.

mod cinder;
mod glance;
mod keystone;

use crate::command::run;
use crate::{BenchError, Result};
pub(crate) use cinder::CINDER;
pub(crate) use glance::GLANCE;
pub(crate) use keystone::KEYSTONE;
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const REQUIREMENTS: &str = include_str!("../upstream/requirements.txt");
/// The admin's.
pub(crate) const PASSWORD: &str = "adminpw";
/// Anything that starts here is up within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// How uwsgi treats connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    KeepAlive,
    Close,
}

impl Served {
    pub(crate) const BOTH: [Served; 2] = [Served::KeepAlive, Served::Close];

    /// As the tables say it.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Served::KeepAlive => "keep-alive",
            Served::Close => "a connection each",
        }
    }
}

/// What there is to know about a service to run it.
pub(crate) struct Service {
    /// Of its database and its folder too.
    name: &'static str,
    /// Which of the ports is its.
    port: usize,
    module: &'static str,
    /// The name of its configuration's file, and how it learns of it.
    file: &'static str,
    told: Told,
    /// The program that makes the tables, and what it is told.
    sync: &'static [&'static str],
}

enum Told {
    /// This variable names the file.
    File(&'static str),
    /// This one the folder.
    Folder(&'static str),
    Argument,
}

pub(crate) struct Upstream {
    venv: PathBuf,
    dir: tempfile::TempDir,
    /// Of the database, the cache, and each service.
    ports: [u16; 5],
    engines: Vec<Child>,
    services: Vec<(&'static str, Child)>,
}

/// The venv of these versions, made if absent.
fn venv() -> Result<PathBuf> {
    let mut hash = std::hash::DefaultHasher::new();
    std::hash::Hash::hash(REQUIREMENTS, &mut hash);
    let name = format!("upstream-{:016x}", std::hash::Hasher::finish(&hash));
    let venv = std::env::current_dir()?.join("target/bench").join(name);
    if !venv.join("complete").exists() {
        println!("installing Keystone, Glance and Cinder into {}", venv.display());
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

impl Upstream {
    /// Installs it, starts MariaDB and memcached, and sets Keystone up.
    pub(crate) fn install() -> Result<Upstream> {
        let venv = venv()?;
        let dir = tempfile::Builder::new().prefix("aquifer-bench-upstream-").tempdir()?;
        let mut ports = [0; 5];
        let listeners =
            ports.iter().map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
        for (port, listener) in ports.iter_mut().zip(&listeners) {
            *port = listener.local_addr()?.port();
        }
        drop(listeners);
        let mut upstream = Upstream { venv, dir, ports, engines: Vec::new(), services: Vec::new() };
        upstream.start_engines()?;
        upstream.set_up_keystone()?;
        Ok(upstream)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn spawn(&self, name: &str, command: &mut Command) -> Result<Child> {
        let log = File::create(self.path(&format!("{name}.log")))?;
        Ok(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?)
    }

    fn start_engines(&mut self) -> Result<()> {
        let [db, cache, ..] = self.ports;
        let data = self.path("mysql");
        fs::create_dir(&data)?;
        run(Command::new("mariadb-install-db")
            .arg("--no-defaults")
            .arg(format!("--datadir={data}"))
            .args(["--auth-root-authentication-method=normal", "--user=root", "--skip-test-db"]))?;
        let mut mariadb = Command::new("mariadbd");
        mariadb.args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--skip-log-bin"]).args([
            format!("--datadir={data}"),
            format!("--port={db}"),
            format!("--socket={}", self.path("mysql.sock")),
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
        self.sql(
            "CREATE USER bench@'127.0.0.1' IDENTIFIED BY 'bench'; GRANT ALL ON *.* TO bench@'127.0.0.1';",
        )
    }

    fn sql(&self, statements: &str) -> Result<()> {
        let socket = self.path("mysql.sock");
        run(Command::new("mariadb").args(["--no-defaults", "-uroot", "-S", &socket, "-e", statements]))
            .map(drop)
    }

    fn cache(&self) -> String {
        format!("127.0.0.1:{}", self.ports[1])
    }

    fn url(&self, service: &Service) -> String {
        format!("http://127.0.0.1:{}", self.ports[service.port])
    }

    /// What every service's configuration has: where it logs, and its database.
    fn common(&self, service: &Service) -> String {
        let Service { name, .. } = service;
        format!(
            "[DEFAULT]\nlog_file = {log}\n[oslo_concurrency]\nlock_path = {lock}\n\
             [database]\nconnection = mysql+pymysql://bench:bench@127.0.0.1:{db}/{name}?charset=utf8mb4\n",
            log = self.path(&format!("{name}-app.log")),
            lock = self.path("lock"),
            db = self.ports[0],
        )
    }

    /// How a service other than Keystone validates tokens: with the cache, as is advised.
    fn validation(&self) -> String {
        let keystone = self.identity();
        format!(
            "[keystone_authtoken]\nwww_authenticate_uri = {keystone}\nauth_url = {keystone}\n\
             auth_type = password\nusername = admin\npassword = {PASSWORD}\nproject_name = admin\n\
             user_domain_id = default\nproject_domain_id = default\nmemcached_servers = {cache}\n\
             service_token_roles_required = true\n",
            cache = self.cache(),
        )
    }

    /// Writes a service's configuration and makes its tables.
    fn prepare(&self, service: &Service, config: &str) -> Result<()> {
        let Service { name, sync, .. } = service;
        fs::create_dir_all(self.path(name))?;
        fs::write(self.config(service), format!("{}{config}", self.common(service)))?;
        self.sql(&format!("CREATE DATABASE {name} CHARACTER SET utf8mb4;"))?;
        self.manage(service, sync)
    }

    fn config(&self, service: &Service) -> String {
        self.path(&format!("{}/{}", service.name, service.file))
    }

    /// The service's command for its administrator.
    fn manage(&self, service: &Service, args: &[&str]) -> Result<()> {
        let program = self.venv.join("bin").join(format!("{}-manage", service.name));
        run(Command::new(program).arg("--config-file").arg(self.config(service)).args(args)).map(drop)
    }

    /// Starts a service that is set up; its address.
    pub(crate) fn start(&mut self, service: &Service, served: Served) -> Result<String> {
        let Service { name, port, module, told, .. } = service;
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let port = self.ports[*port];
        let address = format!("127.0.0.1:{port}");
        let mut uwsgi = Command::new(self.venv.join("bin/uwsgi"));
        match served {
            Served::KeepAlive => uwsgi.args(["--http11-socket", &address]),
            Served::Close => uwsgi.args(["--http-socket", &address, "--add-header", "Connection: close"]),
        };
        uwsgi
            .args(["--module", module, "--processes", &cores.to_string()])
            .args(["--master", "--enable-threads", "--lazy-apps", "--die-on-term", "--need-app"])
            .args(["--buffer-size", "65535", "--disable-logging", "--virtualenv"])
            .arg(&self.venv)
            .current_dir(self.dir.path());
        match told {
            Told::File(variable) => uwsgi.env(variable, self.config(service)),
            Told::Folder(variable) => uwsgi.env(variable, self.path(name)),
            Told::Argument => uwsgi.args(["--pyargv", &format!("--config-file={}", self.config(service))]),
        };
        let child = self.spawn(name, &mut uwsgi)?;
        self.services.push((name, child));
        reachable(port)?;
        Ok(self.url(service))
    }

    /// MiB of the services, their database and their cache together.
    pub(crate) fn memory(&self) -> Result<f64> {
        let mut all = 0.0;
        for child in self.engines.iter().chain(self.services.iter().map(|(_, c)| c)) {
            all += crate::memory::of_tree(child.id())?;
        }
        Ok(all)
    }

    pub(crate) fn stop(&mut self, service: &Service) -> Result<()> {
        let (ended, others) = self.services.drain(..).partition(|(name, _)| *name == service.name);
        self.services = others;
        let ended: Vec<_> = ended;
        ended.into_iter().try_for_each(|(_, child)| end(child))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        for child in self.services.drain(..).map(|(_, c)| c).chain(self.engines.drain(..)) {
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
