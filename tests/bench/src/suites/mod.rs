//! What is measured, one file per kind.

pub(crate) mod beside;
pub(crate) mod folder;
pub(crate) mod gateway;
pub(crate) mod instances;
pub(crate) mod rounds;
pub(crate) mod soak;
pub(crate) mod socket;
pub(crate) mod start;
