//! `aquifer policy`: the rules in force, and why somebody may do a thing or may not.

use crate::cli::Place;
use crate::config::Config;
use crate::error::AquiferError;
use crate::terminal::{say, table};
use ::identity::ScopeOf;
use api::policy::RuleInfo;
use api::{Caller, Policy, Scope};
use std::process::ExitCode;
use std::sync::Arc;

/// What is at fault where these fail.
const POLICY: &str = "the policy";
const ASKS: &str = "who asks";

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the rules in force; `*` marks those that a policy file has replaced.
    List {
        #[command(flatten)]
        place: Place,
        /// Only rules whose name holds this text.
        filter: Option<String>,
    },
    /// Show one rule, its default, and for which tokens it is.
    Show {
        #[command(flatten)]
        place: Place,
        rule: String,
    },
    /// Explain whether a user or the bearer of a token may do a thing, check by check.
    ///
    /// The exit code is 0 where it is allowed and 1 where it is not. What is touched is named by its attributes:
    ///
    ///   aquifer policy check identity:get_user --user ann --project demo --target target.user.id=0123
    #[command(verbatim_doc_comment)]
    Check(Box<Check>),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    #[command(flatten)]
    place: Place,
    /// The rule, as `aquifer policy list` names it.
    rule: String,
    /// A token that is good in this cloud.
    #[arg(long, conflicts_with = "user", required_unless_present = "user")]
    token: Option<String>,
    /// A user, by name or id.
    #[arg(long)]
    user: Option<String>,
    /// That user's domain, by name or id.
    #[arg(long, value_name = "DOMAIN", default_value = "default")]
    user_domain: String,
    /// With a token for this project, by name or id.
    #[arg(long, group = "scope")]
    project: Option<String>,
    /// That project's domain, by name or id.
    #[arg(long, value_name = "DOMAIN", default_value = "default")]
    project_domain: String,
    /// With a token for this domain, by name or id.
    #[arg(long, group = "scope")]
    domain: Option<String>,
    /// With a token for the system.
    #[arg(long, group = "scope")]
    system: bool,
    /// An attribute of what is touched, as the rule names it between `%(` and `)s`; repeat for more.
    #[arg(long, value_name = "NAME=VALUE", value_parser = attribute)]
    target: Vec<(String, String)>,
}

fn attribute(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is expected")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) async fn run(command: Command) -> Result<ExitCode, AquiferError> {
    match command {
        Command::List { place, filter } => list(&place, filter.as_deref().unwrap_or_default())?,
        Command::Show { place, rule } => show(&place, &rule)?,
        Command::Check(args) => return check(*args).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// The policies of all services, in the order of their catalogue.
fn policies(place: &Place) -> Result<Vec<Policy>, AquiferError> {
    let settings = place.settings()?;
    let config: Option<&Config> = settings.config.as_ref();
    let all = vec![
        (
            ::identity::policy().map_err(AquiferError::service(POLICY))?,
            settings.identity.policy_file.as_deref(),
        ),
        (
            imagestore::policy().map_err(AquiferError::service(POLICY))?,
            config.and_then(|c| c.image.policy_file.as_deref()),
        ),
        (
            blockstore::policy().map_err(AquiferError::service(POLICY))?,
            config.and_then(|c| c.volume.policy_file.as_deref()),
        ),
        (
            netagent::policy().map_err(AquiferError::service(POLICY))?,
            config.and_then(|c| c.network.policy_file.as_deref()),
        ),
        (
            compute::policy(None).map_err(AquiferError::service(POLICY))?,
            config.and_then(|c| c.compute.policy_file.as_deref()),
        ),
    ];
    all.into_iter()
        .map(|(policy, file)| match file {
            Some(file) => policy.load(file).map(|()| policy).map_err(AquiferError::service(POLICY)),
            None => Ok(policy),
        })
        .collect()
}

fn list(place: &Place, filter: &str) -> Result<(), AquiferError> {
    let mut rows = vec![["", "RULE", "FOR", "CHECK"].map(str::to_owned).to_vec()];
    for policy in policies(place)? {
        for rule in policy.list().into_iter().filter(|r| r.name.contains(filter)) {
            let mark = if rule.replaced { "*" } else { "" };
            rows.push(vec![mark.into(), rule.name, rule.scopes.as_str().into(), shown(&rule.check)]);
        }
    }
    table(&rows);
    Ok(())
}

/// An empty check always holds.
fn shown(check: &str) -> String {
    if check.is_empty() { "@".into() } else { check.into() }
}

fn find<'a>(policies: &'a [Policy], name: &str) -> Result<(&'a Policy, RuleInfo), AquiferError> {
    let found = policies.iter().find_map(|p| Some((p, p.list().into_iter().find(|r| r.name == name)?)));
    found.ok_or_else(|| {
        AquiferError::Config(format!("there is no rule {name:?}; `aquifer policy list` shows all"))
    })
}

fn show(place: &Place, name: &str) -> Result<(), AquiferError> {
    let policies = policies(place)?;
    let (policy, rule) = find(&policies, name)?;
    say(&format!("{}\n  check    {}", rule.name, shown(&rule.check)));
    match (rule.replaced, rule.default) {
        (true, Some(default)) => say(&format!("  default  {}", shown(default))),
        (_, None) => say("  default  none: the policy file has added it"),
        _ => {}
    }
    say(&format!("  tokens   {}", rule.scopes.as_str()));
    let words = rule.check.split(|c: char| c.is_whitespace() || c == '(' || c == ')');
    let mut named: Vec<&str> = words.filter_map(|w| w.strip_prefix("rule:")).collect();
    named.dedup();
    for other in policy.list().iter().filter(|r| named.contains(&r.name.as_str())) {
        say(&format!("  rule:{}  {}", other.name, shown(&other.check)));
    }
    Ok(())
}

async fn check(args: Check) -> Result<ExitCode, AquiferError> {
    let policies = policies(&args.place)?;
    let (policy, _) = find(&policies, &args.rule)?;
    let caller = caller(&args).await?;
    let mut target: Vec<(&str, &str)> = args.target.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    // Identity gives its rules the token's own domain beside the target.
    if !target.iter().any(|(k, _)| *k == "scope.domain_id") {
        target.push(("scope.domain_id", caller.domain_id().unwrap_or("None")));
    }
    say(&who(&caller));
    let Some(said) = policy.explain(&caller, &args.rule, &target) else { return Ok(ExitCode::FAILURE) };
    say(said.to_string().trim_end());
    Ok(if said.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn caller(args: &Check) -> Result<Arc<Caller>, AquiferError> {
    let identity = args.place.identity().await?;
    if let Some(token) = &args.token {
        return api::TokenValidator::validate(&*identity, token).await.map_err(AquiferError::service(ASKS));
    }
    let user = args.user.as_deref().unwrap_or_default();
    let scope = match (&args.project, &args.domain, args.system) {
        (Some(project), ..) => ScopeOf::Project { project, domain: &args.project_domain },
        (_, Some(domain), _) => ScopeOf::Domain(domain),
        (.., true) => ScopeOf::System,
        _ => ScopeOf::Unscoped,
    };
    identity.caller_of(user, &args.user_domain, scope).await.map_err(AquiferError::service(ASKS))
}

/// `ann (0123…) in project demo, roles member, reader`
fn who(caller: &Caller) -> String {
    let scope = match &caller.scope {
        Scope::Unscoped => "without a scope".to_owned(),
        Scope::System => "on the system".to_owned(),
        Scope::Domain(d) => format!("in domain {} ({})", d.name, d.id),
        Scope::Project(p) => format!("in project {} ({})", p.name, p.id),
    };
    let roles: Vec<&str> = caller.roles.iter().map(|r| r.name.as_str()).collect();
    let roles = if roles.is_empty() { "no roles".to_owned() } else { format!("roles {}", roles.join(", ")) };
    format!("{} ({}) {scope}, {roles}", caller.user.name, caller.user.id)
}
