//! leanclaw-gateway.
