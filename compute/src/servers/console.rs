//! A console's text: asked of the host, which answers through the database, so that any process may serve
//! the request.

use super::actions::check_state;
use crate::observe::host_topic;
use crate::states::Act;
use crate::store::hosts::{self as store, console_topic};
use crate::wire::ConsoleRequest;
use crate::{Compute, ComputeError};
use api::Context;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(15);
/// What upstream keeps of a console.
const MOST: u64 = 100 << 10;
/// More than any line is long, on average.
const LINE: u64 = 160;

impl Compute {
    /// The last `lines` lines of the console, or all that is kept.
    pub(crate) async fn console_output(
        &self,
        ctx: &Context,
        id: &str,
        lines: Option<usize>,
    ) -> Result<String, ComputeError> {
        let s = self.server(ctx, id, "os_compute_api:os-console-output").await?;
        check_state(&s, Act::ConsoleOutput)?;
        if s.host.is_empty() {
            return Err(ComputeError::Conflict(format!("Instance {id} is not ready")));
        }
        let host = self.host(&s.host).await?;
        if !self.is_up(&host) {
            return Err(ComputeError::Conflict(format!("The host of instance {id} is down.")));
        }
        let bytes = lines.map_or(MOST, |n| (n as u64).saturating_mul(LINE).clamp(4 << 10, MOST));
        let ask = ConsoleRequest { request: state::new_id(), guest: id.to_owned(), bytes };
        let mut signal = self.db.signal(&console_topic(&ask.request));
        let mut tx = self.db.begin().await?;
        store::ask_console(&mut tx, &s.host, &ask).await?;
        tx.wake(host_topic(&s.host));
        tx.commit().await?;
        let text = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(text) = store::console_text(&self.db, &ask.request).await? {
                    return Ok::<_, ComputeError>(text);
                }
                signal.wait(Duration::from_secs(1)).await;
            }
        })
        .await;
        let mut tx = self.db.begin().await?;
        store::forget_console(&mut tx, &ask.request).await?;
        tx.wake(host_topic(&s.host));
        tx.commit().await?;
        let text =
            text.map_err(|_| ComputeError::Unavailable("The host does not answer.".into(), None))??;
        Ok(match lines {
            Some(n) => last_lines(&text, n).to_owned(),
            None => text,
        })
    }
}

fn last_lines(text: &str, n: usize) -> &str {
    if n == 0 {
        return "";
    }
    let body = text.strip_suffix('\n').unwrap_or(text);
    let start = body.rmatch_indices('\n').nth(n - 1).map_or(0, |(at, _)| at + 1);
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn lines_from_the_end() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last_lines("a\nb", 1), "b");
        assert_eq!(last_lines("a\nb", 9), "a\nb");
        assert_eq!(last_lines("a\nb", 0), "");
    }
}
