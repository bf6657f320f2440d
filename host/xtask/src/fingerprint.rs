//! Content hashes, so that nothing is built twice and nothing stale is kept.
//!
//! Times of files are not looked at: a fresh clone or a switched branch touches every file without changing it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Folders whose content is made, not written.
const GENERATED: &[&str] = &["target", "node_modules", "__pycache__", ".git"];

/// A hash over named parts; the order of the calls counts.
pub(crate) struct Fingerprint(Sha256);

impl Fingerprint {
    /// Starts one; `purpose` keeps the hashes of different uses apart.
    pub(crate) fn new(purpose: &str) -> Self {
        let mut fingerprint = Self(Sha256::new());
        fingerprint.bytes(purpose.as_bytes());
        fingerprint
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// Adds a text.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes());
        self
    }

    /// Adds the name and content of every file in `path` (a file, a folder, or nothing there).
    pub(crate) fn tree(&mut self, path: &Path) -> Result<&mut Self> {
        self.tree_without(path, Path::new(""))
    }

    /// Like [`Self::tree`], without the file `left_out`.
    pub(crate) fn tree_without(&mut self, path: &Path, left_out: &Path) -> Result<&mut Self> {
        for file in files_below(path)? {
            if file == left_out {
                continue;
            }
            let content = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            self.bytes(file.strip_prefix(path).unwrap_or(&file).to_string_lossy().as_bytes());
            self.bytes(&content);
        }
        Ok(self)
    }

    /// The hash in hexadecimal.
    pub(crate) fn finish(self) -> String {
        hexadecimal(&self.0.finalize())
    }
}

/// The SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256_of_file(path: &Path) -> Result<String> {
    let content = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hexadecimal(&Sha256::digest(&content)))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every written file in `path`, sorted; `path` itself if it is a file; nothing if it does not exist.
pub(crate) fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    if path.is_dir() {
        collect(path, &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let generated = GENERATED.iter().any(|name| entry.file_name() == *name);
        if entry.file_type()?.is_dir() {
            if !generated {
                collect(&entry.path(), files)?;
            }
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// A remembered fingerprint: "this was done for exactly that".
pub(crate) struct Stamp(PathBuf);

impl Stamp {
    /// The stamp kept in `path`.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Whether the work was done for this very fingerprint.
    pub(crate) fn matches(&self, fingerprint: &str) -> bool {
        std::fs::read_to_string(&self.0).is_ok_and(|remembered| remembered == fingerprint)
    }

    /// Remembers that the work is done.
    pub(crate) fn write(&self, fingerprint: &str) -> Result<()> {
        if let Some(folder) = self.0.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        std::fs::write(&self.0, fingerprint).with_context(|| format!("cannot write {}", self.0.display()))
    }

    /// Forgets it; work that is about to start must not look done when it is cut short.
    pub(crate) fn clear(&self) -> Result<()> {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.0.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-fingerprint-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(folder.join("sub/a"), "one").unwrap();
        folder
    }

    fn of(folder: &Path) -> String {
        let mut fingerprint = Fingerprint::new("test");
        fingerprint.tree(folder).unwrap();
        fingerprint.finish()
    }

    #[test]
    fn changes_with_content_and_names_but_not_with_generated_files() {
        let folder = scratch("content");
        let before = of(&folder);
        std::fs::create_dir_all(folder.join("target")).unwrap();
        std::fs::write(folder.join("target/out"), "built").unwrap();
        assert_eq!(of(&folder), before);
        std::fs::write(folder.join("sub/a"), "two").unwrap();
        let changed = of(&folder);
        assert_ne!(changed, before);
        std::fs::rename(folder.join("sub/a"), folder.join("sub/b")).unwrap();
        assert_ne!(of(&folder), changed);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_stamp_holds_for_its_fingerprint_until_cleared() {
        let folder = scratch("stamp");
        let stamp = Stamp::at(folder.join("deep/stamp"));
        assert!(!stamp.matches("x"));
        stamp.write("x").unwrap();
        assert!(stamp.matches("x") && !stamp.matches("y"));
        stamp.clear().unwrap();
        stamp.clear().unwrap();
        assert!(!stamp.matches("x"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
