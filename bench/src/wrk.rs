//! One load, by wrk.

use crate::{BenchError, Result};
use serde_json::Value;
use std::fmt::Write as _;
use std::process::Command;

pub(crate) struct Load {
    url: String,
    script: String,
}

impl Load {
    pub(crate) fn get(base: &str, path: &str, headers: Vec<(&str, String)>) -> Load {
        let mut script = String::new();
        for (name, value) in headers {
            let _ = writeln!(script, "wrk.headers[{name:?}] = {value:?}");
        }
        Load { url: format!("{base}{path}"), script }
    }

    pub(crate) fn post(base: &str, path: &str, body: &Value) -> Load {
        // JSON of plain text is a Lua string as well, once quoted.
        let body = body.to_string();
        let script = format!(
            "wrk.method = \"POST\"\nwrk.headers[\"Content-Type\"] = \"application/json\"\nwrk.body = {body:?}\n"
        );
        Load { url: format!("{base}{path}"), script }
    }
}

/// Answers a second. Any that is not a success ends the measurement: it would be of something else.
pub(crate) fn run(load: &Load, connections: usize, seconds: u64, close: bool) -> Result<f64> {
    let mut script = load.script.clone();
    if close {
        script.push_str("wrk.headers[\"Connection\"] = \"close\"\n");
    }
    script.push_str(
        "function done(s, l, r) io.write(string.format(\"RESULT %f %d %d\\n\", s.requests / (s.duration / 1e6), \
         s.errors.status, s.errors.connect + s.errors.timeout)) end\n",
    );
    let file = tempfile::Builder::new().suffix(".lua").tempfile()?;
    std::fs::write(file.path(), script)?;
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--timeout", "30s", "-s"])
        .arg(file.path())
        .arg(&load.url)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let result = said.lines().find_map(|l| l.strip_prefix("RESULT "));
    let numbers: Vec<f64> = result.unwrap_or_default().split(' ').filter_map(|n| n.parse().ok()).collect();
    match numbers.as_slice() {
        [rate, 0.0, 0.0] if *rate > 0.0 => Ok(*rate),
        _ => Err(BenchError::Said(format!("wrk on {}: {said}", load.url))),
    }
}
