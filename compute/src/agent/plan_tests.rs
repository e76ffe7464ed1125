use super::super::domain::{Devices, Mark};
use super::super::xml::El;
use super::*;
use crate::wire::{GuestDisk, GuestNic};
use std::sync::Arc;

fn disk(serial: &str, device: &str) -> GuestDisk {
    GuestDisk {
        device: device.into(),
        bus: "virtio".into(),
        serial: serial.into(),
        cluster: "ceph".into(),
        pool: "vms".into(),
        image: serial.into(),
        boot_order: None,
        read_only: false,
        cdrom: false,
        encryption: None,
        limits: Default::default(),
        mirror: None,
        grown: None,
    }
}

fn guest(power: Power, incarnation: i64, graceful: bool) -> Guest {
    Guest {
        id: "a".into(),
        name: "a".into(),
        generation: 7,
        incarnation,
        power,
        graceful,
        shutdown_secs: 60,
        vcpus: 1,
        memory_mib: 192,
        disks: vec![disk("root", "vda")],
        nics: vec![GuestNic { port_id: "p".into(), network_id: "n".into(), mac: "m".into(), mtu: 1442 }],
    }
}

fn found(power: PowerState, off: Option<WhyOff>, incarnation: i64) -> Found {
    let mut devices = Devices::default();
    devices.disks.insert("root".into(), "vda".into());
    devices.nics.insert("p".into(), "m".into());
    Found {
        id: "a".into(),
        power,
        off,
        mark: Mark { incarnation, held: false },
        saved: false,
        devices,
        xml: Arc::new(El::default()),
    }
}

fn next(want: &Guest, found: Option<&Found>) -> Step {
    plan(want, found, &Stands::default(), &Memory::default(), Instant::now())
}

#[test]
fn a_guest_is_started_once() {
    let want = guest(Power::On, 1, false);
    assert_eq!(next(&want, None), Step::Start);
    assert_eq!(next(&want, Some(&found(PowerState::Running, None, 1))), Step::Done);
    let by_itself = found(PowerState::Shutdown, Some(WhyOff::Shutdown), 1);
    assert_eq!(next(&want, Some(&by_itself)), Step::Done, "what switched itself off stays off");
    let crashed = found(PowerState::Crashed, Some(WhyOff::Crashed), 1);
    assert_eq!(next(&want, Some(&crashed)), Step::Done);
}

#[test]
fn what_the_host_lost_comes_back() {
    let want = guest(Power::On, 1, false);
    for why in [WhyOff::Lost, WhyOff::Failed] {
        assert_eq!(next(&want, Some(&found(PowerState::Shutdown, Some(why), 1))), Step::Start);
    }
    let mut held = found(PowerState::Shutdown, Some(WhyOff::Shutdown), 1);
    held.mark.held = true;
    assert_eq!(next(&want, Some(&held)), Step::Start);
}

#[test]
fn a_new_incarnation_restarts() {
    let old = found(PowerState::Running, None, 1);
    assert_eq!(next(&guest(Power::On, 2, false), Some(&old)), Step::Destroy);
    assert_eq!(next(&guest(Power::On, 2, true), Some(&old)), Step::PressPower);
    let down = found(PowerState::Shutdown, Some(WhyOff::Destroyed), 1);
    assert_eq!(next(&guest(Power::On, 2, false), Some(&down)), Step::Start);
}

#[test]
fn a_deaf_guest_is_switched_off_in_the_end() {
    let want = guest(Power::Off, 1, true);
    let on = found(PowerState::Running, None, 1);
    let now = Instant::now();
    let asked = |first: u64, last: u64| Memory {
        asked: Some(Asked {
            generation: 7,
            first: now - Duration::from_secs(first),
            last: now - Duration::from_secs(last),
        }),
        ..Memory::default()
    };
    assert_eq!(plan(&want, Some(&on), &Stands::default(), &Memory::default(), now), Step::PressPower);
    assert_eq!(plan(&want, Some(&on), &Stands::default(), &asked(1, 1), now), Step::Wait);
    assert_eq!(plan(&want, Some(&on), &Stands::default(), &asked(30, 11), now), Step::PressPower);
    assert_eq!(plan(&want, Some(&on), &Stands::default(), &asked(61, 1), now), Step::Destroy);
    assert_eq!(next(&want, None), Step::Done);
}

#[test]
fn devices_follow() {
    let mut want = guest(Power::On, 1, false);
    let have = found(PowerState::Running, None, 1);
    want.disks.push(disk("v", "vdb"));
    assert_eq!(next(&want, Some(&have)), Step::AttachDisk(Box::new(disk("v", "vdb"))));
    let mut more = have.clone();
    more.devices.disks.insert("old".into(), "vdb".into());
    assert_eq!(next(&want, Some(&more)), Step::DetachDisk("old".into()));
    let memory = Memory { detaching: [("old".to_owned(), Instant::now())].into(), ..Memory::default() };
    assert_eq!(
        plan(&want, Some(&more), &Stands::default(), &memory, Instant::now()),
        Step::Wait,
        "its name is still taken"
    );
    want.disks.pop();
    want.nics.clear();
    assert_eq!(next(&want, Some(&have)), Step::DetachNic("p".into()));
}

#[test]
fn gone_paused_and_suspended() {
    let on = found(PowerState::Running, None, 1);
    assert_eq!(next(&guest(Power::Gone, 1, false), Some(&on)), Step::Remove);
    assert_eq!(next(&guest(Power::Gone, 1, false), None), Step::Done);
    assert_eq!(next(&guest(Power::Paused, 1, false), Some(&on)), Step::Pause);
    assert_eq!(next(&guest(Power::Suspended, 1, false), Some(&on)), Step::Save);
    let paused = found(PowerState::Paused, None, 1);
    assert_eq!(next(&guest(Power::On, 1, false), Some(&paused)), Step::Resume);
    let saved = found(PowerState::Suspended, Some(WhyOff::Saved), 1);
    assert_eq!(next(&guest(Power::On, 1, false), Some(&saved)), Step::Start);
    assert_eq!(next(&guest(Power::On, 2, false), Some(&saved)), Step::DropSaved);
}

#[test]
fn a_failure_waits_before_it_is_tried_again() {
    let want = guest(Power::On, 1, false);
    let failure = |generation: i64| Memory {
        failure: Some(Failure {
            generation,
            times: 1,
            again: Instant::now() + Duration::from_secs(9),
            message: String::new(),
            device: None,
        }),
        ..Memory::default()
    };
    assert_eq!(plan(&want, None, &Stands::default(), &failure(7), Instant::now()), Step::Wait);
    assert_eq!(
        plan(&want, None, &Stands::default(), &failure(6), Instant::now()),
        Step::Start,
        "what failed is not wanted any more"
    );
}

#[test]
fn a_guest_is_shown_once_that_a_disk_has_grown() {
    let mut want = guest(Power::On, 1, false);
    want.disks[0].grown = Some(2 << 30);
    let grow = Step::Grow(Box::new(want.disks[0].clone()));
    let mut memory = Memory::default();
    let next = |want: &Guest, power, memory: &Memory| {
        let off = (power == PowerState::Shutdown).then_some(WhyOff::Shutdown);
        plan(want, Some(&found(power, off, 1)), &Stands::default(), memory, Instant::now())
    };
    assert_eq!(next(&want, PowerState::Running, &memory), grow);
    assert_eq!(next(&want, PowerState::Shutdown, &memory), Step::Done, "it sees that when it starts");
    want.power = Power::Paused;
    assert_eq!(next(&want, PowerState::Paused, &memory), grow);
    want.power = Power::On;

    let tried =
        |memory: &mut Memory, bytes, done| memory.grown.entry("root".into()).or_default().tried(bytes, done);
    assert!(growth::told(&want, &memory).is_empty());
    tried(&mut memory, 2 << 30, Ok::<_, &str>(())).unwrap();
    assert_eq!(next(&want, PowerState::Running, &memory), Step::Done);
    assert_eq!(growth::told(&want, &memory)["root"].error, None);

    // More of it, which fails for good the third time.
    want.disks[0].grown = Some(3 << 30);
    for _ in 0..2 {
        assert!(matches!(next(&want, PowerState::Running, &memory), Step::Grow(_)));
        tried(&mut memory, 3 << 30, Err("why")).unwrap_err();
        assert!(growth::told(&want, &memory).is_empty());
    }
    tried(&mut memory, 3 << 30, Err("why")).unwrap();
    assert_eq!(next(&want, PowerState::Running, &memory), Step::Done, "nothing else waits for it");
    assert_eq!(growth::told(&want, &memory)["root"].error.as_deref(), Some("why"));
}
