//! `?notification`: whom a bucket tells of its events, read, checked and shown.

use super::config::container as owned;
use super::error::{self, S3Error, S3Result, malformed_xml};
use super::xml::{Node, Xml};
use super::{Call, bare, xml_reply};
use crate::notify::{self, Notification, Topic};
use crate::{ContainerInfo, ObjectError};
use axum::response::Response;
use http::StatusCode;

const MOST: usize = 100;

pub(super) async fn answer(call: &Call) -> S3Result<Response> {
    let container = owned(call).await?;
    let wishes = match call.method.as_str() {
        "GET" => {
            return Ok(show(&container.info.notifications, call.param("notification").unwrap_or_default()));
        }
        "PUT" => {
            let wishes = read(&call.small_body().await?)?;
            check_topics(call, &wishes, &container.project_id).await?;
            wishes
        }
        // S3 has no such request; other stores do, and clients of theirs use it.
        "DELETE" => match call.param("notification").filter(|id| !id.is_empty()) {
            None => Vec::new(),
            Some(id) => container.info.notifications.iter().filter(|n| n.id != id).cloned().collect(),
        },
        _ => return Err(error::method_not_allowed()),
    };
    let rule = |info: &mut ContainerInfo| {
        info.notifications.clone_from(&wishes);
        Ok(())
    };
    call.store.change_container(&call.access, &container.project_id, &container.name, &rule).await?;
    Ok(bare(if call.method == http::Method::DELETE { StatusCode::NO_CONTENT } else { StatusCode::OK }))
}

/// A topic must be there, and be of the bucket's project.
async fn check_topics(call: &Call, wishes: &[Notification], project: &str) -> S3Result<()> {
    for wish in wishes {
        let arn = wish.topic.to_string();
        let found = match wish.topic.project == project {
            true => call.store.topic(&call.access, &arn).await,
            false => Err(ObjectError::NoSuchTopic),
        };
        match found {
            Ok(_) => {}
            Err(ObjectError::NoSuchTopic | ObjectError::Forbidden) => {
                let text = "Unable to validate the following destination configurations";
                return Err(S3Error::invalid_argument(text)
                    .with("ArgumentName", "Topic")
                    .with("ArgumentValue", arn));
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

pub(super) fn read(body: &[u8]) -> S3Result<Vec<Notification>> {
    let node = Node::parse(body, "NotificationConfiguration")?;
    let mut wishes: Vec<Notification> = Vec::new();
    for child in &node.children {
        let wish = match child.name.as_str() {
            "TopicConfiguration" => read_wish(child)?,
            "QueueConfiguration" | "CloudFunctionConfiguration" | "EventBridgeConfiguration" => {
                return Err(S3Error::not_implemented(&format!("{} (events go to topics)", child.name)));
            }
            _ => return Err(malformed_xml()),
        };
        if wishes.iter().any(|w| w.id == wish.id) {
            return Err(S3Error::invalid_argument("Configuration Ids must be unique"));
        }
        wishes.push(wish);
    }
    match wishes.len() > MOST {
        true => Err(S3Error::invalid_argument(format!("There can be at most {MOST} configurations"))),
        false => Ok(wishes),
    }
}

fn read_wish(node: &Node) -> S3Result<Notification> {
    let id = match node.value("Id").filter(|id| !id.is_empty()) {
        Some(id) if id.chars().count() > 255 => return Err(S3Error::invalid_argument("The Id is too long")),
        Some(id) => id.to_owned(),
        None => uuid::Uuid::new_v4().to_string(),
    };
    let arn = node.value("Topic").map(str::trim).ok_or_else(malformed_xml)?;
    let topic = Topic::parse(arn)
        .ok_or_else(|| S3Error::invalid_argument("The ARN could not be parsed").with("ArgumentValue", arn))?;
    let events: Vec<String> = node.all("Event").map(|e| e.text.trim().to_owned()).collect();
    if let Some(odd) = events.iter().find(|e| !notify::is_event(e)) {
        let text = "A specified event is not supported for notifications.";
        return Err(S3Error::invalid_argument(text).with("ArgumentName", "Event").with("ArgumentValue", odd));
    }
    let mut wish = Notification { id, topic, events, prefix: None, suffix: None };
    let Some(filter) = node.child("Filter") else { return Ok(wish) };
    if let Some(odd) = filter.children.iter().find(|c| c.name != "S3Key") {
        return Err(S3Error::not_implemented(&format!("A filter of {}", odd.name)));
    }
    for rule in filter.all("S3Key").flat_map(|k| k.all("FilterRule")) {
        let value = rule.value("Value").ok_or_else(malformed_xml)?.to_owned();
        let name = rule.value("Name").ok_or_else(malformed_xml)?;
        let slot = match name.to_ascii_lowercase().as_str() {
            "prefix" => &mut wish.prefix,
            "suffix" => &mut wish.suffix,
            _ => return Err(S3Error::invalid_argument("filter rule name must be either prefix or suffix")),
        };
        if slot.replace(value).is_some() {
            let text =
                format!("Cannot specify more than one {} rule in a filter.", name.to_ascii_lowercase());
            return Err(S3Error::invalid_argument(text));
        }
    }
    Ok(wish)
}

/// All of them, or the one that is asked for.
fn show(wishes: &[Notification], id: &str) -> Response {
    let mut xml = Xml::new();
    xml.root("NotificationConfiguration");
    for wish in wishes.iter().filter(|w| id.is_empty() || w.id == id) {
        xml.open("TopicConfiguration").text("Id", &wish.id).text("Topic", &wish.topic.to_string());
        for event in &wish.events {
            xml.text("Event", event);
        }
        if wish.prefix.is_some() || wish.suffix.is_some() {
            xml.open("Filter").open("S3Key");
            for (name, value) in [("Prefix", &wish.prefix), ("Suffix", &wish.suffix)] {
                if let Some(value) = value {
                    xml.open("FilterRule").text("Name", name).text("Value", value).close("FilterRule");
                }
            }
            xml.close("S3Key").close("Filter");
        }
        xml.close("TopicConfiguration");
    }
    xml.close("NotificationConfiguration");
    xml_reply(StatusCode::OK, xml)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(inside: &str) -> Result<Vec<Notification>, &'static str> {
        read(format!("<NotificationConfiguration>{inside}</NotificationConfiguration>").as_bytes())
            .map_err(|e| e.code)
    }

    fn topic(inside: &str) -> Result<Vec<Notification>, &'static str> {
        code(&format!("<TopicConfiguration><Topic>arn:aws:sns:r:p:t</Topic>{inside}</TopicConfiguration>"))
    }

    #[test]
    fn wishes_are_read() {
        assert_eq!(code(""), Ok(Vec::new()));
        let rule = |name: &str| format!("<FilterRule><Name>{name}</Name><Value>{name}/</Value></FilterRule>");
        let both = format!("<Filter><S3Key>{}{}</S3Key></Filter>", rule("prefix"), rule("Suffix"));
        let wish = topic(&format!("<Event>s3:ObjectCreated:*</Event>{both}")).unwrap().remove(0);
        assert_eq!((wish.prefix.as_deref(), wish.suffix.as_deref()), (Some("prefix/"), Some("Suffix/")));
        assert_eq!(wish.events, ["s3:ObjectCreated:*"]);
        assert_eq!(topic("<Event>s3:Nonsense</Event>"), Err("InvalidArgument"));
        assert_eq!(topic("<Filter><S3Tags/></Filter>"), Err("NotImplemented"));
        let twice = format!("<Filter><S3Key>{0}{0}</S3Key></Filter>", rule("prefix"));
        assert_eq!(topic(&twice), Err("InvalidArgument"));
        let regex = format!("<Filter><S3Key>{}</S3Key></Filter>", rule("regex"));
        assert_eq!(topic(&regex), Err("InvalidArgument"));
        assert_eq!(code("<QueueConfiguration/>"), Err("NotImplemented"));
        assert_eq!(code("<TopicConfiguration/>"), Err("MalformedXML"));
        let named = "<TopicConfiguration><Id>a</Id><Topic>arn:aws:sns:r:p:t</Topic></TopicConfiguration>";
        assert_eq!(code(&format!("{named}{named}")), Err("InvalidArgument"));
    }

    proptest::proptest! {
        #[test]
        fn noise_never_panics(noise: Vec<u8>, inside in "(<[A-Z][A-Za-z]{0,12}/?>|</[A-Z][A-Za-z]{0,12}>|[a-z0-9:-]{0,6}){0,12}") {
            let _ = read(&noise);
            let _ = topic(&inside);
        }
    }
}
