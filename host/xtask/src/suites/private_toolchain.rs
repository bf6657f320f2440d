//! A copy of the toolchain in use, without the wasm target, that a test may change.
//!
//! Large files are hard links where the file system allows it; rustup's own records are copies with the target taken out,
//! so that rustup works on the copy as on a toolchain that never had it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::repository::Repository;
use crate::toolchain::Toolchain;
use crate::wasm_target::TARGET;

/// A private rustup home with one toolchain.
pub(crate) struct PrivateToolchain {
    home: PathBuf,
    sysroot: PathBuf,
}

impl PrivateToolchain {
    /// Copies `original`; `name` keeps the copies of several tests apart.
    pub(crate) fn copy(repository: &Repository, original: &Toolchain, name: &str) -> Result<Self> {
        let home = repository.state_folder().join("setup-suite").join(name);
        if home.exists() {
            std::fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))?;
        }
        // rustup takes the toolchain for its own only under a name of its own form.
        let toolchain = original.rustup_name().unwrap_or_else(|| format!("{}-{}", original.release(), original.host()));
        let sysroot = home.join("toolchains").join(toolchain);
        for program in ["bin/rustc", "bin/cargo"] {
            place(&original.sysroot().join(program), &sysroot.join(program))?;
        }
        for entry in std::fs::read_dir(original.sysroot().join("lib")).context("cannot list the toolchain")? {
            let entry = entry?;
            if entry.path().is_file() {
                place(&entry.path(), &sysroot.join("lib").join(entry.file_name()))?;
            }
        }
        let rustlib = sysroot.join("lib/rustlib");
        place_tree(&original.rustlib().join(original.host()), &rustlib.join(original.host()))?;
        copy_records(&original.rustlib(), &rustlib)?;
        std::fs::write(home.join("settings.toml"), "version = \"12\"\n")?;
        Ok(Self { home, sysroot })
    }

    /// What `RUSTUP_HOME` must be for rustup to work on the copy.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// What keeps the copies apart.
    pub(crate) fn name(&self) -> String {
        self.home.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The copy.
    pub(crate) fn sysroot(&self) -> &Path {
        &self.sysroot
    }
}

impl Drop for PrivateToolchain {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

fn place(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

fn place_tree(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            place_tree(&entry.path(), &target)?;
        } else {
            place(&entry.path(), &target)?;
        }
    }
    Ok(())
}

/// The files beside the targets' folders: rustup's lists of what is installed.
fn copy_records(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.path().is_file() || name.contains(TARGET) {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).with_context(|| format!("cannot read {name}"))?;
        let text = match name.as_str() {
            "components" => {
                text.lines().filter(|line| !line.ends_with(TARGET)).map(|line| format!("{line}\n")).collect()
            }
            "multirust-config.toml" => without_target(&text),
            _ => text,
        };
        std::fs::write(to.join(name), text)?;
    }
    Ok(())
}

/// Drops the paragraph of the target.
fn without_target(config: &str) -> String {
    let named = format!("target = \"{TARGET}\"");
    config.split("\n\n").filter(|paragraph| !paragraph.contains(&named)).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_only_the_targets_paragraph() {
        let config = "config_version = \"1\"\n\n[[components]]\npkg = \"rust-std\"\ntarget = \"wasm32-wasip2\"\n\n[[components]]\npkg = \"cargo\"\n";
        assert_eq!(without_target(config), "config_version = \"1\"\n\n[[components]]\npkg = \"cargo\"\n");
    }
}
