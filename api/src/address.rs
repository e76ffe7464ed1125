//! Which addresses a service may connect to because a user named them: of an image to fetch, of a webhook. Names are no
//! way around this: what is asked about is the address that is connected to.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is one of the public internet, or in one of the networks that are allowed beside it.
pub fn is_allowed(address: IpAddr, networks: &[IpNet]) -> bool {
    let plain = address.to_canonical();
    let public = match plain {
        IpAddr::V4(a) => is_public_v4(a),
        IpAddr::V6(a) => is_public_v6(a),
    };
    public || networks.iter().any(|n| n.contains(&plain))
}

fn is_public_v4(a: Ipv4Addr) -> bool {
    let [first, second, third, _] = a.octets();
    let special = match first {
        0 | 10 | 127 => true,
        100 => (64..128).contains(&second), // shared by carriers
        169 => second == 254,               // link-local, and with it every cloud's metadata
        172 => (16..32).contains(&second),
        192 => second == 168 || (second == 0 && (third == 0 || third == 2)) || (second == 88 && third == 99),
        198 => second == 18 || second == 19 || (second == 51 && third == 100),
        203 => second == 0 && third == 113,
        _ => first >= 224, // multicast, reserved, broadcast
    };
    !special
}

/// Only what is global unicast, and of that nothing that carries an IPv4 address which would not be public itself.
fn is_public_v6(a: Ipv6Addr) -> bool {
    let s = a.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(v4(high, low)), // NAT64
        [0x2002, high, low, ..] => is_public_v4(v4(high, low)),               // 6to4
        [0x2001, 0, ..] => false,                                             // Teredo
        [0x2001, 0xdb8, ..] => false,                                         // documentation
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet() {
        let allowed = |a: &str| is_allowed(a.parse().unwrap(), &[]);
        for a in [
            "8.8.8.8",
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "192.169.0.1",
            "2606:4700::1111",
            "64:ff9b::808:808",
        ] {
            assert!(allowed(a), "{a}");
        }
        for a in [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "203.0.113.9",
            "192.0.0.8",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2001::1",
        ] {
            assert!(!allowed(a), "{a}");
        }
    }

    #[test]
    fn a_network_that_the_operator_names() {
        let networks = ["10.5.0.0/16".parse().unwrap(), "fd00:5::/32".parse().unwrap()];
        let allowed = |a: &str| is_allowed(a.parse().unwrap(), &networks);
        assert!(allowed("10.5.1.1") && allowed("::ffff:10.5.1.1") && allowed("fd00:5::1"));
        assert!(!allowed("10.6.1.1") && !allowed("fd00:6::1") && !allowed("127.0.0.1"));
    }
}
