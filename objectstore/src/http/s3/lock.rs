//! Object Lock: what a bucket and its versions say of how long they stay. The rules are the engine's
//! ([`crate::version::Lock`]); a bucket that has it keeps versions for good.

use super::config::container as owned;
use super::error::{self, S3Error, S3Result, malformed_xml};
use super::list::time;
use super::xml::{Node, Xml};
use super::{Call, bare, versions, xml_reply};
use crate::container::Container;
use crate::version::{DefaultRetention, Lock, LockMode, ObjectLock, Period, Retention, Versioning};
use crate::{ContainerInfo, ObjectError, ObjectMeta};
use axum::response::Response;
use chrono::DateTime;
use http::{HeaderMap, HeaderValue, StatusCode};
use state::Timestamp;

/// Longest default retention, in days and in years.
const MOST_DAYS: u32 = 36_500;
const MOST_YEARS: u32 = 100;

/// Whether a request that makes a bucket wants it locked.
pub(super) fn of_new_bucket(call: &Call) -> S3Result<bool> {
    match call.header("x-amz-bucket-object-lock-enabled").map(str::to_ascii_lowercase).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(S3Error::invalid_argument("x-amz-bucket-object-lock-enabled must be true or false")),
    }
}

/// Sets a new bucket up for it.
pub(super) fn enable(info: &mut ContainerInfo) {
    info.versioning = Versioning::Enabled;
    info.lock = Some(ObjectLock { default: None });
}

/// `?object-lock`
pub(super) async fn of_bucket(call: &Call) -> S3Result<Response> {
    let container = owned(call).await?;
    match call.method.as_str() {
        "GET" => match &container.info.lock {
            Some(lock) => Ok(show(lock)),
            None => Err(S3Error::not_configured(
                "ObjectLockConfigurationNotFoundError",
                "Object Lock configuration does not exist for this bucket",
            )),
        },
        "PUT" => {
            let lock = read(&call.small_body().await?)?;
            let rule = |info: &mut ContainerInfo| {
                if info.versioning != Versioning::Enabled {
                    return Err(ObjectError::Locked);
                }
                info.lock = Some(lock);
                Ok(())
            };
            let changed = call
                .store
                .change_container(&call.access, &container.project_id, &container.name, &rule)
                .await;
            changed.map_err(|e| match e {
                ObjectError::Locked => S3Error {
                    message:
                        "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration"
                            .into(),
                    ..error::invalid_state()
                },
                e => e.into(),
            })?;
            Ok(bare(StatusCode::OK))
        }
        _ => Err(error::method_not_allowed()),
    }
}

fn show(lock: &ObjectLock) -> Response {
    let mut xml = Xml::new();
    xml.root("ObjectLockConfiguration").text("ObjectLockEnabled", "Enabled");
    if let Some(default) = &lock.default {
        xml.open("Rule").open("DefaultRetention").text("Mode", default.mode.name());
        match default.period {
            Period::Days(n) => xml.text("Days", &n.to_string()),
            Period::Years(n) => xml.text("Years", &n.to_string()),
        };
        xml.close("DefaultRetention").close("Rule");
    }
    xml.close("ObjectLockConfiguration");
    xml_reply(StatusCode::OK, xml)
}

pub(super) fn read(body: &[u8]) -> S3Result<ObjectLock> {
    let node = Node::parse(body, "ObjectLockConfiguration")?;
    if node.value("ObjectLockEnabled") != Some("Enabled") {
        return Err(malformed_xml());
    }
    let Some(rule) = node.child("Rule") else { return Ok(ObjectLock { default: None }) };
    let default = rule.child("DefaultRetention").ok_or_else(malformed_xml)?;
    let mode = default.value("Mode").and_then(LockMode::of).ok_or_else(malformed_xml)?;
    let number = |text: &str, most: u32| {
        let n: i64 = text.trim().parse().map_err(|_| malformed_xml())?;
        let bad =
            |message: &str| S3Error { code: "InvalidRetentionPeriod", ..S3Error::invalid_argument(message) };
        match u32::try_from(n) {
            Ok(0) | Err(_) if n <= 0 => {
                Err(bad("Default retention period must be a positive integer value."))
            }
            Ok(n) if n <= most => Ok(n),
            _ => Err(bad("Default retention period too large.")),
        }
    };
    let period = match (default.value("Days"), default.value("Years")) {
        (Some(days), None) => Period::Days(number(days, MOST_DAYS)?),
        (None, Some(years)) => Period::Years(number(years, MOST_YEARS)?),
        _ => return Err(malformed_xml()),
    };
    Ok(ObjectLock { default: Some(DefaultRetention { mode, period }) })
}

fn missing() -> S3Error {
    S3Error::invalid_request("Bucket is missing Object Lock Configuration")
}

fn date(text: &str) -> Option<Timestamp> {
    Some(Timestamp(DateTime::parse_from_rfc3339(text.trim()).ok()?.timestamp_micros()))
}

fn future(until: Timestamp) -> S3Result<Timestamp> {
    match until > Timestamp::now() {
        true => Ok(until),
        false => Err(S3Error::invalid_argument("The retain until date must be in the future!")),
    }
}

/// How a new version is to be kept, by the request's headers.
pub(super) fn of_headers(call: &Call, container: &Container) -> S3Result<Lock> {
    let header = |name: &str| call.header(&format!("x-amz-object-lock-{name}"));
    let (mode, until, hold) = (header("mode"), header("retain-until-date"), header("legal-hold"));
    if mode.is_none() && until.is_none() && hold.is_none() {
        return Ok(Lock::default());
    }
    if container.info.lock.is_none() {
        return Err(missing());
    }
    let retention = match (mode, until) {
        (None, None) => None,
        (Some(mode), Some(until)) => {
            let mode =
                LockMode::of(mode).ok_or_else(|| S3Error::invalid_argument("Unknown wormMode directive."))?;
            let until = date(until).ok_or_else(|| {
                S3Error::invalid_argument("The retain until date must be provided in ISO 8601 format")
            })?;
            Some(Retention { mode, until: future(until)? })
        }
        _ => {
            return Err(S3Error::invalid_argument(
                "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
            ));
        }
    };
    let legal_hold = match hold {
        None => None,
        Some("ON") => Some(true),
        Some("OFF") => Some(false),
        Some(_) => return Err(S3Error::invalid_argument("Legal Hold must be either of 'ON' or 'OFF'")),
    };
    Ok(Lock { retention, legal_hold })
}

/// Says how a version is kept.
pub(super) fn tell(out: &mut HeaderMap, meta: &ObjectMeta) {
    if let Some(retention) = &meta.lock.retention {
        out.insert("x-amz-object-lock-mode", HeaderValue::from_static(retention.mode.name()));
        if let Ok(until) = HeaderValue::from_str(&time(retention.until)) {
            out.insert("x-amz-object-lock-retain-until-date", until);
        }
    }
    if let Some(held) = meta.lock.legal_hold {
        out.insert("x-amz-object-lock-legal-hold", HeaderValue::from_static(if held { "ON" } else { "OFF" }));
    }
}

/// Whether the caller may break governance, and says so. It is the bucket's owner's to break.
pub(super) fn bypasses(call: &Call, container: &Container) -> bool {
    let says = call.header("x-amz-bypass-governance-retention");
    says.is_some_and(|v| v.eq_ignore_ascii_case("true"))
        && call.store.is_owner(&call.access, &container.project_id)
}

/// `?retention` and `?legal-hold` of an object
pub(super) async fn of_object(call: &Call, what: &str) -> S3Result<Response> {
    let container = owned(call).await?;
    if container.info.lock.is_none() {
        return Err(missing());
    }
    let version = versions::wanted(call)?;
    let meta = match (call.method.as_str(), what) {
        ("GET", _) => {
            let object = versions::open(call, &container, &call.key, version, 0, |e| e).await?;
            return show_object(&object.meta.lock, what);
        }
        ("PUT", "retention") => {
            let retention = read_retention(&call.small_body().await?)?;
            let bypass = bypasses(call, &container);
            call.store.set_retention(&container, &call.key, version, retention, bypass).await?
        }
        ("PUT", _) => {
            let node = Node::parse(&call.small_body().await?, "LegalHold")?;
            let held = match node.value("Status") {
                Some("ON") => true,
                Some("OFF") => false,
                _ => return Err(malformed_xml()),
            };
            call.store.set_legal_hold(&container, &call.key, version, held).await?
        }
        _ => return Err(error::method_not_allowed()),
    };
    let mut response = bare(StatusCode::OK);
    versions::name(response.headers_mut(), &container, meta.version_id());
    Ok(response)
}

pub(super) fn read_retention(body: &[u8]) -> S3Result<Option<Retention>> {
    let node = Node::parse(body, "Retention")?;
    match (node.value("Mode"), node.value("RetainUntilDate")) {
        (None, None) => Ok(None),
        (Some(mode), Some(until)) => {
            let mode = LockMode::of(mode).ok_or_else(malformed_xml)?;
            let until = date(until).ok_or_else(malformed_xml)?;
            Ok(Some(Retention { mode, until: future(until)? }))
        }
        _ => Err(malformed_xml()),
    }
}

fn show_object(lock: &Lock, what: &str) -> S3Result<Response> {
    let mut xml = Xml::new();
    match (what, &lock.retention, lock.legal_hold) {
        ("retention", Some(retention), _) => {
            xml.root("Retention").text("Mode", retention.mode.name());
            xml.text("RetainUntilDate", &time(retention.until)).close("Retention");
        }
        ("legal-hold", _, Some(held)) => {
            xml.root("LegalHold").text("Status", if held { "ON" } else { "OFF" }).close("LegalHold");
        }
        _ => {
            return Err(S3Error::not_configured(
                "NoSuchObjectLockConfiguration",
                "The specified object does not have a ObjectLock configuration",
            ));
        }
    }
    Ok(xml_reply(StatusCode::OK, xml))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bucket_may_be_set_to() {
        let code = |inside: &str| {
            let doc = format!(
                "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>{inside}</ObjectLockConfiguration>"
            );
            read(doc.as_bytes()).map_err(|e| e.code)
        };
        let rule =
            |inside: &str| code(&format!("<Rule><DefaultRetention>{inside}</DefaultRetention></Rule>"));
        assert_eq!(code(""), Ok(ObjectLock { default: None }));
        let default = DefaultRetention { mode: LockMode::Governance, period: Period::Days(1) };
        assert_eq!(rule("<Mode>GOVERNANCE</Mode><Days>1</Days>"), Ok(ObjectLock { default: Some(default) }));
        assert_eq!(rule("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>"), Err("MalformedXML"));
        assert_eq!(rule("<Mode>governance</Mode><Days>1</Days>"), Err("MalformedXML"));
        assert_eq!(rule("<Mode>COMPLIANCE</Mode>"), Err("MalformedXML"));
        for days in ["0", "-1", "36501"] {
            let rule = rule(&format!("<Mode>COMPLIANCE</Mode><Days>{days}</Days>"));
            assert_eq!(rule, Err("InvalidRetentionPeriod"), "{days}");
        }
        let off = b"<ObjectLockConfiguration><ObjectLockEnabled>Disabled</ObjectLockEnabled></ObjectLockConfiguration>";
        assert_eq!(read(off).map_err(|e| e.code), Err("MalformedXML"));
    }

    #[test]
    fn retentions_are_read() {
        let code = |text: &str| read_retention(text.as_bytes()).map_err(|e| e.code);
        assert_eq!(code("<Retention/>"), Ok(None));
        let r = code(
            "<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2130-01-01T00:00:00Z</RetainUntilDate></Retention>",
        );
        assert_eq!(r.unwrap().unwrap().until, Timestamp(5_049_129_600_000_000));
        let past = "<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2020-01-01T00:00:00Z</RetainUntilDate></Retention>";
        assert_eq!(code(past), Err("InvalidArgument"));
        assert_eq!(code("<Retention><Mode>COMPLIANCE</Mode></Retention>"), Err("MalformedXML"));
    }
}
