//! What is in a namespace: objects, properties, tags, and the resource types that it is for.

use super::schemas::{ASSOCIATION, OBJECT, PROPERTY, TAG, TAGS};
use super::{AT, list, page};
use crate::http::App;
use crate::metadefs::{Item, Kind};
use crate::{ImageError, Images};
use api::{Context, Error, Json, Path, Query, Routes};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use std::sync::Arc;

type Made = (StatusCode, Json<Value>);

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.get("/v2/metadefs/namespaces/{namespace}/objects", objects)
        .post("/v2/metadefs/namespaces/{namespace}/objects", create_object)
        .delete("/v2/metadefs/namespaces/{namespace}/objects", clear_objects)
        .get("/v2/metadefs/namespaces/{namespace}/objects/{name}", object)
        .put("/v2/metadefs/namespaces/{namespace}/objects/{name}", change_object)
        .delete("/v2/metadefs/namespaces/{namespace}/objects/{name}", delete_object)
        .get("/v2/metadefs/namespaces/{namespace}/properties", properties)
        .post("/v2/metadefs/namespaces/{namespace}/properties", create_property)
        .delete("/v2/metadefs/namespaces/{namespace}/properties", clear_properties)
        .get("/v2/metadefs/namespaces/{namespace}/properties/{name}", property)
        .put("/v2/metadefs/namespaces/{namespace}/properties/{name}", change_property)
        .delete("/v2/metadefs/namespaces/{namespace}/properties/{name}", delete_property)
        .get("/v2/metadefs/namespaces/{namespace}/tags", tags)
        .post("/v2/metadefs/namespaces/{namespace}/tags", create_tags)
        .delete("/v2/metadefs/namespaces/{namespace}/tags", clear_tags)
        .get("/v2/metadefs/namespaces/{namespace}/tags/{name}", tag)
        .post("/v2/metadefs/namespaces/{namespace}/tags/{name}", create_tag)
        .put("/v2/metadefs/namespaces/{namespace}/tags/{name}", change_tag)
        .delete("/v2/metadefs/namespaces/{namespace}/tags/{name}", delete_tag)
        .get("/v2/metadefs/namespaces/{namespace}/resource_types", associations)
        .post("/v2/metadefs/namespaces/{namespace}/resource_types", associate)
        .delete("/v2/metadefs/namespaces/{namespace}/resource_types/{name}", dissociate)
}

impl AsRef<str> for Item {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

/// An item as clients see it.
pub(super) fn shown_item(namespace: &str, kind: Kind, i: &Item) -> Value {
    let mut out = i.body.clone();
    out.insert("name".into(), json!(i.name));
    let place = match kind {
        Kind::Object => "objects",
        Kind::Tag => "tags",
        Kind::Property => return out.into(),
        Kind::ResourceType => "",
    };
    if kind != Kind::Tag {
        out.insert("created_at".into(), json!(i.created_at.seconds_z()));
        out.insert("updated_at".into(), json!(i.updated_at.seconds_z()));
    }
    if kind == Kind::Object {
        out.insert("self".into(), json!(format!("{AT}/{namespace}/{place}/{}", i.name)));
        out.insert("schema".into(), json!("/v2/schemas/metadefs/object"));
    }
    out.into()
}

/// Properties by name, each with the prefix that a resource type gives them.
pub(super) fn prefixed(prefix: &str, all: &[Item]) -> Value {
    let pairs = all.iter().map(|i| (format!("{prefix}{}", i.name), Value::Object(i.body.clone())));
    Value::Object(pairs.collect())
}

/// A body without what only answers have.
fn read(mut body: Map<String, Value>) -> Item {
    for field in ["created_at", "updated_at", "self", "schema"] {
        body.remove(field);
    }
    Item::read(body)
}

async fn listed(
    images: App,
    ctx: Context,
    ns: String,
    query: Query,
    kind: Kind,
) -> Result<Json<Value>, Error> {
    let key = if kind == Kind::Object { "objects" } else { "tags" };
    let all = images.metadef_items(&ctx, &ns, kind).await?;
    let (page, next) = page(&images.config, &query, &all, AsRef::as_ref)?;
    let shown = page.iter().map(|i| shown_item(&ns, kind, i)).collect();
    Ok(Json(list(&format!("{AT}/{ns}/{key}"), key, shown, next, &query)))
}

async fn one(
    images: App,
    ctx: Context,
    (ns, name): (String, String),
    kind: Kind,
) -> Result<Json<Value>, Error> {
    let found = images.metadef_item(&ctx, &ns, kind, &name).await?;
    Ok(Json(shown_item(&ns, kind, &found)))
}

async fn made(images: App, ctx: Context, ns: String, kind: Kind, item: Item) -> Result<Made, Error> {
    images.add_metadef_items(&ctx, &ns, kind, std::slice::from_ref(&item), false).await?;
    Ok((StatusCode::CREATED, Json(shown_item(&ns, kind, &item))))
}

async fn changed(
    images: App,
    ctx: Context,
    (ns, name): (String, String),
    kind: Kind,
    item: Item,
) -> Result<Json<Value>, Error> {
    let item = images.change_metadef_item(&ctx, &ns, kind, &name, item).await?;
    Ok(Json(shown_item(&ns, kind, &item)))
}

async fn deleted(
    images: App,
    ctx: Context,
    (ns, name): (String, String),
    kind: Kind,
) -> Result<StatusCode, Error> {
    images.delete_metadef_item(&ctx, &ns, kind, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn cleared(images: App, ctx: Context, ns: String, kind: Kind) -> Result<StatusCode, Error> {
    images.clear_metadef_items(&ctx, &ns, kind).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn objects(
    images: App,
    ctx: Context,
    Path(ns): Path<String>,
    query: Query,
) -> Result<Json<Value>, Error> {
    listed(images, ctx, ns, query, Kind::Object).await
}

async fn create_object(
    images: App,
    ctx: Context,
    Path(ns): Path<String>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Made, Error> {
    OBJECT.check(&Value::Object(body.clone()))?;
    made(images, ctx, ns, Kind::Object, read(body)).await
}

async fn clear_objects(images: App, ctx: Context, Path(ns): Path<String>) -> Result<StatusCode, Error> {
    cleared(images, ctx, ns, Kind::Object).await
}

async fn object(images: App, ctx: Context, Path(at): Path<(String, String)>) -> Result<Json<Value>, Error> {
    one(images, ctx, at, Kind::Object).await
}

async fn change_object(
    images: App,
    ctx: Context,
    Path(at): Path<(String, String)>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Json<Value>, Error> {
    OBJECT.check(&Value::Object(body.clone()))?;
    changed(images, ctx, at, Kind::Object, read(body)).await
}

async fn delete_object(
    images: App,
    ctx: Context,
    Path(at): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    deleted(images, ctx, at, Kind::Object).await
}

async fn properties(images: App, ctx: Context, Path(ns): Path<String>) -> Result<Json<Value>, Error> {
    let all = images.metadef_items(&ctx, &ns, Kind::Property).await?;
    Ok(Json(json!({"properties": prefixed("", &all)})))
}

async fn create_property(
    images: App,
    ctx: Context,
    Path(ns): Path<String>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Made, Error> {
    PROPERTY.check(&Value::Object(body.clone()))?;
    made(images, ctx, ns, Kind::Property, read(body)).await
}

async fn clear_properties(images: App, ctx: Context, Path(ns): Path<String>) -> Result<StatusCode, Error> {
    cleared(images, ctx, ns, Kind::Property).await
}

/// With `resource_type` the property is asked for by its prefixed name.
async fn property(
    images: App,
    ctx: Context,
    Path((ns, name)): Path<(String, String)>,
    query: Query,
) -> Result<Json<Value>, Error> {
    let Some(of) = query.get("resource_type") else {
        return one(images, ctx, (ns, name), Kind::Property).await;
    };
    let association = images.metadef_item(&ctx, &ns, Kind::ResourceType, of).await?;
    let prefix = association.body.get("prefix").and_then(Value::as_str).unwrap_or_default();
    let bare = name.strip_prefix(prefix).ok_or_else(|| {
        ImageError::Missing(format!(
            "Property {name} does not start with the expected resource type association prefix of '{prefix}'."
        ))
    })?;
    let mut found = images.metadef_item(&ctx, &ns, Kind::Property, bare).await?;
    found.name = name;
    Ok(Json(shown_item(&ns, Kind::Property, &found)))
}

async fn change_property(
    images: App,
    ctx: Context,
    Path(at): Path<(String, String)>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Json<Value>, Error> {
    PROPERTY.check(&Value::Object(body.clone()))?;
    changed(images, ctx, at, Kind::Property, read(body)).await
}

async fn delete_property(
    images: App,
    ctx: Context,
    Path(at): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    deleted(images, ctx, at, Kind::Property).await
}

async fn tags(images: App, ctx: Context, Path(ns): Path<String>, query: Query) -> Result<Json<Value>, Error> {
    listed(images, ctx, ns, query, Kind::Tag).await
}

/// All tags at once: instead of those that are there, or beside them with `X-Openstack-Append: True`.
async fn create_tags(
    images: App,
    ctx: Context,
    Path(ns): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Map<String, Value>>,
) -> Result<Made, Error> {
    TAGS.check(&Value::Object(body.clone()))?;
    let given = body["tags"].as_array().into_iter().flatten().filter_map(Value::as_object).cloned();
    let tags: Vec<Item> = given.map(read).collect();
    let append = headers.get("x-openstack-append").and_then(|v| v.to_str().ok());
    let append = append.is_some_and(|v| v.eq_ignore_ascii_case("true"));
    images.add_metadef_items(&ctx, &ns, Kind::Tag, &tags, !append).await?;
    let shown: Vec<Value> = tags.iter().map(|t| shown_item(&ns, Kind::Tag, t)).collect();
    Ok((StatusCode::CREATED, Json(json!({"tags": shown}))))
}

async fn clear_tags(images: App, ctx: Context, Path(ns): Path<String>) -> Result<StatusCode, Error> {
    cleared(images, ctx, ns, Kind::Tag).await
}

async fn tag(images: App, ctx: Context, Path(at): Path<(String, String)>) -> Result<Json<Value>, Error> {
    one(images, ctx, at, Kind::Tag).await
}

async fn create_tag(
    images: App,
    ctx: Context,
    Path((ns, name)): Path<(String, String)>,
) -> Result<Made, Error> {
    let body = json!({"name": name});
    TAG.check(&body)?;
    made(images, ctx, ns, Kind::Tag, read(body.as_object().cloned().unwrap_or_default())).await
}

async fn change_tag(
    images: App,
    ctx: Context,
    Path(at): Path<(String, String)>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Json<Value>, Error> {
    TAG.check(&Value::Object(body.clone()))?;
    changed(images, ctx, at, Kind::Tag, read(body)).await
}

async fn delete_tag(
    images: App,
    ctx: Context,
    Path(at): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    deleted(images, ctx, at, Kind::Tag).await
}

async fn associations(images: App, ctx: Context, Path(ns): Path<String>) -> Result<Json<Value>, Error> {
    let all = images.metadef_items(&ctx, &ns, Kind::ResourceType).await?;
    let shown: Vec<Value> = all.iter().map(|i| shown_item(&ns, Kind::ResourceType, i)).collect();
    Ok(Json(json!({"resource_type_associations": shown})))
}

async fn associate(
    images: App,
    ctx: Context,
    Path(ns): Path<String>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Made, Error> {
    ASSOCIATION.check(&Value::Object(body.clone()))?;
    made(images, ctx, ns, Kind::ResourceType, read(body)).await
}

async fn dissociate(
    images: App,
    ctx: Context,
    Path(at): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    deleted(images, ctx, at, Kind::ResourceType).await
}
