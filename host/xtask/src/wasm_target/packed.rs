//! The target as one archive, for machines that can reach neither rustup's server nor Debian's source.
//!
//! The archive holds the target's folder of `lib/rustlib` with the marker file. A `FILE.sha256` beside it is checked.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{MARKER, TARGET, has_library, move_into_place, staging};
use crate::fingerprint::sha256_of_file;
use crate::repository::Repository;
use crate::toolchain::Toolchain;
use crate::ui;

const LIMIT: Duration = Duration::from_secs(600);

/// Unpacks `file` into the toolchain if it was packed for this very compiler.
pub(super) fn install(repository: &Repository, toolchain: &Toolchain, file: &Path) -> Result<()> {
    if !file.is_file() {
        bail!("LEANCLAW_WASM_STD names {}, which is not a file", file.display());
    }
    verify_sum(file)?;
    let staged = staging(toolchain)?;
    let outcome = unpack(repository, toolchain, file, &staged);
    // After success the inner folder has moved away; either way nothing stays behind.
    let _ = std::fs::remove_dir_all(&staged);
    outcome
}

fn unpack(repository: &Repository, toolchain: &Toolchain, file: &Path, staged: &Path) -> Result<()> {
    let mut tar = repository.command("tar");
    tar.arg("-xf").arg(file).arg("-C").arg(staged).arg(TARGET);
    ui::run_quietly(repository, &mut tar, "unpacking the packed library", LIMIT)?;
    let folder = staged.join(TARGET);
    let marker =
        std::fs::read_to_string(folder.join(MARKER)).context("it has no marker that says which compiler built it")?;
    let built_for: String = marker.lines().collect();
    if built_for != toolchain.identity() {
        bail!("{} is for another compiler ({built_for}); this one is {}", file.display(), toolchain.identity());
    }
    if !has_library(&folder) {
        bail!("{} holds no standard library", file.display());
    }
    move_into_place(toolchain, &folder)
}

fn verify_sum(file: &Path) -> Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".sha256");
    let Ok(text) = std::fs::read_to_string(&name) else { return Ok(()) };
    let expected = text.split_whitespace().next().unwrap_or_default();
    let found = sha256_of_file(file)?;
    if expected != found {
        bail!("{} is damaged: its SHA-256 is {found}, {} says {expected}", file.display(), Path::new(&name).display());
    }
    Ok(())
}

/// Packs the installed target into `file`; the name's ending chooses the compression (`.tar.xz`, `.tar.gz`, `.tar`).
pub(crate) fn pack(repository: &Repository, toolchain: &Toolchain, file: &Path) -> Result<()> {
    let folder = toolchain.rustlib().join(TARGET);
    if !has_library(&folder) {
        bail!("{} is not installed; run `cargo xtask setup` first", folder.display());
    }
    let marked = repository.state_folder().join("pack");
    std::fs::create_dir_all(marked.join(TARGET)).with_context(|| format!("cannot create {}", marked.display()))?;
    std::fs::write(marked.join(TARGET).join(MARKER), toolchain.identity())?;
    let mut tar = repository.command("tar");
    tar.arg("-caf").arg(file).arg("-C").arg(toolchain.rustlib()).arg(format!("{TARGET}/lib"));
    tar.arg("-C").arg(&marked).arg(format!("{TARGET}/{MARKER}"));
    ui::run_quietly(repository, &mut tar, "packing the installed library", LIMIT)?;
    ui::say(&format!("packed {TARGET} for rustc {} into {}", toolchain.release(), file.display()));
    Ok(())
}
