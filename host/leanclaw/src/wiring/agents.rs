//! What agents work with, of the parts of the program.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use leanclaw_types::Failure;
use leanclaw_types::clock::SystemClock;

use super::Parts;
use crate::agent_component;
use crate::agents::{Agents, Means, SandboxSource};
use crate::config::{Config, SandboxChoice};

/// Agents on these parts. None runs yet.
///
/// # Errors
/// A provider of models cannot be made of what is configured.
pub(crate) fn agents(config: &Config, parts: &Parts) -> Result<Agents> {
    let sandbox = match config.agents.sandbox {
        SandboxChoice::Auto | SandboxChoice::Wasm => SandboxSource::wasm(parts.wasm.clone(), component),
    };
    let means = Means {
        store: Arc::clone(&parts.store),
        tools: Arc::new(parts.plugins.clone()),
        egress: parts.egress.clone(),
        clock: Arc::new(SystemClock),
        sandbox,
        folder: config.data_dir.join("agents"),
        time_zone: config.time_zone.clone(),
    };
    Agents::new(&config.agents, means).map_err(|failure| anyhow::anyhow!("{failure}"))
}

/// The agent's component, as it is there now.
fn component() -> Result<PathBuf, Failure> {
    agent_component::locate().map_err(|error| {
        let failure = Failure::unavailable(format!("Agents cannot run: {error}."));
        error.hints().into_iter().fold(failure, Failure::hint)
    })
}
