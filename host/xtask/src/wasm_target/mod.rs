//! The `wasm32-wasip2` target of a toolchain: found, or provided in the first way that works.
//!
//! 1. It is there and links: nothing to do (remembered, so that the next run only compares a stamp).
//! 2. `rustup target add`: the official library, seconds of work, the way of an ordinary machine.
//! 3. A packed library named by `LEANCLAW_WASM_STD`. Naming one is a deliberate act and takes seconds, so it goes before
//!    the build; it is only taken if the very same compiler built it.
//! 4. Built from Debian's source of exactly this compiler version, where the system's package manager offers it.
//!
//! What a way brings is believed only after a program was compiled and linked with it. Folders that rustup made are never
//! changed or removed; ours carry a marker file.

mod debian;
mod packed;
mod rustup;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::fingerprint::{Fingerprint, Stamp};
use crate::repository::Repository;
use crate::toolchain::Toolchain;
use crate::ui;

pub(crate) use packed::pack;

/// The target that components are compiled for.
pub(crate) const TARGET: &str = "wasm32-wasip2";
/// In the folder of a target that did not come from rustup: [`Toolchain::identity`] of the compiler it fits.
const MARKER: &str = ".from-setup-wasm";

/// No way to provide the target exists on this machine, as opposed to a way that broke.
#[derive(Debug)]
pub(crate) struct Unavailable(pub(crate) String);

impl std::fmt::Display for Unavailable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// Provides the target and says how; `packed` is the value of `LEANCLAW_WASM_STD`.
pub(crate) fn ensure(repository: &Repository, toolchain: &Toolchain, packed: Option<&Path>) -> Result<()> {
    let stamp = stamp(repository, toolchain);
    if is_remembered(toolchain, &stamp) {
        ui::say(&format!("{TARGET}: ready for rustc {}", toolchain.release()));
        return Ok(());
    }
    let _lock = repository.lock("wasm-target")?;
    let way = provide(repository, toolchain, packed)?;
    stamp.write(&state_of(toolchain)?)?;
    ui::say(&format!("{TARGET}: ready for rustc {} ({way})", toolchain.release()));
    Ok(())
}

fn provide(repository: &Repository, toolchain: &Toolchain, packed: Option<&Path>) -> Result<String> {
    let folder = toolchain.rustlib().join(TARGET);
    let mut refusals = Vec::new();
    if has_library(&folder) {
        match smoke(repository, toolchain) {
            Ok(()) => return Ok("already installed".to_owned()),
            Err(error) => refusals.push(format!("the installed one does not work: {error:#}")),
        }
    }
    if is_ours(&folder) {
        // Half done, or left by a compiler that has been updated since.
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    match rustup::add(repository, toolchain).and_then(|()| smoke(repository, toolchain)) {
        Ok(()) => return Ok("by rustup".to_owned()),
        Err(error) => refuse(&mut refusals, "rustup cannot provide it", &error),
    }
    if folder.exists() {
        bail!(
            "{} is there but does not work, and xtask did not make it, so xtask leaves it alone; remove it with \
             `rustup target remove {TARGET}` or by hand, then run this again\n{}",
            folder.display(),
            refusals.join("\n")
        );
    }
    if let Some(file) = packed {
        match packed::install(repository, toolchain, file).and_then(|()| smoke(repository, toolchain)) {
            Ok(()) => return Ok(format!("from {}", file.display())),
            Err(error) => refuse(&mut refusals, "the packed library is of no use", &error),
        }
    }
    match debian::install(repository, toolchain) {
        Ok(origin) => smoke(repository, toolchain).map(|()| format!("built from {origin}")),
        Err(error) => match error.downcast_ref::<Unavailable>() {
            Some(reason) => Err(Unavailable(ways_out(toolchain, &refusals, &reason.0)).into()),
            None => Err(error.context("building the standard library from Debian's source broke")),
        },
    }
}

fn refuse(refusals: &mut Vec<String>, what: &str, error: &anyhow::Error) {
    let text = format!("{what}: {error:#}");
    ui::say(&format!("{TARGET}: {text}"));
    refusals.push(text);
}

fn ways_out(toolchain: &Toolchain, refusals: &[String], debian: &str) -> String {
    let tried = refusals.iter().map(|refusal| format!("  - {refusal}\n")).collect::<String>();
    format!(
        "the target {TARGET} cannot be provided for rustc {release}. Tried:\n{tried}  - Debian's source: {debian}\n\
         Ways out: let `rustup target add {TARGET}` reach its server; or run `cargo xtask setup --pack std.tar.xz` on a \
         machine with the same rustc {release} on which setup works, and set LEANCLAW_WASM_STD to that file here",
        release = toolchain.release(),
    )
}

/// Removes a target that xtask installed.
pub(crate) fn remove(toolchain: &Toolchain) -> Result<()> {
    let folder = toolchain.rustlib().join(TARGET);
    if !is_ours(&folder) {
        bail!("{} was not installed by xtask (`rustup target remove {TARGET}` removes rustup's)", folder.display());
    }
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    ui::say(&format!("removed {}", folder.display()));
    Ok(())
}

fn is_ours(folder: &Path) -> bool {
    folder.join(MARKER).is_file()
}

fn has_library(folder: &Path) -> bool {
    !standard_libraries(folder).is_empty()
}

fn standard_libraries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("lib")).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libstd-") && name.ends_with(".rlib")
        })
        .collect();
    found.sort();
    found
}

fn stamp(repository: &Repository, toolchain: &Toolchain) -> Stamp {
    let mut key = Fingerprint::new("sysroot");
    key.text(&toolchain.sysroot().to_string_lossy());
    let key: String = key.finish().chars().take(12).collect();
    Stamp::at(repository.state_folder().join(format!("{TARGET}-{key}.stamp")))
}

fn is_remembered(toolchain: &Toolchain, stamp: &Stamp) -> bool {
    has_library(&toolchain.rustlib().join(TARGET)) && state_of(toolchain).is_ok_and(|state| stamp.matches(&state))
}

/// The compiler and the installed library, told apart by name, size and time: cheap, and enough to notice a change.
fn state_of(toolchain: &Toolchain) -> Result<String> {
    let mut state = Fingerprint::new("wasm target");
    state.text(&toolchain.identity());
    for library in standard_libraries(&toolchain.rustlib().join(TARGET)) {
        let metadata = library.metadata()?;
        state.text(&format!("{} {} {:?}", library.display(), metadata.len(), metadata.modified()?));
    }
    Ok(state.finish())
}

/// Puts a finished folder in place as the target's, in one step; it must lie beside it, in [`Toolchain::rustlib`].
fn move_into_place(toolchain: &Toolchain, staged: &Path) -> Result<()> {
    let folder = toolchain.rustlib().join(TARGET);
    std::fs::write(staged.join(MARKER), toolchain.identity())?;
    std::fs::rename(staged, &folder)
        .with_context(|| format!("cannot move {} to {}", staged.display(), folder.display()))
}

/// An empty folder beside the targets' folders.
fn staging(toolchain: &Toolchain) -> Result<PathBuf> {
    let folder = toolchain.rustlib().join(format!(".{TARGET}.new"));
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| {
        format!("cannot write to the toolchain in {} (run setup as its owner)", toolchain.sysroot().display())
    })?;
    Ok(folder)
}

/// Compiles and links a small library that allocates, formats and calls the operating system.
fn smoke(repository: &Repository, toolchain: &Toolchain) -> Result<()> {
    let folder = repository.state_folder().join(format!("smoke-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let source = folder.join("smoke.rs");
    let component = folder.join("smoke.wasm");
    std::fs::write(
        &source,
        "#[unsafe(no_mangle)]\npub extern \"C\" fn answer() -> usize { format!(\"{:?}\", std::env::args()).len() }\n",
    )?;
    let mut command = toolchain.rustc(repository);
    command
        .args(["--edition", "2024", "--crate-type", "cdylib", "-O", "--target", TARGET, "-o"])
        .arg(&component)
        .arg(&source);
    let outcome = ui::capture(&mut command);
    let produced = std::fs::read(&component).is_ok_and(|bytes| bytes.starts_with(b"\0asm"));
    let _ = std::fs::remove_dir_all(&folder);
    outcome.context("a small test program does not compile or link")?;
    if !produced {
        bail!("a small test program compiled, but to something that is not WebAssembly");
    }
    Ok(())
}
