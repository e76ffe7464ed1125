//! `/v3/credentials` and `/v3/users/{user_id}/credentials/OS-EC2`.

use super::{Answer, App, Body, done, json};
use crate::Identity;
use crate::store::Record;
use crate::store::record::Fields;
use api::{Context, Path, Query, Routes};
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json as object};
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Identity>>) -> Routes<Arc<Identity>> {
    r.post("/v3/credentials", create)
        .get("/v3/credentials", list)
        .get("/v3/credentials/{credential_id}", show)
        .patch("/v3/credentials/{credential_id}", update)
        .delete("/v3/credentials/{credential_id}", delete)
        .post("/v3/users/{user_id}/credentials/OS-EC2", create_ec2)
        .get("/v3/users/{user_id}/credentials/OS-EC2", list_ec2)
        .get("/v3/users/{user_id}/credentials/OS-EC2/{access}", show_ec2)
        .delete("/v3/users/{user_id}/credentials/OS-EC2/{access}", delete_ec2)
}

async fn create(State(identity): App, ctx: Context, Body(body): Body) -> Answer {
    let made = identity.create_credential(&ctx, &body).await?;
    Ok(identity.one(StatusCode::CREATED, "credential", "credentials", made))
}

async fn list(State(identity): App, ctx: Context, query: Query) -> Answer {
    let found = identity.list_credentials(&ctx, &query).await?;
    Ok(identity.many("credentials", "credentials", &query, found))
}

async fn show(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    let found = identity.show_credential(&ctx, &id).await?;
    Ok(identity.one(StatusCode::OK, "credential", "credentials", found))
}

async fn update(State(identity): App, ctx: Context, Path(id): Path<String>, Body(body): Body) -> Answer {
    let changed = identity.update_credential(&ctx, &id, &body).await?;
    Ok(identity.one(StatusCode::OK, "credential", "credentials", changed))
}

async fn delete(State(identity): App, ctx: Context, Path(id): Path<String>) -> Answer {
    identity.delete_credential(&ctx, &id).await?;
    Ok(done())
}

fn linked(identity: &Identity, user: &str, mut c: Record) -> Value {
    let url = identity.url(&format!("users/{user}/credentials/OS-EC2/{}", c.text("access")));
    c.insert("links".into(), object!({"self": url}));
    c.into()
}

async fn create_ec2(
    State(identity): App,
    ctx: Context,
    Path(user): Path<String>,
    Body(body): Body,
) -> Answer {
    let made = identity.create_ec2(&ctx, &user, &body).await?;
    Ok(json(StatusCode::CREATED, &object!({"credential": linked(&identity, &user, made)})))
}

async fn list_ec2(State(identity): App, ctx: Context, Path(user): Path<String>) -> Answer {
    let found = identity.list_ec2(&ctx, &user).await?;
    let found: Vec<Value> = found.into_iter().map(|c| linked(&identity, &user, c)).collect();
    let url = identity.url(&format!("users/{user}/credentials/OS-EC2"));
    let links = object!({"self": url, "next": null, "previous": null});
    Ok(json(StatusCode::OK, &object!({"credentials": found, "links": links})))
}

async fn show_ec2(
    State(identity): App,
    ctx: Context,
    Path((user, access)): Path<(String, String)>,
) -> Answer {
    let found = identity.show_ec2(&ctx, &user, &access).await?;
    Ok(json(StatusCode::OK, &object!({"credential": linked(&identity, &user, found)})))
}

async fn delete_ec2(
    State(identity): App,
    ctx: Context,
    Path((user, access)): Path<(String, String)>,
) -> Answer {
    identity.delete_ec2(&ctx, &user, &access).await?;
    Ok(done())
}
