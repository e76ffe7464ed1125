//! `POST /servers/{id}/action`: one key names the action, its value says the rest.

use super::App;
use crate::servers::actions::PowerAction;
use api::{Context, Error, Json, Microversion, Path, Routes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
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
        // Known to upstream, not offered here.
        "createImage"
        | "resize"
        | "confirmResize"
        | "revertResize"
        | "rebuild"
        | "rescue"
        | "unrescue"
        | "shelve"
        | "unshelve"
        | "shelveOffload"
        | "migrate"
        | "os-migrateLive"
        | "evacuate"
        | "createBackup"
        | "changePassword"
        | "restore"
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
