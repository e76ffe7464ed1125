//! A user's `federated` attribute: what providers call it. An administrator may so tie a user of this cloud to somebody at a
//! provider before that person comes; whom a provider calls by that name is that user then, whatever the mapping names it.

use crate::store::Record;
use crate::store::federation::{self, Tie};
use crate::store::record::Fields;
use crate::{Identity, IdentityError};
use serde_json::{Value, json};
use state::Tx;

pub(crate) fn ties_schema() -> Value {
    let id = json!({"type": "string", "minLength": 1, "maxLength": 64});
    let protocol = json!({"type": "object", "additionalProperties": false, "required": ["protocol_id", "unique_id"],
        "properties": {"protocol_id": id, "unique_id": {"type": "string", "minLength": 1, "maxLength": 255}}});
    json!({"type": "array", "maxItems": 100, "items": {"type": "object", "additionalProperties": false,
        "required": ["idp_id", "protocols"],
        "properties": {"idp_id": id, "protocols": {"type": "array", "maxItems": 100, "items": protocol}}}})
}

/// The attribute out of a request, where it was there.
pub(crate) fn take_ties(user: &mut Record) -> Option<Vec<Tie>> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let all = user.remove("federated")?;
    let mut out = Vec::new();
    for idp in all.as_array().into_iter().flatten() {
        for p in idp["protocols"].as_array().into_iter().flatten() {
            let tie = Tie {
                idp: text(&idp["idp_id"]),
                protocol: text(&p["protocol_id"]),
                unique: text(&p["unique_id"]),
            };
            if !out.contains(&tie) {
                out.push(tie);
            }
        }
    }
    Some(out)
}

impl Identity {
    /// 400 where a provider or protocol does not exist.
    pub(crate) async fn check_ties(&self, ties: &[Tie]) -> Result<(), IdentityError> {
        for tie in ties {
            if federation::protocol_of(self.db.read(), &tie.idp, &tie.protocol).await?.is_none() {
                return Err(IdentityError::Invalid(format!(
                    "Could not find federated protocol {} for Identity Provider: {}.",
                    tie.protocol, tie.idp
                )));
            }
        }
        Ok(())
    }

    /// Adds to a user what its providers call it, as upstream shows it.
    pub(crate) async fn add_federated(&self, user: &mut Record) -> Result<(), IdentityError> {
        let ties = federation::names_of(self.db.read(), user.text("id")).await?;
        let mut all: Vec<Value> = Vec::new();
        for tie in ties {
            let protocol = json!({"protocol_id": tie.protocol, "unique_id": tie.unique});
            let last = all.last_mut().filter(|last| last["idp_id"] == *tie.idp);
            match last.and_then(|l| l["protocols"].as_array_mut()) {
                Some(protocols) => protocols.push(protocol),
                None => all.push(json!({"idp_id": tie.idp, "protocols": [protocol]})),
            }
        }
        if !all.is_empty() {
            user.insert("federated".into(), all.into());
        }
        Ok(())
    }
}

/// Ties a user to these and to no other.
pub(crate) async fn set_ties(tx: &mut Tx, user: &str, ties: &[Tie]) -> Result<(), IdentityError> {
    federation::untie(tx, user).await?;
    for tie in ties {
        federation::remember(tx, tie, user).await?;
    }
    Ok(())
}
