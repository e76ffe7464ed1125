//! Storing the files of an archive with one request: `PUT …?extract-archive=tar|tar.gz|tar.bz2`.
//!
//! The archive is read as it arrives and each file goes to storage on its way; what a file's path begins with is its
//! container, unless the request's path names one. Always a 200: what became of it is in the body.

use super::error::{SwiftError, SwiftResult};
use super::headers::{self, Out};
use super::listing::Format;
use super::report::Report;
use super::{Call, reply};
use crate::access::PUT;
use crate::container::NewContainer;
use crate::http::content::{self, guess_type};
use crate::http::relay::{paced, relay};
use crate::http::s3::sigv4::encode;
use crate::http::tar::{Entry, Reader};
use crate::object::{Body, Condition, NewObject};
use crate::{MAX_OBJECT_NAME, Need, ObjectError, reseller};
use async_compression::tokio::bufread::{BzDecoder, GzipDecoder};
use axum::body::Body as HttpBody;
use axum::response::Response;
use futures::TryStreamExt;
use http::StatusCode;
use std::collections::HashMap;
use std::io;
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

/// Failures after which the rest is left, and containers that one archive may make.
const MOST_FAILURES: usize = 1000;
const MOST_CONTAINERS: usize = 10_000;
/// Characters of a path that an error shows.
const SHOWN: usize = 1024;

/// What became of an archive.
struct Summary {
    created: u64,
    status: &'static str,
    body: String,
    /// Paths, URL-encoded, and the status of each.
    errors: Vec<(String, String)>,
}

impl Summary {
    fn text(self, format: Format) -> String {
        Report::new("extract", self.errors)
            .with("Number Files Created", self.created)
            .with("Response Status", self.status)
            .with("Response Body", self.body)
            .text(format)
    }
}

pub(super) async fn extract(call: Call) -> SwiftResult<Response> {
    let kind = call.query.get("extract-archive").unwrap_or_default().to_ascii_lowercase();
    if content::content_length(&call.headers).is_none() && !call.headers.contains_key("transfer-encoding") {
        return Err(SwiftError::of(StatusCode::LENGTH_REQUIRED));
    }
    // A signed URL is good for one object.
    if call.access.caller.is_none() {
        return Err(SwiftError::unauthorized());
    }
    let format = Format::of(&call)?;
    let idle = call.store.body_idle();
    let frames = paced(content::frames(call.take_body()), idle).map_err(io::Error::other);
    let body = StreamReader::new(frames);
    let from: Box<dyn AsyncRead + Send + Unpin> = match kind.as_str() {
        "tar" => Box::new(body),
        "tar.gz" => {
            let mut decoder = GzipDecoder::new(body);
            decoder.multiple_members(true);
            Box::new(decoder)
        }
        "tar.bz2" => {
            let mut decoder = BzDecoder::new(body);
            decoder.multiple_members(true);
            Box::new(decoder)
        }
        _ => return Err(SwiftError::bad_request("Unsupported archive format")),
    };
    let mut extraction = Extraction {
        call: &call,
        containers: HashMap::new(),
        made: 0,
        failed_below: false,
        summary: Summary { created: 0, status: "201 Created", body: String::new(), errors: Vec::new() },
    };
    let outcome = extraction.run(&mut Reader::new(from)).await;
    let summary = extraction.finish(outcome)?;
    let text = summary.text(format);
    let mut out = Out::default();
    out.set("content-type", format.content_type());
    Ok(reply::content(StatusCode::OK, out, text.len() as u64, HttpBody::from(text)))
}

/// Why an extraction ended before the archive did.
enum Stop {
    /// The archive cannot be read further.
    Archive(io::Error),
    TooManyContainers,
}

impl From<io::Error> for Stop {
    fn from(e: io::Error) -> Self {
        Stop::Archive(e)
    }
}

struct Extraction<'a> {
    call: &'a Call,
    /// Those that were asked for, each with why it could not be made.
    containers: HashMap<String, Option<ObjectError>>,
    made: usize,
    failed_below: bool,
    summary: Summary,
}

impl Extraction<'_> {
    async fn run<R: AsyncRead + Unpin>(&mut self, archive: &mut Reader<R>) -> Result<(), Stop> {
        while self.summary.errors.len() < MOST_FAILURES
            && let Some(entry) = archive.next().await?
        {
            let Some(path) = self.place(&entry) else { continue };
            let done = match std::str::from_utf8(&path) {
                Ok(path) => self.store(path, entry, archive).await?,
                Err(_) => Err("412 Precondition Failed".to_owned()),
            };
            match done {
                Ok(()) => self.summary.created += 1,
                Err(status) => self.summary.errors.push((self.shown(&path), status)),
            }
        }
        Ok(())
    }

    /// `container/object` of an entry; `None` where it has no place: it lies above all containers.
    fn place(&self, entry: &Entry) -> Option<Vec<u8>> {
        let name = entry.path.strip_prefix(b"./").unwrap_or(&entry.path);
        let name = &name[name.iter().position(|b| *b != b'/').unwrap_or(name.len())..];
        let mut path = Vec::new();
        for base in [&self.call.container, &self.call.object] {
            if !base.is_empty() {
                path.extend_from_slice(base.trim_end_matches('/').as_bytes());
                path.push(b'/');
            }
        }
        path.extend_from_slice(name);
        let slash = path.iter().position(|b| *b == b'/')?;
        (slash > 0 && slash + 1 < path.len()).then_some(path)
    }

    fn shown(&self, path: &[u8]) -> String {
        let mut out = format!("/v1/{}/", reseller::name(&self.call.project));
        encode(&mut out, path, true);
        out.chars().take(SHOWN).collect()
    }

    /// Stores one file; `Err` is the status of what went wrong with it.
    async fn store<R: AsyncRead + Unpin>(
        &mut self,
        path: &str,
        entry: Entry,
        archive: &mut Reader<R>,
    ) -> Result<Result<(), String>, Stop> {
        let status = |n: u16| {
            let status = StatusCode::from_u16(n).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            format!("{} {}", n, status.canonical_reason().unwrap_or_default())
        };
        let (container, name) = path.split_once('/').unwrap_or((path, ""));
        // A name that climbs is a name like any other here; what reads archives elsewhere might follow it.
        if name.split('/').any(|p| p == "..") || name.contains('\0') || name.len() > MAX_OBJECT_NAME {
            return Ok(Err(status(400)));
        }
        if entry.size > self.call.store.config().limits.max_file_size {
            return Ok(Err(status(413)));
        }
        self.container(container).await?;
        match Box::pin(self.put(container, name, entry, archive)).await? {
            Ok(()) => Ok(Ok(())),
            Err(e) => {
                if let Some(Some(failure)) = self.containers.get(container) {
                    let told = SwiftError::from(failure.clone()).status();
                    self.summary.errors.push((self.shown(container.as_bytes()), status(told)));
                }
                let told = SwiftError::from(e).status();
                self.failed_below |= told >= 500;
                Ok(Err(status(told)))
            }
        }
    }

    /// Makes a container unless it is there. Where that may not be, its ACL may still let its objects be written.
    async fn container(&mut self, name: &str) -> Result<(), Stop> {
        if self.containers.contains_key(name) {
            return Ok(());
        }
        let (store, call) = (&self.call.store, self.call);
        let made = match store.find_container(&call.project, name).await {
            Ok(_) => Ok(()),
            Err(ObjectError::NoSuchContainer) => {
                let new = NewContainer::default();
                let access = call.access.asking("s3:CreateBucket", "");
                let made = store.make_container(&access, &call.project, name, &new, &|_| Ok(())).await;
                made.map(|made| self.made += usize::from(made.created))
            }
            Err(e) => Err(e),
        };
        if self.made > MOST_CONTAINERS {
            return Err(Stop::TooManyContainers);
        }
        self.containers.insert(name.to_owned(), made.err());
        Ok(())
    }

    async fn put<R: AsyncRead + Unpin>(
        &mut self,
        container: &str,
        name: &str,
        entry: Entry,
        archive: &mut Reader<R>,
    ) -> Result<Result<(), ObjectError>, Stop> {
        let (store, access) = (&self.call.store, self.call.access.asking(PUT, name));
        let container = match store.container(&access, &self.call.project, container, Need::Write).await {
            Ok(container) => container,
            Err(e) => return Ok(Err(e)),
        };
        let size = entry.size;
        let new = described(name, entry);
        let limits = &store.config().limits;
        if headers::check_metadata(limits, "Object", new.user.iter().map(|(k, v)| (k, v))).is_err() {
            return Ok(Err(ObjectError::Invalid("metadata".into())));
        }
        let (relay, stream) = relay();
        let put = store.put_object(&container, new, Body::new(stream, Some(size)), Condition::Always);
        let pump = async move {
            loop {
                match archive.piece().await {
                    Ok(Some(piece)) => {
                        if !relay.send(piece).await {
                            return Ok(());
                        }
                    }
                    Ok(None) => return Ok(()),
                    Err(e) => {
                        relay.fail(ObjectError::BrokenBody("the archive ends too early".into())).await;
                        return Err(e);
                    }
                }
            }
        };
        let (pumped, put) = tokio::join!(pump, put);
        pumped?;
        Ok(put.map(drop))
    }

    fn finish(self, outcome: Result<(), Stop>) -> SwiftResult<Summary> {
        let Extraction { mut summary, failed_below, .. } = self;
        let failed = if failed_below { "502 Bad Gateway" } else { "400 Bad Request" };
        match outcome {
            Err(Stop::Archive(e)) => {
                // The client's own end is not the archive's fault.
                if let Some(broken) = e.get_ref().and_then(|e| e.downcast_ref::<ObjectError>()) {
                    return Err(broken.clone().into());
                }
                (summary.status, summary.body) = ("400 Bad Request", format!("Invalid Tar File: {e}"));
            }
            Err(Stop::TooManyContainers) => {
                summary.status = "400 Bad Request";
                summary.body = format!("More than {MOST_CONTAINERS} containers to create from tar.");
            }
            Ok(()) if !summary.errors.is_empty() => summary.status = failed,
            Ok(()) if summary.created == 0 => {
                (summary.status, summary.body) =
                    ("400 Bad Request", "Invalid Tar File: No Valid Files".to_owned());
            }
            Ok(()) => {}
        }
        Ok(summary)
    }
}

/// What an archive says of a file: its type and metadata may be in its extended attributes.
fn described(name: &str, entry: Entry) -> NewObject {
    let mut new = NewObject {
        name: name.to_owned(),
        content_type: guess_type(name).to_owned(),
        ..NewObject::default()
    };
    for (key, value) in entry.attributes {
        let attribute =
            ["SCHILY.xattr.user.", "LIBARCHIVE.xattr.user."].iter().find_map(|p| key.strip_prefix(p));
        match attribute {
            Some("mime_type") => new.content_type = value,
            Some(rest) => {
                if let Some(meta) = rest.strip_prefix("meta.").filter(|m| !m.is_empty()) {
                    new.user.push((meta.to_ascii_lowercase().replace('_', "-"), value));
                }
            }
            None => {}
        }
    }
    new
}
