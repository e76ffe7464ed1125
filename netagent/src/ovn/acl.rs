//! Security groups as port groups with ACLs. Connections are tracked (`allow-related`), so answers need
//! no rule; what no rule allows is dropped by `neutron_pg_drop`, which every filtered port is in.

use super::plan::row;
use super::rows::port_group_name;
use super::tables::{KEY_REVISION, KEY_RULE};
use crate::model::{Direction, EtherType, SecurityGroup, SecurityGroupRule};
use crate::ovsdb::{Datum, Row};

pub(crate) const DROP_GROUP: &str = "neutron_pg_drop";
const ALLOW_PRIORITY: i64 = 1002;
const DROP_PRIORITY: i64 = 1001;

pub(crate) fn group(group: &SecurityGroup) -> Row {
    row([
        ("name", Datum::one(port_group_name(&group.meta.id))),
        (
            "external_ids",
            Datum::map([
                ("neutron:security_group_id", group.meta.id.clone()),
                ("neutron:security_group_name", group.meta.name.clone()),
                (KEY_REVISION, group.meta.revision_number.to_string()),
            ]),
        ),
    ])
}

fn acl(direction: &str, priority: i64, expression: &str, action: &str, rule: &str) -> Row {
    row([
        ("priority", Datum::one(priority)),
        ("direction", Datum::one(direction)),
        ("match", Datum::one(expression)),
        ("action", Datum::one(action)),
        ("external_ids", Datum::map([(KEY_RULE, rule)])),
    ])
}

/// The ACLs of the drop group. DHCP requests pass, whatever a port's rules say: it is OVN who answers.
pub(crate) fn drops() -> Vec<Row> {
    let dhcp = format!(
        "inport == @{DROP_GROUP} && ip4 && ip4.dst == 255.255.255.255 && udp && udp.src == 68 && udp.dst == 67"
    );
    vec![
        acl("from-lport", DROP_PRIORITY, &format!("inport == @{DROP_GROUP} && ip"), "drop", "drop-out"),
        acl("to-lport", DROP_PRIORITY, &format!("outport == @{DROP_GROUP} && ip"), "drop", "drop-in"),
        acl("from-lport", ALLOW_PRIORITY, &dhcp, "allow", "dhcp"),
    ]
}

/// The ACL of a rule.
pub(crate) fn rule(rule: &SecurityGroupRule, stateful: bool) -> Row {
    let group = port_group_name(&rule.security_group_id);
    let (direction, port, side) = match rule.direction {
        Direction::Ingress => ("to-lport", "outport", "src"),
        Direction::Egress => ("from-lport", "inport", "dst"),
    };
    let (family, icmp) = match rule.ethertype {
        EtherType::IPv4 => ("ip4", "icmp4"),
        EtherType::IPv6 => ("ip6", "icmp6"),
    };
    let mut terms = vec![format!("{port} == @{group}"), family.to_owned()];
    if let Some(prefix) = rule.remote_ip_prefix.filter(|p| p.prefix_len() > 0) {
        terms.push(format!("{family}.{side} == {}", prefix.trunc()));
    }
    if let Some(remote) = &rule.remote_group_id {
        // northd keeps address sets of every port group's addresses under these names
        terms.push(format!("{family}.{side} == ${}_{family}", port_group_name(remote)));
    }
    protocol(rule, icmp, &mut terms);
    let action = if stateful { "allow-related" } else { "allow-stateless" };
    acl(direction, ALLOW_PRIORITY, &terms.join(" && "), action, &rule.meta.id)
}

fn protocol(rule: &SecurityGroupRule, icmp: &str, terms: &mut Vec<String>) {
    let Some(protocol) = rule.protocol.as_deref() else { return };
    let (min, max) = (rule.port_range_min, rule.port_range_max);
    match protocol_number(protocol) {
        Some(number @ (6 | 17 | 132)) => {
            let name = match number {
                6 => "tcp",
                17 => "udp",
                _ => "sctp",
            };
            terms.push(name.to_owned());
            match (min, max) {
                (Some(min), Some(max)) if min == max => terms.push(format!("{name}.dst == {min}")),
                (Some(min), Some(max)) => {
                    terms.push(format!("{name}.dst >= {min}"));
                    terms.push(format!("{name}.dst <= {max}"));
                }
                _ => {}
            }
        }
        Some(1 | 58) => {
            terms.push(icmp.to_owned());
            if let Some(kind) = min {
                terms.push(format!("{icmp}.type == {kind}"));
            }
            if let Some(code) = max {
                terms.push(format!("{icmp}.code == {code}"));
            }
        }
        Some(number) => terms.push(format!("ip.proto == {number}")),
        None => {}
    }
}

/// The names that upstream takes, and any number from 0 to 255.
pub(crate) fn protocol_number(name: &str) -> Option<u8> {
    Some(match name {
        "any" => return None,
        "icmp" => 1,
        "igmp" => 2,
        "ipip" => 4,
        "tcp" => 6,
        "egp" => 8,
        "udp" => 17,
        "dccp" => 33,
        "ipv6-encap" => 41,
        "ipv6-route" => 43,
        "ipv6-frag" => 44,
        "rsvp" => 46,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "icmpv6" | "ipv6-icmp" => 58,
        "ipv6-nonxt" => 59,
        "ipv6-opts" => 60,
        "ospf" => 89,
        "pgm" => 113,
        "vrrp" => 112,
        "sctp" => 132,
        "udplite" => 136,
        number => return number.parse().ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Meta;
    use crate::ovn::plan::text;

    fn rule_of(direction: Direction) -> SecurityGroupRule {
        SecurityGroupRule {
            meta: Meta::new("p"),
            security_group_id: "a-b".into(),
            direction,
            ethertype: EtherType::IPv4,
            protocol: None,
            port_range_min: None,
            port_range_max: None,
            remote_ip_prefix: None,
            remote_group_id: None,
        }
    }

    #[test]
    fn matches_read_as_ovn_expressions() {
        let mut r = rule_of(Direction::Egress);
        assert_eq!(text(&rule(&r, true), "match"), "inport == @pg_a_b && ip4");
        r.direction = Direction::Ingress;
        r.remote_group_id = Some("c-d".into());
        assert_eq!(text(&rule(&r, true), "match"), "outport == @pg_a_b && ip4 && ip4.src == $pg_c_d_ip4");
        r.remote_group_id = None;
        r.remote_ip_prefix = "10.1.2.3/8".parse().ok();
        r.protocol = Some("tcp".into());
        (r.port_range_min, r.port_range_max) = (Some(80), Some(81));
        assert_eq!(
            text(&rule(&r, true), "match"),
            "outport == @pg_a_b && ip4 && ip4.src == 10.0.0.0/8 && tcp && tcp.dst >= 80 && tcp.dst <= 81"
        );
        r.remote_ip_prefix = None;
        r.protocol = Some("icmp".into());
        (r.port_range_min, r.port_range_max) = (Some(8), None);
        assert_eq!(text(&rule(&r, false), "match"), "outport == @pg_a_b && ip4 && icmp4 && icmp4.type == 8");
        assert_eq!(text(&rule(&r, false), "action"), "allow-stateless");
    }
}
