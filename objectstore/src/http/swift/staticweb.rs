//! StaticWeb: a container that is served as a web site to whoever has no token, or asks for it (`X-Web-Mode`).
//!
//! `X-Container-Meta-Web-Index` names what stands for a folder, `-Web-Listings` shows a folder that has none (with
//! `-Web-Listings-CSS` and `-Web-Listings-Label`), `-Web-Error` is what the objects that are sent with an error end in
//! (`404error.html`), `-Web-Directory-Type` the content type of objects that only mark folders. What is read is read by
//! the same rules as ever: a site is public by its container's ACL.

use super::error::{SwiftError, SwiftResult};
use super::{Call, cors, is_true, object, tempurl};
use crate::index::{Item, ListQuery};
use crate::{ContainerInfo, Need, ObjectError};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::fmt::Write;

/// What a container says of its site.
struct Site {
    index: String,
    /// Absent: nothing is said of listings.
    listings: Option<bool>,
    css: String,
    label: String,
    error: String,
    folder: String,
}

impl Site {
    fn of(info: &ContainerInfo) -> Site {
        let meta = |name: &str| info.meta.get(&format!("web-{name}")).map(|v| v.trim().to_owned());
        let text = |name: &str| meta(name).unwrap_or_default();
        Site {
            index: text("index"),
            listings: meta("listings").filter(|l| !l.is_empty()).map(|l| is_true(&l)),
            css: text("listings-css"),
            label: text("listings-label"),
            error: text("error"),
            folder: meta("directory-type")
                .filter(|t| !t.is_empty())
                .unwrap_or("application/directory".into()),
        }
    }

    /// Whether anything but error pages is asked for.
    fn serves(&self) -> bool {
        !self.index.is_empty() || self.listings.is_some()
    }
}

/// The site that a request goes to, if it goes to one.
pub(super) async fn site(call: &Call) -> SwiftResult<Option<Served>> {
    let reads = matches!(call.method, Method::GET | Method::HEAD) && !call.container.is_empty();
    let wanted = call.says("x-web-mode");
    if !reads || !(call.anonymous() || call.tempurl.is_some() || wanted) {
        return Ok(None);
    }
    let container = match call.store.find_container(&call.project, &call.container).await {
        Ok(container) => container,
        Err(ObjectError::NoSuchContainer) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let site = Site::of(&container.info);
    let any = site.serves() || !site.error.is_empty();
    Ok((any || wanted).then_some(Served { site, wanted }))
}

pub(super) struct Served {
    site: Site,
    /// The request asked for the site.
    wanted: bool,
}

impl Served {
    pub(super) async fn answer(self, call: Call) -> SwiftResult<Response> {
        let plain = call.again(&call.object);
        let answered = match call.object.is_empty() {
            true => self.folder(&call).await,
            false => self.object(call).await,
        };
        match answered {
            Ok(response) => Ok(response),
            Err(e) => self.error(&plain, e).await,
        }
    }

    /// The container itself.
    async fn folder(&self, call: &Call) -> SwiftResult<Response> {
        call.store
            .container(&call.access, &call.project, &call.container, Need::List)
            .await
            .map_err(|e| call.told(e.into()))?;
        if !self.site.serves() {
            return match self.wanted {
                true => Err(SwiftError::of(StatusCode::NOT_FOUND)),
                false => super::container::answer(call.again("")).await,
            };
        }
        if !call.path.ends_with('/') {
            return Ok(moved(call));
        }
        match self.index(call, "").await {
            Some(answered) => answered,
            None => self.listing(call, "").await,
        }
    }

    /// What stands for a folder, unless there is none.
    async fn index(&self, call: &Call, folder: &str) -> Option<SwiftResult<Response>> {
        if self.site.index.is_empty() {
            return None;
        }
        match object::answer(call.again(&format!("{folder}{}", self.site.index))).await {
            Err(e) if e.status() == 404 => None,
            answered => Some(answered.map_err(|e| call.told(e))),
        }
    }

    async fn object(&self, call: Call) -> SwiftResult<Response> {
        let folder = call.again(&call.object);
        match object::answer(call).await {
            Ok(response) if !self.marks_folder(&response) => return Ok(response),
            Err(e) if e.status() != 404 => return Err(folder.told(e)),
            _ if !self.site.serves() => return Err(SwiftError::of(StatusCode::NOT_FOUND)),
            _ => {}
        }
        let slash = folder.path.ends_with('/');
        let prefix = if slash { folder.object.clone() } else { format!("{}/", folder.object) };
        match self.index(&folder, &prefix).await {
            Some(Ok(response)) if slash => return Ok(response),
            Some(Ok(_)) => return Ok(moved(&folder)),
            Some(Err(e)) => return Err(e),
            None => {}
        }
        if slash {
            return self.listing(&folder, &prefix).await;
        }
        let query = ListQuery { prefix, delimiter: "/".into(), limit: 1, ..ListQuery::default() };
        let container = self.container(&folder).await?;
        let page = folder.store.list_objects(&container, &query).await?;
        if page.items.is_empty() { Err(SwiftError::of(StatusCode::NOT_FOUND)) } else { Ok(moved(&folder)) }
    }

    async fn container(&self, call: &Call) -> SwiftResult<std::sync::Arc<crate::Container>> {
        let found = call.store.container(&call.access, &call.project, &call.container, Need::List).await;
        found.map_err(|e| call.told(e.into()))
    }

    /// Whether what was found only marks a folder.
    fn marks_folder(&self, response: &Response) -> bool {
        let text = |name| response.headers().get(name).and_then(|v| v.to_str().ok());
        let small = text(header::CONTENT_LENGTH).and_then(|l| l.parse::<u64>().ok()).unwrap_or(0) <= 1;
        small
            && response.status().is_success()
            && text(header::CONTENT_TYPE) == Some(self.site.folder.as_str())
    }

    /// An error, with the page that the site has for it.
    async fn error(&self, call: &Call, e: SwiftError) -> SwiftResult<Response> {
        if self.site.error.is_empty() {
            return Err(e);
        }
        let mut page = call.again(&format!("{}{}", e.status(), self.site.error));
        for name in
            ["range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"]
        {
            page.headers.remove(name);
        }
        match object::answer(page).await {
            Ok(mut response) if response.status().is_success() => {
                *response.status_mut() = StatusCode::from_u16(e.status()).unwrap_or(StatusCode::NOT_FOUND);
                Ok(response)
            }
            _ => Err(e),
        }
    }

    /// A page that lists a folder.
    async fn listing(&self, call: &Call, prefix: &str) -> SwiftResult<Response> {
        let shown = match self.site.label.as_str() {
            "" => percent_encoding::percent_decode_str(&call.path).decode_utf8_lossy().into_owned(),
            label => format!("{label}/{prefix}"),
        };
        if self.site.listings != Some(true) {
            let page = self.refusal(&shown, prefix);
            return Err(SwiftError::html(StatusCode::NOT_FOUND, page));
        }
        let container = self.container(call).await?;
        let query = ListQuery {
            prefix: prefix.to_owned(),
            delimiter: "/".into(),
            limit: call.store.config().limits.container_listing_limit,
            ..ListQuery::default()
        };
        let page = call.store.list_objects(&container, &query).await?;
        if page.items.is_empty() {
            return Err(SwiftError::of(StatusCode::NOT_FOUND));
        }
        let signed = call.tempurl.as_ref().and_then(|granted| granted.prefix.as_ref());
        let text = self.page(&shown, prefix, &page.items, signed);
        let mut out = HeaderMap::new();
        cors::set(&mut out, header::CONTENT_TYPE, "text/html; charset=UTF-8");
        cors::set(&mut out, header::CONTENT_LENGTH, &text.len().to_string());
        let body = if call.method == Method::HEAD { Body::empty() } else { Body::from(text) };
        let mut response = (StatusCode::OK, out, body).into_response();
        response.extensions_mut().insert(tempurl::Page);
        Ok(response)
    }

    /// The style sheet's link, or the style that pages have without one.
    fn style(&self, prefix: &str, plain: &str) -> String {
        let css = self.site.css.as_str();
        if css.is_empty() {
            return format!("  <style type=\"text/css\">\n{plain}  </style>\n");
        }
        let absolute = ["/", "http://", "https://"].iter().any(|p| css.starts_with(p));
        let up = if absolute { String::new() } else { "../".repeat(prefix.matches('/').count()) };
        let quoted = quote(css).replace("%3A", ":");
        format!("  <link rel=\"stylesheet\" type=\"text/css\" href=\"{up}{quoted}\" />\n")
    }

    /// `signed`: what the names begin with that the reader's URL is good for, and its parameters.
    fn page(&self, shown: &str, prefix: &str, items: &[Item], signed: Option<&(String, String)>) -> String {
        const STYLE: &str = "   h1 {font-size: 1em; font-weight: bold;}\n   \
             th {text-align: left; padding: 0px 1em 0px 1em;}\n   \
             td {padding: 0px 1em 0px 1em;}\n   a {text-decoration: none;}\n";
        let mut out = format!(
            "{DOCTYPE}<html>\n <head>\n  <title>Listing of {0}</title>\n{1} </head>\n <body>\n  \
             <h1 id=\"title\">Listing of {0}</h1>\n  <table id=\"listing\">\n   <tr id=\"heading\">\n    \
             <th class=\"colname\">Name</th>\n    <th class=\"colsize\">Size</th>\n    \
             <th class=\"coldate\">Date</th>\n   </tr>\n",
            escape(shown),
            self.style(prefix, STYLE)
        );
        let mut row = |class: &str, href: &str, name: &str, size: &str, date: &str| {
            // Writing into a String does not fail.
            let _ = write!(
                out,
                "   <tr {class}>\n    <td class=\"colname\"><a href=\"{href}\">{}</a></td>\n    \
                 <td class=\"colsize\">{size}</td>\n    <td class=\"coldate\">{date}</td>\n   </tr>\n",
                escape(name)
            );
        };
        let (top, query) = signed.map_or(("", ""), |(top, query)| (top.as_str(), query.as_str()));
        if prefix.len() > top.len() {
            row("id=\"parent\" class=\"item\"", &format!("../{query}"), "../", "&nbsp;", "&nbsp;");
        }
        for item in items {
            if let Item::Prefix(name) = item {
                let name = &name[prefix.len()..];
                row("class=\"item subdir\"", &(relative(name) + query), name, "&nbsp;", "&nbsp;");
            }
        }
        for item in items {
            if let Item::Object(name, entry) = item {
                let name = &name[prefix.len()..];
                let kinds: Vec<String> = entry
                    .content_type
                    .split('/')
                    .map(|k| format!("type-{}", escape(&k.to_ascii_lowercase())))
                    .collect();
                let class = format!("class=\"item {}\"", kinds.join(" "));
                let date = super::listing::time(entry.modified());
                let date = date.split('.').next().unwrap_or_default().replace('T', " ");
                row(&class, &(relative(name) + query), name, &readable(entry.shown_size()), &date);
            }
        }
        out.push_str("  </table>\n </body>\n</html>\n");
        out
    }

    /// What stands in the place of a listing that the owner does not want.
    fn refusal(&self, shown: &str, prefix: &str) -> String {
        const STYLE: &str = "   h1 {font-size: 1em; font-weight: bold;}\n   p {font-size: 2}\n";
        let mut out = format!(
            "{DOCTYPE}<html>\n<head>\n<title>Listing of {}</title>\n{}</head>\n<body>  <h1>Web Listing Disabled</h1>   \
             <p>The owner of this web site has disabled web listing.   <p>If you are the owner of this web site, you can \
             enable web   listing by setting X-Container-Meta-Web-Listings.</p>",
            escape(shown),
            self.style(prefix, STYLE)
        );
        if !self.site.index.is_empty() {
            let _ = write!(
                out,
                "<h1>Index File Not Found</h1>  <p>The owner of this web site has set   \
                 <b>X-Container-Meta-Web-Index: {}</b>.   However, this file is not found.</p>",
                escape(&self.site.index)
            );
        }
        out.push_str(" </body>\n</html>\n");
        out
    }
}

const DOCTYPE: &str = "<!DOCTYPE html>\n";

/// To the same place with a slash behind it, so that a page's relative links are right.
fn moved(call: &Call) -> Response {
    let mut out = HeaderMap::new();
    if let Ok(place) = HeaderValue::from_bytes(format!("{}/", call.url()).as_bytes()) {
        out.insert(header::LOCATION, place);
    }
    (StatusCode::MOVED_PERMANENTLY, out).into_response()
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    crate::http::s3::xml::escape_into(&mut out, text);
    out.replace('\'', "&#x27;")
}

fn quote(text: &str) -> String {
    let mut out = String::new();
    crate::http::s3::sigv4::encode(&mut out, text.as_bytes(), true);
    out
}

/// A name as a link beside its page: one that begins with slashes, or climbs, would else lead out of the site.
fn relative(name: &str) -> String {
    format!("./{}", quote(name).replace('.', "%2E"))
}

/// A number of bytes, as `1Mi`.
fn readable(bytes: u64) -> String {
    const SUFFIXES: &str = "KMGTPEZY";
    let (mut value, mut suffix) = (bytes as f64, None);
    let mut left = SUFFIXES.chars();
    while value >= 1024.0 {
        let Some(next) = left.next() else { break };
        (value, suffix) = ((value / 1024.0).round(), Some(next));
    }
    match suffix {
        None => format!("{value:.0}"),
        Some(suffix) => format!("{value:.0}{suffix}i"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Entry;

    fn served(meta: &[(&str, &str)]) -> Served {
        let mut info = ContainerInfo::default();
        for (k, v) in meta {
            info.meta.insert(format!("web-{k}"), (*v).to_owned());
        }
        Served { site: Site::of(&info), wanted: false }
    }

    #[test]
    fn pages_are_escaped() {
        let site = served(&[("listings", "true"), ("listings-css", "a b.css")]);
        let entry = Entry { size: 2048, content_type: "text/<x>".into(), ..Entry::default() };
        let items = [Item::Prefix("p/<s>/".into()), Item::Object("p/<o>\"".into(), entry)];
        let page = site.page("/v1/<p>", "p/", &items, None);
        assert!(page.contains("<title>Listing of /v1/&lt;p&gt;</title>"), "{page}");
        assert!(page.contains("<a href=\"./%3Cs%3E/\">&lt;s&gt;/</a>"), "{page}");
        assert!(page.contains("<a href=\"./%3Co%3E%22\">&lt;o&gt;&quot;</a>"), "{page}");
        assert!(page.contains("type-text type-&lt;x&gt;") && page.contains(">2Ki<"), "{page}");
        assert!(page.contains("href=\"../a%20b.css\""), "{page}");
        assert!(page.contains("href=\"../\">../</a>"));
        assert_eq!(relative("//evil.example"), ".///evil%2Eexample");
        let signed = ("p/".to_owned(), "?sig=1".to_owned());
        let page = site.page("/v1/<p>", "p/", &items, Some(&signed));
        assert!(page.contains("<a href=\"./%3Cs%3E/?sig=1\">") && !page.contains("../\""), "{page}");
    }

    #[test]
    fn sizes() {
        assert_eq!(readable(0), "0");
        assert_eq!(readable(1023), "1023");
        assert_eq!(readable(1024), "1Ki");
        assert_eq!(readable(1 << 20), "1Mi");
        assert_eq!(readable(u64::MAX), "16Ei");
    }

    #[test]
    fn what_makes_a_site() {
        assert!(served(&[("index", "i.html")]).site.serves());
        assert!(served(&[("listings", "f")]).site.serves());
        assert!(!served(&[("error", "e.html")]).site.serves());
        assert_eq!(served(&[("listings", "yes")]).site.listings, Some(true));
        assert_eq!(served(&[]).site.folder, "application/directory");
    }
}
