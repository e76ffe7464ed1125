//! What identity only keeps for others: policy documents and OAuth consumers.

use crate::input::{self, Shape};
use crate::listing::Found;
use crate::store::policy_associations::{self, Gone};
use crate::store::{CONSUMER, Kind, POLICY, Record};
use crate::{Identity, IdentityError};
use api::{Context, Query};
use serde_json::{Value, json};
use std::sync::LazyLock;

static POLICY_SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let properties =
        json!({"type": {"type": "string", "minLength": 1, "maxLength": 255}, "blob": {"type": "string"}});
    Shape::new("policy", properties, &["type", "blob"])
});
static CONSUMER_SHAPE: LazyLock<Shape> =
    LazyLock::new(|| Shape::new("consumer", json!({"description": input::text()}), &[]));

/// The kinds of documents, each with its rules.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Document {
    Policy,
    Consumer,
}

impl Document {
    fn kind(self) -> &'static Kind {
        match self {
            Document::Policy => &POLICY,
            Document::Consumer => &CONSUMER,
        }
    }

    fn shape(self) -> &'static Shape {
        match self {
            Document::Policy => &POLICY_SHAPE,
            Document::Consumer => &CONSUMER_SHAPE,
        }
    }

    fn rule(self, verb: &str) -> String {
        match (self, verb) {
            (Document::Policy, "list") => "identity:list_policies".into(),
            (Document::Policy, verb) => format!("identity:{verb}_policy"),
            (Document::Consumer, "list") => "identity:list_consumers".into(),
            (Document::Consumer, verb) => format!("identity:{verb}_consumer"),
        }
    }
}

/// A consumer's secret is shown once, when it is made.
fn shown(mut record: Record) -> Record {
    record.remove("secret");
    record
}

impl Identity {
    pub(crate) async fn create_document(
        &self,
        ctx: &Context,
        what: Document,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, &what.rule("create"), &[])?;
        let mut record = what.shape().new_record(body)?;
        record.insert("id".into(), state::new_hex_id().into());
        if let Document::Consumer = what {
            record.insert("secret".into(), state::new_hex_id().into());
            input::default(&mut record, "description", Value::Null);
        }
        let mut change = self.begin_aside().await?;
        what.kind().insert(change.conn(), &record).await?;
        change.commit().await?;
        Ok(record)
    }

    pub(crate) async fn list_documents(
        &self,
        ctx: &Context,
        what: Document,
        query: &Query,
    ) -> Result<Found, IdentityError> {
        self.enforce(ctx, &what.rule("list"), &[])?;
        let mut found = self.list(what.kind(), &["type"], Vec::new(), query).await?;
        found.records = found.records.into_iter().map(shown).collect();
        Ok(found)
    }

    pub(crate) async fn show_document(
        &self,
        ctx: &Context,
        what: Document,
        id: &str,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, &what.rule("get"), &[])?;
        Ok(shown(what.kind().need(self.db.read(), id).await?))
    }

    pub(crate) async fn update_document(
        &self,
        ctx: &Context,
        what: Document,
        id: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, &what.rule("update"), &[])?;
        let mut record = what.kind().need(self.db.read(), id).await?;
        let changes = what.shape().changes(body, id)?;
        if changes.contains_key("secret") {
            return Err(IdentityError::Invalid("Cannot change consumer secret".into()));
        }
        record.extend(changes);
        let mut change = self.begin_aside().await?;
        what.kind().update(change.conn(), &record).await?;
        change.commit().await?;
        Ok(shown(record))
    }

    pub(crate) async fn delete_document(
        &self,
        ctx: &Context,
        what: Document,
        id: &str,
    ) -> Result<(), IdentityError> {
        self.enforce(ctx, &what.rule("delete"), &[])?;
        let mut change = self.begin_aside().await?;
        what.kind().delete(change.conn(), id).await?;
        if let Document::Policy = what {
            policy_associations::forget(change.conn(), Gone::Policy, id).await?;
        }
        change.commit().await
    }
}
