//! `/v2/images/<id>/file` and `/stage`: the bytes.

use super::images::media_type;
use super::{App, stores};
use crate::{Body, ImageError, Images};
use api::{Context, Error, Path, Routes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::sync::Arc;

pub(super) fn routes(r: Routes<Arc<Images>>) -> Routes<Arc<Images>> {
    r.put("/v2/images/{image_id}/file", upload)
        .get("/v2/images/{image_id}/file", download)
        .put("/v2/images/{image_id}/stage", stage)
}

async fn upload(
    images: App,
    ctx: Context,
    Path(id): Path<String>,
    request: Request,
) -> Result<StatusCode, Error> {
    let store = stores::header(request.headers()).map(str::to_owned);
    let known = store.iter().try_for_each(|s| stores::known(&images.config, s));
    known.map_err(|e| Error::bad_request(e.to_string()))?;
    let (announced, body) = body(request)?;
    images.upload_to(&ctx, &id, store, announced, body).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn stage(
    images: App,
    ctx: Context,
    Path(id): Path<String>,
    request: Request,
) -> Result<StatusCode, Error> {
    let (announced, body) = body(request)?;
    images.stage(&ctx, &id, announced, body).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The body, and its size where the client names it.
fn body(request: Request) -> Result<(Option<u64>, Body), Error> {
    let headers = request.headers();
    if media_type(headers) != "application/octet-stream" {
        return Err(ImageError::MediaType(
            "The body of an image must be of the type application/octet-stream.".into(),
        )
        .into());
    }
    let announced = match headers.get("x-openstack-image-size") {
        Some(size) => Some(number(size).ok_or_else(|| {
            Error::bad_request("x-openstack-image-size must be a number of bytes, not negative.")
        })?),
        None => headers.get(header::CONTENT_LENGTH).and_then(number),
    };
    let frames = request.into_body().into_data_stream();
    let body = frames.map(|f| f.map_err(|e| ImageError::Aborted(Some(Box::new(e))))).boxed();
    Ok((announced, body))
}

fn number(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.trim().parse().ok()
}

async fn download(
    images: App,
    ctx: Context,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let found = images.download(&ctx, &id).await?;
    let Some((image, size)) = found.and_then(|i| i.size.filter(|n| *n > 0).map(|n| (i, n))) else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let range = range(&headers, size)?;
    let (off, len) = range.unwrap_or((0, size));
    let bytes = images.bytes(&image, off, len).await?;
    let mut response = axum::body::Body::from_stream(bytes).into_response();
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    out.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let mut set = |name, value: &str| HeaderValue::from_str(value).map(|v| out.insert(name, v)).is_ok();
    if range.is_some() {
        set(header::CONTENT_RANGE, &format!("bytes {off}-{}/{size}", off + len - 1));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    } else if let Some(md5) = &image.checksum {
        set(header::HeaderName::from_static("content-md5"), md5);
    }
    Ok(response)
}

/// (offset, length) of the one range that is asked for.
fn range(headers: &HeaderMap, size: u64) -> Result<Option<(u64, u64)>, ImageError> {
    let Some(value) = headers.get(header::RANGE) else { return content_range(headers, size) };
    let outside = || ImageError::Range { size };
    if value.as_bytes().contains(&b',') {
        return Err(ImageError::invalid(
            "Requests with multiple ranges are not supported. You may make multiple single-range requests instead.",
        ));
    }
    let text = value.to_str().ok().and_then(|t| t.trim().strip_prefix("bytes=")).ok_or_else(outside)?;
    let (first, last) = text.split_once('-').ok_or_else(outside)?;
    let number = |t: &str| match t.trim() {
        "" => Ok(None),
        t if t.bytes().all(|b| b.is_ascii_digit()) => t.parse::<u64>().map(Some).map_err(|_| outside()),
        _ => Err(outside()),
    };
    let (start, end) = match (number(first)?, number(last)?) {
        (Some(a), Some(b)) if a <= b => (a, b.min(size - 1)),
        (Some(a), None) => (a, size - 1),
        (None, Some(n)) if n > 0 => (size.saturating_sub(n), size - 1),
        _ => return Err(outside()),
    };
    if start >= size {
        return Err(outside());
    }
    Ok(Some((start, end - start + 1)))
}

/// The same from a `Content-Range`, which is no request's, but upstream has always taken it.
fn content_range(headers: &HeaderMap, size: u64) -> Result<Option<(u64, u64)>, ImageError> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let read = || {
        let (range, all) = value.to_str().ok()?.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        let known = all == "*" || all.parse() == Ok(size);
        (known && first <= last && last < size).then(|| (first, last - first + 1))
    };
    read().map(Some).ok_or(ImageError::Range { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_upstream_has_always_taken_them() {
        let ask = |text: &str| {
            let mut h = HeaderMap::new();
            h.insert(header::CONTENT_RANGE, HeaderValue::from_str(text).unwrap());
            range(&h, 100)
        };
        assert_eq!(ask("bytes 3-9/100").unwrap(), Some((3, 7)));
        assert_eq!(ask("bytes 3-9/*").unwrap(), Some((3, 7)));
        for bad in ["bytes 3-9/20", "bytes 9-3/*", "bytes 3-100/*", "bytes */100", "bytes 3-9", "3-9/*"] {
            assert!(matches!(ask(bad), Err(ImageError::Range { size: 100 })), "{bad}");
        }
    }

    #[test]
    fn ranges() {
        let ask = |text: &str| {
            let mut h = HeaderMap::new();
            h.insert(header::RANGE, HeaderValue::from_str(text).unwrap());
            range(&h, 100)
        };
        assert_eq!(range(&HeaderMap::new(), 100).unwrap(), None);
        assert_eq!(ask("bytes=0-9").unwrap(), Some((0, 10)));
        assert_eq!(ask("bytes=90-").unwrap(), Some((90, 10)));
        assert_eq!(ask("bytes=-1").unwrap(), Some((99, 1)));
        assert_eq!(ask("bytes=-1000").unwrap(), Some((0, 100)));
        assert_eq!(ask("bytes=50-1000").unwrap(), Some((50, 50)));
        for bad in ["bytes=100-", "bytes=9-0", "bytes=-0", "bytes=-", "bytes=a-b", "lines=0-1", "bytes=+1-2"]
        {
            assert!(matches!(ask(bad), Err(ImageError::Range { size: 100 })), "{bad}");
        }
        assert!(matches!(ask("bytes=0-1,3-4"), Err(ImageError::Invalid(_))));
    }
}
