//! `cargo xtask setup`: everything that a build needs and a Rust toolchain alone does not have.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::arguments::Arguments;
use crate::repository::Repository;
use crate::toolchain::Toolchain;
use crate::{tools, ui, wasm_target};

/// Names a packed standard library for `wasm32-wasip2`.
pub(crate) const PACKED_LIBRARY: &str = "LEANCLAW_WASM_STD";
/// The exit code when this machine offers no way to provide the target, as opposed to a way that broke (1).
pub(crate) const EXIT_UNAVAILABLE: u8 = 3;

/// Runs the command.
pub(crate) fn run(repository: &Repository, mut arguments: Arguments) -> Result<ExitCode> {
    let sysroot = arguments.value("--sysroot")?.map(PathBuf::from);
    let source = arguments.value("--tools")?;
    let pack = arguments.value("--pack")?;
    let remove = arguments.flag("--remove");
    arguments.finish()?;
    let foreign = sysroot.is_some();
    let toolchain = Toolchain::locate(repository, sysroot)?;
    if remove {
        wasm_target::remove(&toolchain)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Err(error) = wasm_target::ensure(repository, &toolchain, packed_library()?.as_deref()) {
        let Some(unavailable) = error.downcast_ref::<wasm_target::Unavailable>() else { return Err(error) };
        ui::error(&unavailable.to_string());
        return Ok(ExitCode::from(EXIT_UNAVAILABLE));
    }
    if let Some(file) = pack {
        wasm_target::pack(repository, &toolchain, &absolute(Path::new(&file))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    // The tools belong to the clone, not to the toolchain.
    if !foreign {
        tools::ensure(repository, tools_source(source.as_deref())?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the other commands need before they build.
pub(crate) fn ensure(repository: &Repository) -> Result<()> {
    let toolchain = Toolchain::locate(repository, None)?;
    wasm_target::ensure(repository, &toolchain, packed_library()?.as_deref())?;
    tools::ensure(repository, tools::Source::Auto)
}

/// The file named by [`PACKED_LIBRARY`].
pub(crate) fn packed_library() -> Result<Option<PathBuf>> {
    std::env::var_os(PACKED_LIBRARY)
        .filter(|value| !value.is_empty())
        .map(|value| absolute(Path::new(&value)))
        .transpose()
}

/// Child programs run in other folders, so a path a person gave is made whole first.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot make sense of the path {}", path.display()))
}

fn tools_source(name: Option<&str>) -> Result<tools::Source> {
    match name {
        None | Some("auto") => Ok(tools::Source::Auto),
        Some("packages") => Ok(tools::Source::Packages),
        Some("cargo") => Ok(tools::Source::Cargo),
        Some(other) => bail!("`--tools {other}` is not understood; use auto, packages (npm and pip) or cargo"),
    }
}
