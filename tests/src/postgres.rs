//! A private PostgreSQL: Debian's server, in a folder and on a port of its own, gone when the run is over.

use std::error::Error;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use tokio::process::Command;

pub(crate) struct Postgres {
    dir: PathBuf,
    bin: PathBuf,
    port: u16,
}

impl Postgres {
    /// Makes and starts it; returns when it accepts connections.
    pub(crate) async fn start(parent: &Path) -> Result<Postgres, Box<dyn Error + Send + Sync>> {
        let dir = parent.join("postgres");
        std::fs::create_dir(&dir)?;
        // initdb and the server refuse to run as root.
        nix::unistd::chown(&dir, nix::unistd::User::from_name("postgres")?.map(|u| u.uid), None)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = Postgres { bin: newest()?, dir, port };
        let data = server.dir.join("data");
        server.run("initdb", &["-A", "trust", "-D", &data.display().to_string()]).await?;
        // Nothing here outlives the run: durability is tested elsewhere than in this server's disk writes.
        let options = format!(
            "-p {port} -k {} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=600 -c shared_buffers=32MB",
            server.dir.display()
        );
        server.ctl(&["start", "-w", "-o", &options]).await?;
        Ok(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    pub(crate) async fn stop(self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.ctl(&["stop", "-m", "immediate"]).await
    }

    async fn ctl(&self, args: &[&str]) -> Result<(), Box<dyn Error + Send + Sync>> {
        let (data, log) = (self.dir.join("data"), self.dir.join("log"));
        let (data, log) = (data.display().to_string(), log.display().to_string());
        self.run("pg_ctl", &[&["-D", &data, "-l", &log], args].concat()).await
    }

    async fn run(&self, program: &str, args: &[&str]) -> Result<(), Box<dyn Error + Send + Sync>> {
        let status = Command::new("setpriv")
            .args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"])
            .arg(self.bin.join(program))
            .args(args)
            .current_dir(&self.dir)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .status()
            .await?;
        if status.success() { Ok(()) } else { Err(format!("{program} failed with {status}").into()) }
    }
}

/// The newest server that Debian has installed.
fn newest() -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
    let mut versions: Vec<PathBuf> =
        std::fs::read_dir("/usr/lib/postgresql")?.flatten().map(|e| e.path()).collect();
    versions.sort();
    Ok(versions.pop().ok_or("no PostgreSQL below /usr/lib/postgresql")?.join("bin"))
}
