//! The compile cache: compiled code on disk, authenticated and mapped.
//!
//! Running compiled code is running native code, so the rules are strict:
//!
//! * **The directory is ours alone**: owned by this user, mode 0700. Otherwise the cache stays off, with a reason.
//! * **Every file carries an authentication code** (HMAC-SHA256 under a random key that never leaves this directory)
//!   over its content and the key of the entry, so that neither a changed byte nor another component's file passes.
//! * **What is mapped is what was verified**: the file is opened once, checked and read through that descriptor, and
//!   mapped through the same descriptor.
//! * **A file is never changed in place**: new content is written beside it and renamed over it, because running code
//!   is mapped from it.
//!
//! The boundary is the user id: a process of the same user can rewrite a file between verification and use, and could
//! equally well trace this process. Any other user is kept out by the directory and the key.
//!
//! Any failure here is a miss, and a miss compiles.

mod directory;
mod file;
mod stats;

pub use directory::{CacheBounds, CacheOff};
pub use stats::CacheStats;

pub(crate) use directory::{Cache, EntryKey};
pub(crate) use file::{Lookup, from_own_code};
pub(crate) use stats::Counters;
