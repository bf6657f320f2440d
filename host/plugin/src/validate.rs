//! JSON Schemas that plugins declare, compiled once, with errors in the words of the protocol's own.
//!
//! Nothing is ever fetched: a `$ref` outside the document is refused. What a schema may be at all is in
//! [`crate::schema_bounds`].

use std::fmt::Display;

use leanclaw_types::Failure;
use leanclaw_types::frame::ProtocolVersion;
use leanclaw_types::problems::in_words;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::logs::{cut, escape};
use crate::schema_bounds::{Bounds, examine, nesting};

/// Problems named in one error.
const MAX_PROBLEMS: usize = 8;
/// Problems among which those are chosen.
const MAX_FOUND: usize = 64;
/// How long one problem may be.
const MAX_PROBLEM_BYTES: usize = 500;
/// The most bytes that listing problems may take. Each problem may hold a copy of the value and of a part of the schema,
/// and all of them are found before the first one is named.
const MAX_LISTING_BYTES: u64 = 16 * 1024 * 1024;
/// What a part of a value takes up beside its text.
const PART_BYTES: usize = 32;
/// What one regular expression may take up once it is compiled.
const MAX_PATTERN_BYTES: usize = 64 * 1024;

/// Why `schema` cannot be used as a JSON Schema here, if so.
#[must_use]
pub fn schema_problem(schema: &Value) -> Option<String> {
    Schema::compile(schema).err()
}

/// A compiled schema; none when every value passes.
#[derive(Debug)]
pub(crate) struct Schema(Option<Compiled>);

#[derive(Debug)]
struct Compiled {
    validator: jsonschema::Validator,
    bounds: Bounds,
    /// What the schema itself takes up.
    bytes: usize,
}

impl Schema {
    /// Compiles `schema`. `{}` and `true` accept anything and cost nothing.
    pub(crate) fn compile(schema: &Value) -> Result<Self, String> {
        let trivial = schema.as_bool() == Some(true) || schema.as_object().is_some_and(serde_json::Map::is_empty);
        if trivial {
            return Ok(Self(None));
        }
        let bounds = examine(schema)?;
        // A pattern is matched in a time that grows with the text alone; one that looks around or back is refused. What a
        // `format` says is for people: checking it is optional in JSON Schema, and for some of them not cheap.
        let patterns =
            jsonschema::PatternOptions::regex().size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES);
        let options = jsonschema::options().with_pattern_options(patterns).should_validate_formats(false);
        let validator = options.build(schema).map_err(|error| {
            // It quotes what it was given.
            escape(cut(&error.to_string(), MAX_PROBLEM_BYTES))
        })?;
        Ok(Self(Some(Compiled { validator, bounds, bytes: size(schema) })))
    }

    /// Whether every value passes.
    pub(crate) fn is_trivial(&self) -> bool {
        self.0.is_none()
    }

    /// Checks `value`; the error lists what is wrong, as [`in_words`] puts it.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        let Some(Compiled { validator, bounds, bytes }) = &self.0 else { return Ok(()) };
        if let Some(most) = bounds.value_nesting.filter(|most| nesting(value) > *most) {
            return Err(format!("it is nested more than {most} levels deep"));
        }
        let steps = bounds.load.admits(value)?;
        if validator.is_valid(value) {
            return Ok(());
        }
        let copied_bytes = u64::try_from(size(value).saturating_add(*bytes)).unwrap_or(u64::MAX);
        if steps.saturating_mul(copied_bytes) > MAX_LISTING_BYTES {
            return Err(
                "it does not fit its schema; it and the schema are too large for what is wrong to be listed".into()
            );
        }
        // Methods of plugins are no part of OpenClaw's protocol, so every client hears the newest words.
        let mut problems = in_words(ProtocolVersion::V4, value, validator.iter_errors(value).take(MAX_FOUND));
        problems.truncate(MAX_PROBLEMS);
        // A place is named by keys that the caller chose, and a pattern by whoever wrote the plugin.
        let problems: Vec<String> = problems.iter().map(|line| escape(cut(line, MAX_PROBLEM_BYTES))).collect();
        Err(problems.join("; "))
    }

    /// Parses `text` and checks it; `what` names it in the failure, and is put into words only then.
    pub(crate) fn check_text(&self, what: impl Display, text: &str) -> Result<(), Failure> {
        let problem = if self.is_trivial() {
            // Also what may be anything has to be JSON.
            serde_json::from_str::<AnyJson>(text).map(|_| None)
        } else {
            serde_json::from_str::<Value>(text).map(|value| self.check(&value).err())
        };
        let problem = problem.unwrap_or_else(|error| Some(format!("not JSON: {error}")));
        problem.map_or(Ok(()), |problem| Err(Failure::invalid(format!("invalid {what}: {problem}"))))
    }
}

/// About how many bytes a copy of `value` takes up.
fn size(value: &Value) -> usize {
    let inner: usize = match value {
        Value::String(text) => text.len(),
        Value::Array(elements) => elements.iter().map(size).sum(),
        Value::Object(fields) => fields.iter().map(|(name, field)| PART_BYTES + name.len() + size(field)).sum(),
        _ => 0,
    };
    PART_BYTES + inner
}

/// JSON that is read and not kept. Unlike serde's `IgnoredAny` it is read as a value would be, so that the bound on
/// nesting holds: a client must be able to read what a plugin gives it.
struct AnyJson;

impl<'de> Deserialize<'de> for AnyJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for AnyJson {
    type Value = Self;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self, A::Error> {
        while elements.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
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
        assert_eq!(problem, "must have required property 'text'; at /n: must be integer");
        assert!(schema.check(&json!({"text": 1, "n": 2})).is_ok());
    }

    /// Listing what is wrong would copy the value once per alternative.
    #[test]
    fn problems_that_would_take_up_the_memory_are_not_listed() {
        let alternatives: Vec<Value> = (0..900).map(|_| json!({"anyOf": [{"type": "string"}]})).collect();
        let schema = Schema::compile(&json!({ "allOf": alternatives })).unwrap();
        let problem = schema.check(&Value::Array(vec![json!(1); 20_000])).unwrap_err();
        assert!(problem.contains("does not fit its schema"), "{}", &problem[..100]);
        assert_eq!(schema.check(&json!("x".repeat(100_000))), Ok(()));
        let parts: Vec<Value> = (0..39).map(|_| json!({"type": "string"})).collect();
        let schema = Schema::compile(&json!({"items": {"allOf": parts}})).unwrap();
        let problem = schema.check(&Value::Array(vec![json!(1); 10_000])).unwrap_err();
        assert!(problem.contains("does not fit its schema"), "{}", &problem[..100]);
        assert!(schema.check(&json!([1])).unwrap_err().contains("at /0"), "a few are");
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
    fn whatever_the_schema_a_text_is_json_of_bounded_depth() {
        for schema in [json!({}), json!({"title": "anything"})] {
            let schema = Schema::compile(&schema).unwrap();
            for good in
                ["null", "true", "-1", "18446744073709551615", "1.5e300", r#""\u00fc\n""#, r#"[1, {"a": [{}]}]"#]
            {
                assert!(schema.check_text("result", good).is_ok(), "{good}");
            }
            let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
            let deep_object = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
            for bad in ["", "1 2", "{", "[1,]", r#"{"a"}"#, r#""\ud800""#, &deep, &deep_object] {
                assert!(schema.check_text("result", bad).is_err(), "{}", &bad[..bad.len().min(20)]);
            }
        }
    }

    #[test]
    fn a_pattern_is_matched_in_linear_time_or_refused() {
        let evil = Schema::compile(&json!({"pattern": "^(a+)+$"})).unwrap();
        assert!(evil.check(&json!(format!("{}!", "a".repeat(50_000)))).is_err());
        assert_eq!(evil.check(&json!("aaa")), Ok(()));
        for refused in [r"(?=a)b", r"(a)\1", "(a{1000}){1000}"] {
            assert!(Schema::compile(&json!({"pattern": refused})).is_err(), "{refused}");
            assert!(
                Schema::compile(&json!({"patternProperties": {refused: {"type": "string"}}})).is_err(),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_format_is_a_note_in_every_draft() {
        let schema = json!({"$schema": "http://json-schema.org/draft-07/schema#", "format": "regex"});
        assert_eq!(Schema::compile(&schema).unwrap().check(&json!("(a{1000}){1000}")), Ok(()));
    }

    #[test]
    fn schemas_that_accept_anything_are_free() {
        assert!(Schema::compile(&json!({})).unwrap().is_trivial());
        assert!(Schema::compile(&json!(true)).unwrap().is_trivial());
        assert!(Schema::compile(&json!({"type": 5})).is_err());
    }
}
