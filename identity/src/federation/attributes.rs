//! What a provider says in claims, as the attributes that mappings name.
//!
//! The names are those that mappings written for upstream's usual web server module use: `OIDC-email` as well as
//! `HTTP_OIDC_EMAIL`, and `REMOTE_USER` for who it is. They are made from claims that were checked; nothing of the request
//! itself is among them, so no header can pass for one.

use super::mapping::Attributes;
use serde_json::{Map, Value};

/// Claims beyond are left out, and so is what is longer.
const MOST: usize = 200;
const LONGEST: usize = 32 << 10;

pub(super) fn attributes(claims: &Map<String, Value>) -> Attributes {
    let mut out = Attributes::new();
    for (name, value) in claims.iter().take(MOST) {
        let values: Vec<String> = match value {
            Value::Array(list) => list.iter().filter_map(text).collect(),
            one => text(one).into_iter().collect(),
        };
        if values.is_empty() || values.iter().map(String::len).sum::<usize>() > LONGEST {
            continue;
        }
        let upper: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        out.insert(format!("OIDC-{name}"), values.clone());
        // Of claims whose names differ only by case or signs the first counts.
        out.entry(format!("HTTP_OIDC_{upper}")).or_insert_with(|| values.clone());
        if name == "sub" {
            out.insert("REMOTE_USER".into(), values);
        }
    }
    out
}

/// A claim's value as text; objects as JSON.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(s) => Some(s.clone()).filter(|s| !s.is_empty() && !s.contains('\0')),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_become_attributes() {
        let claims = json!({"sub": "u1", "groups": ["a", "b;c"], "email_verified": true, "n": null, "o": {"x": 1},
            "name": "x;admins", "nul": "a\0b"});
        let all = attributes(claims.as_object().unwrap());
        assert_eq!(all["OIDC-groups"], ["a", "b;c"]);
        assert_eq!(all["HTTP_OIDC_GROUPS"], ["a", "b;c"]);
        assert_eq!(all["OIDC-name"], ["x;admins"], "no value is two");
        assert_eq!(
            (&all["OIDC-email_verified"][..], &all["OIDC-o"][..]),
            (&["true".into()][..], &["{\"x\":1}".into()][..])
        );
        assert_eq!(all["REMOTE_USER"], ["u1"]);
        assert!(!all.contains_key("OIDC-n") && !all.contains_key("OIDC-nul"));
    }
}
