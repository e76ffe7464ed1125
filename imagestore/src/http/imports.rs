//! `/v2/images/<id>/import`.

use super::{App, stores};
use crate::fetch::Remote;
use crate::imports::{Import, Method};
use crate::{Config, ImageError, Images};
use api::{Context, Error, Json, Path, Routes};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.post("/v2/images/{image_id}/import", import)
}

async fn import(
    images: App,
    ctx: Context,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Map<String, Value>>,
) -> Result<StatusCode, Error> {
    let asked = read(&images.config, &images.import_methods(), &headers, body)?;
    images.import(&ctx, &id, asked).await?;
    Ok(StatusCode::ACCEPTED)
}

fn read(
    config: &Config,
    methods: &[&str],
    headers: &HeaderMap,
    body: Map<String, Value>,
) -> Result<Import, ImageError> {
    let lacks = |what: &str| ImageError::Invalid(format!("Import request requires a '{what}' field."));
    let method = body.get("method").ok_or_else(|| lacks("method"))?;
    let name = method.get("name").and_then(Value::as_str).ok_or_else(|| lacks("name"))?;
    let method = match methods.iter().find(|m| **m == name) {
        Some(&"glance-direct") => Method::Direct,
        Some(&"copy-image") => Method::Copy,
        Some(&"glance-download") => Method::Remote(remote(method)?),
        Some(_) => Method::Web(uri(config, method)?),
        None => return Err(ImageError::Invalid(format!("Unknown import method name '{name}'."))),
    };
    let flag = |key: &str, default: bool| match body.get(key) {
        None => Ok(default),
        Some(Value::Bool(b)) => Ok(*b),
        Some(_) => Err(ImageError::Invalid(format!("'{key}' must be boolean value only"))),
    };
    let (all, all_must_succeed) = (flag("all_stores", false)?, flag("all_stores_must_succeed", true)?);
    let stores = stores::asked(config, headers, body.get("stores"), all)?;
    Ok(Import { method, stores, all, all_must_succeed, input: Value::Object(body) })
}

/// The image that `glance-download` names.
fn remote(method: &Value) -> Result<Remote, ImageError> {
    let needed = |name: &str| {
        let found = method.get(name).and_then(Value::as_str).filter(|v| !v.is_empty());
        found.map(str::to_owned).ok_or_else(|| {
            ImageError::Invalid(format!("'{name}' needs to be set for glance-download import method"))
        })
    };
    let (region, image) = (needed("glance_region")?, needed("glance_image_id")?);
    let id = uuid::Uuid::parse_str(&image)
        .map_err(|_| ImageError::Invalid(format!("Remote image id does not look like a UUID: {image}")))?;
    let interface = method.get("glance_service_interface").and_then(Value::as_str).unwrap_or("public");
    Ok(Remote { region, interface: interface.to_owned(), image: id.to_string() })
}

/// What may be fetched; the answer tells nothing but that it may not.
pub(super) fn uri(config: &Config, method: &Value) -> Result<String, ImageError> {
    let uri = method.get("uri").and_then(Value::as_str).unwrap_or_default();
    let admitted = config.import_filter.admit(uri).map(|u| u.to_string());
    admitted
        .ok_or_else(|| ImageError::Invalid(format!("URI for web-download does not pass filtering: {uri}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests() {
        let config = Config { stores: vec!["cold".into()], ..Config::default() };
        let ask = |headers: HeaderMap, body: Value| {
            read(&config, &Method::NAMES, &headers, body.as_object().unwrap().clone())
        };
        let plain = |body: Value| ask(HeaderMap::new(), body);
        let direct = json!({"name": "glance-direct"});
        let found = plain(json!({"method": direct})).unwrap();
        assert_eq!((&found.stores[..], found.all_must_succeed), (&["images".to_owned()][..], true));
        let found = plain(json!({"method": direct, "all_stores": true})).unwrap();
        assert_eq!(found.stores, ["images", "cold"]);
        let found = plain(json!({"method": {"name": "copy-image"}, "stores": ["cold", "cold"]})).unwrap();
        assert_eq!((found.stores, found.method), (vec!["cold".to_owned()], Method::Copy));
        let web = json!({"name": "web-download", "uri": "https://example.org/a b"});
        assert_eq!(
            plain(json!({"method": web})).unwrap().method,
            Method::Web("https://example.org/a%20b".into())
        );
        let mut header = HeaderMap::new();
        header.insert("x-image-meta-store", "cold".parse().unwrap());
        assert_eq!(ask(header.clone(), json!({"method": direct})).unwrap().stores, ["cold"]);
        let remote = json!({"name": "glance-download", "glance_region": "Two",
            "glance_image_id": "36D4B546-64A2-4BB9-BDD0-BA676AA48F2C"});
        let found = plain(json!({"method": remote})).unwrap().method;
        let (region, interface) = ("Two".to_owned(), "public".to_owned());
        let image = "36d4b546-64a2-4bb9-bdd0-ba676aa48f2c".to_owned();
        assert_eq!(found, Method::Remote(Remote { region, interface, image }));
        for (bad, headers) in [
            (json!({"method": {"name": "glance-download", "glance_region": "Two"}}), HeaderMap::new()),
            (json!({"method": {"name": "glance-download", "glance_image_id": "x"}}), HeaderMap::new()),
            (
                json!({"method": {"name": "glance-download", "glance_region": "Two", "glance_image_id": "foo"}}),
                HeaderMap::new(),
            ),
            (json!({}), HeaderMap::new()),
            (json!({"method": "glance-direct"}), HeaderMap::new()),
            (json!({"method": {"name": "carrier-pigeon"}}), HeaderMap::new()),
            (json!({"method": {"name": "web-download"}}), HeaderMap::new()),
            (json!({"method": {"name": "web-download", "uri": "file:///etc/passwd"}}), HeaderMap::new()),
            (json!({"method": {"name": "web-download", "uri": "http://169.254.169.254/"}}), HeaderMap::new()),
            (json!({"method": direct, "all_stores": "yes"}), HeaderMap::new()),
            (json!({"method": direct, "all_stores": true, "stores": ["cold"]}), HeaderMap::new()),
            (json!({"method": direct, "stores": "cold"}), HeaderMap::new()),
            (json!({"method": direct, "stores": []}), HeaderMap::new()),
            (json!({"method": direct, "stores": ["cold"]}), header.clone()),
            (json!({"method": direct, "all_stores": true}), header),
        ] {
            assert!(matches!(ask(headers, bad.clone()), Err(ImageError::Invalid(_))), "{bad}");
        }
        let unknown = plain(json!({"method": direct, "stores": ["attic"]}));
        assert!(matches!(unknown, Err(ImageError::Conflict(_))));
        let one = json!({"method": {"name": "copy-image"}});
        let one = read(&config, &Method::NAMES[..2], &HeaderMap::new(), one.as_object().unwrap().clone());
        assert!(matches!(one, Err(ImageError::Invalid(_))), "what is not offered");
    }
}
