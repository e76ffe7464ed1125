//! FormPost: a web page's form, signed by the account's key, that uploads files straight into a container.
//!
//! The fields come first (`redirect`, `max_file_size`, `max_file_count`, `expires`, `signature`, and `x_delete_at` or
//! `x_delete_after` beside them), then the files. Every file is checked against what was signed before a byte of it is
//! stored. With `redirect` the answer sends the browser there, with the outcome in the query.

use super::error::{SwiftError, SwiftResult};
use super::tempurl::{self, Key};
use super::{Call, cors};
use crate::access::{PUT, Signed};
use crate::http::content::{self, guess_type};
use crate::http::form::{self, Form, FormError, Part};
use crate::http::relay::{paced, relay};
use crate::http::s3::sigv4::encode;
use crate::object::{Body, Condition, NewObject};
use crate::{Need, ObjectError};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use state::Timestamp;
use std::collections::BTreeMap;

/// Most bytes of a field, and fields of a form.
const LONGEST: usize = 4096;
const MOST_FIELDS: usize = 100;

/// Whether a request is a form with files: it then carries its own permission.
pub(super) fn is_form(call: &Call) -> bool {
    call.method == Method::POST
        && !call.container.is_empty()
        && call.header("content-type").and_then(form::boundary).is_some()
}

fn invalid(text: impl Into<String>) -> SwiftError {
    SwiftError::bad_request(format!("FormPost: {}", title(&text.into())))
}

fn unauthorized(text: &str) -> SwiftError {
    SwiftError::unauthorized_for(&format!("FormPost: {}", title(text)))
}

/// What a form says before its files.
#[derive(Debug, Default)]
struct Fields(BTreeMap<String, String>);

impl Fields {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    /// A number; zero where it is not given.
    fn number(&self, name: &str, what: &str) -> SwiftResult<i64> {
        match self.get(name).trim() {
            "" => Ok(0),
            text => text.parse().map_err(|_| invalid(format!("{what} not an integer"))),
        }
    }

    /// The text that the form's signature is over.
    fn signed(&self, path: &str) -> String {
        let or_zero = |name: &str| match self.get(name) {
            "" => "0".to_owned(),
            text => text.to_owned(),
        };
        let (size, count, expires) =
            (or_zero("max_file_size"), or_zero("max_file_count"), or_zero("expires"));
        format!("{path}\n{}\n{size}\n{count}\n{expires}", self.get("redirect"))
    }

    /// Whether the form may upload now; then the most bytes of a file.
    fn check(&self, path: &str, keys: &[Key]) -> SwiftResult<(u64, Signed)> {
        let most = self.number("max_file_size", "max_file_size")?;
        if self.number("expires", "expired")? < Timestamp::now().secs() {
            return Err(unauthorized("form expired"));
        }
        let text = self.signed(path);
        let signer = keys.iter().find(|k| tempurl::matches(&k.key, &text, self.get("signature")));
        let signer = signer.ok_or_else(|| unauthorized("invalid signature"))?;
        Ok((u64::try_from(most).unwrap_or(0), signer.whose.clone()))
    }

    fn delete_at(&self) -> SwiftResult<Option<i64>> {
        let unix = |name: &str| format!("{name} not an integer: Unix timestamp required.");
        let now = Timestamp::now().secs();
        let after = self.0.get("x_delete_after").filter(|t| !t.is_empty());
        if let Some(text) = after {
            let after: i64 = text
                .trim()
                .parse()
                .map_err(|_| invalid("x_delete_after not an integer: Number of seconds required."))?;
            return Ok(Some(now.saturating_add(after.max(0))));
        }
        match self.0.get("x_delete_at").filter(|t| !t.is_empty()) {
            None => Ok(None),
            Some(text) => text.trim().parse().map(Some).map_err(|_| invalid(unix("x_delete_at"))),
        }
    }
}

/// How it went.
struct Outcome {
    status: StatusCode,
    message: &'static str,
    redirect: String,
}

pub(super) async fn upload(call: &Call) -> SwiftResult<Response> {
    let boundary = call.header("content-type").and_then(form::boundary).unwrap_or_default();
    let idle = call.store.body_idle();
    let mut form = Form::new(paced(content::frames(call.take_body()), idle), &boundary);
    let outcome = run(call, &mut form).await;
    if !outcome.as_ref().is_ok_and(|o| o.status.is_success()) {
        form.drain().await;
    }
    outcome.map(Outcome::respond).map_err(Failure::told)
}

enum Failure {
    Told(SwiftError),
    Form(FormError),
}

impl Failure {
    fn told(self) -> SwiftError {
        match self {
            Failure::Told(e) => e,
            Failure::Form(FormError::Invalid(text)) => invalid(text),
            Failure::Form(FormError::Body(e)) => e.into(),
        }
    }
}

impl From<SwiftError> for Failure {
    fn from(e: SwiftError) -> Self {
        Failure::Told(e)
    }
}

impl From<FormError> for Failure {
    fn from(e: FormError) -> Self {
        Failure::Form(e)
    }
}

async fn run(call: &Call, form: &mut Form) -> Result<Outcome, Failure> {
    let keys = tempurl::keys(call).await?;
    let path = percent_encoding::percent_decode_str(&call.path).decode_utf8_lossy().into_owned();
    let mut fields = Fields::default();
    let mut outcome =
        Outcome { status: StatusCode::BAD_REQUEST, message: "no files to process", redirect: String::new() };
    let mut files = 0;
    while let Some(part) = form.next().await? {
        let Some(filename) = part.filename.clone().filter(|f| !f.is_empty()) else {
            if fields.0.len() == MOST_FIELDS {
                return Err(invalid("too many fields").into());
            }
            fields.0.insert(part.name.to_ascii_lowercase(), form.text(LONGEST).await?);
            continue;
        };
        files += 1;
        if files > fields.number("max_file_count", "max_file_count")? {
            (outcome.status, outcome.message) = (StatusCode::BAD_REQUEST, "max file count exceeded");
            break;
        }
        let allowed = fields.check(&path, &keys)?;
        let name = object_name(call, &filename);
        match store(call, form, &fields, part, &name, allowed).await? {
            Ok(()) => (outcome.status, outcome.message) = (StatusCode::CREATED, ""),
            Err(ObjectError::TooLarge(_)) => return Err(invalid("max_file_size exceeded").into()),
            Err(e) => {
                let status = SwiftError::from(e).status();
                outcome.status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                outcome.message = "";
                break;
            }
        }
    }
    outcome.redirect = fields.get("redirect").to_owned();
    Ok(outcome)
}

/// The request's path is what the names of the files begin with.
fn object_name(call: &Call, filename: &str) -> String {
    format!("{}{filename}", call.object)
}

/// Stores one file; the inner error is storage's.
async fn store(
    call: &Call,
    form: &mut Form,
    fields: &Fields,
    part: Part,
    name: &str,
    (most, signed): (u64, Signed),
) -> Result<Result<(), ObjectError>, Failure> {
    // The form says what type its files are of, or else each file.
    let said = fields.0.get("content-type").cloned().or(part.content_type);
    let encoding = fields.0.get("content-encoding").cloned().or(part.content_encoding);
    let new = NewObject {
        name: name.to_owned(),
        content_type: said.filter(|t| !t.is_empty()).unwrap_or_else(|| guess_type(name).to_owned()),
        headers: encoding.map(|e| ("content-encoding".to_owned(), e)).into_iter().collect(),
        delete_at: fields.delete_at()?,
        ..NewObject::default()
    };
    let mut access = call.access.asking(PUT, name);
    access.signed = Some(signed);
    let container = match call.store.container(&access, &call.project, &call.container, Need::Write).await {
        Ok(container) => container,
        Err(e) => return Ok(Err(e)),
    };
    let (relay, stream) = relay();
    let put = call.store.put_object(&container, new, Body::new(stream, None), Condition::Always);
    let pump = async move {
        let mut size = 0;
        loop {
            match form.piece().await {
                Ok(Some(piece)) => {
                    size += piece.len() as u64;
                    if size > most {
                        relay.fail(ObjectError::TooLarge(most)).await;
                        return Ok(());
                    }
                    if !relay.send(piece).await {
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                Err(e) => {
                    relay.fail(ObjectError::BrokenBody("the form ends too early".into())).await;
                    return Err(e);
                }
            }
        }
    };
    let (pumped, put) = tokio::join!(pump, put);
    pumped?;
    Ok(put.map(drop))
}

impl Outcome {
    fn respond(self) -> Response {
        let mut out = HeaderMap::new();
        let told = |status: StatusCode| {
            format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default())
        };
        if self.redirect.is_empty() {
            let mut body = told(self.status);
            if !self.message.is_empty() {
                body.push_str("\r\nFormPost: ");
                body.push_str(&title(self.message));
            }
            cors::set(&mut out, header::CONTENT_TYPE, "text/plain");
            return (self.status, out, body).into_response();
        }
        let mut message = String::new();
        encode(&mut message, self.message.as_bytes(), true);
        let joint = if self.redirect.contains('?') { '&' } else { '?' };
        let to = format!("{}{joint}status={}&message={message}", self.redirect, self.status.as_u16());
        let mut shown = String::new();
        crate::http::s3::xml::escape_into(&mut shown, &to);
        let body = format!("<html><body><p><a href=\"{shown}\">Click to continue...</a></p></body></html>");
        cors::set(&mut out, header::CONTENT_TYPE, "text/html; charset=UTF-8");
        match HeaderValue::from_bytes(to.as_bytes()) {
            Ok(to) => drop(out.insert(header::LOCATION, to)),
            // What no header can hold, no browser can be sent to.
            Err(_) => return invalid("invalid redirect").respond("-", false),
        }
        (StatusCode::SEE_OTHER, out, body).into_response()
    }
}

/// Every word with a capital, as upstream shows its messages.
fn title(text: &str) -> String {
    let mut inside = false;
    let capital = |c: char| {
        let first = !std::mem::replace(&mut inside, c.is_alphabetic());
        if first { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
    };
    text.chars().map(capital).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Fields {
        Fields(list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn what_is_signed() {
        let all = fields(&[
            ("redirect", "http://back"),
            ("max_file_size", "104857600"),
            ("max_file_count", "10"),
            ("expires", "1503124957"),
        ]);
        let text = all.signed("/v1/AUTH_a/c/p");
        assert_eq!(text, "/v1/AUTH_a/c/p\nhttp://back\n104857600\n10\n1503124957");
        assert_eq!(fields(&[]).signed("/v1/AUTH_a/c"), "/v1/AUTH_a/c\n\n0\n0\n0");
    }

    #[test]
    fn forms_that_may_not() {
        let told = |list: &[(&str, &str)]| {
            let whose = Signed { project: "p".into(), container: None };
            let key = Key { key: "key".into(), whose };
            fields(list).check("/p", &[key]).map_err(|e| (e.status(), e.text()))
        };
        let (late, now) = ("1", "99999999999");
        assert_eq!(told(&[("expires", late)]), Err((401, "FormPost: Form Expired".into())));
        assert_eq!(told(&[("expires", "x")]), Err((400, "FormPost: Expired Not An Integer".into())));
        assert_eq!(told(&[("expires", now)]), Err((401, "FormPost: Invalid Signature".into())));
        let size = told(&[("max_file_size", "x")]);
        assert_eq!(size, Err((400, "FormPost: Max_File_Size Not An Integer".into())));
        assert!(fields(&[("expires", now)]).check("/p", &[]).is_err(), "no key");
        assert_eq!(title("max file count exceeded"), "Max File Count Exceeded");
    }
}
