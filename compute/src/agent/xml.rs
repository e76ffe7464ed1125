//! A small tree of XML elements: written with quick-xml's escaping, read back from what libvirt says.

use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use quick_xml::{Reader, Writer};

/// An element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct El {
    pub(crate) name: String,
    pub(crate) attrs: Vec<(String, String)>,
    pub(crate) children: Vec<El>,
    pub(crate) text: String,
}

impl El {
    pub(crate) fn new(name: &str) -> Self {
        El { name: name.to_owned(), ..El::default() }
    }

    #[must_use]
    pub(crate) fn attr(mut self, name: &str, value: impl ToString) -> Self {
        self.attrs.push((name.to_owned(), value.to_string()));
        self
    }

    #[must_use]
    pub(crate) fn text(mut self, text: impl ToString) -> Self {
        self.text = text.to_string();
        self
    }

    #[must_use]
    pub(crate) fn with(mut self, child: El) -> Self {
        self.children.push(child);
        self
    }

    #[must_use]
    pub(crate) fn with_all(mut self, children: impl IntoIterator<Item = El>) -> Self {
        self.children.extend(children);
        self
    }

    /// A child with nothing but attributes.
    #[must_use]
    pub(crate) fn leaf(self, name: &str, attrs: &[(&str, &str)]) -> Self {
        let child = attrs.iter().fold(El::new(name), |e, (k, v)| e.attr(k, v));
        self.with(child)
    }

    pub(crate) fn get(&self, attr: &str) -> Option<&str> {
        self.attrs.iter().find(|(k, _)| k == attr).map(|(_, v)| v.as_str())
    }

    pub(crate) fn child(&self, name: &str) -> Option<&El> {
        self.children.iter().find(|c| c.name == name)
    }

    /// The element at a path of names below this one, the first of each.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&El> {
        path.iter().try_fold(self, |el, name| el.child(name))
    }

    pub(crate) fn render(&self) -> String {
        let mut writer = Writer::new(Vec::new());
        // Writing into memory does not fail.
        let _ = self.write(&mut writer);
        String::from_utf8_lossy(&writer.into_inner()).into_owned()
    }

    fn write(&self, w: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        let attrs = self.attrs.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let start = BytesStart::new(self.name.as_str()).with_attributes(attrs);
        if self.children.is_empty() && self.text.is_empty() {
            return w.write_event(Event::Empty(start));
        }
        w.write_event(Event::Start(start))?;
        if !self.text.is_empty() {
            w.write_event(Event::Text(BytesText::new(&self.text)))?;
        }
        for child in &self.children {
            child.write(w)?;
        }
        w.write_event(Event::End(BytesEnd::new(self.name.as_str())))
    }

    /// Reads a document; `None` where it is not well-formed.
    pub(crate) fn parse(text: &str) -> Option<El> {
        let mut reader = Reader::from_str(text);
        let mut open: Vec<El> = Vec::new();
        loop {
            match reader.read_event().ok()? {
                Event::Start(e) => open.push(element(&e)?),
                Event::Empty(e) => {
                    let el = element(&e)?;
                    match open.last_mut() {
                        Some(parent) => parent.children.push(el),
                        None => return Some(el),
                    }
                }
                Event::Text(t) => {
                    if let Some(el) = open.last_mut() {
                        el.text.push_str(&t.xml10_content());
                    }
                }
                Event::GeneralRef(r) => {
                    if let Some(el) = open.last_mut() {
                        match r.resolve_char_ref() {
                            Ok(Some(c)) => el.text.push(c),
                            _ => el.text.push_str(entity(&r.xml10_content())),
                        }
                    }
                }
                Event::End(_) => {
                    let mut el = open.pop()?;
                    el.text = el.text.trim().to_owned();
                    match open.last_mut() {
                        Some(parent) => parent.children.push(el),
                        None => return Some(el),
                    }
                }
                Event::Eof => return None,
                _ => {}
            }
        }
    }
}

fn element(e: &BytesStart<'_>) -> Option<El> {
    let mut el = El::new(e.name().as_ref());
    for attr in e.attributes() {
        let attr = attr.ok()?;
        let value = attr.normalized_value(quick_xml::XmlVersion::Implicit1_0).ok()?;
        el.attrs.push((attr.key.as_ref().to_owned(), value.into_owned()));
    }
    Some(el)
}

fn entity(name: &str) -> &'static str {
    match name {
        "lt" => "<",
        "gt" => ">",
        "amp" => "&",
        "quot" => "\"",
        "apos" => "'",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let el =
            El::new("a").attr("k", "<&\"'").with(El::new("b").text("x < y & z")).leaf("c", &[("d", "1")]);
        assert_eq!(El::parse(&el.render()).unwrap(), el);
    }

    #[test]
    fn broken_documents_are_refused() {
        for bad in ["", "<a>", "<a></b>", "<a x=1/>", "text"] {
            assert!(El::parse(bad).is_none(), "{bad}");
        }
    }
}
