//! The whole pipeline against real servers on this machine.
//!
//! A guard is shown by the same request going through with the grant and failing without it.

mod limits;
mod pipeline;
mod requests;
mod secrets;
mod support;
mod tls;
mod websocket;
