//! What keeps a bucket closed, and whose its objects are: the public access block and the ownership controls.

use super::error::{S3Error, S3Result, malformed_xml, method_not_allowed};
use super::xml::{Node, Xml};
use super::{Call, acl, bare, config, xml_reply};
use crate::sharing::{Ownership, PublicAccessBlock};
use axum::response::Response;
use http::StatusCode;

pub(super) async fn access_block(call: &Call) -> S3Result<Response> {
    let container = config::container(call).await?;
    match call.method.as_str() {
        "GET" => {
            let block = container.info.sharing.public_access.ok_or_else(|| {
                S3Error::not_configured(
                    "NoSuchPublicAccessBlockConfiguration",
                    "The public access block configuration was not found",
                )
            })?;
            let mut xml = Xml::new();
            xml.root("PublicAccessBlockConfiguration");
            for (name, value) in [
                ("BlockPublicAcls", block.block_acls),
                ("IgnorePublicAcls", block.ignore_acls),
                ("BlockPublicPolicy", block.block_policy),
                ("RestrictPublicBuckets", block.restrict_buckets),
            ] {
                xml.text(name, if value { "true" } else { "false" });
            }
            xml.close("PublicAccessBlockConfiguration");
            Ok(xml_reply(StatusCode::OK, xml))
        }
        "PUT" => {
            let block = parse_block(&call.small_body().await?)?;
            config::share(call, &container, |s| s.public_access = Some(block)).await?;
            Ok(bare(StatusCode::OK))
        }
        "DELETE" => {
            config::share(call, &container, |s| s.public_access = None).await?;
            Ok(bare(StatusCode::NO_CONTENT))
        }
        _ => Err(method_not_allowed()),
    }
}

pub(super) fn parse_block(body: &[u8]) -> S3Result<PublicAccessBlock> {
    let node = Node::parse(body, "PublicAccessBlockConfiguration")?;
    let mut block = PublicAccessBlock::default();
    for child in &node.children {
        let value = match child.text.trim().to_ascii_lowercase().as_str() {
            "true" => true,
            "false" => false,
            _ => return Err(malformed_xml()),
        };
        match child.name.as_str() {
            "BlockPublicAcls" => block.block_acls = value,
            "IgnorePublicAcls" => block.ignore_acls = value,
            "BlockPublicPolicy" => block.block_policy = value,
            "RestrictPublicBuckets" => block.restrict_buckets = value,
            _ => return Err(malformed_xml()),
        }
    }
    Ok(block)
}

pub(super) async fn ownership(call: &Call) -> S3Result<Response> {
    let container = config::container(call).await?;
    match call.method.as_str() {
        "GET" => {
            // What nobody has said for a bucket is told where it is not what buckets always had.
            let effective = call.store.ownership(&container.info);
            if container.info.sharing.ownership.is_none() && effective == Ownership::default() {
                return Err(S3Error::not_configured(
                    "OwnershipControlsNotFoundError",
                    "The bucket ownership controls were not found",
                ));
            }
            let mut xml = Xml::new();
            xml.root("OwnershipControls").open("Rule").text("ObjectOwnership", effective.name());
            xml.close("Rule").close("OwnershipControls");
            Ok(xml_reply(StatusCode::OK, xml))
        }
        "PUT" => {
            let wanted = parse_ownership(&call.small_body().await?)?;
            if wanted == Ownership::BucketOwnerEnforced && !acl::of_container(&container.info).is_empty() {
                return Err(acl::with_enforced());
            }
            config::share(call, &container, |s| s.ownership = Some(wanted)).await?;
            Ok(bare(StatusCode::OK))
        }
        "DELETE" => {
            config::share(call, &container, |s| s.ownership = None).await?;
            Ok(bare(StatusCode::NO_CONTENT))
        }
        _ => Err(method_not_allowed()),
    }
}

pub(super) fn parse_ownership(body: &[u8]) -> S3Result<Ownership> {
    let node = Node::parse(body, "OwnershipControls")?;
    match node.all("Rule").collect::<Vec<_>>().as_slice() {
        [rule] => {
            rule.value("ObjectOwnership").and_then(|n| Ownership::of(n.trim())).ok_or_else(malformed_xml)
        }
        _ => Err(malformed_xml()),
    }
}

/// The ownership that a bucket is made with.
pub(super) fn of_new_bucket(call: &Call) -> S3Result<Option<Ownership>> {
    let Some(name) = call.header("x-amz-object-ownership") else { return Ok(None) };
    let ownership = Ownership::of(name).ok_or_else(|| {
        S3Error::invalid_argument("Invalid x-amz-object-ownership header: ".to_owned() + name)
            .with("ArgumentName", "x-amz-object-ownership")
            .with("ArgumentValue", name)
    })?;
    Ok(Some(ownership))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn documents() {
        let block = parse_block(
            b"<PublicAccessBlockConfiguration><BlockPublicAcls>TRUE</BlockPublicAcls>\
              <RestrictPublicBuckets>false</RestrictPublicBuckets></PublicAccessBlockConfiguration>",
        );
        assert_eq!(block.ok(), Some(PublicAccessBlock { block_acls: true, ..Default::default() }));
        let bad = b"<PublicAccessBlockConfiguration><BlockPublicAcls>1</BlockPublicAcls></PublicAccessBlockConfiguration>";
        assert!(parse_block(bad).is_err());
        let doc = |name: &str| {
            let rule = format!("<Rule><ObjectOwnership>{name}</ObjectOwnership></Rule>");
            parse_ownership(format!("<OwnershipControls>{rule}</OwnershipControls>").as_bytes()).ok()
        };
        assert_eq!(doc("BucketOwnerPreferred"), Some(Ownership::BucketOwnerPreferred));
        assert_eq!(doc("Mine"), None);
        assert!(parse_ownership(b"<OwnershipControls/>").is_err());
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise: Vec<u8>) {
            let _ = parse_block(&noise);
            let _ = parse_ownership(&noise);
        }
    }
}
