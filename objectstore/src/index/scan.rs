//! Which rows of one shard have been read, and where to look next.
//!
//! Rows are read on and on, in ever larger pages. Where a delimiter rolls most of them up that is a waste: it is enough
//! to know that there is one, and the next row that counts is behind all that share its prefix. One jump after the
//! other would cost an operation each. So many places are looked at in one operation: behind each prefix that was met,
//! and at guesses in between, made of the characters that names were seen to have. What a look finds covers the stretch
//! up to what it found, and leaves gaps; each gap is looked into in turn, the first ones first, until the stretches
//! touch. So the number of operations grows with the logarithm of the number of items, and a bad guess costs a little
//! time and nothing else: what is known is only what was read.
//!
//! Nothing here waits or asks: [`super::merge`] carries out the looks.

use super::entry;
use super::roll::Roll;
use crate::ObjectError;
use bytes::Bytes;
use pool::OmapPage;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The OSD gives no more rows than this in one step.
const MOST_ROWS: usize = 1024;
/// Rows that are read on at first where most of them may be jumped over, or where a share was not quite enough.
const FEW_ROWS: usize = 64;
/// A look costs about as much as so many rows that are read on, and an item takes two looks.
const WORTH: usize = 10;
/// Looks in one operation: at first, and at most.
const FEW_LOOKS: usize = 8;
const MOST_LOOKS: usize = 128;
/// Rows that a look asks for: more than one tell whether it was worth its while.
const LOOK_ROWS: usize = 2;
/// Operations with looks until rows are read on once, to see whether looking is still cheaper.
const ROUNDS: usize = 12;
/// Bytes that are remembered of one scan, and what of it is looked behind at once.
const MOST_BYTES: usize = 128 << 10;
const MOST_KNOWN: usize = 512;
/// No name has a greater character.
const LAST: char = '\u{10ffff}';

/// The first rows behind a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) after: String,
    pub(super) most: usize,
}

/// What the rows of a shard come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// The row's key; of rows that are rolled up, what all of their keys begin with.
    pub(super) key: String,
    pub(super) rolled: bool,
    pub(super) value: Bytes,
}

/// What a scan that jumped has come to: for the next one that asks the same.
#[derive(Debug)]
pub(super) struct Known {
    /// The shard's version in all of its reads; none if it changed meanwhile.
    version: Option<u64>,
    /// Up to where.
    at: Option<String>,
    items: Vec<Item>,
}

/// Keys greater than `from` of which all is known up to and with `to`, or to the end.
#[derive(Debug, Clone)]
struct Stretch {
    from: String,
    to: Option<String>,
}

/// How the next rows are read.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// On and on, so many at once, and then so many.
    On(usize, usize),
    /// At so many places at once, this often before.
    Around { looks: usize, rounds: usize },
}

/// Rows of one kind in one shard, being read in order.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    /// What their keys begin with: the letter of the kind, and a prefix of names as keys have it.
    prefix: String,
    /// The key that ends it.
    until: Option<String>,
    roll: Option<Arc<Roll>>,
    /// All is known up to here, and what was found is in `ready`; none if there is no more.
    at: Option<String>,
    /// What else is known: in order, with gaps before each.
    ahead: Vec<Stretch>,
    /// What was found there, by key; an object before what is rolled up under the same.
    found: BTreeMap<(String, bool), Bytes>,
    ready: VecDeque<Item>,
    /// What was rolled up last, to be met again by names that go on with the greatest character.
    rolled: Option<String>,
    pace: Pace,
    /// Characters of what was rolled up.
    seen: BTreeSet<char>,
    /// What the last one has come to that asked the same.
    known: Option<Arc<Known>>,
    /// What this one has come to, if it jumps and that is not too much.
    kept: Option<Vec<Item>>,
    room: usize,
    jumped: bool,
    /// The shard's version in the first read, and whether it was that in all others.
    version: Option<u64>,
    steady: bool,
}

impl Scan {
    /// Those behind the key `after` and before `until`; `share` of them will be wanted, unless they are rolled up.
    pub(super) fn new(
        prefix: String,
        after: String,
        until: Option<String>,
        roll: Option<Arc<Roll>>,
        share: usize,
    ) -> Self {
        let rows = share.clamp(1, if roll.is_some() { FEW_ROWS } else { MOST_ROWS });
        let then = if share < MOST_ROWS { rows.min(FEW_ROWS) } else { rows };
        Scan {
            prefix,
            until,
            at: Some(after),
            ahead: Vec::new(),
            found: BTreeMap::new(),
            ready: VecDeque::new(),
            rolled: None,
            kept: roll.is_some().then(Vec::new),
            roll,
            pace: Pace::On(rows, then),
            seen: BTreeSet::new(),
            known: None,
            room: MOST_BYTES,
            jumped: false,
            version: None,
            steady: true,
        }
    }

    /// Makes use of what another has come to that began at the same key.
    pub(super) fn recall(self, known: Option<Arc<Known>>) -> Self {
        Scan { known, ..self }
    }

    /// What it has come to, if that is worth remembering.
    pub(super) fn learned(&mut self) -> Option<Known> {
        let items = self.kept.take().filter(|_| self.jumped)?;
        Some(Known { version: self.version.filter(|_| self.steady), at: self.at.clone(), items })
    }

    /// The same from where all is known, for what has moved to other shards.
    pub(super) fn anew(&self) -> Self {
        let (at, pace) = (self.at.clone(), Pace::On(FEW_ROWS, 2 * FEW_ROWS));
        let (prefix, until, roll) = (self.prefix.clone(), self.until.clone(), self.roll.clone());
        let (rolled, seen) = (self.rolled.clone(), self.seen.clone());
        let (ahead, found, ready) = (Vec::new(), BTreeMap::new(), VecDeque::new());
        let (known, kept, room, version, jumped, steady) = (None, None, 0, None, false, true);
        Scan {
            prefix,
            until,
            roll,
            at,
            ahead,
            found,
            ready,
            rolled,
            pace,
            seen,
            known,
            kept,
            room,
            jumped,
            version,
            steady,
        }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        self.ready.pop_front()
    }

    /// Nothing is at hand, but there may be more to read.
    pub(super) fn is_dry(&self) -> bool {
        self.ready.is_empty() && self.at.is_some()
    }

    /// There is nothing but what is at hand.
    pub(super) fn end(&mut self) {
        self.at = None;
    }

    pub(super) fn is_of_versions(&self) -> bool {
        self.prefix.starts_with('v')
    }

    pub(super) fn rolls_up(&self) -> bool {
        self.roll.is_some()
    }

    /// Where to look next: all in one operation.
    pub(super) fn looks(&self) -> Vec<Look> {
        let Some(at) = &self.at else { return Vec::new() };
        let most = match self.pace {
            Pace::On(most, _) => return vec![Look { after: at.clone(), most }],
            Pace::Around { looks, .. } => looks,
        };
        let mut gaps: Vec<(&str, Option<&str>)> = Vec::new();
        let mut from = Some(at.as_str());
        for stretch in &self.ahead {
            gaps.extend(from.map(|from| (from, Some(stretch.from.as_str()))));
            from = stretch.to.as_deref();
        }
        gaps.extend(from.map(|from| (from, None)));
        if let Some(known) = &self.known {
            // What was there the last time is the best guess of all.
            let rolled = known.items.iter().filter(|i| i.rolled).map(|i| format!("{}{LAST}", i.key));
            let behind = rolled.filter(|key| key > at).take(MOST_KNOWN);
            let places = std::iter::once(at.clone()).chain(behind);
            return places.map(|after| Look { after, most: LOOK_ROWS }).collect();
        }
        gaps.truncate(most);
        let guesses = (most - gaps.len()) / gaps.len().max(1);
        let places = gaps
            .into_iter()
            .flat_map(|(from, to)| std::iter::once(from.to_owned()).chain(self.guesses(from, to, guesses)));
        places.map(|after| Look { after, most: LOOK_ROWS }).collect()
    }

    /// Keys between these two that may have others on either side: what goes on as `from` does up to some character, and
    /// then with a greater one.
    fn guesses(&self, from: &str, to: Option<&str>, most: usize) -> Vec<String> {
        let rolled = from.strip_suffix(LAST);
        let delimiter = self.roll.as_ref().map_or("", |roll| &roll.delimiter);
        let from = rolled.map_or(from, |from| from.strip_suffix(delimiter).unwrap_or(from));
        let alike = |to: &str| {
            let same = from.char_indices().zip(to.chars()).find(|((_, a), b)| a != b);
            same.map_or(from.len().min(to.len()), |((at, _), _)| at)
        };
        let stem = to.map_or(0, alike).max(self.prefix.len());
        let Some(rest) = from.get(stem..).filter(|_| most > 0) else { return Vec::new() };
        let mut limit = to.and_then(|to| to.get(stem..)?.chars().next());
        let mut all = Vec::new();
        for (at, own) in rest.char_indices() {
            let next = self.seen.range(own..).filter(|c| **c > own && limit.is_none_or(|limit| **c < limit));
            all.push(next.map(|c| (stem + at, *c)).collect::<Vec<_>>());
            limit = None;
        }
        // The longer it is like `from`, the nearer.
        let all: Vec<(usize, char)> = all.into_iter().rev().flatten().collect();
        let chosen = (0..most.min(all.len())).map(|n| all[n * all.len() / most.min(all.len())]);
        chosen.map(|(at, c)| format!("{}{c}", &from[..at])).collect()
    }

    /// Takes what the looks found in this version of the shard.
    pub(super) fn take(
        &mut self,
        looks: Vec<Look>,
        pages: Vec<OmapPage>,
        version: u64,
    ) -> Result<(), ObjectError> {
        if looks.len() != pages.len() {
            return Err(ObjectError::Damaged("an index shard gave no rows"));
        }
        let first = self.version.is_none();
        self.steady &= *self.version.get_or_insert(version) == version;
        if let Some(known) = self.known.take_if(|known| first && known.version == Some(version)) {
            // Nothing has changed since: what was found then is what would be found now.
            (self.at, self.kept) = (known.at.clone(), None);
            self.rolled = known.items.iter().rfind(|i| i.rolled).map(|i| i.key.clone());
            self.ready.extend(known.items.iter().cloned());
            return Ok(());
        }
        if !first {
            self.known = None;
        }
        let (mut rows, mut items, mut sparse, mut stretches) = (0, 0, 0, Vec::with_capacity(looks.len()));
        for (look, page) in looks.into_iter().zip(pages) {
            let (rows_were, items_were) = (rows, items);
            let mut ended = !page.more || page.entries.is_empty();
            let mut to = look.after.clone();
            let mut alike: Option<String> = None;
            for (key, value) in page.entries {
                if self.until.as_ref().is_some_and(|until| key >= *until) {
                    ended = true;
                    break;
                }
                rows += 1;
                if alike.as_ref().is_some_and(|alike| key.starts_with(alike.as_str())) {
                    to = to.max(key);
                    continue;
                }
                items += 1;
                alike = self.rolled_up(&key)?;
                match &alike {
                    Some(alike) => {
                        to = format!("{alike}{LAST}").max(key);
                        self.seen.extend(alike[self.prefix.len().min(alike.len())..].chars());
                        self.found.insert((alike.clone(), true), Bytes::new());
                    }
                    None => {
                        to.clone_from(&key);
                        self.find(key, value);
                    }
                }
            }
            sparse += usize::from(rows - rows_were == LOOK_ROWS && items - items_were == LOOK_ROWS);
            stretches.push(Stretch { from: look.after, to: (!ended).then_some(to) });
        }
        if self.seen.iter().any(char::is_ascii_digit) {
            self.seen.extend('0'..='9');
        }
        let looked = stretches.len();
        self.cover(stretches);
        self.hand_out();
        self.set_pace(rows, items, sparse * 2 > looked);
        Ok(())
    }

    /// What the keys begin with that are rolled up with this one.
    fn rolled_up(&self, key: &str) -> Result<Option<String>, ObjectError> {
        let Some(roll) = &self.roll else { return Ok(None) };
        if !self.is_of_versions() {
            return Ok(roll.up(&key[1..]).map(|name| key[..1 + name.len()].to_owned()));
        }
        let name = entry::parse_version_key(&key[1..])
            .ok_or(ObjectError::Damaged("a version's row has a bad key"))?;
        Ok(roll.up(&name).map(|name| format!("{}{}", &key[..1], entry::folded(name))))
    }

    fn find(&mut self, key: String, value: Bytes) {
        match self.roll {
            // Rows that are read on and on come in order.
            None => self.ready.push_back(Item { key, rolled: false, value }),
            Some(_) => drop(self.found.insert((key, false), value)),
        }
    }

    /// Adds what is known now.
    fn cover(&mut self, mut stretches: Vec<Stretch>) {
        let Some(at) = self.at.take() else { return };
        stretches.append(&mut self.ahead);
        stretches.sort_by(|a, b| a.from.cmp(&b.from));
        let mut whole = Stretch { from: at.clone(), to: Some(at) };
        for next in stretches {
            match &whole.to {
                None => break,
                Some(to) if next.from <= *to => {
                    whole.to = next.to.map(|further| further.max(whole.to.take().unwrap_or_default()));
                }
                Some(_) => self.ahead.push(std::mem::replace(&mut whole, next)),
            }
        }
        self.ahead.push(whole);
        self.at = self.ahead.remove(0).to;
    }

    /// Hands out what was found where all is known.
    fn hand_out(&mut self) {
        while let Some(first) = self.found.first_entry() {
            if self.at.as_ref().is_some_and(|at| first.key().0 > *at) {
                break;
            }
            let ((key, rolled), value) = first.remove_entry();
            if rolled && self.rolled.replace(key.clone()).is_some_and(|last| last == key) {
                continue;
            }
            let item = Item { key, rolled, value };
            let size = item.key.len() + item.value.len() + size_of::<Item>();
            self.room = self.room.saturating_sub(size);
            match &mut self.kept {
                Some(kept) if self.room > 0 => kept.push(item.clone()),
                kept => *kept = None,
            }
            self.ready.push_back(item);
        }
    }

    fn set_pace(&mut self, rows: usize, items: usize, sparse: bool) {
        self.pace = match self.pace {
            Pace::On(..) if self.roll.is_some() && rows >= FEW_ROWS && rows >= WORTH * items => {
                self.jumped = true;
                Pace::Around { looks: FEW_LOOKS, rounds: 0 }
            }
            Pace::On(_, then) => Pace::On(then, (then * 2).min(MOST_ROWS)),
            Pace::Around { rounds, .. } if sparse || rounds == ROUNDS => Pace::On(FEW_ROWS, 2 * FEW_ROWS),
            Pace::Around { looks, rounds } => {
                Pace::Around { looks: (looks * 2).min(MOST_LOOKS), rounds: rounds + 1 }
            }
        };
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
