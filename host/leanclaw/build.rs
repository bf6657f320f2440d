//! Lists what `leanclaw plugin new` writes into a plugin's folder (templates, kits, the contract), so that the program
//! carries these files and a plugin can be made and built where this repository is not.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What is carried, relative to the repository.
const ROOTS: &[&str] = &["plugin-sdk/templates", "plugin-sdk/rust", "plugin-sdk/js", "plugin-sdk/python", "wit"];
/// The kits' own tests and what building leaves behind.
const LEFT_OUT: &[&str] = &["target", "node_modules", "__pycache__", "Cargo.lock"];
const LEFT_OUT_EXTENSIONS: &[&str] = &["wasm", "pyc", "tmp"];

fn main() -> Result<(), Box<dyn Error>> {
    let repository = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
    let mut files = Vec::new();
    for root in ROOTS {
        walk(&repository.join(root), *root != "plugin-sdk/templates", &mut files)?;
    }
    files.sort();
    let mut list = String::from("&[\n");
    for file in &files {
        let name = file.strip_prefix(&repository)?.to_str().ok_or("a file name is not UTF-8")?;
        let path = file.to_str().ok_or("the repository's path is not UTF-8")?;
        writeln!(list, "    ({name:?}, include_bytes!({path:?})),")?;
        println!("cargo::rerun-if-changed={path}");
    }
    list.push_str("]\n");
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("assets.rs");
    std::fs::write(out, list)?;
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}

/// Collects the files below `folder`; true when nothing was left out.
fn walk(folder: &Path, is_kit: bool, files: &mut Vec<PathBuf>) -> Result<bool, Box<dyn Error>> {
    let mut is_whole = true;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("a file name is not UTF-8")?;
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if LEFT_OUT.contains(&name) || LEFT_OUT_EXTENSIONS.contains(&extension) || (is_kit && name == "tests") {
            is_whole = false;
        } else if path.is_dir() {
            is_whole &= walk(&path, false, files)?;
        } else {
            files.push(path);
        }
    }
    // New files count too. A folder that holds build products is not watched as a whole: running its tests would have
    // this program built again.
    if is_whole {
        println!("cargo::rerun-if-changed={}", folder.display());
    }
    Ok(is_whole)
}
