//! Plugins: WebAssembly components that start with no rights at all.
//!
//! This crate owns the contract with guests (bindings, host functions, one linker per grant shape), their instances
//! (fresh per call, or resident behind a mailbox), what is installed, and what of it is ready. It knows neither the
//! gateway nor SQLite: what it needs from the rest of the program is stated as small traits in [`services`].
//!
//! * **A guest gets nothing it was not granted.** An interface without a grant is not linked; what an interface may
//!   touch is decided from the granted permissions of the store's own plugin and account.
//! * **A guest's word about itself is never believed.** Caller, plugin, account, channel and time are stamped here.
//! * **Nothing a guest does stays unseen.** Traps, timeouts, denials and state changes are logged and audited.

mod actor;
mod admission;
mod authorize;
mod bindings;
mod calls;
mod convert;
mod description;
mod diagnose;
mod drivers;
mod error;
mod folder;
mod grants;
mod guest;
mod host;
mod installed;
mod invoke;
mod linker;
mod loader;
mod login;
mod logs;
mod package;
mod purge;
mod retry;
mod routes;
mod runtime;
mod schema_bounds;
mod schema_load;
pub mod services;
mod state;
mod stats;
mod stdio;
mod table;
mod trust;
mod unit;
mod validate;
mod watch;

#[cfg(test)]
mod tests;

pub use actor::Recycling;
pub use calls::{HookDecision, WebhookReply, WebhookRequest};
pub use description::{ChannelDescription, Description};
pub use diagnose::{Diagnosis, Interfaces, Row, Standing};
pub use error::PluginError;
pub use invoke::Method;
pub use logs::LOG_TARGET;
pub use package::{ComponentFile, Package, PackageContents, embed_manifest, embedded_manifest, plugins_in};
pub use purge::Remains;
pub use runtime::{Mode, Plugins, PluginsOptions};
pub use state::CallContext;
pub use validate::schema_problem;
pub use watch::EgressWatch;
