//! One cache entry: the compiled code followed by a trailer that authenticates it.
//!
//! ```text
//! compiled code (an ELF image, as the engine made it) | format 16 | entry key 32 | HMAC-SHA256 32
//! ```
//!
//! The code is authenticated together with the format and the entry key. The trailer is at the end, so that the image
//! starts at offset 0 of the file as mapping requires; an ELF reader finds everything through offsets from the start
//! and does not look past the last section. Code and code are one file, hence always of one write.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use hmac::digest::Key;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::footprint::forget;

use super::directory::{Cache, EntryKey, open_private, private};

const FORMAT: &[u8; 16] = b"leanclaw-cwasm-1";
const HEAD_BYTES: usize = FORMAT.len() + 32;
const TRAILER_BYTES: usize = HEAD_BYTES + 32;

/// Compiled code of the largest accepted component stays well below this.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// How stale the note of last use may be.
const USE_PRECISION: Duration = Duration::from_secs(24 * 3600);

/// What the cache has for an entry.
pub(crate) enum Lookup {
    /// Verified and loaded.
    Hit(Component),
    /// Nothing.
    Missing,
    /// A file that must not be used.
    Rejected(Rejection),
}

/// Why a cached file was not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    NotPrivate(#[from] super::CacheOff),
    #[error("it is not a regular file of a plausible size")]
    Shape,
    #[error("it was written for another component, engine or format")]
    WrongEntry,
    #[error("its authentication code does not match: it was altered, or written under another key")]
    Forged,
    #[error("the engine does not accept it: {0}")]
    Incompatible(String),
}

impl Cache {
    /// The entry's component, verified and mapped.
    pub(crate) fn load(&self, engine: &Engine, key: &EntryKey) -> Lookup {
        let path = self.path_of(key);
        let file = match open_private(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Lookup::Missing,
            Err(error) => return Lookup::Rejected(error.into()),
        };
        match self.verify(&file, key, path).and_then(|code_bytes| map(engine, &file, code_bytes)) {
            Ok(component) => {
                note_use(&file);
                let image = component.image_range();
                forget(image.start.addr()..image.end.addr());
                Lookup::Hit(component)
            }
            Err(rejection) => Lookup::Rejected(rejection),
        }
    }

    /// Stores compiled code under `key` and keeps the directory within its bounds.
    pub(crate) fn store(&self, key: &EntryKey, code: &[u8]) -> io::Result<()> {
        let mut authentication = self.authentication();
        authentication.update(code);
        authentication.update(FORMAT);
        authentication.update(&key.0);
        let tag = authentication.finalize().into_bytes();
        self.replace(&self.path_of(key), &[code, FORMAT, &key.0, &tag])?;
        self.sweep()
    }

    fn authentication(&self) -> Hmac<Sha256> {
        // HMAC takes a key of one hash block; a shorter one is padded with zeros.
        let mut block = Key::<Hmac<Sha256>>::default();
        block.iter_mut().zip(self.host_key).for_each(|(to, from)| *to = from);
        Hmac::<Sha256>::new(&block)
    }

    /// Checks owner, mode, entry and authentication code through the open file; returns the length of the code.
    fn verify(&self, file: &File, key: &EntryKey, path: PathBuf) -> Result<u64, Rejection> {
        let metadata = file.metadata()?;
        private(&path, &metadata, self.user)?;
        let code_bytes = metadata.len().checked_sub(TRAILER_BYTES as u64).ok_or(Rejection::Shape)?;
        if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
            return Err(Rejection::Shape);
        }
        let mut trailer = [0_u8; TRAILER_BYTES];
        file.read_exact_at(&mut trailer, code_bytes)?;
        let (head, tag) = trailer.split_at(HEAD_BYTES);
        let (format, entry) = head.split_at(FORMAT.len());
        if format != FORMAT || entry != key.0 {
            return Err(Rejection::WrongEntry);
        }
        let mut authentication = self.authentication();
        let mut buffer = vec![0_u8; 256 * 1024];
        let mut offset = 0_u64;
        while offset < code_bytes {
            let wanted = usize::try_from(code_bytes - offset).unwrap_or(usize::MAX).min(buffer.len());
            let chunk = buffer.get_mut(..wanted).unwrap_or_default();
            file.read_exact_at(chunk, offset)?;
            authentication.update(chunk);
            offset += wanted as u64;
        }
        authentication.update(head);
        authentication.verify_slice(tag).map_err(|_| Rejection::Forged)?;
        Ok(code_bytes)
    }
}

/// Maps the verified file. The path leads through the descriptor, so it is the same file whatever the name means now.
#[expect(unsafe_code, reason = "mapping compiled code is what the cache is for")]
fn map(engine: &Engine, file: &File, code_bytes: u64) -> Result<Component, Rejection> {
    let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let loaded = if by_descriptor.exists() {
        // SAFETY: the engine requires unmodified output of its own compiler. The authentication code, made with a key
        // that only this user can read, was just verified over this very file, which no other user can open.
        unsafe { Component::deserialize_file(engine, by_descriptor) }
    } else {
        // Systems without /proc: read the code instead of mapping it.
        let mut code = vec![0_u8; usize::try_from(code_bytes).map_err(|_| Rejection::Shape)?];
        file.read_exact_at(&mut code, 0)?;
        return from_own_code(engine, &code).map_err(incompatible);
    };
    loaded.map_err(incompatible)
}

fn incompatible(error: wasmtime::Error) -> Rejection {
    Rejection::Incompatible(format!("{error:#}"))
}

/// Loads code that this process compiled or verified a moment ago.
#[expect(unsafe_code, reason = "the code is the compiler's own output and never left this process's control")]
pub(crate) fn from_own_code(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: both callers pass unmodified compiler output: one just received it from the compiler, the other read it
    // through the descriptor whose content it verified.
    unsafe { Component::deserialize(engine, code) }
}

/// Notes the use, so that the sweep keeps what is used. Failing to note it only makes the entry look older.
fn note_use(file: &File) {
    let now = SystemTime::now();
    let stale = file
        .metadata()
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age > USE_PRECISION));
    if stale {
        let _ = file.set_modified(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::EngineHash;
    use crate::{CacheBounds, Digest, EngineSettings, Pooling, Wasm};

    /// Between the check and the mapping the name may come to mean another file. What is run is what was checked.
    #[test]
    fn what_was_verified_is_mapped_whatever_its_name_means_by_then() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(&directory.path().join("code"), CacheBounds::default()).unwrap();
        let settings = EngineSettings { pooling: Pooling::Off, ..EngineSettings::default() };
        let wasm = Wasm::new(settings).unwrap();
        let engine = wasm.engine();
        let stored = |name: &str| {
            let text = format!("(component (core module $m) (export \"{name}\" (core module $m)))");
            let bytes = wat::parse_str(&text).unwrap();
            let key = EntryKey::new(&Digest::of(&bytes), EngineHash::of(engine));
            cache.store(&key, &engine.precompile_component(&bytes).unwrap()).unwrap();
            key
        };
        let (checked, other) = (stored("checked"), stored("other"));
        let path = cache.path_of(&checked);
        let file = open_private(&path).unwrap();
        let code_bytes = cache.verify(&file, &checked, path.clone()).unwrap();
        std::fs::rename(cache.path_of(&other), &path).unwrap();
        let component = map(engine, &file, code_bytes).unwrap();
        assert!(component.get_export_index(None, "checked").is_some());
        assert!(component.get_export_index(None, "other").is_none());
        assert!(matches!(cache.load(engine, &checked), Lookup::Rejected(Rejection::WrongEntry)));
    }
}
