//! OVN: what the rows in SQL (desired) become in its northbound database (observed).
//!
//! The reconciler is level-triggered. A request marks the units that it changed in its own transaction
//! (`store::dirty`), then has them reconciled at once, so that what it acknowledges is usable; if OVN is out
//! of reach, the mark stays, and the background worker closes the difference when OVN is back. After every
//! reconnect, and once in a while, everything is compared.

pub(crate) mod acl;
pub(crate) mod agents;
pub(crate) mod plan;
mod reconcile;
pub(crate) mod router;
pub(crate) mod rows;
pub(crate) mod tables;
mod units;
mod worker;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use state::Db;
use tokio::sync::Mutex;

use crate::ovsdb::{Client, Remote};
use crate::store::dirty::{self, Mark};

/// The request path gives OVN this long; the mark stays where it was too short.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The smallest thing that is reconciled as a whole. The kinds' names are in order of dependence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// The logical switch with its localnet port, DHCP options and DNS records.
    Network(String),
    /// The port group with its ACLs.
    SecurityGroup(String),
    /// The logical router with its ports, routes and NAT.
    Router(String),
    /// The logical switch port with its memberships.
    Port(String),
}

impl Unit {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Network(_) => "a-network",
            Self::SecurityGroup(_) => "b-security-group",
            Self::Router(_) => "c-router",
            Self::Port(_) => "d-port",
        }
    }

    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Network(id) | Self::SecurityGroup(id) | Self::Router(id) | Self::Port(id) => id,
        }
    }

    pub(crate) fn parse(kind: &str, id: String) -> Option<Self> {
        Some(match kind {
            "a-network" => Self::Network(id),
            "b-security-group" => Self::SecurityGroup(id),
            "c-router" => Self::Router(id),
            "d-port" => Self::Port(id),
            _ => return None,
        })
    }
}

/// The hand that writes OVN.
pub(crate) struct Ovn {
    pub(crate) nb: Client,
    pub(crate) sb: Client,
    pub(crate) db: Db,
    /// Given to guests whose subnet names no DNS server.
    resolvers: Vec<IpAddr>,
    /// One writer a unit in this process: shards by hash. Other processes are met by the plans' guards.
    locks: Vec<Mutex<()>>,
}

impl Ovn {
    pub(crate) fn start(db: Db, nb: Vec<Remote>, sb: Vec<Remote>, resolvers: Vec<IpAddr>) -> Arc<Self> {
        Arc::new(Self {
            nb: Client::start(nb, tables::NB, tables::NB_TABLES),
            sb: Client::start(sb, tables::SB, tables::SB_TABLES),
            db,
            resolvers,
            locks: (0..64).map(|_| Mutex::new(())).collect(),
        })
    }

    /// Reconciles what a request has just changed. A failure is not the request's: the marks stay.
    pub(crate) async fn at_once(&self, mut marks: Vec<Mark>) {
        marks.sort_by_key(|mark| mark.unit.kind());
        let mut done = Vec::with_capacity(marks.len());
        let work = async {
            for mark in marks {
                if let Err(error) = self.reconcile(&mark.unit).await {
                    tracing::warn!(unit = ?mark.unit, %error, "OVN is behind; the reconciler will try again");
                    return;
                }
                done.push(mark);
            }
        };
        if tokio::time::timeout(AT_ONCE, work).await.is_err() {
            tracing::warn!("OVN is slow; the reconciler will go on");
        }
        if let Err(error) = dirty::clear(&self.db, &done).await {
            tracing::debug!(%error, "marks stay, and cost one more look");
        }
    }

    /// Chassis that reach a physical network, in an order that differs from router to router.
    pub(crate) fn gateway_chassis(&self, physical_network: &str, router_id: &str) -> Vec<String> {
        use sha2::{Digest, Sha256};
        let mut chassis: Vec<String> = self
            .agents()
            .into_iter()
            .filter(|agent| agent.bridge_mappings.iter().any(|(network, _)| network == physical_network))
            .map(|agent| agent.chassis)
            .collect();
        chassis.sort_by_key(|name| Sha256::digest(format!("{router_id}/{name}")).to_vec());
        chassis.truncate(5);
        chassis
    }

    /// Runs reconciliations with bounded concurrency; gives the number that failed.
    pub(crate) async fn reconcile_all(&self, units: Vec<Unit>) -> usize {
        futures::stream::iter(units)
            .map(|unit| async move {
                let result = self.reconcile(&unit).await;
                if let Err(error) = &result {
                    tracing::debug!(?unit, %error, "not reconciled");
                }
                usize::from(result.is_err())
            })
            .buffer_unordered(8)
            .fold(0, |failed, one| async move { failed + one })
            .await
    }
}
