//! The Rust toolchain that gets the wasm target: the one in use, or another one named by its sysroot.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::repository::Repository;
use crate::ui;

/// A toolchain and what its compiler says about itself.
pub(crate) struct Toolchain {
    sysroot: PathBuf,
    rustc: PathBuf,
    cargo: PathBuf,
    release: String,
    host: String,
    commit: String,
}

impl Toolchain {
    /// The toolchain at `sysroot`, or without one the toolchain that runs this program.
    pub(crate) fn locate(repository: &Repository, sysroot: Option<PathBuf>) -> Result<Self> {
        let sysroot = match sysroot {
            Some(sysroot) => {
                sysroot.canonicalize().with_context(|| format!("there is no sysroot {}", sysroot.display()))?
            }
            None => sysroot_in_use(repository)?,
        };
        let rustc = sysroot.join("bin/rustc");
        let cargo = sysroot.join("bin/cargo");
        if !rustc.is_file() {
            bail!("{} has no bin/rustc, so it is not the sysroot of a Rust toolchain", sysroot.display());
        }
        let cargo = if cargo.is_file() {
            cargo
        } else {
            std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
        };
        let mut toolchain =
            Self { sysroot, rustc, cargo, release: String::new(), host: String::new(), commit: String::new() };
        let about = ui::capture(toolchain.rustc(repository).arg("-vV"))?;
        let field =
            |name: &str| about.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
        toolchain.release = field("release:").context("`rustc -vV` names no release")?;
        toolchain.host = field("host:").context("`rustc -vV` names no host")?;
        toolchain.commit = field("commit-hash:").context("`rustc -vV` names no commit")?;
        Ok(toolchain)
    }

    /// The compiler, running on its own sysroot and its own libraries.
    pub(crate) fn rustc(&self, repository: &Repository) -> Command {
        self.own(repository.command(&self.rustc))
    }

    /// Cargo with this toolchain's compiler.
    pub(crate) fn cargo(&self, repository: &Repository) -> Command {
        let mut command = self.own(repository.command(&self.cargo));
        command.env("RUSTC", &self.rustc);
        command
    }

    /// rustup's launchers leave variables behind that would lead a copied compiler to the original's sysroot.
    fn own(&self, mut command: Command) -> Command {
        for name in [
            "RUSTUP_TOOLCHAIN",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "LD_LIBRARY_PATH",
            "DYLD_FALLBACK_LIBRARY_PATH",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// The toolchain's top folder.
    pub(crate) fn sysroot(&self) -> &Path {
        &self.sysroot
    }

    /// `lib/rustlib`, where each target has a folder.
    pub(crate) fn rustlib(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib")
    }

    /// The compiler's version, such as `1.95.0`.
    pub(crate) fn release(&self) -> &str {
        &self.release
    }

    /// The triple the compiler runs on.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// What a standard library must have been built by: commit and release. Metadata of another commit cannot be read.
    pub(crate) fn identity(&self) -> String {
        format!("commit-hash: {}release: {}", self.commit, self.release)
    }

    /// The name under which rustup manages this toolchain; `None` if it does not.
    pub(crate) fn rustup_name(&self) -> Option<String> {
        let home = std::env::var_os("RUSTUP_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::home_dir().map(|home| home.join(".rustup")))?;
        let toolchains = home.join("toolchains").canonicalize().ok()?;
        let name = self.sysroot.strip_prefix(toolchains).ok()?;
        (name.components().count() == 1).then(|| name.to_string_lossy().into_owned())
    }
}

/// `cargo run` names the real cargo, beside which the real rustc lies: asking them spares rustup's launcher.
fn sysroot_in_use(repository: &Repository) -> Result<PathBuf> {
    let overridden = std::env::var_os("RUSTC");
    let cargo = std::env::var_os("CARGO").map(PathBuf::from);
    let beside_cargo = cargo.as_deref().and_then(|cargo| cargo.ancestors().nth(2));
    let sysroot = match (overridden, beside_cargo) {
        (None, Some(sysroot)) if sysroot.join("bin/rustc").is_file() && sysroot.join("lib/rustlib").is_dir() => {
            sysroot.to_owned()
        }
        (overridden, _) => {
            let rustc = overridden.unwrap_or_else(|| "rustc".into());
            PathBuf::from(ui::capture(repository.command(rustc).args(["--print", "sysroot"]))?.trim())
        }
    };
    sysroot.canonicalize().with_context(|| format!("there is no sysroot {}", sysroot.display()))
}
