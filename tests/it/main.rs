//! The black-box tests, in one binary so that they link once.
//!
//! Modules are marked `#[cfg(test)]` so that the lints treat their helper functions as test code.

#[cfg(test)]
mod agents;
#[cfg(test)]
mod author;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod crate_edges;
#[cfg(test)]
mod disks;
#[cfg(test)]
mod durability;
#[cfg(test)]
mod egress;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod folder;
#[cfg(test)]
mod garbage;
#[cfg(test)]
mod gateway;
#[cfg(test)]
mod original;
#[cfg(test)]
mod support;
