//! The gateway of the running program, with real plugins behind it.

mod auth;
mod bad_traffic;
mod lists;
mod methods;
mod routes;
