//! Container sync at the door: what a container says of it, and requests that other clouds send for it.
//!
//! Such a request carries its own permission: a signature with the realm's key over the container's
//! (`X-Container-Sync-Auth: realm nonce signature`), or the container's key itself where that is allowed. Its
//! `X-Timestamp` is when the thing was done there, and the later of two wins.

use super::error::{SwiftError, SwiftResult};
use super::headers::{Out, parse_timestamp};
use super::object::{created, described};
use super::{Call, reply, symlink};
use crate::access::Signed;
use crate::container::ContainerInfo;
use crate::http::{content, encode};
use crate::large::{Segment, read_segments, slo_etag};
use crate::meta::Large;
use crate::object::{Body, Condition};
use crate::sync::target::{self, Target};
use crate::sync::{SyncConfig, SyncKey};
use crate::{Need, ObjectError, reseller};
use axum::response::Response;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use state::Timestamp;
use subtle::ConstantTimeEq;

const AUTH: &str = "x-container-sync-auth";
const KEY: &str = "x-container-sync-key";
const TO: &str = "x-container-sync-to";

fn refused() -> SwiftError {
    let text = "X-Container-Sync-Auth header not valid; contact cluster operator for support.";
    SwiftError::new(StatusCode::UNAUTHORIZED, text)
        .with(header::WWW_AUTHENTICATE, "SwiftContainerSync realm=\"AUTH\"")
}

/// What a request may that proves to come from a container's other end, and when what it tells of was done.
pub(super) async fn check(call: &Call) -> SwiftResult<Option<(Signed, Timestamp)>> {
    let config = &call.store.config().sync;
    let signed = call.header(AUTH).filter(|a| !a.is_empty());
    let plain =
        call.header(KEY).filter(|_| config.accept_plain_keys && call.headers.contains_key("x-timestamp"));
    let fits = matches!(call.method, Method::PUT | Method::DELETE | Method::HEAD | Method::GET);
    if (signed.is_none() && plain.is_none()) || call.object.is_empty() || !fits {
        return if signed.is_some() { Err(refused()) } else { Ok(None) };
    }
    let key = match call.store.find_container(&call.project, &call.container).await {
        Ok(container) => container.info.sync.key.clone(),
        Err(ObjectError::NoSuchContainer) => SyncKey::default(),
        Err(e) => return Err(e.into()),
    };
    let holds = match (signed, plain) {
        (Some(text), _) => proves(call, config, &key, text),
        (None, plain) => {
            let given = plain.unwrap_or_default().as_bytes();
            !key.0.is_empty() && bool::from(given.ct_eq(key.0.as_bytes()))
        }
    };
    match holds {
        true => {}
        // A token beside it may still do.
        false if signed.is_none() => return Ok(None),
        false => return Err(refused()),
    }
    let at = match call.header("x-timestamp") {
        None if matches!(call.method, Method::HEAD | Method::GET) => Timestamp(0),
        given => given
            .and_then(parse_timestamp)
            .ok_or_else(|| SwiftError::bad_request("X-Timestamp should be a UNIX timestamp float value"))?,
    };
    let (project, container) = (call.project.clone(), Some(call.container.clone()));
    Ok(Some((Signed { project, container }, at)))
}

/// Whether a request is signed with the keys of a realm, either of them, and of the container.
fn proves(call: &Call, config: &SyncConfig, key: &SyncKey, text: &str) -> bool {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [realm, nonce, signature] = parts.as_slice() else { return false };
    let Some(realm) = config.realm(realm) else { return false };
    // As it came, and as other Swifts write it.
    let mut encoded = format!("/v1/{}/", reseller::name(&call.project));
    encode(&mut encoded, format!("{}/{}", call.container, call.object).as_bytes(), true);
    [&call.path, &encoded].into_iter().any(|path| {
        let signed = target::Signed {
            method: call.method.as_str(),
            path,
            timestamp: call.header("x-timestamp").unwrap_or("0"),
            nonce,
        };
        signed.matches(&realm.key, key, signature) || signed.matches(&realm.key2, key, signature)
    })
}

/// What `/info` says of the realms.
pub(super) fn realms(config: &SyncConfig) -> Value {
    let mut all = json!({});
    let (current, own) = config.current.trim_matches('/').split_once('/').unwrap_or_default();
    for realm in config.realms.iter().filter(|r| !r.clusters.is_empty()) {
        let mut clusters = json!({});
        for name in realm.clusters.keys() {
            let here = realm.name.eq_ignore_ascii_case(current) && name.eq_ignore_ascii_case(own);
            clusters[name.to_uppercase()] = if here { json!({"current": true}) } else { json!({}) };
        }
        all[realm.name.to_uppercase()] = json!({"clusters": clusters});
    }
    all
}

/// Changes what a container is kept in step with, as a request's headers say.
pub(super) fn change(call: &Call, info: &mut ContainerInfo) -> SwiftResult<()> {
    let removes = |name: &str| call.headers.contains_key(name.replacen("x-", "x-remove-", 1));
    if removes(TO) {
        info.sync.to.clear();
    }
    if removes(KEY) {
        info.sync.key.0.clear();
    }
    if let Some(key) = call.header(KEY) {
        info.sync.key = SyncKey(key.to_owned());
    }
    if let Some(to) = call.header(TO) {
        if !to.is_empty() {
            Target::resolve(&call.store.config().sync, to).map_err(SwiftError::bad_request)?;
        }
        info.sync.to = to.to_owned();
    }
    Ok(())
}

/// What is later here already is told by the status: accepted, and nothing was done.
fn accepted() -> Response {
    reply::standard(StatusCode::ACCEPTED, Out::default())
}

pub(super) async fn put(call: Call) -> SwiftResult<Response> {
    let Some(at) = call.synced else { return Err(refused()) };
    let container = call.store.container(&call.access, &call.project, &call.container, Need::Write).await?;
    if call.store.is_deleted_since(&container, &call.object, at).await? {
        return Ok(accepted());
    }
    let mut new = described(&call)?;
    symlink::describe(&call, &mut new).await?;
    new.modified = Some(at);
    let body = call.take_body();
    let mut upload = match call.says("x-static-large-object") {
        false => content::upload(body, &call.headers),
        true => {
            let (large, manifest) = manifest(&call, body).await?;
            new.large = Some(large);
            Body::of(manifest)
        }
    };
    if let Some(etag) = call.header("etag").filter(|e| !e.is_empty()) {
        upload.expect.md5 = Some(etag.trim().trim_matches('"').to_ascii_lowercase());
    }
    match call.store.put_object(&container, new, upload, Condition::Older(at)).await {
        Ok(written) => Ok(created(&written.etag, written.modified, Out::default())),
        Err(ObjectError::PreconditionFailed) => Ok(accepted()),
        Err(e) => Err(e.into()),
    }
}

/// A manifest as another cloud keeps it: its segments were looked at there, and may come later.
async fn manifest(call: &Call, body: axum::body::Body) -> SwiftResult<(Large, bytes::Bytes)> {
    let most = call.store.config().limits.max_manifest_size.saturating_mul(4);
    let text = content::read_small(body, most, call.store.body_idle()).await?;
    let text = text.ok_or_else(|| SwiftError::of(StatusCode::PAYLOAD_TOO_LARGE))?;
    if content::content_length(&call.headers).is_some_and(|n| n != text.len() as u64) {
        return Err(ObjectError::Incomplete.into());
    }
    let segments =
        read_segments(&text).map_err(|_| SwiftError::bad_request("Manifest must be valid JSON."))?;
    let size = segments.iter().filter_map(Segment::span).map(|s| s.len()).sum();
    Ok((Large { etag: slo_etag(&segments), size }, text))
}

pub(super) async fn delete(call: Call) -> SwiftResult<Response> {
    let Some(at) = call.synced else { return Err(refused()) };
    let container = call.store.container(&call.access, &call.project, &call.container, Need::Write).await?;
    match call.store.delete_object(&container, &call.object, Condition::Older(at)).await {
        Ok(deleted) => Ok(reply::standard(super::versions::status(deleted), Out::default())),
        Err(ObjectError::PreconditionFailed) => Err(SwiftError::of(StatusCode::CONFLICT)),
        Err(ObjectError::NoSuchObject) => {
            call.store.remember_deletion(&container, &call.object, at).await?;
            Err(ObjectError::NoSuchObject.into())
        }
        Err(e) => Err(e.into()),
    }
}
