//! `/v2/images/<id>/locations`.

use super::App;
use crate::locations::{Expected, Location};
use crate::{HashAlgorithm, ImageError, Images};
use api::{Context, Error, Json, Path, Routes};
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.get("/v2/images/{image_id}/locations", list).post("/v2/images/{image_id}/locations", add)
}

async fn list(images: App, ctx: Context, Path(id): Path<String>) -> Result<Json<Value>, Error> {
    let view = |l: Location| {
        let mut metadata = json!({"store": l.store});
        if let Some(namespace) = l.namespace {
            metadata["namespace"] = namespace.into();
        }
        json!({"url": l.url, "metadata": metadata})
    };
    Ok(Json(images.locations(&ctx, &id).await?.into_iter().map(view).collect()))
}

async fn add(
    images: App,
    ctx: Context,
    Path(id): Path<String>,
    Json(body): Json<Map<String, Value>>,
) -> Result<StatusCode, Error> {
    let (url, expected) = read(&body)?;
    images.add_location(&ctx, &id, &url, expected, &Value::Object(body)).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The URL, and what its bytes are to hash to.
fn read(body: &Map<String, Value>) -> Result<(String, Option<Expected>), ImageError> {
    let bad = |text: &str| ImageError::Invalid(text.to_owned());
    if let Some(odd) = body.keys().find(|k| !matches!(k.as_str(), "url" | "validation_data")) {
        return Err(ImageError::Invalid(format!(
            "Additional properties are not allowed ('{odd}' was unexpected)"
        )));
    }
    let url = body.get("url").and_then(Value::as_str).filter(|u| !u.is_empty());
    let url = url.ok_or_else(|| bad("'url' is a required property"))?;
    let data = match body.get("validation_data") {
        None | Some(Value::Null) => return Ok((url.to_owned(), None)),
        Some(Value::Object(data)) if data.is_empty() => return Ok((url.to_owned(), None)),
        Some(Value::Object(data)) => data,
        Some(_) => return Err(bad("'validation_data' is not an object")),
    };
    if let Some(odd) = data.keys().find(|k| !matches!(k.as_str(), "os_hash_algo" | "os_hash_value")) {
        return Err(ImageError::Invalid(format!(
            "Additional properties are not allowed ('{odd}' was unexpected)"
        )));
    }
    let algorithm = match data.get("os_hash_algo").and_then(Value::as_str) {
        Some("sha256") => HashAlgorithm::Sha256,
        Some("sha384") => HashAlgorithm::Sha384,
        Some("sha512") => HashAlgorithm::Sha512,
        Some(other) => return Err(ImageError::Invalid(format!("Unsupported hash algorithm: {other}"))),
        None => return Err(bad("'os_hash_algo' is a required property")),
    };
    let hash = match data.get("os_hash_value") {
        None | Some(Value::Null) => None,
        Some(Value::String(h))
            if h.len() == algorithm.digits() && h.bytes().all(|b| b.is_ascii_hexdigit()) =>
        {
            Some(h.to_ascii_lowercase())
        }
        Some(_) => return Err(bad("os_hash_value is not a hash of the algorithm's length")),
    };
    Ok((url.to_owned(), Some(Expected { algorithm, hash })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        let ask = |v: Value| read(v.as_object().unwrap());
        assert_eq!(
            ask(json!({"url": "rbd://a", "validation_data": {}})).unwrap(),
            ("rbd://a".to_owned(), None)
        );
        let data = json!({"os_hash_algo": "sha256", "os_hash_value": "AB".repeat(32)});
        let found = ask(json!({"url": "rbd://a", "validation_data": data})).unwrap().1.unwrap();
        assert_eq!((found.algorithm, found.hash), (HashAlgorithm::Sha256, Some("ab".repeat(32))));
        for bad in [
            json!({}),
            json!({"url": ""}),
            json!({"url": "rbd://a", "metadata": {}}),
            json!({"url": "rbd://a", "validation_data": "x"}),
            json!({"url": "rbd://a", "validation_data": {"os_hash_value": "ab".repeat(64)}}),
            json!({"url": "rbd://a", "validation_data": {"os_hash_algo": "sha123", "os_hash_value": "ab"}}),
            json!({"url": "rbd://a", "validation_data": {"os_hash_algo": "sha512", "os_hash_value": "ab".repeat(32)}}),
            json!({"url": "rbd://a", "validation_data": {"os_hash_algo": "sha256", "os_hash_value": "xy".repeat(32)}}),
            json!({"url": "rbd://a", "validation_data": {"checksum": "x"}}),
        ] {
            assert!(ask(bad.clone()).is_err(), "{bad}");
        }
    }
}
