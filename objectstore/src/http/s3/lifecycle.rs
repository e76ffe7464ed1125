//! `?lifecycle`: a bucket's rules, read, checked and shown; and what they mean for one object.

use super::config::container as owned;
use super::error::{self, S3Error, S3Result, malformed_xml};
use super::list::time;
use super::sigv4::encode;
use super::xml::{Node, Xml};
use super::{Call, bare, xml_reply};
use crate::container::Container;
use crate::http::content::http_date;
use crate::lifecycle::{
    self, Expiration, Filter, FilterForm, LifecycleRule, Noncurrent, NoncurrentTransition, SmallMoves,
    Transition, When,
};
use crate::{ContainerInfo, ObjectMeta};
use axum::response::Response;
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use http::{HeaderMap, HeaderValue, StatusCode};
use state::Timestamp;

const MOST_RULES: usize = 1000;
const LONGEST_ID: usize = 255;
const DAY_US: i64 = 86_400_000_000;
/// Says which objects are too small to move.
const SMALL_MOVES: &str = "x-amz-transition-default-minimum-object-size";

pub(super) async fn answer(call: &Call) -> S3Result<Response> {
    let container = owned(call).await?;
    let (rules, small, status) = match call.method.as_str() {
        "GET" if container.info.lifecycle.is_empty() => {
            return Err(S3Error::not_configured(
                "NoSuchLifecycleConfiguration",
                "The lifecycle configuration does not exist",
            ));
        }
        "GET" => return Ok(told(show(&container.info.lifecycle), container.info.small_moves)),
        "PUT" => {
            let rules = read(&call.small_body().await?)?;
            check_classes(call, &rules)?;
            (rules, small_moves(call)?, StatusCode::OK)
        }
        "DELETE" => (Vec::new(), SmallMoves::default(), StatusCode::NO_CONTENT),
        _ => return Err(error::method_not_allowed()),
    };
    let rule = |info: &mut ContainerInfo| {
        info.lifecycle.clone_from(&rules);
        info.small_moves = small;
        Ok(())
    };
    call.store.change_container(&call.access, &container.project_id, &container.name, &rule).await?;
    match status {
        StatusCode::OK => Ok(told(bare(status), small)),
        status => Ok(bare(status)),
    }
}

fn small_moves(call: &Call) -> S3Result<SmallMoves> {
    match call.header(SMALL_MOVES) {
        None | Some("all_storage_classes_128K") => Ok(SmallMoves::None),
        Some("varies_by_storage_class") => Ok(SmallMoves::Archives),
        Some(other) => Err(S3Error::invalid_request(format!(
            "Invalid TransitionDefaultMinimumObjectSize found: {other}"
        ))),
    }
}

fn told(mut response: Response, small: SmallMoves) -> Response {
    let text = match small {
        SmallMoves::None => "all_storage_classes_128K",
        SmallMoves::Archives => "varies_by_storage_class",
    };
    response.headers_mut().insert(SMALL_MOVES, HeaderValue::from_static(text));
    response
}

fn bad(message: impl Into<String>) -> S3Error {
    S3Error::invalid_argument(message)
}

/// Refuses classes that there are not.
fn check_classes(call: &Call, rules: &[LifecycleRule]) -> S3Result<()> {
    let classes = rules.iter().flat_map(|r| {
        let old = r.noncurrent_transitions.iter().map(|t| &t.class);
        r.transitions.iter().map(|t| &t.class).chain(old)
    });
    match classes.into_iter().find(|c| !call.store.policies().has_class(c)) {
        Some(class) => Err(bad(format!("There is no storage class {class}."))),
        None => Ok(()),
    }
}

pub(super) fn read(body: &[u8]) -> S3Result<Vec<LifecycleRule>> {
    let node = Node::parse(body, "LifecycleConfiguration")?;
    let mut rules: Vec<LifecycleRule> = Vec::new();
    for rule in node.all("Rule") {
        let rule = read_rule(rule)?;
        if rules.iter().any(|r| r.id == rule.id) {
            return Err(bad("Rule ID must be unique. Found same ID for more than one rule."));
        }
        rules.push(rule);
    }
    match rules.len() {
        1..=MOST_RULES => Ok(rules),
        _ => Err(malformed_xml()),
    }
}

fn read_rule(node: &Node) -> S3Result<LifecycleRule> {
    let id = match node.value("ID").filter(|id| !id.is_empty()) {
        Some(id) if id.chars().count() > LONGEST_ID => {
            return Err(bad("ID length should not exceed allowed limit of 255"));
        }
        Some(id) => id.to_owned(),
        None => uuid::Uuid::new_v4().to_string(),
    };
    let enabled = match node.value("Status") {
        Some("Enabled") => true,
        Some("Disabled") => false,
        _ => return Err(malformed_xml()),
    };
    let rule = LifecycleRule {
        id,
        enabled,
        filter: read_filter(node)?,
        expiration: node.child("Expiration").map(read_expiration).transpose()?,
        noncurrent: node
            .child("NoncurrentVersionExpiration")
            .map(|n| read_noncurrent(n, "NoncurrentVersionExpiration"))
            .transpose()?,
        transitions: node.all("Transition").map(read_transition).collect::<S3Result<_>>()?,
        noncurrent_transitions: node
            .all("NoncurrentVersionTransition")
            .map(read_noncurrent_transition)
            .collect::<S3Result<_>>()?,
        abort_days: node
            .child("AbortIncompleteMultipartUpload")
            .map(|a| days(a, "DaysAfterInitiation", "AbortIncompleteMultipartUpload"))
            .transpose()?,
    };
    let moves = !rule.transitions.is_empty() || !rule.noncurrent_transitions.is_empty();
    if rule.expiration.is_none() && rule.noncurrent.is_none() && rule.abort_days.is_none() && !moves {
        return Err(S3Error::invalid_request("At least one action needs to be specified in a rule"));
    }
    check_moves(&rule)?;
    let filter = &rule.filter;
    for (given, what) in [
        (rule.abort_days.is_some(), "AbortIncompleteMultipartUpload"),
        (rule.expiration == Some(Expiration::MarkersOnly), "ExpiredObjectDeleteMarker"),
    ] {
        if given && !filter.tags.is_empty() {
            return Err(S3Error::invalid_request(format!("{what} cannot be specified with Tags.")));
        }
        if given && (filter.larger.is_some() || filter.smaller.is_some()) {
            return Err(S3Error::invalid_request(format!("{what} cannot be specified with Object Size.")));
        }
    }
    Ok(rule)
}

/// Moves come before the end, each to a class of its own, and all are counted alike.
fn check_moves(rule: &LifecycleRule) -> S3Result<()> {
    let mut classes: Vec<&str> = rule.transitions.iter().map(|t| t.class.as_str()).collect();
    let mut old: Vec<&str> = rule.noncurrent_transitions.iter().map(|t| t.class.as_str()).collect();
    for classes in [&mut classes, &mut old] {
        classes.sort_unstable();
        if classes.windows(2).any(|w| w[0] == w[1]) {
            return Err(S3Error::invalid_request(
                "'StorageClass' must be different for each 'Transition' action",
            ));
        }
    }
    let ends = match rule.expiration {
        Some(Expiration::Days(n)) => Some(When::Days(n)),
        Some(Expiration::Date(at)) => Some(When::Date(at)),
        Some(Expiration::MarkersOnly) | None => None,
    };
    let whens: Vec<When> = rule.transitions.iter().map(|t| t.when).chain(ends).collect();
    let days = whens.iter().filter(|w| matches!(w, When::Days(_))).count();
    if days > 0 && days < whens.len() {
        return Err(S3Error::invalid_request(
            "Found mixed 'Date' and 'Days' based Expiration and Transition actions in lifecycle rule",
        ));
    }
    let late = |t: &Transition| match (t.when, ends) {
        (When::Days(n), Some(When::Days(end))) => n >= end,
        (When::Date(at), Some(When::Date(end))) => at >= end,
        _ => false,
    };
    if rule.transitions.iter().any(late) {
        return Err(bad(
            "'Days' in the Expiration action must be greater than 'Days' in the Transition action",
        ));
    }
    let end = rule.noncurrent.map(|n| n.days);
    if rule.noncurrent_transitions.iter().any(|t| end.is_some_and(|end| t.after.days >= end)) {
        return Err(bad(
            "'NoncurrentDays' in the NoncurrentVersionExpiration action must be greater than 'NoncurrentDays' in the \
             NoncurrentVersionTransition action",
        ));
    }
    Ok(())
}

fn read_class(node: &Node) -> S3Result<String> {
    let class = node.value("StorageClass").map(str::trim).filter(|c| !c.is_empty());
    class.map(str::to_owned).ok_or_else(malformed_xml)
}

fn read_transition(node: &Node) -> S3Result<Transition> {
    let when = match (node.value("Days"), node.value("Date")) {
        (Some(text), None) => match number::<i64>(text)? {
            n @ 0..=0x7fff_ffff => When::Days(u32::try_from(n).unwrap_or(0)),
            _ => return Err(bad("'Days' in Transition action must be nonnegative")),
        },
        (None, Some(text)) => When::Date(midnight(text)?),
        _ => return Err(malformed_xml()),
    };
    Ok(Transition { when, class: read_class(node)? })
}

fn read_noncurrent_transition(node: &Node) -> S3Result<NoncurrentTransition> {
    let after = read_noncurrent(node, "NoncurrentVersionTransition")?;
    Ok(NoncurrentTransition { after, class: read_class(node)? })
}

fn number<T: std::str::FromStr>(text: &str) -> S3Result<T> {
    text.trim().parse().map_err(|_| malformed_xml())
}

/// A number of days in an action; one at least.
fn days(node: &Node, element: &str, action: &str) -> S3Result<u32> {
    let n: i64 = number(node.value(element).ok_or_else(malformed_xml)?)?;
    match u32::try_from(n) {
        Ok(n) if n > 0 && n <= i32::MAX as u32 => Ok(n),
        _ => Err(bad(format!("'{element}' for {action} action must be a positive integer"))),
    }
}

fn read_filter(rule: &Node) -> S3Result<Filter> {
    let (own, filter) = (rule.child("Prefix"), rule.child("Filter"));
    let filter = match (own, filter) {
        (Some(prefix), None) => {
            let prefix = Some(prefix.text.clone());
            return Ok(Filter { form: FilterForm::Prefix, prefix, ..Filter::default() });
        }
        (None, Some(filter)) => filter,
        _ => return Err(malformed_xml()),
    };
    let (form, inside) = match filter.child("And") {
        Some(and) if filter.children.len() == 1 => (FilterForm::And, and),
        None if filter.children.len() <= 1 => (FilterForm::Single, filter),
        _ => return Err(malformed_xml()),
    };
    if form == FilterForm::And && inside.children.len() < 2 {
        return Err(malformed_xml());
    }
    let mut out = Filter { form, ..Filter::default() };
    for child in &inside.children {
        match child.name.as_str() {
            "Prefix" => out.prefix = Some(child.text.clone()),
            "Tag" => {
                let (Some(k), Some(v)) = (child.value("Key"), child.value("Value")) else {
                    return Err(malformed_xml());
                };
                if out.tags.iter().any(|(key, _)| key == k) {
                    return Err(S3Error::invalid_request("Duplicate Tag Keys are not allowed."));
                }
                out.tags.push((k.to_owned(), v.to_owned()));
            }
            "ObjectSizeGreaterThan" => out.larger = Some(number(&child.text)?),
            "ObjectSizeLessThan" => out.smaller = Some(number(&child.text)?),
            _ => return Err(malformed_xml()),
        }
    }
    if out.smaller == Some(0) {
        return Err(S3Error::invalid_request("'ObjectSizeLessThan' should be at least 1."));
    }
    if let (Some(larger), Some(smaller)) = (out.larger, out.smaller)
        && larger >= smaller
    {
        return Err(S3Error::invalid_request(
            "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'.",
        ));
    }
    Ok(out)
}

fn read_expiration(node: &Node) -> S3Result<Expiration> {
    match (node.value("Days"), node.value("Date"), node.value("ExpiredObjectDeleteMarker")) {
        (Some(_), None, None) => days(node, "Days", "Expiration").map(Expiration::Days),
        (None, Some(text), None) => midnight(text).map(Expiration::Date),
        (None, None, Some("true")) => Ok(Expiration::MarkersOnly),
        _ => Err(malformed_xml()),
    }
}

fn midnight(text: &str) -> S3Result<i64> {
    let at = date(text).ok_or_else(malformed_xml)?;
    match at.rem_euclid(DAY_US) {
        0 => Ok(at),
        _ => Err(bad("'Date' must be at midnight GMT")),
    }
}

/// ISO 8601, in the forms that clients send.
fn date(text: &str) -> Option<i64> {
    let text = text.trim();
    let zoned = DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_micros());
    zoned
        .or_else(|| Some(text.parse::<NaiveDateTime>().ok()?.and_utc().timestamp_micros()))
        .or_else(|| Some(text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros()))
}

fn read_noncurrent(node: &Node, action: &str) -> S3Result<Noncurrent> {
    let keep = match node.value("NewerNoncurrentVersions") {
        None => 0,
        Some(text) => match number::<i64>(text)? {
            n @ 1..=100 => u32::try_from(n).unwrap_or(0),
            _ => {
                return Err(bad(format!(
                    "'NewerNoncurrentVersions' for {action} action must be between 1 and 100"
                )));
            }
        },
    };
    Ok(Noncurrent { days: days(node, "NoncurrentDays", action)?, keep })
}

fn show_noncurrent(xml: &mut Xml, noncurrent: &Noncurrent) {
    xml.text("NoncurrentDays", &noncurrent.days.to_string());
    if noncurrent.keep > 0 {
        xml.text("NewerNoncurrentVersions", &noncurrent.keep.to_string());
    }
}

fn show(rules: &[LifecycleRule]) -> Response {
    let mut xml = Xml::new();
    xml.root("LifecycleConfiguration");
    for rule in rules {
        xml.open("Rule").text("ID", &rule.id);
        show_filter(&mut xml, &rule.filter);
        xml.text("Status", if rule.enabled { "Enabled" } else { "Disabled" });
        if let Some(expiration) = &rule.expiration {
            xml.open("Expiration");
            match expiration {
                Expiration::Days(n) => xml.text("Days", &n.to_string()),
                Expiration::Date(at) => xml.text("Date", &time(Timestamp(*at))),
                Expiration::MarkersOnly => xml.text("ExpiredObjectDeleteMarker", "true"),
            };
            xml.close("Expiration");
        }
        for t in &rule.transitions {
            xml.open("Transition");
            match t.when {
                When::Days(n) => xml.text("Days", &n.to_string()),
                When::Date(at) => xml.text("Date", &time(Timestamp(at))),
            };
            xml.text("StorageClass", &t.class).close("Transition");
        }
        for t in &rule.noncurrent_transitions {
            show_noncurrent(xml.open("NoncurrentVersionTransition"), &t.after);
            xml.text("StorageClass", &t.class).close("NoncurrentVersionTransition");
        }
        if let Some(noncurrent) = &rule.noncurrent {
            show_noncurrent(xml.open("NoncurrentVersionExpiration"), noncurrent);
            xml.close("NoncurrentVersionExpiration");
        }
        if let Some(days) = rule.abort_days {
            xml.open("AbortIncompleteMultipartUpload").text("DaysAfterInitiation", &days.to_string());
            xml.close("AbortIncompleteMultipartUpload");
        }
        xml.close("Rule");
    }
    xml.close("LifecycleConfiguration");
    xml_reply(StatusCode::OK, xml)
}

fn show_filter(xml: &mut Xml, filter: &Filter) {
    if filter.form == FilterForm::Prefix {
        xml.text("Prefix", filter.prefix.as_deref().unwrap_or_default());
        return;
    }
    xml.open("Filter");
    if filter.form == FilterForm::And {
        xml.open("And");
    }
    xml.text_opt("Prefix", filter.prefix.as_deref());
    for (key, value) in &filter.tags {
        xml.open("Tag").text("Key", key).text("Value", value).close("Tag");
    }
    xml.text_opt("ObjectSizeGreaterThan", filter.larger.map(|n| n.to_string()).as_deref());
    xml.text_opt("ObjectSizeLessThan", filter.smaller.map(|n| n.to_string()).as_deref());
    if filter.form == FilterForm::And {
        xml.close("And");
    }
    xml.close("Filter");
}

fn by_rule(at: Timestamp, what: &str, id: &str) -> Option<HeaderValue> {
    let mut encoded = String::new();
    encode(&mut encoded, id.as_bytes(), true);
    HeaderValue::from_str(&format!("{what}=\"{}\", rule-id=\"{encoded}\"", http_date(at.secs()))).ok()
}

/// Says when the latest version of an object will go.
pub(super) fn tell(out: &mut HeaderMap, call: &Call, container: &Container, meta: &ObjectMeta) {
    if container.info.lifecycle.is_empty() {
        return;
    }
    let expiry = lifecycle::expiry(&container.info.lifecycle, &call.key, meta, call.store.day());
    if let Some(value) = expiry.and_then(|(at, id)| by_rule(at, "expiry-date", id)) {
        out.insert("x-amz-expiration", value);
    }
}

/// Says when an upload that began now will be given up.
pub(super) fn tell_upload(out: &mut HeaderMap, call: &Call, container: &Container) {
    let aborts =
        |r: &LifecycleRule| Some((r.aborts(&call.key, Timestamp::now(), call.store.day())?, r.id.clone()));
    let Some((at, id)) = container.info.lifecycle.iter().filter_map(aborts).min() else { return };
    if let (Ok(at), Ok(id)) = (HeaderValue::from_str(&http_date(at.secs())), HeaderValue::from_str(&id)) {
        out.insert("x-amz-abort-date", at);
        out.insert("x-amz-abort-rule-id", id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(rules: &str) -> Result<Vec<LifecycleRule>, &'static str> {
        read(format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>").as_bytes())
            .map_err(|e| e.code)
    }

    fn one(inside: &str) -> Result<LifecycleRule, &'static str> {
        code(&format!("<Rule><Status>Enabled</Status>{inside}</Rule>")).map(|mut r| r.remove(0))
    }

    const EXPIRE: &str = "<Expiration><Days>1</Days></Expiration>";

    #[test]
    fn filters_are_read() {
        assert_eq!(one(EXPIRE), Err("MalformedXML"));
        let all = one(&format!("<Filter/>{EXPIRE}")).unwrap();
        assert_eq!(all.filter, Filter::default());
        assert!(!all.id.is_empty());
        let f = one(&format!("<Prefix>a</Prefix>{EXPIRE}")).unwrap().filter;
        assert_eq!((f.form, f.prefix.as_deref()), (FilterForm::Prefix, Some("a")));
        let and = "<And><Prefix>a</Prefix><Tag><Key>k</Key><Value>v</Value></Tag><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></And>";
        let f = one(&format!("<Filter>{and}</Filter>{EXPIRE}")).unwrap().filter;
        assert_eq!((f.form, f.tags.len(), f.larger), (FilterForm::And, 1, Some(5)));
        for bad in [
            "<Filter><Prefix>a</Prefix><ObjectSizeLessThan>3</ObjectSizeLessThan></Filter>",
            "<Filter/><Prefix/>",
            "<Filter><And><Prefix>a</Prefix></And></Filter>",
            "<Filter><Else/></Filter>",
        ] {
            assert_eq!(one(&format!("{bad}{EXPIRE}")), Err("MalformedXML"), "{bad}");
        }
        let sizes = "<Filter><And><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan><ObjectSizeLessThan>5</ObjectSizeLessThan></And></Filter>";
        assert_eq!(one(&format!("{sizes}{EXPIRE}")), Err("InvalidRequest"));
        let none = "<Filter><ObjectSizeLessThan>0</ObjectSizeLessThan></Filter>";
        assert_eq!(one(&format!("{none}{EXPIRE}")), Err("InvalidRequest"));
    }

    #[test]
    fn actions_are_checked() {
        let act = |inside: &str| one(&format!("<Filter/>{inside}"));
        assert_eq!(act(""), Err("InvalidRequest"));
        assert_eq!(act("<Expiration/>"), Err("MalformedXML"));
        assert_eq!(act("<Expiration><Days>0</Days></Expiration>"), Err("InvalidArgument"));
        assert_eq!(
            act("<Expiration><Days>1</Days><Date>2030-01-01</Date></Expiration>"),
            Err("MalformedXML")
        );
        assert_eq!(act("<Expiration><Date>20200101</Date></Expiration>"), Err("MalformedXML"));
        assert_eq!(act("<Expiration><Date>2030-01-01T01:00:00Z</Date></Expiration>"), Err("InvalidArgument"));
        for date in ["2030-01-01T00:00:00Z", "2030-01-01T00:00:00", "2030-01-01", "2030-01-01T00:00:00.000Z"]
        {
            let rule = act(&format!("<Expiration><Date>{date}</Date></Expiration>")).unwrap();
            assert_eq!(rule.expiration, Some(Expiration::Date(1_893_456_000_000_000)), "{date}");
        }
        let newer = |n: &str| {
            act(&format!(
                "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>{n}</NewerNoncurrentVersions></NoncurrentVersionExpiration>"
            ))
        };
        assert_eq!(newer("3").unwrap().noncurrent, Some(Noncurrent { days: 1, keep: 3 }));
        assert_eq!(newer("101"), Err("InvalidArgument"));
        let moves = |days: &str, class: &str| {
            format!("<Transition>{days}<StorageClass>{class}</StorageClass></Transition>")
        };
        let (one_day, date) = ("<Days>1</Days>", "<Date>2030-01-01</Date>");
        let moved = act(&moves(one_day, "COLD")).unwrap().transitions;
        assert_eq!(moved, [Transition { when: When::Days(1), class: "COLD".into() }]);
        assert!(act(&moves("<Days>0</Days>", "COLD")).is_ok() && act(&moves(date, "COLD")).is_ok());
        assert_eq!(act(&moves(&format!("{one_day}{date}"), "COLD")), Err("MalformedXML"));
        assert_eq!(act(&moves("<Date>2030-01-01T01:00:00Z</Date>", "COLD")), Err("InvalidArgument"));
        assert_eq!(act(&moves("<Days>-1</Days>", "COLD")), Err("InvalidArgument"));
        assert_eq!(act(&moves(one_day, "")), Err("MalformedXML"));
        let two = |a: &str, b: &str| act(&format!("{}{}", moves(a, "COLD"), moves(b, "COLDER")));
        assert!(two(one_day, "<Days>2</Days>").is_ok());
        assert_eq!(two(one_day, date), Err("InvalidRequest"));
        assert_eq!(act(&format!("{0}{0}", moves(one_day, "COLD"))), Err("InvalidRequest"));
        assert_eq!(act(&format!("{}{EXPIRE}", moves(one_day, "COLD"))), Err("InvalidArgument"));
        let old = "<NoncurrentVersionTransition><NoncurrentDays>3</NoncurrentDays><StorageClass>COLD</StorageClass></NoncurrentVersionTransition>";
        assert_eq!(act(old).unwrap().noncurrent_transitions[0].after, Noncurrent { days: 3, keep: 0 });
        let tagged = "<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>";
        let abort = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>";
        assert_eq!(one(&format!("{tagged}{abort}")), Err("InvalidRequest"));
        assert_eq!(act(abort).unwrap().abort_days, Some(1));
        let marker = "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>";
        assert_eq!(one(&format!("{tagged}{marker}")), Err("InvalidRequest"));
        assert_eq!(act(marker).unwrap().expiration, Some(Expiration::MarkersOnly));
    }

    #[test]
    fn configurations_are_checked() {
        let rule = |id: &str, status: &str| {
            format!("<Rule><ID>{id}</ID><Filter/><Status>{status}</Status>{EXPIRE}</Rule>")
        };
        assert_eq!(code(""), Err("MalformedXML"));
        assert_eq!(code(&rule("a", "enabled")), Err("MalformedXML"));
        assert_eq!(code(&rule(&"x".repeat(256), "Enabled")), Err("InvalidArgument"));
        assert_eq!(code(&format!("{0}{0}", rule("a", "Enabled"))), Err("InvalidArgument"));
        let two = code(&format!("{}{}", rule("a", "Enabled"), rule("b", "Disabled"))).unwrap();
        assert_eq!(two.iter().map(|r| r.enabled).collect::<Vec<_>>(), [true, false]);
        let many: String = (0..1001).map(|n| rule(&n.to_string(), "Enabled")).collect();
        assert_eq!(code(&many), Err("MalformedXML"));
    }

    proptest::proptest! {
        #[test]
        fn noise_never_panics(noise: Vec<u8>, inside in "(<[A-Z][A-Za-z]{0,12}/?>|</[A-Z][A-Za-z]{0,12}>|[a-z0-9:-]{0,6}){0,12}") {
            let _ = read(&noise);
            let _ = one(&format!("<Filter/>{inside}"));
        }
    }
}
