//! The gateway of the running program, with real plugins behind it.

mod auth;
mod methods;
mod routes;
