//! S3's XML: written by hand (it is a dozen elements), read by a parser that knows no entities but the five
//! of XML, no document types and no more than a few levels.

use super::error::{S3Result, malformed_xml};
use quick_xml::Reader;
use quick_xml::events::Event;

/// Writes a document.
pub(crate) struct Xml(String);

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

impl Xml {
    pub(crate) fn new() -> Self {
        Xml(String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"))
    }

    /// The outermost element of a result, in S3's namespace.
    pub(crate) fn root(&mut self, name: &str) -> &mut Self {
        self.0.push_str(&format!("<{name} xmlns=\"{NAMESPACE}\">"));
        self
    }

    pub(crate) fn open(&mut self, name: &str) -> &mut Self {
        self.0.push('<');
        self.0.push_str(name);
        self.0.push('>');
        self
    }

    pub(crate) fn close(&mut self, name: &str) -> &mut Self {
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
        self
    }

    pub(crate) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.open(name);
        escape_into(&mut self.0, value);
        self.close(name)
    }

    /// An ETag, in its quotes.
    pub(crate) fn etag(&mut self, etag: &str) -> &mut Self {
        self.open("ETag").raw("&quot;");
        escape_into(&mut self.0, etag);
        self.raw("&quot;").close("ETag")
    }

    pub(crate) fn text_opt(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.text(name, value);
        }
        self
    }

    /// Something made elsewhere, already XML.
    pub(crate) fn raw(&mut self, xml: &str) -> &mut Self {
        self.0.push_str(xml);
        self
    }

    pub(crate) fn done(self) -> String {
        self.0
    }
}

/// Escapes text. Characters that XML 1.0 cannot hold become U+FFFD: a key with one is listed with
/// `encoding-type=url`, or shown damaged, but never breaks the document.
pub(crate) fn escape_into(out: &mut String, text: &str) {
    // U+FFFE and U+FFFF begin with the byte EF.
    let plain = |b: u8| b >= b' ' && !matches!(b, b'&' | b'<' | b'>' | b'"' | 0xef);
    if text.bytes().all(plain) {
        return out.push_str(text);
    }
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(c),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

/// An element that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Node {
    /// Without its namespace prefix.
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) children: Vec<Node>,
}

const DEEPEST: usize = 12;

impl Node {
    /// Reads a document whose outermost element is `root`.
    pub(crate) fn parse(body: &[u8], root: &str) -> S3Result<Node> {
        let text = std::str::from_utf8(body).map_err(|_| malformed_xml())?;
        let mut reader = Reader::from_str(text);
        let mut stack: Vec<Node> = Vec::new();
        loop {
            let event = reader.read_event().map_err(|_| malformed_xml())?;
            let name = |n: quick_xml::name::QName<'_>| n.local_name().as_ref().to_owned();
            let finished = match event {
                Event::Start(e) => {
                    if stack.len() >= DEEPEST {
                        return Err(malformed_xml());
                    }
                    stack.push(Node { name: name(e.name()), ..Node::default() });
                    None
                }
                Event::Empty(e) => Some(Node { name: name(e.name()), ..Node::default() }),
                Event::End(_) => Some(stack.pop().ok_or_else(malformed_xml)?),
                Event::Text(t) => {
                    push_text(&mut stack, &t.xml10_content())?;
                    None
                }
                Event::CData(t) => {
                    push_text(&mut stack, &t.xml10_content())?;
                    None
                }
                Event::GeneralRef(r) => {
                    let c = match r.resolve_char_ref().map_err(|_| malformed_xml())? {
                        Some(c) => c,
                        None => named(&r).ok_or_else(malformed_xml)?,
                    };
                    push_text(&mut stack, c.encode_utf8(&mut [0; 4]))?;
                    None
                }
                Event::DocType(_) | Event::Eof => return Err(malformed_xml()),
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => None,
            };
            if let Some(node) = finished {
                match stack.last_mut() {
                    Some(parent) => parent.children.push(node),
                    None if node.name == root => return Ok(node),
                    None => return Err(malformed_xml()),
                }
            }
        }
    }

    pub(crate) fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|c| c.name == name)
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.children.iter().filter(move |c| c.name == name)
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.child(name).map(|c| c.text.as_str())
    }
}

fn push_text(stack: &mut [Node], text: &str) -> S3Result<()> {
    match stack.last_mut() {
        Some(node) => node.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err(malformed_xml()),
    }
    Ok(())
}

fn named(entity: &str) -> Option<char> {
    Some(match entity {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_document_is_read() {
        let doc = br#"<?xml version="1.0"?><Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
            <Object><Key>a &amp; &#x62; &lt;c&gt;</Key></Object><Object><Key/></Object><Quiet>true</Quiet></Delete>"#;
        let node = Node::parse(doc, "Delete").unwrap();
        let keys: Vec<&str> = node.all("Object").filter_map(|o| o.value("Key")).collect();
        assert_eq!(keys, ["a & b <c>", ""]);
        assert_eq!(node.value("Quiet"), Some("true"));
    }

    #[test]
    fn what_is_not_read() {
        for bad in [
            "",
            "text",
            "<Delete>",
            "<Other/>",
            "<Delete></Other>",
            "<!DOCTYPE x [<!ENTITY a 'b'>]><Delete>&a;</Delete>",
            "<Delete>&undefined;</Delete>",
        ] {
            assert!(Node::parse(bad.as_bytes(), "Delete").is_err(), "{bad}");
        }
        let deep = format!("{}{}", "<Delete>".repeat(1000), "</Delete>".repeat(1000));
        assert!(Node::parse(deep.as_bytes(), "Delete").is_err());
    }

    proptest! {
        #[test]
        fn texts_come_back(text in "[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\u{fffe}\u{ffff}]{0,40}") {
            let mut xml = Xml::new();
            xml.root("R").text("K", &text).close("R");
            let node = Node::parse(xml.done().as_bytes(), "R").unwrap();
            prop_assert_eq!(node.value("K"), Some(text.as_str()));
        }

        #[test]
        fn noise_never_panics(noise: Vec<u8>) {
            let _ = Node::parse(&noise, "Delete");
        }
    }
}
