//! Joins the parts: each crate states what it needs as small traits, and here they are implemented on the others.
//!
//! No decision is taken here; a rule that can only be found in this folder is in the wrong place.

mod agents;
mod gateway;
mod logout;
mod plugins;
mod purge;
mod ready;
mod sessions;
mod settings;

pub(crate) use agents::agents;
pub(crate) use gateway::PluginGateway;
pub(crate) use logout::log_out;
pub(crate) use plugins::{Parts, cache_dir, open, open_with_cache};
pub(crate) use purge::purge;
pub(crate) use ready::readiness;
pub(crate) use settings::{SettingsFile, live, set};
