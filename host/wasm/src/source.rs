//! What is compiled: component bytes or a file, and the digest that names them.

use std::hash::{Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

/// SHA-256 of a component's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest computed earlier.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for Digest {
    /// 64 lower-case hexadecimal digits.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Digest({self})")
    }
}

/// What a file system says about a file that changes whenever its content does. Together with the path it is a key
/// under which a [`Digest`] may be remembered, so that a start hashes nothing that did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStamp {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Last change of the content, nanoseconds since 1970.
    pub modified_nanoseconds: i128,
    /// Last change of the inode, nanoseconds since 1970; a program cannot set it back.
    pub changed_nanoseconds: i128,
}

impl FileStamp {
    /// The stamp in `metadata`.
    #[must_use]
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            modified_nanoseconds: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_nanoseconds: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Hashes the file at `path` on a blocking thread and returns the digest with the stamp it belongs to.
///
/// # Errors
/// The file cannot be read, is not a regular file, or changed while it was read ([`std::io::ErrorKind::Interrupted`]:
/// try again when it is quiet).
pub async fn digest_file(path: impl Into<PathBuf>) -> std::io::Result<(Digest, FileStamp)> {
    let path = path.into();
    tokio::task::spawn_blocking(move || digest_blocking(&path)).await.map_err(std::io::Error::other)?
}

fn digest_blocking(path: &Path) -> std::io::Result<(Digest, FileStamp)> {
    let mut file = open_regular(path)?;
    let before = FileStamp::of(&file.metadata()?);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 256 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else { break };
        hasher.update(chunk);
    }
    if FileStamp::of(&file.metadata()?) != before {
        return Err(std::io::Error::new(std::io::ErrorKind::Interrupted, "the file changed while it was read"));
    }
    Ok((Digest(hasher.finalize().into()), before))
}

/// Opens a regular file for reading; a pipe or device is refused instead of waited for.
fn open_regular(path: &Path) -> std::io::Result<std::fs::File> {
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// Where a component comes from. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct WasmSource {
    pub(crate) origin: Origin,
    pub(crate) digest: Option<Digest>,
}

#[derive(Debug, Clone)]
pub(crate) enum Origin {
    Bytes(Arc<[u8]>),
    File(Arc<Path>),
}

impl WasmSource {
    /// A component in memory.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self { origin: Origin::Bytes(bytes.into()), digest: None }
    }

    /// A component file. It is read when the component is first needed and not in the cache.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self { origin: Origin::File(Arc::from(path.as_ref())), digest: None }
    }

    /// The same source, whose digest is already known: with it, a cached component is loaded without reading the
    /// source at all. A source that turns out to have another digest is refused when it has to be read.
    #[must_use]
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// The bytes, of which there may be at most `limit_bytes`; `Ok(Err(size))` when there are more.
    pub(crate) fn read(&self, limit_bytes: u64) -> std::io::Result<Result<Arc<[u8]>, u64>> {
        let path = match &self.origin {
            Origin::Bytes(bytes) => return Ok(Ok(Arc::clone(bytes))),
            Origin::File(path) => path,
        };
        let file = open_regular(path)?;
        let size_bytes = file.metadata()?.len();
        if size_bytes > limit_bytes {
            return Ok(Err(size_bytes));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or_default());
        // The file may grow meanwhile; one byte more than allowed is enough to see it.
        file.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        let read_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(if read_bytes > limit_bytes { Err(read_bytes) } else { Ok(bytes.into()) })
    }
}

/// Everything about an engine that decides whether its compiled code fits another, as one hash.
#[derive(Clone, Copy)]
pub(crate) struct EngineHash(pub(crate) [u8; 32]);

impl EngineHash {
    pub(crate) fn of(engine: &Engine) -> Self {
        let mut hasher = WideHasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self(hasher.0.finalize().into())
    }
}

/// Feeds a [`Hash`] implementation into SHA-256 instead of 64 bits.
struct WideHasher(Sha256);

impl Hasher for WideHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        // Only called by code that wants a 64-bit hash, which this crate has none of.
        0
    }
}
