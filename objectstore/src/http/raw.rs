//! Header values that are not UTF-8, kept as text: Swift's objects may have such metadata.
//!
//! A byte that belongs to no character is kept as a character of a block that nothing else uses; so are the bytes of that
//! block's own characters, so that every value has a text and every text its value. All other text stands for itself.

/// The first of the 256 characters that stand for bytes: the end of the last private plane.
const BLOCK: u32 = 0x10_FF00;

fn byte_of(c: char) -> Option<u8> {
    u8::try_from(u32::from(c).checked_sub(BLOCK)?).ok()
}

/// The text that is kept of a value.
pub(crate) fn keep(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len());
    let stand = |b: &u8| char::from_u32(BLOCK + u32::from(*b));
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            match byte_of(c) {
                None => out.push(c),
                Some(_) => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes().iter().filter_map(stand)),
            }
        }
        out.extend(chunk.invalid().iter().filter_map(stand));
    }
    out
}

/// The value that a kept text stands for.
pub(crate) fn raw(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        match byte_of(c) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

/// Bytes of the value that a kept text stands for.
pub(crate) fn len(text: &str) -> usize {
    text.chars().map(|c| if byte_of(c).is_some() { 1 } else { c.len_utf8() }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stands_for_itself() {
        assert_eq!(keep("grün ☃".as_bytes()), "grün ☃");
        assert_eq!(raw("grün ☃"), "grün ☃".as_bytes());
        assert_eq!(keep(b"a\xe2\x98"), "a\u{10ffe2}\u{10ff98}");
    }

    proptest::proptest! {
        #[test]
        fn any_value_comes_back(value: Vec<u8>, text in ".{0,20}|[\u{10ff00}-\u{10ffff}]{0,4}") {
            let kept = keep(&value);
            proptest::prop_assert_eq!(len(&kept), value.len());
            proptest::prop_assert_eq!(raw(&kept), value);
            proptest::prop_assert_eq!(raw(&keep(text.as_bytes())), text.into_bytes());
        }
    }
}
