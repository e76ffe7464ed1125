//! Cuts a byte stream into JSON texts. JSON-RPC over OVSDB has no delimiter: a message ends where its
//! outermost bracket closes, so a scanner follows brackets and strings, remembering where it stopped.
//!
//! Bounds: a message is at most [`MAX_MESSAGE`] bytes and [`MAX_DEPTH`] brackets deep; whatever exceeds
//! them is an error, and the connection is dropped.

use crate::NetError;

/// A monitor's first answer holds whole tables: 256 MiB is some hundred thousand logical ports.
pub const MAX_MESSAGE: usize = 256 << 20;
/// OVSDB's notation nests eight levels at most.
pub const MAX_DEPTH: usize = 64;

/// Collects bytes and gives complete JSON texts.
#[derive(Default)]
pub struct Splitter {
    buffer: Vec<u8>,
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Splitter {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete message, or `None` until more bytes come.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, NetError> {
        while self.scanned < self.buffer.len() {
            let byte = self.buffer[self.scanned];
            self.scanned += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(NetError::OvsdbProtocol("a message is nested too deeply".into()));
                    }
                }
                b'}' | b']' => {
                    let Some(depth) = self.depth.checked_sub(1) else {
                        return Err(NetError::OvsdbProtocol("unbalanced brackets".into()));
                    };
                    self.depth = depth;
                    if depth == 0 {
                        let rest = self.buffer.split_off(self.scanned);
                        self.scanned = 0;
                        return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
                    }
                }
                b'"' if self.depth > 0 => self.in_string = true,
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ if self.depth > 0 => {}
                _ => return Err(NetError::OvsdbProtocol("bytes outside of a message".into())),
            }
        }
        if self.buffer.len() > MAX_MESSAGE {
            return Err(NetError::OvsdbProtocol("a message is too long".into()));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_split_anywhere() {
        let text = br#"{"a":"}\"{","b":[1]} {"c":2}"#;
        for cut in 0..text.len() {
            let mut splitter = Splitter::default();
            let mut seen = Vec::new();
            for part in [&text[..cut], &text[cut..]] {
                splitter.push(part);
                while let Some(message) = splitter.next_message().unwrap() {
                    seen.push(serde_json::from_slice::<serde_json::Value>(&message).unwrap());
                }
            }
            assert_eq!(
                seen,
                [serde_json::json!({"a":"}\"{","b":[1]}), serde_json::json!({"c":2})],
                "cut {cut}"
            );
        }
    }

    #[test]
    fn garbage_is_refused() {
        for bad in [&b"hello"[..], b"]", &[b'['; 100]] {
            let mut splitter = Splitter::default();
            splitter.push(bad);
            assert!(splitter.next_message().is_err());
        }
    }
}
