//! Buckets: list, create, look, delete.

use super::config::owner;
use super::error::{S3Error, S3Result, access_denied, bucket_owned, invalid_bucket};
use super::xml::{Node, Xml};
use super::{Call, acl, bare, lock, public, tags, xml_reply};
use crate::container::{NewContainer, is_bucket_name};
use crate::{Need, ObjectError, grants};
use axum::response::{IntoResponse, Response};
use http::StatusCode;

pub(super) async fn list(call: Call) -> S3Result<Response> {
    let project = call.access.project().ok_or_else(access_denied)?.to_owned();
    let most = match call.param("max-buckets") {
        None => 10_000,
        Some(n) => n
            .parse()
            .ok()
            .filter(|n| (1..=10_000).contains(n))
            .ok_or_else(|| S3Error::invalid_argument("max-buckets must be from 1 to 10000"))?,
    };
    let (prefix, after) = (call.param("prefix"), call.param("continuation-token"));
    let (prefix, after) = (prefix.unwrap_or_default(), after.unwrap_or_default());
    let region = call.store.config().s3_region.clone();
    let mut buckets = call.store.list_buckets(&call.access, &project, prefix, after, most + 1).await?;
    if call.param("bucket-region").is_some_and(|wanted| wanted != region) {
        buckets.clear();
    }
    // S3 tells the region where a request says anything about what it wants.
    let asked = ["max-buckets", "continuation-token", "prefix", "bucket-region"].iter().any(|p| call.has(p));
    let mut xml = Xml::new();
    xml.root("ListAllMyBucketsResult");
    owner(&mut xml, &project);
    xml.open("Buckets");
    for (name, created_at) in buckets.iter().take(most) {
        xml.open("Bucket").text("Name", name);
        xml.text("CreationDate", &super::list::time(*created_at));
        xml.text_opt("BucketRegion", asked.then_some(region.as_str())).close("Bucket");
    }
    xml.close("Buckets");
    xml.text_opt("Prefix", call.param("prefix"));
    if let (true, Some((last, _))) = (buckets.len() > most, buckets.get(most - 1)) {
        xml.text("ContinuationToken", last);
    }
    xml.close("ListAllMyBucketsResult");
    Ok(xml_reply(StatusCode::OK, xml))
}

pub(super) async fn create(call: Call) -> S3Result<Response> {
    let project = call.access.project().ok_or_else(access_denied)?.to_owned();
    if !is_bucket_name(&call.bucket) {
        return Err(invalid_bucket());
    }
    let locked = lock::of_new_bucket(&call)?;
    let ownership = public::of_new_bucket(&call)?;
    let effective = ownership.unwrap_or(call.store.config().s3_object_ownership);
    let grants = acl::of_new_bucket(&call, &project, effective)?;
    let region = call.store.config().s3_region.clone();
    let body = call.small_body().await?;
    let (mut policy, mut bucket_tags) = (None, Vec::new());
    if !body.is_empty() {
        let node = Node::parse(&body, "CreateBucketConfiguration")?;
        let wanted = node.value("LocationConstraint").unwrap_or_default();
        // `region:policy`, as other stores over RADOS have it.
        let (place, named) = wanted.split_once(':').map_or((wanted, None), |(r, p)| (r, Some(p)));
        let known = named.is_none_or(|p| call.store.policies().get(p).is_ok_and(|p| !p.deprecated));
        policy = named.map(str::to_owned);
        bucket_tags = tags::of_new_bucket(&node)?;
        if !known || (!place.is_empty() && place != region && place != "us-east-1") {
            let text = "The specified location-constraint is not valid";
            return Err(S3Error { code: "InvalidLocationConstraint", ..S3Error::invalid_argument(text) }
                .with("LocationConstraint", wanted));
        }
    }
    let new = NewContainer { policy, as_bucket: true };
    let rule = |info: &mut crate::ContainerInfo| {
        (info.write, info.sharing.grants) = grants::keep(&grants, &project);
        info.sharing.ownership = ownership;
        info.tags.clone_from(&bucket_tags);
        if locked {
            lock::enable(info);
        }
        Ok::<(), ObjectError>(())
    };
    call.store.make_container(&call.access, &project, &call.bucket, &new, &rule).await.map_err(
        |e| match e {
            ObjectError::BucketExists { mine: true } => bucket_owned(),
            e => e.into(),
        },
    )?;
    Ok((StatusCode::OK, [(http::header::LOCATION, format!("/{}", call.bucket))]).into_response())
}

pub(super) async fn head(call: Call) -> S3Result<Response> {
    call.store.bucket(&call.access, &call.bucket, Need::List).await?;
    let region = call.store.config().s3_region.clone();
    Ok((StatusCode::OK, [("x-amz-bucket-region", region)]).into_response())
}

pub(super) async fn delete(call: Call) -> S3Result<Response> {
    let container = call.store.bucket(&call.access, &call.bucket, Need::Own).await?;
    call.store.delete_container(&call.access, &container.project_id, &container.name).await?;
    Ok(bare(StatusCode::NO_CONTENT))
}
