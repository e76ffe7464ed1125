//! What every resource's five calls have in common: the wrapper of a body, bulk requests, revisions, `fields`.
//!
//! A resource says how it is read from a body and shown, and which calls of [`Networks`] make, find, change and
//! delete it; the handlers here are the same for all.

use std::future::Future;

use api::{Context, Error, Json, Path, Query, Routes};
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::expected_revision;
use super::listing::{Collection, list, select};
use crate::attr::Body;
use crate::{NetError, Networks};

pub(super) type View = Map<String, Value>;
type Result<T, E = NetError> = std::result::Result<T, E>;

/// A resource that can be listed, shown, made and deleted.
pub(super) trait Resource: 'static {
    /// The wrapper of a single one: `network`.
    const ONE: &'static str;
    const COLLECTION: Collection;
    type Row: Send + Sync;
    type New: Send;

    /// Reads and checks the body of a POST.
    fn parse(body: &Body) -> Result<Self::New>;
    fn id(row: &Self::Row) -> &str;
    fn view(networks: &Networks, ctx: &Context, row: &Self::Row)
    -> impl Future<Output = Result<View>> + Send;
    /// The views of all that the caller may see; `query` may narrow what is read, and is applied afterwards.
    fn views(
        networks: &Networks,
        ctx: &Context,
        query: &Query,
    ) -> impl Future<Output = Result<Vec<View>>> + Send;
    fn get(networks: &Networks, ctx: &Context, id: &str) -> impl Future<Output = Result<Self::Row>> + Send;
    fn create(
        networks: &Networks,
        ctx: &Context,
        new: Self::New,
    ) -> impl Future<Output = Result<Self::Row>> + Send;
    fn delete(
        networks: &Networks,
        ctx: &Context,
        id: &str,
        revision: Option<i64>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Makes all of a bulk request, or nothing.
    fn create_all(
        networks: &Networks,
        ctx: &Context,
        new: Vec<Self::New>,
    ) -> impl Future<Output = Result<Vec<Self::Row>>> + Send {
        async move {
            let mut made: Vec<Self::Row> = Vec::new();
            for new in new {
                match Self::create(networks, ctx, new).await {
                    Ok(row) => made.push(row),
                    Err(error) => {
                        for row in made {
                            Self::delete(networks, ctx, Self::id(&row), None).await?;
                        }
                        return Err(error);
                    }
                }
            }
            Ok(made)
        }
    }
}

/// A resource that can be changed, too.
pub(super) trait Change: Resource {
    type Fields: Send;

    /// Reads and checks the body of a PUT.
    fn parse_change(body: &Body) -> Result<Self::Fields>;
    fn update(
        networks: &Networks,
        ctx: &Context,
        id: &str,
        fields: Self::Fields,
        revision: Option<i64>,
    ) -> impl Future<Output = Result<Self::Row>> + Send;
}

/// The calls of a resource at `all` (its collection) and `one` (with its id as the only parameter).
pub(super) fn routes<R: Resource>(
    all: &'static str,
    one: &'static str,
) -> impl FnOnce(Routes<Networks>) -> Routes<Networks> {
    move |routes| {
        routes.get(all, index::<R>).post(all, create::<R>).get(one, show::<R>).delete(one, delete::<R>)
    }
}

/// The same, and PUT.
pub(super) fn changeable<R: Change>(
    all: &'static str,
    one: &'static str,
) -> impl FnOnce(Routes<Networks>) -> Routes<Networks> {
    move |own| own.with(routes::<R>(all, one)).put(one, update::<R>)
}

async fn index<R: Resource>(
    State(networks): State<Networks>,
    ctx: Context,
    query: Query,
) -> Result<Json<Value>, Error> {
    let views = R::views(&networks, &ctx, &query).await?;
    Ok(Json(list(&networks, &R::COLLECTION, &query, views)?))
}

async fn create<R: Resource>(
    State(networks): State<Networks>,
    ctx: Context,
    Json(json): Json<Value>,
) -> Result<(StatusCode, Json<Value>), Error> {
    let (bodies, bulk) = Body::one_or_many(&json, R::ONE, R::COLLECTION.name)?;
    let new = bodies.iter().map(R::parse).collect::<Result<Vec<_>>>()?;
    let mut views = Vec::new();
    for row in R::create_all(&networks, &ctx, new).await? {
        views.push(Value::Object(R::view(&networks, &ctx, &row).await?));
    }
    let body = if bulk { json!({ R::COLLECTION.name: views }) } else { json!({ R::ONE: views.pop() }) };
    Ok((StatusCode::CREATED, Json(body)))
}

async fn show<R: Resource>(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Value>, Error> {
    let row = R::get(&networks, &ctx, &id).await?;
    Ok(Json(json!({ R::ONE: select(R::view(&networks, &ctx, &row).await?, &query) })))
}

async fn update<R: Change>(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(json): Json<Value>,
) -> Result<Json<Value>, Error> {
    let fields = R::parse_change(&Body::one(&json, R::ONE)?)?;
    let row = R::update(&networks, &ctx, &id, fields, expected_revision(&headers)?).await?;
    Ok(Json(json!({ R::ONE: R::view(&networks, &ctx, &row).await? })))
}

async fn delete<R: Resource>(
    State(networks): State<Networks>,
    ctx: Context,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Error> {
    R::delete(&networks, &ctx, &id, expected_revision(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
