//! Builds the agent as a component: the program that runs in the embedded sandbox.
//!
//! Cargo decides whether there is anything to do. The finished file lies in a folder of its own, whole at any moment, so that a
//! gateway that runs meanwhile goes on with what it opened.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::fingerprint::sha256_of_file;
use crate::plugins::replace;
use crate::repository::Repository;
use crate::ui;
use crate::wasm_target::TARGET;

/// Names the component, for the program and its tests.
pub(crate) const VARIABLE: &str = "LEANCLAW_AGENT";
/// Its file, here and beside the program.
pub(crate) const FILE: &str = "leanclaw-agent.wasm";
/// How it is built; declared in the workspace's `Cargo.toml`.
const PROFILE: &str = "small";

/// Where the component is once it was built.
pub(crate) fn path(repository: &Repository) -> PathBuf {
    repository.target().join("agent").join(FILE)
}

/// Builds it if it changed, and returns its path.
pub(crate) fn build(repository: &Repository) -> Result<PathBuf> {
    let _lock = repository.lock("agent")?;
    ui::say("building the agent");
    let mut cargo = repository.cargo();
    cargo.args(["build", "--package", "leanclaw-agent", "--bin", "leanclaw-agent"]);
    cargo.args(["--target", TARGET, "--profile", PROFILE]);
    ui::run_visibly(&mut cargo, "building the agent")?;
    let built = repository.target().join(TARGET).join(PROFILE).join(FILE);
    let head = std::fs::read(&built).with_context(|| format!("cargo made no {}", built.display()))?;
    ensure!(head.starts_with(b"\0asm"), "{} is not WebAssembly", built.display());
    let path = path(repository);
    let is_there = path.is_file() && sha256_of_file(&path)? == sha256_of_file(&built)?;
    if !is_there {
        let folder = path.parent().context("the component has no folder")?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        replace(&built, &path)?;
    }
    Ok(path)
}
