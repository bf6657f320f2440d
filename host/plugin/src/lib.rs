//! leanclaw-plugin.
