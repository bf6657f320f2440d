//! leanclaw-store.
