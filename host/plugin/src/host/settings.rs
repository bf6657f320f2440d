//! `settings`: this account's configuration, validated when the plugin was loaded.

use crate::bindings::imports::settings::Host;
use crate::state::InstanceState;

impl Host for InstanceState {
    fn get(&mut self) -> wasmtime::Result<String> {
        self.enter()?;
        Ok(self.shared.settings.clone())
    }
}
