//! `aquifer doctor`: is this machine fit, before anything is started?

use crate::cli::DoctorArgs;
use crate::config::Config;
use crate::error::AquiferError;
use crate::terminal;
use engines::CheckState;
use std::process::ExitCode;

pub(crate) async fn run(args: DoctorArgs) -> Result<ExitCode, AquiferError> {
    let mut rows: Vec<(CheckState, String, String, String)> = Vec::new();
    for check in engines::doctor(&args.dir.data_dir).await {
        rows.push((check.state, check.name.to_string(), check.detail, check.remedy.unwrap_or_default()));
    }
    if let Some(file) = &args.config {
        reach(&Config::read(file)?, &mut rows).await;
    }
    let failed = rows.iter().any(|r| r.0 == CheckState::Fail);
    for (state, name, detail, remedy) in rows {
        let mark = match state {
            CheckState::Ok => "ok  ",
            CheckState::Warn => "warn",
            CheckState::Fail => "FAIL",
        };
        terminal::say(&format!("{mark}  {name:<22} {detail}"));
        if state != CheckState::Ok && !remedy.is_empty() {
            terminal::say(&format!("      → {remedy}"));
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Whether the configured clusters and the database answer.
async fn reach(config: &Config, rows: &mut Vec<(CheckState, String, String, String)>) {
    for cluster in &config.clusters {
        let name = format!("cluster {}", cluster.name);
        let answer = async {
            let clusters = pool::Clusters::connect(std::slice::from_ref(cluster)).await?;
            clusters.get(&cluster.name)?.fsid().await
        };
        rows.push(match answer.await {
            Ok(fsid) => (CheckState::Ok, name, format!("answers, fsid {fsid}"), String::new()),
            Err(e) => (
                CheckState::Fail,
                name,
                e.to_string(),
                format!(
                    "check that {} names the monitors and that client.{} may log in",
                    cluster.conf.display(),
                    cluster.user
                ),
            ),
        });
    }
    rows.push(match state::Db::open(&config.database).await {
        Ok(db) => (CheckState::Ok, "database".into(), format!("{:?} answers", db.engine()), String::new()),
        Err(e) => {
            let e = AquiferError::from(e).explain();
            (
                CheckState::Fail,
                "database".into(),
                e,
                "check the `database` key and that the server runs".into(),
            )
        }
    });
}
