//! `events`: what a plugin tells gateway clients, under its own name.

use std::sync::Arc;

use leanclaw_types::Failure;
use leanclaw_types::plugin::PluginEvent;

use crate::bindings::imports::events::Host;
use crate::bindings::imports::types;
use crate::state::{InstanceState, to_guest};

/// The largest payload, in bytes.
const MAX_PAYLOAD_BYTES: usize = 256 * 1024;

impl InstanceState {
    fn event(&self, name: &str, payload: &str) -> Result<PluginEvent, Failure> {
        let key = &self.shared.key;
        if !self.shared.granted.events.iter().any(|event| event == name) {
            let shown = crate::logs::escape(crate::logs::cut(name, 64));
            return Err(Failure::denied(format!("The plugin `{key}` may not emit the event `{shown}`."))
                .hint(format!("declare \"{shown}\" in permissions.events of the manifest"))
                .hint(format!("leanclaw plugin grant {key} event:{shown}")));
        }
        if payload.len() > MAX_PAYLOAD_BYTES {
            let message = format!("The payload has {} bytes; the limit is {MAX_PAYLOAD_BYTES}.", payload.len());
            return Err(Failure::new("too-large", message)
                .hint("send what changed, and let a method of the plugin give the rest to whoever asks"));
        }
        let payload = serde_json::from_str(payload).map_err(|error| {
            Failure::invalid(format!("The payload of the event `{name}` is not JSON: {error}."))
                .hint("a payload is JSON text, nested at most 128 deep; an event without content has `null`")
        })?;
        Ok(PluginEvent { event: format!("{}.{name}", key.plugin), payload })
    }
}

impl Host for InstanceState {
    fn emit(&mut self, name: String, payload: String) -> wasmtime::Result<Result<(), types::Failure>> {
        self.enter()?;
        Ok(match self.event(&name, &payload) {
            Ok(event) => {
                // No receiver means that nobody is connected.
                let _ = self.shared.events.send(Arc::new(event));
                Ok(())
            }
            Err(failure) => Err(to_guest(&failure)),
        })
    }
}
