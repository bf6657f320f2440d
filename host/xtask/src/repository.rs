//! Where things are: the clone, cargo's target folder, and a clean environment for child programs.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Set by `cargo run` for this process and meant for it alone. Build scripts of dependencies watch some of them, so that
/// passing them on would rebuild half the tree each time a person switches between `cargo` and `cargo xtask`.
const SET_BY_CARGO_RUN: &[&str] = &["CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"];
const SET_BY_CARGO_RUN_PREFIXES: &[&str] = &["CARGO_PKG_", "CARGO_MANIFEST_"];
/// Linux and macOS name the variable by which programs find shared libraries differently.
const LIBRARY_PATHS: &[&str] = &["LD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"];

/// The clone this program was started in.
pub(crate) struct Repository {
    root: PathBuf,
    target: PathBuf,
}

impl Repository {
    /// Finds the clone by the folder of this package, and cargo's target folder by asking cargo: a setting, a variable or
    /// a file of the user's may have put it elsewhere.
    pub(crate) fn locate() -> Result<Self> {
        let package =
            std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = package.ancestors().nth(2).context("host/xtask is not inside a clone of the repository")?.to_owned();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(&root);
        let described = crate::ui::capture(&mut cargo)?;
        let described: serde_json::Value = serde_json::from_str(&described).context("cannot read what cargo says")?;
        let target = described.get("target_directory").and_then(serde_json::Value::as_str);
        let target = target.context("cargo does not say where its target folder is")?.into();
        Ok(Self { root, target })
    }

    /// The top folder of the clone.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target folder of the root workspace (`CARGO_TARGET_DIR` or `target`).
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// The workspace of the example plugins.
    pub(crate) fn examples(&self) -> PathBuf {
        self.root.join("example-plugins")
    }

    /// Cargo's target folder of the example plugins: never the host's, since both workspaces lock theirs.
    pub(crate) fn examples_target(&self) -> PathBuf {
        self.target.join("example-plugins")
    }

    /// Where built example plugins lie, each in a folder of its id: what `LEANCLAW_PLUGIN_DIR` points at.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.target.join("plugins")
    }

    /// The WIT package plugins are built against.
    pub(crate) fn wit(&self) -> PathBuf {
        self.root.join("wit")
    }

    /// Stamps and logs of this program.
    pub(crate) fn state_folder(&self) -> PathBuf {
        self.target.join("xtask")
    }

    /// A built program of the root workspace.
    pub(crate) fn binary(&self, profile: &str, name: &str) -> PathBuf {
        self.target.join(profile).join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }

    /// A program to run without the variables `cargo run` set for this one.
    pub(crate) fn command(&self, program: impl Into<OsString>) -> Command {
        let mut command = Command::new(program.into());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if SET_BY_CARGO_RUN.contains(&text.as_ref())
                || SET_BY_CARGO_RUN_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
            {
                command.env_remove(&name);
            }
        }
        for name in LIBRARY_PATHS {
            self.restore_library_path(&mut command, name);
        }
        command.current_dir(&self.root);
        command
    }

    /// Takes out what cargo put in front: folders in the target folder and in the toolchain.
    fn restore_library_path(&self, command: &mut Command, name: &str) {
        let Some(value) = std::env::var_os(name) else { return };
        let toolchain = std::env::var_os("CARGO").map(PathBuf::from);
        let toolchain = toolchain.as_deref().and_then(|cargo| cargo.ancestors().nth(2));
        let kept: Vec<PathBuf> = std::env::split_paths(&value)
            .filter(|folder| !folder.starts_with(&self.target) && !toolchain.is_some_and(|own| folder.starts_with(own)))
            .collect();
        match std::env::join_paths(&kept) {
            Ok(path) if !path.is_empty() => command.env(name, path),
            _ => command.env_remove(name),
        };
    }

    /// Cargo, the same one that runs this program.
    pub(crate) fn cargo(&self) -> Command {
        self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// Holds off other `cargo xtask` processes of this clone until the returned file is dropped.
    pub(crate) fn lock(&self, what: &str) -> Result<File> {
        let folder = self.state_folder();
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let path = folder.join(format!("{what}.lock"));
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        if file.try_lock().is_err() {
            crate::ui::say(&format!("waiting for another `cargo xtask` that holds {}", path.display()));
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(file)
    }
}
