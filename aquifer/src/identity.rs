//! `aquifer identity`: what an operator does to identity beside its API. Every command may be run again, and while
//! the cloud runs: its processes notice within a second.

use crate::cli::Place;
use crate::error::AquiferError;
use crate::terminal::say;
use crate::up::first;
use ::identity::{IdentityError, Revoke, Rotated};
use std::path::PathBuf;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make the administrator, the roles, the projects `admin` and `service` and the catalogue, where missing.
    ///
    /// Running it again changes only what differs: above all it sets the administrator's password again, which is
    /// the way back in for who has lost it. `aquifer up` and the role `api` of `serve` do the same when they start.
    Bootstrap {
        #[command(flatten)]
        place: Place,
        /// A file whose first line is the password of the user `admin`.
        #[arg(long, value_name = "FILE")]
        admin_password_file: PathBuf,
    },
    /// Replace keys by new ones.
    #[command(subcommand)]
    Rotate(Rotate),
    /// Encrypt with the newest key the stored credentials that have an older one.
    ///
    /// A rotation does this by itself; run it after one that was interrupted. It may be interrupted as well.
    MigrateCredentials {
        #[command(flatten)]
        place: Place,
    },
    /// End tokens: all that were issued so far to a user, for a project, with a role, …
    ///
    /// Whoever may log in can get a new token at once; to keep somebody out, disable the user or the project.
    Revoke {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        of: Of,
    },
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Rotate {
    /// Sign tokens with a new key; those signed with the old one stay good for their lifetime.
    ///
    /// Run it from a timer, daily or weekly, on one machine, and copy the directory to the others. The key that
    /// signs next is staged one rotation ahead, so that every machine knows it before any machine uses it.
    Tokens {
        #[command(flatten)]
        place: Place,
        /// Remove all other keys: every token ends now. For keys that got into wrong hands.
        #[arg(long)]
        discard_old: bool,
    },
    /// Encrypt the stored credentials (EC2 keys, TOTP secrets) with a new key.
    Credentials {
        #[command(flatten)]
        place: Place,
    },
}

/// Whose tokens end; each by its id.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Of {
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    /// Tokens for the domain, for its projects and of its users.
    #[arg(long, value_name = "ID")]
    domain: Option<String>,
    /// Tokens that hold this role.
    #[arg(long, value_name = "ID")]
    role: Option<String>,
    #[arg(long, value_name = "ID")]
    trust: Option<String>,
    #[arg(long, value_name = "ID")]
    application_credential: Option<String>,
    /// A token and all that were made from it, by its audit id.
    #[arg(long, value_name = "AUDIT-ID")]
    chain: Option<String>,
}

impl Of {
    fn revoke(self) -> Option<Revoke> {
        None.or(self.user.map(Revoke::User))
            .or(self.project.map(Revoke::Project))
            .or(self.domain.map(Revoke::Domain))
            .or(self.role.map(Revoke::Role))
            .or(self.trust.map(Revoke::Trust))
            .or(self.application_credential.map(Revoke::AppCredential))
            .or(self.chain.map(Revoke::Chain))
    }
}

pub(crate) async fn run(command: Command) -> Result<(), AquiferError> {
    match command {
        Command::Bootstrap { place, admin_password_file } => {
            let password = crate::serve::first_line(&admin_password_file)?;
            let settings = place.settings()?;
            let wanted = first::wanted(&password, &settings.region);
            settings.open().await?.bootstrap(wanted).await.map_err(failed())?;
            say("The user `admin`, the roles, the projects and the catalogue are there.");
        }
        Command::Rotate(Rotate::Tokens { place, discard_old }) => {
            let identity = place.identity().await?;
            let done = match discard_old {
                true => identity.renew_token_keys().await,
                false => identity.rotate().await,
            };
            tell(&done.map_err(failed())?, "signs tokens");
        }
        Command::Rotate(Rotate::Credentials { place }) => {
            let (done, moved) = place.identity().await?.rotate_credential_keys().await.map_err(failed())?;
            tell(&done, "encrypts credentials");
            say(&format!("{moved} credentials encrypted anew."));
        }
        Command::MigrateCredentials { place } => {
            let moved = place.identity().await?.migrate_credentials().await.map_err(failed())?;
            say(&format!("{moved} credentials encrypted anew."));
        }
        Command::Revoke { place, of } => {
            let Some(what) = of.revoke() else { return Ok(()) };
            place.identity().await?.revoke_tokens_of(&what).await.map_err(failed())?;
            say("Tokens issued until now are refused.");
        }
    }
    Ok(())
}

fn failed() -> impl FnOnce(IdentityError) -> AquiferError {
    AquiferError::service("identity")
}

fn tell(done: &Rotated, what: &str) {
    let list = |keys: &[u64]| keys.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    say(&format!("Key {} {what} now.", done.signs));
    if !done.removed.is_empty() {
        say(&format!("Removed: {}.", list(&done.removed)));
    }
    if !done.kept.is_empty() {
        say(&format!(
            "Kept beyond the number to keep, for what they signed may still be in use: {}.",
            list(&done.kept)
        ));
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::Cli;
    use clap::Parser;
    use std::path::Path;
    use std::process::ExitCode;

    async fn aquifer(dir: &Path, args: &[&str]) -> Result<ExitCode, String> {
        let config = dir.join("aquifer.toml");
        let config = ["--config", config.to_str().unwrap_or_default()];
        let cli = Cli::try_parse_from([&["aquifer"], args, &config].concat()).map_err(|e| e.to_string())?;
        cli.run().await.map_err(|e| e.explain())
    }

    fn keys(dir: &Path, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(dir.join(name)).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|n| !n.starts_with('.')).collect();
        names.sort();
        names
    }

    /// The commands on a database that nothing else serves.
    #[tokio::test]
    async fn an_operators_day() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        let policy = d.join("policy.yaml");
        let text = format!(
            "node = \"n\"\ndatabase = \"sqlite://{0}/db.sqlite\"\n[identity]\ntoken_keys = \"{0}/token-keys\"\n\
             jws_keys = \"{0}/jws-keys\"\ncredential_keys = \"{0}/credential-keys\"\npassword_hash_rounds = 4\n\
             policy_file = \"{1}\"\n",
            d.display(),
            policy.display()
        );
        std::fs::write(d.join("aquifer.toml"), text).unwrap();
        std::fs::write(d.join("password"), "adminpw\n").unwrap();
        std::fs::write(&policy, "\"identity:list_regions\": \"role:auditor\"\n").unwrap();

        let password = d.join("password");
        let bootstrap = ["identity", "bootstrap", "--admin-password-file", password.to_str().unwrap()];
        for _ in 0..2 {
            aquifer(d, &bootstrap).await.unwrap();
        }
        aquifer(d, &["identity", "rotate", "tokens"]).await.unwrap();
        aquifer(d, &["identity", "rotate", "tokens"]).await.unwrap();
        assert_eq!(keys(d, "token-keys"), ["0", "1", "2", "3"], "tokens may live");
        aquifer(d, &["identity", "rotate", "tokens", "--discard-old"]).await.unwrap();
        assert_eq!(keys(d, "token-keys"), ["0", "4"]);
        aquifer(d, &["identity", "rotate", "credentials"]).await.unwrap();
        assert_eq!(keys(d, "credential-keys"), ["0", "1", "2"]);
        aquifer(d, &["identity", "migrate-credentials"]).await.unwrap();
        aquifer(d, &["identity", "revoke", "--user", "0123"]).await.unwrap();
        for odd in [&["identity", "revoke"][..], &["identity", "revoke", "--user", "a", "--role", "b"]] {
            aquifer(d, odd).await.unwrap_err();
        }

        let check = async |rule: &str, more: &[&str]| {
            aquifer(d, &[&["policy", "check", rule, "--user", "admin"], more].concat()).await
        };
        let (yes, no) = (ExitCode::SUCCESS, ExitCode::FAILURE);
        let is = |a: ExitCode, b: ExitCode| format!("{a:?}") == format!("{b:?}");
        assert!(is(check("identity:list_users", &["--project", "admin"]).await.unwrap(), yes));
        assert!(is(check("identity:list_users", &["--system"]).await.unwrap(), yes));
        assert!(is(check("identity:list_users", &[]).await.unwrap(), no));
        assert!(
            is(check("identity:list_regions", &["--project", "admin"]).await.unwrap(), no),
            "the file's rule"
        );
        let own = ["--project", "admin", "--target", "project_id=none"];
        assert!(is(check("volume:get", &own).await.unwrap(), yes), "another service's rule");
        for unknown in ["identity:nothing", ""] {
            assert!(check(unknown, &["--system"]).await.is_err());
        }
        aquifer(d, &["policy", "list", "region"]).await.unwrap();
        aquifer(d, &["policy", "show", "identity:list_regions"]).await.unwrap();
        std::fs::write(&policy, "\"identity:list_regionz\": \"role:auditor\"\n").unwrap();
        let refused = aquifer(d, &["policy", "list"]).await.unwrap_err();
        assert!(refused.contains("identity:list_regionz"), "{refused}");
    }
}
