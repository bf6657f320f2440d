//! Who is at the door, and what they may do.
//!
//! | who | gets in |
//! |---|---|
//! | shows the shared token | yes, with the scopes it asks for |
//! | no token configured, direct loopback, no web page | yes, with the scopes it asks for |
//! | a web page (an `Origin` header) without a token | no |
//! | behind a proxy on this machine that is not trusted | no |
//! | anyone else | no |
//!
//! Decisions use the socket's address, the headers a proxy or browser cannot help sending, and the shared token.
//! A device block is neither verified nor believed here: it grants nothing.

pub(crate) mod credential;
pub(crate) mod door;
pub(crate) mod lockout;
pub(crate) mod peer;

pub(crate) use credential::{Access, decide, decide_http};
pub(crate) use peer::Peer;
