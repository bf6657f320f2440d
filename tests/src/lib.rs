//! leanclaw-tests.
