//! S3's errors: a code that clients act on, a status, and the XML around them.

use crate::ObjectError;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

/// An error as S3 tells it.
#[derive(Debug, Clone)]
pub(crate) struct S3Error {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// What went wrong below, for the log.
    pub(crate) cause: Option<Box<ObjectError>>,
    /// Elements beside Code and Message.
    pub(crate) details: Vec<(&'static str, String)>,
    pub(crate) headers: Vec<(&'static str, String)>,
}

pub(crate) type S3Result<T> = Result<T, S3Error>;

macro_rules! codes {
    ($($name:ident $status:literal $code:literal $message:literal;)*) => {$(
        pub(crate) fn $name() -> S3Error { S3Error::new($status, $code, $message) }
    )*};
}

codes! {
    access_denied 403 "AccessDenied" "Access Denied";
    expired 403 "AccessDenied" "Request has expired";
    invalid_access_key 403 "InvalidAccessKeyId" "The AWS Access Key Id you provided does not exist in our records.";
    signature_mismatch 403 "SignatureDoesNotMatch" "The request signature we calculated does not match the signature you provided. Check your key and signing method.";
    skewed 403 "RequestTimeTooSkewed" "The difference between the request time and the server's time is too large.";
    content_sha256_mismatch 400 "XAmzContentSHA256Mismatch" "The provided 'x-amz-content-sha256' header does not match what was computed.";
    no_such_bucket 404 "NoSuchBucket" "The specified bucket does not exist";
    no_such_key 404 "NoSuchKey" "The specified key does not exist.";
    not_archived 403 "InvalidObjectState" "Restore is not allowed for the object's current storage class.";
    invalid_state 409 "InvalidBucketState" "The request is not valid for the current state of the bucket.";
    no_such_version 404 "NoSuchVersion" "The specified version does not exist.";
    locked 403 "AccessDenied" "Access Denied because object protected by object lock.";
    no_such_upload 404 "NoSuchUpload" "The specified multipart upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.";
    precondition 412 "PreconditionFailed" "At least one of the pre-conditions you specified did not hold";
    invalid_range 416 "InvalidRange" "The requested range is not satisfiable";
    bucket_not_empty 409 "BucketNotEmpty" "The bucket you tried to delete is not empty";
    bucket_exists 409 "BucketAlreadyExists" "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again.";
    bucket_owned 409 "BucketAlreadyOwnedByYou" "Your previous request to create the named bucket succeeded and you already own it.";
    invalid_bucket 400 "InvalidBucketName" "The specified bucket is not valid.";
    key_too_long 400 "KeyTooLongError" "Your key is too long";
    malformed_xml 400 "MalformedXML" "The XML you provided was not well-formed or did not validate against our published schema";
    entity_too_large 400 "EntityTooLarge" "Your proposed upload exceeds the maximum allowed size";
    incomplete_body 400 "IncompleteBody" "You did not provide the number of bytes specified by the Content-Length HTTP header";
    broken_body 400 "IncompleteBody" "The request body terminated unexpectedly";
    bad_digest 400 "BadDigest" "The Content-MD5 you specified did not match what we received.";
    invalid_digest 400 "InvalidDigest" "The Content-MD5 you specified was invalid.";
    missing_sum 400 "InvalidRequest" "Missing required header for this request: Content-MD5 OR x-amz-checksum-*";
    malformed_trailer 400 "MalformedTrailerError" "The request contained trailing data that was not well-formed or did not conform to our published schema.";
    missing_length 411 "MissingContentLength" "You must provide the Content-Length HTTP header.";
    method_not_allowed 405 "MethodNotAllowed" "The specified method is not allowed against this resource.";
    invalid_part_order 400 "InvalidPartOrder" "The list of parts was not in ascending order. Parts must be ordered by part number.";
    request_timeout 400 "RequestTimeout" "Your socket connection to the server was not read from or written to within the timeout period.";
    slow_down 503 "SlowDown" "Please reduce your request rate.";
    unavailable 503 "ServiceUnavailable" "Storage is out of reach at the moment. Please try again.";
    out_of_space 507 "InsufficientStorage" "Storage has no space left.";
    internal 500 "InternalError" "We encountered an internal error. Please try again.";
    metadata_too_large 400 "MetadataTooLarge" "Your metadata headers exceed the maximum allowed metadata size";
}

impl S3Error {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        S3Error {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code,
            message: message.into(),
            cause: None,
            details: Vec::new(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn invalid_argument(message: impl Into<String>) -> Self {
        S3Error::new(400, "InvalidArgument", message)
    }

    pub(crate) fn invalid_request(message: impl Into<String>) -> Self {
        S3Error::new(400, "InvalidRequest", message)
    }

    pub(crate) fn malformed_authorization(message: impl Into<String>) -> Self {
        S3Error::new(400, "AuthorizationHeaderMalformed", message)
    }

    pub(crate) fn query_auth(message: impl Into<String>) -> Self {
        S3Error::new(400, "AuthorizationQueryParametersError", message)
    }

    pub(crate) fn not_implemented(what: &str) -> Self {
        S3Error::new(501, "NotImplemented", format!("{what} is not implemented."))
    }

    /// The answer for a configuration that a bucket does not have.
    pub(crate) fn not_configured(code: &'static str, message: &str) -> Self {
        S3Error::new(404, code, message)
    }

    pub(crate) fn with(mut self, element: &'static str, value: impl Into<String>) -> Self {
        self.details.push((element, value.into()));
        self
    }

    /// With a header beside the document; its name is in lower case.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// As a response; `resource` and `request_id` go into the body, which a HEAD leaves out.
    pub(crate) fn respond(self, resource: &str, request_id: &str, head: bool) -> Response {
        if let Some(cause) = &self.cause {
            log(cause, request_id);
        }
        let headers = self.headers.clone();
        let mut response = match self.status {
            _ if head => self.status.into_response(),
            _ => {
                let mut xml = super::xml::Xml::new();
                xml.open("Error").text("Code", self.code).text("Message", &self.message);
                for (element, value) in &self.details {
                    xml.text(element, value);
                }
                xml.text("Resource", resource).text("RequestId", request_id).text("HostId", "aquifer");
                xml.close("Error");
                (self.status, [(header::CONTENT_TYPE, "application/xml")], xml.done()).into_response()
            }
        };
        for (name, value) in headers {
            if let Ok(value) = header::HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

fn log(e: &ObjectError, request_id: &str) {
    let mut text = e.to_string();
    let mut next = std::error::Error::source(e);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    if e.is_transient() {
        tracing::warn!(%request_id, "{text}");
    } else {
        tracing::error!(%request_id, "{text}");
    }
}

impl From<ObjectError> for S3Error {
    fn from(e: ObjectError) -> Self {
        use ObjectError as O;
        let told = match &e {
            O::NoSuchContainer => return no_such_bucket(),
            O::NoSuchObject => return no_such_key(),
            O::NoSuchTopic => return S3Error::new(404, "NotFound", "Topic does not exist"),
            O::NoSuchVersion => return no_such_version(),
            O::IsMarker | O::ReadOnly => return method_not_allowed(),
            O::Locked => return locked(),
            O::NoHistory => return precondition(),
            O::NotEmpty | O::HasVersions => return bucket_not_empty(),
            O::BucketExists { mine: true } => return bucket_owned(),
            O::BucketExists { mine: false } => return bucket_exists(),
            O::BadName("key too long") => return key_too_long(),
            O::BadName(_) => return invalid_bucket(),
            O::OtherPolicy => return bucket_owned(),
            O::NoSuchPolicy(name) => {
                return S3Error::new(
                    400,
                    "InvalidStorageClass",
                    format!("There is no storage class {name}."),
                );
            }
            O::Invalid(text) => return S3Error::invalid_argument(text.clone()),
            O::OtherChecksum(text) => return S3Error::invalid_request(text.clone()),
            O::OtherSeal(text) => return S3Error::invalid_request(*text),
            O::Forbidden => return access_denied(),
            O::Sealed => {
                return S3Error::invalid_request(
                    "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.",
                );
            }
            O::NotSealed => {
                return S3Error::invalid_request(
                    "The encryption parameters are not applicable to this object.",
                );
            }
            O::TooLarge(_) => return entity_too_large(),
            O::Incomplete => return incomplete_body(),
            O::BrokenBody(_) => return broken_body(),
            O::OtherLength { promised, provided } => {
                return incomplete_body()
                    .with("NumberBytesExpected", promised.to_string())
                    .with("NumberBytesProvided", provided.to_string());
            }
            O::SmallChunk { number, size } => {
                let text = "Only the last chunk is allowed to have a size less than 8192 bytes";
                return S3Error::new(403, "InvalidChunkSizeError", text)
                    .with("Chunk", number.to_string())
                    .with("BadChunkSize", size.to_string());
            }
            O::SlowBody => return request_timeout(),
            O::EtagMismatch => return bad_digest(),
            O::Sha256Mismatch { computed } => {
                return content_sha256_mismatch().with("S3ComputedContentSHA256", computed.clone());
            }
            O::ChecksumMismatch("chunk-signature") => return signature_mismatch(),
            O::ChecksumMismatch("x-amz-trailer") => return malformed_trailer(),
            O::ChecksumMismatch(what) => {
                return S3Error::new(
                    400,
                    "BadDigest",
                    format!("The {what} you specified did not match the calculated checksum."),
                );
            }
            O::PreconditionFailed => return precondition(),
            O::OverQuota(_) => {
                return S3Error::new(403, "QuotaExceeded", "The quota of this project or bucket is spent.");
            }
            O::NoSuchUpload => return no_such_upload(),
            O::InvalidPart(n) => {
                let text = "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.";
                return S3Error::new(400, "InvalidPart", text).with("PartNumber", n.to_string());
            }
            O::PartOrder => return invalid_part_order(),
            O::PartTooSmall(n) => {
                let text = "Your proposed upload is smaller than the minimum allowed size";
                return S3Error::new(400, "EntityTooSmall", text).with("PartNumber", n.to_string());
            }
            O::Contended => slow_down(),
            O::NoSpace(_) => out_of_space(),
            O::Unavailable(_) | O::Identity(_) => unavailable(),
            O::State(s) if s.is_transient() => unavailable(),
            O::State(_) | O::Storage(_) | O::Damaged(_) | O::Failpoint => internal(),
        };
        S3Error { cause: Some(Box::new(e)), ..told }
    }
}
