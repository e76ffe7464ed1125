//! What became of a request that does many things, in text, JSON or XML: the form that archives, bulk deletions and large
//! objects' manifests are answered in.

use super::listing::Format;
use crate::http::s3::xml::escape_into;
use serde_json::{Map, Value};
use std::fmt::Write;

/// A report: named facts, and what went wrong with which path.
pub(super) struct Report {
    /// The element around it all in XML.
    root: &'static str,
    facts: Map<String, Value>,
    /// Paths, URL-encoded, and the status of each.
    errors: Vec<(String, String)>,
}

impl Report {
    pub(super) fn new(root: &'static str, errors: Vec<(String, String)>) -> Self {
        Report { root, facts: Map::new(), errors }
    }

    pub(super) fn with(mut self, name: &str, fact: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), fact.into());
        self
    }

    /// The facts in the order of their names, then the errors. XML comes without a declaration.
    pub(super) fn text(mut self, format: Format) -> String {
        let mut out = String::new();
        if format == Format::Json {
            let errors = self.errors.into_iter().map(|(p, s)| Value::from(vec![p, s]));
            self.facts.insert("Errors".into(), errors.collect());
            return Value::from(self.facts).to_string();
        }
        let shown = |fact: &Value| fact.as_str().map_or_else(|| fact.to_string(), str::to_owned);
        let mut facts: Vec<(&String, String)> = self.facts.iter().map(|(n, f)| (n, shown(f))).collect();
        facts.sort();
        // Writing into a String does not fail.
        if format == Format::Text {
            for (name, fact) in &facts {
                let _ = writeln!(out, "{name}: {fact}");
            }
            out.push_str("Errors:\n");
            for (path, status) in &self.errors {
                let _ = writeln!(out, "{path}, {status}");
            }
            return out;
        }
        let _ = writeln!(out, "<{}>", self.root);
        for (name, fact) in facts {
            let name = name.replace(' ', "_").to_ascii_lowercase();
            let _ = writeln!(out, "<{name}>{}</{name}>", escaped(&fact));
        }
        out.push_str("<errors>\n");
        for (path, status) in &self.errors {
            let (path, status) = (escaped(path), escaped(status));
            let _ = writeln!(out, "<object><name>{path}</name><status>{status}</status></object>");
        }
        let _ = writeln!(out, "</errors>\n</{}>", self.root);
        out
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    escape_into(&mut out, text);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_in_each_form() {
        let report = || {
            Report::new("delete", vec![("c/a%20b".into(), "409 Conflict".into())])
                .with("Response Status", "400 <Bad>")
                .with("Number Deleted", 3)
        };
        assert_eq!(
            report().text(Format::Text),
            "Number Deleted: 3\nResponse Status: 400 <Bad>\nErrors:\nc/a%20b, 409 Conflict\n"
        );
        let json: Value = serde_json::from_str(&report().text(Format::Json)).unwrap();
        assert_eq!((&json["Number Deleted"], &json["Errors"][0][1]), (&3.into(), &"409 Conflict".into()));
        let xml = report().text(Format::Xml);
        assert!(xml.starts_with("<delete>\n<number_deleted>3</number_deleted>\n"), "{xml}");
        assert!(xml.contains("400 &lt;Bad&gt;") && xml.ends_with("</errors>\n</delete>\n"), "{xml}");
    }
}
