//! The service object: what every rule needs at hand.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::{Links, Policy, TokenValidator};
use serde::Deserialize;
use state::{Db, Tx};
use tokio_util::sync::CancellationToken;

use crate::ovn::{Ovn, Unit};
use crate::ovsdb::Remote;
use crate::store::{self, Entity, dirty};
use crate::{Context, NetError, policy};

/// What the network service needs to know.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// OVN's northbound database: `unix:PATH` or `tcp:HOST:PORT`, several separated by commas.
    pub ovn_nb: String,
    /// OVN's southbound database, in the same form.
    pub ovn_sb: String,
    /// Bytes of an IP packet on an overlay network: the physical network's 1500 less Geneve's 58.
    pub overlay_mtu: i64,
    /// Bytes of an IP packet on a flat or VLAN network.
    pub physical_mtu: i64,
    /// Given by DHCP to guests whose subnet names no DNS server.
    pub dns_servers: Vec<IpAddr>,
    /// The availability zone that networks and routers are in.
    pub availability_zone: String,
    /// A file of policy rules that replace the defaults, in oslo.policy's language.
    pub policy_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ovn_nb: "unix:/run/ovn/ovnnb_db.sock".into(),
            ovn_sb: "unix:/run/ovn/ovnsb_db.sock".into(),
            overlay_mtu: 1442,
            physical_mtu: 1500,
            dns_servers: Vec::new(),
            availability_zone: "nova".into(),
            policy_file: None,
        }
    }
}

/// The network service. Cheap to clone.
#[derive(Clone)]
pub struct Networks(Arc<Inner>);

struct Inner {
    db: Db,
    ovn: Arc<Ovn>,
    policy: Policy,
    links: Links,
    config: Config,
}

impl Networks {
    /// Makes the service: migrates its tables and begins to connect to OVN, which may come later.
    pub async fn start(db: Db, config: Config, links: Links) -> Result<Self, NetError> {
        db.migrate(&store::MIGRATIONS).await?;
        let policy = policy::policy().map_err(|error| NetError::Config(error.to_string()))?;
        if let Some(file) = &config.policy_file {
            policy.load(file).map_err(|error| NetError::Config(error.to_string()))?;
        }
        let (nb, sb) = (Remote::list(&config.ovn_nb)?, Remote::list(&config.ovn_sb)?);
        let ovn = Ovn::start(db.clone(), nb, sb, config.dns_servers.clone());
        Ok(Self(Arc::new(Inner { db, ovn, policy, links, config })))
    }

    /// Runs the background work until it is cancelled: what requests could not finish, everything that OVN
    /// reports back, and a comparison of everything once in a while. Any number of processes may.
    pub async fn run(&self, stop: CancellationToken) {
        self.0.ovn.clone().run(stop).await;
    }

    /// The Neutron API, mounted at `/network`.
    pub fn router(&self, tokens: Arc<dyn TokenValidator>) -> axum::Router {
        crate::http::router(self.clone(), tokens)
    }

    /// Waits until both of OVN's databases are connected.
    pub async fn ready(&self, within: Duration) -> Result<(), NetError> {
        self.0.ovn.nb.ready(within).await?;
        self.0.ovn.sb.ready(within).await
    }

    /// Whether OVN's databases are within reach, for health pages.
    pub fn is_connected(&self) -> bool {
        self.0.ovn.nb.is_connected() && self.0.ovn.sb.is_connected()
    }

    /// The rules in force, for the operator's policy file.
    pub fn policy(&self) -> &Policy {
        &self.0.policy
    }

    /// OVN's controllers, one a chassis, as the southbound database knows them.
    pub fn agents(&self) -> Vec<crate::Agent> {
        self.0.ovn.agents()
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
    }

    pub(crate) fn links(&self) -> &Links {
        &self.0.links
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn allows(&self, ctx: &Context, rule: &str, target: api::policy::Target<'_>) -> bool {
        self.0.policy.allows(&ctx.caller, rule, target)
    }

    pub(crate) fn enforce(
        &self,
        ctx: &Context,
        rule: &str,
        target: api::policy::Target<'_>,
    ) -> Result<(), NetError> {
        if self.allows(ctx, rule, target) { Ok(()) } else { Err(NetError::forbidden(rule)) }
    }

    /// Look-up and authorisation in one: a row that the caller may not see does not exist, one that it may
    /// see but not do this to is a 403.
    pub(crate) fn authorised<E: Entity>(
        &self,
        ctx: &Context,
        found: Option<E>,
        id: &str,
        (get, action): (&str, &str),
        target: impl FnOnce(&E) -> Vec<(&'static str, String)>,
    ) -> Result<E, NetError> {
        let row = found.ok_or_else(|| E::NOUN.not_found(id))?;
        let owned = target(&row);
        let target: Vec<(&str, &str)> = owned.iter().map(|(k, v)| (*k, v.as_str())).collect();
        if self.allows(ctx, action, &target) {
            return Ok(row);
        }
        if self.allows(ctx, get, &target) {
            Err(NetError::forbidden(action))
        } else {
            Err(E::NOUN.not_found(id))
        }
    }

    /// Marks the units in the transaction, commits, and reconciles them at once.
    pub(crate) async fn commit(&self, mut tx: Tx, mut units: Vec<Unit>) -> Result<(), NetError> {
        units.sort();
        units.dedup();
        let mut marks = Vec::with_capacity(units.len());
        for unit in &units {
            marks.push(dirty::mark(&mut tx, unit).await?);
        }
        tx.commit().await?;
        self.0.ovn.at_once(marks).await;
        Ok(())
    }

    /// The project that a new resource is for: the caller's, or for an administrator any.
    pub(crate) fn owner(&self, ctx: &Context, asked: Option<&str>) -> Result<String, NetError> {
        let own = ctx.project().map(|p| p.id.as_str());
        match (asked, own) {
            (Some(asked), Some(own)) if asked == own => Ok(asked.to_owned()),
            (Some(asked), _)
                if self.allows(ctx, "admin_only", &[]) || self.allows(ctx, "service_role", &[]) =>
            {
                Ok(asked.to_owned())
            }
            (Some(_), _) => Err(NetError::bad_request(
                "Specifying 'project_id' or 'tenant_id' other than the authenticated project in request requires admin privileges",
            )),
            (None, Some(own)) => Ok(own.to_owned()),
            (None, None) => Err(NetError::bad_request(
                "Running without keystone AuthN requires that tenant_id is specified",
            )),
        }
    }
}

/// A target of the rules that only know an owner.
pub(crate) fn owned_by(project: &str) -> Vec<(&'static str, String)> {
    vec![("project_id", project.to_owned())]
}

/// Checks `If-Match: revision_number=N`.
pub(crate) fn check_revision<E: Entity>(row: &E, expected: Option<i64>) -> Result<(), NetError> {
    match expected {
        Some(expected) if expected != row.meta().revision_number => Err(NetError::refused(
            412,
            "RevisionNumberConstraintFailed",
            format!("Constrained to {expected}, but current revision is {}", row.meta().revision_number),
        )),
        _ => Ok(()),
    }
}
