//! `/allocation_candidates`: who could give what is asked for.

use super::super::App;
use super::providers::group;
use super::since;
use crate::placement::candidates::{Candidate, meeting};
use crate::placement::store;
use api::{Context, Error, Json, Microversion, Query, Routes};
use axum::extract::State;
use serde_json::{Map, Value, json};

pub(super) fn routes(r: Routes<App>) -> Routes<App> {
    r.get("/allocation_candidates", candidates)
}

fn summary(c: &Candidate, v: Microversion) -> Value {
    let resources: Map<_, _> = c
        .inventory
        .iter()
        .map(|(class, i)| {
            let used = c.used.get(class).copied().unwrap_or(0);
            (class.clone(), json!({"capacity": i.capacity(), "used": used}))
        })
        .collect();
    let mut out = json!({"resources": resources});
    if v >= Microversion(1, 17) {
        out["traits"] = json!(c.traits);
    }
    if v >= Microversion(1, 29) {
        let parent = Some(&c.provider.parent_id).filter(|p| !p.is_empty());
        out["parent_provider_uuid"] = json!(parent);
        out["root_provider_uuid"] = json!(c.provider.root_id);
    }
    out
}

async fn candidates(
    app: State<App>,
    ctx: Context,
    v: Microversion,
    query: Query,
) -> Result<Json<Value>, Error> {
    since(v, 10)?;
    let numbered = |k: &str| {
        let rest = k.strip_prefix("resources").or_else(|| k.strip_prefix("required"));
        rest.is_some_and(|r| !r.is_empty())
    };
    if query.iter().any(|(k, _)| numbered(k)) {
        return Err(Error::not_implemented("Several request groups at once are not offered."));
    }
    let wanted = group(&query, "", v)?;
    if wanted.resources.is_empty() {
        return Err(Error::bad_request("'resources' is a required property"));
    }
    let mut tx = app.placing(&ctx).await?;
    let known = store::classes(&mut tx).await?;
    if let Some(unknown) = wanted.resources.keys().find(|c| !known.contains(c)) {
        return Err(Error::bad_request(format!(
            "Invalid resource class in resources parameter: No such resource class {unknown}."
        )));
    }
    let mut found = meeting(&mut tx, &wanted).await?;
    if let Some(limit) = query.int("limit")? {
        let limit = usize::try_from(limit).ok().filter(|l| *l > 0);
        found.truncate(limit.ok_or_else(|| Error::bad_request("limit must be a positive integer"))?);
    }
    let request = |c: &Candidate| {
        let allocation = json!({"resources": wanted.resources});
        let mut out = if v < Microversion(1, 12) {
            json!({"allocations": [{"resource_provider": {"uuid": c.provider.id}, "resources": wanted.resources}]})
        } else {
            let by_provider: Map<_, _> = [(c.provider.id.clone(), allocation)].into_iter().collect();
            json!({"allocations": by_provider})
        };
        if v >= Microversion(1, 34) {
            out["mappings"] = json!({"": [c.provider.id]});
        }
        out
    };
    let summaries: Map<_, _> = found.iter().map(|c| (c.provider.id.clone(), summary(c, v))).collect();
    Ok(Json(json!({
        "allocation_requests": found.iter().map(request).collect::<Vec<_>>(),
        "provider_summaries": summaries,
    })))
}
