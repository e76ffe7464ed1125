//! What a directory's entries say of users and groups.

use super::settings::{Enabled, Settings, Tree};
use crate::store::Record;
use ldap3::{SearchEntry, ldap_escape};
use serde_json::json;

/// A user or group, by what its directory calls it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) dn: String,
    pub(super) local: String,
    pub(super) record: Record,
}

/// Longer values are no names.
const LONGEST: usize = 255;

impl Tree {
    /// The entries of this kind for which the condition holds: texts in it are escaped by the caller.
    pub(super) fn matching(&self, condition: &str) -> String {
        format!("(&{condition}(objectClass={}){})", self.class, self.filter)
    }

    pub(super) fn with(&self, attribute: &str, value: &str) -> String {
        self.matching(&format!("({attribute}={})", ldap_escape(value)))
    }

    fn attributes(&self) -> Vec<String> {
        let fixed = [&self.id, &self.name].into_iter().chain(&self.description);
        fixed.chain(self.additional.iter().map(|(there, _)| there)).cloned().collect()
    }

    fn read(&self, entry: &SearchEntry) -> Option<Found> {
        let (local, name) = (self.local(entry)?, value(entry, &self.name)?);
        let name = name.trim();
        if local.len() > LONGEST || name.is_empty() || name.chars().count() > LONGEST {
            return None;
        }
        let description = self.description.as_ref().and_then(|a| value(entry, a)).unwrap_or_default();
        let mut record = Record::new();
        for (there, here) in &self.additional {
            record.extend(value(entry, there).map(|v| (here.clone(), v.into())));
        }
        record.insert("name".into(), name.into());
        record.insert("description".into(), description.into());
        Some(Found { dn: entry.dn.clone(), local, record })
    }

    /// What the entry is called. Directories give several values in any order: then the one that its DN names.
    fn local(&self, entry: &SearchEntry) -> Option<String> {
        let mut all = all(entry, &self.id);
        all.sort_unstable();
        let rdn = normal(&entry.dn).into_iter().next().unwrap_or_default();
        let named = all.iter().find(|v| rdn == (self.id.to_lowercase(), v.to_lowercase())).cloned();
        named.or_else(|| all.into_iter().next())
    }
}

/// The first value of an attribute.
fn value(entry: &SearchEntry, name: &str) -> Option<String> {
    all(entry, name).into_iter().next()
}

/// All values of an attribute that are text. The names of attributes do not differ by case.
pub(super) fn all(entry: &SearchEntry, name: &str) -> Vec<String> {
    let same = |k: &String| k.eq_ignore_ascii_case(name);
    let texts = entry.attrs.iter().find(|(k, _)| same(k)).map(|(_, v)| v.clone());
    let bytes = entry.bin_attrs.iter().find(|(k, _)| same(k)).map(|(_, v)| v.clone()).unwrap_or_default();
    let bytes = bytes.into_iter().filter_map(|b| String::from_utf8(b).ok());
    let found = texts.into_iter().flatten().chain(bytes);
    found.filter(|v| !v.is_empty() && !v.contains('\0')).collect()
}

impl Settings {
    /// What is asked of users.
    pub(super) fn user_attributes(&self) -> Vec<String> {
        let mut names = self.users.attributes();
        names.extend(self.mail.iter().chain(&self.default_project).cloned());
        if let Enabled::Attribute { name, .. } | Enabled::Mask { name, .. } = &self.enabled {
            names.push(name.clone());
        }
        names
    }

    pub(super) fn group_attributes(&self) -> Vec<String> {
        self.groups.attributes()
    }

    /// A user of an entry, if it is one. Of those that a group enables, `enabled` is not known yet.
    pub(super) fn user(&self, entry: &SearchEntry) -> Option<Found> {
        let mut found = self.users.read(entry)?;
        let record = &mut found.record;
        record.retain(|_, v| *v != "");
        record.insert("enabled".into(), self.is_enabled(entry).into());
        record.insert("options".into(), json!({}));
        for (here, there) in [("email", &self.mail), ("default_project_id", &self.default_project)] {
            let read = there.as_ref().and_then(|a| value(entry, a));
            record.extend(read.map(|v| (here.to_owned(), v.into())));
        }
        Some(found)
    }

    pub(super) fn group(&self, entry: &SearchEntry) -> Option<Found> {
        self.groups.read(entry)
    }

    fn is_enabled(&self, entry: &SearchEntry) -> bool {
        match &self.enabled {
            Enabled::Always => true,
            Enabled::Attribute { name, invert, default } => {
                let yes = |v: String| v.eq_ignore_ascii_case("true") || v.parse().is_ok_and(|n: i64| n != 0);
                value(entry, name).map_or(*default, yes) != *invert
            }
            Enabled::Mask { name, mask, default } => {
                let said = match value(entry, name) {
                    None => *default,
                    // What is no number enables nobody.
                    Some(v) => match v.trim().parse() {
                        Ok(n) => n,
                        Err(_) => return false,
                    },
                };
                said & mask != *mask
            }
            Enabled::Group { .. } => false,
        }
    }
}

/// A DN in the form that others of the same entry have as well: its parts as `(attribute, value)` in lower case, however their values are escaped.
pub(super) fn normal(dn: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut bytes = dn.bytes();
    let (mut name, mut value) = (None, Vec::new());
    let mut end = |name: &mut Option<String>, value: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(&std::mem::take(value)).trim().to_lowercase();
        out.push((name.take().unwrap_or_default(), text));
    };
    while let Some(b) = bytes.next() {
        match b {
            b'\\' => {
                let Some(next) = bytes.next() else { break };
                let low = bytes.clone().next().filter(|_| next.is_ascii_hexdigit());
                let pair = low.and_then(|low| hex::decode([next, low]).ok());
                match pair {
                    Some(decoded) => {
                        bytes.next();
                        value.extend(decoded);
                    }
                    None => value.push(next),
                }
            }
            b'=' if name.is_none() => {
                name = Some(String::from_utf8_lossy(&std::mem::take(&mut value)).trim().to_lowercase());
            }
            b',' => end(&mut name, &mut value),
            b => value.push(b),
        }
    }
    end(&mut name, &mut value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::HashMap;

    fn entry(attrs: &[(&str, &str)]) -> SearchEntry {
        let attrs: HashMap<String, Vec<String>> =
            attrs.iter().map(|(k, v)| ((*k).to_owned(), vec![(*v).to_owned()])).collect();
        SearchEntry { dn: "uid=x,dc=y".into(), attrs, bin_attrs: HashMap::new() }
    }

    fn settings(options: Value) -> Settings {
        Settings::read(options.as_object().unwrap()).unwrap()
    }

    #[test]
    fn who_is_enabled() {
        let is = |s: &Settings, attrs: &[(&str, &str)]| {
            let user = s.user(&entry(&[&[("cn", "i"), ("sn", "n")], attrs].concat())).unwrap();
            user.record["enabled"] == true
        };
        let plain = settings(json!({}));
        assert!(
            is(&plain, &[]) && is(&plain, &[("enabled", "TRUE")]) && !is(&plain, &[("Enabled", "FALSE")])
        );
        let inverted =
            settings(json!({"user_enabled_attribute": "nsAccountLock", "user_enabled_invert": true,
            "user_enabled_default": "False"}));
        assert!(is(&inverted, &[]) && !is(&inverted, &[("nsaccountlock", "true")]));
        let masked = settings(json!({"user_enabled_attribute": "userAccountControl", "user_enabled_mask": 2,
            "user_enabled_default": "512"}));
        assert!(is(&masked, &[]) && is(&masked, &[("userAccountControl", "512")]));
        assert!(
            !is(&masked, &[("userAccountControl", "514")]) && !is(&masked, &[("userAccountControl", "x")])
        );
        let ignored = settings(json!({"user_attribute_ignore": "enabled,email"}));
        assert!(is(&ignored, &[("enabled", "FALSE")]));
        let user = ignored.user(&entry(&[("cn", "i"), ("sn", "n"), ("mail", "n@x")])).unwrap();
        assert!(!user.record.contains_key("email"));
    }

    #[test]
    fn what_is_no_text_and_what_has_several_values() {
        let s = settings(json!({}));
        let mut e = entry(&[("cn", "i"), ("sn", "n")]);
        e.bin_attrs.insert("description".into(), vec![vec![0xff, 0xfe], b"text".to_vec()]);
        assert_eq!(s.user(&e).unwrap().record["description"], "text");
        e.bin_attrs.insert("mail".into(), vec![vec![0xff]]);
        assert!(!s.user(&e).unwrap().record.contains_key("email"));
        e.attrs.remove("sn");
        e.bin_attrs.insert("sn".into(), vec![vec![0xff]]);
        assert!(s.user(&e).is_none());
        let mut e = entry(&[("sn", "n")]);
        for order in [["b", "a"], ["a", "b"]] {
            e.attrs.insert("cn".into(), order.map(str::to_owned).into());
            e.dn = "uid=x,dc=y".into();
            assert_eq!(s.user(&e).unwrap().local, "a");
            e.dn = "CN=B,dc=y".into();
            assert_eq!(s.user(&e).unwrap().local, "b");
        }
    }

    #[test]
    fn names_cannot_change_a_filter() {
        let s = settings(json!({"user_filter": "(x=1)"}));
        assert_eq!(s.users.with("sn", "a"), "(&(sn=a)(objectClass=inetOrgPerson)(x=1))");
        for name in ["*", "a)(uid=*", "\\", "a\0b", "*)(objectClass=*", "(|(a=b))"] {
            let filter = s.users.with("sn", name);
            let inner = filter
                .strip_prefix("(&(sn=")
                .and_then(|f| f.strip_suffix(")(objectClass=inetOrgPerson)(x=1))"));
            let inner = inner.unwrap();
            assert!(!inner.contains(['*', '(', ')', '\0']), "{filter}");
        }
        assert!(s.user(&entry(&[("cn", "i")])).is_none() && s.user(&entry(&[("sn", "n")])).is_none());
        assert_eq!(normal("CN=Ann , OU=a"), normal("cn=ann,ou=A"));
        assert_eq!(normal("cn=Doe\\, Ann,ou=a"), normal("cn=Doe\\2C Ann,OU=a"));
        assert_eq!(normal("cn=M\\C3\\BCller"), normal("cn=müller"));
        assert_ne!(normal("cn=a\\,ou=b"), normal("cn=a,ou=b"));
        let _ = (normal("\\"), normal("=,=\\4"), normal(""));
    }
}
