//! `/flavors`, their extra specs and who may use them.

use super::App;
use super::server_create::{boolean, strings};
use super::server_view::links;
use crate::ComputeError;
use crate::flavors::NewFlavor;
use crate::model::Flavor;
use api::{Context, Error, Json, Microversion, Page, Path, Query, Routes, schema::Schema};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::LazyLock;

pub(super) fn routes(r: Routes<App>) -> Routes<App> {
    r.get("/flavors", index)
        .post("/flavors", create)
        .get("/flavors/detail", detail)
        .get("/flavors/{flavor_id}", show)
        .put("/flavors/{flavor_id}", update)
        .delete("/flavors/{flavor_id}", delete)
        .get("/flavors/{flavor_id}/os-extra_specs", specs)
        .post("/flavors/{flavor_id}/os-extra_specs", add_specs)
        .get("/flavors/{flavor_id}/os-extra_specs/{key}", spec)
        .put("/flavors/{flavor_id}/os-extra_specs/{key}", set_spec)
        .delete("/flavors/{flavor_id}/os-extra_specs/{key}", delete_spec)
        .get("/flavors/{flavor_id}/os-flavor-access", access)
        .post("/flavors/{flavor_id}/action", change_access)
}

fn view(app: &App, f: &Flavor, v: Microversion, specs: bool) -> Value {
    let mut out = json!({
        "id": f.id,
        "name": f.name,
        "ram": f.ram_mib,
        "disk": f.disk_gib,
        "vcpus": f.vcpus,
        "swap": if v >= Microversion(2, 75) || f.swap_mib > 0 { json!(f.swap_mib) } else { json!("") },
        "rxtx_factor": f.rxtx_factor,
        "OS-FLV-DISABLED:disabled": f.disabled,
        "OS-FLV-EXT-DATA:ephemeral": f.ephemeral_gib,
        "os-flavor-access:is_public": f.is_public,
        "links": links(&app.links, "flavors", &f.id),
    });
    if v >= Microversion(2, 55) {
        out["description"] = json!(f.description);
    }
    if v >= Microversion(2, 61) && specs {
        out["extra_specs"] = json!(f.extra_specs);
    }
    out
}

const SORT_KEYS: [&str; 11] = [
    "created_at",
    "description",
    "disabled",
    "ephemeral_gb",
    "flavorid",
    "id",
    "is_public",
    "memory_mb",
    "name",
    "root_gb",
    "vcpus",
];

/// The page that was asked for, and whether more follow.
async fn page(app: &App, ctx: &Context, query: &Query) -> Result<(Page, Vec<Flavor>, bool), Error> {
    let page = Page::parse(query, 1000, &SORT_KEYS)?;
    let mut all = app.flavors(ctx).await?;
    let public = match query.get("is_public") {
        Some(word) if ctx.is_admin() => {
            if word.eq_ignore_ascii_case("none") {
                None
            } else {
                query.bool("is_public")?
            }
        }
        Some(_) | None if ctx.is_admin() => Some(true),
        _ => None,
    };
    let least = |key: &str| query.int(key).map_err(|_| Error::bad_request(format!("Invalid {key} filter")));
    let (ram, disk) = (least("minRam")?.unwrap_or(0), least("minDisk")?.unwrap_or(0));
    all.retain(|f| public.is_none_or(|p| p == f.is_public) && f.ram_mib >= ram && f.disk_gib >= disk);
    let key = |f: &Flavor, name: &str| match name {
        "name" => (0, f.name.clone()),
        "memory_mb" => (f.ram_mib, String::new()),
        "root_gb" => (f.disk_gib, String::new()),
        "vcpus" => (f.vcpus, String::new()),
        "ephemeral_gb" => (f.ephemeral_gib, String::new()),
        "created_at" => (f.created_at.0, String::new()),
        _ => (0, f.id.clone()),
    };
    if let Some(sort) = page.sort.first() {
        // Upstream orders flavors upwards unless told otherwise.
        let down = query.has("sort_dir") && sort.descending;
        all.sort_by(|a, b| {
            let order = key(a, &sort.key).cmp(&key(b, &sort.key));
            if down { order.reverse() } else { order }
        });
    }
    if let Some(marker) = &page.marker {
        let at = all.iter().position(|f| f.id == *marker);
        let at = at.ok_or_else(|| Error::bad_request(format!("marker [{marker}] not found")))?;
        all.drain(..=at);
    }
    let more = page.cut(&mut all);
    Ok((page, all, more))
}

async fn index(app: State<App>, ctx: Context, v: Microversion, query: Query) -> Result<Json<Value>, Error> {
    list(&app, &ctx, v, &query, false).await
}

async fn detail(app: State<App>, ctx: Context, v: Microversion, query: Query) -> Result<Json<Value>, Error> {
    list(&app, &ctx, v, &query, true).await
}

async fn list(
    app: &App,
    ctx: &Context,
    v: Microversion,
    query: &Query,
    whole: bool,
) -> Result<Json<Value>, Error> {
    let (page, flavors, more) = page(app, ctx, query).await?;
    let specs = app.may_at_home(ctx, "os_compute_api:os-flavor-extra-specs:index").is_ok();
    let one = |f: &Flavor| {
        if whole {
            return view(app, f, v, specs);
        }
        let mut brief = json!({"id": f.id, "name": f.name, "links": links(&app.links, "flavors", &f.id)});
        if v >= Microversion(2, 55) {
            brief["description"] = json!(f.description);
        }
        brief
    };
    let mut out = json!({"flavors": flavors.iter().map(one).collect::<Vec<_>>()});
    if let Some(last) = flavors.last().filter(|_| more) {
        let path = if whole { "/compute/v2.1/flavors/detail" } else { "/compute/v2.1/flavors" };
        let next = page.next(&app.links.to(path), query, &last.id);
        out["flavors_links"] = json!([{"rel": "next", "href": next}]);
    }
    Ok(Json(out))
}

static CREATE: LazyLock<Schema> = LazyLock::new(|| {
    let whole = |min: i64| json!({"type": ["integer", "string"], "pattern": "^[0-9]*$", "minLength": 1, "minimum": min, "maximum": 2147483647});
    Schema::new(&json!({
        "type": "object",
        "properties": {"flavor": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "\\S"},
                "id": {"oneOf": [{"type": "string", "minLength": 1, "maxLength": 255,
                    "pattern": "^(?! )[a-zA-Z0-9. _-]+(?<! )$"}, {"type": "integer"}, {"type": "null"}]},
                "ram": whole(1),
                "vcpus": whole(1),
                "disk": whole(0),
                "OS-FLV-EXT-DATA:ephemeral": whole(0),
                "swap": whole(0),
                "rxtx_factor": {"type": ["number", "string"], "pattern": "^[0-9]+(\\.[0-9]+)?$", "exclusiveMinimum": 0},
                "os-flavor-access:is_public": {"enum": [true, false, "true", "false", "True", "False", "1", "0"]},
                "description": {"type": ["string", "null"], "maxLength": 65535},
            },
            "required": ["name", "ram", "vcpus", "disk"],
            "additionalProperties": false,
        }},
        "required": ["flavor"],
        "additionalProperties": false,
    }))
});

async fn create(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-flavor-manage:create")?;
    CREATE.check(&body)?;
    let f = &body["flavor"];
    super::server_create::too_new(f, v, &[("description", 55)])?;
    let number = |key: &str| match &f[key] {
        Value::String(t) => t.parse::<i64>().unwrap_or(0),
        other => other.as_i64().unwrap_or(0),
    };
    let factor = match &f["rxtx_factor"] {
        Value::String(t) => t.parse().unwrap_or(1.0),
        other => other.as_f64().unwrap_or(1.0),
    };
    let id = match &f["id"] {
        Value::String(id) if id == "auto" => None,
        Value::String(id) => Some(id.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    };
    let new = NewFlavor {
        id,
        name: f["name"].as_str().unwrap_or_default().trim().to_owned(),
        description: f["description"].as_str().map(str::to_owned),
        vcpus: number("vcpus"),
        ram_mib: number("ram"),
        disk_gib: number("disk"),
        ephemeral_gib: number("OS-FLV-EXT-DATA:ephemeral"),
        swap_mib: number("swap"),
        rxtx_factor: factor,
        is_public: f.get("os-flavor-access:is_public").is_none_or(boolean),
    };
    let made = app.create_flavor(&ctx, new).await?;
    Ok(Json(json!({"flavor": view(&app, &made, v, true)})))
}

async fn show(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
) -> Result<Json<Value>, Error> {
    let flavor = app.flavor(&ctx, &id).await?;
    Ok(Json(json!({"flavor": view(&app, &flavor, v, true)})))
}

async fn update(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    if v < Microversion(2, 55) {
        return Err(Error::not_found("The resource could not be found."));
    }
    let description = body["flavor"].get("description").cloned();
    let description =
        description.ok_or_else(|| Error::bad_request("'description' is a required property"))?;
    let rule = "os_compute_api:os-flavor-manage:update";
    let changed = app
        .change_flavor(&ctx, rule, &id, |f| {
            f.description = description.as_str().map(str::to_owned);
            Ok(())
        })
        .await?;
    Ok(Json(json!({"flavor": view(&app, &changed, v, true)})))
}

async fn delete(app: State<App>, ctx: Context, Path(id): Path<String>) -> Result<StatusCode, Error> {
    app.delete_flavor(&ctx, &id).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn specs(app: State<App>, ctx: Context, Path(id): Path<String>) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-flavor-extra-specs:index")?;
    Ok(Json(json!({"extra_specs": app.flavor(&ctx, &id).await?.extra_specs})))
}

static SPECS: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(&json!({"type": "object", "additionalProperties": false, "patternProperties":
        {"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": "string", "maxLength": 255}}}))
});

async fn add_specs(
    app: State<App>,
    ctx: Context,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    let given =
        body.get("extra_specs").ok_or_else(|| Error::bad_request("'extra_specs' is a required property"))?;
    SPECS.check(given)?;
    let more = strings(given);
    let rule = "os_compute_api:os-flavor-extra-specs:create";
    let f = app
        .change_flavor(&ctx, rule, &id, |f| {
            f.extra_specs.extend(more);
            Ok(())
        })
        .await?;
    Ok(Json(json!({"extra_specs": f.extra_specs})))
}

fn no_spec(id: &str, key: &str) -> ComputeError {
    ComputeError::NotFound(format!("Flavor {id} has no extra specs with key {key}."))
}

async fn spec(
    app: State<App>,
    ctx: Context,
    Path((id, key)): Path<(String, String)>,
) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-flavor-extra-specs:show")?;
    let flavor = app.flavor(&ctx, &id).await?;
    let value = flavor.extra_specs.get(&key).ok_or_else(|| no_spec(&id, &key))?;
    Ok(Json(json!({key: value})))
}

async fn set_spec(
    app: State<App>,
    ctx: Context,
    Path((id, key)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    SPECS.check(&body)?;
    let pairs = strings(&body);
    let Some(value) = pairs.get(&key).filter(|_| pairs.len() == 1).cloned() else {
        return Err(Error::bad_request("Request body and URI mismatch"));
    };
    let rule = "os_compute_api:os-flavor-extra-specs:update";
    app.change_flavor(&ctx, rule, &id, |f| {
        f.extra_specs.insert(key, value);
        Ok(())
    })
    .await?;
    Ok(Json(json!(pairs)))
}

async fn delete_spec(
    app: State<App>,
    ctx: Context,
    Path((id, key)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    let rule = "os_compute_api:os-flavor-extra-specs:delete";
    app.change_flavor(&ctx, rule, &id, |f| {
        f.extra_specs.remove(&key).map(drop).ok_or_else(|| no_spec(&id, &key))
    })
    .await?;
    Ok(StatusCode::OK)
}

fn access_view(f: &Flavor) -> Value {
    let one = |p: &String| json!({"flavor_id": f.id, "tenant_id": p});
    json!({"flavor_access": f.access.iter().map(one).collect::<Vec<_>>()})
}

async fn access(app: State<App>, ctx: Context, Path(id): Path<String>) -> Result<Json<Value>, Error> {
    app.may_at_home(&ctx, "os_compute_api:os-flavor-access")?;
    let flavor = app.flavor(&ctx, &id).await?;
    if flavor.is_public {
        return Err(Error::not_found("Access list not available for public flavors."));
    }
    Ok(Json(access_view(&flavor)))
}

async fn change_access(
    app: State<App>,
    ctx: Context,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Error> {
    let (add, args) = match (body.get("addTenantAccess"), body.get("removeTenantAccess")) {
        (Some(args), None) => (true, args),
        (None, Some(args)) => (false, args),
        _ => return Err(Error::bad_request("There is no such action.")),
    };
    let tenant = args["tenant"].as_str().filter(|t| !t.is_empty());
    let tenant = tenant.ok_or_else(|| Error::bad_request("'tenant' is a required property"))?.to_owned();
    let rule = match add {
        true => "os_compute_api:os-flavor-access:add_tenant_access",
        false => "os_compute_api:os-flavor-access:remove_tenant_access",
    };
    let f = app
        .change_flavor(&ctx, rule, &id, |f| {
            if add && f.is_public {
                return Err(ComputeError::Conflict("Can not add access to a public flavor.".into()));
            }
            if add && !f.access.insert(tenant.clone()) {
                return Err(ComputeError::Conflict(format!(
                    "Flavor access already exists for flavor {} and project {tenant} combination.",
                    f.id
                )));
            }
            if !add && !f.access.remove(&tenant) {
                return Err(ComputeError::NotFound(format!(
                    "Flavor access not found for {} / {tenant} combination.",
                    f.id
                )));
            }
            Ok(())
        })
        .await?;
    Ok(Json(access_view(&f)))
}
