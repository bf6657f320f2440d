//! The vocabulary every LeanClaw crate shares: ids, the plugin manifest, permissions and grants, callers, failures,
//! gateway frames, sessions, audit events.
//!
//! Plain data and its grammar only. This crate knows nothing of tokio, wasmtime, SQLite or HTTP servers; whatever needs
//! one of those lives in the crate that owns it.

pub mod agent;
pub mod allowlist;
pub mod audit;
pub mod call;
pub mod clock;
pub mod failure;
pub mod frame;
pub mod id;
pub mod limits;
pub mod manifest;
pub mod message;
pub mod model;
pub mod net;
pub mod permission;
pub mod plugin;
#[cfg(feature = "problems")]
pub mod problems;
pub mod redact;
pub mod run;
pub mod session;
pub mod text;

pub use call::Caller;
pub use failure::Failure;
pub use id::{AccountId, PluginId, PluginKey};
