//! The runtime as a whole, with inline guests and services in memory.

mod support;

mod basics;
mod hostile;
