//! Reads shapes written in a few words, as `tests/clients/shapes.mjs` does: `{ key: str, updatedAt?: int|null, tags: [str] }`.

use serde_json::{Map, Value, json};

/// The JSON Schema of a shape. An object is closed: what it does not name must not be in it.
pub(super) fn schema(text: &str) -> Value {
    let mut reader = Reader { words: words(text), at: 0, text };
    let whole = reader.either();
    assert_eq!(reader.at, reader.words.len(), "there is more after the end of {text}");
    whole
}

struct Reader<'a> {
    words: Vec<&'a str>,
    at: usize,
    text: &'a str,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> &'a str {
        self.words.get(self.at).unwrap_or_else(|| panic!("{} ends too soon", self.text))
    }

    fn next(&mut self) -> &'a str {
        let word = self.peek();
        self.at += 1;
        word
    }

    fn either(&mut self) -> Value {
        let mut ways = vec![self.one()];
        while self.words.get(self.at) == Some(&"|") {
            self.at += 1;
            ways.push(self.one());
        }
        if ways.len() == 1 { ways.remove(0) } else { json!({"anyOf": ways}) }
    }

    fn one(&mut self) -> Value {
        match self.next() {
            "{…}" => json!({"type": "object"}),
            "[…]" => json!({"type": "array"}),
            "{" => self.object(),
            "[" => {
                let items = self.either();
                assert_eq!(self.next(), "]", "in {}", self.text);
                json!({"type": "array", "items": items})
            }
            "str" => json!({"type": "string"}),
            "int" => json!({"type": "integer"}),
            "num" => json!({"type": "number"}),
            "bool" => json!({"type": "boolean"}),
            "null" => json!({"type": "null"}),
            "any" => json!({}),
            word => panic!("{word} is no type in {}", self.text),
        }
    }

    fn object(&mut self) -> Value {
        let (mut properties, mut required, mut others) = (Map::new(), Vec::new(), json!(false));
        while self.peek() != "}" {
            let name = self.next();
            let name = name.strip_suffix(':').unwrap_or_else(|| panic!("{name} is no name in {}", self.text));
            let value = self.either();
            if name.starts_with('[') {
                others = value;
            } else if let Some(name) = name.strip_suffix('?') {
                properties.insert(name.to_owned(), value);
            } else {
                properties.insert(name.to_owned(), value);
                required.push(name);
            }
            if self.peek() == "," {
                self.at += 1;
            }
        }
        self.at += 1;
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": others})
    }
}

fn words(text: &str) -> Vec<&str> {
    let (mut words, mut rest) = (Vec::new(), text.trim_start());
    while !rest.is_empty() {
        let (word, after) = rest.split_at(length(rest));
        words.push(word);
        rest = after.trim_start();
    }
    words
}

/// How long the first word is: a name with its colon, `[id]:` for any other name, `{…}`, a type, or one sign.
fn length(text: &str) -> usize {
    for open in ["{…}", "[…]"] {
        if text.starts_with(open) {
            return open.len();
        }
    }
    let name = |text: &str| {
        text.find(|letter: char| !letter.is_ascii_alphanumeric() && !"_$.-".contains(letter)).unwrap_or(text.len())
    };
    if let Some(inner) = text.strip_prefix('[')
        && let end @ 1.. = name(inner)
        && inner[end..].starts_with("]:")
    {
        return end + 3;
    }
    let end = name(text);
    let rest = &text[end..];
    match end {
        0 => text.chars().next().map_or(0, char::len_utf8),
        _ if rest.starts_with("?:") => end + 2,
        _ if rest.starts_with(':') => end + 1,
        _ => end,
    }
}

#[test]
fn a_shape_says_what_must_be_there_what_may_be_and_that_nothing_else_is() {
    let schema = schema("{ key: str, updatedAt?: int|null, tags: [str], own: { [id]: {…} }, all: […] }");
    let validator = jsonschema::validator_for(&schema).unwrap();
    let good = json!({"key": "k", "tags": ["a"], "own": {"x": {"y": 1}}, "all": [1]});
    for (change, fits) in [
        (json!({}), true),
        (json!({"updatedAt": 7}), true),
        (json!({"updatedAt": null}), true),
        (json!({"updatedAt": "7"}), false),
        (json!({"updatedAt": 7.5}), false),
        (json!({"more": 1}), false),
        (json!({"key": null}), false),
        (json!({"tags": [1]}), false),
        (json!({"own": {"x": 1}}), false),
        (json!({"all": {}}), false),
    ] {
        let mut value = good.clone();
        value.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_eq!(validator.is_valid(&value), fits, "{value}");
    }
    let mut less = good;
    less.as_object_mut().unwrap().remove("tags");
    assert!(!validator.is_valid(&less));
}
