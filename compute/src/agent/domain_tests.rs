use super::*;
use crate::wire::Power;

fn machine() -> Machine {
    let auth = CephAuth { conf: "/d/ceph.conf".into(), user: "aquifer".into(), secret: "5ec4e7".into() };
    Machine {
        kvm: false,
        cpu: None,
        consoles: "/d/consoles".into(),
        bridge: "br-int".into(),
        offload: false,
        spare_ports: 2,
        ceph: [("ceph".to_owned(), auth)].into(),
    }
}

fn guest() -> Guest {
    Guest {
        id: "0a1b2c3d-0000-4000-8000-000000000001".into(),
        name: "a <b> & \"c\"".into(),
        generation: 3,
        incarnation: 2,
        power: Power::On,
        graceful: false,
        shutdown_secs: 60,
        vcpus: 2,
        memory_mib: 192,
        disks: vec![GuestDisk {
            device: "vda".into(),
            bus: "virtio".into(),
            serial: "vol-1".into(),
            cluster: "ceph".into(),
            pool: "vms".into(),
            image: "x_disk".into(),
            boot_order: Some(1),
            read_only: false,
            cdrom: false,
            encryption: None,
            limits: Default::default(),
            mirror: None,
            grown: None,
        }],
        nics: vec![GuestNic {
            port_id: "11111111-2222-3333-4444-555555555501".into(),
            network_id: "n".into(),
            mac: "fa:16:3e:00:00:01".into(),
            mtu: 1442,
        }],
    }
}

#[test]
fn a_domain_says_what_the_guest_is() {
    let xml = machine().domain(&guest()).unwrap();
    let el = El::parse(&xml).unwrap();
    assert_eq!(el.get("type"), Some("qemu"));
    assert_eq!(el.child("uuid").unwrap().text, guest().id);
    assert_eq!(mark(&el), Some(Mark { incarnation: 2, held: false }));
    let found = devices(&el);
    assert_eq!(found.disks["vol-1"], "vda");
    assert_eq!(found.nics["11111111-2222-3333-4444-555555555501"], "fa:16:3e:00:00:01");
    let disk = disk_element(&el, "vol-1").unwrap();
    let source = disk.child("source").unwrap();
    assert_eq!(source.get("name"), Some("vms/x_disk"));
    assert_eq!(disk.at(&["auth", "secret"]).unwrap().get("uuid"), Some("5ec4e7"));
    assert_eq!(disk.child("driver").unwrap().get("cache"), Some("writeback"));
    let nic = nic_element(&el, "11111111-2222-3333-4444-555555555501").unwrap();
    assert_eq!(nic.at(&["driver", "guest"]).unwrap().get("csum"), Some("off"));
    assert_eq!(nic.child("target").unwrap().get("dev"), Some("tap11111111-22"));
}

#[test]
fn a_name_from_outside_cannot_leave_its_element() {
    let mut g = guest();
    g.name = "</aquifer:name><inject/>".into();
    let el = El::parse(&machine().domain(&g).unwrap()).unwrap();
    let guest = &el.child("metadata").unwrap().children[0];
    assert_eq!(guest.children.len(), 1);
    assert_eq!(guest.children[0].text, g.name);
}

#[test]
fn an_unknown_cluster_is_refused() {
    let mut g = guest();
    g.disks[0].cluster = "other".into();
    assert!(machine().domain(&g).unwrap_err().contains("other"));
}

#[test]
fn others_domains_carry_no_mark() {
    let el =
        El::parse("<domain><metadata><x:guest xmlns:x='http://other' incarnation='1'/></metadata></domain>");
    assert_eq!(mark(&el.unwrap()), None);
}

#[test]
fn a_config_drive_is_a_cd() {
    let mut g = guest();
    let drive = GuestDisk {
        device: "sda".into(),
        bus: "sata".into(),
        serial: "config-drive".into(),
        image: "x_disk.config".into(),
        boot_order: None,
        read_only: true,
        cdrom: true,
        ..g.disks[0].clone()
    };
    g.disks.push(drive);
    let el = El::parse(&machine().domain(&g).unwrap()).unwrap();
    let cd = disk_element(&el, "config-drive").unwrap();
    assert_eq!(cd.get("device"), Some("cdrom"));
    assert_eq!(cd.child("target").unwrap().get("bus"), Some("sata"));
    assert!(cd.child("readonly").is_some() && cd.child("boot").is_none());
    assert_eq!(disk_element(&el, "vol-1").unwrap().get("device"), Some("disk"));
}

#[test]
fn a_sealed_disk_names_its_secret_and_a_limited_one_its_limits() {
    let mut g = guest();
    g.disks[0].encryption = Some("luks2".into());
    g.disks[0].limits = [("total_iops_sec".to_owned(), 100), ("read_bytes_sec".to_owned(), 1 << 20)].into();
    let el = El::parse(&machine().domain(&g).unwrap()).unwrap();
    let disk = disk_element(&el, "vol-1").unwrap();
    let sealed = disk.at(&["source", "encryption"]).unwrap();
    assert_eq!((sealed.get("format"), sealed.get("engine")), (Some("luks2"), Some("librbd")));
    let secret = sealed.child("secret").unwrap();
    assert_eq!(secret.get("uuid"), Some(super::super::secrets::of_volume("vol-1").as_str()));
    assert_eq!(disk.at(&["iotune", "total_iops_sec"]).unwrap().text, "100");
    assert_eq!(disk.at(&["iotune", "read_bytes_sec"]).unwrap().text, "1048576");
    assert!(
        disk_element(&El::parse(&machine().domain(&guest()).unwrap()).unwrap(), "vol-1")
            .unwrap()
            .child("iotune")
            .is_none()
    );
}
