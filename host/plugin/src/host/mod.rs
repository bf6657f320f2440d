//! The host side of every imported interface, one file each.
//!
//! Each function first counts itself against the call's budget of host calls, and acts only for the plugin and account
//! of its own store: nothing a guest passes chooses another. Whether an interface is there at all is decided in
//! [`crate::linker`]; what it may touch is decided here, from the granted permissions.

pub(crate) mod blobs;
pub(crate) mod call;
mod credentials;
mod events;
pub(crate) mod http;
mod inbox;
mod kv;
mod log;
mod settings;
pub(crate) mod wasi_http;

use crate::bindings::imports::types;

impl types::Host for crate::state::InstanceState {}
