//! Guests that mean harm, and bad input: each ends in a typed failure that says what to do, others are served meanwhile,
//! and nothing is left behind. A guard is shown by the same guest passing where it is allowed to.

mod egress;
mod exports;
mod floods;
mod grants;
mod identity;
mod leaks;
mod memory;
mod packages;
mod sandbox;
mod secrets;
mod shape;
mod time;
