//! Byte ranges of RFC 7233, as both doors read them.

/// A request's `Range` header, understood but not yet measured against a length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges(Vec<Spec>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    /// `first-last`, or `first-` to the end.
    From(u64, Option<u64>),
    /// `-n`: the last n bytes.
    Suffix(u64),
}

/// Bytes `start..end` of an object; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub start: u64,
    pub end: u64,
}

impl Span {
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// `bytes 0-99/1000`
    pub fn content_range(&self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.start, self.end.saturating_sub(1))
    }
}

/// More ranges than this in one request are refused: each costs a reply part of its own.
const MOST_RANGES: usize = 50;

impl Ranges {
    /// Reads a `Range` header. `None` where it is not a byte range or breaks the grammar: such a header is
    /// ignored, as RFC 7233 asks.
    pub fn parse(header: &str) -> Option<Ranges> {
        let (unit, list) = header.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let mut specs = Vec::new();
        for item in list.split(',').map(str::trim) {
            if item.is_empty() {
                continue;
            }
            let (first, last) = item.split_once('-')?;
            let (first, last) = (first.trim(), last.trim());
            let spec = match (first.is_empty(), last.is_empty()) {
                (true, true) => return None,
                (true, false) => Spec::Suffix(number(last)?),
                (false, true) => Spec::From(number(first)?, None),
                (false, false) => Spec::From(number(first)?, Some(number(last)?)),
            };
            if matches!(spec, Spec::From(a, Some(b)) if b < a) {
                return None;
            }
            specs.push(spec);
        }
        (!specs.is_empty()).then_some(Ranges(specs))
    }

    /// How many ranges are asked for.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many of an object's first bytes, up to `most`, one read should bring for this request.
    pub fn reach(&self, most: u64) -> u64 {
        let of = |spec: &Spec| match spec {
            Spec::From(first, last) if *first < most => last.map_or(most, |l| l.saturating_add(1).min(most)),
            _ => 0,
        };
        self.0.iter().map(of).max().unwrap_or(0)
    }

    /// Whether every range says its first byte and its last.
    pub fn is_closed(&self) -> bool {
        self.0.iter().all(|s| matches!(s, Spec::From(_, Some(_))))
    }

    /// The first range, if all of it is within an object of `size` bytes.
    pub fn whole_within(&self, size: u64) -> Option<Span> {
        match self.0.first()? {
            Spec::From(start, Some(last)) if *last < size => Some(Span { start: *start, end: last + 1 }),
            _ => None,
        }
    }

    /// The satisfiable spans of an object of `size` bytes, in the order asked for. `None` where there is none
    /// (416), or where the request asks for more than is reasonable.
    pub fn within(&self, size: u64) -> Option<Vec<Span>> {
        if self.0.len() > MOST_RANGES {
            return None;
        }
        let spans: Vec<Span> = self.0.iter().filter_map(|s| s.within(size)).collect();
        // A few overlapping ranges are a client's clumsiness, many are an attack (RFC 7233, 6.1).
        let overlaps = spans
            .iter()
            .enumerate()
            .map(|(i, a)| spans[..i].iter().filter(|b| a.start < b.end && b.start < a.end).count())
            .sum::<usize>();
        (!spans.is_empty() && overlaps <= 2).then_some(spans)
    }
}

impl Spec {
    fn within(self, size: u64) -> Option<Span> {
        let span = match self {
            Spec::From(first, last) => {
                Span { start: first, end: last.map_or(size, |l| l.saturating_add(1).min(size)) }
            }
            Spec::Suffix(n) => Span { start: size.saturating_sub(n), end: size },
        };
        (!span.is_empty()).then_some(span)
    }
}

/// Digits only: `parse` alone would take `+5`. A number past u64 is past every object.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(header: &str, size: u64) -> Option<Vec<(u64, u64)>> {
        Ranges::parse(header)?.within(size).map(|s| s.iter().map(|s| (s.start, s.end)).collect())
    }

    #[test]
    fn the_forms_of_a_range() {
        assert_eq!(of("bytes=0-9", 100), Some(vec![(0, 10)]));
        assert_eq!(of("bytes=90-", 100), Some(vec![(90, 100)]));
        assert_eq!(of("bytes=-5", 100), Some(vec![(95, 100)]));
        assert_eq!(of("bytes=-500", 100), Some(vec![(0, 100)]));
        assert_eq!(of("bytes=50-500", 100), Some(vec![(50, 100)]));
        assert_eq!(of("bytes=0-0, 99-99,200-300", 100), Some(vec![(0, 1), (99, 100)]));
        assert_eq!(of("bytes=0-99999999999999999999999999", 100), Some(vec![(0, 100)]));
    }

    #[test]
    fn ranges_that_are_ignored_or_refused() {
        for ignored in
            ["", "items=0-1", "bytes=", "bytes=-", "bytes=5-4", "bytes=a-b", "bytes=+1-2", "bytes=1"]
        {
            assert_eq!(Ranges::parse(ignored), None, "{ignored}");
        }
        for unsatisfiable in ["bytes=100-", "bytes=-0", "bytes=100-200", "bytes=0-9,0-9,0-9"] {
            assert_eq!(Ranges::parse(unsatisfiable).unwrap().within(100), None, "{unsatisfiable}");
        }
        assert_eq!(Ranges::parse("bytes=0-").unwrap().within(0), None);
        let many = format!("bytes={}", vec!["1-1"; 51].join(","));
        assert_eq!(Ranges::parse(&many).unwrap().within(100), None);
    }

    proptest! {
        #[test]
        fn spans_stay_within_the_object(header in "bytes=[0-9,\\- ]{0,40}", size in 0u64..1000) {
            for s in Ranges::parse(&header).and_then(|r| r.within(size)).unwrap_or_default() {
                prop_assert!(s.start < s.end && s.end <= size);
            }
        }
    }
}
