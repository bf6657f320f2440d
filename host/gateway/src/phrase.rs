//! The schemas of frames and parameters, and what is wrong with those that do not meet them.
//!
//! The schema comes from the Rust type. It runs only where a shape is not already known to be good, or where reading is
//! rare, so its cost does not matter.

use jsonschema::Validator;
use leanclaw_types::frame::ProtocolVersion;
use leanclaw_types::problems::in_words;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The most problems that are named at once.
const MAX_PROBLEMS: usize = 20;

/// For `#[schemars(transform = …)]`: what may be left out may still not be null, as the real gateway has it.
pub(crate) fn no_nulls(schema: &mut schemars::Schema) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for property in properties.values_mut() {
        if let Some(Value::Array(types)) = property.get_mut("type") {
            types.retain(|kind| kind != "null");
            if let [one] = types.as_slice() {
                let one = one.clone();
                if let Some(kind) = property.get_mut("type") {
                    *kind = one;
                }
            }
        }
    }
}

/// A compiled schema of `T`.
pub(crate) struct Shape {
    validator: Option<Validator>,
    properties: Vec<String>,
}

impl Shape {
    /// Compiles the schema of `T`.
    pub(crate) fn of<T: JsonSchema>() -> Self {
        let schema = schemars::SchemaGenerator::default().into_root_schema_for::<T>();
        let properties = schema.get("properties").and_then(Value::as_object);
        let properties = properties.into_iter().flat_map(|all| all.keys().cloned()).collect();
        Self { validator: jsonschema::validator_for(schema.as_value()).ok(), properties }
    }

    /// The schema of an object with these properties and no others: name, JSON type, whether it must be there.
    pub(crate) fn of_properties(list: &[(&str, &str, bool)]) -> Self {
        let kind = |kind: &str| match kind {
            // Names are never empty.
            "string" => serde_json::json!({"type": "string", "minLength": 1}),
            "text" => serde_json::json!({"type": "string"}),
            "strings" => serde_json::json!({"type": "array", "items": {"type": "string", "minLength": 1}}),
            "number" => serde_json::json!({"type": "integer", "minimum": 0}),
            "count" => serde_json::json!({"type": "integer", "minimum": 1}),
            "page" => serde_json::json!({"type": "integer", "minimum": 1, "maximum": 200}),
            "any" => serde_json::json!({}),
            other => serde_json::json!({"type": other}),
        };
        let all: serde_json::Map<String, Value> =
            list.iter().map(|(name, of, _)| ((*name).to_owned(), kind(of))).collect();
        let required: Vec<&str> = list.iter().filter(|(_, _, required)| *required).map(|(name, _, _)| *name).collect();
        let properties = all.keys().cloned().collect();
        let schema = serde_json::json!({
            "type": "object", "properties": all, "required": required, "additionalProperties": false,
        });
        Self { validator: jsonschema::validator_for(&schema).ok(), properties }
    }

    /// The names of its properties.
    pub(crate) fn properties(&self) -> Vec<&str> {
        self.properties.iter().map(String::as_str).collect()
    }

    /// Reads a `T`, or says what is wrong: problems joined by `; `.
    pub(crate) fn read<T: DeserializeOwned>(&self, version: ProtocolVersion, value: Value) -> Result<T, String> {
        if let Some(problems) = self.problems(version, &value) {
            return Err(problems);
        }
        serde_json::from_value(value).map_err(|error| format!("at root: {error}"))
    }

    /// What is wrong with `value`; none when nothing is.
    pub(crate) fn problems(&self, version: ProtocolVersion, value: &Value) -> Option<String> {
        let validator = self.validator.as_ref()?;
        // Far cheaper than collecting problems, and nearly always the end of it.
        if validator.is_valid(value) {
            return None;
        }
        let mut lines = in_words(version, value, validator.iter_errors(value).take(200));
        lines.truncate(MAX_PROBLEMS);
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leanclaw_types::frame::{ConnectParams, RequestFrameShape};
    use serde_json::json;

    fn connect(version: ProtocolVersion, value: &Value) -> Option<String> {
        Shape::of::<ConnectParams>().problems(version, value)
    }

    fn good() -> Value {
        json!({"minProtocol": 3, "maxProtocol": 4, "client": {"id": "cli", "version": "1", "platform": "linux", "mode": "cli"}})
    }

    #[test]
    fn captured_wordings() {
        let mut bad = good();
        bad["foo"] = json!(1);
        bad["client"]["id"] = json!("ios-node");
        assert_eq!(
            connect(ProtocolVersion::V4, &bad).unwrap(),
            "at root: unexpected property 'foo'; at /client/id: must be equal to one of the allowed values"
        );
        assert_eq!(
            connect(ProtocolVersion::V3, &bad).unwrap(),
            "at root: unexpected property 'foo'; at /client/id: must be equal to constant; \
             at /client/id: must match a schema in anyOf"
        );
        assert_eq!(
            connect(ProtocolVersion::V4, &json!({"minProtocol": 1, "maxProtocol": 1})).unwrap(),
            "must have required property 'client'"
        );
        let frame = Shape::of::<RequestFrameShape>();
        for (value, text) in [
            (json!({"type": "req", "id": "1", "method": "m", "extra": 1}), "at root: unexpected property 'extra'"),
            (json!({"type": "req", "id": 1, "method": "m"}), "at /id: must be string"),
            (json!({"type": "req", "id": "1"}), "must have required property 'method'"),
        ] {
            assert_eq!(frame.problems(ProtocolVersion::V4, &value).unwrap(), text);
        }
    }

    #[test]
    fn version_4_names_the_first_missing_property_and_version_3_all() {
        assert_eq!(
            connect(ProtocolVersion::V3, &json!({})).unwrap(),
            "must have required property 'minProtocol'; must have required property 'maxProtocol'; \
             must have required property 'client'"
        );
        assert_eq!(connect(ProtocolVersion::V4, &json!({})).unwrap(), "must have required property 'minProtocol'");
    }

    #[test]
    fn lengths_and_ranges_and_nesting() {
        let mut bad = good();
        bad["minProtocol"] = json!(0);
        bad["client"]["version"] = json!("");
        bad["device"] = json!({"id": "x"});
        assert_eq!(
            connect(ProtocolVersion::V3, &bad).unwrap(),
            "at /device: must have required property 'publicKey'; at /device: must have required property 'signature'; \
             at /device: must have required property 'signedAt'; at /device: must have required property 'nonce'; \
             at /minProtocol: must be >= 1; at /client/version: must NOT have fewer than 1 characters"
        );
        let newest = connect(ProtocolVersion::V4, &bad).unwrap();
        assert!(newest.ends_with("must not have fewer than 1 characters"), "{newest}");
    }

    #[test]
    fn good_params_pass_and_optional_ones_may_not_be_null_objects() {
        assert_eq!(connect(ProtocolVersion::V4, &good()), None);
        let mut all = good();
        all["role"] = json!("operator");
        all["scopes"] = json!(["operator.read"]);
        all["auth"] = json!({"token": "x", "password": "x"});
        all["caps"] = json!(["tool-events"]);
        all["locale"] = json!("en");
        all["modelCatalog"] = json!({"anything": true});
        assert_eq!(connect(ProtocolVersion::V4, &all), None);
        all["scopes"] = json!([""]);
        assert!(connect(ProtocolVersion::V4, &all).unwrap().starts_with("at /scopes/0:"));
    }

    #[test]
    fn many_problems_do_not_make_a_long_answer() {
        let mut bad = good();
        for number in 0..500 {
            bad[format!("k{number}")] = json!(1);
        }
        assert!(connect(ProtocolVersion::V4, &bad).unwrap().len() < 2000);
    }
}
