//! The providers over real HTTP, against a server that says what each test scripts.
//!
//! The cases are those that every provider has to stand, and those of one alone: of Anthropic here, of servers that speak
//! Chat Completions in `openai`. Not here, with the reason: nothing is decompressed (a compressed answer is an error that
//! says so, see `faults`), HTTP/2 is not spoken, and each request has a connection of its own, so there is no kept one that
//! a server could close in between.
//!
//! A guard is shown by the same case going well without what it guards against.

mod answers;
mod api;
mod faults;
mod login;
mod openai;
mod pace;
mod stand_in;
mod support;
mod tools;
