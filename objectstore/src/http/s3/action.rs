//! The actions that requests are, as bucket policies name them ("Actions, resources, and condition keys for Amazon S3").

use super::endpoint::Endpoint;
use crate::access::{DELETE, GET, PUT};
use http::Method;

/// Configurations of a bucket: the parameter, reading it, changing it, removing it.
const OF_BUCKET: [(&str, [&str; 3]); 22] = [
    ("acl", ["s3:GetBucketAcl", "s3:PutBucketAcl", "s3:PutBucketAcl"]),
    ("location", ["s3:GetBucketLocation", "s3:", "s3:"]),
    ("versioning", ["s3:GetBucketVersioning", "s3:PutBucketVersioning", "s3:PutBucketVersioning"]),
    ("policyStatus", ["s3:GetBucketPolicyStatus", "s3:", "s3:"]),
    ("policy", ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"]),
    ("cors", ["s3:GetBucketCORS", "s3:PutBucketCORS", "s3:PutBucketCORS"]),
    (
        "lifecycle",
        ["s3:GetLifecycleConfiguration", "s3:PutLifecycleConfiguration", "s3:PutLifecycleConfiguration"],
    ),
    ("tagging", ["s3:GetBucketTagging", "s3:PutBucketTagging", "s3:PutBucketTagging"]),
    ("website", ["s3:GetBucketWebsite", "s3:PutBucketWebsite", "s3:DeleteBucketWebsite"]),
    (
        "encryption",
        ["s3:GetEncryptionConfiguration", "s3:PutEncryptionConfiguration", "s3:PutEncryptionConfiguration"],
    ),
    (
        "replication",
        [
            "s3:GetReplicationConfiguration",
            "s3:PutReplicationConfiguration",
            "s3:PutReplicationConfiguration",
        ],
    ),
    (
        "object-lock",
        [
            "s3:GetBucketObjectLockConfiguration",
            "s3:PutBucketObjectLockConfiguration",
            "s3:PutBucketObjectLockConfiguration",
        ],
    ),
    (
        "publicAccessBlock",
        ["s3:GetBucketPublicAccessBlock", "s3:PutBucketPublicAccessBlock", "s3:PutBucketPublicAccessBlock"],
    ),
    (
        "ownershipControls",
        ["s3:GetBucketOwnershipControls", "s3:PutBucketOwnershipControls", "s3:PutBucketOwnershipControls"],
    ),
    ("logging", ["s3:GetBucketLogging", "s3:PutBucketLogging", "s3:PutBucketLogging"]),
    ("notification", ["s3:GetBucketNotification", "s3:PutBucketNotification", "s3:PutBucketNotification"]),
    (
        "requestPayment",
        ["s3:GetBucketRequestPayment", "s3:PutBucketRequestPayment", "s3:PutBucketRequestPayment"],
    ),
    (
        "accelerate",
        ["s3:GetAccelerateConfiguration", "s3:PutAccelerateConfiguration", "s3:PutAccelerateConfiguration"],
    ),
    (
        "analytics",
        ["s3:GetAnalyticsConfiguration", "s3:PutAnalyticsConfiguration", "s3:PutAnalyticsConfiguration"],
    ),
    (
        "inventory",
        ["s3:GetInventoryConfiguration", "s3:PutInventoryConfiguration", "s3:PutInventoryConfiguration"],
    ),
    ("metrics", ["s3:GetMetricsConfiguration", "s3:PutMetricsConfiguration", "s3:PutMetricsConfiguration"]),
    (
        "intelligent-tiering",
        [
            "s3:GetIntelligentTieringConfiguration",
            "s3:PutIntelligentTieringConfiguration",
            "s3:PutIntelligentTieringConfiguration",
        ],
    ),
];

const OF_OBJECT: [(&str, [&str; 3]); 5] = [
    ("acl", ["s3:GetObjectAcl", "s3:PutObjectAcl", "s3:PutObjectAcl"]),
    ("tagging", ["s3:GetObjectTagging", "s3:PutObjectTagging", "s3:DeleteObjectTagging"]),
    ("legal-hold", ["s3:GetObjectLegalHold", "s3:PutObjectLegalHold", "s3:PutObjectLegalHold"]),
    ("retention", ["s3:GetObjectRetention", "s3:PutObjectRetention", "s3:PutObjectRetention"]),
    ("torrent", ["s3:GetObjectTorrent", "s3:", "s3:"]),
];

/// The same actions on a version that the request names.
const OF_VERSION: [(&str, &str); 8] = [
    (GET, "s3:GetObjectVersion"),
    (DELETE, "s3:DeleteObjectVersion"),
    ("s3:GetObjectAttributes", "s3:GetObjectVersionAttributes"),
    ("s3:GetObjectAcl", "s3:GetObjectVersionAcl"),
    ("s3:PutObjectAcl", "s3:PutObjectVersionAcl"),
    ("s3:GetObjectTagging", "s3:GetObjectVersionTagging"),
    ("s3:PutObjectTagging", "s3:PutObjectVersionTagging"),
    ("s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging"),
];

impl Endpoint {
    /// The action of a request.
    pub(super) fn action(self, method: &Method, query: &[(String, String)]) -> &'static str {
        use Endpoint as E;
        let has = |name: &str| query.iter().any(|(k, _)| k == name);
        let of = |table: &[(&str, [&'static str; 3])]| {
            let column = match method.as_str() {
                "GET" | "HEAD" => 0,
                "DELETE" => 2,
                _ => 1,
            };
            table.iter().find(|(name, _)| has(name)).map_or("s3:", |(_, actions)| actions[column])
        };
        let action = match self {
            E::ListBuckets => "s3:ListAllMyBuckets",
            E::CreateBucket => "s3:CreateBucket",
            E::HeadBucket | E::ListObjects | E::ListObjectsV2 => "s3:ListBucket",
            E::DeleteBucket => "s3:DeleteBucket",
            E::BucketConfig => of(&OF_BUCKET),
            E::ObjectConfig => of(&OF_OBJECT),
            E::ListVersions => "s3:ListBucketVersions",
            E::ListUploads => "s3:ListBucketMultipartUploads",
            E::GetObject | E::HeadObject => GET,
            E::PutObject
            | E::PostObject
            | E::CopyObject
            | E::BeginUpload
            | E::PutPart
            | E::CopyPart
            | E::CompleteUpload => PUT,
            E::DeleteObject | E::DeleteObjects => DELETE,
            E::Attributes => "s3:GetObjectAttributes",
            E::ListParts => "s3:ListMultipartUploadParts",
            E::AbortUpload => "s3:AbortMultipartUpload",
            E::RestoreObject => "s3:RestoreObject",
        };
        let versioned = query.iter().any(|(k, v)| k == "versionId" && !v.is_empty());
        match OF_VERSION.iter().find(|(plain, _)| versioned && *plain == action) {
            Some((_, of_version)) => of_version,
            None => action,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_actions() {
        let of = |endpoint: Endpoint, method: Method, query: &[(&str, &str)]| {
            let query: Vec<_> = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            endpoint.action(&method, &query)
        };
        assert_eq!(of(Endpoint::HeadObject, Method::HEAD, &[]), "s3:GetObject");
        assert_eq!(of(Endpoint::GetObject, Method::GET, &[("versionId", "v")]), "s3:GetObjectVersion");
        assert_eq!(of(Endpoint::BucketConfig, Method::DELETE, &[("policy", "")]), "s3:DeleteBucketPolicy");
        assert_eq!(
            of(Endpoint::BucketConfig, Method::GET, &[("policyStatus", "")]),
            "s3:GetBucketPolicyStatus"
        );
        assert_eq!(of(Endpoint::ObjectConfig, Method::PUT, &[("acl", "")]), "s3:PutObjectAcl");
        assert_eq!(of(Endpoint::CopyPart, Method::PUT, &[]), "s3:PutObject");
    }
}
