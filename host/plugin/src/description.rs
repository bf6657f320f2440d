//! What a component says of itself: tools, methods, hooks, channel. Asked once per component and remembered by its hash.
//!
//! A guest's word is checked before anyone relies on it: names, schemas, scopes, sizes, and against its manifest.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;

use leanclaw_types::manifest::Manifest;
use leanclaw_types::plugin::{MethodSpec, ToolSpec};
use leanclaw_types::{Caller, PluginId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::convert::lenient_json;
use crate::diagnose::{CONTRACT_VERSION, Interfaces};
use crate::error::{PluginError, call_failure};
use crate::guest::Guest;
use crate::state::{CallContext, from_guest};
use crate::unit::Unit;
use crate::validate::Schema;

/// The most tools, methods or hook events of one component.
const MAX_ENTRIES: usize = 256;
/// The longest description, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 16 * 1024;

/// What a component says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// Imports and exports.
    pub interfaces: Interfaces,
    /// Its tools.
    pub tools: Vec<ToolSpec>,
    /// Its gateway methods.
    pub methods: Vec<MethodSpec>,
    /// The hook events it wants.
    pub hooks: Vec<String>,
    /// Its channel.
    pub channel: Option<ChannelDescription>,
}

/// A channel as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelDescription {
    /// The channel's id; one of the manifest's `channels`.
    pub id: String,
    /// For people.
    pub title: String,
    /// Longest text of one message, in bytes.
    pub max_text_bytes: u32,
    /// edit, delete, typing, react, ...
    pub abilities: Vec<String>,
}

/// Under which key the description of a component is remembered.
pub(crate) fn memo_key(digest: &str) -> String {
    format!("description:{CONTRACT_VERSION}:{digest}")
}

/// Asks the component. Runs on one fresh instance, in the host's name.
pub(crate) async fn ask(unit: &Arc<Unit>, interfaces: Interfaces) -> Result<Description, PluginError> {
    let guest: Arc<Guest> = unit.guest().await?;
    let shared = Arc::clone(unit.shared());
    let plugin = shared.key.plugin.clone();
    let frame = Unit::frame(None, CallContext::of(Caller::host("loader")));
    let exports = interfaces.served_exports();
    let mut found = Description { interfaces: interfaces.clone(), ..Description::default() };
    let mut live = unit.live(guest, frame).await.map_err(PluginError::Call)?;
    unit.check_open().map_err(PluginError::Call)?;
    let asked = {
        let asking = pin!(live.run("describe", unit.wall_clock(), async |store, live| {
            if exports.contains(&"skill") {
                let tools = live.skill(store)?.call_tools(&mut *store).await?;
                found.tools = match tools {
                    Ok(tools) => tools.into_iter().map(|tool| tool_spec(&plugin, tool)).collect::<Vec<_>>(),
                    Err(failure) => return Ok(Err(from_guest(failure))),
                };
            }
            if exports.contains(&"method") {
                let methods = live.method(store)?.call_methods(&mut *store).await?;
                found.methods = match methods {
                    Ok(methods) => methods.into_iter().map(|spec| method_spec(&plugin, spec)).collect::<Vec<_>>(),
                    Err(failure) => return Ok(Err(from_guest(failure))),
                };
            }
            if exports.contains(&"hook") {
                found.hooks = live.hook(store)?.call_events(&mut *store).await?;
            }
            if exports.contains(&"channel") {
                let channel = live.channel(store)?.call_describe(&mut *store).await?;
                found.channel = Some(ChannelDescription {
                    id: channel.id,
                    title: channel.title,
                    max_text_bytes: channel.max_text_bytes,
                    abilities: channel.abilities,
                });
            }
            Ok(Ok(()))
        }));
        unit.unless_revoked(asking).await
    };
    match asked {
        None => Err(PluginError::Call(unit.withdrawn())),
        Some(Ok(Ok(()))) => Ok(found),
        Some(Ok(Err(failure))) => Err(PluginError::Answer(failure)),
        Some(Err(error)) => {
            Err(PluginError::Call(call_failure(unit.shared().key.plugin.as_str(), "describing itself", &error)))
        }
    }
}

/// JSON text of a schema; what does not parse becomes a string, which no schema is, and is refused by `check`.
fn schema(text: String) -> Value {
    lenient_json(Some(text)).unwrap_or(Value::Null)
}

fn tool_spec(plugin: &PluginId, tool: crate::bindings::exports::skill::Tool) -> ToolSpec {
    ToolSpec {
        plugin: plugin.clone(),
        name: tool.name,
        description: tool.description,
        input_schema: schema(tool.input_schema),
        output_schema: tool.output_schema.map(schema),
        effects: tool.effects,
        idempotent: tool.idempotent,
        extra: lenient_json(tool.extra),
    }
}

fn method_spec(plugin: &PluginId, spec: crate::bindings::exports::method::Spec) -> MethodSpec {
    MethodSpec {
        plugin: plugin.clone(),
        name: spec.name,
        description: spec.description,
        scope: spec.scope,
        params_schema: schema(spec.params_schema),
        result_schema: schema(spec.result_schema),
        extra: lenient_json(spec.extra),
    }
}

impl Description {
    /// Checks what the component says, also against its manifest.
    ///
    /// # Errors
    /// [`PluginError::Description`] names the entry and what is wrong with it.
    pub(crate) fn check(&self, manifest: &Manifest) -> Result<(), PluginError> {
        let refuse = |problem: String| Err(PluginError::Description(problem));
        let counts = [self.tools.len(), self.methods.len(), self.hooks.len()];
        if counts.iter().any(|count| *count > MAX_ENTRIES) {
            return refuse(format!("more than {MAX_ENTRIES} tools, methods or hook events"));
        }
        unique("tool", self.tools.iter().map(|tool| tool.name.as_str()), "_-")?;
        unique("method", self.methods.iter().map(|method| method.name.as_str()), "_-.")?;
        for tool in &self.tools {
            entry(
                &format!("tool `{}`", tool.name),
                &tool.description,
                [Some(&tool.input_schema), tool.output_schema.as_ref()],
            )?;
        }
        for method in &self.methods {
            let name = format!("method `{}`", method.name);
            entry(&name, &method.description, [Some(&method.params_schema), Some(&method.result_schema)])?;
            let good_scope = method.scope.strip_prefix("operator.").is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'.')
            });
            if !good_scope {
                let shown = crate::logs::escape(crate::logs::cut(&method.scope, 64));
                return refuse(format!(
                    "{name}: `{shown}` is not an operator scope; use operator.read, operator.write, operator.admin, ..."
                ));
            }
        }
        self.check_against(manifest)
    }

    fn check_against(&self, manifest: &Manifest) -> Result<(), PluginError> {
        let refuse = |problem: String| Err(PluginError::Description(problem));
        if let Some(declared) =
            manifest.other.get("contracts").and_then(|contracts| contracts.get("tools")).and_then(Value::as_array)
        {
            let declared: BTreeSet<&str> = declared.iter().filter_map(Value::as_str).collect();
            let own: BTreeSet<&str> = self.tools.iter().map(|tool| tool.name.as_str()).collect();
            if declared != own {
                return refuse(format!(
                    "the manifest's contracts.tools names {declared:?}, the component {own:?}; correct the manifest"
                ));
            }
        }
        if let Some(channel) = &self.channel
            && !manifest.channels.contains(&channel.id)
        {
            let shown = crate::logs::escape(crate::logs::cut(&channel.id, 64));
            return refuse(format!("the channel `{shown}` is not in the manifest's `channels`; add it there"));
        }
        match self.hooks.iter().find(|hook| !manifest.permissions.hooks.contains(hook)) {
            Some(hook) => {
                let shown = crate::logs::escape(crate::logs::cut(hook, 64));
                refuse(format!("the hook event `{shown}` is not in the manifest's permissions.hooks; add it there"))
            }
            None => Ok(()),
        }
    }
}

fn unique<'name>(what: &str, names: impl Iterator<Item = &'name str>, extra: &str) -> Result<(), PluginError> {
    let mut seen = BTreeSet::new();
    for name in names {
        let good = !name.is_empty()
            && name.len() <= 64
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || extra.contains(letter));
        if !good {
            let shown = crate::logs::escape(crate::logs::cut(name, 80));
            return Err(PluginError::Description(format!(
                "`{shown}` is not a {what} name: use 1 to 64 of a-z, A-Z, 0-9 and {extra}"
            )));
        }
        if !seen.insert(name) {
            return Err(PluginError::Description(format!("two {what}s are called `{name}`")));
        }
    }
    Ok(())
}

fn entry(name: &str, description: &str, schemas: [Option<&Value>; 2]) -> Result<(), PluginError> {
    if description.len() > MAX_DESCRIPTION_BYTES {
        return Err(PluginError::Description(format!(
            "{name}: its description has more than {MAX_DESCRIPTION_BYTES} bytes"
        )));
    }
    for schema in schemas.into_iter().flatten() {
        Schema::compile(schema)
            .map_err(|problem| PluginError::Description(format!("{name}: its JSON Schema is not usable: {problem}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest(value: Value) -> Manifest {
        serde_json::from_value(value).unwrap()
    }

    fn tool(name: &str, schema: Value) -> Description {
        let tool = ToolSpec {
            plugin: PluginId::new("x").unwrap(),
            name: name.into(),
            description: String::new(),
            input_schema: schema,
            output_schema: None,
            effects: vec![],
            idempotent: true,
            extra: None,
        };
        Description { tools: vec![tool], ..Description::default() }
    }

    #[test]
    fn a_mismatch_with_the_manifest_is_refused() {
        let good = tool("a", json!({}));
        assert!(good.check(&manifest(json!({"id": "x"}))).is_ok());
        assert!(good.check(&manifest(json!({"id": "x", "contracts": {"tools": ["a"]}}))).is_ok());
        let error = good.check(&manifest(json!({"id": "x", "contracts": {"tools": ["b"]}}))).unwrap_err();
        assert!(error.to_string().contains("contracts.tools"), "{error}");
        let hooked = Description { hooks: vec!["before-send".into()], ..Description::default() };
        assert!(hooked.check(&manifest(json!({"id": "x"}))).is_err());
        assert!(hooked.check(&manifest(json!({"id": "x", "permissions": {"hooks": ["before-send"]}}))).is_ok());
    }

    #[test]
    fn names_and_schemas_are_checked() {
        let plain = manifest(json!({"id": "x"}));
        for bad in ["", "a b", "a\u{1b}", &"a".repeat(65)] {
            assert!(tool(bad, json!({})).check(&plain).is_err(), "{bad:?}");
        }
        assert!(tool("a", json!("text")).check(&plain).is_err());
        assert!(tool("a", json!({"type": "nonsense"})).check(&plain).is_err());
    }
}
