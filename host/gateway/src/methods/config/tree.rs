//! `config.schema` and `config.schema.lookup`: which keys the configuration file has, as a whole and by path.

use std::sync::{Arc, LazyLock};

use leanclaw_types::frame::ErrorShape;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::no_settings;
use crate::connection::{Answer, Call};
use crate::phrase::Shape;
use crate::settings::Settings;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Lookup {
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[A-Za-z0-9_./\[\]\-*]+$"))]
    path: String,
}

static LOOKUP: LazyLock<Shape> = LazyLock::new(Shape::of::<Lookup>);

/// `config.schema {}` → `{schema, uiHints, version, generatedAt}`.
pub(crate) fn schema(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.takes_nothing()?;
    let settings = call.state.services.settings.as_ref().ok_or_else(no_settings)?;
    let (schema, hints) = settings.schema();
    Ok(Answer::json(&json!({
        "schema": schema, "uiHints": hints, "version": call.state.config.version,
        "generatedAt": crate::clock_text::iso(call.state.now_ms()),
    })))
}

/// `config.schema.lookup {path}` → one node of the schema with its children.
pub(crate) fn lookup(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let params: Lookup = call.read(&LOOKUP, &[])?;
    let settings = call.state.services.settings.as_ref().ok_or_else(no_settings)?;
    let found = looked_up(settings, &params.path, call.session.version.is_newest());
    Ok(Answer::json(&found.ok_or_else(|| ErrorShape::invalid("config schema path not found"))?))
}

fn looked_up(settings: &Arc<dyn Settings>, path: &str, newest: bool) -> Option<Value> {
    let (schema, hints) = settings.schema();
    let parts: Vec<&str> = path.split(['.', '/', '[', ']']).filter(|part| !part.is_empty()).collect();
    let node = parts.iter().try_fold(&schema, |node, part| child(node, part))?;
    let path = parts.join(".");
    let describe = |path: &str| {
        let mut about = serde_json::Map::new();
        if let Some(hint) = hints.get(path) {
            about.insert("hint".into(), hint.clone());
            about.insert("hintPath".into(), path.into());
        }
        if newest {
            about.insert("reloadKind".into(), settings.reload(path).name().into());
        }
        about
    };
    let required = |key: &str| {
        let names = node.get("required").and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|name| name == key))
    };
    let children = node.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(key, below)| {
        let path = format!("{path}.{key}");
        let mut shown = describe(&path);
        let has_children =
            below.get("properties").is_some() || below.get("additionalProperties").is_some_and(Value::is_object);
        shown.extend([
            ("key".to_owned(), json!(key)),
            ("path".to_owned(), json!(path)),
            ("required".to_owned(), json!(required(key))),
            ("hasChildren".to_owned(), json!(has_children)),
        ]);
        if let Some(kind) = below.get("type") {
            shown.insert("type".into(), kind.clone());
        }
        Value::Object(shown)
    });
    let children: Vec<Value> = children.collect();
    let mut own = node.clone();
    if let Some(object) = own.as_object_mut() {
        object.shift_remove("properties");
    }
    let mut shown = describe(&path);
    shown.extend([
        ("path".to_owned(), json!(path)),
        ("schema".to_owned(), own),
        ("children".to_owned(), json!(children)),
    ]);
    Some(Value::Object(shown))
}

fn child<'a>(node: &'a Value, key: &str) -> Option<&'a Value> {
    let named = node.get("properties").and_then(|all| all.get(key));
    let any = || node.get("additionalProperties").filter(|any| any.is_object());
    let item = || node.get("items").filter(|_| key == "*" || key.bytes().all(|byte| byte.is_ascii_digit()));
    named.or_else(any).or_else(item)
}
