//! What an event tells: kept in the index until it is delivered, and then as S3's JSON ("Event message structure").

use super::Notification;
use super::topic::Topic;
use crate::cause::Cause;
use crate::container::Container;
use crate::index::entry::Entry;
use chrono::{DateTime, SecondsFormat};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use state::Timestamp;

/// What of a key stands in a message as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// An event on its way to one topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Event {
    /// The id of the container's wish.
    wish: String,
    pub(super) topic: Topic,
    /// `ObjectCreated:Put`
    event: String,
    bucket: String,
    owner: String,
    key: String,
    size: Option<u64>,
    etag: Option<String>,
    version: Option<String>,
    /// Later events of one key are greater.
    sequencer: String,
    /// Microseconds since the epoch.
    pub(super) at: i64,
    who: String,
    source: String,
    request_id: String,
}

impl Event {
    pub(super) fn of(
        container: &Container,
        wish: &Notification,
        event: &str,
        key: &str,
        entry: Option<&Entry>,
        cause: &Cause,
        now: Timestamp,
    ) -> Event {
        // Of what is gone its version alone is told, as S3 does.
        let there = entry.filter(|e| !e.marker && !event.ends_with("Delete"));
        let versioned = container.info.versioning.is_set();
        Event {
            wish: wish.id.clone(),
            topic: wish.topic.clone(),
            event: event.to_owned(),
            bucket: container.name.clone(),
            owner: container.project_id.clone(),
            key: key.to_owned(),
            size: there.map(Entry::shown_size),
            etag: there.map(|e| e.shown_etag().to_owned()),
            version: entry.filter(|_| versioned).map(|e| e.id().to_string()),
            sequencer: format!("{:016X}", now.micros()),
            at: now.micros(),
            who: cause.who.clone(),
            source: cause.source.map(|a| a.to_string()).unwrap_or_default(),
            request_id: cause.request_id.clone(),
        }
    }

    /// The message that a topic gets.
    pub(super) fn message(&self, id: &str, opaque: &str) -> Value {
        let key = utf8_percent_encode(&self.key, PLAIN).to_string().replace("%20", "+");
        let mut object = json!({"key": key, "sequencer": self.sequencer});
        if let (Some(size), Some(etag)) = (self.size, &self.etag) {
            object["size"] = size.into();
            object["eTag"] = etag.clone().into();
        }
        if let Some(version) = &self.version {
            object["versionId"] = version.clone().into();
        }
        let time = DateTime::from_timestamp_micros(self.at).unwrap_or_default();
        json!({"Records": [{
            "eventVersion": "2.2",
            "eventSource": "aws:s3",
            "awsRegion": self.topic.region,
            "eventTime": time.to_rfc3339_opts(SecondsFormat::Millis, true),
            "eventName": self.event,
            "userIdentity": {"principalId": self.who},
            "requestParameters": {"sourceIPAddress": self.source},
            "responseElements": {"x-amz-request-id": self.request_id, "x-amz-id-2": self.request_id},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": self.wish,
                "bucket": {
                    "name": self.bucket,
                    "ownerIdentity": {"principalId": self.owner},
                    "arn": format!("arn:aws:s3:::{}", self.bucket),
                },
                "object": object,
            },
            "eventId": id,
            "opaqueData": opaque,
        }]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message() {
        let event = Event {
            wish: "w".into(),
            topic: Topic { region: "r".into(), project: "p".into(), name: "t".into() },
            event: "ObjectCreated:Put".into(),
            bucket: "b".into(),
            owner: "p".into(),
            key: "a b/ü".into(),
            size: Some(3),
            etag: Some("e".into()),
            version: None,
            sequencer: "01".into(),
            at: 1_792_544_523_012_349,
            who: "p".into(),
            source: "10.0.0.1".into(),
            request_id: "id".into(),
        };
        let kept: Event = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
        assert_eq!(kept, event);
        let record = &event.message("7", "mine")["Records"][0];
        assert_eq!(record["s3"]["object"]["key"], "a+b/%C3%BC");
        assert_eq!(record["s3"]["object"]["size"], 3);
        assert_eq!(record["eventTime"], "2026-10-21T01:02:03.012Z");
        assert!(record["s3"]["object"].get("versionId").is_none());
        assert_eq!((&record["eventId"], &record["opaqueData"]), (&json!("7"), &json!("mine")));
    }
}
