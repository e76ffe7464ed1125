//! A bucket's policy, and whether it opens the bucket to everybody.

use super::error::{S3Error, S3Result, method_not_allowed};
use super::xml::Xml;
use super::{Call, bare, config, xml_reply};
use crate::bucket_policy::{BucketPolicy, LARGEST};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

fn malformed(text: impl Into<String>) -> S3Error {
    S3Error { code: "MalformedPolicy", ..S3Error::invalid_request(text) }
}

fn absent() -> S3Error {
    S3Error::not_configured("NoSuchBucketPolicy", "The bucket policy does not exist")
}

pub(super) async fn answer(call: &Call) -> S3Result<Response> {
    let container = config::container(call).await?;
    match call.method.as_str() {
        "GET" => {
            let text = container.info.sharing.policy.clone().ok_or_else(absent)?;
            Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], text).into_response())
        }
        "PUT" => {
            let body = call.small_body().await?;
            if body.len() > LARGEST {
                return Err(malformed(format!(
                    "Normalized policy document exceeds the maximum allowed size of {LARGEST} bytes"
                )));
            }
            let text = std::str::from_utf8(&body)
                .map_err(|_| malformed("Policies must be valid JSON and the first byte must be '{'"))?;
            BucketPolicy::parse(text, &container.name, &container.project_id).map_err(|e| malformed(e.0))?;
            config::share(call, &container, |s| s.policy = Some(text.to_owned())).await?;
            Ok(bare(StatusCode::NO_CONTENT))
        }
        "DELETE" => {
            config::share(call, &container, |s| s.policy = None).await?;
            Ok(bare(StatusCode::NO_CONTENT))
        }
        _ => Err(method_not_allowed()),
    }
}

pub(super) async fn status(call: &Call) -> S3Result<Response> {
    let container = config::container(call).await?;
    if call.method != http::Method::GET {
        return Err(method_not_allowed());
    }
    let by_acl = container.info.has_public_acl() && !container.info.ignores_public();
    let public = if by_acl || container.has_public_policy() { "true" } else { "false" };
    let mut xml = Xml::new();
    xml.root("PolicyStatus").text("IsPublic", public).close("PolicyStatus");
    Ok(xml_reply(StatusCode::OK, xml))
}
