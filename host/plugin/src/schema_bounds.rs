//! What a plugin's JSON Schema may be, so that compiling it and checking with it cannot use up the stack or the time of
//! a thread.
//!
//! A validator recurses: down the value, and at one place of the value along `$ref`, `allOf` and the like. The first is
//! bounded by how deep a value may be nested, the second here; how much the two come to together, in [`crate::schema_load`].
//! A schema is judged as data, before anything compiles it; where the text leaves it open what something means, the worse is
//! taken.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::schema_load::Load;

/// The largest schema, in bytes of JSON.
const MAX_BYTES: usize = 64 * 1024;
/// How deep the JSON of a schema may be nested.
const MAX_NESTING: usize = 64;
/// The nesting of a schema and of everything it refers to, added up. No path through it is longer.
const MAX_TOTAL_NESTING: usize = 256;
/// How many steps a check may go at one place of a value, one after the other.
const MAX_STEPS: usize = 16;
/// How many steps a check may go at one place of a value, all together.
const MAX_VISITS: usize = 2_000;
/// How deep a value may be nested that is checked with a schema that refers to itself or to parts of itself.
pub(crate) const MAX_VALUE_NESTING: usize = 32;

/// What a schema that may be used is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// A value it checks may be nested this deep; none when the schema's own nesting bounds the check.
    pub(crate) value_nesting: Option<usize>,
    /// How much work a check can become.
    pub(crate) load: Load,
}

/// Judges `schema`.
///
/// # Errors
/// What about it is not accepted, and what would be.
pub(crate) fn examine(schema: &Value) -> Result<Bounds, String> {
    let bytes = schema.to_string().len();
    if bytes > MAX_BYTES {
        return Err(format!("it has {bytes} bytes; the limit is {MAX_BYTES}"));
    }
    if nesting(schema) > MAX_NESTING {
        return Err(format!("it is nested more than {MAX_NESTING} levels deep"));
    }
    let mut walk = Walk { root: schema, known: HashMap::new(), referred: HashMap::new() };
    walk.all(schema, true)?;
    let total = walk.referred.values().fold(nesting(schema), |sum, more| sum.saturating_add(*more));
    if total > MAX_TOTAL_NESTING {
        return Err(format!(
            "it and the parts it refers to with `$ref` are nested {total} levels deep together; the limit is {MAX_TOTAL_NESTING}"
        ));
    }
    let value_nesting = (!walk.referred.is_empty()).then_some(MAX_VALUE_NESTING);
    Ok(Bounds { value_nesting, load: Load::of(schema)? })
}

/// How deep a value is nested; a text or number is one level.
pub(crate) fn nesting(value: &Value) -> usize {
    let inner = match value {
        Value::Array(elements) => elements.iter().map(nesting).max(),
        Value::Object(fields) => fields.values().map(nesting).max(),
        _ => None,
    };
    inner.unwrap_or_default() + 1
}

/// What follows from one object at the same place of a value.
#[derive(Clone, Copy)]
enum Follows {
    /// Being looked at: who comes here again goes in circles.
    Open,
    Known {
        steps: usize,
        visits: usize,
    },
}

struct Walk<'schema> {
    root: &'schema Value,
    /// By the object's address in the document.
    known: HashMap<*const Map<String, Value>, Follows>,
    /// The nesting of each part that is referred to, by its reference.
    referred: HashMap<&'schema str, usize>,
}

impl<'schema> Walk<'schema> {
    /// Looks at every object there is, whether it is a schema or not.
    fn all(&mut self, value: &'schema Value, is_root: bool) -> Result<(), String> {
        match value {
            Value::Array(elements) => elements.iter().try_for_each(|element| self.all(element, false)),
            Value::Object(fields) => {
                if !is_root && ["$id", "$schema"].iter().any(|name| fields.get(*name).is_some_and(Value::is_string)) {
                    return Err("`$id` and `$schema` may stand at its top only".into());
                }
                self.follow(fields, 0)?;
                fields.values().try_for_each(|field| self.all(field, false))
            }
            _ => Ok(()),
        }
    }

    /// The longest way and the number of all steps from `fields` on, at the same place of the value. `before` steps lead
    /// here.
    fn follow(&mut self, fields: &'schema Map<String, Value>, before: usize) -> Result<(usize, usize), String> {
        let too_long = || {
            Err(format!(
                "one place of a value would be checked by more than {MAX_STEPS} steps of `$ref`, `allOf`, ... in a row"
            ))
        };
        match self.known.get(&std::ptr::from_ref(fields)) {
            Some(Follows::Open) => {
                return Err("a `$ref` in it leads back to itself without going deeper into the value".into());
            }
            Some(Follows::Known { steps, .. }) if before + steps > MAX_STEPS => return too_long(),
            Some(Follows::Known { steps, visits }) => return Ok((*steps, *visits)),
            None if before > MAX_STEPS => return too_long(),
            None => {}
        }
        self.known.insert(fields, Follows::Open);
        let (mut longest, mut visits) = (0, 1_usize);
        for next in self.next(fields)? {
            let (steps, more) = self.follow(next, before + 1)?;
            longest = longest.max(steps + 1);
            visits = visits.saturating_add(more);
        }
        if visits > MAX_VISITS {
            return Err(format!("one place of a value would be checked in more than {MAX_VISITS} steps"));
        }
        self.known.insert(fields, Follows::Known { steps: longest, visits });
        Ok((longest, visits))
    }

    /// The objects that check the same place of the value as `fields`, once it is known that they may.
    fn next(&mut self, fields: &'schema Map<String, Value>) -> Result<Vec<&'schema Map<String, Value>>, String> {
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("$ref", Value::String(reference)) => self.refer(reference)?,
                ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                    return Err(format!("`{name}` is not supported; use `$ref`"));
                }
                _ => {}
            }
        }
        Ok(same_place(self.root, fields))
    }

    /// Notes what `reference` leads to. A place that is not there is the compiler's to report.
    fn refer(&mut self, reference: &'schema str) -> Result<(), String> {
        let pointer = reference.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        if pointer.is_none_or(|pointer| pointer.contains('%')) {
            let shown = crate::logs::escape(crate::logs::cut(reference, 100));
            return Err(format!("`$ref: {shown}`: a reference has to be `#` or `#/PATH` within the schema"));
        }
        if let Some(target) = referred(self.root, reference) {
            self.referred.entry(reference).or_insert_with(|| nesting(target));
        }
        Ok(())
    }
}

/// What a reference within the document leads to.
fn referred<'schema>(root: &'schema Value, reference: &str) -> Option<&'schema Value> {
    reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer))
}

/// The objects that check the same place of a value as `fields`, one step on.
pub(crate) fn same_place<'schema>(
    root: &'schema Value,
    fields: &'schema Map<String, Value>,
) -> Vec<&'schema Map<String, Value>> {
    let mut next = Vec::new();
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("$ref", Value::String(reference)) => next.extend(referred(root, reference).and_then(Value::as_object)),
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                next.extend(schemas.iter().filter_map(Value::as_object));
            }
            ("not" | "if" | "then" | "else", Value::Object(schema)) => next.push(schema),
            ("dependentSchemas" | "dependencies", Value::Object(schemas)) => {
                next.extend(schemas.values().filter_map(Value::as_object));
            }
            _ => {}
        }
    }
    next
}

#[cfg(test)]
#[path = "tests/schema_bounds.rs"]
mod tests;
