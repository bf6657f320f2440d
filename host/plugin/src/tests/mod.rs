//! The runtime as a whole, with inline guests and services in memory.

mod servers;
mod stored;
mod support;

mod audit;
mod authorize;
mod basics;
mod cache;
mod descriptions;
mod drivers;
mod hooks;
mod hostile;
mod load;
mod logs;
mod purge;
mod resident;
mod rights;
mod routes;
mod running;
mod swaps;
mod trouble;
mod webhooks;
