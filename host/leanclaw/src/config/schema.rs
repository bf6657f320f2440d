//! The configuration file described to programs: a JSON Schema and what a form shows, both made from the one list of
//! settings. Also which keys hold secrets.

use serde_json::{Map, Value, json};

use super::variables::{self, Variable};

/// What a value of a setting looks like in the configuration file.
fn shape(variable: &Variable) -> Value {
    let texts = |values: &[&str]| json!({"type": "string", "enum": values});
    match variable.name {
        "LEANCLAW_GATEWAY_PORT" => json!({"type": "integer", "minimum": 0, "maximum": 65_535}),
        "LEANCLAW_MAX_INSTANCES" => json!({"type": "integer", "minimum": 1, "maximum": 100_000}),
        "LEANCLAW_AUDIT_MAX_ROWS" => json!({"type": "integer", "minimum": 1000, "maximum": 1_000_000_000}),
        "LEANCLAW_GATEWAY_AUTH" => texts(&["token", "password", "none"]),
        "LEANCLAW_MAX_CONCURRENT_CONTAINERS" => json!({"type": "integer", "minimum": 1, "maximum": 1000}),
        "LEANCLAW_CONTAINER_TIMEOUT" => json!({"type": "integer", "minimum": 1000, "maximum": 86_000_000}),
        "LEANCLAW_SANDBOX" => texts(&["auto", "wasm"]),
        "LEANCLAW_WASM_POOLING" => texts(&["auto", "off"]),
        "LOG_LEVEL" => texts(&["trace", "debug", "info", "warn", "error", "fatal", "silent"]),
        "LOG_FORMAT" => texts(&["pretty", "compact", "json"]),
        "LEANCLAW_GATEWAY_TRUSTED_PROXIES" | "LEANCLAW_GATEWAY_ALLOWED_ORIGINS" | "LEANCLAW_PLUGIN_DIR" => {
            json!({"type": "array", "items": {"type": "string"}})
        }
        _ => json!({"type": "string"}),
    }
}

/// A value in effect, as the configuration file would say it.
pub(crate) fn typed(variable: &Variable, value: &str) -> Value {
    match shape(variable).get("type").and_then(Value::as_str) {
        Some("integer") => value.parse::<u64>().map_or_else(|_| value.into(), Value::from),
        Some("array") if variable.name == "LEANCLAW_PLUGIN_DIR" => json!([value]),
        Some("array") => value.split(", ").filter(|item| !item.is_empty()).collect(),
        _ => value.into(),
    }
}

/// The JSON Schema (draft 7) of the configuration file. Keys that are not in it are allowed: they are for other programs.
pub(crate) fn schema() -> Value {
    let mut root = object();
    for variable in variables::ALL {
        for key in variable.keys {
            let mut leaf = shape(variable);
            if let Some(leaf) = leaf.as_object_mut() {
                leaf.insert("title".into(), label(key).into());
                leaf.insert("description".into(), format!("{} Expects {}.", variable.doc, variable.expects).into());
            }
            put(&mut root, key, leaf);
        }
    }
    let ids = || json!({"type": "array", "items": {"type": "string"}});
    let settings = || json!({"type": "object", "additionalProperties": true});
    let account = json!({"type": "object", "properties": {"enabled": {"type": "boolean"}, "config": settings()}});
    let entry = json!({
        "type": "object",
        "properties": {
            "enabled": {"type": "boolean"}, "config": settings(),
            "accounts": {"type": "object", "additionalProperties": account},
        },
    });
    let roles = || json!({"type": "string", "enum": ["admin", "user", "viewer"]});
    let user = json!({
        "type": "object", "properties": {"token": {"type": "string"}, "role": roles()}, "required": ["token", "role"],
    });
    put(&mut root, "gateway.auth.role", roles());
    let limit = || json!({"type": "integer", "minimum": 0});
    let classes = json!({"read": limit(), "write": limit(), "admin": limit(), "expensive": limit()});
    for who in ["perIp", "perCredential", "loopback"] {
        put(&mut root, &format!("gateway.rateLimits.{who}"), json!({"type": "object", "properties": classes}));
    }
    put(&mut root, "gateway.rateLimits.windowMs", json!({"type": "integer", "minimum": 1000, "maximum": 3_600_000}));
    put(&mut root, "gateway.rateLimits.controlPlane", limit());
    put(&mut root, "gateway.rateLimits.controlPlaneV3", limit());
    put(&mut root, "gateway.auth.users", json!({"type": "object", "additionalProperties": user}));
    put(&mut root, "gateway.nodes.allowCommands", ids());
    put(&mut root, "gateway.nodes.denyCommands", ids());
    for key in ["hooks.enabled", "hooks.allowRequestSessionKey"] {
        put(&mut root, key, json!({"type": "boolean"}));
    }
    for key in ["hooks.token", "hooks.path"] {
        put(&mut root, key, json!({"type": "string"}));
    }
    put(&mut root, "hooks.maxBodyBytes", json!({"type": "integer", "minimum": 1, "maximum": 16_777_216}));
    put(&mut root, "hooks.mappings", json!({"type": "array", "items": {"type": "object"}}));
    put(&mut root, "plugins.enabled", json!({"type": "boolean"}));
    put(&mut root, "plugins.allow", ids());
    put(&mut root, "plugins.deny", ids());
    put(&mut root, "plugins.entries", json!({"type": "object", "additionalProperties": entry}));
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".into(), "http://json-schema.org/draft-07/schema#".into());
    }
    root
}

/// For every key what a form shows: `{label, help, group, sensitive?, placeholder?}`.
pub(crate) fn hints() -> Map<String, Value> {
    let mut hints = Map::new();
    for variable in variables::ALL {
        for (index, key) in variable.keys.iter().enumerate() {
            let group = key.split('.').next().unwrap_or_default();
            let mut hint = json!({"label": label(key), "help": variable.doc, "group": group, "advanced": index > 0});
            if let Some(hint) = hint.as_object_mut() {
                if variable.secret {
                    hint.insert("sensitive".into(), true.into());
                }
                if !variable.default.is_empty() {
                    hint.insert("placeholder".into(), variable.default.into());
                }
            }
            hints.insert((*key).to_owned(), hint);
        }
    }
    for (key, doc) in variables::FILE_ONLY_KEYS {
        let key = key.replace("<id>", "*").replace("<name>", "*");
        let group = key.split('.').next().unwrap_or_default().to_owned();
        let mut hint = json!({"label": label(&key), "help": doc, "group": group});
        if let Some(hint) = hint.as_object_mut().filter(|_| is_secret(&key)) {
            hint.insert("sensitive".into(), true.into());
        }
        hints.insert(key, hint);
    }
    hints
}

/// Whether the value at a key is a secret: that of a secret setting, or one whose name says so.
pub(crate) fn is_secret(key: &str) -> bool {
    if variables::ALL.iter().any(|variable| variable.secret && variable.keys.contains(&key)) {
        return true;
    }
    let last = key.rsplit('.').next().unwrap_or_default();
    let name: String = last.chars().filter(|letter| letter.is_ascii_alphanumeric()).collect();
    let name = name.to_ascii_lowercase();
    name.ends_with("token")
        || name.ends_with("tokens")
        || ["password", "passphrase", "secret", "apikey", "privatekey", "credential"]
            .iter()
            .any(|part| name.contains(part))
}

/// Keys beside `properties` are allowed by being left unsaid: a form that is told so offers the known ones a second time.
fn object() -> Value {
    json!({"type": "object", "properties": {}})
}

/// `customBindHost` as `Custom bind host`.
fn label(key: &str) -> String {
    let last = key.rsplit('.').next().unwrap_or_default();
    let mut label = String::new();
    for letter in last.chars() {
        match letter {
            _ if label.is_empty() => label.extend(letter.to_uppercase()),
            _ if letter.is_uppercase() => {
                label.push(' ');
                label.extend(letter.to_lowercase());
            }
            _ => label.push(letter),
        }
    }
    label
}

/// Puts a node at a key, making the objects above it.
fn put(node: &mut Value, key: &str, leaf: Value) {
    let Some(properties) = node.get_mut("properties").and_then(Value::as_object_mut) else { return };
    match key.split_once('.') {
        None => drop(properties.insert(key.to_owned(), leaf)),
        Some((first, rest)) => put(properties.entry(first.to_owned()).or_insert_with(object), rest, leaf),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::Problem;
    use crate::config::{FileText, Places, Sources, resolve};

    #[test]
    fn every_key_is_described_and_every_default_has_its_shape() {
        let schema = schema();
        let at = |key: &str| key.split('.').try_fold(&schema, |node, part| node.get("properties")?.get(part)).cloned();
        for variable in variables::ALL {
            for key in variable.keys {
                let node = at(key).unwrap_or_else(|| panic!("{key}"));
                assert_eq!(hints()[*key]["sensitive"] == true, variable.secret, "{key}");
                if let (Some(values), false) = (node["enum"].as_array(), variable.default.is_empty()) {
                    assert!(values.contains(&json!(variable.default)), "{key}");
                }
            }
        }
        assert_eq!(at("gateway.port").unwrap()["type"], "integer");
        assert_eq!(at("plugins.entries").unwrap()["additionalProperties"]["properties"]["enabled"]["type"], "boolean");
    }

    /// Whatever is in effect can be written into the file as it is shown.
    #[test]
    fn what_is_in_effect_is_a_value_of_the_file() {
        let sources =
            Sources::of_environment([("LEANCLAW_GATEWAY_TRUSTED_PROXIES".into(), "10.0.0.1,10.0.0.2".into())].into());
        let _: &Places = &sources.places;
        for effective in resolve(&sources).unwrap().effective {
            let Some(value) = &effective.value else { continue };
            let written = typed(effective.variable, value);
            let kind = shape(effective.variable)["type"].as_str().unwrap().to_owned();
            let fits = match kind.as_str() {
                "integer" => written.is_u64(),
                "array" => written.is_array(),
                _ => written.is_string(),
            };
            assert!(fits, "{}: {written}", effective.variable.name);
        }
    }

    /// Every key below a node whose schema bounds its value, with values the schema allows and values it does not.
    fn bounded(node: &Value, key: &str, found: &mut Vec<(String, Vec<Value>, Vec<Value>)>) {
        for (name, node) in node["properties"].as_object().into_iter().flatten() {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            let (mut good, mut bad) = (Vec::new(), Vec::new());
            if let Some(least) = node["minimum"].as_i64() {
                good.push(json!(least));
                bad.push(json!(least - 1));
            }
            if let Some(most) = node["maximum"].as_i64() {
                good.push(json!(most));
                bad.push(json!(most + 1));
            }
            if let Some(values) = node["enum"].as_array() {
                good.extend(values.iter().cloned());
                bad.push(json!("no-such-word"));
            }
            if !good.is_empty() {
                bad.push(json!({"an": "object"}));
                found.push((key.clone(), good, bad));
            }
            bounded(node, &key, found);
        }
    }

    /// A form that goes by the schema must neither offer what is refused nor refuse what is taken.
    #[test]
    fn the_schema_has_the_bounds_that_are_enforced() {
        let mut keys = Vec::new();
        bounded(&schema(), "", &mut keys);
        assert!(keys.len() > 20, "{keys:?}");
        let is_taken = |key: &str, value: &Value| {
            let nested = key.rsplit('.').fold(value.clone(), |inner, part| json!({part: inner}));
            let mut sources = Sources::of_environment([].into());
            sources.config_file.1 = FileText::Text { text: nested.to_string(), others_can_read: false };
            let problems = resolve(&sources).map_or_else(|error| error.problems, |_| Vec::new());
            // Others are about what else has to be said with it.
            !problems
                .iter()
                .any(|problem| matches!(problem, Problem::Invalid { source, .. } if source.to_string().contains(key)))
        };
        for (key, good, bad) in keys {
            good.iter().for_each(|value| assert!(is_taken(&key, value), "{key}: {value} is refused"));
            bad.iter().for_each(|value| assert!(!is_taken(&key, value), "{key}: {value} is taken"));
        }
    }

    #[test]
    fn names_that_say_secret_are_secret() {
        for key in
            ["gateway.auth.token", "gateway.apiKey", "channels.x.botToken", "a.api_key", "m.clientSecret", "PASSWORD"]
        {
            assert!(is_secret(key), "{key}");
        }
        for key in ["gateway.port", "a.maxTokensPerDay", "a.keyboard", "plugins.entries.x.config.unit"] {
            assert!(!is_secret(key), "{key}");
        }
    }
}
