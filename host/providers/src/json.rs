//! Reading JSON of servers: forgiving where they err, and without touching what has to go back unchanged.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Reads JSON. Half of a surrogate pair (`"\ud83c"` alone), which servers write when they cut text between the halves and
/// which no text can hold, reads as the replacement character.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(error) => match mend_surrogates(text) {
            Some(mended) => serde_json::from_str(&mended),
            None => Err(error),
        },
    }
}

/// Which half of a pair an escape at the start of `text` is.
#[derive(PartialEq, Eq)]
enum Half {
    High,
    Low,
}

fn half_at(text: &str) -> Option<Half> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..=0xdbff => Some(Half::High),
        0xdc00..=0xdfff => Some(Half::Low),
        _ => None,
    }
}

/// The text with single halves replaced; none when it has none.
pub(crate) fn mend_surrogates(text: &str) -> Option<String> {
    let mut mended = String::with_capacity(text.len());
    let mut changed = false;
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let paired = || escape.get(6..).and_then(half_at) == Some(Half::Low);
        let length = match half_at(escape) {
            Some(Half::High) if paired() => 12,
            Some(_) => {
                changed = true;
                mended.push_str("\\ufffd");
                rest = escape.get(6..).unwrap_or_default();
                continue;
            }
            // The escaped character, which may itself be a backslash.
            None => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        let (kept, after) = escape.split_at_checked(length).unwrap_or((escape, ""));
        mended.push_str(kept);
        rest = after;
    }
    mended.push_str(rest);
    changed.then_some(mended)
}

/// An object whose values are kept as they were written, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct RawObject(Vec<(String, Box<RawValue>)>);

impl RawObject {
    /// Puts a value in the place of the one called `name`, or at the end.
    pub(crate) fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

impl Serialize for RawObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = RawObject;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(RawObject(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_a_pair_reads_as_the_replacement_character() {
        for (text, wanted) in [
            (r#""\ud83c""#, "\u{fffd}"),
            (r#""\ud83c\udf27""#, "🌧"),
            (r#""\udf27\ud83c""#, "\u{fffd}\u{fffd}"),
            (r#""\ud83c\ud83c\udf27x""#, "\u{fffd}🌧x"),
            (r#""\ud83cü\\ud83c""#, "\u{fffd}ü\\ud83c"),
        ] {
            assert_eq!(parse::<String>(text).unwrap(), wanted, "{text}");
        }
        assert!(parse::<String>(r#""\ud83"#).is_err());
        assert_eq!(mend_surrogates(r#""\ud83c\udf27 \n""#), None);
    }

    #[test]
    fn an_object_keeps_its_values_as_they_were_written() {
        let text = r#"{"b":1.50,"a":{ "x" : "\u00fc" },"c":null}"#;
        let mut object: RawObject = parse(text).unwrap();
        assert_eq!(serde_json::to_string(&object).unwrap(), text);
        object.set("c", RawValue::from_string("[1]".into()).unwrap());
        object.set("d", RawValue::from_string("2".into()).unwrap());
        let wanted = r#"{"b":1.50,"a":{ "x" : "\u00fc" },"c":[1],"d":2}"#;
        assert_eq!(serde_json::to_string(&object).unwrap(), wanted);
    }

    proptest! {
        #[test]
        fn mending_never_panics_and_leaves_good_text_alone(text in r#"(\\|u|d8|dc|00|ü|"|x){0,24}"#, good in ".*") {
            let _ = mend_surrogates(&text);
            prop_assert_eq!(mend_surrogates(&serde_json::to_string(&good).unwrap()), None);
        }
    }
}
