//! Who is let in: the handshake's decision about a `connect`, from what the caller shows and where it comes from.

#![no_main]

use leanclaw_gateway::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| fuzz::decision(text).unwrap());
