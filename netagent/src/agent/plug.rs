//! What a hypervisor must know to plug a guest in: libvirt makes the tap and adds it to the integration
//! bridge with the port's id; OVN does the rest.

/// A guest's interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestInterface {
    pub bridge: String,
    /// The OVN port, as the interface's `iface-id`.
    pub port_id: String,
    pub mac: String,
    pub mtu: u32,
    /// The datapath fills in no checksums: guest and host must not leave any open.
    pub userspace_datapath: bool,
}

impl GuestInterface {
    /// The name of the tap: `tap` and the first eleven characters of the port's id, as upstream has it.
    pub fn tap(&self) -> String {
        let head: String = self.port_id.chars().take(11).collect();
        format!("tap{head}")
    }

    /// The element of a libvirt domain. Every value is an id, a MAC or a number, so nothing needs escaping;
    /// what is neither is left out.
    pub fn libvirt_xml(&self) -> String {
        let plain = |text: &str| -> String {
            text.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.:".contains(*c)).collect()
        };
        let offloads = if self.userspace_datapath {
            "<driver><host csum='off' gso='off' tso4='off' tso6='off' ecn='off' ufo='off' mrg_rxbuf='off'/>\
             <guest csum='off' tso4='off' tso6='off' ecn='off' ufo='off'/></driver>"
        } else {
            ""
        };
        format!(
            "<interface type='bridge'><source bridge='{}'/><virtualport type='openvswitch'>\
             <parameters interfaceid='{}'/></virtualport><mac address='{}'/><model type='virtio'/>\
             <mtu size='{}'/><target dev='{}'/>{offloads}</interface>",
            plain(&self.bridge),
            plain(&self.port_id),
            plain(&self.mac),
            self.mtu,
            plain(&self.tap()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offloads_are_off_where_the_datapath_needs_it() {
        let mut interface = GuestInterface {
            bridge: "br-int".into(),
            port_id: "11111111-2222-3333-4444-555555555501".into(),
            mac: "fa:16:3e:00:00:01".into(),
            mtu: 1442,
            userspace_datapath: true,
        };
        assert_eq!(interface.tap(), "tap11111111-22");
        let xml = interface.libvirt_xml();
        assert!(
            xml.contains("csum='off'") && xml.contains("interfaceid='11111111-2222-3333-4444-555555555501'")
        );
        interface.userspace_datapath = false;
        assert!(!interface.libvirt_xml().contains("csum"));
    }
}
