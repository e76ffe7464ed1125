//! Server-side encryption in requests and answers: with the store's own keys (SSE-S3, `AES256`) or with a key that the
//! client brings each time (SSE-C); and what a bucket does with objects that say nothing of it.

use super::error::{S3Error, S3Result, malformed_xml, method_not_allowed};
use super::xml::{Node, Xml};
use super::{Call, bare, config, xml_reply};
use crate::container::Container;
use crate::seal::{CustomerKey, Seal, SealWith};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

const METHOD: &str = "x-amz-server-side-encryption";
/// The headers of a key, for the object itself and for a copy's source.
pub(super) const OWN: &str = "x-amz-server-side-encryption-customer";
pub(super) const SOURCE: &str = "x-amz-copy-source-server-side-encryption-customer";

/// The key that a request brings.
pub(super) fn customer(call: &Call, headers: &str) -> S3Result<Option<CustomerKey>> {
    let given = |what: &str| call.header(&format!("{headers}-{what}"));
    let (algorithm, key, md5) = (given("algorithm"), given("key"), given("key-md5"));
    if algorithm.is_none() && key.is_none() && md5.is_none() {
        return Ok(None);
    }
    let wrong = |text: &str| S3Error::invalid_argument(text);
    match algorithm {
        Some("AES256") => {}
        Some(_) => {
            let text = "The Encryption request you specified is not valid. Supported value: AES256.";
            return Err(S3Error { code: "InvalidEncryptionAlgorithmError", ..wrong(text) });
        }
        None => {
            return Err(wrong(
                "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption algorithm.",
            ));
        }
    }
    let key = key.ok_or_else(|| {
        wrong("Requests specifying Server Side Encryption with Customer provided keys must provide an appropriate secret key.")
    })?;
    let key = BASE64_STANDARD.decode(key.trim()).ok().and_then(|k| k.try_into().ok());
    let key = CustomerKey::new(
        key.ok_or_else(|| wrong("The secret key was invalid for the specified algorithm."))?,
    );
    let md5 = md5.ok_or_else(|| {
        wrong("Requests specifying Server Side Encryption with Customer provided keys must provide the client calculated MD5 of the secret key.")
    })?;
    if md5.trim() != key.md5() {
        return Err(wrong("The calculated MD5 hash of the key did not match the hash that was provided."));
    }
    Ok(Some(key))
}

/// How an object that a request writes is to be encrypted.
pub(super) fn wanted(call: &Call, container: &Container) -> S3Result<Option<SealWith>> {
    let customer = customer(call, OWN)?;
    let kms = call.header(METHOD).is_some_and(|m| m.starts_with("aws:kms"));
    if !kms && call.headers.contains_key("x-amz-server-side-encryption-aws-kms-key-id") {
        return Err(S3Error::invalid_argument(
            "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms",
        ));
    }
    match (call.header(METHOD), customer) {
        (Some(_), Some(_)) => Err(S3Error::invalid_argument(
            "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
        )),
        (None, Some(key)) => Ok(Some(SealWith::Customer(key))),
        (Some("AES256"), None) => Ok(Some(SealWith::Root)),
        (Some(method @ ("aws:kms" | "aws:kms:dsse")), None) => Err(S3Error::not_implemented(method)),
        (Some(method), None) => {
            Err(S3Error::invalid_argument("The encryption method specified is not supported")
                .with("ArgumentName", METHOD)
                .with("ArgumentValue", method))
        }
        (None, None) => Ok(container.info.sharing.default_seal().cloned()),
    }
}

/// The key that a read brings. How the object is encrypted is not for a reader to say.
pub(super) fn of_reader(call: &Call) -> S3Result<Option<CustomerKey>> {
    match call.headers.contains_key(METHOD) {
        true => Err(S3Error::invalid_argument(
            "x-amz-server-side-encryption header is not supported for this operation.",
        )),
        false => customer(call, OWN),
    }
}

/// Says how an object that is being written will be encrypted.
pub(super) fn tell_wish(out: &mut HeaderMap, wish: Option<&SealWith>) {
    let seal = wish.map(|wish| match wish {
        SealWith::Root => None,
        SealWith::Customer(key) => Some(key.md5().to_owned()),
    });
    show(out, seal.as_ref().map(Option::as_deref));
}

/// Says how an object is encrypted.
pub(super) fn tell(out: &mut HeaderMap, seal: Option<&Seal>) {
    show(out, seal.map(|s| s.customer.as_deref()));
}

/// By nobody's key, by the store's, or by one with this MD5.
fn show(out: &mut HeaderMap, seal: Option<Option<&str>>) {
    let mut set = |name: String, value: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        {
            out.insert(name, value);
        }
    };
    match seal {
        None => {}
        Some(None) => set(METHOD.to_owned(), "AES256"),
        Some(Some(md5)) => {
            set(format!("{OWN}-algorithm"), "AES256");
            set(format!("{OWN}-key-md5"), md5);
        }
    }
}

pub(super) async fn of_bucket(call: &Call) -> S3Result<Response> {
    let container = config::container(call).await?;
    match call.method.as_str() {
        "GET" if !container.info.sharing.encrypts => Err(S3Error::not_configured(
            "ServerSideEncryptionConfigurationNotFoundError",
            "The server side encryption configuration was not found",
        )),
        "GET" => {
            let mut xml = Xml::new();
            xml.root("ServerSideEncryptionConfiguration").open("Rule");
            xml.open("ApplyServerSideEncryptionByDefault").text("SSEAlgorithm", "AES256");
            xml.close("ApplyServerSideEncryptionByDefault").text("BucketKeyEnabled", "false");
            xml.close("Rule").close("ServerSideEncryptionConfiguration");
            Ok(xml_reply(StatusCode::OK, xml))
        }
        "PUT" => {
            parse(&call.small_body().await?)?;
            config::share(call, &container, |s| s.encrypts = true).await?;
            Ok(bare(StatusCode::OK))
        }
        "DELETE" => {
            config::share(call, &container, |s| s.encrypts = false).await?;
            Ok(bare(StatusCode::NO_CONTENT))
        }
        _ => Err(method_not_allowed()),
    }
}

/// Accepts what is built: one rule, for AES256.
pub(super) fn parse(body: &[u8]) -> S3Result<()> {
    let node = Node::parse(body, "ServerSideEncryptionConfiguration")?;
    let rules: Vec<&Node> = node.all("Rule").collect();
    let [rule] = rules.as_slice() else { return Err(malformed_xml()) };
    let default = rule.child("ApplyServerSideEncryptionByDefault").ok_or_else(malformed_xml)?;
    match default.value("SSEAlgorithm").map(str::trim) {
        Some("AES256") if default.child("KMSMasterKeyID").is_some() => Err(S3Error::invalid_argument(
            "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse",
        )),
        Some("AES256") => Ok(()),
        Some(method @ ("aws:kms" | "aws:kms:dsse")) => Err(S3Error::not_implemented(method)),
        _ => Err(malformed_xml()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn configurations() {
        let read = |inside: &str| {
            let rule = format!(
                "<Rule><ApplyServerSideEncryptionByDefault>{inside}</ApplyServerSideEncryptionByDefault></Rule>"
            );
            let doc =
                format!("<ServerSideEncryptionConfiguration>{rule}</ServerSideEncryptionConfiguration>");
            parse(doc.as_bytes()).map_err(|e| e.code)
        };
        assert_eq!(read("<SSEAlgorithm>AES256</SSEAlgorithm>"), Ok(()));
        assert_eq!(read("<SSEAlgorithm>aws:kms</SSEAlgorithm>"), Err("NotImplemented"));
        assert_eq!(read("<SSEAlgorithm>ROT13</SSEAlgorithm>"), Err("MalformedXML"));
        assert_eq!(
            read("<SSEAlgorithm>AES256</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID>"),
            Err("InvalidArgument")
        );
        assert!(parse(b"<ServerSideEncryptionConfiguration/>").is_err());
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise: Vec<u8>) {
            let _ = parse(&noise);
        }
    }
}
