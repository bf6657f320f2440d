//! What the benchmark programs share: talking to a gateway as a client, and numbers.
//!
//! The programs: `leanclaw-bench` runs everything and prints; `bench-client` is the load on a gateway, in a process of
//! its own so that its work is never counted as the server's; `reference-hello` is the smallest server there is on the
//! same HTTP stack. Nothing here decides whether a figure is good: that is a table in `leanclaw-bench`.

pub mod load;
pub mod numbers;
pub mod wire;
