//! The LeanClaw program: configuration, command line, and the wiring of its parts.
//!
//! The crates around it own the work (engine, plugins, store, gateway); this one reads what it is told, starts them,
//! joins them, and stops them. It owns no protocol and no effect of its own except the command line's.

mod admin;
mod agent_component;
mod agents;
mod author;
pub mod cli;
pub mod client;
mod commands;
pub mod config;
pub mod data_dir;
mod import;
mod locate;
pub mod lock;
pub mod log_file;
mod output;
mod report;
pub mod run;
pub mod shutdown;
pub mod telemetry;
mod wiring;
