//! The namespace of a network's door, made with iproute2: a veth pair from Open vSwitch's namespace into it.
//!
//! A veth, and not an internal port: it outlives a restart of vswitchd. Checksum offload is off on both ends,
//! because the user-space datapath hands on packets whose checksum nobody has filled in (a connection would hang).

use std::path::Path;

use serde_json::Value;
use tokio::process::Command;

use super::HostNetwork;
use crate::NetError;

const METADATA: &str = "169.254.169.254/32";

/// Where a door is.
pub(super) struct Place {
    pub name: String,
    /// The interface in Open vSwitch's namespace.
    pub outside: String,
    /// Whether the namespace was made just now, so that no socket can be in it.
    pub made: bool,
}

/// As upstream's metadata agent names it.
fn name(network: &str) -> String {
    format!("ovnmeta-{network}")
}

/// Interface names have 15 bytes: ten digits of the network's id tell them apart.
fn ends(network: &str) -> (String, String) {
    let digits: String = network.chars().filter(char::is_ascii_hexdigit).take(10).collect();
    (format!("mt{digits}0"), format!("mt{digits}1"))
}

/// Makes what is missing, and sets the addresses to exactly the port's.
pub(super) async fn ensure(switch_ns: Option<&str>, network: &HostNetwork) -> Result<Place, NetError> {
    let name = name(&network.network_id);
    let (outside, inside) = ends(&network.network_id);
    let made = !Path::new("/run/netns").join(&name).exists();
    if made {
        run("ip", &["netns", "add", &name]).await?;
    }
    run("ip", &["-n", &name, "link", "set", "lo", "up"]).await?;
    if addresses(&name, &inside).await.is_err() {
        let mut add = at(switch_ns);
        add.extend(["link", "add", &outside, "type", "veth", "peer", "name", &inside, "netns", &name]);
        run("ip", &add).await?;
    }
    let set = |rest: &[&'static str]| {
        let mut args = at(switch_ns).into_iter().map(str::to_owned).collect::<Vec<_>>();
        args.extend(["link".into(), "set".into(), outside.clone()]);
        args.extend(rest.iter().map(|s| (*s).to_owned()));
        args
    };
    run("ip", &set(&["up"]).iter().map(String::as_str).collect::<Vec<_>>()).await?;
    offload_off(switch_ns, &outside).await?;
    offload_off(Some(&name), &inside).await?;
    let mtu = if network.mtu > 0 { network.mtu } else { 1500 }.to_string();
    run("ip", &["-n", &name, "link", "set", &inside, "address", &network.mac, "mtu", &mtu, "up"]).await?;
    let have = addresses(&name, &inside).await?;
    let mut want: Vec<String> =
        network.addresses.iter().filter(|a| a.addr().is_ipv4()).map(ToString::to_string).collect();
    want.push(METADATA.to_owned());
    for address in want.iter().filter(|a| !have.contains(a)) {
        run("ip", &["-n", &name, "addr", "add", address, "dev", &inside]).await?;
    }
    for address in have.iter().filter(|a| !want.contains(a)) {
        run("ip", &["-n", &name, "addr", "del", address, "dev", &inside]).await?;
    }
    Ok(Place { name, outside, made })
}

/// Removes a namespace with its interface.
pub(super) async fn remove(switch_ns: Option<&str>, network: &str) -> Result<(), NetError> {
    let name = name(network);
    let (outside, _) = ends(network);
    let mut show = at(switch_ns);
    show.extend(["link", "show", &outside]);
    if run("ip", &show).await.is_ok() {
        let mut delete = at(switch_ns);
        delete.extend(["link", "del", &outside]);
        run("ip", &delete).await?;
    }
    if Path::new("/run/netns").join(&name).exists() {
        run("ip", &["netns", "del", &name]).await?;
    }
    Ok(())
}

fn at(namespace: Option<&str>) -> Vec<&str> {
    namespace.map(|ns| vec!["-n", ns]).unwrap_or_default()
}

async fn offload_off(namespace: Option<&str>, device: &str) -> Result<(), NetError> {
    let ethtool = ["ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off", "gro", "off"];
    match namespace {
        Some(ns) => run("ip", &[&["netns", "exec", ns][..], &ethtool].concat()).await.map(drop),
        None => run("ethtool", &ethtool[1..]).await.map(drop),
    }
}

/// The IPv4 addresses of an interface, with prefix.
async fn addresses(namespace: &str, device: &str) -> Result<Vec<String>, NetError> {
    let text = run("ip", &["-n", namespace, "-j", "-4", "addr", "show", "dev", device]).await?;
    let json: Value = serde_json::from_str(&text)
        .map_err(|error| NetError::Command { command: "ip addr".into(), output: error.to_string() })?;
    let infos =
        json.as_array().into_iter().flatten().filter_map(|d| d.get("addr_info")?.as_array()).flatten();
    Ok(infos
        .filter_map(|info| Some(format!("{}/{}", info.get("local")?.as_str()?, info.get("prefixlen")?)))
        .collect())
}

/// Runs a command to its end; its output, or an error that names it.
async fn run(program: &str, args: &[&str]) -> Result<String, NetError> {
    let done = Command::new(program)
        .args(args)
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| NetError::Io { what: program.to_owned(), source })?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let output = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(NetError::Command { command: format!("{program} {}", args.join(" ")), output })
}
