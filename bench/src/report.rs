//! The table of results.

use std::time::Duration;

#[derive(Default)]
pub(crate) struct Report(Vec<[String; 5]>);

impl Report {
    /// A measurement with nothing beside it.
    pub(crate) fn plain(&mut self, what: &str, ours: &[Duration], aim: &str) {
        self.0.push([what.into(), seconds(median(ours)), "–".into(), "–".into(), aim.into()]);
    }

    /// A measurement against the engine alone: the ratio of the medians of times.
    pub(crate) fn against(&mut self, what: &str, ours: &[Duration], theirs: &[Duration], aim: &str) {
        let ratio = median(ours).as_secs_f64() / median(theirs).as_secs_f64().max(1e-9);
        self.0.push([
            what.into(),
            seconds(median(ours)),
            seconds(median(theirs)),
            format!("{ratio:.2}×"),
            aim.into(),
        ]);
    }

    /// Answers a second on both sides, and how many times as many ours are.
    pub(crate) fn rates(&mut self, what: &str, ours: f64, theirs: f64, aim: &str) {
        let rate = |r: f64| if r < 100.0 { format!("{r:.1}/s") } else { format!("{r:.0}/s") };
        let ratio = ours / theirs.max(1e-9);
        let ratio = if ratio < 10.0 { format!("{ratio:.2}×") } else { format!("{ratio:.0}×") };
        self.0.push([what.into(), rate(ours), rate(theirs), ratio, aim.into()]);
    }

    /// Memory on both sides.
    pub(crate) fn sizes(&mut self, what: &str, ours: f64, theirs: f64, aim: &str) {
        let ratio = ours / theirs.max(1e-9);
        self.0.push([
            what.into(),
            format!("{ours:.0} MiB"),
            format!("{theirs:.0} MiB"),
            format!("{ratio:.2}×"),
            aim.into(),
        ]);
    }

    pub(crate) fn size(&mut self, what: &str, mib: f64, aim: &str) {
        self.0.push([what.into(), format!("{mib:.0} MiB"), "–".into(), "–".into(), aim.into()]);
    }

    pub(crate) fn print(&self) {
        println!("| what | Aquifer | the engine or upstream | ratio | aim |\n|---|---|---|---|---|");
        for row in &self.0 {
            println!("| {} |", row.join(" | "));
        }
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn seconds(d: Duration) -> String {
    if d < Duration::from_secs(1) {
        format!("{:.0} ms", d.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", d.as_secs_f64())
    }
}
