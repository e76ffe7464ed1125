//! A guest as libvirt describes it: the XML a guest is started from, and what a running one's XML says.
//!
//! A domain carries an element of ours in its metadata, so that the host itself knows which guests are the
//! cloud's, which boot of the server each is, and which were put down by a clean stop and are to come back.

use super::xml::El;
use crate::wire::{Guest, GuestDisk, GuestNic, MirrorTo};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

pub(crate) const NAMESPACE: &str = "https://aquifer.cloud/xmlns/guest/1";
const PREFIX: &str = "aquifer";

/// What is the same for every guest of a host.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) kvm: bool,
    pub(crate) cpu: Option<String>,
    pub(crate) consoles: PathBuf,
    pub(crate) bridge: String,
    /// Checksum offload breaks TCP where the bridge is served in user space.
    pub(crate) offload: bool,
    pub(crate) spare_ports: u32,
    pub(crate) ceph: HashMap<String, CephAuth>,
}

/// How QEMU reaches one cluster.
#[derive(Debug, Clone)]
pub(crate) struct CephAuth {
    pub(crate) conf: PathBuf,
    pub(crate) user: String,
    /// libvirt's secret that holds the key.
    pub(crate) secret: String,
}

impl CephAuth {
    fn element(&self) -> El {
        let secret = [("type", "ceph"), ("uuid", self.secret.as_str())];
        El::new("auth").attr("username", &self.user).leaf("secret", &secret)
    }
}

/// Our element in a domain's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) incarnation: i64,
    /// Put down by a clean stop of the cloud; to be started again.
    pub(crate) held: bool,
}

impl Mark {
    pub(crate) fn render(&self) -> String {
        self.element("guest").render()
    }

    fn element(&self, name: &str) -> El {
        let held = if self.held { "yes" } else { "no" };
        El::new(name).attr("incarnation", self.incarnation).attr("held", held)
    }

    fn parse(el: &El) -> Option<Mark> {
        let incarnation = el.get("incarnation")?.parse().ok()?;
        Some(Mark { incarnation, held: el.get("held") == Some("yes") })
    }
}

/// What a domain's XML says of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Devices {
    /// Device name by serial.
    pub(crate) disks: BTreeMap<String, String>,
    /// MAC by port id.
    pub(crate) nics: BTreeMap<String, String>,
    /// Which image each disk is, by serial.
    pub(crate) sources: BTreeMap<String, Source>,
    /// The copies under way, by serial.
    pub(crate) copies: BTreeMap<String, Copying>,
}

/// An image as libvirt names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// The cluster's `ceph.conf`.
    pub(crate) conf: String,
    /// `pool/image`
    pub(crate) name: String,
}

impl Source {
    /// From a `<disk>` or a `<mirror>`.
    fn of(el: &El) -> Option<Source> {
        let source = el.child("source")?;
        let conf = source.child("config").and_then(|c| c.get("file")).unwrap_or_default();
        Some(Source { conf: conf.to_owned(), name: source.get("name")?.to_owned() })
    }
}

/// A copy of a disk that QEMU keeps up with what the guest writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copying {
    pub(crate) to: Option<Source>,
    /// libvirt's word for how far it is: none yet, `yes`, or what it is ending by.
    pub(crate) ready: Option<String>,
}

impl Machine {
    /// The file that a guest's serial console is kept in.
    pub(crate) fn console(&self, guest: &str) -> PathBuf {
        self.consoles.join(format!("{guest}.log"))
    }

    /// The domain to define. `None` names a cluster that this host does not know.
    pub(crate) fn domain(&self, g: &Guest) -> Result<String, String> {
        let disks = g.disks.iter().map(|d| self.disk(d)).collect::<Result<Vec<_>, _>>()?;
        let mark = Mark { incarnation: g.incarnation, held: false }.element(&format!("{PREFIX}:guest"));
        let mark = mark
            .attr(&format!("xmlns:{PREFIX}"), NAMESPACE)
            .with(El::new(&format!("{PREFIX}:name")).text(&g.name));
        let domain = El::new("domain")
            .attr("type", if self.kvm { "kvm" } else { "qemu" })
            .with(El::new("name").text(format!("instance-{}", g.id)))
            .with(El::new("uuid").text(&g.id))
            .with(El::new("metadata").with(mark))
            .with(El::new("memory").attr("unit", "MiB").text(g.memory_mib))
            .with(El::new("vcpu").text(g.vcpus))
            .with(sysinfo(g))
            .with(
                El::new("os")
                    .with(El::new("type").attr("arch", "x86_64").attr("machine", "q35").text("hvm"))
                    .leaf("smbios", &[("mode", "sysinfo")]),
            )
            .with(El::new("features").with(El::new("acpi")).with(El::new("apic")))
            .with(self.cpu(g))
            .with(self.clock())
            .with(El::new("on_poweroff").text("destroy"))
            .with(El::new("on_reboot").text("restart"))
            .with(El::new("on_crash").text("destroy"))
            .with(self.devices(g, disks));
        Ok(domain.render())
    }

    fn cpu(&self, g: &Guest) -> El {
        let name = self.cpu.as_deref().unwrap_or(if self.kvm { "host-passthrough" } else { "maximum" });
        let cpu = match name {
            "host-passthrough" | "host-model" | "maximum" => El::new("cpu").attr("mode", name),
            model => El::new("cpu").attr("mode", "custom").with(El::new("model").text(model)),
        };
        let sockets = g.vcpus.max(1).to_string();
        cpu.leaf("topology", &[("sockets", &sockets), ("cores", "1"), ("threads", "1")])
    }

    fn clock(&self) -> El {
        let clock = El::new("clock").attr("offset", "utc");
        if !self.kvm {
            return clock;
        }
        clock
            .leaf("timer", &[("name", "pit"), ("tickpolicy", "delay")])
            .leaf("timer", &[("name", "rtc"), ("tickpolicy", "catchup")])
            .leaf("timer", &[("name", "hpet"), ("present", "no")])
    }

    fn devices(&self, g: &Guest, disks: Vec<El>) -> El {
        let console = self.console(&g.id).display().to_string();
        let log = El::new("log").attr("file", console).attr("append", "off");
        El::new("devices")
            .with(El::new("emulator").text("/usr/bin/qemu-system-x86_64"))
            .with(El::new("controller").attr("type", "usb").attr("model", "none"))
            .leaf("controller", &[("type", "pci"), ("index", "0"), ("model", "pcie-root")])
            .with_all(
                (0..self.spare_ports)
                    .map(|_| El::new("controller").attr("type", "pci").attr("model", "pcie-root-port")),
            )
            .with_all(disks)
            .with_all(g.nics.iter().map(|n| self.nic(n)))
            .with(El::new("serial").attr("type", "pty").with(log).leaf("target", &[("port", "0")]))
            .with(El::new("console").attr("type", "pty").leaf("target", &[("type", "serial"), ("port", "0")]))
            .with(
                El::new("channel")
                    .attr("type", "unix")
                    .leaf("target", &[("type", "virtio"), ("name", "org.qemu.guest_agent.0")]),
            )
            .with(
                El::new("graphics")
                    .attr("type", "vnc")
                    .attr("port", "-1")
                    .attr("autoport", "yes")
                    .attr("listen", "127.0.0.1"),
            )
            .with(El::new("video").leaf("model", &[("type", "vga")]))
            .with(
                El::new("rng")
                    .attr("model", "virtio")
                    .with(El::new("backend").attr("model", "random").text("/dev/urandom")),
            )
            .with(El::new("memballoon").attr("model", "virtio").leaf("stats", &[("period", "10")]))
    }

    /// How libvirt names an image; nothing where this host does not know the cluster.
    pub(crate) fn source(&self, cluster: &str, pool: &str, image: &str) -> Option<Source> {
        let conf = self.ceph.get(cluster)?.conf.display().to_string();
        Some(Source { conf, name: format!("{pool}/{image}") })
    }

    /// The element of an image that a disk is to be copied to.
    pub(crate) fn copy(&self, to: &MirrorTo) -> Result<El, String> {
        let auth = self.auth(&to.cluster)?;
        let source = El::new("source")
            .attr("protocol", "rbd")
            .attr("name", format!("{}/{}", to.pool, to.image))
            .with(auth.element())
            .with(El::new("config").attr("file", auth.conf.display()));
        let driver = [("name", "qemu"), ("type", "raw")];
        let disk = El::new("disk").attr("type", "network").attr("device", "disk");
        Ok(disk.leaf("driver", &driver).with(source))
    }

    fn auth(&self, cluster: &str) -> Result<&CephAuth, String> {
        let unknown = || format!("this host does not know the storage cluster {cluster:?}");
        self.ceph.get(cluster).ok_or_else(unknown)
    }

    /// A disk's element, also for attaching it to a running guest.
    pub(crate) fn disk(&self, d: &GuestDisk) -> Result<El, String> {
        let auth = self.auth(&d.cluster)?;
        let source = El::new("source")
            .attr("protocol", "rbd")
            .attr("name", format!("{}/{}", d.pool, d.image))
            .with(El::new("config").attr("file", auth.conf.display()));
        let source = match &d.encryption {
            Some(format) => source.with(sealed(format, &d.serial)),
            None => source,
        };
        let disk = El::new("disk")
            .attr("type", "network")
            .attr("device", if d.cdrom { "cdrom" } else { "disk" })
            .leaf(
                "driver",
                &[("name", "qemu"), ("type", "raw"), ("cache", "writeback"), ("discard", "unmap")],
            )
            .with(auth.element())
            .with(source)
            .leaf("target", &[("dev", &d.device), ("bus", &d.bus)])
            .with(El::new("serial").text(&d.serial));
        let disk = if d.limits.is_empty() {
            disk
        } else {
            let limits = d.limits.iter().map(|(name, value)| El::new(name).text(value));
            disk.with(El::new("iotune").with_all(limits))
        };
        let disk = match d.boot_order {
            Some(n) => disk.with(El::new("boot").attr("order", n)),
            None => disk,
        };
        Ok(if d.read_only { disk.with(El::new("readonly")) } else { disk })
    }

    /// An interface's element, also for attaching it to a running guest.
    pub(crate) fn nic(&self, n: &GuestNic) -> El {
        let el = El::new("interface")
            .attr("type", "bridge")
            .leaf("source", &[("bridge", &self.bridge)])
            .with(
                El::new("virtualport")
                    .attr("type", "openvswitch")
                    .leaf("parameters", &[("interfaceid", &n.port_id)]),
            )
            .leaf("mac", &[("address", &n.mac)])
            .leaf("model", &[("type", "virtio")])
            .leaf("mtu", &[("size", &n.mtu.to_string())])
            // Servers boot from disks; firmware need not look for more to boot.
            .leaf("rom", &[("enabled", "no")])
            .leaf("target", &[("dev", &tap(&n.port_id))]);
        if self.offload {
            return el;
        }
        let off = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), "off".to_owned())).collect();
        let host =
            El { attrs: off(&["csum", "gso", "tso4", "tso6", "ecn", "ufo", "mrg_rxbuf"]), ..El::new("host") };
        let guest = El { attrs: off(&["csum", "tso4", "tso6", "ecn", "ufo"]), ..El::new("guest") };
        el.with(El::new("driver").with(host).with(guest))
    }
}

/// How QEMU opens a container. LUKS2 only librbd can open; libvirt 9.0 gives librbd the passphrase when a guest starts, not
/// when a disk comes to a running one, so QEMU itself opens LUKS, which it can both times.
fn sealed(format: &str, volume: &str) -> El {
    let secret = super::secrets::of_volume(volume);
    let el = El::new("encryption").attr("format", format);
    let el = if format == "luks2" { el.attr("engine", "librbd") } else { el };
    el.leaf("secret", &[("type", "passphrase"), ("uuid", &secret)])
}

fn sysinfo(g: &Guest) -> El {
    let entry = |name: &str, value: &str| El::new("entry").attr("name", name).text(value);
    El::new("sysinfo").attr("type", "smbios").with(
        El::new("system")
            .with(entry("manufacturer", "OpenStack Foundation"))
            .with(entry("product", "OpenStack Nova"))
            .with(entry("version", env!("CARGO_PKG_VERSION")))
            .with(entry("serial", &g.id))
            .with(entry("uuid", &g.id))
            .with(entry("family", "Virtual Machine")),
    )
}

/// The name of a port's tap device; Linux allows 15 bytes.
pub(crate) fn tap(port: &str) -> String {
    format!("tap{}", port.chars().take(11).collect::<String>())
}

/// Our mark on a domain; `None` for a domain that is not the cloud's.
pub(crate) fn mark(domain: &El) -> Option<Mark> {
    let metadata = domain.child("metadata")?;
    let ours = |e: &&El| {
        e.name.ends_with(":guest") && e.attrs.iter().any(|(k, v)| k.starts_with("xmlns:") && v == NAMESPACE)
    };
    Mark::parse(metadata.children.iter().find(ours)?)
}

pub(crate) fn devices(domain: &El) -> Devices {
    let mut found = Devices::default();
    for el in domain.child("devices").map(|d| d.children.as_slice()).unwrap_or_default() {
        match el.name.as_str() {
            "disk" => {
                let target = el.child("target").and_then(|t| t.get("dev"));
                if let (Some(serial), Some(dev)) = (el.child("serial"), target) {
                    found.disks.insert(serial.text.clone(), dev.to_owned());
                    if let Some(source) = Source::of(el) {
                        found.sources.insert(serial.text.clone(), source);
                    }
                    if let Some(copy) = el.child("mirror") {
                        let ready = copy.get("ready").map(str::to_owned);
                        let copying = Copying { to: Source::of(copy), ready };
                        found.copies.insert(serial.text.clone(), copying);
                    }
                }
            }
            "interface" => {
                let port = el.at(&["virtualport", "parameters"]).and_then(|p| p.get("interfaceid"));
                let mac = el.child("mac").and_then(|m| m.get("address"));
                if let (Some(port), Some(mac)) = (port, mac) {
                    found.nics.insert(port.to_owned(), mac.to_owned());
                }
            }
            _ => {}
        }
    }
    found
}

/// The element of a device in a domain's XML, as detaching it needs it.
pub(crate) fn disk_element<'a>(domain: &'a El, serial: &str) -> Option<&'a El> {
    let disks = domain.child("devices")?.children.iter().filter(|e| e.name == "disk");
    disks.into_iter().find(|e| e.child("serial").is_some_and(|s| s.text == serial))
}

pub(crate) fn nic_element<'a>(domain: &'a El, port: &str) -> Option<&'a El> {
    let nics = domain.child("devices")?.children.iter().filter(|e| e.name == "interface");
    let is = |e: &&El| {
        e.at(&["virtualport", "parameters"]).and_then(|p| p.get("interfaceid")).is_some_and(|i| i == port)
    };
    nics.into_iter().find(is)
}

#[cfg(test)]
#[path = "domain_tests.rs"]
mod tests;
