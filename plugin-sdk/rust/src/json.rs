//! JSON at the border: typed reading with the place of the mistake, and schemas from types.

use schemars::JsonSchema;
use schemars::generate::{Contract, SchemaSettings};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::failure::{Failure, code};

/// Some servers write it before UTF-8. It belongs to no text and is no JSON.
pub(crate) const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads `text` as a `T`; a mistake names its path, such as `tags[2].name`.
pub(crate) fn read<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, Failure> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let problem = error.into_inner();
        let place = if path == "." { String::new() } else { format!(" at `{path}`") };
        Failure::invalid_input(format!("The {what} does not fit{place}: {problem}.")).extra(json!({ "path": path }))
    })?;
    reader.end().map_err(|error| Failure::invalid_input(format!("The {what} does not fit: {error}.")))?;
    Ok(value)
}

/// Writes `value` as JSON text.
pub(crate) fn write<T: Serialize>(value: &T, what: &str) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::internal(format!("The {what} is not JSON: {error}.")))
}

/// Reads the `extra` field of a record that came from the host.
#[cfg_attr(not(target_family = "wasm"), expect(dead_code, reason = "only a component receives records as text"))]
pub(crate) fn read_extra(text: Option<String>) -> Result<Option<Value>, Failure> {
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| Failure::new(code::INTERNAL, format!("The host sent an `extra` that is not JSON: {error}.")))
}

/// JSON Schema (draft 2020-12) of what a `T` is read from, without references to elsewhere.
pub(crate) fn input_schema<T: JsonSchema>() -> Value {
    schema::<T>(Contract::Deserialize)
}

/// JSON Schema (draft 2020-12) of what a `T` is written as.
pub(crate) fn output_schema<T: JsonSchema>() -> Value {
    schema::<T>(Contract::Serialize)
}

fn schema<T: JsonSchema>(contract: Contract) -> Value {
    // Models and form builders read a schema without `$ref` better; schemars keeps one only where a type is recursive.
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    settings.contract = contract;
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "only read")]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    struct Inner {
        #[expect(dead_code, reason = "only read")]
        count: u8,
    }

    #[test]
    fn a_mistake_names_its_place() {
        let failure = read::<Outer>(r#"{"inner":[{"count":1},{"count":"x"}]}"#, "input").unwrap_err();
        assert_eq!(failure.code, code::INVALID_INPUT);
        assert!(failure.message.contains("`inner[1].count`"), "{failure}");
        assert_eq!(failure.extra.unwrap()["path"], "inner[1].count");
        assert!(read::<Outer>(r#"{"inner":[]} x"#, "input").is_err());
        assert!(read::<Outer>(r#"{"inner":[],"more":1}"#, "input").unwrap_err().message.contains("more"));
    }

    #[test]
    fn a_schema_stands_alone() {
        let schema = input_schema::<Outer>().to_string();
        assert!(schema.contains("\"count\"") && !schema.contains("$ref"), "{schema}");
    }
}
