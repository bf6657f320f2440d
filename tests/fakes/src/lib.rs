//! Servers that stand in for real ones in tests: they say what a script says, over real HTTP, and remember what they were
//! asked.
//!
//! [`FakeServer`] knows nothing of any provider: each route has a queue of [`Reply`]s, each cut into pieces with pauses
//! and ended in one of the ways a connection can end. [`anthropic`] and [`openai`] add the rules that the real servers enforce,
//! so that a client that breaks one of them is refused here too. [`fixture`] gives whole answers of `tests/data/providers`.
//!
//! [`stand_in`] answers in place of a model where there is none, also as the program `fake-model`.
//!
//! It speaks HTTP/1.1 with one request per connection, without TLS, and only on 127.0.0.1.

pub mod anthropic;
mod fixtures;
pub mod openai;
mod record;
mod reply;
mod server;
pub mod stand_in;
mod wire;

pub use fixtures::{FIXTURES, fixture};
pub use record::Recorded;
pub use reply::{Chunk, End, Reply};
pub use server::FakeServer;
