//! `/traits` and `/resource_classes`: standard ones, and an operator's own, which begin with `CUSTOM_`.

use super::super::App;
use super::since;
use crate::ComputeError;
use crate::placement::providers::conflict;
use crate::placement::store;
use api::{Context, Error, Json, Microversion, Path, Query, Routes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

pub(super) fn routes(r: Routes<App>) -> Routes<App> {
    r.get("/traits", traits)
        .get("/traits/{name}", has_trait)
        .put("/traits/{name}", add_trait)
        .delete("/traits/{name}", delete_trait)
        .get("/resource_classes", classes)
        .post("/resource_classes", create_class)
        .get("/resource_classes/{name}", class)
        .put("/resource_classes/{name}", add_class)
        .delete("/resource_classes/{name}", delete_class)
}

fn custom(name: &str) -> Result<(), Error> {
    let rest = name.strip_prefix("CUSTOM_").unwrap_or_default();
    let legal = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if rest.is_empty() || name.len() > 255 || !rest.chars().all(legal) {
        return Err(Error::bad_request(format!(
            "The name '{name}' is invalid. A valid name must be no longer than 255 characters, start with the \
             prefix \"CUSTOM_\" and use following characters: \"A\"-\"Z\", \"0\"-\"9\" and \"_\""
        )));
    }
    Ok(())
}

async fn traits(app: State<App>, ctx: Context, v: Microversion, query: Query) -> Result<Json<Value>, Error> {
    since(v, 6)?;
    let mut tx = app.placing(&ctx).await?;
    let mut all = store::traits(&mut tx).await?;
    if let Some(filter) = query.get("name") {
        match (filter.strip_prefix("startswith:"), filter.strip_prefix("in:")) {
            (Some(prefix), _) => all.retain(|t| t.starts_with(prefix)),
            (_, Some(list)) => all.retain(|t| list.split(',').any(|n| n == t)),
            _ => return Err(Error::bad_request("Badly formatted name parameter.")),
        }
    }
    if let Some(used) = query.bool("associated")? {
        let mut kept = Vec::new();
        for name in all {
            if store::trait_in_use(&mut tx, &name).await? == used {
                kept.push(name);
            }
        }
        all = kept;
    }
    Ok(Json(json!({"traits": all})))
}

fn no_trait(name: &str) -> ComputeError {
    ComputeError::NotFound(format!("No such trait(s): {name}."))
}

async fn has_trait(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(name): Path<String>,
) -> Result<StatusCode, Error> {
    since(v, 6)?;
    let mut tx = app.placing(&ctx).await?;
    match store::traits(&mut tx).await?.contains(&name) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_trait(&name).into()),
    }
}

async fn add_trait(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(name): Path<String>,
) -> Result<StatusCode, Error> {
    since(v, 6)?;
    custom(&name)?;
    let mut tx = app.placing(&ctx).await?;
    let new = store::add_trait(&mut tx, &name).await?;
    tx.commit().await?;
    Ok(if new { StatusCode::CREATED } else { StatusCode::NO_CONTENT })
}

async fn delete_trait(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(name): Path<String>,
) -> Result<StatusCode, Error> {
    since(v, 6)?;
    let mut tx = app.placing(&ctx).await?;
    if !store::traits(&mut tx).await?.contains(&name) {
        return Err(no_trait(&name).into());
    }
    if !name.starts_with("CUSTOM_") {
        return Err(Error::bad_request(format!("Cannot delete standard trait {name}.")));
    }
    if store::trait_in_use(&mut tx, &name).await? {
        return Err(Error::conflict(format!("The trait {name} is in use by a resource provider.")));
    }
    store::delete_trait(&mut tx, &name).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn class_view(app: &App, name: &str) -> Value {
    let href = app.links.to(&format!("/placement/resource_classes/{name}"));
    json!({"name": name, "links": [{"rel": "self", "href": href}]})
}

async fn classes(app: State<App>, ctx: Context, v: Microversion) -> Result<Json<Value>, Error> {
    since(v, 2)?;
    let mut tx = app.placing(&ctx).await?;
    let all = store::classes(&mut tx).await?;
    Ok(Json(json!({"resource_classes": all.iter().map(|c| class_view(&app, c)).collect::<Vec<_>>()})))
}

async fn create_class(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Json(body): Json<Value>,
) -> Result<Response, Error> {
    since(v, 2)?;
    let name = body["name"].as_str().unwrap_or_default().to_owned();
    custom(&name)?;
    let mut tx = app.placing(&ctx).await?;
    if !store::add_class(&mut tx, &name).await? {
        return Err(Error::conflict(format!("Conflicting resource class already exists: {name}")));
    }
    tx.commit().await?;
    Ok(StatusCode::CREATED.into_response())
}

fn no_class(name: &str) -> ComputeError {
    ComputeError::NotFound(format!("No such resource class {name}."))
}

async fn class(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(name): Path<String>,
) -> Result<Json<Value>, Error> {
    since(v, 2)?;
    let mut tx = app.placing(&ctx).await?;
    match store::classes(&mut tx).await?.contains(&name) {
        true => Ok(Json(class_view(&app, &name))),
        false => Err(no_class(&name).into()),
    }
}

async fn add_class(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(name): Path<String>,
) -> Result<StatusCode, Error> {
    since(v, 7)?;
    custom(&name)?;
    let mut tx = app.placing(&ctx).await?;
    let new = store::add_class(&mut tx, &name).await?;
    tx.commit().await?;
    Ok(if new { StatusCode::CREATED } else { StatusCode::NO_CONTENT })
}

async fn delete_class(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(name): Path<String>,
) -> Result<StatusCode, Error> {
    since(v, 2)?;
    let mut tx = app.placing(&ctx).await?;
    if !store::classes(&mut tx).await?.contains(&name) {
        return Err(no_class(&name).into());
    }
    if !name.starts_with("CUSTOM_") {
        return Err(Error::bad_request(format!("Cannot delete standard resource class {name}.")));
    }
    if store::class_in_use(&mut tx, &name).await? {
        let message = format!("Error in delete resource class: {name} is in use in inventory.");
        return Err(conflict("placement.undefined_code", message).into());
    }
    store::delete_class(&mut tx, &name).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
