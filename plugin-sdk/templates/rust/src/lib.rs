//! The gateway method `{{id}}.hello`. Replace it with your own.

use leanclaw_plugin_sdk::{Context, Failure, MethodTable, Methods, Scope, log, settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Default)]
struct Plugin;

// What the component offers. `cargo doc -p leanclaw-plugin-sdk --open` shows what else there is.
leanclaw_plugin_sdk::export!(Plugin: methods);

/// `plugins.entries.{{id}}.config`, as the manifest's `configSchema` describes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    greeting: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { greeting: "Hello".into() }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Hello {
    /// Who is greeted.
    #[schemars(length(min = 1, max = 100))]
    name: String,
}

#[derive(Serialize, JsonSchema)]
struct Greeting {
    /// The greeting.
    text: String,
}

impl Methods for Plugin {
    fn methods() -> MethodTable<Self> {
        MethodTable::new().method("hello", "Says hello to someone.", Scope::Read, Self::hello)
    }
}

impl Plugin {
    fn hello(&self, _context: &Context, hello: Hello) -> Result<Greeting, Failure> {
        let settings: Settings = settings()?;
        log::info!("greeting {}", hello.name);
        Ok(Greeting { text: format!("{}, {}!", settings.greeting, hello.name) })
    }
}

#[cfg(test)]
mod tests {
    use leanclaw_plugin_sdk::testing::TestHost;
    use serde_json::json;

    use super::*;

    #[test]
    fn it_says_hello() {
        let host = TestHost::with_manifest(include_str!("../leanclaw.plugin.json")).unwrap();
        let result = host.call_method::<Plugin>("hello", json!({"name": "Ada"})).unwrap();
        assert_eq!(result, json!({"text": "Hello, Ada!"}));
        host.set_settings(json!({"greeting": "Good morning"}));
        let result = host.call_method::<Plugin>("hello", json!({"name": "Ada"})).unwrap();
        assert_eq!(result, json!({"text": "Good morning, Ada!"}));
        assert!(host.call_method::<Plugin>("hello", json!({})).is_err());
    }
}
