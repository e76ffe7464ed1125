//! Stores: the tiers that images are in. `/v2/info/stores`, `/v2/stores/<store>/<image>`, and how requests name them.

use super::App;
use crate::{Config, ImageError, Images, policy};
use api::{Context, Error, Json, Path, Routes};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.get("/v2/info/stores", list)
        .get("/v2/info/stores/detail", detail)
        .delete("/v2/stores/{store}/{image_id}", remove)
}

/// The store that a header names.
pub(super) fn header(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-image-meta-store").and_then(|v| v.to_str().ok())
}

/// Where an import is to go: all stores, those of the body, that of the header, or the default.
pub(super) fn asked(
    config: &Config,
    headers: &HeaderMap,
    listed: Option<&Value>,
    all: bool,
) -> Result<Vec<String>, ImageError> {
    let header = header(headers);
    if all && (header.is_some() || listed.is_some()) {
        return Err(ImageError::invalid(
            "All_stores parameter can't be used with x-image-meta-store header or stores parameter",
        ));
    }
    let mut stores: Vec<String> = match (listed, header) {
        (Some(_), Some(_)) => {
            return Err(ImageError::invalid(
                "Stores parameter and x-image-meta-store header can't be both specified",
            ));
        }
        (Some(list), None) => {
            let words =
                list.as_array().map(|l| l.iter().filter_map(Value::as_str).map(str::to_owned).collect());
            let words: Vec<String> = words.unwrap_or_default();
            if words.is_empty() || Some(words.len()) != list.as_array().map(Vec::len) {
                return Err(ImageError::invalid("'stores' must be a list of stores"));
            }
            words
        }
        (None, Some(store)) => vec![store.to_owned()],
        (None, None) if all => config.all_stores().map(str::to_owned).collect(),
        (None, None) => vec![config.tier.clone()],
    };
    let mut seen = std::collections::HashSet::new();
    stores.retain(|s| seen.insert(s.clone()));
    stores.iter().try_for_each(|s| known(config, s))?;
    Ok(stores)
}

/// Whether there is a store of this name.
pub(super) fn known(config: &Config, store: &str) -> Result<(), ImageError> {
    match config.all_stores().any(|s| s == store) {
        true => Ok(()),
        false => Err(ImageError::Conflict(format!("Store '{store}' is not known here."))),
    }
}

async fn list(images: App, _: Context) -> Json<Value> {
    let one = |id: &str| match id == images.config.tier {
        true => json!({"id": id, "default": "true"}),
        false => json!({"id": id}),
    };
    Json(json!({"stores": images.config.all_stores().map(one).collect::<Vec<_>>()}))
}

async fn detail(images: App, ctx: Context) -> Result<Json<Value>, Error> {
    policy::check(&images.policy, &ctx, "stores_info_detail", &[])?;
    let one = |id: &str| {
        let tier = images.blobs(id)?.tier;
        let properties = json!({"pool": tier.pool.name(), "chunk_size": 4, "thin_provisioning": true});
        let mut one = json!({"id": id, "type": "rbd", "weight": 0, "properties": properties});
        if id == images.config.tier {
            one["default"] = "true".into();
        }
        Ok(one)
    };
    let all: Vec<Value> = images.config.all_stores().map(one).collect::<Result<_, ImageError>>()?;
    Ok(Json(json!({"stores": all})))
}

async fn remove(
    images: App,
    ctx: Context,
    Path((store, id)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    images.remove_from(&ctx, &id, &store).await?;
    Ok(StatusCode::NO_CONTENT)
}
