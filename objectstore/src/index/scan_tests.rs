//! A scan against rows in memory: what it hands out is what reading on and on would have given.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;

type Rows = BTreeMap<String, Bytes>;

/// What an OSD answers that gives no more than `cap` rows in one step.
fn page(rows: &Rows, prefix: &str, look: &Look, cap: usize) -> OmapPage {
    let most = look.most.min(cap);
    let behind = rows.range::<String, _>((Bound::Excluded(&look.after), Bound::Unbounded));
    let behind = behind.skip_while(|(k, _)| k.as_str() < prefix).take_while(|(k, _)| k.starts_with(prefix));
    let mut entries: Vec<_> = behind.take(most + 1).map(|(k, v)| (k.clone(), v.clone())).collect();
    let more = entries.len() > most;
    entries.truncate(most);
    OmapPage { entries, more }
}

/// All that a scan hands out, and in how many operations with how many looks.
fn run(scan: &mut Scan, rows: &Rows, cap: usize) -> (Vec<Item>, usize, usize) {
    run_in(scan, rows, cap, 7)
}

/// The same in this version of the shard.
fn run_in(scan: &mut Scan, rows: &Rows, cap: usize, version: u64) -> (Vec<Item>, usize, usize) {
    let (mut items, mut operations, mut asked) = (Vec::new(), 0, 0);
    loop {
        while let Some(item) = scan.pop() {
            items.push(item);
        }
        if !scan.is_dry() {
            return (items, operations, asked);
        }
        let looks = scan.looks();
        let pages = looks.iter().map(|look| page(rows, scan.prefix(), look, cap)).collect();
        operations += 1;
        asked += looks.len();
        scan.take(looks, pages, version).unwrap();
        assert!(operations < 10_000, "a scan comes to no end");
    }
}

fn expected(rows: &Rows, prefix: &str, after: &str, until: Option<&str>, roll: Option<&Roll>) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let wanted = |k: &str| k.starts_with(prefix) && k > after && until.is_none_or(|until| k < until);
    for (key, value) in rows.iter().filter(|(k, _)| wanted(k)) {
        let item = match roll.and_then(|r| r.up(&key[1..])) {
            Some(up) => Item { key: format!("o{up}"), rolled: true, value: Bytes::new() },
            None => Item { key: key.clone(), rolled: false, value: value.clone() },
        };
        if items.last() != Some(&item) {
            items.push(item);
        }
    }
    items
}

fn rows_of(names: impl IntoIterator<Item = String>) -> Rows {
    names.into_iter().map(|n| (format!("o{n}"), Bytes::from(format!("row of {n}")))).collect()
}

fn scan(prefix: &str, after: &str, until: Option<&str>, roll: Option<&Roll>, share: usize) -> Scan {
    let (prefix, after) = (prefix.to_owned(), after.to_owned());
    Scan::new(prefix, after, until.map(str::to_owned), roll.cloned().map(Arc::new), share)
}

#[test]
fn prefixes_are_found_in_few_operations() {
    for (prefixes, each) in [(400, 100), (3, 5000), (1, 5000)] {
        let rows =
            rows_of((0..prefixes * each).map(|n| format!("dir{:03}/{:06}", n % prefixes, n / prefixes)));
        let roll = Roll::new("", "/", false);
        let (items, operations, looks) = run(&mut scan("o", "o", None, roll.as_ref(), 1000), &rows, 1000);
        assert_eq!(items, expected(&rows, "o", "o", None, roll.as_ref()));
        assert!(operations <= 30 && looks <= 3 * prefixes + 200, "{prefixes}: {operations}, {looks}");
    }
    // Where there is little to jump over, rows are read on.
    let rows = rows_of((0..20_000).map(|n| format!("{:04}/{}", n / 2, n % 2)));
    let roll = Roll::new("", "/", false);
    let (items, operations, looks) = run(&mut scan("o", "o", None, roll.as_ref(), 1000), &rows, 1000);
    assert_eq!(items.len(), 10_000);
    assert!(operations < 40 && looks < 40, "{operations}, {looks}");
}

#[test]
fn where_rows_have_moved_a_scan_goes_on_where_it_was() {
    let rows = rows_of((0..4000).map(|n| format!("dir{:03}/{:06}", n % 40, n / 40)));
    let roll = Roll::new("", "/", false);
    let all = expected(&rows, "o", "o", None, roll.as_ref());
    for stop in 0..8 {
        let (mut one, mut items) = (scan("o", "o", None, roll.as_ref(), 10), Vec::new());
        for _ in 0..stop {
            while let Some(item) = one.pop() {
                items.push(item);
            }
            let looks = one.looks();
            let pages = looks.iter().map(|look| page(&rows, "o", look, 1000)).collect();
            one.take(looks, pages, 7).unwrap();
        }
        while let Some(item) = one.pop() {
            items.push(item);
        }
        items.extend(run(&mut one.anew(), &rows, 1000).0);
        assert_eq!(items, all, "after {stop} operations");
    }
}

#[test]
fn what_was_found_is_remembered() {
    let names = |n: u32| (0..n).map(|n| format!("dir{:03}/{:06}", n % 300, n / 300));
    let (rows, roll) = (rows_of(names(9000)), Roll::new("", "/", false));
    let new = || scan("o", "o", None, roll.as_ref(), 1000);
    let mut first = new();
    let (items, operations, _) = run(&mut first, &rows, 1000);
    assert!(operations > 3);
    let known = first.learned().map(Arc::new);
    assert!(known.is_some());
    // Of a shard that is as it was, once it is known to be.
    assert_eq!(run(&mut new().recall(known.clone()), &rows, 1000), (items, 1, 1));
    // Of one that has changed it says where to look.
    let gone = ["dir007/", "dir299/"];
    let mut rows: Rows =
        rows.into_iter().filter(|(k, _)| !gone.iter().any(|g| k[1..].starts_with(g))).collect();
    rows.extend(rows_of(["dir008.txt", "dir100a/x", "zoo"].map(str::to_owned)));
    let mut second = new().recall(known);
    let (items, operations, _) = run_in(&mut second, &rows, 1000, 8);
    assert_eq!(items, expected(&rows, "o", "o", None, roll.as_ref()));
    assert!(operations < 8, "{operations}");
    // One that changes meanwhile is not remembered as it was at the beginning.
    let mut third = new();
    let mut version = 0;
    while third.is_dry() {
        version += 1;
        let looks = third.looks();
        let pages = looks.iter().map(|look| page(&rows, "o", look, 1000)).collect();
        third.take(looks, pages, version).unwrap();
        while third.pop().is_some() {}
    }
    let known = third.learned().unwrap();
    assert!(version > 1 && known.version.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn what_is_handed_out_is_what_is_there(
        names in proptest::collection::btree_set("[a-c0-3/é\u{10ffff}]{1,5}", 0..400),
        many in proptest::collection::vec(("[a-c/]{0,2}", 0..200usize), 0..8),
        prefix in "[a-c/]{0,2}",
        after in "[a-c0-3/]{0,3}",
        until in proptest::option::of("[a-c0-3/]{1,3}"),
        delimiter in "(/|/a|)",
        shows_own: bool,
        share in 1..100usize,
        cap in 3..100usize,
    ) {
        let more = many.iter().flat_map(|(stem, n)| (0..*n).map(move |i| format!("{stem}/{i:03}")));
        let rows = rows_of(names.iter().cloned().chain(more));
        let (roll, prefix) = (Roll::new(&prefix, &delimiter, shows_own), format!("o{prefix}"));
        let (after, until) = (format!("o{after}"), until.map(|u| format!("o{u}")));
        let mut one = scan(&prefix, &after, until.as_deref(), roll.as_ref(), share);
        let (items, ..) = run(&mut one, &rows, cap);
        prop_assert_eq!(&items, &expected(&rows, &prefix, &after, until.as_deref(), roll.as_ref()));
        let known = one.learned().map(Arc::new);
        let again = || scan(&prefix, &after, until.as_deref(), roll.as_ref(), share).recall(known.clone());
        prop_assert_eq!(run(&mut again(), &rows, cap).0, items);
        // Of what has changed nothing is taken from memory.
        let rows: Rows = rows.into_iter().enumerate().filter(|(n, _)| n % 3 > 0).map(|(_, row)| row).collect();
        let wanted = expected(&rows, &prefix, &after, until.as_deref(), roll.as_ref());
        prop_assert_eq!(run_in(&mut again(), &rows, cap, 8).0, wanted);
    }
}
