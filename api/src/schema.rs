//! JSON-schema checks with the messages OpenStack's validators give.

use crate::Error;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A compiled schema; keep it in a `LazyLock`.
pub struct Schema(Result<jsonschema::Validator, String>);

impl Schema {
    /// Compiles a schema written in this program. A schema that does not compile refuses every body with 500,
    /// and a test that uses it shows it.
    pub fn new(schema: &Value) -> Self {
        Schema(jsonschema::options().should_validate_formats(true).build(schema).map_err(|e| e.to_string()))
    }

    /// The body as `T` if it fits the schema, else 400 naming the first offending field.
    pub fn read<T: DeserializeOwned>(&self, body: &Value) -> Result<T, Error> {
        self.check(body)?;
        T::deserialize(body).map_err(|e| Error::bad_request(format!("Invalid input: {e}")))
    }

    pub fn check(&self, body: &Value) -> Result<(), Error> {
        let validator = self.0.as_ref().map_err(|e| Error::internal(std::io::Error::other(e.clone())))?;
        let Some(e) = validator.iter_errors(body).next() else { return Ok(()) };
        let path = e.instance_path().to_string();
        let field = path.trim_start_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        // What was sent may be long; what is answered is not.
        let why = short(e.to_string());
        if field.is_empty() {
            return Err(Error::bad_request(format!("Invalid input: {why}")));
        }
        let value = short(e.instance().to_string());
        Err(Error::bad_request(format!("Invalid input for field/attribute {field}. Value: {value}. {why}")))
    }
}

fn short(text: String) -> String {
    match text.len() > 200 {
        true => text.chars().take(200).chain("…".chars()).collect(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_the_field() {
        let schema = Schema::new(&json!({"type": "object", "properties": {"volume": {"type": "object",
            "properties": {"size": {"type": "integer", "minimum": 1}}, "additionalProperties": false}},
            "required": ["volume"]}));
        assert!(schema.check(&json!({"volume": {"size": 1}})).is_ok());
        let e = schema.check(&json!({"volume": {"size": -1}})).unwrap_err();
        assert!(e.message().starts_with("Invalid input for field/attribute size. Value: -1."), "{e}");
        for bad in [json!({}), json!({"volume": {"size": "x"}}), json!({"volume": {"color": 1}})] {
            assert_eq!(schema.check(&bad).unwrap_err().status(), 400);
        }
    }
}
