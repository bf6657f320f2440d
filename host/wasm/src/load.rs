//! Loading a component: from the cache where possible, else compiled and put there.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::OnceCell;
use wasmtime::component::Component;

use crate::cache::{Cache, EntryKey, Lookup};
use crate::compile::{CompileError, preflight, unsupported};
use crate::engine::{Inner, Wasm};
use crate::source::{Digest, Origin, WasmSource};

/// A component could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The content is not what the given digest promised.
    #[error("the component changed: its digest is {actual}, not {expected}")]
    Changed {
        /// The digest that was given.
        expected: Digest,
        /// The digest found.
        actual: Digest,
    },
    /// It was refused or does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

impl LoadError {
    /// What can be done about it, one sentence per line.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Read { path, .. } => {
                vec![format!("{} must be a regular file that this user can read", path.display())]
            }
            Self::Changed { .. } => vec!["look at the file again, then load it under its new digest".into()],
            Self::Compile(error) => error.hints(),
        }
    }
}

impl Wasm {
    /// The component of `source`, from the cache or freshly compiled (and then cached for the next time).
    ///
    /// With a digest in the source, a cached component is loaded without reading the source. File reads, hashing and
    /// compiling happen on blocking threads; compilations wait for each other and finish even when the future is
    /// dropped.
    ///
    /// # Errors
    /// [`LoadError`]; [`LoadError::hints`] says what to do.
    pub async fn component(&self, source: &WasmSource) -> Result<Component, LoadError> {
        let stage = Stage { inner: Arc::clone(&self.inner), source: source.clone(), bytes: None, rejected: false };
        let (stage, found) = blocking(move || stage.look_first()).await?;
        if let Some(component) = found {
            return Ok(component);
        }
        let gate = Arc::clone(&self.inner.compile_gate).acquire_owned().await;
        blocking(move || {
            let _gate = gate;
            stage.compiled()
        })
        .await
    }

    /// A component that is loaded when it is first asked for.
    #[must_use]
    pub fn lazy_component(&self, source: WasmSource) -> LazyComponent {
        LazyComponent { wasm: self.clone(), source, cell: OnceCell::new() }
    }
}

/// A component that is loaded on first use, once, however many callers ask at the same time.
pub struct LazyComponent {
    wasm: Wasm,
    source: WasmSource,
    cell: OnceCell<Component>,
}

impl LazyComponent {
    /// The component, loading it if this is the first time. A failure is not remembered: the next caller tries again.
    ///
    /// # Errors
    /// As [`Wasm::component`].
    pub async fn get(&self) -> Result<&Component, LoadError> {
        self.cell.get_or_try_init(|| self.wasm.component(&self.source)).await
    }

    /// The component if it is loaded already.
    #[must_use]
    pub fn loaded(&self) -> Option<&Component> {
        self.cell.get()
    }

    /// What it is loaded from.
    #[must_use]
    pub fn source(&self) -> &WasmSource {
        &self.source
    }
}

/// Runs `work` on a blocking thread; its panic is the compiler's.
async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, LoadError> + Send + 'static,
) -> Result<R, LoadError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(LoadError::Compile(CompileError::Crashed)))
}

/// One load in progress, moved between blocking threads.
struct Stage {
    inner: Arc<Inner>,
    source: WasmSource,
    /// The content once it was read.
    bytes: Option<Arc<[u8]>>,
    /// The cached file was looked at and is bad.
    rejected: bool,
}

impl Stage {
    /// Looks into the cache. Reads and hashes the source only if no digest was given.
    fn look_first(mut self) -> Result<(Self, Option<Component>), LoadError> {
        if self.inner.cache.is_err() {
            return Ok((self, None));
        }
        if self.source.digest.is_none() {
            let bytes = self.read()?;
            self.source.digest = Some(Digest::of(&bytes));
        }
        let found = self.look_up();
        if found.is_none() {
            self.inner.counters.missed();
        }
        Ok((self, found))
    }

    /// Compiles, unless whoever compiled before us has cached the very same component meanwhile.
    fn compiled(mut self) -> Result<Component, LoadError> {
        if !self.rejected
            && let Some(component) = self.look_up()
        {
            return Ok(component);
        }
        let bytes = self.read()?;
        preflight(&bytes, self.inner.settings.max_component_bytes)?;
        let engine = &self.inner.engine;
        self.inner.counters.compiled();
        let Some((cache, key)) = self.entry() else {
            return Ok(Component::from_binary(engine, &bytes).map_err(|error| unsupported(&error))?);
        };
        let code = engine.precompile_component(&bytes).map_err(|error| unsupported(&error))?;
        if let Err(error) = cache.store(&key, &code) {
            self.inner.counters.write_failed();
            tracing::warn!(%error, "compiled code could not be cached; the next start compiles it again");
        }
        // Loading what was just stored maps the file, whose clean pages cost no memory of ours.
        if let Lookup::Hit(component) = cache.load(engine, &key) {
            return Ok(component);
        }
        Ok(crate::cache::from_own_code(engine, &code).map_err(|error| unsupported(&error))?)
    }

    fn entry(&self) -> Option<(&Cache, EntryKey)> {
        let cache = self.inner.cache.as_ref().ok()?;
        Some((cache, EntryKey::new(self.source.digest.as_ref()?, self.inner.engine_hash)))
    }

    fn look_up(&mut self) -> Option<Component> {
        let (cache, key) = self.entry()?;
        match cache.load(&self.inner.engine, &key) {
            Lookup::Hit(component) => {
                self.inner.counters.hit();
                return Some(component);
            }
            Lookup::Missing => {}
            Lookup::Rejected(reason) => {
                self.inner.counters.rejected();
                tracing::warn!(%reason, entry = %key, "cached code was rejected and will be compiled again");
                self.rejected = true;
            }
        }
        None
    }

    /// The content, checked against the digest that was given.
    fn read(&mut self) -> Result<Arc<[u8]>, LoadError> {
        if let Some(bytes) = &self.bytes {
            return Ok(Arc::clone(bytes));
        }
        let limit_bytes = self.inner.settings.max_component_bytes;
        let bytes = self
            .source
            .read(limit_bytes)
            .map_err(|source| LoadError::Read { path: self.path(), source })?
            .map_err(|size_bytes| CompileError::TooLarge { size_bytes, limit_bytes })?;
        if let Some(expected) = self.source.digest {
            let actual = Digest::of(&bytes);
            if actual != expected {
                return Err(LoadError::Changed { expected, actual });
            }
        }
        self.bytes = Some(Arc::clone(&bytes));
        Ok(bytes)
    }

    fn path(&self) -> PathBuf {
        match &self.source.origin {
            Origin::File(path) => path.to_path_buf(),
            Origin::Bytes(_) => PathBuf::new(),
        }
    }
}
