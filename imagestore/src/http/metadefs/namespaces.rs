//! `/v2/metadefs/namespaces` and `/v2/metadefs/resource_types`.

use super::items::{prefixed, shown_item};
use super::schemas::NAMESPACE;
use super::{AT, encoded, list, page};
use crate::http::App;
use crate::metadefs::{Item, Kind, Namespace};
use crate::{ImageError, Images};
use api::{Context, Error, Json, Path, Query, Routes};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};
use state::Timestamp;
use std::cmp::Ordering;
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.get("/v2/metadefs/namespaces", all)
        .post("/v2/metadefs/namespaces", create)
        .get("/v2/metadefs/namespaces/{namespace}", show)
        .put("/v2/metadefs/namespaces/{namespace}", change)
        .delete("/v2/metadefs/namespaces/{namespace}", delete)
        .get("/v2/metadefs/resource_types", resource_types)
}

struct Named(Namespace);

impl AsRef<str> for Named {
    fn as_ref(&self) -> &str {
        &self.0.name
    }
}

fn view(n: &Namespace) -> Value {
    let mut view = json!({
        "namespace": n.name, "visibility": n.visibility(), "protected": n.protected, "owner": n.owner,
        "created_at": n.created_at.seconds_z(), "updated_at": n.updated_at.seconds_z(),
        "self": format!("{AT}/{}", n.name), "schema": "/v2/schemas/metadefs/namespace",
    });
    for (key, value) in [("display_name", &n.display_name), ("description", &n.description)] {
        if let Some(value) = value {
            view[key] = json!(value);
        }
    }
    view
}

/// The namespace with all that is in it.
async fn whole(images: &Images, ctx: &Context, n: &Namespace, query: &Query) -> Result<Value, ImageError> {
    let mut view = view(n);
    let associations = images.metadef_items(ctx, &n.name, Kind::ResourceType).await?;
    let asked = query.get("resource_type");
    let prefix = asked.and_then(|asked| {
        let of = associations.iter().find(|a| a.name == asked)?;
        of.body.get("prefix")?.as_str()
    });
    let properties = images.metadef_items(ctx, &n.name, Kind::Property).await?;
    if !properties.is_empty() {
        view["properties"] = prefixed(prefix.unwrap_or_default(), &properties);
    }
    for (key, kind) in [("objects", Kind::Object), ("tags", Kind::Tag)] {
        let found = images.metadef_items(ctx, &n.name, kind).await?;
        if !found.is_empty() {
            view[key] = found.iter().map(|i| shown_item(&n.name, kind, i)).collect();
        }
    }
    if !associations.is_empty() {
        view["resource_type_associations"] =
            associations.iter().map(|i| shown_item(&n.name, Kind::ResourceType, i)).collect();
    }
    Ok(view)
}

async fn all(images: App, ctx: Context, query: Query) -> Result<Json<Value>, Error> {
    let mut found = images.metadef_namespaces(&ctx).await?;
    let asked = query.get("resource_types").map(|t| t.split(',').map(str::trim).collect::<Vec<_>>());
    if let Some(types) = &asked {
        let some = images.metadefs_for(types).await?;
        found.retain(|n| some.contains(&n.name));
    }
    if let Some(visibility) = query.get("visibility") {
        if !matches!(visibility, "public" | "private") {
            return Err(ImageError::Invalid(format!("Invalid visibility value: {visibility}")).into());
        }
        found.retain(|n| n.visibility() == visibility);
    }
    if let Some(owner) = query.get("owner") {
        found.retain(|n| n.owner == owner);
    }
    let by = order(&query)?;
    found.sort_by(by);
    let found: Vec<Named> = found.into_iter().map(Named).collect();
    let (page, next) = page(&images.config, &query, &found, AsRef::as_ref)?;
    let mut shown = Vec::new();
    for Named(n) in page {
        let mut one = view(n);
        let associations = images.metadef_items(&ctx, &n.name, Kind::ResourceType).await?;
        if !associations.is_empty() {
            one["resource_type_associations"] =
                associations.iter().map(|i| shown_item(&n.name, Kind::ResourceType, i)).collect();
        }
        shown.push(one);
    }
    Ok(Json(list(AT, "namespaces", shown.into(), next, &query)))
}

type Order = Box<dyn Fn(&Namespace, &Namespace) -> Ordering>;

fn order(query: &Query) -> Result<Order, ImageError> {
    let down = match query.get("sort_dir").unwrap_or("desc") {
        "asc" => false,
        "desc" => true,
        other => {
            return Err(ImageError::Invalid(format!(
                "Invalid sort direction: {other}. It must be one of the following: asc, desc."
            )));
        }
    };
    let by: fn(&Namespace, &Namespace) -> Ordering = match query.get("sort_key").unwrap_or("created_at") {
        "created_at" => |a, b| a.created_at.cmp(&b.created_at),
        "updated_at" => |a, b| a.updated_at.cmp(&b.updated_at),
        "namespace" => |a, b| a.name.cmp(&b.name),
        other => {
            return Err(ImageError::Invalid(format!(
                "Invalid sort key: {other}. It must be one of the following: created_at, updated_at, namespace."
            )));
        }
    };
    Ok(Box::new(move |a, b| {
        let found = by(a, b).then_with(|| a.name.cmp(&b.name));
        if down { found.reverse() } else { found }
    }))
}

fn word(body: &Map<String, Value>, key: &str) -> Option<String> {
    body.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// A namespace from its body: private, unprotected and the caller's where it does not say.
fn read(ctx: &Context, body: &Map<String, Value>) -> Namespace {
    let now = Timestamp::now();
    Namespace {
        name: word(body, "namespace").unwrap_or_default(),
        display_name: word(body, "display_name"),
        description: word(body, "description"),
        public: word(body, "visibility").as_deref() == Some("public"),
        protected: body.get("protected") == Some(&json!(true)),
        owner: word(body, "owner").unwrap_or_else(|| ctx.project().map(|p| p.id.clone()).unwrap_or_default()),
        created_at: now,
        updated_at: now,
    }
}

/// What is in a namespace that is made.
fn contents(body: &Map<String, Value>) -> Vec<(Kind, Item)> {
    let object = |v: &Value| v.as_object().cloned().unwrap_or_default();
    let lists =
        [("objects", Kind::Object), ("tags", Kind::Tag), ("resource_type_associations", Kind::ResourceType)];
    let mut all = Vec::new();
    for (key, kind) in lists {
        let some = body.get(key).and_then(Value::as_array).into_iter().flatten();
        all.extend(some.map(|v| (kind, Item::read(object(v)))));
    }
    for (name, property) in body.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let mut property = object(property);
        property.insert("name".into(), json!(name));
        all.push((Kind::Property, Item::read(property)));
    }
    all
}

async fn create(
    images: App,
    ctx: Context,
    query: Query,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, Error> {
    NAMESPACE.check(&Value::Object(body.clone()))?;
    let new = read(&ctx, &body);
    images.create_metadef_namespace(&ctx, &new, &contents(&body)).await?;
    let shown = whole(&images, &ctx, &new, &query).await?;
    let at = images.links.to(&format!("/image{AT}/{}", encoded(&new.name)));
    Ok((StatusCode::CREATED, [(header::LOCATION, at)], Json(shown)).into_response())
}

async fn show(
    images: App,
    ctx: Context,
    Path(name): Path<String>,
    query: Query,
) -> Result<Json<Value>, Error> {
    let n = images.metadef_namespace(&ctx, &name).await?;
    Ok(Json(whole(&images, &ctx, &n, &query).await?))
}

/// What is not said is as in a new namespace.
async fn change(
    images: App,
    ctx: Context,
    Path(name): Path<String>,
    Json(body): Json<Map<String, Value>>,
) -> Result<Json<Value>, Error> {
    NAMESPACE.check(&Value::Object(body.clone()))?;
    let new = read(&ctx, &body);
    let change = |n: &mut Namespace| *n = Namespace { created_at: n.created_at, ..new };
    Ok(Json(view(&images.change_metadef_namespace(&ctx, &name, change).await?)))
}

async fn delete(images: App, ctx: Context, Path(name): Path<String>) -> Result<StatusCode, Error> {
    images.delete_metadef_namespace(&ctx, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn resource_types(images: App, ctx: Context) -> Result<Json<Value>, Error> {
    let all = images.metadef_resource_types(&ctx).await?;
    let one = |(name, at): &(String, Timestamp)| json!({"name": name, "created_at": at.seconds_z(), "updated_at": at.seconds_z()});
    Ok(Json(json!({"resource_types": all.iter().map(one).collect::<Vec<_>>()})))
}
