//! S3's parsers as fuzzers feed them: see [`crate::fuzzing`].

use super::chunked::{Decoder, Signer};
use super::sigv4::{Claim, Request, SigningKey, UNSIGNED};
use super::{
    acl, cors, delete, lifecycle, lock, logging, multipart, notification, post, public, sigv2, sse, tags,
};
use super::{website, xml};
use crate::ObjectError;
use bytes::Bytes;
use chrono::DateTime;
use http::{HeaderMap, HeaderName, HeaderValue};

/// A request's head: its target in the first line, a header in each other one.
pub(crate) fn signatures(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.lines();
    let (path, query) = lines.next().unwrap_or_default().split_once('?').unwrap_or_default();
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|l| l.split_once(':')).take(64) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value.trim())) {
            headers.append(name, value);
        }
    }
    let request = Request { method: "GET", path, query, headers: &headers };
    let now = DateTime::from_timestamp(1_369_353_600, 0).unwrap_or_default();
    if let Ok(Some(claim)) = Claim::of(&request) {
        let _ = claim.check_time(now);
        assert!(
            claim.verify(&request, UNSIGNED, "a secret that nobody has").is_err(),
            "a signature of nobody's"
        );
    }
    if let Ok(Some(claim)) = sigv2::Claim::of(&request) {
        let _ = claim.check_time(&request, now);
        assert!(claim.verify(&request, Some("bucket"), "a secret that nobody has").is_err());
    }
}

/// A body in `aws-chunked` encoding, behind a byte that says how it is signed and one that says how it is cut: whatever
/// the cuts, the content is the same.
pub(crate) fn chunks(data: &[u8]) {
    let [kind, step, body @ ..] = data else { return };
    let run = |step: usize| {
        let signer = || Signer {
            key: SigningKey::derive("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1"),
            timestamp: "20130524T000000Z".into(),
            scope: "20130524/us-east-1/s3/aws4_request".into(),
            previous: "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9".into(),
        };
        let length = (kind & 4 != 0).then_some(u64::from(kind >> 3));
        let mut decoder = Decoder::new((kind & 1 != 0).then(signer), kind & 2 != 0, length);
        let mut out = Vec::new();
        for frame in body.chunks(step.max(1)) {
            decoder.push(Bytes::copy_from_slice(frame), &mut |d| out.extend_from_slice(&d))?;
        }
        Ok::<_, ObjectError>((out, decoder.finish()?))
    };
    assert_eq!(
        run(usize::MAX).ok(),
        run(usize::from(*step)).ok(),
        "the cuts of the body change what it says"
    );
}

/// Every document that a request may bring.
pub(crate) fn documents(data: &[u8]) {
    for root in ["Delete", "Tagging", "RestoreRequest", "CreateBucketConfiguration"] {
        if let Ok(node) = xml::Node::parse(data, root) {
            let _ = delete::named(&node);
        }
    }
    let _ = multipart::named_parts(data);
    let _ = lifecycle::read(data);
    let _ = cors::parse(data);
    let _ = notification::read(data);
    let _ = logging::read(data, "p");
    let _ = lock::read(data);
    let _ = lock::read_retention(data);
    let _ = public::parse_block(data);
    let _ = public::parse_ownership(data);
    let _ = sse::parse(data);
    let _ = tags::of_document(data);
    let _ = website::parse(data);
}

/// An ACL, as a document and as headers have it.
pub(crate) fn grants(data: &[u8]) {
    let _ = acl::of_document(data, "p");
    let text = String::from_utf8_lossy(data);
    for (kind, value) in acl::grantees(&text).unwrap_or_default() {
        let _ = acl::grantee(&kind, &value);
    }
}

/// The policy of a form for uploads.
pub(crate) fn form_policy(data: &[u8]) {
    let _ = post::Policy::parse(data);
}
