//! The rule language's parser. Bounded: a rule is at most 8 KiB and nests at most 32 deep.

use super::check::{ATTRIBUTES, Check, Left, Part, Text};

const MAX_BYTES: usize = 8 << 10;
const MAX_DEPTH: usize = 32;

impl Check {
    /// Reads a rule; an empty one always holds, as in oslo.policy.
    pub(crate) fn parse(text: &str) -> Result<Check, String> {
        if text.len() > MAX_BYTES {
            return Err("the rule is longer than 8 KiB".into());
        }
        let words = words(text);
        if words.is_empty() {
            return Ok(Check::Always);
        }
        let mut p = Parser { words, at: 0 };
        let check = p.any(0)?;
        match p.peek() {
            None => Ok(check),
            Some(extra) => Err(format!("unexpected {extra:?}")),
        }
    }
}

/// Splits at blanks and at parentheses that stand at a word's ends; `%(name)s` keeps its own.
fn words(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    for mut word in text.split_whitespace() {
        while let Some(rest) = word.strip_prefix('(') {
            out.push("(");
            word = rest;
        }
        let body = word.trim_end_matches(')');
        if !body.is_empty() {
            out.push(body);
        }
        out.extend(std::iter::repeat_n(")", word.len() - body.len()));
    }
    out
}

struct Parser<'a> {
    words: Vec<&'a str>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn accept(&mut self, word: &str) -> bool {
        let yes = self.peek().is_some_and(|w| w.eq_ignore_ascii_case(word));
        self.at += usize::from(yes);
        yes
    }

    fn any(&mut self, depth: usize) -> Result<Check, String> {
        let mut parts = vec![self.all(depth)?];
        while self.accept("or") {
            parts.push(self.all(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Check::Any(parts) })
    }

    fn all(&mut self, depth: usize) -> Result<Check, String> {
        let mut parts = vec![self.one(depth)?];
        while self.accept("and") {
            parts.push(self.one(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Check::All(parts) })
    }

    fn one(&mut self, depth: usize) -> Result<Check, String> {
        if depth > MAX_DEPTH {
            return Err("the rule nests too deep".into());
        }
        if self.accept("not") {
            return Ok(Check::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.accept("(") {
            let inner = self.any(depth + 1)?;
            return if self.accept(")") { Ok(inner) } else { Err("a parenthesis is not closed".into()) };
        }
        let word = self.peek().ok_or("the rule ends early")?;
        self.at += 1;
        atom(word)
    }
}

fn atom(word: &str) -> Result<Check, String> {
    match word {
        "@" | "True" => return Ok(Check::Always),
        "!" | "False" => return Ok(Check::Never),
        _ => {}
    }
    match word.split_once(':') {
        Some(("role", name)) if !name.is_empty() => Ok(Check::Role(text(name)?)),
        Some(("rule", name)) if !name.is_empty() => Ok(Check::Rule(name.to_owned())),
        Some(("http" | "https", _)) => Err(format!(
            "{word:?} asks another server: no rule of this cloud depends on one, write the rule itself"
        )),
        Some((kind, value)) if !kind.is_empty() && !value.is_empty() => {
            Ok(Check::Match { left: left(kind)?, right: text(unquoted(value).unwrap_or(value))? })
        }
        _ => Err(format!("{word:?} is not a check")),
    }
}

fn unquoted(word: &str) -> Option<&str> {
    let by = |quote: char| word.strip_prefix(quote)?.strip_suffix(quote);
    by('\'').or_else(|| by('"'))
}

fn left(kind: &str) -> Result<Left, String> {
    if let Some(literal) = unquoted(kind) {
        return Ok(Left::Literal(literal.to_owned()));
    }
    if matches!(kind, "True" | "False" | "None") || kind.parse::<f64>().is_ok() {
        return Ok(Left::Literal(kind.to_owned()));
    }
    match ATTRIBUTES.contains(&kind) {
        true => Ok(Left::Attribute(kind.to_owned())),
        false => Err(format!("no token has {kind:?}; there are {}", ATTRIBUTES.join(", "))),
    }
}

/// `%(name)s` is an attribute of the target, `%%` a percent sign.
fn text(word: &str) -> Result<Text, String> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            plain.push('%');
            rest = after;
            continue;
        }
        let field = after.strip_prefix('(').and_then(|a| a.split_once(")s")).filter(|(n, _)| !n.is_empty());
        let (name, after) = field.ok_or_else(|| format!("{word:?}: after % comes (name)s"))?;
        if !plain.is_empty() {
            parts.push(Part::Plain(std::mem::take(&mut plain)));
        }
        parts.push(Part::Field(name.to_owned()));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Plain(plain));
    }
    Ok(Text(parts))
}
