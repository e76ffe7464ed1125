use super::*;
use crate::model::*;

pub(crate) fn server() -> Server {
    let now = Timestamp(0);
    Server {
        id: "s".into(),
        project_id: "p".into(),
        user_id: "u".into(),
        name: "s".into(),
        description: None,
        hostname: "s".into(),
        image_id: "i".into(),
        flavor: Flavor {
            id: "42".into(),
            name: "m1.nano".into(),
            description: None,
            vcpus: 1,
            ram_mib: 192,
            disk_gib: 1,
            ephemeral_gib: 0,
            swap_mib: 0,
            rxtx_factor: 1.0,
            is_public: true,
            disabled: false,
            extra_specs: Default::default(),
            access: Default::default(),
            created_at: now,
            updated_at: None,
        },
        key_name: None,
        public_key: None,
        metadata: Default::default(),
        tags: Default::default(),
        system_metadata: Default::default(),
        vm_state: VmState::Building,
        task_state: Some(TaskState::Spawning),
        intent: Intent { power: Power::On, incarnation: 1, graceful: false, generation: 2 },
        seen: Seen::default(),
        host: "h".into(),
        availability_zone: String::new(),
        wanted_host: None,
        locked: None,
        config_drive: false,
        drive: None,
        access_ipv4: String::new(),
        access_ipv6: String::new(),
        reservation_id: "r".into(),
        launch_index: 0,
        root_device: "/dev/vda".into(),
        disks: Vec::new(),
        nics: Vec::new(),
        networks: NetworkRequest::None,
        security_groups: Vec::new(),
        group_id: None,
        scheduler_hints: serde_json::json!({}),
        trusted_image_certificates: None,
        fault: None,
        old_flavor: None,
        created_at: now,
        updated_at: now,
        launched_at: None,
        terminated_at: None,
        deleted_at: None,
    }
}

fn sees(s: &mut Server, power: PowerState, generation: i64, incarnation: i64) -> Settled {
    s.seen = Seen { power, generation, incarnation, ..Seen::default() };
    settle(s)
}

#[test]
fn a_server_is_active_when_its_host_says_so() {
    let mut s = server();
    assert_eq!(sees(&mut s, PowerState::Absent, 0, 0), Settled::Unchanged);
    assert_eq!(sees(&mut s, PowerState::Running, 2, 1), Settled::Changed);
    assert_eq!((s.vm_state, s.task_state), (VmState::Active, None));
    assert!(s.launched_at.is_some());
    assert_eq!(sees(&mut s, PowerState::Running, 2, 1), Settled::Unchanged, "again changes nothing");
}

#[test]
fn an_old_boot_is_not_the_new_one() {
    let mut s = server();
    sees(&mut s, PowerState::Running, 2, 1);
    s.want(Power::On, true, true);
    s.task_state = Some(TaskState::Rebooting);
    assert_eq!(sees(&mut s, PowerState::Running, 2, 1), Settled::Unchanged);
    assert_eq!(status(s.vm_state, s.task_state), "REBOOT");
    assert_eq!(sees(&mut s, PowerState::Shutdown, 2, 1), Settled::Unchanged, "on its way");
    assert_eq!(sees(&mut s, PowerState::Running, 3, 2), Settled::Changed);
}

#[test]
fn a_guest_that_powers_off_is_stopped() {
    for end in [PowerState::Shutdown, PowerState::Crashed] {
        let mut s = server();
        sees(&mut s, PowerState::Running, 2, 1);
        assert_eq!(sees(&mut s, end, 2, 1), Settled::Changed);
        assert_eq!(s.vm_state, VmState::Stopped);
        assert_eq!(s.intent.power, Power::Off, "it does not start again by itself");
    }
}

#[test]
fn a_host_that_cannot_makes_an_error() {
    let mut s = server();
    s.seen.error = Some("no".into());
    assert_eq!(settle(&mut s), Settled::Failed);
    assert_eq!((s.vm_state, s.intent.power), (VmState::Error, Power::Off));
    assert_eq!(s.fault.as_ref().unwrap().message, "no");
    let mut stopped = server();
    (stopped.vm_state, stopped.task_state) = (VmState::Stopped, Some(TaskState::PoweringOn));
    stopped.seen.error = Some("no".into());
    settle(&mut stopped);
    assert_eq!(stopped.vm_state, VmState::Stopped);
}

#[test]
fn a_server_that_goes_is_left_alone() {
    let mut s = server();
    s.task_state = Some(TaskState::Deleting);
    assert_eq!(sees(&mut s, PowerState::Running, 2, 1), Settled::Unchanged);
    assert_eq!(s.task_state, Some(TaskState::Deleting));
}

#[test]
fn upstreams_rules_of_what_is_legal() {
    use VmState as V;
    assert_eq!(refused(Act::Stop, V::Active, None), None);
    assert_eq!(refused(Act::Stop, V::Stopped, None), Some(("vm_state", "stopped")));
    assert_eq!(refused(Act::Start, V::Active, None), Some(("vm_state", "active")));
    assert_eq!(
        refused(Act::Stop, V::Active, Some(TaskState::PoweringOff)),
        Some(("task_state", "powering-off"))
    );
    assert_eq!(refused(Act::RebootHard, V::Active, Some(TaskState::Rebooting)), None);
    assert_eq!(refused(Act::RebootSoft, V::Error, None), Some(("vm_state", "error")));
    for act in [Act::Stop, Act::Start, Act::RebootHard, Act::Pause, Act::AttachVolume] {
        assert!(refused(act, V::Active, Some(TaskState::Deleting)).is_some(), "{act:?}");
        assert!(refused(act, V::Building, Some(TaskState::Spawning)).is_some(), "{act:?}");
    }
}

#[test]
fn disks_arrive() {
    let mut s = server();
    sees(&mut s, PowerState::Running, 2, 1);
    s.disks.push(Disk {
        bdm_id: "b".into(),
        source: DiskSource::Volume { volume_id: "v".into() },
        boot_index: None,
        device: "vdb".into(),
        bus: "virtio".into(),
        device_type: "disk".into(),
        size_gib: 1,
        delete_on_termination: false,
        tag: None,
        plug: Plug::Attaching,
        attachment_id: None,
        place: None,
        moving: None,
        grown: None,
        make: None,
    });
    s.bump();
    assert_eq!(settle(&mut s), Settled::Unchanged);
    s.seen.disks.insert("v".into());
    assert_eq!(settle(&mut s), Settled::Changed);
    assert_eq!(s.disks[0].plug, Plug::Attached);
}
