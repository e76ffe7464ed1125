//! What comes from an OVSDB server, as functions over bytes that panic where the parser breaks its word: the targets
//! below `fuzz/` call them, and every test run feeds them noise and damaged samples.

use crate::ovsdb::framing::Splitter;

/// A byte that says how the stream is cut, and the stream: its messages are the same whatever the cuts.
pub fn ovsdb(data: &[u8]) {
    let Some((step, stream)) = data.split_first() else { return };
    let run = |step: usize| {
        let (mut splitter, mut all) = (Splitter::default(), Vec::new());
        for part in stream.chunks(step.max(1)) {
            splitter.push(part);
            loop {
                match splitter.next_message() {
                    Ok(Some(message)) => all.push(message),
                    Ok(None) => break,
                    Err(_) => return (all, false),
                }
            }
        }
        (all, true)
    };
    let (messages, whole) = run(usize::MAX);
    assert_eq!(
        (messages.clone(), whole),
        run(usize::from(*step)),
        "the cuts of the stream change what it says"
    );
    for value in messages.iter().filter_map(|m| serde_json::from_slice(m).ok()) {
        crate::ovsdb::try_message(&value);
    }
}

/// What to begin with: the target's name and an input that is good, or nearly.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let id = "36bef046-7da7-43a5-905a-c17899216fcb";
    let schema = r#"{"tables": {"T": {"columns": {"name": {"type": "string"}, "tags": {"type": {"key": "string", "max": "unlimited"}}}}}}"#;
    let rows = format!(
        r#"{{"T": {{"{id}": {{"initial": {{"name": "a", "tags": ["map", [["k", "v"]]], "n": ["set", [1, 2.5, true]]}}}}}}}}"#
    );
    let change = format!(r#"{{"T": {{"{id}": {{"modify": {{"tags": ["map", [["k", "w"]]]}}}}}}}}"#);
    let answer = format!(r#"[{{"uuid": ["uuid", "{id}"]}}, {{"count": 1}}, {{"rows": [{{"name": "a"}}]}}]"#);
    let stream = [schema, &rows, &change, &answer].join(" ");
    vec![
        ("ovsdb", [b"\x07".as_slice(), stream.as_bytes()].concat()),
        ("ovsdb", br#"?[{"error": "x"}]"#.to_vec()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn noise_and_damaged_samples(
            noise: Vec<u8>,
            json in "[\\[\\]{}\"a:1,. ]{0,60}",
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            ovsdb(&noise);
            ovsdb(json.as_bytes());
            for (_, mut seed) in seeds() {
                for (at, byte) in &changes {
                    let at = at.index(seed.len());
                    seed[at] = *byte;
                }
                ovsdb(&seed);
            }
        }
    }
}
