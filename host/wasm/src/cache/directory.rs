//! The cache directory: who may own it, the host's key in it, and how much it may hold.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rand::TryRng;
use sha2::{Digest as _, Sha256};

use crate::source::{Digest, EngineHash};

/// The file with the host's key.
const KEY_FILE: &str = "host-key";
/// Suffix of entries, and prefix of files being written.
const ENTRY_SUFFIX: &str = ".cwasm";
const TEMPORARY_PREFIX: &str = ".writing-";
/// An unfinished file older than this was left behind by a crash.
const TEMPORARY_MAX_AGE: Duration = Duration::from_secs(3600);

/// How much the cache keeps. Entries are dropped oldest use first; use is noted with a day's precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheBounds {
    /// Entries (default 1024).
    pub max_entries: usize,
    /// Total size in bytes (default 2 GiB).
    pub max_bytes: u64,
    /// Age since last use (default 90 days).
    pub max_age: Duration,
}

impl Default for CacheBounds {
    fn default() -> Self {
        Self { max_entries: 1024, max_bytes: 2 << 30, max_age: Duration::from_secs(90 * 24 * 3600) }
    }
}

/// Why compiled code is not cached.
#[derive(Debug, thiserror::Error)]
pub enum CacheOff {
    /// No directory was configured.
    #[error("no cache directory is configured")]
    NotConfigured,
    /// The directory (or the key in it) cannot be used.
    #[error("the cache directory {} cannot be used", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another user owns it.
    #[error("{} belongs to user {owner}, not to user {user} who runs this program", path.display())]
    ForeignOwner {
        /// The file or directory.
        path: PathBuf,
        /// Its owner's numeric id.
        owner: u32,
        /// Our numeric id.
        user: u32,
    },
    /// Others may read or write it.
    #[error("{} has mode {mode:04o}: other users could read or replace compiled code", path.display())]
    TooOpen {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file is not one of ours.
    #[error("{} is not a key of 32 bytes", path.display())]
    BadKey {
        /// The key file.
        path: PathBuf,
    },
}

impl CacheOff {
    /// What an operator can do about it, one sentence per line.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::NotConfigured => "name a cache directory to make the next start fast".to_owned(),
            Self::Io { path, .. } => format!("make {} a directory this user can write", path.display()),
            Self::ForeignOwner { path, user, .. } => {
                format!("run `chown -R {user} {}` or choose another cache directory", path.display())
            }
            Self::TooOpen { path, .. } => format!("run `chmod go-rwx {}`", path.display()),
            Self::BadKey { path } => format!("remove {}; a new one is made at the next start", path.display()),
        };
        vec![hint]
    }
}

/// Names one entry: this component compiled by this engine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryKey(pub(super) [u8; 32]);

impl EntryKey {
    pub(crate) fn new(digest: &Digest, engine: EngineHash) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(digest.as_bytes());
        hasher.update(engine.0);
        Self(hasher.finalize().into())
    }
}

impl std::fmt::Display for EntryKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// An open cache directory that passed its checks.
pub(crate) struct Cache {
    directory: PathBuf,
    pub(super) host_key: [u8; 32],
    pub(super) user: u32,
    bounds: CacheBounds,
}

impl Cache {
    /// Creates or checks the directory and its key. Reads no entry.
    pub(crate) fn open(directory: &Path, bounds: CacheBounds) -> Result<Self, CacheOff> {
        let failed = |source| CacheOff::Io { path: directory.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        // Symbolic links are the admin's choice; what they lead to is what is checked and used.
        let directory = directory.canonicalize().map_err(failed)?;
        let user = effective_user();
        private(&directory, &directory.metadata().map_err(failed)?, user)?;
        let host_key = host_key(&directory, user)?;
        Ok(Self { directory, host_key, user, bounds })
    }

    pub(super) fn path_of(&self, key: &EntryKey) -> PathBuf {
        self.directory.join(format!("{key}{ENTRY_SUFFIX}"))
    }

    /// Puts a complete file in place of whatever the name meant before.
    pub(super) fn replace(&self, target: &Path, parts: &[&[u8]]) -> io::Result<()> {
        let (temporary, mut file) = create_temporary(&self.directory)?;
        let written = parts
            .iter()
            .try_for_each(|part| file.write_all(part))
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&temporary, target));
        if written.is_err() {
            // The sweep removes it later if this fails too.
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }

    /// Removes entries beyond the bounds and unfinished files of crashed processes. Files it did not make stay.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        let now = SystemTime::now();
        let age = |used: SystemTime| now.duration_since(used).unwrap_or_default();
        let mut entries = Vec::new();
        for found in std::fs::read_dir(&self.directory)? {
            let found = found?;
            let name = found.file_name();
            let Some(name) = name.to_str() else { continue };
            // Another process may have removed it meanwhile.
            let Ok(metadata) = found.metadata() else { continue };
            let used = metadata.modified()?;
            if name.starts_with(TEMPORARY_PREFIX) && age(used) > TEMPORARY_MAX_AGE {
                remove(&found.path())?;
            } else if name.ends_with(ENTRY_SUFFIX) {
                entries.push((used, metadata.len(), found.path()));
            }
        }
        entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.0));
        let mut total_bytes = 0_u64;
        for (index, (used, size_bytes, path)) in entries.iter().enumerate() {
            total_bytes = total_bytes.saturating_add(*size_bytes);
            let keep = index < self.bounds.max_entries
                && total_bytes <= self.bounds.max_bytes
                && age(*used) <= self.bounds.max_age;
            if !keep {
                remove(path)?;
            }
        }
        Ok(())
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[expect(unsafe_code, reason = "the standard library has no call for the effective user id")]
fn effective_user() -> u32 {
    // SAFETY: geteuid takes no arguments, touches no memory of ours and cannot fail.
    unsafe { libc::geteuid() }
}

/// Refuses what another user owns or could touch.
pub(super) fn private(path: &Path, metadata: &Metadata, user: u32) -> Result<(), CacheOff> {
    if metadata.uid() != user {
        return Err(CacheOff::ForeignOwner { path: path.to_owned(), owner: metadata.uid(), user });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(CacheOff::TooOpen { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Opens a file of ours for reading. Neither follows a link nor waits for a pipe.
pub(super) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// Reads the host's key, making it first where there is none. Of several processes making one, the first wins.
fn host_key(directory: &Path, user: u32) -> Result<[u8; 32], CacheOff> {
    let path = directory.join(KEY_FILE);
    let failed = |source| CacheOff::Io { path: path.clone(), source };
    let file = match open_private(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_key(directory, &path).map_err(failed)?;
            open_private(&path)
        }
        opened => opened,
    };
    let file = file.map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    private(&path, &metadata, user)?;
    let mut bytes = Vec::with_capacity(32);
    if metadata.is_file() {
        file.take(33).read_to_end(&mut bytes).map_err(failed)?;
    }
    bytes.try_into().map_err(|_: Vec<u8>| CacheOff::BadKey { path: path.clone() })
}

fn create_key(directory: &Path, path: &Path) -> io::Result<()> {
    let mut key = [0_u8; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut key).map_err(io::Error::other)?;
    let (temporary, mut file) = create_temporary(directory)?;
    file.write_all(&key)?;
    file.sync_all()?;
    // A link, unlike a rename, never replaces the key that another process made meanwhile.
    let linked = std::fs::hard_link(&temporary, path);
    std::fs::remove_file(&temporary)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// A new private file that no one else has open.
fn create_temporary(directory: &Path) -> io::Result<(PathBuf, File)> {
    let path = directory.join(format!("{TEMPORARY_PREFIX}{:016x}", rand::random::<u64>()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    Ok((path, file))
}
