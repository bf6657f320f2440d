use std::process::Command;

use serde_json::{Value, json};

use super::*;
use crate::validate::Schema;

/// `count` definitions, each of which is `link(the next)`; the last is `last`.
fn chain(count: usize, link: impl Fn(Value) -> Value, last: Value) -> Value {
    let mut parts = serde_json::Map::new();
    for number in 0..count {
        let next = json!({"$ref": format!("#/d/{}", number + 1)});
        parts.insert(number.to_string(), link(next));
    }
    parts.insert(count.to_string(), last);
    json!({"$ref": "#/d/0", "d": parts})
}

fn nested(levels: usize, wrap: impl Fn(Value) -> Value, inner: Value) -> Value {
    (0..levels).fold(inner, |value, _| wrap(value))
}

/// What a plugin would write to break the host, by name. None of it may be accepted.
fn hostile(name: &str) -> Value {
    match name {
        "a chain of references" => chain(1800, |next| next, json!({"type": "null"})),
        "a chain of alternatives" => chain(1000, |next| json!({"not": {"anyOf": [next]}}), json!({"type": "null"})),
        "a longer chain" => chain(20_000, |next| next, json!({"type": "null"})),
        "a reference to itself" => json!({"$ref": "#"}),
        "a circle" => json!({"allOf": [{"$ref": "#/d"}], "d": {"anyOf": [{"type": "null"}, {"not": {"$ref": "#"}}]}}),
        "a circle of conditions" => json!({"if": true, "then": {"dependentSchemas": {"a": {"$ref": "#"}}}}),
        "a chain through the value" => chain(1800, |next| json!({"items": next}), json!({})),
        "a way that doubles" => chain(14, |next| json!({"allOf": [next.clone(), next]}), json!({"type": "null"})),
        "deep nesting" => nested(100, |inner| json!({"items": inner}), json!({})),
        "a long schema" => json!({"enum": ["x".repeat(MAX_BYTES)]}),
        "a base of its own" => json!({"items": {"$id": "http://a.example/", "$ref": "#/items"}}),
        "an encoded reference" => json!({"$ref": "#/%64", "d": {"$ref": "#"}}),
        "an anchor" => json!({"$ref": "#a", "d": {"$anchor": "a", "$ref": "#"}}),
        "a dynamic reference" => json!({"$dynamicRef": "#a", "d": {"$dynamicAnchor": "a"}}),
        other => panic!("{other}"),
    }
}

const HOSTILE: [&str; 14] = [
    "a chain of alternatives",
    "a longer chain",
    "a chain of references",
    "a reference to itself",
    "a circle",
    "a circle of conditions",
    "a chain through the value",
    "a way that doubles",
    "deep nesting",
    "a long schema",
    "a base of its own",
    "an encoded reference",
    "an anchor",
    "a dynamic reference",
];

/// Schemas at the bounds, each with the deepest value they may be given.
fn extreme() -> Vec<(Value, Value)> {
    let deep = |levels| nested(levels - 1, |inner| json!([inner]), json!(1));
    let deep_object = nested(MAX_VALUE_NESTING - 1, |inner| json!({"a": inner}), json!(1));
    // Fifteen steps at each level, then down.
    let steps = |down: Value| nested(MAX_STEPS - 2, |inner| json!({"allOf": [inner]}), down);
    vec![
        (steps(json!({"items": {"$ref": "#"}})), deep(MAX_VALUE_NESTING)),
        (steps(json!({"additionalProperties": {"$ref": "#"}})), deep_object.clone()),
        (chain(MAX_STEPS - 2, |next| next, json!({"items": {"$ref": "#"}})), deep(MAX_VALUE_NESTING)),
        (chain(60, |next| json!({"items": next}), json!({})), deep(MAX_VALUE_NESTING)),
        // Copied wherever it is referred to, it would be copied 2^40 times.
        (chain(40, |next| json!({"properties": {"a": next.clone(), "b": next}}), json!({})), deep_object.clone()),
        (nested(MAX_NESTING - 1, |inner| json!({"items": inner}), json!({})), deep(100)),
    ]
}

/// Compiles and checks with as much stack as a worker thread has.
fn on_a_small_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(work).unwrap().join().unwrap()
}

#[test]
fn what_would_use_up_the_stack_or_the_time_is_refused() {
    // A stack that overflows ends the process, so each is tried in one of its own.
    for name in HOSTILE {
        let tried = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "schema_bounds::tests::one_hostile_schema", "--nocapture"])
            .env("HOSTILE_SCHEMA", name)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&tried.stdout).into_owned() + &String::from_utf8_lossy(&tried.stderr);
        assert!(tried.status.success() && said.contains("refused: "), "{name}: {}: {said}", tried.status);
    }
}

#[test]
fn one_hostile_schema() {
    let Ok(name) = std::env::var("HOSTILE_SCHEMA") else { return };
    let value = nested(100, |inner| json!([inner]), json!(null));
    on_a_small_stack(move || match Schema::compile(&hostile(&name)) {
        Err(problem) => eprintln!("refused: {problem}"),
        Ok(schema) => drop(schema.check(&value)),
    });
}

#[test]
fn what_is_accepted_fits_the_stack() {
    for (schema, value) in extreme() {
        on_a_small_stack(move || {
            let shown = crate::logs::cut(&schema.to_string(), 100).to_owned();
            let compiled = Schema::compile(&schema).unwrap_or_else(|problem| panic!("{shown}: {problem}"));
            let _ = compiled.check(&value);
            let _ = compiled.check(&json!({"a": [value]}));
        });
    }
}

#[test]
fn a_value_may_be_as_deep_as_its_schema_can_bear() {
    let deep = |levels: usize| nested(levels - 1, |inner| json!([inner]), json!(1));
    let recursive = Schema::compile(&json!({"items": {"$ref": "#"}})).unwrap();
    assert_eq!(recursive.check(&deep(MAX_VALUE_NESTING)), Ok(()));
    let problem = recursive.check(&deep(MAX_VALUE_NESTING + 1)).unwrap_err();
    assert!(problem.contains(&MAX_VALUE_NESTING.to_string()), "{problem}");
    let flat = Schema::compile(&json!({"type": "array"})).unwrap();
    assert_eq!(flat.check(&deep(100)), Ok(()));
}

#[test]
fn ordinary_schemas_are_accepted() {
    let tree = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "http://a.example/tree",
        "$ref": "#/$defs/node",
        "$defs": {
            "name": {"type": "string"},
            "node": {"type": "object", "properties": {
                "$ref": {"$ref": "#/$defs/name"}, "not": {"$ref": "#/$defs/name"}, "if": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}
            }}
        }
    });
    let schema = Schema::compile(&tree).unwrap();
    assert_eq!(schema.check(&json!({"children": [{"if": "x"}, {"children": []}]})), Ok(()));
    assert!(schema.check(&json!({"children": [{"if": 1}]})).is_err());
}
