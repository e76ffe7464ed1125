//! The parsers of what strangers send, each as a function over bytes that panics where the parser breaks its word: the
//! targets below `fuzz/` call them, and every test run feeds them noise and damaged samples.

use crate::acl;
use crate::bucket_policy::{BucketPolicy, Question};
use crate::http::{encode, fuzzing as http};
use crate::link::Target;
use crate::range::Ranges;

/// SigV4 and SigV2 in headers and in queries.
pub fn signatures(data: &[u8]) {
    http::s3::signatures(data);
}

/// SigV4's streaming chunks.
pub fn chunks(data: &[u8]) {
    http::s3::chunks(data);
}

/// A `Range` header behind the eight bytes of an object's size.
pub fn ranges(data: &[u8]) {
    let Some((size, header)) = data.split_first_chunk::<8>() else { return };
    let (size, header) = (u64::from_le_bytes(*size), String::from_utf8_lossy(header));
    let Some(ranges) = Ranges::parse(&header) else { return };
    assert!(ranges.reach(4096) <= 4096);
    for span in ranges.within(size).unwrap_or_default() {
        assert!(span.start < span.end && span.end <= size, "{span:?} of {size}");
        let _ = span.content_range(size);
    }
}

/// ACLs of containers, with a referer in the second line; S3's in documents and headers.
pub fn acls(data: &[u8]) {
    http::s3::grants(data);
    let text = String::from_utf8_lossy(data);
    let (list, referer) = text.split_once('\n').unwrap_or((&text, ""));
    for header in ["X-Container-Read", "X-Container-Write"] {
        if let Ok(clean) = acl::clean(header, list) {
            let private = acl::Counting { private: true, ..acl::Counting::default() };
            let open = acl::grants(&clean, None, Some(referer), acl::Counting::default());
            let closed = acl::grants(&clean, None, Some(referer), private);
            assert!(!open.objects || acl::is_public(&clean), "{clean} lets in people whom nobody named");
            assert!(!closed.objects && !closed.listing, "{clean} is open though it is closed");
        }
    }
}

/// S3's XML: deletions, uploads of parts, and every configuration of a bucket.
pub fn xml(data: &[u8]) {
    http::s3::documents(data);
}

/// Bucket policies, and the policies of forms.
pub fn policies(data: &[u8]) {
    http::s3::form_policy(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(policy) = BucketPolicy::parse(text, "bucket", "owner") else { return };
    let _ = (policy.is_public(), policy.wants_tags());
    let facts = |_: &str| vec!["10.0.0.1".to_owned(), "a".to_owned()];
    for key in ["", "a/b"] {
        let question =
            Question { action: "s3:GetObject", bucket: "bucket", key, caller: None, facts: &facts };
        let _ = policy.ask(&question);
    }
}

/// Manifests of static large objects.
pub fn manifests(data: &[u8]) {
    http::swift::manifests(data);
}

/// `multipart/form-data`.
pub fn forms(data: &[u8]) {
    http::forms(data);
}

/// tar, gzip and bzip2.
pub fn archives(data: &[u8]) {
    http::archives(data);
}

/// Values of headers that need not be text.
pub fn values(data: &[u8]) {
    http::values(data);
}

/// Where a symlink leads, with an account in the second line.
pub fn links(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (path, account) = match text.split_once('\n') {
        Some((path, account)) => (path, Some(account)),
        None => (&*text, None),
    };
    let Ok(target) = Target::read(path, account) else { return };
    assert!(!target.container.contains('/') && !target.object.is_empty(), "{target:?}");
    let mut link = String::new();
    encode(&mut link, format!("{}/{}", target.container, target.object).as_bytes(), true);
    assert_eq!(Target::read(&link, account), Ok(target), "{path} is another link when it is stored");
}

/// What to begin with: the target's name and an input that is good, or nearly.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let day = "20130524";
    let credential = format!("AKIDEXAMPLE/{day}/us-east-1/s3/aws4_request");
    let signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
    let in_header = format!(
        "/a%20b?x=1\nhost: s3\nx-amz-date: {day}T000000Z\nauthorization: AWS4-HMAC-SHA256 Credential={credential}, \
         SignedHeaders=host;x-amz-date, Signature={signature}\n"
    );
    let in_query = format!(
        "/a?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={day}T000000Z&X-Amz-Expires=86400\
         &X-Amz-SignedHeaders=host&X-Amz-Signature={signature}\nhost: s3\n",
        credential.replace('/', "%2F")
    );
    let chunks = b"\x02\x035\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
    let signed =
        [b"\x01\x07".as_slice(), b"5;chunk-signature=", signature.as_bytes(), b"\r\nhello\r\n"].concat();
    let ranges = [1000u64.to_le_bytes().as_slice(), b"bytes=0-9, 20-, -5"].concat();
    let policy = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ["p"]},
        "Action": "s3:Get*", "Resource": "arn:aws:s3:::bucket/*", "Condition": {"StringLike": {"aws:Referer": "a*"},
        "IpAddress": {"aws:SourceIp": "10.0.0.0/8"}, "DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}}}]}"#;
    let form_policy = r#"{"expiration": "2030-01-01T00:00:00Z", "conditions": [{"bucket": "b"},
        ["starts-with", "$key", "a/"], ["content-length-range", 1, 10]]}"#;
    let manifest = r#"[{"path": "/c/o", "etag": null, "size_bytes": "5", "range": "0-1"}, {"data": "eA=="}]"#;
    let form = b"\x05--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\\\"b\"\r\nContent-Type: a/b\r\n\r\nx\r\n--XX--\r\n";
    let acl = "<AccessControlPolicy><Owner><ID>p</ID></Owner><AccessControlList><Grant><Grantee><ID>q</ID></Grantee>\
        <Permission>READ</Permission></Grant></AccessControlList></AccessControlPolicy>";
    let rule = "<Rule><ID>r</ID><Status>Enabled</Status><Filter><And><Prefix>a</Prefix><Tag><Key>k</Key><Value>v</Value>\
        </Tag></And></Filter><Expiration><Days>3</Days></Expiration><Transition><Days>1</Days>\
        <StorageClass>COLD</StorageClass></Transition></Rule>";
    let documents = [
        "<Delete><Object><Key>a &amp; b</Key><VersionId>null</VersionId><ETag>e</ETag></Object></Delete>".to_owned(),
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"e\"</ETag></Part></CompleteMultipartUpload>".to_owned(),
        format!("<LifecycleConfiguration>{rule}</LifecycleConfiguration>"),
        "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>".to_owned(),
        "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>".to_owned(),
        "<WebsiteConfiguration><IndexDocument><Suffix>i</Suffix></IndexDocument></WebsiteConfiguration>".to_owned(),
        "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2030-01-01T00:00:00Z</RetainUntilDate></Retention>".to_owned(),
    ];
    let mut all = vec![
        ("signatures", in_header.into_bytes()),
        ("signatures", in_query.into_bytes()),
        ("signatures", b"/a?AWSAccessKeyId=a&Expires=1&Signature=b%3D\nhost: s3\n".to_vec()),
        ("chunks", chunks.to_vec()),
        ("chunks", signed),
        ("ranges", ranges),
        ("acls", b".r:*,.rlistings,.r:-.bad.com,p:u,*:*\nhttp://www.bad.com/".to_vec()),
        ("acls", acl.as_bytes().to_vec()),
        ("acls", b"id=\"a\", uri=\"http://acs.amazonaws.com/groups/global/AllUsers\"".to_vec()),
        ("policies", policy.as_bytes().to_vec()),
        ("policies", form_policy.as_bytes().to_vec()),
        ("manifests", manifest.as_bytes().to_vec()),
        ("forms", form.to_vec()),
        ("archives", [b"\0".as_slice(), &tar()].concat()),
        ("values", b"gr\xc3\xbcn \xe2\x98 \xff".to_vec()),
        ("values", "\u{10ff41}".into()),
        ("links", b"/c/a%20b/%C3%BC\nAUTH_q".to_vec()),
        ("links", b"c//o".to_vec()),
    ];
    all.extend(documents.map(|text| ("xml", text.into_bytes())));
    all.extend(packed().map(|archive| ("archives", archive)));
    all
}

/// An archive of one file.
fn tar() -> Vec<u8> {
    let mut block = vec![0; 1024];
    block[..3].copy_from_slice(b"c/o");
    block[124..135].copy_from_slice(b"00000000005");
    block[156] = b'0';
    block[257..263].copy_from_slice(b"ustar\0");
    block[148..156].fill(b' ');
    let sum: u64 = block[..512].iter().map(|b| u64::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block[512..517].copy_from_slice(b"hello");
    block
}

/// The same, packed in either way.
fn packed() -> [Vec<u8>; 2] {
    use async_compression::tokio::bufread::{BzEncoder, GzipEncoder};
    use tokio::io::AsyncReadExt;
    let (tar, mut gzip, mut bzip2) = (tar(), vec![1], vec![2]);
    futures::executor::block_on(async {
        let _ = GzipEncoder::new(tar.as_slice()).read_to_end(&mut gzip).await;
        let _ = BzEncoder::new(tar.as_slice()).read_to_end(&mut bzip2).await;
    });
    [gzip, bzip2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Door = (&'static str, fn(&[u8]));
    const DOORS: [Door; 11] = [
        ("signatures", signatures),
        ("chunks", chunks),
        ("ranges", ranges),
        ("acls", acls),
        ("xml", xml),
        ("policies", policies),
        ("manifests", manifests),
        ("forms", forms),
        ("archives", archives),
        ("values", values),
        ("links", links),
    ];

    fn run(name: &str, data: &[u8]) {
        let (_, door) = DOORS.iter().find(|(n, _)| *n == name).unwrap();
        door(data);
    }

    #[test]
    fn every_door_has_a_sample_that_passes() {
        for (name, seed) in seeds() {
            run(name, &seed);
        }
        assert!(DOORS.iter().all(|(name, _)| seeds().iter().any(|(of, _)| of == name)));
    }

    proptest! {
        #[test]
        fn noise_and_damaged_samples(
            noise: Vec<u8>,
            which: prop::sample::Index,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut: prop::sample::Index,
        ) {
            for (_, door) in DOORS {
                door(&noise);
            }
            let (name, mut seed) = seeds().swap_remove(which.index(seeds().len()));
            for (at, byte) in changes {
                let at = at.index(seed.len());
                seed[at] = byte;
            }
            run(name, &seed);
            run(name, &seed[..cut.index(seed.len())]);
        }
    }
}
