//! Topics: names of a project for addresses that events go to.

use crate::access::{Access, Need};
use crate::store::{self, topics::Row};
use crate::{ObjectError, ObjectStore};
use serde::{Deserialize, Serialize};
use state::Timestamp;
use std::fmt;
use url::Url;

const LONGEST_NAME: usize = 256;
const LONGEST_TEXT: usize = 4096;

/// A topic's identity: `arn:aws:sns:<region>:<project>:<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Topic {
    pub region: String,
    pub project: String,
    pub name: String,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:aws:sns:{}:{}:{}", self.region, self.project, self.name)
    }
}

impl Topic {
    pub(crate) fn parse(arn: &str) -> Option<Topic> {
        let mut parts = arn.strip_prefix("arn:aws:sns:")?.splitn(3, ':').map(str::to_owned);
        let topic = Topic { region: parts.next()?, project: parts.next()?, name: parts.next()? };
        is_name(&topic.name).then_some(topic)
    }
}

fn is_name(name: &str) -> bool {
    let fit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(fit)
}

/// What is said of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TopicInfo {
    /// Where events go: an `http` or `https` URL. Empty: nowhere.
    pub(crate) endpoint: String,
    /// Sent along with every event.
    pub(crate) opaque: String,
}

impl TopicInfo {
    /// Sets an attribute, as SNS's clients name it.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), ObjectError> {
        let invalid = |text: String| Err(ObjectError::Invalid(text));
        if value.len() > LONGEST_TEXT {
            return invalid(format!("Invalid parameter: {name} is too long"));
        }
        match name {
            "push-endpoint" => {
                let fit = value.is_empty() || Url::parse(value).is_ok_and(|url| is_endpoint(&url));
                if !fit {
                    return invalid("Invalid parameter: push-endpoint must be an http or https URL".into());
                }
                self.endpoint = value.to_owned();
            }
            "OpaqueData" => self.opaque = value.to_owned(),
            // Events are always kept until they are delivered, and certificates are always looked at.
            "persistent" | "verify-ssl" if value.eq_ignore_ascii_case("true") => {}
            "persistent" | "verify-ssl" => {
                return invalid(format!("Invalid parameter: {name} can only be true"));
            }
            other => return invalid(format!("Invalid parameter: {other} is not supported")),
        }
        Ok(())
    }
}

/// Credentials would be shown to whoever may see the topic.
fn is_endpoint(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.host().is_some()
        && url.username().is_empty()
        && url.password().is_none()
}

impl ObjectStore {
    fn own_topic(&self, access: &Access, name: &str) -> Result<Topic, ObjectError> {
        let project = access.project().ok_or(ObjectError::Forbidden)?.to_owned();
        Ok(Topic { region: self.inner.config.s3_region.clone(), project, name: name.to_owned() })
    }

    /// A topic by its ARN, for its project.
    pub(crate) async fn topic(&self, access: &Access, arn: &str) -> Result<Row, ObjectError> {
        let topic = Topic::parse(arn).ok_or(ObjectError::NoSuchTopic)?;
        self.check(access, &topic.project, None, Need::Own)?;
        store::topics::find(&self.inner.db, &topic).await?.ok_or(ObjectError::NoSuchTopic)
    }

    /// Makes a topic, or changes the one that is there.
    pub async fn make_topic(
        &self,
        access: &Access,
        name: &str,
        attributes: &[(String, String)],
    ) -> Result<Topic, ObjectError> {
        if !is_name(name) {
            return Err(ObjectError::Invalid("Invalid parameter: Topic Name".into()));
        }
        let topic = self.own_topic(access, name)?;
        self.check(access, &topic.project, None, Need::Own)?;
        let mut info = TopicInfo::default();
        attributes.iter().try_for_each(|(k, v)| info.set(k, v))?;
        store::topics::put(&self.inner.db, &topic, &info, Timestamp::now()).await?;
        Ok(topic)
    }

    pub(crate) async fn change_topic(
        &self,
        access: &Access,
        arn: &str,
        name: &str,
        value: &str,
    ) -> Result<(), ObjectError> {
        let Row { topic, mut info } = self.topic(access, arn).await?;
        info.set(name, value)?;
        store::topics::put(&self.inner.db, &topic, &info, Timestamp::now()).await
    }

    /// Removes a topic, if it is there. What is on its way to it is not delivered.
    pub async fn delete_topic(&self, access: &Access, arn: &str) -> Result<(), ObjectError> {
        let topic = Topic::parse(arn).ok_or(ObjectError::Invalid("Invalid parameter: TopicArn".into()))?;
        self.check(access, &topic.project, None, Need::Own)?;
        store::topics::delete(&self.inner.db, &topic).await
    }

    /// The topics of the caller's project with names after `after`.
    pub async fn list_topics(
        &self,
        access: &Access,
        after: &str,
        most: usize,
    ) -> Result<Vec<Topic>, ObjectError> {
        let any = self.own_topic(access, "")?;
        self.check(access, &any.project, None, Need::Own)?;
        store::topics::list(&self.inner.db, &any, after, most).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_read_back() {
        let topic = Topic { region: "RegionOne".into(), project: "p".into(), name: "a-b_1".into() };
        assert_eq!(Topic::parse(&topic.to_string()), Some(topic));
        for bad in ["", "arn:aws:sns:r:p", "arn:aws:sns:r:p:", "arn:aws:sns:r:p:a:b", "arn:aws:sqs:r:p:t"] {
            assert_eq!(Topic::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn attributes_are_checked() {
        let mut info = TopicInfo::default();
        assert!(info.set("push-endpoint", "https://example.org:8443/x?y=z").is_ok());
        assert!(info.set("persistent", "True").is_ok() && info.set("OpaqueData", "mine").is_ok());
        for (name, value) in [
            ("push-endpoint", "amqp://example.org"),
            ("push-endpoint", "http://user:secret@example.org"),
            ("push-endpoint", "example.org"),
            ("verify-ssl", "false"),
            ("kafka-ack-level", "none"),
            ("OpaqueData", &"x".repeat(4097)),
        ] {
            assert!(info.set(name, value).is_err(), "{name} {value}");
        }
        assert_eq!(info.opaque, "mine");
    }
}
