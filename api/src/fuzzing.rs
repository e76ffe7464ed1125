//! The parsers of what operators and clients write, each as a function over bytes that panics where the parser breaks its
//! word: the targets below `fuzz/` call them, and every test run feeds them noise and damaged samples.

use crate::{Page, Query};

/// An operator's policy file.
pub fn policy_files(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        crate::policy::try_text(text);
    }
}

/// A query, and the page that it asks for.
pub fn queries(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(query) = Query::parse(text) else { return };
    if let Ok(page) = Page::parse(&query, 1000, &["name", "created_at"]) {
        assert!(page.limit <= 1000 && page.fetch() == page.limit + 1);
        let next = page.next("http://h/v", &query, "last");
        let next = next.strip_prefix("http://h/v?").and_then(|q| Query::parse(q).ok());
        let marker = next.as_ref().and_then(|q| q.get("marker"));
        assert_eq!(marker, Some("last"), "the next page of {text} begins elsewhere");
    }
}

/// What to begin with: the target's name and an input that is good, or nearly.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let policy = "# rules\n\"admin\": \"role:admin or is_admin:1\"\nown: 'project_id:%(project_id)s and not (role:reader)'\n\
        \"old\": [[\"role:a\", \"rule:own\"], \"@\"]\nnever: \"!\"\n";
    let query = "limit=2&name=a%20b&sort=name:asc,created_at&marker=x&sort_key=name&sort_dir=desc";
    vec![
        ("policy_files", policy.as_bytes().to_vec()),
        ("policy_files", br#"{"a": "rule:b", "b": "'x':%(y)s"}"#.to_vec()),
        ("queries", query.as_bytes().to_vec()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn noise_and_damaged_samples(
            noise in ".{0,60}",
            words in "[rule:a-d @!'%()s,.and or not\\[\\]\"-]{0,60}",
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            for text in [&noise, &words, &format!("a: {words}\nb: \"{words}\"")] {
                policy_files(text.as_bytes());
                queries(text.as_bytes());
            }
            for (_, mut seed) in seeds() {
                for (at, byte) in &changes {
                    let at = at.index(seed.len());
                    seed[at] = *byte;
                }
                policy_files(&seed);
                queries(&seed);
            }
        }
    }
}
