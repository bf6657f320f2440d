//! leanclaw-egress.
