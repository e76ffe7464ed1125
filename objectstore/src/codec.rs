//! The encoding of everything this crate keeps inside RADOS objects: numbered, length-prefixed fields.
//!
//! A value is one version byte and then fields `(id, length, bytes)`, id and length as LEB128. A reader skips
//! the fields that it does not know, so a newer process may add fields while an older one still serves: the
//! two meet in every rolling upgrade. Field numbers are never used twice.

/// The only layout so far. A reader refuses any other.
const VERSION: u8 = 1;

/// Builds one value.
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    pub(crate) fn new() -> Self {
        let mut out = Vec::with_capacity(128);
        out.push(VERSION);
        Encoder(out)
    }

    pub(crate) fn bytes(&mut self, id: u64, value: &[u8]) -> &mut Self {
        put_varint(&mut self.0, id);
        put_varint(&mut self.0, value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn text(&mut self, id: u64, value: &str) -> &mut Self {
        self.bytes(id, value.as_bytes())
    }

    /// Writes nothing for an empty text: absent and empty read alike.
    pub(crate) fn text_opt(&mut self, id: u64, value: &str) -> &mut Self {
        if value.is_empty() { self } else { self.text(id, value) }
    }

    pub(crate) fn number(&mut self, id: u64, value: u64) -> &mut Self {
        let mut tmp = Vec::with_capacity(10);
        put_varint(&mut tmp, value);
        self.bytes(id, &tmp)
    }

    /// Writes nothing for zero: absent and zero read alike.
    pub(crate) fn number_opt(&mut self, id: u64, value: u64) -> &mut Self {
        if value == 0 { self } else { self.number(id, value) }
    }

    /// A pair of texts under one field; repeated for a map.
    pub(crate) fn pair(&mut self, id: u64, key: &str, value: &str) -> &mut Self {
        let mut tmp = Vec::with_capacity(key.len() + value.len() + 3);
        put_varint(&mut tmp, key.len() as u64);
        tmp.extend_from_slice(key.as_bytes());
        tmp.extend_from_slice(value.as_bytes());
        self.bytes(id, &tmp)
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// What made a value unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an encoded value is damaged or of an unknown version")]
pub(crate) struct Damaged;

/// One field of a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) id: u64,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Field<'a> {
    pub(crate) fn text(self) -> Result<String, Damaged> {
        std::str::from_utf8(self.bytes).map(str::to_owned).map_err(|_| Damaged)
    }

    pub(crate) fn number(self) -> Result<u64, Damaged> {
        let mut rest = self.bytes;
        let n = take_varint(&mut rest)?;
        if rest.is_empty() { Ok(n) } else { Err(Damaged) }
    }

    pub(crate) fn pair(self) -> Result<(String, String), Damaged> {
        let mut rest = self.bytes;
        let len = usize::try_from(take_varint(&mut rest)?).map_err(|_| Damaged)?;
        let key = rest.get(..len).ok_or(Damaged)?;
        let text = |b: &[u8]| std::str::from_utf8(b).map(str::to_owned).map_err(|_| Damaged);
        Ok((text(key)?, text(&rest[len..])?))
    }

    pub(crate) fn array<const N: usize>(self) -> Result<[u8; N], Damaged> {
        self.bytes.try_into().map_err(|_| Damaged)
    }
}

/// Calls `each` for every field of `value`, in order.
pub(crate) fn decode<'a>(
    value: &'a [u8],
    mut each: impl FnMut(Field<'a>) -> Result<(), Damaged>,
) -> Result<(), Damaged> {
    let (&VERSION, mut rest) = value.split_first().ok_or(Damaged)? else { return Err(Damaged) };
    while !rest.is_empty() {
        let id = take_varint(&mut rest)?;
        let len = usize::try_from(take_varint(&mut rest)?).map_err(|_| Damaged)?;
        let bytes = rest.get(..len).ok_or(Damaged)?;
        rest = &rest[len..];
        each(Field { id, bytes })?;
    }
    Ok(())
}

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n as u8) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, Damaged> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first().ok_or(Damaged)?;
        *rest = tail;
        if shift == 63 && byte > 1 {
            return Err(Damaged);
        }
        n |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(n);
        }
    }
    Err(Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unknown_fields_are_skipped_and_other_versions_refused() {
        let mut e = Encoder::new();
        e.number(1, 300).text(99, "from the future").pair(2, "k", "v");
        let value = e.done();
        let mut seen = Vec::new();
        decode(&value, |f| {
            match f.id {
                1 => seen.push(f.number()?.to_string()),
                2 => seen.push(format!("{:?}", f.pair()?)),
                _ => {}
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, ["300", "(\"k\", \"v\")"]);
        assert_eq!(decode(&[2, 1, 1], |_| Ok(())), Err(Damaged));
        assert_eq!(decode(&[], |_| Ok(())), Err(Damaged));
    }

    proptest! {
        #[test]
        fn numbers_come_back(n: u64) {
            let mut e = Encoder::new();
            e.number(7, n);
            let mut got = None;
            decode(&e.done(), |f| { got = Some(f.number()?); Ok(()) }).unwrap();
            prop_assert_eq!(got, Some(n));
        }

        #[test]
        fn noise_never_panics(noise: Vec<u8>) {
            let _ = decode(&noise, |f| { let _ = (f.number(), f.pair(), f.text()); Ok(()) });
        }
    }
}
