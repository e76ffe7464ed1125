//! Texts with `*`, `?` and policy variables (`${aws:username}`). A variable's value is taken as it is: a user who is
//! called `*` is not everybody.

/// A text with wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    One,
    Any,
    /// The name of a condition key, and what stands for it where it is absent.
    Variable(String, Option<String>),
}

/// What gives the values of condition keys.
pub(super) type Facts<'a> = dyn Fn(&str) -> Vec<String> + 'a;

impl Pattern {
    /// Reads a pattern; `None` where a variable makes no sense. Older policies have no variables.
    pub(super) fn read(text: &str, variables: bool) -> Option<Pattern> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if variables && rest.starts_with("${") {
                let (inside, after) = rest[2..].split_once('}')?;
                tokens.push(variable(inside)?);
                rest = after;
                continue;
            }
            tokens.push(match c {
                '*' => Token::Any,
                '?' => Token::One,
                c => Token::Char(c),
            });
            rest = &rest[c.len_utf8()..];
        }
        Some(Pattern(tokens))
    }

    /// Takes wildcards for themselves, as operators do that compare whole texts.
    pub(super) fn exact(self) -> Pattern {
        let plain = |t| match t {
            Token::Any => Token::Char('*'),
            Token::One => Token::Char('?'),
            t => t,
        };
        Pattern(self.0.into_iter().map(plain).collect())
    }

    pub(super) fn has_wildcard(&self) -> bool {
        self.0.iter().any(|t| matches!(t, Token::Any | Token::One | Token::Variable(..)))
    }

    pub(super) fn fits(&self, text: &str, facts: &Facts<'_>) -> bool {
        let mut tokens = Vec::with_capacity(self.0.len());
        for token in &self.0 {
            match token {
                Token::Variable(key, default) => {
                    let Some(value) = facts(key).into_iter().next().or_else(|| default.clone()) else {
                        return false;
                    };
                    tokens.extend(value.chars().map(Token::Char));
                }
                token => tokens.push(token.clone()),
            }
        }
        matches(&tokens, &text.chars().collect::<Vec<_>>())
    }
}

fn variable(inside: &str) -> Option<Token> {
    if matches!(inside, "*" | "?" | "$") {
        return inside.chars().next().map(Token::Char);
    }
    let (name, default) = match inside.split_once(',') {
        None => (inside, None),
        Some((name, default)) => {
            (name, Some(default.trim().strip_prefix('\'')?.strip_suffix('\'')?.to_owned()))
        }
    };
    super::condition::known_key(name.trim()).map(|key| Token::Variable(key, default))
}

/// Whether tokens without variables match a text. Goes back to the last star only: time is the product of the lengths.
fn matches(tokens: &[Token], text: &[char]) -> bool {
    let (mut t, mut c) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while c < text.len() {
        match tokens.get(t) {
            Some(Token::Any) => {
                star = Some((t, c));
                t += 1;
                continue;
            }
            Some(Token::One) => (t, c) = (t + 1, c + 1),
            Some(Token::Char(want)) if *want == text[c] => (t, c) = (t + 1, c + 1),
            _ => match star {
                Some((at, from)) => {
                    (t, c) = (at + 1, from + 1);
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    tokens[t..].iter().all(|t| *t == Token::Any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fits(pattern: &str, text: &str) -> bool {
        let alice = |key: &str| if key == "aws:username" { vec!["a*".to_owned()] } else { Vec::new() };
        Pattern::read(pattern, true).is_some_and(|p| p.fits(text, &alice))
    }

    #[test]
    fn wildcards_and_variables() {
        assert!(fits("b/*/x?z", "b/1/2/xyz"));
        assert!(fits("*", "") && fits("**", "abc") && fits("", ""));
        assert!(!fits("a?", "a") && !fits("a", "ab") && !fits("*a", "b"));
        assert!(fits("home/${aws:username}/*", "home/a*/k"));
        assert!(!fits("home/${aws:username}/*", "home/alice/k"), "a value has no wildcards");
        assert!(fits("${*}", "*") && !fits("${*}", "x"));
        assert!(!fits("${aws:userid}", ""), "what is absent matches nothing");
        assert!(fits("${aws:userid, 'nobody'}", "nobody"));
        assert!(Pattern::read("${nonsense}", true).is_none());
        assert!(Pattern::read("${", true).is_none());
        assert!(Pattern::read("${nonsense}", false).is_some_and(|p| p.fits("${nonsense}", &|_| Vec::new())));
    }

    proptest! {
        /// As the definition has it, character by character.
        #[test]
        fn it_matches_what_it_should(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            fn slow(p: &[u8], t: &[u8]) -> bool {
                match (p.first(), t.first()) {
                    (None, None) => true,
                    (Some(b'*'), _) => slow(&p[1..], t) || (!t.is_empty() && slow(p, &t[1..])),
                    (Some(b'?'), Some(_)) => slow(&p[1..], &t[1..]),
                    (Some(a), Some(b)) if a == b => slow(&p[1..], &t[1..]),
                    _ => false,
                }
            }
            prop_assert_eq!(fits(&pattern, &text), slow(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn noise_never_panics(pattern in ".{0,40}", text in ".{0,40}") {
            let _ = fits(&pattern, &text);
        }
    }
}
