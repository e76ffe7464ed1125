//! Rolling names up: those that go on alike behind a prefix, up to a delimiter, are one item of a listing.

/// How names are rolled up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Roll {
    pub(super) prefix: String,
    pub(super) delimiter: String,
    /// A name that ends with the delimiter is an item of its own (Swift's `path` shows a directory's marker object).
    pub(super) shows_own: bool,
}

impl Roll {
    /// None where there is no delimiter.
    pub(crate) fn new(prefix: &str, delimiter: &str, shows_own: bool) -> Option<Self> {
        let (prefix, delimiter) = (prefix.to_owned(), delimiter.to_owned());
        (!delimiter.is_empty()).then_some(Roll { prefix, delimiter, shows_own })
    }

    /// What `name` is rolled up into.
    pub(crate) fn up<'n>(&self, name: &'n str) -> Option<&'n str> {
        let rest = name.strip_prefix(self.prefix.as_str())?;
        let end = rest.find(self.delimiter.as_str())? + self.delimiter.len();
        (!self.shows_own || end < rest.len()).then(|| &name[..self.prefix.len() + end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_rolled_up_behind_the_prefix() {
        let roll = Roll::new("a/", "--", false).unwrap();
        assert_eq!(roll.up("a/b--c--d"), Some("a/b--"));
        assert_eq!(roll.up("a/--"), Some("a/--"));
        assert_eq!((roll.up("a/b-"), roll.up("b--")), (None, None));
        let path = Roll::new("a/", "/", true).unwrap();
        assert_eq!((path.up("a/b/"), path.up("a/b/c")), (None, Some("a/b/")));
        assert!(Roll::new("a/", "", false).is_none());
    }
}
