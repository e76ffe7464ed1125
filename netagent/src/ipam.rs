//! Addresses: which one a port gets. All of it happens in the transaction that makes the port, under the
//! network's lock; the primary key of `net_addresses` has the last word.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use state::Tx;

use crate::NetError;
use crate::model::{FixedIp, Network, Pool, Port, Subnet};
use crate::store::addresses;

/// What a request says of one address: a subnet, an address, or both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WantedIp {
    pub subnet_id: Option<String>,
    pub ip_address: Option<IpAddr>,
}

/// Takes the addresses of a new port: those asked for, or, where nothing was asked for, one of each IP version
/// that the network has subnets of. A port of a network without subnets has none.
pub(crate) async fn allocate(
    tx: &mut Tx,
    network: &Network,
    subnets: &[Subnet],
    port: &Port,
    wanted: Option<&[WantedIp]>,
) -> Result<Vec<FixedIp>, NetError> {
    let id = &network.meta.id;
    let mut taken = Vec::new();
    let wanted: Vec<WantedIp> = match wanted {
        Some(wanted) => wanted.to_vec(),
        None => return automatic(tx, network, subnets, port).await,
    };
    for want in wanted {
        let fixed = match (want.subnet_id, want.ip_address) {
            (Some(subnet), ip) => {
                let subnet = subnets
                    .iter()
                    .find(|s| s.meta.id == subnet)
                    .ok_or_else(|| not_of_this_network(id, &subnet))?;
                match ip {
                    Some(ip) => explicit(subnet, ip)?,
                    None => {
                        next_free(tx, subnet, port).await?.ok_or_else(|| NetError::no_more_addresses(id))?
                    }
                }
            }
            (None, Some(ip)) => {
                let subnet = subnets
                    .iter()
                    .find(|s| s.cidr.contains(&ip))
                    .ok_or_else(|| {
                        NetError::refused(
                            400,
                            "InvalidIpForNetwork",
                            format!("IP address {ip} is not a valid IP for any of the subnets on the specified network."),
                        )
                    })?;
                explicit(subnet, ip)?
            }
            (None, None) => {
                return Err(NetError::invalid_input("IP allocation requires subnet_id or ip_address"));
            }
        };
        addresses::take(tx, &port.meta.id, id, &fixed).await?;
        taken.push(fixed);
    }
    Ok(taken)
}

fn not_of_this_network(network: &str, subnet: &str) -> NetError {
    NetError::invalid_input(format!(
        "Failed to create port on network {network}, because fixed_ips included invalid subnet {subnet}"
    ))
}

async fn automatic(
    tx: &mut Tx,
    network: &Network,
    subnets: &[Subnet],
    port: &Port,
) -> Result<Vec<FixedIp>, NetError> {
    let mut taken = Vec::new();
    let serves = |s: &&Subnet| {
        s.service_types.is_empty()
            || s.service_types.iter().any(|t| port.device_owner.starts_with(t.as_str()))
    };
    for version in [4, 6] {
        let candidates: Vec<&Subnet> =
            subnets.iter().filter(serves).filter(|s| s.ip_version() == version).collect();
        // every prefix that is announced gives the guest an address
        let (slaac, managed): (Vec<&Subnet>, Vec<&Subnet>) = candidates.iter().partition(|s| s.is_slaac());
        for subnet in slaac {
            let fixed = slaac_address(subnet, &port.mac_address);
            addresses::take(tx, &port.meta.id, &network.meta.id, &fixed).await?;
            taken.push(fixed);
        }
        let full = !managed.is_empty();
        let mut found = None;
        for subnet in managed {
            found = next_free(tx, subnet, port).await?;
            if found.is_some() {
                break;
            }
        }
        match found {
            Some(fixed) => {
                addresses::take(tx, &port.meta.id, &network.meta.id, &fixed).await?;
                taken.push(fixed);
            }
            None if full => return Err(NetError::no_more_addresses(&network.meta.id)),
            None => {}
        }
    }
    Ok(taken)
}

fn explicit(subnet: &Subnet, ip: IpAddr) -> Result<FixedIp, NetError> {
    let usable = subnet.cidr.contains(&ip) && (is_point_to_point(&subnet.cidr) || !is_edge(&subnet.cidr, ip));
    if !usable {
        return Err(NetError::refused(
            400,
            "InvalidIpForSubnet",
            format!("IP address {ip} is not a valid IP for the specified subnet."),
        ));
    }
    Ok(FixedIp { subnet_id: subnet.meta.id.clone(), ip_address: ip })
}

/// The first free address of the allocation pools.
pub(crate) async fn next_free(
    tx: &mut Tx,
    subnet: &Subnet,
    port: &Port,
) -> Result<Option<FixedIp>, NetError> {
    if subnet.is_slaac() {
        return Ok(Some(slaac_address(subnet, &port.mac_address)));
    }
    let used = addresses::in_subnet(tx.conn(), &subnet.meta.id).await?;
    let free = subnet.allocation_pools.iter().find_map(|pool| first_free(pool, |ip| used.contains(&ip)));
    Ok(free.map(|ip_address| FixedIp { subnet_id: subnet.meta.id.clone(), ip_address }))
}

fn first_free(pool: &Pool, used: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut ip = pool.start;
    while ip <= pool.end {
        if !used(ip) {
            return Some(ip);
        }
        ip = plus(ip, 1)?;
    }
    None
}

/// The address that a guest gives itself (RFC 4291, appendix A).
fn slaac_address(subnet: &Subnet, mac: &str) -> FixedIp {
    let mut bytes = mac.split(':').filter_map(|p| u8::from_str_radix(p, 16).ok());
    let mut next = || u64::from(bytes.next().unwrap_or(0));
    let mac = [next() ^ 2, next(), next(), 0xff, 0xfe, next(), next(), next()];
    let host = mac.iter().fold(0_u64, |all, byte| all << 8 | byte);
    let prefix = match subnet.cidr.network() {
        IpAddr::V6(v6) => u128::from(v6),
        IpAddr::V4(_) => 0,
    };
    let ip_address = IpAddr::V6(Ipv6Addr::from(prefix | u128::from(host)));
    FixedIp { subnet_id: subnet.meta.id.clone(), ip_address }
}

/// An address further on, within its version's space.
pub(crate) fn plus(ip: IpAddr, n: u32) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(v4) => u32::from(v4).checked_add(n).map(|i| IpAddr::V4(i.into())),
        IpAddr::V6(v6) => u128::from(v6).checked_add(u128::from(n)).map(|i| IpAddr::V6(i.into())),
    }
}

fn minus_one(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(v4) => u32::from(v4).checked_sub(1).map(|i| IpAddr::V4(i.into())),
        IpAddr::V6(v6) => u128::from(v6).checked_sub(1).map(|i| IpAddr::V6(i.into())),
    }
}

/// Prefixes so long that they have no network and broadcast address.
pub(crate) fn is_point_to_point(cidr: &IpNet) -> bool {
    cidr.prefix_len() + 1 >= cidr.max_prefix_len()
}

/// Whether an address is its subnet's network address, or an IPv4 broadcast.
pub(crate) fn is_edge(cidr: &IpNet, ip: IpAddr) -> bool {
    ip == cidr.network() || (ip.is_ipv4() && ip == cidr.broadcast())
}

/// All usable addresses of a subnet but its gateway.
pub(crate) fn default_pools(cidr: &IpNet, gateway: Option<IpAddr>) -> Vec<Pool> {
    let (first, last) = if is_point_to_point(cidr) {
        (cidr.network(), cidr.broadcast())
    } else {
        let last = if cidr.addr().is_ipv4() { minus_one(cidr.broadcast()) } else { Some(cidr.broadcast()) };
        match (plus(cidr.network(), 1), last) {
            (Some(first), Some(last)) => (first, last),
            _ => return Vec::new(),
        }
    };
    let Some(gateway) = gateway.filter(|g| *g >= first && *g <= last) else {
        return vec![Pool { start: first, end: last }];
    };
    let before = minus_one(gateway).filter(|end| *end >= first && gateway > first);
    let after = plus(gateway, 1).filter(|start| *start <= last);
    [before.map(|end| Pool { start: first, end }), after.map(|start| Pool { start, end: last })]
        .into_iter()
        .flatten()
        .collect()
}

/// How many addresses the pools have.
pub(crate) fn pool_size(pools: &[Pool]) -> u128 {
    let number = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    };
    pools
        .iter()
        .fold(0_u128, |all, p| all.saturating_add((number(p.end) - number(p.start)).saturating_add(1)))
}

/// Refuses pools outside of the subnet, backwards, overlapping or over the gateway.
pub(crate) fn check_pools(cidr: &IpNet, gateway: Option<IpAddr>, pools: &[Pool]) -> Result<(), NetError> {
    let shown = |p: &Pool| format!("{}-{}", p.start, p.end);
    let mut sorted = pools.to_vec();
    sorted.sort_by_key(|p| p.start);
    for pool in &sorted {
        if pool.start > pool.end || pool.start.is_ipv4() != cidr.addr().is_ipv4() {
            return Err(NetError::refused(
                400,
                "InvalidAllocationPool",
                format!("The allocation pool {} is not valid.", shown(pool)),
            ));
        }
        let inside = |ip| cidr.contains(&ip) && (is_point_to_point(cidr) || !is_edge(cidr, ip));
        if pool.start.is_ipv4() != pool.end.is_ipv4() || !inside(pool.start) || !inside(pool.end) {
            return Err(NetError::refused(
                400,
                "OutOfBoundsAllocationPool",
                format!("The allocation pool {} spans beyond the subnet cidr {cidr}.", shown(pool)),
            ));
        }
        if gateway.is_some_and(|g| g >= pool.start && g <= pool.end) {
            return Err(NetError::refused(
                409,
                "GatewayConflictWithAllocationPools",
                format!("Gateway ip {} conflicts with allocation pool {}.", pick(gateway), shown(pool)),
            ));
        }
    }
    match sorted.windows(2).find(|pair| pair[0].end >= pair[1].start) {
        Some(pair) => Err(NetError::refused(
            409,
            "OverlappingAllocationPools",
            format!(
                "Found overlapping allocation pools: {} {} for subnet {cidr}.",
                shown(&pair[0]),
                shown(&pair[1])
            ),
        )),
        None => Ok(()),
    }
}

fn pick(ip: Option<IpAddr>) -> String {
    ip.map(|ip| ip.to_string()).unwrap_or_default()
}

/// The subnets of a network, oldest first: that is the order in which addresses are given.
pub(crate) async fn subnets_of(tx: &mut Tx, network: &str) -> Result<Vec<Subnet>, NetError> {
    let mut subnets = crate::store::find::<Subnet>(tx.conn(), "network_id = $1", &[network]).await?;
    subnets.sort_by(|a, b| (a.meta.created_at, &a.meta.id).cmp(&(b.meta.created_at, &b.meta.id)));
    Ok(subnets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(cidr: &str, gateway: Option<&str>) -> Vec<String> {
        default_pools(&cidr.parse().unwrap(), gateway.map(|g| g.parse().unwrap()))
            .iter()
            .map(|p| format!("{}-{}", p.start, p.end))
            .collect()
    }

    #[test]
    fn default_pools_leave_the_gateway_out() {
        assert_eq!(pools("10.0.0.0/24", Some("10.0.0.1")), ["10.0.0.2-10.0.0.254"]);
        assert_eq!(pools("10.0.0.0/24", Some("10.0.0.254")), ["10.0.0.1-10.0.0.253"]);
        assert_eq!(pools("10.0.0.0/24", Some("10.0.0.9")), ["10.0.0.1-10.0.0.8", "10.0.0.10-10.0.0.254"]);
        assert_eq!(pools("10.0.0.0/24", None), ["10.0.0.1-10.0.0.254"]);
        assert_eq!(pools("10.0.0.0/31", None), ["10.0.0.0-10.0.0.1"]);
        assert_eq!(pools("fd00::/64", Some("fd00::1")), ["fd00::2-fd00::ffff:ffff:ffff:ffff"]);
    }

    #[test]
    fn pools_are_checked() {
        let cidr = "10.0.0.0/24".parse().unwrap();
        let pool = |a: &str, b: &str| Pool { start: a.parse().unwrap(), end: b.parse().unwrap() };
        assert!(
            check_pools(&cidr, None, &[pool("10.0.0.2", "10.0.0.9"), pool("10.0.0.20", "10.0.0.30")]).is_ok()
        );
        for bad in [
            vec![pool("10.0.0.9", "10.0.0.2")],
            vec![pool("10.0.0.2", "10.0.1.9")],
            vec![pool("10.0.0.2", "10.0.0.255")],
            vec![pool("fd00::1", "fd00::2")],
            vec![pool("10.0.0.2", "10.0.0.9"), pool("10.0.0.9", "10.0.0.30")],
        ] {
            assert!(check_pools(&cidr, None, &bad).is_err(), "{bad:?}");
        }
        assert!(check_pools(&cidr, "10.0.0.3".parse().ok(), &[pool("10.0.0.2", "10.0.0.9")]).is_err());
    }

    #[test]
    fn pools_count() {
        let pool = |a: &str, b: &str| Pool { start: a.parse().unwrap(), end: b.parse().unwrap() };
        assert_eq!(pool_size(&[pool("10.0.0.2", "10.0.0.254")]), 253);
        assert_eq!(pool_size(&[pool("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]), u128::MAX);
    }
}
