//! What the benchmark programs share: talking to a gateway as a client, and numbers.
//!
//! The programs: `leanclaw-bench` runs everything and prints; `bench-client` is the load on a server, in a process of
//! its own so that its work is never counted as the server's; `reference-hello` is the smallest server there is on the
//! same HTTP stack, `reference-gateway` a bare one with a route and WebSockets. Nothing here decides whether a figure is
//! good: that is a table in `leanclaw-bench`.

use serde::{Deserialize, Serialize};

pub mod compare;
pub mod crowd;
pub mod device;
pub mod get;
pub mod load;
pub mod numbers;
pub mod wire;

/// What `bench-client` is told to do; its only argument, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Task {
    /// Methods of one gateway, or a soak. Tells [`load::Report`]s.
    Load(load::Plan),
    /// Several servers in turns. Tells [`compare::Turn`]s.
    Compare(compare::Comparison),
    /// Many connections at once. Tells [`crowd::Heard`].
    Crowd(crowd::Crowd),
}
