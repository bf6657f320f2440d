//! Gateway frames.
