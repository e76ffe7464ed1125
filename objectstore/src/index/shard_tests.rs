//! The rules of an index change, on rows in memory: whatever the order of arrival, the newest head is listed.

use super::*;
use proptest::prelude::*;

fn put(name: &str, version: u64, size: u64, tag: Option<Tag>) -> Change {
    let entry = Entry { version, size, tag, tails: u64::from(tag.is_some()), ..Entry::default() };
    Change::Put { name: name.into(), entry, upload: None }
}

fn delete(name: &str, version: u64) -> Change {
    Change::Delete { name: name.into(), version }
}

/// Applies changes, one batch each.
pub(in crate::index) fn run(changes: &[Change]) -> (HashMap<String, Bytes>, Header, Vec<Committed>) {
    let mut rows: HashMap<String, Bytes> = HashMap::new();
    let mut done = Vec::new();
    for change in changes {
        let mut r = Rows::new(rows.clone()).unwrap();
        done.push(r.apply(change, Timestamp(1)).unwrap());
        if let Some((set, remove)) = r.changes() {
            rows.extend(set);
            remove.iter().for_each(|k| drop(rows.remove(k)));
        }
    }
    let header = Rows::new(rows.clone()).unwrap().header;
    (rows, header, done)
}

#[test]
fn counts_are_exact_and_replaced_tails_are_recorded() {
    let (a, b) = (Tag::new(), Tag::new());
    let (rows, header, done) =
        run(&[put("k", 1, 10, Some(a)), put("k", 2, 3, Some(b)), put("l", 3, 4, None)]);
    assert_eq!((header.objects, header.bytes), (2, 7));
    assert_eq!(done[1].garbage.first().map(|(t, _)| *t), Some(a));
    assert!(rows.contains_key(&entry::garbage_key(a)) && !rows.contains_key(&entry::garbage_key(b)));
    let (rows, header, done) = run(&[put("k", 1, 10, Some(a)), delete("k", 2)]);
    assert_eq!((header.objects, header.bytes), (0, 0));
    assert_eq!(done[1].garbage.first().map(|(t, _)| *t), Some(a));
    assert!(rows.contains_key(&entry::tombstone_key("k")));
}

#[test]
fn a_late_report_of_an_older_head_changes_nothing_but_bins_its_tails() {
    let (a, b) = (Tag::new(), Tag::new());
    let (_, header, done) = run(&[put("k", 2, 5, Some(b)), put("k", 1, 9, Some(a))]);
    assert_eq!((header.objects, header.bytes), (1, 5));
    assert!(done[1].stale);
    assert_eq!(done[1].garbage.first().map(|(t, _)| *t), Some(a));
    // After a delete the tombstone remembers.
    let (_, header, done) = run(&[delete("k", 2), put("k", 1, 9, Some(a))]);
    assert_eq!(header.objects, 0);
    assert!(done[1].stale);
    // A metadata update that arrives late holds the same tails as the listed head: they stay.
    let (_, _, done) = run(&[put("k", 3, 5, Some(a)), put("k", 2, 5, Some(a))]);
    assert!(done[1].garbage.is_empty());
}

#[test]
fn a_repeated_change_counts_once() {
    let (_, header, _) = run(&[put("k", 5, 9, None), put("k", 5, 9, None), delete("k", 6), delete("k", 6)]);
    assert_eq!(header, Header::default());
}

#[test]
fn a_closed_shard_takes_nothing() {
    let header = Header { closed: 1, ..Header::default() };
    let rows = HashMap::from([(entry::HEADER.to_owned(), Bytes::from(header.encode()))]);
    let mut r = Rows::new(rows).unwrap();
    assert!(matches!(r.apply(&put("k", 1, 1, None), Timestamp(1)), Err(ObjectError::NoSuchContainer)));
    let row = Change::Rows { set: vec![("p".into(), Bytes::new())], remove: vec![], adds: true };
    assert!(matches!(r.apply(&row, Timestamp(1)), Err(ObjectError::NoSuchContainer)));
    let clean = Change::Rows { set: vec![], remove: vec!["p".into()], adds: false };
    assert!(r.apply(&clean, Timestamp(1)).is_ok());
}

proptest! {
    /// Any order of the same history ends in the same listing and the same counts.
    #[test]
    fn order_does_not_matter(history in prop::collection::vec((0u8..3, any::<bool>(), 1u64..100), 1..12), seed: u64) {
        let changes: Vec<Change> = history.iter().enumerate().map(|(i, (name, is_put, size))| {
            let (name, version) = (format!("k{name}"), i as u64 + 1);
            if *is_put { put(&name, version, *size, None) } else { delete(&name, version) }
        }).collect();
        let mut shuffled = changes.clone();
        let mut s = seed;
        for i in (1..shuffled.len()).rev() {
            s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            shuffled.swap(i, (s >> 33) as usize % (i + 1));
        }
        let (straight, header, _) = run(&changes);
        let (mixed, header_mixed, _) = run(&shuffled);
        prop_assert_eq!(header, header_mixed);
        let objects = |rows: &HashMap<String, Bytes>| {
            let mut o: Vec<_> = rows.iter().filter(|(k, _)| k.starts_with('o')).map(|(k, v)| (k.clone(), v.clone())).collect();
            o.sort();
            o
        };
        prop_assert_eq!(objects(&straight), objects(&mixed));
    }
}
