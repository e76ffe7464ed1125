//! Multi-factor rules: the sets of methods of which a user must use one whole.

use crate::token::Method;
use serde_json::Value;

/// A user's rules; none allow everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rules(Vec<Vec<Method>>);

impl Rules {
    /// As upstream, rules hold unless the user's option says otherwise, and methods that do not exist here do not
    /// count, so that none can shut a user out by being taken away. A rule of nothing else is no rule.
    pub(crate) fn of(options: &Value) -> Self {
        if options["multi_factor_auth_enabled"] == Value::Bool(false) {
            return Rules::default();
        }
        let known = |rule: &Value| -> Vec<Method> {
            let names = rule.as_array().into_iter().flatten().filter_map(Value::as_str);
            names.filter_map(Method::by_name).collect()
        };
        let rules = options["multi_factor_auth_rules"].as_array();
        Rules(rules.into_iter().flatten().map(known).filter(|r| !r.is_empty()).collect())
    }

    pub(super) fn allow(&self, used: &[Method]) -> bool {
        self.0.is_empty() || self.0.iter().any(|rule| rule.iter().all(|m| used.contains(m)))
    }

    /// The rules of which a part was used, by names.
    pub(super) fn begun(&self, used: &[Method]) -> Vec<Vec<&'static str>> {
        let begun = self.0.iter().filter(|rule| rule.iter().any(|m| used.contains(m)));
        begun.map(|rule| rule.iter().map(|m| m.name()).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_whole_rule_must_be_used() {
        use Method::*;
        let rules = Rules::of(&json!({"multi_factor_auth_rules": [["password", "totp"], ["token", "x509"]]}));
        assert!(rules.allow(&[Totp, Password]) && rules.allow(&[Token]));
        assert!(!rules.allow(&[Password]) && !rules.allow(&[]) && !rules.allow(&[AppCredential]));
        assert_eq!(rules.begun(&[Password]), [["password", "totp"]]);
        for none in [
            json!({}),
            json!({"multi_factor_auth_rules": []}),
            json!({"multi_factor_auth_rules": [[]]}),
            json!({"multi_factor_auth_rules": [["kerberos"]]}),
            json!({"multi_factor_auth_rules": [["totp"]], "multi_factor_auth_enabled": false}),
        ] {
            assert!(Rules::of(&none).allow(&[Password]), "{none}");
        }
        let odd = Rules::of(&json!({"multi_factor_auth_rules": [["kerberos"], ["totp"]]}));
        assert!(!odd.allow(&[Password]), "a rule that nothing can meet opens nothing");
    }
}
