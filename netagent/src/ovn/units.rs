//! What each unit's rows should be, against what they are: SQL is read first, then the replica, so that a
//! replica that is ahead of the rows is noticed (see [`newer`]).

use std::net::IpAddr;

use uuid::Uuid;

use super::plan::{Plan, row, text};
use super::router::RouterParts;
use super::tables::{
    ACL, DHCP, DNS, GATEWAY_CHASSIS, KEY_GROUPS, KEY_NETWORK, KEY_PORT, KEY_REVISION, KEY_RULE, KEY_SUBNET,
    NAT, PORT_GROUP, ROUTE, ROUTER, ROUTER_PORT, SWITCH, SWITCH_PORT,
};
use super::{Ovn, Unit, acl, rows};
use crate::NetError;
use crate::model::{Network, Port, Router, SecurityGroup, SecurityGroupRule, Subnet, owner};
use crate::ovsdb::{Atom, Datum, Op, Replica, Row};
use crate::store;

/// The units that must be in OVN before this one can be.
pub(super) async fn missing(ovn: &Ovn, unit: &Unit) -> Result<Vec<Unit>, NetError> {
    let Unit::Port(id) = unit else { return Ok(Vec::new()) };
    let Some(port) = store::get::<Port>(ovn.db.read(), id).await? else { return Ok(Vec::new()) };
    if !rows::has_switch_port(&port) {
        return Ok(Vec::new());
    }
    Ok(ovn.nb.read(|nb| {
        let network = nb.by_name(SWITCH, &rows::neutron_name(&port.network_id)).is_none();
        let groups = port
            .security_groups
            .iter()
            .filter(|g| nb.by_name(PORT_GROUP, &rows::port_group_name(g)).is_none())
            .map(|g| Unit::SecurityGroup(g.clone()));
        network.then(|| Unit::Network(port.network_id.clone())).into_iter().chain(groups).collect()
    }))
}

/// The revision that a row in OVN was made from is above the one just read: another process has read later.
fn newer(observed: &Row, revision: i64) -> Result<(), NetError> {
    let there = observed
        .get("external_ids")
        .and_then(|ids| ids.get(KEY_REVISION))
        .and_then(|r| r.parse::<i64>().ok());
    match there {
        Some(there) if there > revision => Err(NetError::OvsdbRefused {
            error: "timed out".into(),
            details: format!("OVN has revision {there}, the rows had {revision}"),
        }),
        _ => Ok(()),
    }
}

pub(super) async fn network(ovn: &Ovn, id: &str, plan: &mut Plan) -> Result<(), NetError> {
    let network = store::get::<Network>(ovn.db.read(), id).await?;
    let subnets = store::find::<Subnet>(ovn.db.read(), "network_id = $1", &[id]).await?;
    let ports = store::find::<Port>(ovn.db.read(), "network_id = $1", &[id]).await?;
    ovn.nb.read(|nb| {
        let switch = nb.by_name(SWITCH, &rows::neutron_name(id));
        let dhcp_rows = nb.by_key(DHCP, KEY_NETWORK, id);
        let dns_rows = nb.by_key(DNS, KEY_NETWORK, id);
        let Some(network) = &network else {
            // The switch's ports go with it; options and records are roots of their own.
            switch.iter().for_each(|(uuid, _)| plan.push(Op::delete(SWITCH, *uuid)));
            dhcp_rows.iter().for_each(|(uuid, _)| plan.push(Op::delete(DHCP, *uuid)));
            dns_rows.iter().for_each(|(uuid, _)| plan.push(Op::delete(DNS, *uuid)));
            return Ok(());
        };
        let mut desired = rows::switch(network);
        let dns = match (rows::dns(network, &ports), dns_rows.first()) {
            (Some(want), have) => Datum::set([plan.ensure(DNS, have.copied(), &want, None)]),
            (None, Some((uuid, _))) => {
                plan.push(Op::delete(DNS, *uuid));
                Datum::empty()
            }
            (None, None) => Datum::empty(),
        };
        desired.insert("dns_records".into(), dns);
        if let Some((_, have)) = switch {
            newer(have, network.meta.revision_number)?;
        }
        localnet(nb, network, switch, &mut desired, plan);
        plan.ensure(SWITCH, switch, &desired, Some(("name", &desired["name"].clone())));
        subnet_options(ovn, network, &subnets, &ports, &dhcp_rows, plan);
        Ok(())
    })
}

/// The localnet port is made with the switch, and changed or added later.
fn localnet(
    nb: &Replica,
    network: &Network,
    switch: Option<(Uuid, &Row)>,
    desired: &mut Row,
    plan: &mut Plan,
) {
    let have = nb.by_name(SWITCH_PORT, &rows::localnet_name(&network.meta.id));
    match (rows::localnet(network), have, switch) {
        (Some(want), Some((uuid, row)), _) => plan.update(SWITCH_PORT, uuid, row, &want),
        (Some(want), None, Some((switch, _))) => {
            let port = plan.insert(SWITCH_PORT, &want);
            plan.push(Op::mutate_insert(SWITCH, switch, "ports", &Datum::set([port])));
        }
        (Some(want), None, None) => {
            let port = plan.insert(SWITCH_PORT, &want);
            desired.insert("ports".into(), Datum::set([port]));
        }
        (None, Some((uuid, _)), Some((switch, _))) => {
            plan.push(Op::mutate_delete(SWITCH, switch, "ports", &Datum::one(uuid)));
        }
        _ => {}
    }
}

fn subnet_options(
    ovn: &Ovn,
    network: &Network,
    subnets: &[Subnet],
    ports: &[Port],
    observed: &[(Uuid, &Row)],
    plan: &mut Plan,
) {
    let key = |row: &Row, key: &str| row.get("external_ids").and_then(|ids| ids.get(key)).map(str::to_owned);
    let of_subnet =
        |row: &Row, id: &str| key(row, KEY_PORT).is_none() && key(row, KEY_SUBNET).as_deref() == Some(id);
    let mut wanted = Vec::new();
    for subnet in subnets {
        let have = observed.iter().find(|(_, row)| of_subnet(row, &subnet.meta.id)).copied();
        if let Some(want) = rows::dhcp(subnet, network, metadata_ip(ports, &subnet.meta.id), &ovn.resolvers) {
            plan.ensure(DHCP, have, &want, None);
            wanted.extend(have.map(|(uuid, _)| uuid));
        }
    }
    for (uuid, row) in observed {
        // A port's own options go with the port.
        let stale = match key(row, KEY_PORT) {
            Some(port) => !ports.iter().any(|p| p.meta.id == port),
            None => !wanted.contains(uuid),
        };
        if stale {
            plan.push(Op::delete(DHCP, *uuid));
        }
    }
}

fn metadata_ip(ports: &[Port], subnet: &str) -> Option<IpAddr> {
    ports
        .iter()
        .filter(|p| p.device_owner == owner::METADATA)
        .flat_map(|p| &p.fixed_ips)
        .find(|f| f.subnet_id == subnet)
        .map(|f| f.ip_address)
}

pub(super) async fn security_group(ovn: &Ovn, id: &str, plan: &mut Plan) -> Result<(), NetError> {
    let group = store::get::<SecurityGroup>(ovn.db.read(), id).await?;
    let rules = store::find::<SecurityGroupRule>(ovn.db.read(), "security_group_id = $1", &[id]).await?;
    ovn.nb.read(|nb| {
        let have = nb.by_name(PORT_GROUP, &rows::port_group_name(id));
        let Some(group) = group else {
            have.iter().for_each(|(uuid, _)| plan.push(Op::delete(PORT_GROUP, *uuid)));
            return Ok(());
        };
        if let Some((_, have)) = have {
            newer(have, group.meta.revision_number)?;
        }
        let acls: Vec<Row> = rules.iter().map(|rule| acl::rule(rule, group.stateful)).collect();
        port_group(nb, have, acl::group(&group), &acls, plan);
        drop_group(nb, plan);
        Ok(())
    })
}

fn port_group(nb: &Replica, have: Option<(Uuid, &Row)>, mut want: Row, acls: &[Row], plan: &mut Plan) {
    let key = |row: &Row| row.get("external_ids").and_then(|ids| ids.get(KEY_RULE)).unwrap_or("").to_owned();
    let refs = plan.children(nb, ACL, have.and_then(|(_, row)| row.get("acls")), acls, key);
    want.insert("acls".into(), refs);
    plan.ensure(PORT_GROUP, have, &want, None);
}

/// The group whose ACLs drop what nothing allows.
fn drop_group(nb: &Replica, plan: &mut Plan) {
    let want = row([("name", Datum::one(acl::DROP_GROUP))]);
    port_group(nb, nb.by_name(PORT_GROUP, acl::DROP_GROUP), want, &acl::drops(), plan);
}

pub(super) async fn port(ovn: &Ovn, id: &str, plan: &mut Plan) -> Result<(), NetError> {
    let port = store::get::<Port>(ovn.db.read(), id).await?.filter(rows::has_switch_port);
    let subnets = match &port {
        Some(port) => store::find::<Subnet>(ovn.db.read(), "network_id = $1", &[&port.network_id]).await?,
        None => Vec::new(),
    };
    let chassis = port.as_ref().filter(|p| !p.host_id.is_empty()).and_then(|p| ovn.chassis_of(&p.host_id));
    ovn.nb.read(|nb| {
        let have = nb.by_name(SWITCH_PORT, id);
        let Some(port) = &port else {
            remove_port(nb, id, have, plan);
            return Ok(());
        };
        if let Some((_, row)) = have {
            newer(row, port.meta.revision_number)?;
        }
        let mut want = rows::switch_port(port, &subnets, chassis.as_deref());
        port_options(nb, port, &subnets, &mut want, plan);
        let reference = match have {
            Some((uuid, row)) => {
                plan.update(SWITCH_PORT, uuid, row, &want);
                Atom::Uuid(uuid)
            }
            None => {
                let Some((switch, _)) = nb.by_name(SWITCH, &rows::neutron_name(&port.network_id)) else {
                    // The network went between the look at its rows and here.
                    return Ok(());
                };
                let reference = plan.insert(SWITCH_PORT, &want);
                plan.push(Op::mutate_insert(SWITCH, switch, "ports", &Datum::set([reference.clone()])));
                reference
            }
        };
        memberships(nb, port, have, &reference, plan);
        Ok(())
    })
}

fn remove_port(nb: &Replica, id: &str, have: Option<(Uuid, &Row)>, plan: &mut Plan) {
    for (uuid, _) in nb.by_key(DHCP, KEY_PORT, id) {
        plan.push(Op::delete(DHCP, uuid));
    }
    let Some((uuid, row)) = have else { return };
    let switch = row
        .get("external_ids")
        .and_then(|ids| ids.get("neutron:network_name"))
        .and_then(|name| nb.by_name(SWITCH, name))
        .map(|(switch, _)| switch);
    if let Some(switch) = switch {
        // The row goes when its switch lets go of it; port groups refer to it weakly.
        plan.push(Op::mutate_delete(SWITCH, switch, "ports", &Datum::one(uuid)));
    }
}

/// Points the port at its subnets' DHCP options, or at options of its own.
fn port_options(nb: &Replica, port: &Port, subnets: &[Subnet], want: &mut Row, plan: &mut Plan) {
    let mut refs = [("dhcpv4_options", Datum::empty()), ("dhcpv6_options", Datum::empty())];
    let own = nb.by_key(DHCP, KEY_PORT, &port.meta.id);
    let mut kept = Vec::new();
    // The network's own ports ask no DHCP.
    let fixed_ips = if port.device_owner.starts_with("network:") { &[] } else { port.fixed_ips.as_slice() };
    for fixed in fixed_ips {
        let Some(subnet) = subnets.iter().find(|s| s.meta.id == fixed.subnet_id) else { continue };
        let key =
            |row: &Row, key: &str| row.get("external_ids").and_then(|ids| ids.get(key)).map(str::to_owned);
        let shared = nb
            .by_key(DHCP, KEY_SUBNET, &subnet.meta.id)
            .into_iter()
            .find(|(_, row)| key(row, KEY_PORT).is_none());
        let Some((shared_id, shared_row)) = shared else { continue };
        let reference = match rows::port_dhcp(shared_row, subnet, port) {
            Some(row) => {
                let have = own
                    .iter()
                    .find(|(_, have)| key(have, KEY_SUBNET).as_deref() == Some(&subnet.meta.id))
                    .copied();
                kept.extend(have.map(|(uuid, _)| uuid));
                plan.ensure(DHCP, have, &row, None)
            }
            None => Atom::Uuid(shared_id),
        };
        let slot = &mut refs[usize::from(subnet.ip_version() == 6)];
        if slot.1 == Datum::empty() {
            slot.1 = Datum::set([reference]);
        }
    }
    for (uuid, _) in own.iter().filter(|(uuid, _)| !kept.contains(uuid)) {
        plan.push(Op::delete(DHCP, *uuid));
    }
    want.extend(refs.map(|(column, value)| (column.to_owned(), value)));
}

/// The port groups that the port is in: those of its row, and of the groups that it was in before.
fn memberships(nb: &Replica, port: &Port, have: Option<(Uuid, &Row)>, reference: &Atom, plan: &mut Plan) {
    let mut wanted: Vec<String> = port.security_groups.iter().map(|g| rows::port_group_name(g)).collect();
    if rows::is_filtered(port) {
        wanted.push(acl::DROP_GROUP.to_owned());
    }
    let before =
        have.and_then(|(_, row)| row.get("external_ids")).and_then(|ids| ids.get(KEY_GROUPS)).unwrap_or("");
    let candidates = before
        .split_whitespace()
        .map(rows::port_group_name)
        .chain([acl::DROP_GROUP.to_owned()])
        .chain(wanted.iter().cloned())
        .collect::<std::collections::BTreeSet<_>>();
    for name in candidates {
        let Some((group, row)) = nb.by_name(PORT_GROUP, &name) else {
            if name == acl::DROP_GROUP && wanted.contains(&name) {
                let mut want = globally_dropped(nb, plan);
                want.insert("ports".into(), Datum::set([reference.clone()]));
                plan.ensure(PORT_GROUP, None, &want, None);
            }
            continue;
        };
        let is_in =
            have.is_some_and(|(uuid, _)| row.get("ports").is_some_and(|p| p.uuids().any(|u| u == uuid)));
        let should = wanted.contains(&name);
        let members = Datum::set([reference.clone()]);
        match (is_in, should) {
            (false, true) => plan.push(Op::mutate_insert(PORT_GROUP, group, "ports", &members)),
            (true, false) => plan.push(Op::mutate_delete(PORT_GROUP, group, "ports", &members)),
            _ => {}
        }
    }
}

/// The drop group's row with its ACLs, for a port that comes before any security group did.
fn globally_dropped(nb: &Replica, plan: &mut Plan) -> Row {
    let acls = plan.children(nb, ACL, None, &acl::drops(), |_| String::new());
    row([("name", Datum::one(acl::DROP_GROUP)), ("acls", acls)])
}

pub(super) async fn router(ovn: &Ovn, id: &str, plan: &mut Plan) -> Result<(), NetError> {
    let parts = match store::get::<Router>(ovn.db.read(), id).await? {
        Some(router) => Some(router_parts(ovn, router).await?),
        None => None,
    };
    ovn.nb.read(|nb| {
        let have = nb.by_name(ROUTER, &rows::neutron_name(id));
        let Some(parts) = &parts else {
            have.iter().for_each(|(uuid, _)| plan.push(Op::delete(ROUTER, *uuid)));
            return Ok(());
        };
        if let Some((_, row)) = have {
            newer(row, parts.router.meta.revision_number)?;
        }
        let column = |name: &str| have.and_then(|(_, row)| row.get(name));
        let mut ports = Vec::new();
        for (mut want, chassis) in parts.port_rows() {
            let there = nb.by_name(ROUTER_PORT, text(&want, "name"));
            let gateways = plan.children(
                nb,
                GATEWAY_CHASSIS,
                there.and_then(|(_, row)| row.get("gateway_chassis")),
                &chassis,
                |row| text(row, "name").to_owned(),
            );
            want.insert("gateway_chassis".into(), gateways);
            ports.push(want);
        }
        let refs = [
            (
                "ports",
                plan.children(nb, ROUTER_PORT, column("ports"), &ports, |r| text(r, "name").to_owned()),
            ),
            (
                "static_routes",
                plan.children(nb, ROUTE, column("static_routes"), &parts.route_rows(), |r| {
                    format!("{} {}", text(r, "ip_prefix"), text(r, "nexthop"))
                }),
            ),
            (
                "nat",
                plan.children(nb, NAT, column("nat"), &parts.nat_rows(), |r| {
                    format!("{} {} {}", text(r, "type"), text(r, "external_ip"), text(r, "logical_ip"))
                }),
            ),
        ];
        let mut want = parts.router_row();
        want.extend(refs.map(|(column, value)| (column.to_owned(), value)));
        plan.ensure(ROUTER, have, &want, Some(("name", &want["name"].clone())));
        Ok(())
    })
}

async fn router_parts(ovn: &Ovn, router: Router) -> Result<RouterParts, NetError> {
    let db = ovn.db.read();
    let id = router.meta.id.clone();
    let ports =
        store::find::<Port>(db, "device_id = $1 AND device_owner LIKE 'network:router_%'", &[&id]).await?;
    let mut subnets = Vec::new();
    for fixed in ports.iter().flat_map(|p| &p.fixed_ips) {
        subnets.extend(store::get::<Subnet>(db, &fixed.subnet_id).await?);
    }
    let outside = match &router.gateway {
        Some(gateway) => store::get::<Network>(db, &gateway.network_id).await?,
        None => None,
    };
    let physical = outside.as_ref().and_then(|n| n.physical_network.as_deref());
    Ok(RouterParts {
        chassis: physical.map(|p| ovn.gateway_chassis(p, &id)).unwrap_or_default(),
        gateway_mtu: outside.as_ref().map_or(0, |n| n.mtu),
        floating_ips: store::find(db, "router_id = $1", &[&id]).await?,
        router,
        ports,
        subnets,
    })
}
