//! Write LeanClaw plugins in Rust.
//!
//! A plugin is a WebAssembly component that starts with no rights at all: its manifest asks, an admin grants. This crate
//! is the Rust side of the contract: traits for what a plugin offers, modules for what it may ask of the host, and a
//! [`testing::TestHost`] to test the logic with plain `cargo test`. It owns no policy: what is allowed is
//! decided by the host, again at every call.
//!
//! # A whole plugin
//!
//! ```
//! use leanclaw_plugin_sdk::{Context, Failure, MethodTable, Methods, Scope, events, kv, log};
//! use leanclaw_plugin_sdk::{schemars::{self, JsonSchema}, serde::{self, Deserialize, Serialize}};
//!
//! #[derive(Default)]
//! struct Counters;
//!
//! // The component offers gateway methods, and nothing else.
//! leanclaw_plugin_sdk::export!(Counters: methods);
//!
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(crate = "serde", deny_unknown_fields)]
//! struct Count {
//!     /// What is counted.
//!     name: String,
//!     /// By how much; 1 if absent.
//!     by: Option<u32>,
//! }
//!
//! #[derive(Serialize, JsonSchema)]
//! #[serde(crate = "serde")]
//! struct Counted {
//!     /// The count so far.
//!     total: u64,
//! }
//!
//! impl Methods for Counters {
//!     fn methods() -> MethodTable<Self> {
//!         // Types give the schemas, so a client's mistake is found before `count` runs.
//!         MethodTable::new().method("count", "Counts something.", Scope::Write, Self::count)
//!     }
//! }
//!
//! impl Counters {
//!     fn count(&self, context: &Context, count: Count) -> Result<Counted, Failure> {
//!         if count.name.is_empty() {
//!             return Err(Failure::invalid_input("`name` is empty."));
//!         }
//!         // Others may count at the same time: `update` loses neither.
//!         let total = kv::update(&format!("count/{}", count.name), |old: Option<u64>| {
//!             Ok(old.unwrap_or(0) + u64::from(count.by.unwrap_or(1)))
//!         })?;
//!         events::emit("counted", &Counted { total })?;
//!         log::info!(caller = context.caller().id.as_str(); "counted {}", count.name);
//!         Ok(Counted { total })
//!     }
//! }
//!
//! // In a test:
//! use leanclaw_plugin_sdk::{serde_json::json, testing::TestHost};
//!
//! let manifest = r#"{"id": "counters", "main": "counters.wasm",
//!                    "permissions": {"kv": {}, "events": ["counted"]}}"#;
//! let host = TestHost::with_manifest(manifest)?;
//! host.call_method::<Counters>("count", json!({"name": "cats"}))?;
//! assert_eq!(host.call_method::<Counters>("count", json!({"name": "cats", "by": 2}))?, json!({"total": 3}));
//! assert_eq!(host.events()[1].payload, json!({"total": 3}));
//! assert_eq!(host.call_method::<Counters>("count", json!({"name": 5})).unwrap_err().code, "invalid-input");
//! # Ok::<(), Failure>(())
//! ```
//!
//! # What a plugin offers
//!
//! | trait | in [`export!`] | what it is |
//! |---|---|---|
//! | [`Methods`] | `methods` | gateway methods `<plugin id>.<name>`, with scope and schemas |
//! | [`Skill`] | `skill` | tools for agents |
//! | [`Channel`] | `channel` | a messaging channel; add [`Webhook`], [`Poll`], [`Socket`] for what comes in, and [`ChannelActions`] for more than sending |
//! | [`Hook`] | `hook` | sees events before they happen, and may veto or rewrite them |
//! | [`HttpRoutes`] | `routes` | HTTP routes of its own |
//!
//! One type may implement several: `export!(MyChannel: channel, webhook);`.
//!
//! # What a plugin may ask of the host
//!
//! | | needs in the manifest's `permissions` |
//! |---|---|
//! | [`log`]'s macros, [`settings`], [`Context`], [`Blob`] | nothing |
//! | [`kv`] | `kv` |
//! | [`http`], and any crate that speaks `wasi:http` | `http`, `privateHttp` |
//! | [`credentials`]; `{{secret:NAME}}` in requests | `secrets` |
//! | [`events`] | `events` |
//! | [`inbox`] | `inbox` |
//!
//! A component imports only what its code really calls. The other way round, an interface that is called but not granted keeps the whole plugin
//! from loading, and `leanclaw plugin check` says which.
//!
//! # State
//!
//! Most instances serve one call and are gone, so that nothing leaks from one caller to the next: keep state in [`kv`].
//! An instance lives on only for channels and where the manifest says `"lifecycle": "resident"`; `self` may then hold
//! state in a `Cell` or `RefCell`, shared by all callers and lost when the host recycles the instance.

mod blob;
mod channel;
mod context;
pub mod credentials;
pub mod events;
mod export;
pub mod failure;
mod headers;
mod hook;
mod host;
pub mod http;
pub mod inbox;
mod json;
pub mod kv;
mod logging;
mod message;
mod methods;
mod services;
pub mod skill;
pub mod web;

#[cfg(target_family = "wasm")]
mod bindings;
#[cfg(target_family = "wasm")]
mod convert;
#[cfg(target_family = "wasm")]
mod exports;
#[cfg(target_family = "wasm")]
mod stdio;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use blob::Blob;
pub use channel::{Channel, ChannelActions, Descriptor, Endpoint, Frame, Poll, PollStep, Reaction, Socket, Webhook};
pub use context::{Caller, Context};
pub use failure::Failure;
pub use headers::Headers;
pub use hook::{Decision, Hook};
pub use log;
pub use logging::logger;
pub use message::{Inbound, Outbound, Part, Person, Place, Receipt};
pub use methods::{MethodSpec, MethodTable, Methods, NoParams, Scope};
pub use schemars;
pub use serde;
pub use serde_json;
pub use services::{now_ms, settings};
pub use skill::{Output, Skill, Structured, Tool, ToolTable};
pub use web::HttpRoutes;

/// What [`export!`] expands to; not for use by hand.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings::{actions, channel, hook, method, poll, routes, skill, socket, webhook};
    pub use crate::exports::{Adapter, Instance};
}
