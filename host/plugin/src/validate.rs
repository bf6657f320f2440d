//! JSON Schemas that plugins declare, compiled once, with errors that name the place.
//!
//! Nothing is ever fetched: a `$ref` outside the document is refused when the schema is compiled.

use leanclaw_types::Failure;
use serde_json::Value;

/// Problems named in one error.
const MAX_PROBLEMS: usize = 8;

/// Why `schema` cannot be used as a JSON Schema here, if so.
#[must_use]
pub fn schema_problem(schema: &Value) -> Option<String> {
    Schema::compile(schema).err()
}

/// A compiled schema.
#[derive(Debug)]
pub(crate) struct Schema(Option<jsonschema::Validator>);

impl Schema {
    /// Compiles `schema`. `{}` and `true` accept anything and cost nothing.
    pub(crate) fn compile(schema: &Value) -> Result<Self, String> {
        let trivial = schema.as_bool() == Some(true) || schema.as_object().is_some_and(serde_json::Map::is_empty);
        if trivial {
            return Ok(Self(None));
        }
        let validator = jsonschema::options().build(schema).map_err(|error| {
            // It quotes what it was given.
            crate::logs::escape(crate::logs::cut(&error.to_string(), 500))
        })?;
        Ok(Self(Some(validator)))
    }

    /// Whether every value passes.
    pub(crate) fn is_trivial(&self) -> bool {
        self.0.is_none()
    }

    /// Checks `value`; the error lists what is wrong, each as `at /pointer: problem`.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        let Some(validator) = &self.0 else { return Ok(()) };
        if validator.is_valid(value) {
            return Ok(());
        }
        let problems: Vec<String> = validator
            .iter_errors(value)
            .take(MAX_PROBLEMS)
            .map(|error| {
                let pointer = error.instance_path().to_string();
                let place = if pointer.is_empty() { "root".to_owned() } else { pointer };
                crate::logs::escape(crate::logs::cut(&format!("at {place}: {error}"), 500))
            })
            .collect();
        Err(problems.join("; "))
    }

    /// Parses `text` and checks it; `what` names it in the failure.
    pub(crate) fn check_text(&self, what: &str, text: &str) -> Result<(), Failure> {
        let problem = match serde_json::from_str::<Value>(text) {
            Ok(value) => self.check(&value).err(),
            Err(error) => Some(format!("not JSON: {error}")),
        };
        problem.map_or(Ok(()), |problem| Err(Failure::invalid(format!("invalid {what}: {problem}"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn problems_are_named_with_their_place() {
        let schema =
            Schema::compile(&json!({"type": "object", "required": ["text"], "properties": {"n": {"type": "integer"}}}))
                .unwrap();
        let problem = schema.check(&json!({"n": "x"})).unwrap_err();
        assert!(problem.contains("text") && problem.contains("at /n"), "{problem}");
        assert!(schema.check(&json!({"text": 1, "n": 2})).is_ok());
    }

    #[test]
    fn a_schema_never_reaches_outside() {
        for remote in ["http://127.0.0.1:9/schema.json", "file:///etc/passwd", "other.json"] {
            assert!(Schema::compile(&json!({"$ref": remote})).is_err(), "{remote}");
        }
        let inside = json!({"$defs": {"n": {"type": "integer"}}, "$ref": "#/$defs/n"});
        assert!(Schema::compile(&inside).unwrap().check(&json!("x")).is_err());
    }

    #[test]
    fn schemas_that_accept_anything_are_free() {
        assert!(Schema::compile(&json!({})).unwrap().is_trivial());
        assert!(Schema::compile(&json!(true)).unwrap().is_trivial());
        assert!(Schema::compile(&json!({"type": 5})).is_err());
    }
}
