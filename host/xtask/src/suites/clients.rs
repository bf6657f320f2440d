//! Foreign gateway clients, unchanged, against the real gateway.
//!
//! Owns their installation; what they are asked to do belongs to `tests/clients`. Each folder in there with a lock file of
//! its own is a program that gets an installation of its own in the target folder: more than half a gigabyte each, so
//! neither a fresh clone nor a second run installs them again. No install script is run; a program that has to be unpacked
//! has an `unpack.mjs` of ours.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::count::{Format, run_counted};
use super::{Outcome, empty, missing_program, point_at_builds};
use crate::fingerprint::{Fingerprint, Stamp};
use crate::repository::Repository;
use crate::{plugins, ui};

const NPM_LIMIT: Duration = Duration::from_secs(900);
/// The program whose Node.js runs the tests themselves: the newest one.
const TEST_RUNTIME: &str = "openclaw-v4";

/// Whether there is anything to run in this clone.
pub(super) fn present(repository: &Repository) -> bool {
    folder(repository).join("package.json").is_file()
}

/// Installs the clients and runs the tests.
pub(super) fn run(repository: &Repository) -> Result<Outcome> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Ok(Outcome::NotRun(
            "the Node.js these clients are pinned to is the one for Linux on x86-64".to_owned(),
        ));
    }
    for program in ["node", "npm"] {
        if let Some(missing) = missing_program(repository, program) {
            return Ok(missing);
        }
    }
    // One run at a time: what it leaves in its folder for temporary files is removed by the next.
    let _run = repository.lock("clients-run")?;
    for program in programs(repository)? {
        install(repository, &program)?;
    }
    let folder = folder(repository);
    install_tests(repository, &folder)?;
    let temporary = installations(repository).join("run");
    empty(&temporary)?;
    let runtime = installations(repository).join(TEST_RUNTIME).join("node_modules/.bin/node");
    let mut node = repository.command(runtime);
    node.current_dir(&folder).args(["--test", "--test-reporter=tap"]);
    // One file at a time, because they share a browser and the machine; none hangs for ever, nor keeps the run open.
    node.args(["--test-concurrency=1", "--test-timeout=600000", "--test-force-exit"]);
    node.env("LEANCLAW_TEST_CLIENTS", installations(repository)).env("TMPDIR", &temporary);
    plugins::offer_tools(repository, &mut node)?;
    point_at_builds(repository, &mut node);
    let counted = run_counted(&mut node, Format::Node);
    empty(&temporary)?;
    counted.map(Outcome::Ran)
}

/// Installs what the tests themselves import, beside them, unless that very list of packages is installed already.
fn install_tests(repository: &Repository, folder: &Path) -> Result<()> {
    let stamp = Stamp::at(installations(repository).join("tests.stamp"));
    let mut fingerprint = Fingerprint::new("client tests");
    for file in ["package.json", "package-lock.json"] {
        fingerprint.tree(&folder.join(file))?;
    }
    let fingerprint = fingerprint.finish();
    if stamp.matches(&fingerprint) && folder.join("node_modules").is_dir() {
        return Ok(());
    }
    stamp.clear()?;
    npm_ci(repository, folder, "the tests of the clients")?;
    stamp.write(&fingerprint)
}

fn folder(repository: &Repository) -> PathBuf {
    repository.root().join("tests/clients")
}

fn installations(repository: &Repository) -> PathBuf {
    repository.target().join("clients")
}

/// The folders with a lock file of their own, in order.
fn programs(repository: &Repository) -> Result<Vec<PathBuf>> {
    let folder = folder(repository);
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.join("package-lock.json").is_file());
    found.sort();
    Ok(found)
}

/// Installs one program unless that very list of packages is installed already.
fn install(repository: &Repository, pins: &Path) -> Result<()> {
    let name = pins.file_name().unwrap_or_default();
    let place = installations(repository).join(name);
    let stamp = Stamp::at(place.with_extension("stamp"));
    let mut fingerprint = Fingerprint::new("client");
    fingerprint.tree(pins)?;
    let fingerprint = fingerprint.finish();
    if stamp.matches(&fingerprint) && place.join("node_modules").is_dir() {
        return Ok(());
    }
    let _lock = repository.lock("clients")?;
    // Another run may have installed it while this one waited.
    if stamp.matches(&fingerprint) {
        return Ok(());
    }
    stamp.clear()?;
    std::fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
    for file in ["package.json", "package-lock.json"] {
        let from = pins.join(file);
        std::fs::copy(&from, place.join(file)).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    ui::say(&format!("{}: installing with npm", name.display()));
    npm_ci(repository, &place, &name.to_string_lossy())?;
    let unpack = pins.join("unpack.mjs");
    if unpack.is_file() {
        let mut node = repository.command("node");
        node.current_dir(&place).arg(&unpack);
        ui::run_quietly(repository, &mut node, &format!("unpacking {}", name.display()), NPM_LIMIT)?;
    }
    stamp.write(&fingerprint)
}

fn npm_ci(repository: &Repository, folder: &Path, what: &str) -> Result<()> {
    let mut npm = repository.command("npm");
    npm.current_dir(folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]);
    ui::run_quietly(repository, &mut npm, &format!("npm ci for {what}"), NPM_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lists must pin every package by hash, and leave the choice of a registry to the user.
    #[test]
    fn pins_are_exact_hashed_and_name_no_registry() {
        let repository = Repository::locate().unwrap();
        let programs = programs(&repository).unwrap();
        for expected in ["openclaw-v3", "openclaw-v4"] {
            assert!(programs.iter().any(|path| path.ends_with(expected)), "{programs:?}");
        }
        for folder in programs.into_iter().chain([folder(&repository)]) {
            let lock = std::fs::read_to_string(folder.join("package-lock.json")).unwrap();
            let lock: serde_json::Value = serde_json::from_str(&lock).unwrap();
            for (name, package) in lock["packages"].as_object().unwrap() {
                // What comes inside another package is covered by that one's hash.
                if name.is_empty() || package["inBundle"] == true {
                    continue;
                }
                let integrity = package["integrity"].as_str().unwrap_or_default();
                assert!(integrity.starts_with("sha512-"), "{}: {name}: {package}", folder.display());
                assert!(package["version"].is_string() && package.get("resolved").is_none(), "{name}: {package}");
            }
        }
    }
}
