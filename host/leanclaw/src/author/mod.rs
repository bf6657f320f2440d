//! What plugin authors and admins do with a plugin's files: make a new one, build it, look at it, run it once, put it
//! into the plugin folder.
//!
//! Nothing here prints or asks; the commands do. Nothing here gives a plugin rights, except in a scratch runtime that is
//! gone when the command ends.

pub(crate) mod assets;
pub(crate) mod build;
pub(crate) mod bundle;
pub(crate) mod examine;
pub(crate) mod folder;
pub(crate) mod scaffold;
pub(crate) mod scratch;
pub(crate) mod sources;
