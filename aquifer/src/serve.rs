//! `aquifer serve`: some of the cloud's roles against engines that somebody else runs.

use crate::cli::ServeArgs;
use crate::cloud::{self, Cloud};
use crate::config::Config;
use crate::error::AquiferError;
use crate::logging;
use crate::roles::Role;
use crate::up::first;
use api::server::HeaderNames;
use compute::Agent;
use std::path::Path;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) async fn run(args: ServeArgs) -> Result<(), AquiferError> {
    logging::to_stderr();
    state::failpoint::from_env().map_err(AquiferError::Config)?;
    api::metrics::install();
    let config = Config::read(&args.config)?;
    let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
    let controllers: Vec<Role> = args.roles.iter().copied().filter(|r| *r != Role::Agent).collect();
    if !controllers.is_empty() {
        serve(&config, &controllers, &stop, &tracker).await?;
    }
    if args.roles.contains(&Role::Agent) {
        let agent = config
            .agent
            .clone()
            .ok_or_else(|| AquiferError::Config("the role agent needs [agent]".into()))?;
        let agent = Agent::new(agent).await.map_err(AquiferError::service("the host agent"))?;
        let until = stop.clone();
        tracker.spawn(async move { agent.run(until).await });
    }
    tracing::info!(roles = ?args.roles, node = %config.node, "serving");
    interrupted().await?;
    tracing::info!("stopping");
    stop.cancel();
    tracker.close();
    tracker.wait().await;
    Ok(())
}

/// `aquifer register-host`: the new secret of the host `name`.
pub(crate) async fn register_host(file: &Path, name: &str) -> Result<String, AquiferError> {
    let cloud = Cloud::assemble(&Config::read(file)?).await?;
    let secret = cloud.compute.register_host(name).await.map_err(AquiferError::service("the host"))?;
    Ok(secret.0)
}

async fn serve(
    config: &Config,
    roles: &[Role],
    stop: &CancellationToken,
    tracker: &TaskTracker,
) -> Result<(), AquiferError> {
    let cloud = Cloud::assemble(config).await?;
    if let (true, Some(file)) = (roles.contains(&Role::Api), &config.bootstrap.admin_password_file) {
        first::catalogue(&cloud, &first_line(file)?, config).await?;
    }
    let api = cloud::listen(config.listen.api).await?;
    tracker.spawn(api::server::serve(api, cloud.router(roles), stop.clone()));
    if roles.contains(&Role::Object) {
        let s3 = cloud::listen(config.listen.s3).await?;
        tracker.spawn(api::server::serve_named(
            s3,
            cloud.objects.s3_router(),
            stop.clone(),
            HeaderNames::Lower,
        ));
    }
    cloud.work(&config.node, roles, stop, tracker);
    Ok(())
}

pub(crate) fn first_line(file: &Path) -> Result<String, AquiferError> {
    let text = std::fs::read_to_string(file).map_err(|e| AquiferError::file(file, e))?;
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(AquiferError::Config(format!("{} is empty", file.display()))),
    }
}

async fn interrupted() -> Result<(), AquiferError> {
    let on = |kind| signal(kind).map_err(AquiferError::service("signals"));
    let (mut ctrl_c, mut term) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
    tokio::select! {
        _ = ctrl_c.recv() => {}
        _ = term.recv() => {}
    }
    Ok(())
}
