//! The command line.

use crate::error::AquiferError;
use crate::roles::Role;
use crate::{adopt, config, doctor, identity, policy, serve, status, terminal, up};
use clap::{CommandFactory, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// A storage-first cloud: OpenStack and S3 APIs over Ceph, in one program.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "Start a cloud on this machine:  aquifer up --data-dir /var/lib/aquifer\n\
    Check the machine first:        aquifer doctor"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the whole cloud on this machine and keep it running until Ctrl-C.
    ///
    /// Brings up a private Ceph, OVN and libvirt in the data directory, or takes them up again, and serves
    /// every API. The first start makes the demo project, flavors, a public network and a test image, and
    /// writes clouds.yaml and s3.env.
    Up(UpArgs),
    /// Run some of the cloud's roles against an existing Ceph, PostgreSQL, OVN and libvirt.
    Serve(ServeArgs),
    /// Show every service and engine of the cloud in a data directory.
    Status(DataDir),
    /// Stop the cloud in a data directory: guests first, then the engines.
    Stop(DataDir),
    /// Check this machine before anything is started.
    Doctor(DoctorArgs),
    /// Make a hypervisor known to the cloud and print the secret that its agent logs in with.
    ///
    /// A host that is known already gets a new secret; the old one is void at once.
    RegisterHost(RegisterArgs),
    /// Look after identity: its first users and roles, its keys, revoked tokens.
    #[command(subcommand)]
    Identity(identity::Command),
    /// Explain who may do what, and why.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Take over the volumes, snapshots, types and images of an OpenStack, in place: nothing is copied.
    ///
    /// Reads dumps of its Cinder's and Glance's databases, looks for everything in the pools, and says what it would do.
    /// Projects and users keep their ids, so identity must have them first. The exit code is 2 where something could
    /// not be taken over.
    Adopt(Box<adopt::Args>),
    /// Print a configuration file for `serve` with every key and its meaning.
    Config,
    /// Print shell completions.
    Completion { shell: clap_complete::Shell },
}

#[derive(Debug, clap::Args)]
pub(crate) struct DataDir {
    /// Where the cloud keeps everything.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/aquifer", env = "AQUIFER_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
}

/// Which cloud a command is for.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// The controllers' configuration file, for a cloud that `serve` runs.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// The data directory, for a cloud that `up` runs.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/aquifer",
        env = "AQUIFER_DATA_DIR",
        conflicts_with = "config",
        global = true
    )]
    pub(crate) data_dir: PathBuf,
    /// The database of that cloud, where `up` was given one.
    #[arg(long, value_name = "postgres://…", conflicts_with = "config", global = true)]
    pub(crate) database: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) dir: DataDir,
    /// Where the OpenStack APIs listen.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:5000")]
    pub(crate) listen: SocketAddr,
    /// Where S3 listens.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7480")]
    pub(crate) s3_listen: SocketAddr,
    /// The address clients use, where it is not the listener's (behind a proxy, or listening on 0.0.0.0).
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,
    /// Settings of the services: a file with the tables [identity], [image], [volume], [object], [network] and
    /// [compute] of `aquifer config`.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A PostgreSQL to keep rows in, instead of the embedded SQLite.
    #[arg(long, value_name = "postgres://…")]
    pub(crate) database: Option<String>,
    /// OSDs of the private Ceph; more than one on one disk is for testing.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub(crate) osds: u32,
    /// The most disk each OSD may take, GiB. Its file is sparse: it takes what is stored.
    #[arg(long, value_name = "GIB")]
    pub(crate) osd_size: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// The configuration file; `aquifer config` prints one to start from.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The roles to run.
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) roles: Vec<Role>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RegisterArgs {
    /// The controllers' configuration file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The name that the host's `[agent]` has in `host`.
    pub(crate) name: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) dir: DataDir,
    /// Check what this configuration names: can its Ceph clusters and its database be reached?
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

impl Cli {
    pub(crate) async fn run(self) -> Result<ExitCode, AquiferError> {
        match self.command {
            Command::Up(args) => up::run(args).await?,
            Command::Serve(args) => serve::run(args).await?,
            Command::Status(dir) => return status::run(&dir.data_dir).await,
            Command::Stop(dir) => up::stop(&dir.data_dir).await?,
            Command::Doctor(args) => return doctor::run(args).await,
            Command::RegisterHost(args) => {
                terminal::say(&serve::register_host(&args.config, &args.name).await?)
            }
            Command::Identity(command) => identity::run(command).await?,
            Command::Policy(command) => return policy::run(command).await,
            Command::Adopt(args) => return adopt::run(*args).await,
            Command::Config => terminal::say(config::EXAMPLE.trim_end()),
            Command::Completion { shell } => {
                clap_complete::generate(shell, &mut Cli::command(), "aquifer", &mut std::io::stdout());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
