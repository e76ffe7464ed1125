use super::super::domain::{self, CephAuth, Machine};
use super::super::plan::{Memory, plan};
use super::super::xml::El;
use super::*;
use crate::wire::{MirrorTo, Power};
use std::sync::Arc;
use std::time::Instant;

fn machine() -> Machine {
    let auth = |conf: &str| CephAuth { conf: conf.into(), user: "vms".into(), secret: "s".into() };
    Machine {
        kvm: false,
        cpu: None,
        consoles: "/c".into(),
        bridge: "br-int".into(),
        offload: false,
        spare_ports: 0,
        ceph: [("ceph".into(), auth("/etc/a.conf")), ("far".into(), auth("/etc/b.conf"))].into(),
    }
}

/// A guest whose one disk is to go from `volumes` to `fast`, or with `pivot` is told to.
fn guest(power: Power, mirror: Option<bool>) -> Guest {
    let disk = GuestDisk {
        device: "vda".into(),
        bus: "virtio".into(),
        serial: "v".into(),
        cluster: "ceph".into(),
        pool: "volumes".into(),
        image: "volume-v".into(),
        boot_order: None,
        read_only: false,
        cdrom: false,
        encryption: None,
        limits: Default::default(),
        mirror: mirror.map(|pivot| MirrorTo {
            cluster: "ceph".into(),
            pool: "fast".into(),
            image: "volume-v".into(),
            pivot,
        }),
        grown: None,
    };
    Guest {
        id: "g".into(),
        name: "g".into(),
        generation: 3,
        incarnation: 1,
        power,
        graceful: false,
        shutdown_secs: 60,
        vcpus: 1,
        memory_mib: 64,
        disks: vec![disk],
        nics: vec![],
    }
}

/// A running guest with its disk in a pool, and a copy to another one at some stage.
fn found(conf: &str, pool: &str, copy: Option<(&str, &str)>) -> Found {
    let source = |pool: &str| {
        format!("<source protocol='rbd' name='{pool}/volume-v' index='1'><config file='{conf}'/></source>")
    };
    let copy = copy.map(|(pool, ready)| {
        let ready = if ready.is_empty() { String::new() } else { format!(" ready='{ready}'") };
        format!("<mirror type='network' job='copy'{ready}><format type='raw'/>{}</mirror>", source(pool))
    });
    let xml = format!(
        "<domain><metadata><a:guest xmlns:a='{}' incarnation='1' held='no'/></metadata><devices><disk type='network'>{}\
         {}<target dev='vda'/><serial>v</serial></disk></devices></domain>",
        domain::NAMESPACE,
        source(pool),
        copy.unwrap_or_default()
    );
    let xml = El::parse(&xml).unwrap();
    Found {
        id: "g".into(),
        power: PowerState::Running,
        off: None,
        mark: domain::mark(&xml).unwrap(),
        saved: false,
        devices: domain::devices(&xml),
        xml: Arc::new(xml),
    }
}

fn next_of(want: &Guest, found: Option<&Found>) -> (Step, Option<MirrorState>) {
    let stands = stands(&machine(), want, found);
    let told = told(want, &stands, &[("v".to_owned(), 42)].into());
    let step = plan(want, found, &stands, &Memory::default(), Instant::now());
    (step, told.get("v").map(|m| m.state))
}

const A: &str = "/etc/a.conf";

#[test]
fn a_disk_is_copied_and_stays_until_it_is_told_to_pivot() {
    let want = guest(Power::On, Some(false));
    let at = |copy| found(A, "volumes", copy);
    assert_eq!(
        next_of(&want, Some(&at(None))),
        (Step::Copy(Box::new(want.disks[0].clone())), Some(MirrorState::Copying(0)))
    );
    assert_eq!(
        next_of(&want, Some(&at(Some(("fast", ""))))),
        (Step::Done, Some(MirrorState::Copying(42))),
        "a copy under way keeps nothing else from being applied"
    );
    let ready = at(Some(("fast", "yes")));
    assert_eq!(next_of(&want, Some(&ready)), (Step::Done, Some(MirrorState::Ready)));
    let told = guest(Power::On, Some(true));
    assert_eq!(next_of(&told, Some(&ready)), (Step::Pivot("v".into()), Some(MirrorState::Ready)));
    let ending = at(Some(("fast", "pivot")));
    assert_eq!(next_of(&told, Some(&ending)), (Step::Wait, Some(MirrorState::Copying(0))));
    let moved = found(A, "fast", None);
    assert_eq!(next_of(&told, Some(&moved)), (Step::Done, Some(MirrorState::Moved)));
    assert_eq!(
        next_of(&told, Some(&found("/etc/b.conf", "fast", None))),
        (Step::Wait, Some(MirrorState::Lost)),
        "the same name in another cluster"
    );
}

#[test]
fn a_paused_guest_is_copied_too() {
    let want = guest(Power::Paused, Some(false));
    let mut paused = found(A, "volumes", None);
    assert_eq!(next_of(&want, Some(&paused)).0, Step::Pause);
    paused.power = PowerState::Paused;
    assert_eq!(next_of(&want, Some(&paused)).0, Step::Copy(Box::new(want.disks[0].clone())));
    paused.devices = found(A, "volumes", Some(("fast", "yes"))).devices;
    assert_eq!(next_of(&want, Some(&paused)), (Step::Done, Some(MirrorState::Ready)));
}

#[test]
fn a_copy_that_nobody_wants_ends() {
    let copied = found(A, "volumes", Some(("fast", "yes")));
    assert_eq!(next_of(&guest(Power::On, None), Some(&copied)), (Step::EndCopy("v".into()), None));
    let astray = found(A, "volumes", Some(("slow", "")));
    let want = guest(Power::On, Some(false));
    assert_eq!(next_of(&want, Some(&astray)).0, Step::EndCopy("v".into()));
    // What libvirt refuses while a disk is copied.
    assert_eq!(next_of(&guest(Power::Suspended, Some(false)), Some(&copied)).0, Step::EndCopy("v".into()));
    let mut bare = want.clone();
    bare.disks.clear();
    assert_eq!(next_of(&bare, Some(&copied)).0, Step::EndCopy("v".into()));
    assert_eq!(next_of(&bare, Some(&found(A, "volumes", None))).0, Step::DetachDisk("v".into()));
}

#[test]
fn a_guest_that_is_to_pivot_does_before_anything_else() {
    let ready = found(A, "volumes", Some(("fast", "yes")));
    for power in [Power::Off, Power::Gone, Power::Suspended, Power::Paused] {
        assert_eq!(next_of(&guest(power, Some(true)), Some(&ready)).0, Step::Pivot("v".into()), "{power:?}");
    }
    let lost = found(A, "volumes", None);
    assert_eq!(next_of(&guest(Power::Off, Some(true)), Some(&lost)), (Step::Wait, Some(MirrorState::Lost)));
    let moved = found(A, "fast", None);
    assert_eq!(
        next_of(&guest(Power::Off, Some(true)), Some(&moved)),
        (Step::Destroy, Some(MirrorState::Moved))
    );
}

#[test]
fn nobody_boots_from_a_disk_that_may_be_elsewhere() {
    assert_eq!(next_of(&guest(Power::On, Some(true)), None), (Step::Wait, Some(MirrorState::Off)));
    assert_eq!(next_of(&guest(Power::On, Some(false)), None), (Step::Start, Some(MirrorState::Off)));
    let mut saved = found(A, "volumes", None);
    saved.power = PowerState::Suspended;
    assert_eq!(next_of(&guest(Power::On, Some(true)), Some(&saved)), (Step::Wait, Some(MirrorState::Off)));
    assert_eq!(next_of(&guest(Power::Gone, Some(true)), None), (Step::Done, Some(MirrorState::Off)));
}
