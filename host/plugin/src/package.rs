//! A plugin as it lies on disk: a folder with a manifest, or one `.wasm` that carries its manifest.
//!
//! Reading runs no guest code and follows no symbolic link: a package cannot name what lies outside of it.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use leanclaw_types::manifest::{self, Manifest};
use leanclaw_wasm::{Digest, FileStamp, MAX_COMPONENT_BYTES, digest_file};
use wasmparser::{Parser, Payload};

use crate::error::PluginError;
use crate::services::Memo;
use crate::trust;

/// A plugin on disk.
#[derive(Debug, Clone)]
pub struct Package {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its folder, or its `.wasm`.
    pub path: PathBuf,
    /// Its component, if it has one.
    pub component: Option<ComponentFile>,
}

/// A component on disk.
#[derive(Debug, Clone)]
pub struct ComponentFile {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

/// A plugin on disk, read whole: for commands that build, check and install.
#[derive(Debug, Clone)]
pub struct PackageContents {
    /// What it says of itself.
    pub manifest: Manifest,
    /// The manifest as it is written.
    pub manifest_text: String,
    /// The component's bytes; none when the manifest names no component.
    pub component: Option<Vec<u8>>,
}

impl PackageContents {
    /// Reads the package at `path`: a folder with a manifest, or a `.wasm` that carries one. Nothing outside of it is
    /// read, and no symbolic link in it is followed.
    ///
    /// # Errors
    /// [`PluginError::Package`] or [`PluginError::Manifest`], naming the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, PluginError> {
        if !path.is_dir() {
            let component = read_component(path)?;
            let manifest_text = embedded_manifest(&component)?;
            let manifest = Manifest::parse(manifest_text.as_bytes())?;
            return Ok(Self { manifest, manifest_text, component: Some(component) });
        }
        let (manifest, manifest_text) = Self::read_manifest(path)?;
        let component = match &manifest.main {
            Some(main) if manifest.names_a_component() => Some(read_component(&inside(path, main)?)?),
            _ => None,
        };
        Ok(Self { manifest, manifest_text, component })
    }

    /// Reads only the manifest of the package at `path`, and gives it with its text.
    ///
    /// # Errors
    /// As [`PackageContents::read`].
    pub fn read_manifest(path: &Path) -> Result<(Manifest, String), PluginError> {
        if !path.is_dir() {
            let text = embedded_manifest(&read_component(path)?)?;
            return Ok((Manifest::parse(text.as_bytes())?, text));
        }
        let file = manifest_file(path)?;
        let bytes = read_bounded(&file, manifest::MAX_BYTES)?;
        let manifest = Manifest::parse(&bytes)?;
        let text =
            String::from_utf8(bytes).map_err(|_| PluginError::Package(format!("`{}` is not UTF-8", file.display())))?;
        Ok((manifest, text))
    }
}

/// What in a plugin folder may be a plugin, sorted by name: folders with a manifest and `.wasm` files whose names do not
/// start with a dot.
///
/// # Errors
/// The folder cannot be read.
pub fn plugins_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    candidates(folder)
}

/// What a plugin's files looked like, to notice changes without reading them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Fingerprint {
    stamps: Vec<(PathBuf, FileStamp)>,
    /// Whether others may write to it: to be seen again once that is put right.
    is_trusted: bool,
}

impl Fingerprint {
    /// Stamps the manifest and the component at `path`. Unreadable parts are left out: reading reports them.
    pub(crate) fn of(path: &Path) -> Self {
        let stamp =
            |path: &Path| std::fs::symlink_metadata(path).ok().map(|found| (path.to_path_buf(), FileStamp::of(&found)));
        let is_trusted = trust::problem(path).is_none();
        if !path.is_dir() {
            return Self { stamps: stamp(path).into_iter().collect(), is_trusted };
        }
        let mut stamps: Vec<_> = manifest::FILE_NAMES.iter().filter_map(|name| stamp(&path.join(name))).collect();
        if let Ok(manifest) = read_folder_manifest(path)
            && let Some(main) = &manifest.main
        {
            stamps.extend(stamp(&path.join(main)));
        }
        let is_trusted = is_trusted && stamps.iter().all(|(file, _)| trust::problem_below(path, file).is_none());
        Self { stamps, is_trusted }
    }
}

/// What in the plugin folder may be a plugin: folders with a manifest and `.wasm` files, sorted by name. Names that start
/// with a dot are left alone, so that an installer can prepare a plugin under such a name and rename it.
pub(crate) fn candidates(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let path = entry.path();
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        let mut has_manifest = false;
        for name in manifest::FILE_NAMES {
            has_manifest |= may_be_there(&path.join(name))?;
        }
        let is_component = path.extension().is_some_and(|extension| extension == "wasm");
        if has_manifest || is_component || (is_link && path.is_dir()) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether there is something, as far as can be told: what may not be looked into is for whoever reads it to refuse.
fn may_be_there(path: &Path) -> std::io::Result<bool> {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            NotFound | NotADirectory => Ok(false),
            PermissionDenied => Ok(true),
            _ => Err(error),
        },
    }
}

/// Reads the package at `path`.
///
/// # Errors
/// [`PluginError::Package`] or [`PluginError::Manifest`], naming the file and what is wrong with it.
pub(crate) async fn read(path: &Path, memo: &dyn Memo) -> Result<Package, PluginError> {
    if path.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
        return Err(PluginError::Package(format!(
            "`{}` is a symbolic link, which the plugin folder does not follow; copy or move the plugin there",
            path.display()
        )));
    }
    trusted(trust::problem(path))?;
    if path.is_dir() { read_folder(path, memo).await } else { read_bare(path, memo).await }
}

fn manifest_file(folder: &Path) -> Result<PathBuf, PluginError> {
    let name = manifest::FILE_NAMES.iter().find(|name| folder.join(name).symlink_metadata().is_ok());
    let Some(name) = name else {
        return Err(PluginError::Package(format!(
            "`{}` holds no {}",
            folder.display(),
            manifest::FILE_NAMES.join(" and no ")
        )));
    };
    Ok(folder.join(name))
}

fn read_folder_manifest(folder: &Path) -> Result<Manifest, PluginError> {
    Ok(Manifest::parse(&read_bounded(&manifest_file(folder)?, manifest::MAX_BYTES)?)?)
}

/// Runs what reads files or parses a component where it holds up no other task.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PluginError> + Send + 'static,
) -> Result<T, PluginError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(PluginError::Package(format!("it could not be read: {error}"))))
}

fn trusted(problem: Option<String>) -> Result<(), PluginError> {
    problem.map_or(Ok(()), |problem| Err(PluginError::Untrusted(problem)))
}

async fn read_folder(folder: &Path, memo: &dyn Memo) -> Result<Package, PluginError> {
    trusted(trust::problem_below(folder, &manifest_file(folder)?))?;
    let place = folder.to_path_buf();
    let manifest = blocking(move || read_folder_manifest(&place)).await?;
    let component = match &manifest.main {
        Some(main) if manifest.names_a_component() => {
            let path = inside(folder, main)?;
            trusted(trust::problem_below(folder, &folder.join(main)))?;
            let digest = digest(&path, memo).await?;
            Some(ComponentFile { path, digest })
        }
        _ => None,
    };
    Ok(Package { manifest, path: folder.to_path_buf(), component })
}

/// Under which key the manifest that a component carries is remembered.
pub(crate) fn manifest_memo_key(digest: &str) -> String {
    format!("manifest:{digest}")
}

async fn read_bare(path: &Path, memo: &dyn Memo) -> Result<Package, PluginError> {
    let digest = digest(path, memo).await?;
    let key = manifest_memo_key(&digest.to_string());
    let text = match memo.recall(&key).await {
        Some(text) => text,
        None => {
            let place = path.to_path_buf();
            let text = blocking(move || embedded_manifest(&read_component(&place)?)).await?;
            memo.remember(key, text.clone()).await;
            text
        }
    };
    let manifest = Manifest::parse(text.as_bytes())?;
    let component = ComponentFile { path: path.to_path_buf(), digest };
    Ok(Package { manifest, path: path.to_path_buf(), component: Some(component) })
}

/// The manifest in a component's custom section.
///
/// # Errors
/// The component does not parse, or carries no manifest.
pub fn embedded_manifest(wasm: &[u8]) -> Result<String, PluginError> {
    if !wasm.starts_with(b"\0asm") {
        return Err(PluginError::Package("the file is not WebAssembly".into()));
    }
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload =
            payload.map_err(|error| PluginError::Package(format!("the component does not parse: {error}")))?;
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 0 && section.name() == manifest::CUSTOM_SECTION => {
                return String::from_utf8(section.data().to_vec())
                    .map_err(|_| PluginError::Package("the embedded manifest is not UTF-8".into()));
            }
            _ => {}
        }
    }
    Err(PluginError::Package(
        "the component carries no manifest; `leanclaw plugin build` embeds one, or put the component into a folder with a leanclaw.plugin.json".into(),
    ))
}

/// `wasm` with `manifest` in its custom section, in place of one that is there already.
///
/// # Errors
/// The component does not parse.
pub fn embed_manifest(wasm: &[u8], manifest: &str) -> Result<Vec<u8>, PluginError> {
    let mut kept = Vec::with_capacity(wasm.len() + manifest.len() + 32);
    let mut copied = 0;
    // Where the section begins that comes next, with its id and its length, which need not be written in the fewest bytes.
    let mut start = 0;
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload =
            payload.map_err(|error| PluginError::Package(format!("the component does not parse: {error}")))?;
        let end = match &payload {
            Payload::Version { range, .. } => Some(range.end),
            other => other.as_section().map(|(_, range)| range.end),
        };
        let is_ours = matches!(&payload, Payload::CustomSection(section) if section.name() == manifest::CUSTOM_SECTION);
        if let Some(end) = end.filter(|_| depth == 0) {
            if is_ours {
                kept.extend_from_slice(wasm.get(copied..start).unwrap_or_default());
                copied = end;
            }
            start = end;
        }
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    kept.extend_from_slice(wasm.get(copied..).unwrap_or_default());
    let name = manifest::CUSTOM_SECTION.as_bytes();
    let mut content = Vec::new();
    write_leb(&mut content, name.len());
    content.extend_from_slice(name);
    content.extend_from_slice(manifest.as_bytes());
    kept.push(0);
    write_leb(&mut kept, content.len());
    kept.extend_from_slice(&content);
    Ok(kept)
}

fn write_leb(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// `relative` below `folder`, with no symbolic link on the way.
fn inside(folder: &Path, relative: &str) -> Result<PathBuf, PluginError> {
    let mut path = folder.to_path_buf();
    for part in Path::new(relative).components() {
        let std::path::Component::Normal(part) = part else {
            if matches!(part, std::path::Component::CurDir) {
                continue;
            }
            return Err(PluginError::Package(format!("`{relative}` leaves the plugin's folder")));
        };
        path.push(part);
        let found = path.symlink_metadata().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                PluginError::Package(format!("`{}` named by `main` cannot be read: {source}", path.display()))
            }
            _ => PluginError::Read { path: path.clone(), source },
        })?;
        if found.is_symlink() {
            return Err(PluginError::Package(format!(
                "`{}` is a symbolic link; a package must hold its files itself",
                path.display()
            )));
        }
    }
    Ok(path)
}

fn read_bounded(path: &Path, limit_bytes: usize) -> Result<Vec<u8>, PluginError> {
    let refuse = |problem: String| PluginError::Package(format!("`{}` cannot be read: {problem}", path.display()));
    let unread = |source| PluginError::Read { path: path.to_path_buf(), source };
    #[cfg(test)]
    broken_disk::read(path).map_err(unread)?;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(unread)?;
    let found = file.metadata().map_err(unread)?;
    if !found.is_file() {
        return Err(refuse("it is not a regular file".into()));
    }
    let limit = u64::try_from(limit_bytes).unwrap_or(u64::MAX);
    let mut bytes = Vec::with_capacity(usize::try_from(found.len().min(limit)).unwrap_or_default());
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() > limit_bytes {
        return Err(refuse(format!("it has more than {limit_bytes} bytes")));
    }
    Ok(bytes)
}

/// The component's bytes.
pub(crate) fn read_component(path: &Path) -> Result<Vec<u8>, PluginError> {
    read_bounded(path, usize::try_from(MAX_COMPONENT_BYTES).unwrap_or(usize::MAX))
}

/// The digest of a file, remembered under its stamp so that an unchanged file is never hashed twice.
async fn digest(path: &Path, memo: &dyn Memo) -> Result<Digest, PluginError> {
    let refuse = |problem: String| PluginError::Package(format!("`{}` cannot be read: {problem}", path.display()));
    let unread = |source| PluginError::Read { path: path.to_path_buf(), source };
    let found = path.symlink_metadata().map_err(unread)?;
    if !found.is_file() {
        return Err(refuse("it is not a regular file".into()));
    }
    if found.len() > MAX_COMPONENT_BYTES {
        return Err(refuse(format!(
            "it has {} bytes; the limit is {MAX_COMPONENT_BYTES}; build in release mode and strip debug information",
            found.len()
        )));
    }
    let key = |stamp: &FileStamp| format!("digest:{}:{stamp:?}", path.display());
    if let Some(known) = memo.recall(&key(&FileStamp::of(&found))).await.and_then(|hex| parse_digest(&hex)) {
        return Ok(known);
    }
    #[cfg(test)]
    broken_disk::read(path).map_err(unread)?;
    let (digest, stamp) = digest_file(path).await.map_err(unread)?;
    memo.remember(key(&stamp), digest.to_string()).await;
    Ok(digest)
}

/// The plugin whose files lie at `path`, as far as they say: also of a package that is refused for something else.
pub(crate) async fn claimed_id(path: &Path) -> Option<String> {
    let place = path.to_path_buf();
    let text = blocking(move || {
        if place.is_dir() {
            return read_bounded(&manifest_file(&place)?, manifest::MAX_BYTES);
        }
        Ok(embedded_manifest(&read_component(&place)?)?.into_bytes())
    });
    let manifest: serde_json::Value = serde_json::from_slice(&text.await.ok()?).ok()?;
    Some(manifest.get("id")?.as_str()?.to_owned())
}

fn parse_digest(hex: &str) -> Option<Digest> {
    let mut bytes = [0_u8; 32];
    if hex.len() != 64 {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(Digest::from_bytes(bytes))
}

/// Reads that fail as a disk makes them fail, for tests.
#[cfg(test)]
pub(crate) mod broken_disk {
    use std::collections::HashMap;
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    static BROKEN: Mutex<Option<HashMap<PathBuf, usize>>> = Mutex::new(None);

    /// The next `times` reads of `path` fail.
    pub(crate) fn fail(path: &Path, times: usize) {
        BROKEN.lock().unwrap().get_or_insert_default().insert(path.to_path_buf(), times);
    }

    /// How many reads of it will still fail.
    pub(crate) fn left(path: &Path) -> usize {
        BROKEN.lock().unwrap().get_or_insert_default().get(path).copied().unwrap_or_default()
    }

    pub(super) fn read(path: &Path) -> io::Result<()> {
        match BROKEN.lock().unwrap().get_or_insert_default().get_mut(path) {
            Some(times) if *times > 0 => {
                *times -= 1;
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manifest that names such a place is refused before; this holds also without that.
    #[test]
    fn nothing_outside_of_a_package_is_inside_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let (package, beside) = (folder.path().join("package"), folder.path().join("beside.wasm"));
        std::fs::create_dir(&package).unwrap();
        std::fs::write(&beside, "").unwrap();
        std::fs::write(package.join("own.wasm"), "").unwrap();
        assert_eq!(inside(&package, "./own.wasm").unwrap(), package.join("own.wasm"));
        for outside in ["../beside.wasm", "./../beside.wasm", beside.to_str().unwrap()] {
            assert!(inside(&package, outside).unwrap_err().to_string().contains("leaves"), "{outside}");
        }
    }

    #[test]
    fn an_embedded_manifest_reads_back_and_is_replaced() {
        let wasm = wat::parse_str("(component (core module))").unwrap();
        assert!(embedded_manifest(&wasm).is_err());
        let once = embed_manifest(&wasm, r#"{"id":"a"}"#).unwrap();
        assert_eq!(embedded_manifest(&once).unwrap(), r#"{"id":"a"}"#);
        let long = format!(r#"{{"id":"b","description":"{}"}}"#, "x".repeat(300));
        let twice = embed_manifest(&once, &long).unwrap();
        assert_eq!(embedded_manifest(&twice).unwrap(), long);
        let back = embed_manifest(&twice, r#"{"id":"a"}"#).unwrap();
        assert_eq!(back, once, "nothing of the replaced one is left");
    }

    #[test]
    fn a_section_whose_length_is_written_in_more_bytes_is_replaced_whole() {
        let wasm = wat::parse_str("(component (core module) (core module))").unwrap();
        let once = embed_manifest(&wasm, r#"{"id":"a"}"#).unwrap();
        let content = once.get(wasm.len() + 2..).unwrap();
        let length = u8::try_from(content.len()).unwrap();
        // As linkers write it that fill the length in afterwards: five bytes.
        let mut padded = [&wasm[..], &[0, length | 0x80, 0x80, 0x80, 0x80, 0], content].concat();
        assert_eq!(embedded_manifest(&padded).unwrap(), r#"{"id":"a"}"#);
        assert_eq!(embed_manifest(&padded, r#"{"id":"a"}"#).unwrap(), once);
        // The same with something behind it.
        padded.extend_from_slice(&[0, 3, 1, b'x', b'y']);
        let kept = embed_manifest(&padded, r#"{"id":"a"}"#).unwrap();
        assert_eq!(kept, [&wasm[..], &[0, 3, 1, b'x', b'y'], &once[wasm.len()..]].concat());
    }

    #[test]
    fn digests_read_back() {
        let digest = Digest::of(b"x");
        assert_eq!(parse_digest(&digest.to_string()), Some(digest));
        assert_eq!(parse_digest("zz"), None);
    }
}
