//! Reads tables out of a database dump: what `mysqldump` (or `mariadb-dump`) writes, and `pg_dump` in its plain format.
//!
//! A dump and not a connection: it is of one instant, can be looked at beforehand, needs no password and no driver here,
//! and the services it comes from should be stopped by then anyway. Only the tables that are asked for are kept.

use crate::error::AquiferError;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// A row by its columns; SQL's NULL is none.
pub(super) type Row = HashMap<String, Option<String>>;

/// Tables by name.
#[derive(Debug, Default)]
pub(super) struct Dump(BTreeMap<String, Vec<Row>>);

impl Dump {
    /// The rows of a table that its service has not marked as deleted.
    pub(super) fn live(&self, table: &str) -> impl Iterator<Item = &Row> {
        self.all(table).filter(|r| !flag(r, "deleted"))
    }

    fn all(&self, table: &str) -> impl Iterator<Item = &Row> {
        self.0.get(table).into_iter().flatten()
    }

    /// Reads a file. Fails where it has not the tables in a form that is known.
    pub(super) fn read(file: &Path, tables: &[&str]) -> Result<Dump, AquiferError> {
        let opened = File::open(file).map_err(|e| AquiferError::file(file, e))?;
        let mut reader = Reader { tables, columns: HashMap::new(), dump: Dump::default() };
        let mut lines = BufReader::new(opened).lines();
        while let Some(line) = lines.next() {
            let line = line.map_err(|e| AquiferError::file(file, e))?;
            let rest = &mut std::iter::from_fn(|| lines.next().and_then(Result::ok));
            reader.statement(&line, rest).map_err(|why| {
                AquiferError::Config(format!("{} is no dump that can be read: {why}", file.display()))
            })?;
        }
        match tables.iter().find(|t| !reader.columns.contains_key(**t)) {
            Some(missing) => Err(AquiferError::Config(format!(
                "{} has no table {missing}; make it with mysqldump, or with pg_dump in its plain format",
                file.display()
            ))),
            None => Ok(reader.dump),
        }
    }
}

/// A column's text, if it is there and not NULL.
pub(super) fn text(row: &Row, column: &str) -> Option<String> {
    row.get(column).cloned().flatten()
}

/// Either engine's booleans. Cinder marks some rows by their own id.
pub(super) fn flag(row: &Row, column: &str) -> bool {
    text(row, column).is_some_and(|v| !matches!(v.to_ascii_lowercase().as_str(), "" | "0" | "f" | "false"))
}

struct Reader<'a> {
    tables: &'a [&'a str],
    columns: HashMap<String, Vec<String>>,
    dump: Dump,
}

type Lines<'a> = &'a mut dyn Iterator<Item = String>;

/// A name as either engine quotes it, without its schema.
fn name(quoted: &str) -> &str {
    let last = quoted.trim().rsplit('.').next().unwrap_or_default();
    last.trim_matches(|c| matches!(c, '`' | '"'))
}

fn names(list: &str) -> Vec<String> {
    list.split(',').map(|n| name(n).to_owned()).collect()
}

impl Reader<'_> {
    fn statement(&mut self, line: &str, rest: Lines<'_>) -> Result<(), String> {
        if let Some(head) = line.strip_prefix("CREATE TABLE ") {
            let table = name(head.trim_end_matches(['(', ' ']));
            if self.tables.contains(&table) {
                let columns = rest.take_while(|l| !l.starts_with(')')).filter_map(|l| column(&l)).collect();
                self.columns.insert(table.to_owned(), columns);
            }
        } else if let Some(head) = line.strip_prefix("COPY ") {
            self.copy(head, rest)?;
        } else if let Some(head) = line.strip_prefix("INSERT INTO ") {
            self.insert(head, rest)?;
        }
        Ok(())
    }

    /// PostgreSQL: lines of fields between tabs, until `\.`
    fn copy(&mut self, head: &str, rest: Lines<'_>) -> Result<(), String> {
        let (table, columns) = head.split_once(" (").ok_or("COPY without columns")?;
        let columns = names(columns.split(')').next().unwrap_or_default());
        let table = name(table);
        let wanted = self.tables.contains(&table);
        for line in rest.take_while(|l| l != "\\.") {
            if wanted {
                let values = line.split('\t').map(unescaped).collect();
                self.add(table, &columns, values)?;
            }
        }
        Ok(())
    }

    /// MySQL: `INSERT INTO t [(columns)] VALUES (…),(…);`, on one line or more.
    fn insert(&mut self, head: &str, rest: Lines<'_>) -> Result<(), String> {
        let (before, values) = head.split_once("VALUES").ok_or("INSERT without VALUES")?;
        let (table, columns) = match before.split_once('(') {
            Some((table, columns)) => (name(table), Some(names(columns.trim().trim_end_matches(')')))),
            None => (name(before), None),
        };
        let mut text = values.to_owned();
        if !text.trim_end().ends_with(';') {
            for line in rest {
                text.push('\n');
                text.push_str(&line);
                if line.trim_end().ends_with(';') {
                    break;
                }
            }
        }
        if !self.tables.contains(&table) {
            return Ok(());
        }
        let known = columns.or_else(|| self.columns.get(table).cloned());
        let columns = known.ok_or_else(|| format!("rows of {table} before its columns"))?;
        let mut values = Values(text.trim());
        while let Some(row) = values.row()? {
            self.add(table, &columns, row)?;
        }
        Ok(())
    }

    fn add(&mut self, table: &str, columns: &[String], row: Vec<Option<String>>) -> Result<(), String> {
        if columns.len() != row.len() {
            return Err(format!("a row of {table} has {} values, not {}", row.len(), columns.len()));
        }
        let row = columns.iter().cloned().zip(row).collect();
        self.dump.0.entry(table.to_owned()).or_default().push(row);
        Ok(())
    }
}

/// A column's name, in a line of MySQL's or PostgreSQL's CREATE TABLE; keys and constraints have none.
fn column(line: &str) -> Option<String> {
    let line = line.trim();
    if let Some(quoted) = line.strip_prefix('`') {
        return quoted.split('`').next().map(str::to_owned);
    }
    let word = line.split(' ').next()?;
    let is_name = word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '"');
    (is_name && !word.is_empty()).then(|| name(word).to_owned())
}

/// A field of COPY's text format.
fn unescaped(field: &str) -> Option<String> {
    if field == "\\N" {
        return None;
    }
    let mut out = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('v') => '\u{b}',
                Some(other) => other,
                None => '\\',
            },
            c => c,
        });
    }
    Some(out)
}

/// What is left of MySQL's tuples.
struct Values<'a>(&'a str);

impl Values<'_> {
    fn row(&mut self) -> Result<Option<Vec<Option<String>>>, String> {
        self.0 = self.0.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        if self.0.is_empty() || self.0.starts_with(';') {
            return Ok(None);
        }
        self.0 = self.0.strip_prefix('(').ok_or("a row that does not begin with a bracket")?;
        let mut row = Vec::new();
        loop {
            row.push(self.value()?);
            let (next, rest) = self.0.split_at_checked(1).ok_or("a row that does not end")?;
            self.0 = rest;
            match next {
                "," => {}
                ")" => return Ok(Some(row)),
                _ => return Err("a value that goes on behind its end".into()),
            }
        }
    }

    fn value(&mut self) -> Result<Option<String>, String> {
        self.0 = self.0.strip_prefix("_binary ").unwrap_or(self.0);
        if let Some(quoted) = self.0.strip_prefix('\'') {
            return self.quoted(quoted).map(Some);
        }
        let end = self.0.find([',', ')']).ok_or("a row that does not end")?;
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        Ok((word != "NULL").then(|| word.to_owned()))
    }

    fn quoted(&mut self, quoted: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut chars = quoted.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '\'' if chars.peek().is_some_and(|(_, c)| *c == '\'') => {
                    chars.next();
                    out.push('\'');
                }
                '\'' => {
                    let skip = self.0.len() - quoted.len() + at + 1;
                    self.0 = &self.0[skip..];
                    return Ok(out);
                }
                '\\' => out.push(match chars.next().map(|(_, c)| c) {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some('0') => '\0',
                    Some('Z') => '\u{1a}',
                    Some(other) => other,
                    None => return Err("a text that does not end".into()),
                }),
                c => out.push(c),
            }
        }
        Err("a text that does not end".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(text: &str) -> Result<Dump, AquiferError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Dump::read(file.path(), &["volumes", "empty"])
    }

    fn column_of(dump: &Dump, name: &str) -> Vec<Option<String>> {
        dump.live("volumes").map(|r| text(r, name)).collect()
    }

    #[test]
    fn what_mysqldump_writes() {
        let head = "CREATE TABLE `empty` (\n  `id` int(11) NOT NULL,\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB;\n\
            CREATE TABLE `volumes` (\n  `deleted` tinyint(1) DEFAULT NULL,\n  `id` varchar(36) NOT NULL,\n  \
            `name` varchar(255),\n  PRIMARY KEY (`id`),\n  KEY `k` (`name`)\n) ENGINE=InnoDB;\n";
        let rows = "INSERT INTO `volumes` VALUES (0,'a','it\\'s \\\"x\\\" \\\\ ''q'' ),(\\n;'),(1,'b',NULL),\n(NULL,'c',NULL);\n";
        let others = "INSERT INTO `other` VALUES (1,'unfinished\n";
        for text in [format!("{head}{rows}"), format!("{head}{rows}{others}")] {
            let dump = read(&text).unwrap();
            assert_eq!(column_of(&dump, "id"), [Some("a".into()), Some("c".into())]);
            assert_eq!(column_of(&dump, "name"), [Some("it's \"x\" \\ 'q' ),(\n;".into()), None]);
        }
        let complete = "INSERT INTO `volumes` (`id`, `deleted`) VALUES ('z',0);\n";
        assert_eq!(column_of(&read(&format!("{head}{complete}")).unwrap(), "id"), [Some("z".into())]);
        for bad in ["('a',0);", "('a);", "(0,'a',NULL", "(0,'a'x,NULL);", "0;"] {
            assert!(read(&format!("{head}INSERT INTO `volumes` VALUES {bad}\n")).is_err(), "{bad}");
        }
        assert!(read("nothing\n").is_err());
    }

    #[test]
    fn what_pg_dump_writes() {
        let dump = read(
            "CREATE TABLE public.empty (\n    id integer NOT NULL\n);\nCREATE TABLE public.volumes (\n    \
             id character varying(36) NOT NULL,\n    \"name\" text\n);\n\
             COPY public.volumes (deleted, id, \"name\") FROM stdin;\nf\ta\tx\\ty\\\\\\n\nt\tb\t\\N\nf\tc\t\\N\n\\.\n\
             COPY public.other (id) FROM stdin;\n1\n\\.\n",
        )
        .unwrap();
        assert_eq!(column_of(&dump, "id"), [Some("a".into()), Some("c".into())]);
        assert_eq!(column_of(&dump, "name"), [Some("x\ty\\\n".into()), None]);
    }
}
