//! The table of the object store: both sides, and the cluster alone where that says something.

use super::load::Took;

#[derive(Default)]
pub(crate) struct Table(Vec<String>);

fn number(n: f64) -> String {
    match n {
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

fn side(t: &Took) -> String {
    let (p99, cpu) = (number(t.p99_ms), number(t.cpu));
    format!("{}/s, p99 {p99} ms, {cpu} CPU s, {:.0} MiB", number(t.rate()), t.peak_mib)
}

impl Table {
    /// Requests a second; with what the cluster alone does, where that is the measure.
    pub(super) fn row(&mut self, what: &str, ours: &Took, theirs: &Took, alone: Option<f64>, aim: &str) {
        let ratio = number(ours.rate() / theirs.rate().max(1e-9));
        let (bare, of_bare) = match alone {
            Some(rate) => {
                (format!("{}/s", number(rate)), format!("{}×", number(ours.rate() / rate.max(1e-9))))
            }
            None => ("–".into(), "–".into()),
        };
        let line =
            format!("| {what} | {} | {} | {ratio}× | {bare} | {of_bare} | {aim} |", side(ours), side(theirs));
        // A long run that is cut short has told what it had.
        println!("{line}");
        self.0.push(line);
    }

    pub(crate) fn print(&self) {
        if self.0.is_empty() {
            return;
        }
        println!(
            "| what | Aquifer | radosgw | ratio | rados bench | of it | aim |\n|---|---|---|---|---|---|---|"
        );
        self.0.iter().for_each(|row| println!("{row}"));
        println!(
            "\nCPU s: processor seconds of the server for 10,000 requests. MiB: its greatest resident size meanwhile."
        );
    }
}
