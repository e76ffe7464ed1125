//! The examples that AWS publishes ("Examples: Signature Calculations" in the S3 API reference).

use super::*;
use http::HeaderValue;
use proptest::prelude::*;

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (k, v) in list {
        map.append(*k, HeaderValue::from_str(v).unwrap());
    }
    map
}

fn authorization(signed: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={KEY}/20130524/us-east-1/s3/aws4_request, SignedHeaders={signed}, Signature={signature}"
    )
}

fn check(
    method: &str,
    path: &str,
    query: &str,
    list: &[(&'static str, &str)],
    signed: &str,
    signature: &str,
) {
    let mut map = headers(list);
    map.insert("authorization", authorization(signed, signature).parse().unwrap());
    let request = Request { method, path, query, headers: &map };
    let claim = Claim::of(&request).unwrap().unwrap();
    assert_eq!(claim.access_key, KEY);
    let payload = map["x-amz-content-sha256"].to_str().unwrap().to_owned();
    assert!(claim.verify(&request, &payload, SECRET).is_ok(), "{method} {path}?{query}");
    let refused = claim.verify(&request, &payload, "another secret").err().unwrap();
    assert_eq!(refused.code, "SignatureDoesNotMatch");
}

#[test]
fn get_object_with_a_range() {
    check(
        "GET",
        "/test.txt",
        "",
        &[
            ("host", "examplebucket.s3.amazonaws.com"),
            ("range", "bytes=0-9"),
            ("x-amz-content-sha256", EMPTY_SHA256),
            ("x-amz-date", "20130524T000000Z"),
        ],
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    );
}

#[test]
fn put_object() {
    check(
        "PUT",
        "/test$file.text",
        "",
        &[
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("host", "examplebucket.s3.amazonaws.com"),
            ("x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"),
            ("x-amz-date", "20130524T000000Z"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ],
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    );
}

#[test]
fn get_bucket_lifecycle_and_list() {
    let list = [
        ("host", "examplebucket.s3.amazonaws.com"),
        ("x-amz-content-sha256", EMPTY_SHA256),
        ("x-amz-date", "20130524T000000Z"),
    ];
    let signed = "host;x-amz-content-sha256;x-amz-date";
    let lifecycle = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543";
    check("GET", "/", "lifecycle", &list, signed, lifecycle);
    let listing = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7";
    check("GET", "/", "max-keys=2&prefix=J", &list, signed, listing);
}

#[test]
fn a_presigned_url() {
    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    let map = headers(&[("host", "examplebucket.s3.amazonaws.com")]);
    let request = Request { method: "GET", path: "/test.txt", query, headers: &map };
    let claim = Claim::of(&request).unwrap().unwrap();
    assert!(claim.verify(&request, UNSIGNED, SECRET).is_ok());
    // Whoever has it does not say more than it says.
    for (name, code) in [("x-amz-acl", Some("AccessDenied")), ("x-amz-content-sha256", None), ("range", None)]
    {
        let map = headers(&[("host", "examplebucket.s3.amazonaws.com"), (name, "x")]);
        let request = Request { method: "GET", path: "/test.txt", query, headers: &map };
        assert_eq!(claim.verify(&request, UNSIGNED, SECRET).err().map(|e| e.code), code, "{name}");
    }
    let at = |s: &str| DateTime::parse_from_rfc3339(s).unwrap().to_utc();
    assert!(claim.check_time(at("2013-05-24T23:59:59Z")).is_ok());
    assert_eq!(claim.check_time(at("2013-05-25T00:00:01Z")).unwrap_err().message, "Request has expired");
    assert_eq!(claim.check_time(at("2013-05-23T00:00:01Z")).unwrap_err().code, "AccessDenied");
}

#[test]
fn what_is_refused() {
    let of = |auth: &str, query: &str| {
        let map = headers(&[("authorization", auth), ("x-amz-date", "20130524T000000Z")]);
        Claim::of(&Request { method: "GET", path: "/", query, headers: &map }).unwrap_err().code
    };
    assert_eq!(of("Basic abc", ""), "InvalidArgument");
    assert_eq!(of("AWS4-HMAC-SHA256 Credential=x", ""), "AuthorizationHeaderMalformed");
    assert_eq!(
        of("AWS4-HMAC-SHA256 Credential=k/20130525/r/s3/aws4_request,SignedHeaders=host,Signature=0", ""),
        "AuthorizationHeaderMalformed"
    );
    assert_eq!(of("AWS4-HMAC-SHA256 x", "X-Amz-Algorithm=y"), "InvalidArgument");
    let map = headers(&[]);
    let request = |query| Claim::of(&Request { method: "GET", path: "/", query, headers: &map });
    assert_eq!(request("a=b").unwrap(), None);
    assert_eq!(
        request("X-Amz-Algorithm=AWS4-HMAC-SHA256").unwrap_err().code,
        "AuthorizationQueryParametersError"
    );
    let long = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=604801";
    assert_eq!(request(long).unwrap_err().code, "AuthorizationQueryParametersError");
}

#[test]
fn headers_that_are_not_signed_are_refused() {
    let map = headers(&[
        ("host", "h"),
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-acl", "public-read"),
        ("authorization", &authorization("host;x-amz-date", "0")),
    ]);
    let request = Request { method: "GET", path: "/", query: "", headers: &map };
    let claim = Claim::of(&request).unwrap().unwrap();
    assert_eq!(claim.verify(&request, UNSIGNED, SECRET).err().unwrap().code, "AccessDenied");
    let now = DateTime::parse_from_rfc3339("2013-05-24T00:15:01Z").unwrap().to_utc();
    assert_eq!(claim.check_time(now).unwrap_err().code, "RequestTimeTooSkewed");
}

proptest! {
    #[test]
    fn noise_never_panics(auth in "[ -~]{0,80}", query in "[ -~]{0,80}", path in "[ -~]{0,20}") {
        let Ok(value) = HeaderValue::from_str(&auth) else { return Ok(()) };
        let mut map = HeaderMap::new();
        map.insert("authorization", value);
        let request = Request { method: "GET", path: &path, query: &query, headers: &map };
        if let Ok(Some(claim)) = Claim::of(&request) {
            let _ = claim.verify(&request, UNSIGNED, "secret");
        }
    }
}
