//! This host's Open vSwitch, over its own database: which metadata interfaces are plugged into the
//! integration bridge. A port carries the network's id, so that another process finds it again.

use std::time::Duration;

use uuid::Uuid;

use crate::NetError;
use crate::ovsdb::{Atom, Client, Datum, Op, Remote, Replica, Row, Table};

const OVS: &str = "Open_vSwitch";
const NETWORK: &str = "aquifer-metadata-network";

const TABLES: &[Table] = &[
    Table { name: "Bridge", columns: &["name", "ports", "datapath_type"], keys: &[] },
    Table { name: "Port", columns: &["name", "interfaces", "external_ids"], keys: &[NETWORK] },
    Table { name: "Interface", columns: &["name", "type", "external_ids"], keys: &[] },
];

pub(super) struct Switch {
    client: Client,
    bridge: String,
}

fn row<const N: usize>(columns: [(&str, Datum); N]) -> Row {
    columns.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl Switch {
    pub(super) fn start(remotes: Vec<Remote>, bridge: String) -> Self {
        Self { client: Client::start(remotes, OVS, TABLES), bridge }
    }

    pub(super) async fn ready(&self, within: Duration) -> Result<(), NetError> {
        self.client.ready(within).await
    }

    pub(super) fn bridge(&self) -> &str {
        &self.bridge
    }

    /// Whether packets are moved in user space, where nobody fills in checksums that a guest left open.
    pub(super) fn is_userspace(&self) -> bool {
        self.client.read(|ovs| {
            ovs.by_name("Bridge", &self.bridge)
                .and_then(|(_, row)| row.get("datapath_type"))
                .and_then(Datum::as_str)
                == Some("netdev")
        })
    }

    /// The networks whose doors are plugged in.
    pub(super) fn networks(&self) -> Vec<String> {
        self.client.read(|ovs| {
            let ids = ovs.rows("Port").filter_map(|(_, row)| row.get("external_ids")?.get(NETWORK));
            ids.map(str::to_owned).collect()
        })
    }

    /// Whether a network's interface is there for this port.
    pub(super) fn is_plugged(&self, network: &str, port: &str) -> bool {
        self.client.is_connected()
            && self.client.read(|ovs| plugged_as(ovs, network).as_deref() == Some(port))
    }

    /// Plugs an interface in, bound to an OVN port.
    pub(super) async fn plug(&self, network: &str, device: &str, port: &str) -> Result<(), NetError> {
        let ops = self.client.read(|ovs| -> Result<Vec<Op>, NetError> {
            if plugged_as(ovs, network).as_deref() == Some(port) {
                return Ok(Vec::new());
            }
            let (bridge, _) = ovs
                .by_name("Bridge", &self.bridge)
                .ok_or_else(|| NetError::Config(format!("Open vSwitch has no bridge {}", self.bridge)))?;
            let mut ops: Vec<Op> = ovs
                .by_key("Port", NETWORK, network)
                .iter()
                .map(|(old, _)| Op::mutate_delete("Bridge", bridge, "ports", &Datum::one(*old)))
                .collect();
            let interface =
                row([("name", Datum::one(device)), ("external_ids", Datum::map([("iface-id", port)]))]);
            ops.push(Op::insert("Interface", &interface, Some("interface")));
            let new = row([
                ("name", Datum::one(device)),
                ("interfaces", Datum::set([Atom::Named("interface".into())])),
                ("external_ids", Datum::map([(NETWORK, network)])),
            ]);
            ops.push(Op::insert("Port", &new, Some("port")));
            ops.push(Op::mutate_insert("Bridge", bridge, "ports", &Datum::set([Atom::Named("port".into())])));
            Ok(ops)
        })?;
        if ops.is_empty() {
            return Ok(());
        }
        self.client.transact(ops).await.map(drop)
    }

    pub(super) async fn unplug(&self, network: &str) -> Result<(), NetError> {
        let ops: Vec<Op> = self.client.read(|ovs| {
            let Some((bridge, _)) = ovs.by_name("Bridge", &self.bridge) else { return Vec::new() };
            let ports = ovs.by_key("Port", NETWORK, network);
            ports
                .iter()
                .map(|(id, _)| Op::mutate_delete("Bridge", bridge, "ports", &Datum::one(*id)))
                .collect()
        });
        if ops.is_empty() {
            return Ok(());
        }
        self.client.transact(ops).await.map(drop)
    }
}

/// The OVN port that a network's interface is bound to.
fn plugged_as(ovs: &Replica, network: &str) -> Option<String> {
    let (_, port) = ovs.by_key("Port", NETWORK, network).into_iter().next()?;
    let interfaces: Vec<Uuid> = port.get("interfaces")?.uuids().collect();
    let interface = ovs.get("Interface", *interfaces.first()?)?;
    interface.get("external_ids")?.get("iface-id").map(str::to_owned)
}
