//! leanclaw-wasm.
