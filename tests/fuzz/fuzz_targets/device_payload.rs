//! A device's proof and the parameters of the `connect` it belongs to.

#![no_main]

use leanclaw_gateway::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // Nonce and time of the pair in the corpus that is good.
    fuzz::device_payload(text, "285aa08c-6437-4302-ad63-9a9553f4099a", 1_795_362_452_016).unwrap();
});
