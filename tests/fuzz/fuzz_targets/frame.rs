//! A text message from a client, as the first one and as a later one.

#![no_main]

use leanclaw_gateway::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    fuzz::frame(text).unwrap();
    fuzz::first_frame(text).unwrap();
});
