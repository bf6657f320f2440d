//! The files that the program carries for plugin authors: templates, kits and the contract (`build.rs` lists them).

use std::io;
use std::path::Path;

/// Path in the repository and content.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The files below a folder of the repository, with their paths relative to it.
pub(crate) fn below(folder: &str) -> impl Iterator<Item = (&'static str, &'static [u8])> {
    FILES.iter().filter_map(move |(path, content)| {
        let relative = path.strip_prefix(folder)?.strip_prefix('/')?;
        Some((relative, *content))
    })
}

/// Writes one file, making the folders it lies in.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, content)
}

/// Writes everything below a folder of the repository to `into`.
pub(crate) fn unpack(folder: &str, into: &Path) -> io::Result<()> {
    below(folder).try_for_each(|(path, content)| write(&into.join(path), content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The files below `folder` as they lie in the repository, without what `build.rs` leaves out.
    fn on_disk(folder: &Path, found: &mut BTreeSet<String>, root: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let is_product = ["pyc", "wasm", "tmp"].iter().any(|extension| name.ends_with(&format!(".{extension}")));
            if ["target", "node_modules", "__pycache__", "Cargo.lock"].contains(&name.as_str()) || is_product {
                continue;
            }
            if path.is_dir() {
                on_disk(&path, found, root);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn everything_a_new_plugin_needs_is_carried() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut expected = BTreeSet::new();
        for folder in ["plugin-sdk/templates", "plugin-sdk/rust", "plugin-sdk/js", "plugin-sdk/python", "wit"] {
            on_disk(&root.join(folder), &mut expected, &root);
        }
        expected.retain(|path| {
            !["rust", "js", "python"].iter().any(|kit| path.starts_with(&format!("plugin-sdk/{kit}/tests/")))
        });
        let carried: BTreeSet<String> = FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(carried, expected, "a file was added or removed: touch host/leanclaw/build.rs and build again");
        assert!(below("wit").any(|(path, _)| path == "types.wit"));
        assert!(below("plugin-sdk/rust").any(|(path, _)| path == "src/lib.rs"));
    }
}
