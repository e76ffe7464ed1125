//! The rules of versions' rows, on rows in memory.

use super::super::shard::{Change, tests::run};
use super::*;
use crate::index::entry::Header;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};

fn version(n: i64, written: u64) -> Entry {
    let order = Some(Tag::at(Timestamp(n)));
    Entry { version: written, size: n as u64, order, own_id: true, tag: order, tails: 1, ..Entry::default() }
}

fn marker(n: i64, written: u64) -> Entry {
    Entry { marker: true, size: 0, tag: None, tails: 0, ..version(n, written) }
}

fn change(written: u64, head: Option<Entry>, behind: Vec<Entry>, gone: Vec<Entry>) -> Change {
    let name = "k".to_owned();
    Change::Versions(Box::new(VersionChange {
        name,
        written,
        head,
        behind,
        gone,
        ..VersionChange::default()
    }))
}

/// The orders of the version shown and of those behind it.
fn seen(rows: &HashMap<String, Bytes>) -> (Option<i64>, BTreeSet<i64>) {
    let order = |v: &Bytes| Entry::decode(v).unwrap().order().micros();
    let shown = rows.get("ok").map(order);
    (shown, rows.iter().filter(|(k, _)| k.starts_with('v')).map(|(_, v)| order(v)).collect())
}

#[test]
fn versions_pile_up_and_go() {
    let history = [
        change(1, Some(version(10, 1)), vec![], vec![]),
        change(2, Some(version(20, 2)), vec![version(10, 1)], vec![]),
        change(3, Some(marker(30, 3)), vec![version(20, 2)], vec![]),
        change(0, None, vec![], vec![version(10, 1)]),
    ];
    let (rows, header, _) = run(&history[..3]);
    assert_eq!(seen(&rows), (None, BTreeSet::from([10, 20, 30])));
    assert_eq!((header.objects, header.bytes, header.versions, header.version_bytes), (0, 0, 3, 30));
    let (rows, header, done) = run(&history);
    assert_eq!(seen(&rows), (None, BTreeSet::from([20, 30])));
    assert_eq!((header.versions, header.version_bytes), (2, 20));
    assert_eq!(done[3].garbage[0].0.micros(), 10);
    // The marker goes: what is behind it is the head again.
    let mut more = history.to_vec();
    more.push(change(4, Some(version(20, 4)), vec![], vec![marker(30, 3)]));
    let (rows, header, _) = run(&more);
    assert_eq!(seen(&rows), (Some(20), BTreeSet::new()));
    assert_eq!((header.objects, header.bytes, header.versions), (1, 20, 0));
}

#[test]
fn what_was_there_before_becomes_the_null_version() {
    let plain = Entry { version: 1, size: 5, modified: 7, ..Entry::default() };
    let moved = Entry { order: Some(Tag::at(Timestamp(7))), ..plain.clone() };
    let put = Change::Put { name: "k".into(), entry: plain, upload: None };
    let (rows, header, _) = run(&[put, change(2, Some(version(20, 2)), vec![moved], vec![])]);
    assert_eq!(seen(&rows), (Some(20), BTreeSet::from([7])));
    assert_eq!((header.objects, header.bytes, header.versions, header.version_bytes), (1, 20, 1, 5));
}

#[test]
fn a_late_report_from_before_there_were_versions_bins_nothing() {
    let tag = Some(Tag::at(Timestamp(7)));
    let plain = Entry { version: 1, size: 5, modified: 7, tag, tails: 1, ..Entry::default() };
    let moved = Entry { order: tag, ..plain.clone() };
    let put = Change::Put { name: "k".into(), entry: plain, upload: None };
    for head in [version(20, 2), marker(20, 2)] {
        let (rows, header, done) = run(&[change(2, Some(head), vec![moved.clone()], vec![]), put.clone()]);
        assert!(done[1].stale && done[1].garbage.is_empty());
        assert!(seen(&rows).1.contains(&7));
        assert_eq!(header.versions + header.objects, 2);
    }
}

#[test]
fn a_removed_version_does_not_come_back() {
    // Its removal is reported before the change that moved it out of the head.
    let first = change(1, Some(version(10, 1)), vec![], vec![]);
    let second = change(2, Some(version(20, 2)), vec![version(10, 1)], vec![]);
    let removed = change(0, None, vec![], vec![version(10, 1)]);
    for order in [[&first, &removed, &second], [&removed, &first, &second], [&removed, &second, &first]] {
        let (rows, header, _) = run(&order.map(Clone::clone));
        assert_eq!(seen(&rows), (Some(20), BTreeSet::new()), "{order:?}");
        assert_eq!((header.objects, header.versions), (1, 0));
    }
}

proptest! {
    /// Any order of the same history ends in the same rows and the same counts.
    #[test]
    fn order_does_not_matter(kinds in prop::collection::vec(0u8..4, 1..10), seed: u64) {
        let mut changes = Vec::new();
        let (mut head, mut behind): (Option<Entry>, Vec<Entry>) = (None, Vec::new());
        for (i, kind) in kinds.iter().enumerate() {
            let (n, written) = (i as i64 + 1, i as u64 + 1);
            match kind {
                0 | 1 => {
                    let new = if *kind == 0 { version(n * 10, written) } else { marker(n * 10, written) };
                    let old = head.replace(new.clone());
                    changes.push(change(written, Some(new), old.iter().cloned().collect(), vec![]));
                    behind.extend(old);
                }
                2 if !behind.is_empty() => changes.push(change(0, None, vec![], vec![behind.remove(0)])),
                _ => {
                    let Some(old) = head.take() else { continue };
                    head = behind.pop().map(|e| Entry { version: written, ..e });
                    changes.push(change(written, head.clone(), vec![], vec![old]));
                }
            }
        }
        let mut shuffled = changes.clone();
        let mut s = seed;
        for i in (1..shuffled.len()).rev() {
            s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            shuffled.swap(i, (s >> 33) as usize % (i + 1));
        }
        let (straight, header, _) = run(&changes);
        let (mixed, header_mixed, _) = run(&shuffled);
        let wanted = (
            head.as_ref().filter(|h| !h.marker).map(|h| h.order().micros()),
            behind.iter().chain(head.as_ref().filter(|h| h.marker)).map(|e| e.order().micros()).collect(),
        );
        prop_assert_eq!(&seen(&straight), &wanted);
        prop_assert_eq!(&seen(&mixed), &wanted);
        prop_assert_eq!(header, header_mixed);
        prop_assert_eq!(header.objects + header.versions, (behind.len() + usize::from(head.is_some())) as u64);
        prop_assert_ne!(header, Header { objects: 99, ..header });
    }
}
