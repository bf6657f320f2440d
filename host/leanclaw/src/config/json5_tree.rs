//! Reads JSON5 into a [`Value`] and refuses what would silently lose something: a key that appears twice, nesting
//! without end.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 64;

/// Where and why a text is not JSON5; line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) message: String,
}

/// Reads a JSON5 text.
pub(crate) fn parse(text: &str) -> Result<Value, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    json5::from_str::<Tree>(text).map(|tree| tree.0).map_err(|error| {
        let (line, column) = error.position().map_or((1, 1), |at| (at.line + 1, at.column + 1));
        let message = error.code().map_or_else(|| custom_message(&error), |code| code.to_string());
        SyntaxError { line, column, message }
    })
}

/// The message of an error without a code, without the position that its text ends in.
fn custom_message(error: &json5::Error) -> String {
    let text = error.to_string();
    let position = error.position().map(|at| format!(" at {at}")).unwrap_or_default();
    text.strip_suffix(position.as_str()).unwrap_or(&text).to_owned()
}

/// A whole text.
struct Tree(Value);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Node { depth: 0 }.deserialize(deserializer).map(Self)
    }
}

/// One value, `depth` levels below the top.
#[derive(Clone, Copy)]
struct Node {
    depth: usize,
}

impl Node {
    /// What stands one level further down. The parser recurses, so the stack bounds the depth.
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format!("nested more than {MAX_DEPTH} levels deep")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Node {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON5 value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("`NaN` and `Infinity` cannot be used here"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut list = Vec::new();
        while let Some(value) = sequence.next_element_seed(below)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                let key = key.escape_debug();
                return Err(A::Error::custom(format!("the key `{key}` appears twice; keep one of them")));
            }
            object.insert(key, map.next_value_seed(below)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json5_is_read() {
        let text = "// c\n{ gateway: { port: 0x10, host: 'a', }, list: [1, -2.5, true, null], }";
        assert_eq!(parse(text), Ok(json!({"gateway": {"port": 16, "host": "a"}, "list": [1, -2.5, true, null]})));
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let error = parse("{\n  gateway: {\n    port: 1\n    host: 2\n  }\n}").unwrap_err();
        assert_eq!((error.line, error.column), (4, 5), "{error:?}");
        assert!(error.message.contains("comma"), "{error:?}");
        assert!(parse("").is_err());
        assert!(parse("{} x").is_err());
    }

    #[test]
    fn nothing_is_lost_silently() {
        let error = parse("{a: 1, b: 2, a: 3}").unwrap_err();
        assert!(error.message.contains("`a` appears twice"), "{error:?}");
        assert!(!error.message.contains("line"), "{error:?}");
        assert!(parse("{a: NaN}").is_err());
    }

    #[test]
    fn endless_nesting_is_refused_without_exhausting_the_stack() {
        let error = parse(&"[".repeat(1_000_000)).unwrap_err();
        assert!(error.message.contains("levels deep"), "{error:?}");
        assert_eq!(parse(&format!("{}{}", "[".repeat(64), "]".repeat(64))).map(|_| ()), Ok(()));
    }
}
