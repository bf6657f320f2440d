//! Who is at the door, and what they may do.
//!
//! | who | gets in |
//! |---|---|
//! | shows the shared token or password, or one of the named credentials | yes, with the scopes it asks for and the credential's role has; its device, if it has one, must be paired too |
//! | shows the token of its own paired device | yes, with scopes that device was approved for and its role has |
//! | no credential configured, direct loopback, no web page | yes, with the scopes it asks for |
//! | no credential configured, a web page on this machine | only as a device that an admin approved |
//! | behind a proxy on this machine that is not trusted | no |
//! | anyone else | no |
//!
//! Decisions use the socket's address, the headers a proxy or browser cannot help sending, the shared credential and
//! device signatures. Pairing itself is the business of [`crate::devices`].

pub(crate) mod credential;
pub(crate) mod device;
pub(crate) mod lockout;
pub(crate) mod open_counts;
pub(crate) mod peer;
mod refusal_words;
pub(crate) mod repeats;
pub(crate) mod roles;

pub(crate) use credential::{Access, Proven, Refusal, decide, decide_http, is_page_client};
pub(crate) use peer::Peer;
pub use roles::Role;
