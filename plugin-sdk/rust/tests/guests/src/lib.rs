//! The components are in `examples`.
