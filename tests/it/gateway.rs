//! The gateway of the running program, with real plugins behind it.

mod auth;
mod bad_traffic;
mod kept;
mod lists;
mod methods;
mod routes;
