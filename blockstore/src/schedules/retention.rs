//! What a schedule keeps: of each class the latest runs, as many as it says. A run that counts as several stays as long
//! as one of them wants it.

use super::clock::Class;
use super::{Item, Keep};
use std::collections::{BTreeMap, BTreeSet};

/// The runs, of those that these good items are of, that may go.
pub(super) fn expired(items: &[Item], keep: &Keep) -> BTreeSet<String> {
    let mut runs: BTreeMap<&str, (&[Class], state::Timestamp)> = BTreeMap::new();
    for item in items {
        runs.insert(&item.run_id, (&item.classes, item.made_at));
    }
    let mut newest: Vec<_> = runs.into_iter().collect();
    newest.sort_by(|a, b| (b.1.1, b.0).cmp(&(a.1.1, a.0)));
    let mut kept = BTreeSet::new();
    for class in Class::ALL {
        let most = usize::try_from(keep.of(class)).unwrap_or(0);
        let of_class = newest.iter().filter(|(_, (classes, _))| classes.contains(&class));
        kept.extend(of_class.take(most).map(|(run, _)| *run));
    }
    newest.iter().map(|(run, _)| *run).filter(|run| !kept.contains(run)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedules::ItemKind;
    use state::Timestamp;

    fn item(run: &str, at: i64, classes: &[Class]) -> Item {
        Item {
            id: format!("{run}-{at}"),
            run_id: run.into(),
            kind: ItemKind::Snapshot,
            classes: classes.to_vec(),
            ordinal: 1,
            made_at: Timestamp(at),
        }
    }

    #[test]
    fn each_class_keeps_its_latest() {
        use Class::{Daily, Hourly};
        let keep = Keep { hourly: 2, daily: 2, weekly: 0, monthly: 0 };
        let items = [
            item("a", 1, &[Hourly, Daily]),
            item("b", 2, &[Hourly]),
            item("c", 3, &[Hourly, Daily]),
            item("d", 4, &[Hourly]),
            item("e", 5, &[Hourly]),
        ];
        assert_eq!(expired(&items, &keep), BTreeSet::from(["b".to_owned()]));
        let more = [&items[..], &[item("f", 6, &[Hourly, Daily])]].concat();
        // `a` is no day's any more, `d` no hour's; `c` is the day before `f`.
        assert_eq!(expired(&more, &keep), ["a", "b", "d"].map(str::to_owned).into());
        assert_eq!(expired(&[], &keep), BTreeSet::new());
    }

    #[test]
    fn all_items_of_a_run_stay_together() {
        let keep = Keep { hourly: 1, ..Keep::default() };
        let items = [
            item("a", 1, &[Class::Hourly]),
            item("a", 1, &[Class::Hourly]),
            item("b", 2, &[Class::Hourly]),
            item("b", 2, &[Class::Hourly]),
        ];
        assert_eq!(expired(&items, &keep), BTreeSet::from(["a".to_owned()]));
    }
}
