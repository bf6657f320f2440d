//! The parameters of `connect`.

#![no_main]

use leanclaw_gateway::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| fuzz::connect_params(text).unwrap());
