//! The black-box tests, in one binary so that they link once.
//!
//! Modules are marked `#[cfg(test)]` so that the lints treat their helper functions as test code.

#[cfg(test)]
mod crate_edges;
