//! What is wrong with a value that does not meet its schema, in the words the real clients and their users know.
//!
//! Source of the words: what OpenClaw's gateway answers. Version 3 of the protocol spells some of them otherwise.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;

use crate::frame::ProtocolVersion;
use crate::text::shown;

/// The most characters of a property's name that are shown.
const MAX_NAME_CHARS: usize = 80;

/// Puts the `errors` of `value` into words, one line each: what is wrong further out first, there what is missing before what is too much
/// before all else. Nothing is said twice, and version 4 names only the first property that is missing in a place.
#[must_use]
pub fn in_words<'e>(
    version: ProtocolVersion,
    value: &Value,
    errors: impl Iterator<Item = ValidationError<'e>>,
) -> Vec<String> {
    let mut problems: Vec<Problem> = errors.flat_map(|error| phrase(version, value, &error)).collect();
    problems.sort_by_key(|problem| (problem.depth, problem.rank));
    let mut lines: Vec<String> = Vec::new();
    let mut missing_at: Vec<String> = Vec::new();
    for problem in problems {
        if problem.rank == RANK_REQUIRED && version.is_newest() {
            if missing_at.contains(&problem.at) {
                continue;
            }
            missing_at.push(problem.at.clone());
        }
        if !lines.contains(&problem.line) {
            lines.push(problem.line);
        }
    }
    lines
}

struct Problem {
    at: String,
    depth: usize,
    rank: u8,
    line: String,
}

const RANK_REQUIRED: u8 = 0;
const RANK_UNEXPECTED: u8 = 1;
const RANK_OTHER: u8 = 2;

fn phrase(version: ProtocolVersion, value: &Value, error: &ValidationError<'_>) -> Vec<Problem> {
    let at = error.instance_path().to_string();
    let depth = at.matches('/').count();
    let problem = |rank: u8, line: String| Problem { at: at.clone(), depth, rank, line };
    let place = if at.is_empty() { "root".to_owned() } else { at.clone() };
    let too_much = |name: &str| format!("at {place}: unexpected property '{}'", shown(name, MAX_NAME_CHARS));
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let line = format!("must have required property '{}'", property.as_str().unwrap_or_default());
            let line = if at.is_empty() { line } else { format!("at {at}: {line}") };
            vec![problem(RANK_REQUIRED, line)]
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            unexpected.iter().map(|name| problem(RANK_UNEXPECTED, too_much(name))).collect()
        }
        // Where no property is known, the validator looks at the first one and does not name it.
        ValidationErrorKind::FalseSchema if error.schema_path().as_str().ends_with("/additionalProperties") => {
            let names = value.pointer(&at).and_then(Value::as_object).into_iter().flat_map(|object| object.keys());
            names.map(|name| problem(RANK_UNEXPECTED, too_much(name))).collect()
        }
        // Version 3 spells an enumeration as a union of constants.
        ValidationErrorKind::Enum { .. } if version == ProtocolVersion::V3 => vec![
            problem(RANK_OTHER, format!("at {place}: must be equal to constant")),
            problem(RANK_OTHER, format!("at {place}: must match a schema in anyOf")),
        ],
        kind => vec![problem(RANK_OTHER, format!("at {place}: {}", words(version, kind)))],
    }
}

fn words(version: ProtocolVersion, kind: &ValidationErrorKind) -> String {
    let not = if version == ProtocolVersion::V3 { "NOT" } else { "not" };
    match kind {
        ValidationErrorKind::Type { kind: TypeKind::Single(kind) } => format!("must be {kind}"),
        ValidationErrorKind::Type { kind: TypeKind::Multiple(kinds) } => {
            let names: Vec<String> = kinds.iter().map(|kind| kind.to_string()).collect();
            format!("must be {}", names.join(","))
        }
        ValidationErrorKind::Enum { .. } => "must be equal to one of the allowed values".into(),
        ValidationErrorKind::Constant { .. } => "must be equal to constant".into(),
        ValidationErrorKind::Minimum { limit } => format!("must be >= {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("must be <= {limit}"),
        ValidationErrorKind::MinLength { limit } => format!("must {not} have fewer than {limit} characters"),
        ValidationErrorKind::MaxLength { limit } => format!("must {not} have more than {limit} characters"),
        ValidationErrorKind::MinItems { limit } => format!("must {not} have fewer than {limit} items"),
        ValidationErrorKind::MaxItems { limit } => format!("must {not} have more than {limit} items"),
        ValidationErrorKind::Pattern { pattern } => format!("must match pattern \"{pattern}\""),
        ValidationErrorKind::AnyOf { .. } => "must match a schema in anyOf".into(),
        ValidationErrorKind::OneOfNotValid { .. } | ValidationErrorKind::OneOfMultipleValid { .. } => {
            "must match exactly one schema in oneOf".into()
        }
        ValidationErrorKind::ExclusiveMinimum { limit } => format!("must be > {limit}"),
        ValidationErrorKind::ExclusiveMaximum { limit } => format!("must be < {limit}"),
        ValidationErrorKind::MultipleOf { multiple_of } => format!("must be multiple of {multiple_of}"),
        ValidationErrorKind::MinProperties { limit } => format!("must {not} have fewer than {limit} properties"),
        ValidationErrorKind::MaxProperties { limit } => format!("must {not} have more than {limit} properties"),
        ValidationErrorKind::AdditionalItems { limit } => format!("must {not} have more than {limit} items"),
        ValidationErrorKind::UniqueItems => format!("must {not} have duplicate items"),
        ValidationErrorKind::Contains => "must contain at least 1 valid item".into(),
        ValidationErrorKind::Not { .. } => format!("must {not} be valid"),
        ValidationErrorKind::FalseSchema => format!("must {not} be there"),
        other => format!("must satisfy {}", other.keyword()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(version: ProtocolVersion, schema: &Value, value: &Value) -> Vec<String> {
        let validator = jsonschema::validator_for(schema).unwrap();
        in_words(version, value, validator.iter_errors(value))
    }

    /// Each keyword in AJV's words; what no client has ever seen still names its keyword.
    #[test]
    fn every_keyword_has_words() {
        for (schema, value, words) in [
            (json!({"type": "string"}), json!(1), "must be string"),
            (json!({"type": ["string", "null"]}), json!(1), "must be null,string"),
            (json!({"exclusiveMinimum": 1}), json!(1), "must be > 1"),
            (json!({"exclusiveMaximum": 1}), json!(1), "must be < 1"),
            (json!({"multipleOf": 2}), json!(1), "must be multiple of 2"),
            (json!({"minItems": 1}), json!([]), "must not have fewer than 1 items"),
            (json!({"maxItems": 1}), json!([1, 2]), "must not have more than 1 items"),
            (json!({"uniqueItems": true}), json!([1, 1]), "must not have duplicate items"),
            (json!({"contains": {"const": 2}}), json!([1]), "must contain at least 1 valid item"),
            (json!({"minProperties": 1}), json!({}), "must not have fewer than 1 properties"),
            (json!({"maxProperties": 0}), json!({"a": 1}), "must not have more than 0 properties"),
            (json!({"oneOf": [true, true]}), json!(1), "must match exactly one schema in oneOf"),
            (json!({"oneOf": [false, false]}), json!(1), "must match exactly one schema in oneOf"),
            (json!({"anyOf": [false]}), json!(1), "must match a schema in anyOf"),
            (json!({"not": true}), json!(1), "must not be valid"),
            (json!(false), json!(1), "must not be there"),
            (json!({"pattern": "^a"}), json!("b"), "must match pattern \"^a\""),
            (json!({"unevaluatedProperties": false}), json!({"a": 1}), "unexpected property 'a'"),
            (json!({"additionalProperties": false}), json!({"a": 1}), "unexpected property 'a'"),
            (
                json!({"properties": {"b": {}}, "additionalProperties": false}),
                json!({"a": 1}),
                "unexpected property 'a'",
            ),
            (json!({"propertyNames": {"maxLength": 1}}), json!({"ab": 1}), "must satisfy propertyNames"),
        ] {
            assert_eq!(said(ProtocolVersion::V4, &schema, &value), [format!("at root: {words}")], "{schema}");
        }
        assert_eq!(said(ProtocolVersion::V3, &json!({"not": true}), &json!(1)), ["at root: must NOT be valid"]);
    }

    #[test]
    fn what_nothing_is_known_of_is_named_in_its_place() {
        let closed = json!({"properties": {"a": {"type": "object", "additionalProperties": false}}});
        assert_eq!(
            said(ProtocolVersion::V4, &closed, &json!({"a": {"x": 1, "y": 2}})),
            ["at /a: unexpected property 'x'", "at /a: unexpected property 'y'"]
        );
    }

    #[test]
    fn a_name_that_would_steer_a_terminal_is_escaped_and_cut() {
        let closed = json!({"additionalProperties": false});
        let long = format!("\u{1b}{}", "a".repeat(500));
        let [line] = said(ProtocolVersion::V4, &closed, &json!({long: 1})).try_into().unwrap();
        assert_eq!(line, format!("at root: unexpected property '\\u{{1b}}{}'", "a".repeat(MAX_NAME_CHARS - 1)));
    }
}
