//! What a plugin is built from, as `plugin dev` follows it: content decides, not time, so that a build that writes the
//! same file again does not call for another one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use leanclaw_types::manifest::FILE_NAMES;
use leanclaw_wasm::Digest;

use super::build::Project;
use super::bundle::BUILT_FOLDER;

/// Folders that builds and tools fill, left out where the manifest does not say what to watch.
const PRODUCTS: &[&str] = &["target", "node_modules", "__pycache__", BUILT_FOLDER];
/// A folder that holds more files than this is not watched to its end.
const MAX_FILES: usize = 20_000;

/// The files a plugin is built from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources(BTreeMap<PathBuf, Seen>);

/// Equal when the content is.
#[derive(Debug, Clone)]
struct Seen {
    modified: Option<SystemTime>,
    bytes: u64,
    digest: Option<Digest>,
}

impl PartialEq for Sources {
    fn eq(&self, other: &Self) -> bool {
        let contents = |sources: &Self| -> Vec<_> {
            sources.0.iter().map(|(path, seen)| (path.clone(), seen.bytes, seen.digest)).collect()
        };
        contents(self) == contents(other)
    }
}

impl Sources {
    /// Looks at the files; those whose size and time are as `before` are not read again.
    pub(crate) fn look(project: &Project, before: &Self) -> Self {
        let folder = &project.folder;
        let watch = &project.build.watch;
        let mut found = Self::default();
        for name in FILE_NAMES {
            found.add(&folder.join(name), &[], before);
        }
        let output = folder.join(&project.build.output);
        let own: Vec<PathBuf> = vec![output, folder.join(BUILT_FOLDER)];
        if watch.is_empty() {
            found.add(folder, &own, before);
        }
        for path in watch {
            found.add(&folder.join(path), &own, before);
        }
        found
    }

    /// The first file that differs, for people.
    pub(crate) fn changed<'a>(&'a self, before: &'a Self) -> Option<&'a Path> {
        let differs = |path: &&PathBuf| {
            let content = |sources: &Self| sources.0.get(*path).map(|seen| (seen.bytes, seen.digest));
            content(self) != content(before)
        };
        self.0.keys().chain(before.0.keys()).find(differs).map(PathBuf::as_path)
    }

    fn add(&mut self, path: &Path, left_out: &[PathBuf], before: &Self) {
        let Ok(found) = path.metadata() else { return };
        if left_out.iter().any(|own| own == path) || self.0.len() >= MAX_FILES {
            return;
        }
        if found.is_file() {
            self.0.insert(path.to_owned(), Seen::of(path, &found, before.0.get(path)));
            return;
        }
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // A link may lead anywhere, even back here.
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if !name.starts_with('.') && !PRODUCTS.contains(&name.as_ref()) && !is_link {
                self.add(&entry.path(), left_out, before);
            }
        }
    }
}

impl Seen {
    fn of(path: &Path, found: &std::fs::Metadata, before: Option<&Self>) -> Self {
        let (modified, bytes) = (found.modified().ok(), found.len());
        if let Some(before) = before.filter(|before| before.modified == modified && before.bytes == bytes) {
            return before.clone();
        }
        Self { modified, bytes, digest: std::fs::read(path).ok().map(|content| Digest::of(&content)) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::assets::write;
    use super::*;
    use serde_json::json;

    fn project(folder: &Path, watch: &[&str]) -> Project {
        let build = json!({"command": ["true"], "output": "x.wasm", "watch": watch});
        let manifest = json!({"id": "x", "main": "x.wasm", "build": build});
        write(&folder.join(FILE_NAMES[0]), manifest.to_string().as_bytes()).unwrap();
        Project::open(folder).unwrap()
    }

    #[test]
    fn content_counts_and_products_do_not() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().canonicalize().unwrap();
        let file = |name: &str, content: &str| write(&folder.join(name), content.as_bytes()).unwrap();
        file("src/a.rs", "1");
        let project = project(&folder, &[]);
        let first = Sources::look(&project, &Sources::default());
        let same = |what: &str| assert!(Sources::look(&project, &first) == first, "{what}");

        file("src/a.rs", "1");
        same("the same content again");
        for product in ["x.wasm", "dist/x.wasm", "target/a", "node_modules/a", ".git/a", "src/__pycache__/a"] {
            file(product, "new");
            same(product);
        }
        std::os::unix::fs::symlink(&folder, folder.join("round")).unwrap();
        same("a link");
        file("src/b.rs", "");
        let second = Sources::look(&project, &first);
        assert_eq!(second.changed(&first), Some(folder.join("src/b.rs").as_path()));
        file("src/a.rs", "2");
        let third = Sources::look(&project, &second);
        assert_eq!(third.changed(&second), Some(folder.join("src/a.rs").as_path()));
        std::fs::remove_file(folder.join("src/a.rs")).unwrap();
        assert!(Sources::look(&project, &third) != third);
    }

    #[test]
    fn the_manifest_counts_and_what_is_not_watched_does_not() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().canonicalize().unwrap();
        let project = project(&folder, &["src"]);
        let first = Sources::look(&project, &Sources::default());
        write(&folder.join("README.md"), b"new").unwrap();
        assert!(Sources::look(&project, &first) == first);
        write(&folder.join("src/a"), b"new").unwrap();
        assert!(Sources::look(&project, &first) != first);
        std::fs::remove_file(folder.join("src/a")).unwrap();
        write(&folder.join(FILE_NAMES[0]), b"{}").unwrap();
        assert!(Sources::look(&project, &first) != first);
    }
}
