//! Servers that speak Chat Completions.

mod answers;
mod api;
mod faults;
mod pace;
mod support;
mod tools;
