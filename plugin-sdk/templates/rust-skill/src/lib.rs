//! The tool `{{id}}_greet`. Replace it with your own.

use leanclaw_plugin_sdk::{Context, Failure, Skill, Structured, Tool, ToolTable, log, settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Default)]
struct Plugin;

// What the component offers. `cargo doc -p leanclaw-plugin-sdk --open` shows what else there is.
leanclaw_plugin_sdk::export!(Plugin: skill);

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
struct Greet {
    /// Whom to greet.
    #[schemars(length(min = 1, max = 100))]
    name: String,
}

#[derive(Serialize, JsonSchema)]
struct Greeting {
    /// The greeting.
    greeting: String,
}

impl Skill for Plugin {
    fn tools() -> ToolTable<Self> {
        // The name is unique among all loaded plugins; a model reads the description to choose the tool.
        ToolTable::new().tool(Tool::new("{{id}}_greet", "Greets a person by name.", Self::greet).idempotent())
    }
}

impl Plugin {
    fn greet(&self, _context: &Context, input: Greet) -> Result<Structured<Greeting>, Failure> {
        let settings: Settings = settings()?;
        log::info!("greeting {}", input.name);
        Ok(Structured::new(Greeting { greeting: format!("{}, {}!", settings.greeting, input.name) }))
    }
}

#[cfg(test)]
mod tests {
    use leanclaw_plugin_sdk::testing::TestHost;
    use serde_json::json;

    use super::*;

    #[test]
    fn it_greets_by_name() {
        let host = TestHost::with_manifest(include_str!("../leanclaw.plugin.json")).unwrap();
        let result = host.call_tool::<Plugin>("{{id}}_greet", json!({"name": "Ada"})).unwrap();
        assert_eq!(result.structured_part(), Some(&json!({"greeting": "Hello, Ada!"})));
        host.set_settings(json!({"greeting": "Good morning"}));
        let result = host.call_tool::<Plugin>("{{id}}_greet", json!({"name": "Ada"})).unwrap();
        assert_eq!(result.structured_part(), Some(&json!({"greeting": "Good morning, Ada!"})));
        assert!(host.call_tool::<Plugin>("{{id}}_greet", json!({})).is_err());
    }
}
