//! The agent that runs inside a sandbox: it takes prompts from the host, has the host call a model, runs tools on the files of
//! its workspace and says what it does while it does it.
//!
//! Its wire is the Agent Client Protocol (JSON-RPC, one message per line) over a [`Link`], with the extensions of
//! [`leanclaw_types::agent`]. It is one synchronous state machine without a runtime, so that the same code is a static program
//! in a container and a component without threads. It holds no key, opens no socket, and keeps nothing but what the host told
//! it: transcript, budget and policy are the host's. Whatever arrives, only the end of its input ends it.

mod agent;
mod cap;
mod frame;
mod link;
mod peer;
#[cfg(not(target_family = "wasm"))]
mod process;
mod prompt;
mod session;
mod system;
mod tools;
mod turn;
mod update;
mod workspace;

pub use agent::run;
pub use link::{Link, MAX_LINE_BYTES, Received, Stdio, Wait};
#[cfg(not(target_family = "wasm"))]
pub use process::{keep_private, reap_if_first};
