//! Every request is one of these: what it is about and what is to be done, before anything is done.

use super::error::{self, S3Error, S3Result};
use super::{Call, attributes, bucket, config, copy, delete, list, multipart, object, post, versions};
use crate::cause::{Cause, Doing};
use crate::notify;
use axum::response::Response;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    ListBuckets,
    CreateBucket,
    HeadBucket,
    DeleteBucket,
    /// A bucket's configuration of some kind, which is read, set or removed.
    BucketConfig,
    ListObjects,
    ListObjectsV2,
    ListVersions,
    ListUploads,
    DeleteObjects,
    GetObject,
    HeadObject,
    PutObject,
    /// An upload by a web page's form.
    PostObject,
    CopyObject,
    DeleteObject,
    ObjectConfig,
    Attributes,
    BeginUpload,
    PutPart,
    CopyPart,
    ListParts,
    CompleteUpload,
    AbortUpload,
    RestoreObject,
}

/// What S3 has and this door has not; without a word of it such a request would be taken for another.
const UNBUILT: [&str; 8] = [
    "abac",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "renameObject",
    "session",
    "encryptionContext",
];

impl Endpoint {
    pub(super) fn of(call: &Call) -> S3Result<Endpoint> {
        use Endpoint as E;
        let refused = || Err(error::method_not_allowed());
        let method = call.method.as_str();
        if call.bucket.is_empty() {
            return if method == "GET" { Ok(E::ListBuckets) } else { refused() };
        }
        if let Some(name) = UNBUILT.iter().find(|name| call.has(name)) {
            return Err(S3Error::not_implemented(name));
        }
        if call.key.is_empty() {
            if config::of_bucket(call).is_some() {
                return Ok(E::BucketConfig);
            }
            return Ok(match method {
                "GET" if call.has("uploads") => E::ListUploads,
                "GET" if call.has("versions") => E::ListVersions,
                "GET" if call.param("list-type") == Some("2") => E::ListObjectsV2,
                "GET" => E::ListObjects,
                "HEAD" => E::HeadBucket,
                "PUT" => E::CreateBucket,
                "DELETE" => E::DeleteBucket,
                "POST" if call.has("delete") => E::DeleteObjects,
                "POST" if post::is_form(call) => E::PostObject,
                _ => return refused(),
            });
        }
        versions::wanted(call)?;
        if config::of_object(call).is_some() {
            return Ok(E::ObjectConfig);
        }
        let copies = call.headers.contains_key("x-amz-copy-source");
        let (part, upload) = (call.has("partNumber"), call.has("uploadId"));
        Ok(match method {
            "GET" if call.has("attributes") => E::Attributes,
            "GET" if upload => E::ListParts,
            "GET" => E::GetObject,
            "HEAD" => E::HeadObject,
            "PUT" if part && upload && copies => E::CopyPart,
            "PUT" if part && upload => E::PutPart,
            "PUT" if part || upload => {
                return Err(S3Error::invalid_argument("This operation needs both partNumber and uploadId"));
            }
            "PUT" if copies => E::CopyObject,
            "PUT" => E::PutObject,
            "POST" if call.has("uploads") => E::BeginUpload,
            "POST" if upload => E::CompleteUpload,
            "POST" if call.has("select") => return Err(S3Error::not_implemented("SelectObjectContent")),
            "POST" if call.has("restore") => E::RestoreObject,
            "DELETE" if upload => E::AbortUpload,
            "DELETE" => E::DeleteObject,
            _ => return refused(),
        })
    }
}

impl Endpoint {
    /// What a request does to objects, for those who want to be told.
    pub(super) fn cause(self, call: &Call, id: &str) -> Option<Cause> {
        use Endpoint as E;
        let doing = match self {
            E::PutObject => Doing::Write(notify::PUT),
            E::PostObject => Doing::Write(notify::POST),
            E::CopyObject => Doing::Write(notify::COPY),
            E::CompleteUpload => Doing::Write(notify::COMPLETE),
            E::DeleteObject | E::DeleteObjects => Doing::Delete,
            E::ObjectConfig => match (config::of_object(call), call.method.as_str()) {
                (Some("tagging"), "PUT") => Doing::Change("ObjectTagging:Put"),
                (Some("tagging"), "DELETE") => Doing::Change("ObjectTagging:Delete"),
                (Some("acl"), "PUT") => Doing::Change("ObjectAcl:Put"),
                _ => return None,
            },
            _ => return None,
        };
        let who = call.access.project().unwrap_or_default().to_owned();
        Some(Cause { doing, who, source: call.facts.source(), request_id: id.to_owned(), at: None })
    }
}

pub(super) async fn answer(endpoint: Endpoint, call: Call) -> S3Result<Response> {
    use Endpoint as E;
    match endpoint {
        E::ListBuckets => bucket::list(call).await,
        E::CreateBucket => bucket::create(call).await,
        E::HeadBucket => bucket::head(call).await,
        E::DeleteBucket => bucket::delete(call).await,
        E::BucketConfig => config::bucket(call).await,
        E::ListObjects => list::v1(call).await,
        E::ListObjectsV2 => list::v2(call).await,
        E::ListVersions => versions::list(call).await,
        E::ListUploads => multipart::list_uploads(call).await,
        E::DeleteObjects => delete::many(call).await,
        E::GetObject | E::HeadObject => object::read(call).await,
        E::PutObject => object::put(call).await,
        E::PostObject => post::object(call).await,
        E::CopyObject => copy::object(call).await,
        E::DeleteObject => delete::one(call).await,
        E::ObjectConfig => config::object(call).await,
        E::Attributes => attributes::answer(call).await,
        E::BeginUpload => multipart::begin(call).await,
        E::PutPart => multipart::put_part(call).await,
        E::CopyPart => copy::part(call).await,
        E::ListParts => multipart::list_parts(call).await,
        E::CompleteUpload => multipart::complete(call).await,
        E::AbortUpload => multipart::abort(call).await,
        E::RestoreObject => object::restore(call).await,
    }
}
