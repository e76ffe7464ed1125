//! The cloud's network namespace and its two links to the host.
//!
//! ```text
//!   host                                namespace aquifer-<hash>
//!   aq<hash>c  a.b.c.1/30 ───veth─── ctl0  a.b.c.2/30     Ceph binds here; aquifer and QEMU reach it
//!   aq<hash>p  gateway/24 ───veth─── ext0 ─ br-ex (OVS)   servers on `public`, floating addresses
//! ```
//!
//! The host gets two interfaces and nothing else: no rule, no bridge, no sysctl. The ranges are chosen
//! free on the first start and remembered; after a reboot the namespace is made again with the same ones.

use crate::cloud::{Cloud, short_hash};
use crate::error::{EngineError, Result};
use crate::process::run;
use ipnet::Ipv4Net;
use nix::fcntl::{Flock, FlockArg};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The largest MTU that veth has: control traffic never leaves the machine.
const CONTROL_MTU: &str = "65535";

/// The external network `public`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicNetwork {
    pub cidr: Ipv4Net,
    /// The host's own address in it.
    pub gateway: Ipv4Addr,
    /// First and last address that servers and floating addresses may have.
    pub allocation: (Ipv4Addr, Ipv4Addr),
}

impl PublicNetwork {
    fn of(cidr: Ipv4Net) -> Self {
        let first = u32::from(cidr.network());
        let last = u32::from(cidr.broadcast());
        let at = |n: u32| Ipv4Addr::from(n);
        Self { cidr, gateway: at(first + 1), allocation: (at(first + 2), at(last - 1)) }
    }
}

/// The namespace of one cloud and what is in it.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    /// As in `ip netns`.
    pub(crate) name: String,
    /// The address in the namespace that engines bind to.
    pub(crate) address: Ipv4Addr,
    pub(crate) host_address: Ipv4Addr,
    pub(crate) control: Ipv4Net,
    pub(crate) public: PublicNetwork,
    control_link: String,
    public_link: String,
}

/// The namespace's end of the public link: a port of br-ex.
pub(crate) const PUBLIC_PORT: &str = "ext0";
const CONTROL_PORT: &str = "ctl0";

impl Namespace {
    fn of(dir: &Path, cloud: &Cloud) -> Self {
        let hash = short_hash(dir);
        let first = u32::from(cloud.control.network());
        Self {
            name: name(dir),
            address: Ipv4Addr::from(first + 2),
            host_address: Ipv4Addr::from(first + 1),
            control: cloud.control,
            public: PublicNetwork::of(cloud.public),
            control_link: format!("aq{hash}c"),
            public_link: format!("aq{hash}p"),
        }
    }

    /// Makes the namespace, or finds it as an earlier start made it. Chooses and remembers the ranges on
    /// the first start. Clouds that start at the same time wait for each other here.
    pub(crate) async fn up(dir: &Path, public: Option<Ipv4Net>) -> Result<(Self, Cloud)> {
        let _one_at_a_time = lock(PathBuf::from("/run/aquifer.lock")).await?;
        let used = Used::look().await?;
        let cloud = match Cloud::read(dir)? {
            Some(cloud) => cloud,
            None => {
                let control = used.free(control_ranges(), "control traffic", "100.127.0.0/16")?;
                let public = match public {
                    Some(range) => check_public(range, &used)?,
                    None => used.free(public_ranges(), "the network `public`", "172.24.0.0/16")?,
                };
                let cloud = Cloud { host: Uuid::new_v4(), control, public };
                cloud.write(dir)?;
                cloud
            }
        };
        let namespace = Self::of(dir, &cloud);
        namespace.check(&used)?;
        namespace.make().await?;
        Ok((namespace, cloud))
    }

    /// Refuses to start where somebody else has taken the remembered ranges meanwhile.
    fn check(&self, used: &Used) -> Result<()> {
        for range in [self.control, self.public.cidr] {
            let mine = [self.control_link.as_str(), self.public_link.as_str()];
            if let Some(user) = used.by(&range, &mine) {
                return Err(EngineError::RangeTaken { range: range.to_string(), user });
            }
        }
        Ok(())
    }

    /// Level-triggered: what is there is left, what is missing is made.
    async fn make(&self) -> Result<()> {
        if !Path::new("/run/netns").join(&self.name).exists() {
            run(&["ip", "netns", "add", &self.name]).await?;
        }
        run(&["ip", "-n", &self.name, "link", "set", "lo", "up"]).await?;
        self.link(&self.control_link, CONTROL_PORT, CONTROL_MTU).await?;
        self.link(&self.public_link, PUBLIC_PORT, "1500").await?;
        // OVS's user-space datapath hands on packets whose checksum nobody has filled in.
        run(&["ethtool", "-K", &self.public_link, "tx", "off"]).await?;
        run(&["nsenter", &self.enter(), "ethtool", "-K", PUBLIC_PORT, "tx", "off"]).await?;
        self.address(None, &self.control_link, self.host_address, &self.control).await?;
        self.address(Some(&self.name), CONTROL_PORT, self.address, &self.control).await?;
        self.address(None, &self.public_link, self.public.gateway, &self.public.cidr).await
    }

    /// The argument of `nsenter` that leads into this namespace.
    fn enter(&self) -> String {
        format!("--net=/run/netns/{}", self.name)
    }

    async fn link(&self, host: &str, inside: &str, mtu: &str) -> Result<()> {
        let there = is_link(host);
        let whole = there && run(&["ip", "-n", &self.name, "link", "show", inside]).await.is_ok();
        if there && !whole {
            // Its other end is in a namespace of this name that was removed and is not quite gone yet.
            delete_link(host).await?;
        }
        if !whole {
            let peer = ["type", "veth", "peer", "name", inside, "mtu", mtu, "netns", &self.name];
            run(&[&["ip", "link", "add", host, "mtu", mtu], &peer[..]].concat()).await?;
        }
        run(&["ip", "link", "set", host, "up"]).await?;
        run(&["ip", "-n", &self.name, "link", "set", inside, "up"]).await?;
        Ok(())
    }

    async fn address(
        &self,
        netns: Option<&str>,
        link: &str,
        address: Ipv4Addr,
        range: &Ipv4Net,
    ) -> Result<()> {
        let with_length = format!("{address}/{}", range.prefix_len());
        let within = netns.map_or_else(Vec::new, |netns| vec!["-n", netns]);
        let change = ["addr", "replace", &with_length, "dev", link];
        run(&[&["ip"], &within[..], &change[..]].concat()).await.map(drop)
    }
}

/// Whether the cloud in `dir` has its namespace. Daemons of a cloud without one are cut off for good.
pub(crate) fn exists(dir: &Path) -> bool {
    Path::new("/run/netns").join(name(dir)).exists()
}

/// What the namespace of the cloud in `dir` is called.
pub(crate) fn name(dir: &Path) -> String {
    format!("aquifer-{}", short_hash(dir))
}

/// Removes the namespace and its links; it is no error if there are none.
pub(crate) async fn remove(dir: &Path) -> Result<()> {
    let hash = short_hash(dir);
    for link in [format!("aq{hash}c"), format!("aq{hash}p")] {
        delete_link(&link).await?;
    }
    let name = name(dir);
    if Path::new("/run/netns").join(&name).exists() {
        run(&["ip", "netns", "del", &name]).await?;
    }
    Ok(())
}

/// The ranges that the cloud in `dir` has or would get, in words; an error where it cannot have them.
pub(crate) async fn ranges_for(dir: &Path) -> Result<String> {
    let used = Used::look().await?;
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    if let Some(cloud) = Cloud::read(&dir)? {
        Namespace::of(&dir, &cloud).check(&used)?;
        return Ok(format!("{} and {}, as before", cloud.control, cloud.public));
    }
    let control = used.free(control_ranges(), "control traffic", "100.127.0.0/16")?;
    let public = used.free(public_ranges(), "the network `public`", "172.24.0.0/16")?;
    Ok(format!("{control} and {public} are free"))
}

fn is_link(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

/// It is no error if there is none, also where it goes meanwhile with the namespace of its other end.
async fn delete_link(name: &str) -> Result<()> {
    if !is_link(name) {
        return Ok(());
    }
    match run(&["ip", "link", "del", name]).await {
        Err(error) if is_link(name) => Err(error),
        _ => Ok(()),
    }
}

fn control_ranges() -> impl Iterator<Item = Ipv4Net> {
    ranges(Ipv4Addr::new(100, 127, 0, 0), 30, 1 << 14)
}

fn public_ranges() -> impl Iterator<Item = Ipv4Net> {
    ranges(Ipv4Addr::new(172, 24, 0, 0), 24, 1 << 8).skip(4)
}

fn ranges(from: Ipv4Addr, length: u8, count: u32) -> impl Iterator<Item = Ipv4Net> {
    let (first, size) = (u32::from(from), 1u32 << (32 - length));
    (0..count).filter_map(move |n| Ipv4Net::new(Ipv4Addr::from(first + n * size), length).ok())
}

fn check_public(range: Ipv4Net, used: &Used) -> Result<Ipv4Net> {
    let range = range.trunc();
    if range.prefix_len() > 28 {
        let reason = format!("the public range {range} is too small: a /28 or larger is needed");
        return Err(EngineError::Refused(reason));
    }
    match used.by(&range, &[]) {
        Some(user) => Err(EngineError::RangeTaken { range: range.to_string(), user }),
        None => Ok(range),
    }
}

/// Which ranges this machine has already, on its interfaces and in its routes.
struct Used(Vec<(Ipv4Net, String)>);

impl Used {
    async fn look() -> Result<Self> {
        let routes = run(&["ip", "-4", "-o", "route", "show", "table", "all"]).await?;
        let addresses = run(&["ip", "-4", "-o", "addr", "show"]).await?;
        let of_routes = routes.lines().filter_map(route);
        let of_addresses = addresses.lines().filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let link = words.next()?.to_owned();
            let range: Ipv4Net = words.nth(1)?.parse().ok()?;
            Some((range.trunc(), link))
        });
        Ok(Self(of_routes.chain(of_addresses).collect()))
    }

    /// Who uses a part of `range`, `mine` aside.
    fn by(&self, range: &Ipv4Net, mine: &[&str]) -> Option<String> {
        let overlap = |other: &Ipv4Net| other.contains(&range.network()) || range.contains(&other.network());
        let taken = self.0.iter().find(|(other, link)| overlap(other) && !mine.contains(&link.as_str()));
        taken.map(|(_, link)| link.clone())
    }

    fn free(
        &self,
        mut candidates: impl Iterator<Item = Ipv4Net>,
        what: &'static str,
        tried: &'static str,
    ) -> Result<Ipv4Net> {
        let free = candidates.find(|range| self.by(range, &[]).is_none());
        free.ok_or(EngineError::NoRange { what, tried })
    }
}

/// The range and interface of a line of `ip route`; the default route covers everything and counts for
/// nothing.
fn route(line: &str) -> Option<(Ipv4Net, String)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let kinds =
        ["local", "broadcast", "unreachable", "blackhole", "prohibit", "throw", "multicast", "anycast"];
    let target = words.iter().find(|word| !kinds.contains(word))?;
    let range = match target.parse::<Ipv4Net>() {
        Ok(range) => range.trunc(),
        Err(_) => Ipv4Net::new(target.parse().ok()?, 32).ok()?,
    };
    let link = words.iter().position(|word| *word == "dev").and_then(|at| words.get(at + 1));
    Some((range, link.map_or_else(|| "a route".into(), |link| (*link).to_owned())))
}

/// Takes an exclusive lock on a file, waiting for whoever has it. The lock ends with the value.
async fn lock(path: PathBuf) -> Result<Flock<std::fs::File>> {
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(EngineError::file(&path))?;
    let locked = tokio::task::spawn_blocking(move || Flock::lock(file, FlockArg::LockExclusive)).await;
    let flattened =
        locked.map_err(std::io::Error::other).and_then(|got| got.map_err(|(_, errno)| errno.into()));
    flattened.map_err(EngineError::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read() {
        let read = |line| route(line).map(|(range, link)| (range.to_string(), link));
        assert_eq!(read("default via 192.0.2.1 dev eth0"), None);
        let expected = Some(("10.0.0.0/8".to_owned(), "wg0".to_owned()));
        assert_eq!(read("10.0.0.0/8 via 10.1.1.1 dev wg0 proto static"), expected);
        assert_eq!(read("blackhole 172.24.4.0/24"), Some(("172.24.4.0/24".into(), "a route".into())));
        assert_eq!(
            read("local 192.0.2.2 dev eth0 table local"),
            Some(("192.0.2.2/32".into(), "eth0".into()))
        );
    }

    #[test]
    fn a_range_in_use_is_passed_over() {
        let used = Used(vec![("172.24.4.128/25".parse().unwrap(), "x".into())]);
        let free = used.free(public_ranges(), "public", "").unwrap();
        assert_eq!(free.to_string(), "172.24.5.0/24");
        let all = Used(vec![("172.16.0.0/12".parse().unwrap(), "vpn0".into())]);
        assert!(matches!(all.free(public_ranges(), "public", ""), Err(EngineError::NoRange { .. })));
        let range = "172.24.9.0/24".parse().unwrap();
        assert_eq!(all.by(&range, &[]), Some("vpn0".into()));
        assert_eq!(all.by(&range, &["vpn0"]), None);
    }

    #[test]
    fn the_host_is_the_gateway() {
        let public = PublicNetwork::of("172.24.4.0/24".parse().unwrap());
        assert_eq!(public.gateway.to_string(), "172.24.4.1");
        assert_eq!(public.allocation.0.to_string(), "172.24.4.2");
        assert_eq!(public.allocation.1.to_string(), "172.24.4.254");
    }
}
