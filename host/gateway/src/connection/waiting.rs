//! Methods of plugins that are there and do not serve: whoever may see plugins learns what they wait for.
//!
//! Which methods a plugin has is known once it is loaded, so every name that begins with its id is taken for one of them.

use leanclaw_types::frame::{ErrorShape, error_code};
use leanclaw_types::plugin::{PluginInfo, PluginState};
use leanclaw_types::{AccountId, PluginId};
use serde_json::json;

use super::calls::unknown_method;
use crate::gateway::State;
use crate::handshake::Session;
use crate::methods;

/// When to call a method again whose plugin is being loaded, in milliseconds.
const RETRY_AFTER_MS: u64 = 1000;

/// The error for `name`, when it belongs to a plugin that does not serve; none when no plugin is known by its first part,
/// or that one serves and has no such method.
pub(super) fn error(state: &State, session: &Session, name: &str) -> Option<ErrorShape> {
    if !session.caller.holds(methods::READ) {
        return None;
    }
    let (plugin, _) = name.split_once('.')?;
    let plugin: PluginId = plugin.parse().ok()?;
    let plugins = state.services.plugins.list();
    let found = plugins.iter().find(|known| known.id == plugin && known.account == AccountId::default());
    match found {
        Some(info) if info.state != PluginState::Ready => Some(of_plugin(name, info)),
        _ => None,
    }
}

fn of_plugin(name: &str, info: &PluginInfo) -> ErrorShape {
    let PluginInfo { id, state, reason, .. } = info;
    let message = format!("{}\nThe plugin `{id}` is {}: {reason}", unknown_method(name), state.as_str());
    let details = json!({"code": "PLUGIN_NOT_READY", "plugin": id, "state": state, "reason": reason});
    let error = ErrorShape::new(error_code::INVALID_REQUEST, message).details(details);
    if *state == PluginState::Loading {
        return ErrorShape { retryable: Some(true), retry_after_ms: Some(RETRY_AFTER_MS), ..error };
    }
    error
}
