//! `/v1/AUTH_<project>/<container>`: a container's listing, metadata and ACLs.

use super::error::{SwiftError, SwiftResult};
use super::headers::{self, Out};
use super::listing::{self, Format};
use super::{Call, archive, reply, sync, versions};
use crate::container::{Container, ContainerInfo, Counts, NewContainer};
use crate::http::content::{http_date, last_modified_secs};
use crate::index::ListQuery;
use crate::{Need, ObjectError, acl};
use axum::response::Response;
use http::{Method, StatusCode};

pub(super) async fn answer(call: Call) -> SwiftResult<Response> {
    let most = call.store.config().limits.max_container_name_length;
    if call.container.len() > most {
        let (len, text) = (call.container.len(), "Container name length of");
        let text = format!("{text} {len} longer than {most}");
        return Err(SwiftError::html(StatusCode::BAD_REQUEST, text));
    }
    match call.method {
        Method::GET => list(call).await,
        Method::HEAD => show(call).await,
        Method::PUT if call.query.has("extract-archive") => Box::pin(archive::extract(call)).await,
        Method::PUT => create(call).await,
        Method::POST => update(call).await,
        Method::DELETE => delete(call).await,
        _ => Err(SwiftError::method_not_allowed("HEAD, GET, PUT, POST, OPTIONS, DELETE")),
    }
}

/// A container's own headers.
fn about(call: &Call, container: &Container, counts: Counts) -> Out {
    let mut out = Out::default();
    let at = headers::timestamp(container.created_at);
    out.number("x-container-object-count", counts.objects)
        .number("x-container-bytes-used", counts.bytes)
        .set("x-storage-policy", &container.policy.name)
        .set("x-timestamp", &at)
        .set("x-put-timestamp", &at)
        .set("last-modified", http_date(last_modified_secs(container.changed_at)))
        .set("accept-ranges", "bytes");
    versions::about(&mut out, &container.info);
    headers::tell_quotes(&mut out, "container", container.info.quoted_etags);
    let owner = call.store.is_owner(&call.access, &call.project);
    let shown = container.info.meta.iter().filter(|(k, _)| owner || !k.starts_with("temp-url-key"));
    out.metadata("x-container-meta-", shown);
    if owner {
        let info = &container.info;
        for (name, acl) in [
            ("x-container-read", &info.read),
            ("x-container-write", &info.write),
            ("x-container-sync-to", &info.sync.to),
            ("x-container-sync-key", &info.sync.key.0),
        ] {
            if !acl.is_empty() {
                out.set(name, acl);
            }
        }
    }
    out
}

async fn show(call: Call) -> SwiftResult<Response> {
    let format = Format::of(&call)?;
    let container = call.store.container(&call.access, &call.project, &call.container, Need::List).await?;
    let counts = call.store.counts(&container).await?;
    let mut out = about(&call, &container, counts);
    out.set("content-type", format.content_type());
    Ok(reply::empty(StatusCode::NO_CONTENT, out))
}

async fn list(call: Call) -> SwiftResult<Response> {
    let format = Format::of(&call)?;
    let query = list_query(&call)?;
    let container = call.store.container(&call.access, &call.project, &call.container, Need::List).await?;
    if call.query.has("versions") {
        let text = versions::list(&call, &container).await?;
        let out = about(&call, &container, call.store.counts(&container).await?);
        return Ok(reply::listing(out, Format::Json, text));
    }
    let (page, counts) =
        tokio::try_join!(call.store.list_objects(&container, &query), call.store.counts(&container))?;
    let out = about(&call, &container, counts);
    Ok(reply::listing(out, format, listing::container(format, &call.project, &container.name, &page.items)))
}

fn list_query(call: &Call) -> SwiftResult<ListQuery> {
    let text = |name: &str| call.query.get(name).unwrap_or_default().to_owned();
    let mut query = ListQuery {
        prefix: text("prefix"),
        marker: text("marker"),
        end_marker: call.query.get("end_marker").map(str::to_owned),
        delimiter: text("delimiter"),
        hide_prefixes: false,
        limit: listing::limit(call, call.store.config().limits.container_listing_limit)?,
        reverse: call.query.get("reverse").is_some_and(super::is_true),
    };
    if let Some(path) = call.query.get("path") {
        // `/` is the folder without a name, not the container itself.
        query.prefix = match path {
            "" => String::new(),
            path => format!("{}/", path.trim_end_matches('/')),
        };
        (query.delimiter, query.hide_prefixes) = ("/".to_owned(), true);
    }
    Ok(query)
}

/// Changes a container's facts as the request's headers say.
fn change(call: &Call, info: &mut ContainerInfo) -> SwiftResult<()> {
    headers::merge(&mut info.meta, &call.headers, "Container", &call.store.config().limits)?;
    for name in ["quota-bytes", "quota-count"] {
        if info.meta.get(name).is_some_and(|v| v.parse::<u64>().is_err()) {
            let what = name.trim_start_matches("quota-");
            return Err(SwiftError::bad_request(format!("Invalid {what} quota.")));
        }
    }
    sync::change(call, info)?;
    headers::want_quotes(&mut info.quoted_etags, &call.headers, "container");
    for (name, kept) in [("x-container-read", &mut info.read), ("x-container-write", &mut info.write)] {
        if call.headers.contains_key(name.replacen("x-", "x-remove-", 1)) {
            kept.clear();
        }
        if let Some(text) = call.header(name) {
            *kept = acl::clean(name, text).map_err(SwiftError::bad_request)?;
        }
    }
    versions::change(call, info)
}

/// The same as a rule for the engine. It was tried before, so that what is wrong is told in Swift's words.
fn rule(call: &Call) -> impl Fn(&mut ContainerInfo) -> Result<(), ObjectError> + Sync {
    move |info| change(call, info).map_err(|e| ObjectError::Invalid(e.text()))
}

async fn create(call: Call) -> SwiftResult<Response> {
    call.store.check(&call.access, &call.project, None, Need::Own)?;
    change(&call, &mut ContainerInfo::default())?;
    let policy = call.header("x-storage-policy").filter(|p| !p.is_empty()).map(str::to_owned);
    super::account::remember_domain(&call).await?;
    let new = NewContainer { policy, as_bucket: false };
    let made =
        call.store.make_container(&call.access, &call.project, &call.container, &new, &rule(&call)).await?;
    let status = if made.created { StatusCode::CREATED } else { StatusCode::ACCEPTED };
    Ok(reply::standard(status, Out::default()))
}

async fn update(call: Call) -> SwiftResult<Response> {
    call.store.check(&call.access, &call.project, None, Need::Own)?;
    change(&call, &mut ContainerInfo::default())?;
    call.store.change_container(&call.access, &call.project, &call.container, &rule(&call)).await?;
    Ok(reply::standard(StatusCode::NO_CONTENT, Out::default()))
}

async fn delete(call: Call) -> SwiftResult<Response> {
    let deleted = call.store.delete_container(&call.access, &call.project, &call.container).await;
    deleted.map_err(|e| match e {
        ObjectError::HasVersions => {
            SwiftError::new(StatusCode::CONFLICT, "Delete all versions before deleting container.")
        }
        e => e.into(),
    })?;
    Ok(reply::standard(StatusCode::NO_CONTENT, Out::default()))
}
