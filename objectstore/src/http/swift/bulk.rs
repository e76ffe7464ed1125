//! Deleting many objects with one request: `POST …?bulk-delete`, a path on each line of the body.

use super::error::{SwiftError, SwiftResult};
use super::headers::Out;
use super::listing::Format;
use super::report::Report;
use super::{Call, reply};
use crate::access::DELETE;
use crate::container::Container;
use crate::http::{content, encode};
use crate::object::{Condition, DeleteVersion};
use crate::version::VersionId;
use crate::{Need, ObjectError};
use axum::body::Body;
use axum::response::Response;
use futures::{FutureExt, StreamExt};
use http::StatusCode;
use percent_encoding::percent_decode_str;
use std::sync::Arc;

/// Deletions under way at once.
const AT_ONCE: usize = 16;

/// What became of one path.
pub(super) enum Outcome {
    Deleted,
    NotFound,
    Failed(&'static str),
}

/// What became of all.
#[derive(Default)]
pub(super) struct Summary {
    deleted: u64,
    missing: u64,
    errors: Vec<(String, &'static str)>,
}

impl Summary {
    pub(super) fn add(&mut self, path: &str, outcome: Outcome) {
        match outcome {
            Outcome::Deleted => self.deleted += 1,
            Outcome::NotFound => self.missing += 1,
            Outcome::Failed(status) => self.errors.push((path.to_owned(), status)),
        }
    }

    /// Always a 200; what went wrong is in the body.
    pub(super) fn respond(self, call: &Call) -> Response {
        let format = Format::of(call).unwrap_or(Format::Text);
        let mut out = Out::default();
        out.set("content-type", format.content_type());
        let text = self.text(format);
        reply::content(StatusCode::OK, out, text.len() as u64, Body::from(text))
    }

    fn text(self, format: Format) -> String {
        let (body, status) = match (self.errors.is_empty(), self.deleted + self.missing) {
            (true, 0) => ("Invalid bulk delete.", "400 Bad Request"),
            (true, _) => ("", "200 OK"),
            (false, _) => ("", "400 Bad Request"),
        };
        let shown = |(path, status): (String, &str)| {
            let mut out = String::new();
            encode(&mut out, path.as_bytes(), true);
            (out, status.to_owned())
        };
        Report::new("delete", self.errors.into_iter().map(shown).collect())
            .with("Number Deleted", self.deleted)
            .with("Number Not Found", self.missing)
            .with("Response Body", body)
            .with("Response Status", status)
            .text(format)
    }
}

pub(super) async fn delete(call: Call) -> SwiftResult<Response> {
    let most = call.store.config().limits.max_deletes_per_request;
    let body = content::read_small(call.take_body(), most * 2048, call.store.body_idle()).await?;
    let body = body.ok_or_else(|| SwiftError::of(StatusCode::PAYLOAD_TOO_LARGE))?;
    let text =
        std::str::from_utf8(&body).map_err(|_| SwiftError::precondition("Invalid UTF8 or contains NULL"))?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    if lines.len() > most {
        return Err(SwiftError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("Maximum Bulk Deletes: {most} per request"),
        ));
    }
    let paths: Vec<String> = lines
        .iter()
        .map(|l| String::from_utf8_lossy(&percent_decode_str(l).collect::<Vec<u8>>()).into_owned())
        .collect();
    // Containers come after all objects: then they are empty, if the request empties them.
    let is_container = |path: &String| !path.trim_matches('/').contains('/');
    let (containers, objects): (Vec<String>, Vec<String>) = paths.into_iter().partition(is_container);
    let mut summary = Summary::default();
    for paths in [objects, containers] {
        let mut deletions = Vec::with_capacity(paths.len());
        for path in &paths {
            deletions.push(delete_one(&call, path).boxed());
        }
        let outcomes: Vec<Outcome> = futures::stream::iter(deletions).buffered(AT_ONCE).collect().await;
        for (path, outcome) in paths.iter().zip(outcomes) {
            summary.add(path, outcome);
        }
    }
    Ok(summary.respond(&call))
}

/// Deletes what a path names: an object, or an empty container.
pub(super) async fn delete_one(call: &Call, path: &str) -> Outcome {
    let path = path.trim_start_matches('/');
    let (container, object) = path.split_once('/').unwrap_or((path, ""));
    let done = async {
        if object.is_empty() {
            let access = call.access.asking("s3:DeleteBucket", "");
            call.store.delete_container(&access, &call.project, container).await?;
            return Ok(true);
        }
        let access = call.access.asking(DELETE, object);
        let container = call.store.container(&access, &call.project, container, Need::Write).await?;
        Ok(super::versions::delete(call, &container, object, Condition::Always).await?.existed)
    };
    outcome(done.await)
}

/// Deletes one version of the object that a request names.
pub(super) async fn delete_version(call: &Call, container: &Arc<Container>, id: VersionId) -> Outcome {
    let deleted = call.store.delete_version(container, &call.object, id, DeleteVersion::default()).await;
    outcome(deleted.map(|d| d.existed))
}

/// `done`: whether there was anything.
fn outcome(done: Result<bool, ObjectError>) -> Outcome {
    match done {
        Ok(true) => Outcome::Deleted,
        Ok(false)
        | Err(ObjectError::NoSuchContainer | ObjectError::NoSuchObject | ObjectError::NoSuchVersion) => {
            Outcome::NotFound
        }
        Err(ObjectError::Forbidden) => Outcome::Failed("401 Unauthorized"),
        Err(ObjectError::NotEmpty | ObjectError::HasVersions) => Outcome::Failed("409 Conflict"),
        Err(ObjectError::BadName(_)) => Outcome::Failed("400 Bad Request"),
        Err(e) => {
            tracing::warn!(error = ?e, "a bulk deletion failed in part");
            Outcome::Failed("503 Service Unavailable")
        }
    }
}
