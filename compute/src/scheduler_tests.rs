use super::*;
use crate::states::tests::server;
use state::Timestamp;

fn candidate(name: &str, free: i64) -> Candidate {
    Candidate {
        host: Host {
            id: name.into(),
            service_id: name.into(),
            name: name.into(),
            zone: "nova".into(),
            disabled: false,
            disabled_reason: None,
            forced_down: false,
            facts: None,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            seen_at: Timestamp(0),
        },
        up: true,
        kin: 0,
        free,
        fits: true,
    }
}

fn group(policy: &str) -> ServerGroup {
    ServerGroup {
        id: "g".into(),
        name: "g".into(),
        project_id: "p".into(),
        user_id: "u".into(),
        policy: policy.into(),
        max_server_per_host: None,
    }
}

fn chosen(c: Vec<Candidate>, group: Option<&ServerGroup>) -> Option<String> {
    choose(c, &server(), group).ok().map(|h| h.name)
}

#[test]
fn the_emptiest_host_wins() {
    assert_eq!(chosen(vec![candidate("a", 1), candidate("b", 2)], None), Some("b".into()));
    assert_eq!(chosen(vec![candidate("b", 2), candidate("a", 2)], None), Some("a".into()));
}

#[test]
fn unfit_hosts_are_passed_over() {
    let spoil: [fn(&mut Candidate); 3] = [|c| c.up = false, |c| c.host.disabled = true, |c| c.fits = false];
    for f in spoil {
        let mut bad = candidate("a", 9);
        f(&mut bad);
        assert_eq!(chosen(vec![bad, candidate("b", 1)], None), Some("b".into()));
    }
    assert_eq!(chosen(Vec::new(), None), None);
    let mut s = server();
    s.availability_zone = "other".into();
    assert!(choose(vec![candidate("a", 1)], &s, None).is_err());
}

#[test]
fn groups_keep_together_or_apart() {
    let pair = || {
        let mut kin = candidate("a", 9);
        kin.kin = 1;
        vec![kin, candidate("b", 1)]
    };
    assert_eq!(chosen(pair(), Some(&group("affinity"))), Some("a".into()));
    assert_eq!(chosen(pair(), Some(&group("anti-affinity"))), Some("b".into()));
    assert_eq!(chosen(pair(), Some(&group("soft-anti-affinity"))), Some("b".into()));
    assert_eq!(chosen(pair(), Some(&group("soft-affinity"))), Some("a".into()));
    let mut full = pair();
    full[0].fits = false;
    assert_eq!(chosen(full, Some(&group("affinity"))), None, "together or not at all");
}
