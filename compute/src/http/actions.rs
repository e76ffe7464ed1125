//! `POST /servers/{id}/action`: one key names the action, its value says the rest.

use super::App;
use super::server_create::strings;
use super::server_view::{Surroundings, changed, plain_addresses};
use crate::ComputeError;
use crate::servers::actions::PowerAction;
use crate::servers::reshape::Rebuild;
use crate::store::servers as rows;
use api::{Context, Error, Json, Microversion, Path, Routes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

pub(super) fn routes(r: Routes<App>) -> Routes<App> {
    r.post("/servers/{server_id}/action", action)
}

async fn action(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Response, Error> {
    let object = body.as_object().ok_or_else(|| Error::bad_request("Malformed request body"))?;
    let mut pairs = object.iter();
    let (Some((name, args)), None) = (pairs.next(), pairs.next()) else {
        return Err(Error::bad_request("There is no single action in the request."));
    };
    let power = match name.as_str() {
        "os-start" => Some(PowerAction::Start),
        "os-stop" => Some(PowerAction::Stop),
        "reboot" => Some(reboot(args)?),
        "pause" => Some(PowerAction::Pause),
        "unpause" => Some(PowerAction::Unpause),
        "suspend" => Some(PowerAction::Suspend),
        "resume" => Some(PowerAction::Resume),
        _ => None,
    };
    if let Some(power) = power {
        app.power(&ctx, &id, power).await?;
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    other(&app, &ctx, v, &id, name, args).await
}

fn reboot(args: &Value) -> Result<PowerAction, Error> {
    match args["type"].as_str().map(str::to_ascii_uppercase).as_deref() {
        Some("SOFT") => Ok(PowerAction::RebootSoft),
        Some("HARD") => Ok(PowerAction::RebootHard),
        _ => Err(Error::bad_request(format!(
            "Invalid input for field/attribute type. Value: {}. {} is not one of ['HARD', 'Hard', 'hard', 'SOFT', 'Soft', 'soft']",
            args["type"], args["type"]
        ))),
    }
}

async fn other(
    app: &App,
    ctx: &Context,
    v: Microversion,
    id: &str,
    name: &str,
    args: &Value,
) -> Result<Response, Error> {
    match name {
        "lock" => {
            let reason = args.get("locked_reason").and_then(Value::as_str).map(str::to_owned);
            if reason.is_some() && v < Microversion(2, 73) {
                return Err(Error::bad_request("Invalid input for field/attribute lock."));
            }
            app.lock_server(ctx, id, reason).await?;
        }
        "unlock" => app.unlock_server(ctx, id).await?,
        "os-resetState" => match args["state"].as_str() {
            Some("active") => app.reset_state(ctx, id, true).await?,
            Some("error") => app.reset_state(ctx, id, false).await?,
            _ => return Err(Error::bad_request("Invalid input for field/attribute state.")),
        },
        "forceDelete" => {
            app.delete_server(ctx, id).await?;
        }
        "os-getConsoleOutput" => {
            let text = app.console_output(ctx, id, lines(args)?).await?;
            return Ok(Json(json!({"output": text})).into_response());
        }
        "addSecurityGroup" | "removeSecurityGroup" => {
            let group = args["name"].as_str().filter(|n| !n.trim().is_empty());
            let group = group.ok_or_else(|| Error::bad_request("Security group name cannot be empty"))?;
            app.change_security_group(ctx, id, group, name == "addSecurityGroup").await?;
        }
        "createImage" => return create_image(app, ctx, v, id, args).await,
        "rebuild" => return rebuild(app, ctx, v, id, args).await,
        "resize" => {
            let flavor = match &args["flavorRef"] {
                Value::String(f) if !f.is_empty() => f.rsplit('/').next().unwrap_or_default().to_owned(),
                Value::Number(n) => n.to_string(),
                _ => return Err(Error::bad_request("Invalid input for field/attribute flavorRef.")),
            };
            app.resize_server(ctx, id, &flavor, disk_config(args)?).await?;
        }
        "confirmResize" => {
            app.confirm_resize(ctx, id).await?;
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        "revertResize" => app.revert_resize(ctx, id).await?,
        // Deleted servers are gone for good, so none is ever in the state that this needs.
        "restore" => {
            let s = app.server(ctx, id, "os_compute_api:servers:show").await?;
            return Err(ComputeError::wrong_state("restore", id, "vm_state", s.vm_state.as_str()).into());
        }
        // Known to upstream, not offered here.
        "rescue"
        | "unrescue"
        | "shelve"
        | "unshelve"
        | "shelveOffload"
        | "migrate"
        | "os-migrateLive"
        | "evacuate"
        | "createBackup"
        | "changePassword"
        | "trigger_crash_dump"
        | "resetNetwork"
        | "injectNetworkInfo"
        | "os-getVNCConsole"
        | "os-getSPICEConsole"
        | "os-getSerialConsole"
        | "os-getRDPConsole"
        | "addFloatingIp"
        | "removeFloatingIp"
        | "addFixedIp"
        | "removeFixedIp" => {
            app.server(ctx, id, "os_compute_api:servers:show").await?;
            return Err(Error::not_implemented(format!("This cloud does not offer the action {name}.")));
        }
        _ => return Err(Error::bad_request(format!("There is no such action: {name}"))),
    }
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn create_image(
    app: &App,
    ctx: &Context,
    v: Microversion,
    id: &str,
    args: &Value,
) -> Result<Response, Error> {
    let name = args["name"].as_str().filter(|n| !n.trim().is_empty() && n.chars().count() <= 255);
    let name = name.ok_or_else(|| Error::bad_request("Invalid input for field/attribute name."))?;
    super::parts::check_metadata(args)?;
    let made = app.create_image(ctx, id, name.to_owned(), strings(&args["metadata"])).await?;
    if v >= Microversion(2, 45) {
        return Ok((StatusCode::ACCEPTED, Json(json!({"image_id": made}))).into_response());
    }
    let mut response = StatusCode::ACCEPTED.into_response();
    if let Ok(at) = HeaderValue::from_str(&app.links.to(&format!("/image/v2/images/{made}"))) {
        response.headers_mut().insert(header::LOCATION, at);
    }
    Ok(response)
}

fn disk_config(args: &Value) -> Result<Option<&str>, Error> {
    match &args["OS-DCF:diskConfig"] {
        Value::Null => Ok(None),
        Value::String(word) if word == "AUTO" || word == "MANUAL" => Ok(Some(word)),
        _ => Err(Error::bad_request("Invalid input for field/attribute OS-DCF:diskConfig.")),
    }
}

async fn rebuild(
    app: &App,
    ctx: &Context,
    v: Microversion,
    id: &str,
    args: &Value,
) -> Result<Response, Error> {
    let text = |key: &str| args.get(key).and_then(Value::as_str).map(str::to_owned);
    let image_id = text("imageRef").ok_or_else(|| {
        Error::bad_request("Invalid input for field/attribute rebuild. 'imageRef' is a required property")
    })?;
    if text("name").is_some_and(|n| n.trim().is_empty() || n.chars().count() > 255) {
        return Err(Error::bad_request("Invalid input for field/attribute name."));
    }
    let asked = Rebuild {
        image_id,
        name: text("name"),
        metadata: args.get("metadata").map(strings),
        description: args.get("description").map(|d| d.as_str().map(str::to_owned)),
        disk_config: disk_config(args)?.map(str::to_owned),
    };
    let s = app.rebuild_server(ctx, id, asked).await?;
    let around = Surroundings::of(app, ctx, v).await?;
    let mut view = changed(app, &s, &around).await?;
    if v < Microversion(2, 75) {
        plain_addresses(&mut view["addresses"]);
    } else if let Some(fields) = view.as_object_mut() {
        // It is shown by its own name below.
        fields.remove("OS-EXT-SRV-ATTR:user_data");
    }
    if v >= Microversion(2, 54) {
        view["key_name"] = json!(s.key_name);
    }
    if v >= Microversion(2, 57) {
        let user_data = rows::user_data(&app.db, id).await?;
        view["user_data"] = json!(Some(user_data).filter(|u| !u.is_empty()));
    }
    view["adminPass"] = json!(state::new_hex_id()[..12]);
    Ok((StatusCode::ACCEPTED, Json(json!({"server": view}))).into_response())
}

fn lines(args: &Value) -> Result<Option<usize>, Error> {
    let bad =
        |v: &Value| Error::bad_request(format!("Invalid input for field/attribute length. Value: {v}."));
    match &args["length"] {
        Value::Null => Ok(None),
        Value::String(t) if t == "-1" => Ok(None),
        v @ Value::String(t) => t.parse().map(Some).map_err(|_| bad(v)),
        v => match v.as_i64() {
            Some(-1) => Ok(None),
            Some(n) => usize::try_from(n).map(Some).map_err(|_| bad(v)),
            None => Err(bad(v)),
        },
    }
}
