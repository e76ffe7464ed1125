//! The only place that writes to the terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::IsTerminal;

/// A line for the user.
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// A line about something that went wrong.
pub(crate) fn complain(line: &str) {
    eprintln!("aquifer: {line}");
}

/// Whether lines may be coloured and redrawn.
pub(crate) fn is_interactive() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Columns padded to the widest cell, two blanks apart. The first row is the heading.
pub(crate) fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
