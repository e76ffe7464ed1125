//! `/v1/AUTH_<project>`: an account's listing and metadata.

use super::error::{SwiftError, SwiftResult};
use super::headers::{self, Out};
use super::listing::{self, Format};
use super::{Call, archive, reply};
use crate::account::{Account, AccountAcl, AccountGrant, AccountInfo, AccountQuery, Quota, Usage};
use crate::{Need, ObjectError, reseller};
use axum::response::Response;
use http::{Method, StatusCode};
use state::Timestamp;

pub(super) async fn answer(call: Call) -> SwiftResult<Response> {
    match call.method {
        Method::GET => list(call).await,
        Method::HEAD => show(call).await,
        Method::PUT if call.query.has("extract-archive") => Box::pin(archive::extract(call)).await,
        Method::POST => update(call).await,
        // Accounts come with their projects and go with them.
        Method::PUT | Method::DELETE => Err(SwiftError::forbidden()),
        _ => Err(SwiftError::method_not_allowed("HEAD, GET, POST, OPTIONS")),
    }
}

/// Whether an account may be changed: a reseller admin's to say.
pub(super) const READ_ONLY: &str = "x-account-sysmeta-read-only";

/// An account's own headers.
fn about(call: &Call, account: &Account, usage: &Usage) -> Out {
    let mut out = Out::default();
    out.number("x-account-container-count", usage.containers)
        .number("x-account-object-count", usage.counts.objects)
        .number("x-account-bytes-used", usage.counts.bytes)
        .set("accept-ranges", "bytes");
    let at = headers::timestamp(account.created_at.unwrap_or_else(Timestamp::now));
    out.set("x-timestamp", &at).set("x-put-timestamp", &at);
    for p in &usage.policies {
        let prefix = format!("x-account-storage-policy-{}", p.policy.to_ascii_lowercase());
        out.number(&format!("{prefix}-container-count"), p.containers)
            .number(&format!("{prefix}-object-count"), p.counts.objects)
            .number(&format!("{prefix}-bytes-used"), p.counts.bytes);
    }
    let owner = call.store.is_owner(&call.access, &call.project);
    if let Some(acl) = account.info.acl.as_ref().filter(|_| owner) {
        out.set("x-account-access-control", serde_json::to_string(acl).unwrap_or_default());
    }
    if let Some(domain) = &account.info.project_domain {
        out.set("x-account-project-domain-id", domain);
    }
    headers::tell_quotes(&mut out, "account", account.info.quoted_etags);
    let shown = account.info.meta.iter().filter(|(k, _)| owner || !k.starts_with("temp-url-key"));
    out.metadata("x-account-meta-", shown);
    if let Some(bytes) = account.info.quota.bytes {
        out.number("x-account-meta-quota-bytes", bytes);
    }
    tell_quota(&mut out, account.info.quota, "");
    for (policy, quota) in &account.info.policy_quotas {
        tell_quota(&mut out, *quota, &format!("-policy-{}", policy.to_ascii_lowercase()));
    }
    out
}

fn tell_quota(out: &mut Out, quota: Quota, of: &str) {
    for (what, most) in [("bytes", quota.bytes), ("count", quota.objects)] {
        if let Some(most) = most {
            out.number(&format!("x-account-quota-{what}{of}"), most);
        }
    }
}

async fn show(call: Call) -> SwiftResult<Response> {
    let account = call.store.account(&call.access, &call.project).await?;
    let usage = call.store.account_usage(&call.project).await?;
    let mut out = about(&call, &account, &usage);
    out.set("content-type", Format::of(&call)?.content_type());
    Ok(reply::empty(StatusCode::NO_CONTENT, out))
}

async fn list(call: Call) -> SwiftResult<Response> {
    let format = Format::of(&call)?;
    let limit = listing::limit(&call, call.store.config().limits.account_listing_limit)?;
    let text = |name: &str| call.query.get(name).unwrap_or_default().to_owned();
    let query = AccountQuery {
        prefix: text("prefix"),
        marker: text("marker"),
        end_marker: text("end_marker"),
        delimiter: text("delimiter"),
        limit,
        reverse: call.query.get("reverse").is_some_and(super::is_true),
    };
    let items = call.store.list_account(&call.access, &call.project, &query).await?;
    let account = call.store.account(&call.access, &call.project).await?;
    let usage = call.store.account_usage(&call.project).await?;
    let out = about(&call, &account, &usage);
    Ok(reply::listing(out, format, listing::account(format, &reseller::name(&call.project), &items)))
}

async fn update(call: Call) -> SwiftResult<Response> {
    if call.access.granted_in(&call.project) == Some(AccountGrant::ReadWrite) {
        return Err(SwiftError::forbidden());
    }
    call.store.check(&call.access, &call.project, None, Need::Own)?;
    if call.headers.contains_key(READ_ONLY) && !call.store.is_reseller_admin(&call.access) {
        return Err(SwiftError::forbidden());
    }
    let limits = call.store.config().limits.clone();
    // Tried once outside, so that what is wrong is told in Swift's words.
    change(&call, &mut AccountInfo::default(), &limits)?;
    let request = &call;
    let apply =
        |info: &mut AccountInfo| change(request, info, &limits).map_err(|e| ObjectError::Invalid(e.text()));
    call.store.change_account(&call.access, &call.project, &apply).await?;
    let mut out = Out::default();
    out.set("content-type", "text/html; charset=UTF-8");
    Ok(reply::empty(StatusCode::NO_CONTENT, out))
}

fn change(call: &Call, info: &mut AccountInfo, limits: &crate::Limits) -> SwiftResult<()> {
    let mut given = call.headers.clone();
    let may = call.store.is_reseller_admin(&call.access);
    let quota = &mut info.quota;
    read_quota(&mut given, &["account-meta-quota-bytes", "account-quota-bytes"], &mut quota.bytes, may)?;
    read_quota(&mut given, &["account-quota-count"], &mut quota.objects, may)?;
    for policy in call.store.policies().iter() {
        let quota = info.policy_quotas.entry(policy.name.clone()).or_default();
        let header = |what: &str| format!("account-quota-{what}-policy-{}", policy.name.to_ascii_lowercase());
        read_quota(&mut given, &[&header("bytes")], &mut quota.bytes, may)?;
        read_quota(&mut given, &[&header("count")], &mut quota.objects, may)?;
    }
    info.policy_quotas.retain(|_, quota| quota.is_set());
    info.project_domain = call.project_domain().or(info.project_domain.take());
    if let Some(text) = call.header("x-account-access-control") {
        info.acl = read_acl(text)?;
    }
    if let Some(text) = call.header(READ_ONLY) {
        info.read_only = Some(text.trim()).filter(|t| !t.is_empty()).map(super::is_true);
    }
    headers::want_quotes(&mut info.quoted_etags, &call.headers, "account");
    headers::merge(&mut info.meta, &given, "Account", limits)
}

/// Remembers the domain of the account's project, which only its own people tell.
pub(super) async fn remember_domain(call: &Call) -> SwiftResult<()> {
    let Some(domain) = call.project_domain() else { return Ok(()) };
    if call.store.find_account(&call.project).await?.info.project_domain.as_ref() == Some(&domain) {
        return Ok(());
    }
    let remember = |info: &mut AccountInfo| {
        info.project_domain = Some(domain.clone());
        Ok(())
    };
    Ok(call.store.change_account(&call.access, &call.project, &remember).await?)
}

/// What the request says of a quota: of several names the last one counts; to remove it counts more than to set it.
/// Whoever may not set quotas may not speak of them either.
fn read_quota(
    given: &mut http::HeaderMap,
    names: &[&str],
    most: &mut Option<u64>,
    may: bool,
) -> SwiftResult<()> {
    for name in names {
        let set = given.remove(format!("x-{name}"));
        let removed = given.remove(format!("x-remove-{name}")).is_some_and(|v| !v.is_empty());
        if !may && (removed || set.is_some()) {
            return Err(SwiftError::forbidden());
        }
        if removed {
            *most = None;
        } else if let Some(text) = set {
            *most = match text.to_str().unwrap_or("?").trim() {
                "" => None,
                text => Some(text.parse().map_err(|_| SwiftError::bad_request("Invalid account quota."))?),
            };
        }
    }
    Ok(())
}

fn read_acl(text: &str) -> SwiftResult<Option<AccountAcl>> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    // A list would be read as the fields in their order.
    let acl = Some(text.trim()).filter(|t| t.starts_with('{')).and_then(|t| serde_json::from_str(t).ok());
    let acl: AccountAcl = acl.ok_or_else(|| {
        SwiftError::bad_request("X-Account-Access-Control invalid: it must be a JSON object of lists of users by admin, read-write and read-only")
    })?;
    Ok(Some(acl).filter(|acl| *acl != AccountAcl::default()))
}
