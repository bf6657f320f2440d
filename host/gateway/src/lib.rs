//! The gateway: one listener that speaks the OpenClaw gateway protocol (versions 3 and 4) over WebSocket, and a small
//! HTTP surface beside it.
//!
//! What it owns: sockets, frames, the handshake, who may call what, the dispatch of methods, events and their order,
//! HTTP routes, and every limit on them. What it refuses to own: plugins, agents, storage, configuration files. Those are
//! reached through [`PluginHost`], [`Records`], [`Sessions`], [`Runs`], [`AuditSink`] and [`Readiness`], which the program
//! implements.
//!
//! * No request reaches a method before its scope is checked, and no scope is checked before the caller is known.
//! * Nothing a client says about itself grants it anything.
//! * Every queue is bounded: bytes towards a slow reader, calls in flight, sockets per address, failed logins.
//!
//! [`serve`] runs it until its token is cancelled.

mod adopt;
mod agents;
mod approvals;
mod auth;
mod clock_text;
mod config;
mod connection;
mod crowd;
mod decisions;
mod devices;
mod digest;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod gateway;
mod groups;
mod guard;
mod handshake;
mod hello;
mod hooks;
mod hub;
mod log_file;
mod methods;
mod nodes;
mod once;
mod phrase;
mod plugins;
mod presence;
mod pulse;
mod rate;
mod runs;
mod server;
mod services;
mod sessions;
mod settings;
mod shelf;
mod snapshot;
#[cfg(test)]
mod tests;
mod web;
mod wire;
mod workspace;

pub use adopt::{AdoptedGroup, agent_document, chat_session};
pub use auth::Role;
pub use config::{Auth, ControlUi, Credential, GatewayConfig, Limits, LiveConfig, NodeCommands, check_bind};
pub use error::GatewayError;
pub use gateway::{Gateway, Services};
pub use hooks::{HookMapping, Hooks};
pub use log_file::{LogPiece, LogWish, MAX_LOG_BYTES, MAX_LOG_LINES, read_log};
pub use methods::{is_of_version_3_only, own_methods};
pub use plugins::{Channel, PluginHost, PluginMethod, RouteBody, WebhookReply, WebhookRequest};
pub use rate::{ClassLimits, RateLimits};
pub use server::serve;
pub use services::{AuditSink, Readiness, RecordChange, Records, RunWatcher, Runs, Sessions};
pub use settings::{
    CheckedSettings, OutrankedKey, Reload, Settings, SettingsIssue, changed_keys, is_or_is_below, merge_settings,
    settings_refusal, settings_text, without_secrets,
};
pub use web::Doorman;
