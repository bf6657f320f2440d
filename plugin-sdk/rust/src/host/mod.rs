//! The one place where the plugin's calls leave this crate: into the component's imports, or, in a native build, into
//! the [`TestHost`](crate::testing::TestHost). Both have the same functions.

#[cfg(target_family = "wasm")]
mod guest;
#[cfg(target_family = "wasm")]
pub(crate) use guest::*;

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(not(target_family = "wasm"))]
pub(crate) use native::*;
