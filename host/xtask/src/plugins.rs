//! Builds the `leanclaw` binary and the example plugins.
//!
//! A plugin is a folder of the example workspace with a `leanclaw.plugin.json`. How it is built stands in that manifest
//! (`build`), the same text that `leanclaw plugin build` reads; this module adds only what a clone has on top: where the
//! tools and the WIT package lie, and that a plugin whose sources did not change is not built again.
//!
//! A command that calls a kit's build script is not run: [`crate::component`] does the same without the script's
//! interpreter. Any other runs in the plugin's folder without a shell. In it and in `output`, `${LEANCLAW_WIT}` (the WIT package),
//! `${LEANCLAW_TOOLS}` (the component tools, also first on PATH) and `${CARGO_TARGET_DIR}` are replaced; the command also
//! finds them in its environment. Where the command is cargo, a leading `target/` or `../target/` of `output` stands for
//! cargo's target folder, wherever that is.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::arguments::Arguments;
use crate::component::KitBuild;
use crate::fingerprint::{Fingerprint, Stamp};
use crate::repository::Repository;
use crate::{agent, setup, stand_in, tools, ui};

/// The manifest's file name.
pub(crate) const MANIFEST: &str = "leanclaw.plugin.json";

/// What the manifest says about building.
struct Recipe {
    id: String,
    /// The component's file name in the plugin's folder of `target/plugins`.
    component: String,
    command: Vec<String>,
    output: String,
}

/// Runs the command.
pub(crate) fn run(repository: &Repository, arguments: Arguments) -> Result<ExitCode> {
    arguments.finish()?;
    setup::ensure(repository)?;
    build_host(repository)?;
    agent::build(repository)?;
    build_examples(repository)?;
    Ok(ExitCode::SUCCESS)
}

/// Builds the `leanclaw` program for development, and what stands in for a model beside it, and returns the former's path.
pub(crate) fn build_host(repository: &Repository) -> Result<PathBuf> {
    ui::say("building leanclaw");
    let mut cargo = repository.cargo();
    // The whole workspace decides on the dependencies' features, so that tests and `start` share what cargo builds.
    cargo.args(["build", "--workspace", "--bin", "leanclaw", "--bin", stand_in::PROGRAM]);
    ui::run_visibly(&mut cargo, "building leanclaw")?;
    Ok(repository.binary("debug", "leanclaw"))
}

/// Builds every example plugin that changed, takes away those that are gone, and returns the ids of all.
pub(crate) fn build_examples(repository: &Repository) -> Result<Vec<String>> {
    let _lock = repository.lock("plugins")?;
    let mut ids = Vec::new();
    for folder in folders(&repository.examples())? {
        let recipe = recipe(&folder)?;
        if ids.contains(&recipe.id) {
            bail!("two example plugins have the id `{}`; one is in {}", recipe.id, folder.display());
        }
        build_one(repository, &folder, &recipe)?;
        ids.push(recipe.id);
    }
    remove_gone(repository, &ids)?;
    ui::say(&format!("example plugins: {} ready in {}", ids.len(), repository.plugins().display()));
    Ok(ids)
}

/// The folders with a manifest, sorted.
fn folders(examples: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(examples) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.join(MANIFEST).is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn recipe(folder: &Path) -> Result<Recipe> {
    let path = folder.join(MANIFEST);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    let id =
        manifest.pointer("/id").and_then(Value::as_str).with_context(|| format!("{} has no `id`", path.display()))?;
    // The id becomes the name of a folder and of a file.
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        bail!("{}: the id `{id}` is not made of letters, digits, `-` and `_`", path.display());
    }
    let main = manifest.pointer("/main").and_then(Value::as_str);
    let main = main.filter(|name| name.ends_with(".wasm") && !name.contains('/'));
    let words = manifest.pointer("/build/command").and_then(Value::as_array);
    let output = manifest.pointer("/build/output").and_then(Value::as_str);
    let (Some(words), Some(output)) = (words, output) else {
        bail!("{} has no `build` with `command` (a list of words) and `output` (a path)", path.display());
    };
    Ok(Recipe {
        id: id.to_owned(),
        component: main.map_or_else(|| format!("{id}.wasm"), str::to_owned),
        command: words.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        output: output.to_owned(),
    })
}

fn build_one(repository: &Repository, folder: &Path, recipe: &Recipe) -> Result<()> {
    let stamp = Stamp::at(stamps(repository).join(&recipe.id));
    let fingerprint = fingerprint(repository, folder, recipe)?;
    let installed = repository.plugins().join(&recipe.id);
    if stamp.matches(&fingerprint) && installed.join(&recipe.component).is_file() && installed.join(MANIFEST).is_file()
    {
        return Ok(());
    }
    stamp.clear()?;
    let started = Instant::now();
    ui::say(&format!("building plugin {}", recipe.id));
    let component = make_component(repository, folder, recipe)?;
    std::fs::create_dir_all(&installed).with_context(|| format!("cannot create {}", installed.display()))?;
    // A running gateway watches this folder: every file appears whole, and the component before the manifest that
    // belongs to it.
    replace(&component, &installed.join(&recipe.component))?;
    replace(&folder.join(MANIFEST), &installed.join(MANIFEST))?;
    ui::say(&format!("built plugin {} in {}", recipe.id, ui::seconds(started.elapsed())));
    stamp.write(&fingerprint)
}

fn make_component(repository: &Repository, folder: &Path, recipe: &Recipe) -> Result<PathBuf> {
    let words: Vec<String> = recipe.command.iter().map(|word| expand(repository, word)).collect();
    let Some((program, arguments)) = words.split_first() else {
        bail!("plugin {}: `build.command` is empty", recipe.id)
    };
    let output = output_path(repository, folder, recipe);
    if let Some(parent) = output.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    let shown = words.join(" ");
    if let Some(build) = KitBuild::of(repository, folder, &words) {
        let what = format!("building plugin {}", recipe.id);
        build
            .run(repository, &tools::bin_folder(repository), &what)
            .with_context(|| format!("instead of `{shown}`"))?;
    } else {
        let mut command = repository.command(program);
        command.current_dir(folder).args(arguments);
        offer_tools(repository, &mut command)?;
        let what = format!("building plugin {} (`{shown}`)", recipe.id);
        match program.as_str() {
            "cargo" => ui::run_visibly(&mut command, &what)?,
            _ => ui::run_quietly(repository, &mut command, &what, ui::BUILD_LIMIT)?,
        }
    }
    let head = std::fs::read(&output).with_context(|| {
        format!("plugin {}: its build command succeeded but made no {} (`build.output`)", recipe.id, output.display())
    })?;
    if !head.starts_with(b"\0asm") {
        bail!("plugin {}: {} is not WebAssembly", recipe.id, output.display());
    }
    Ok(output)
}

/// Lets a command find the contract, the component tools and cargo's target folder of the example plugins.
pub(crate) fn offer_tools(repository: &Repository, command: &mut Command) -> Result<()> {
    command.envs(variables(repository));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(tools::bin_folder(repository)).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(path).context("PATH cannot be extended")?);
    Ok(())
}

fn variables(repository: &Repository) -> [(&'static str, PathBuf); 3] {
    [
        ("LEANCLAW_WIT", repository.wit()),
        ("LEANCLAW_TOOLS", tools::bin_folder(repository)),
        ("CARGO_TARGET_DIR", repository.examples_target()),
    ]
}

fn expand(repository: &Repository, text: &str) -> String {
    variables(repository)
        .iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), &value.to_string_lossy()))
}

fn output_path(repository: &Repository, folder: &Path, recipe: &Recipe) -> PathBuf {
    let expanded = expand(repository, &recipe.output);
    let by_cargo = recipe.command.first().is_some_and(|program| program == "cargo");
    let below_target = ["target/", "../target/"].iter().find_map(|prefix| expanded.strip_prefix(prefix));
    match below_target {
        Some(rest) if by_cargo => repository.examples_target().join(rest),
        _ => folder.join(expanded),
    }
}

/// Everything a component is made of: its folder, what the plugins share, the contract, the kits, the tools, the compiler.
fn fingerprint(repository: &Repository, folder: &Path, recipe: &Recipe) -> Result<String> {
    let mut fingerprint = Fingerprint::new("plugin");
    let compiler = std::env::var_os("CARGO").map(PathBuf::from).unwrap_or_default();
    fingerprint.text(&compiler.to_string_lossy()).text(&tools::pinned_versions(repository)?);
    fingerprint.tree_without(folder, &output_path(repository, folder, recipe))?;
    fingerprint.tree(&repository.wit())?.tree(&repository.root().join("plugin-sdk"))?;
    for entry in std::fs::read_dir(repository.examples()).context("cannot list the example plugins")? {
        let path = entry?.path();
        let built = path.file_name().is_some_and(|name| name == "target");
        if path != folder && !built && !path.join(MANIFEST).is_file() {
            fingerprint.tree(&path)?;
        }
    }
    Ok(fingerprint.finish())
}

fn stamps(repository: &Repository) -> PathBuf {
    repository.state_folder().join("plugins")
}

/// Removes plugins that this module built before and whose sources no longer exist; others in that folder are not ours.
fn remove_gone(repository: &Repository, ids: &[String]) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(stamps(repository)) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let id = entry.file_name().to_string_lossy().into_owned();
        if ids.contains(&id) {
            continue;
        }
        let installed = repository.plugins().join(&id);
        if installed.exists() {
            std::fs::remove_dir_all(&installed).with_context(|| format!("cannot remove {}", installed.display()))?;
        }
        std::fs::remove_file(entry.path())?;
        ui::say(&format!("removed plugin {id}: its sources are gone"));
    }
    Ok(())
}

/// Puts a file in place so that whoever watches never sees half of it.
pub(crate) fn replace(from: &Path, to: &Path) -> Result<()> {
    // The name ends in something no plugin has, so that the half-written file is not taken for one.
    let temporary = to.with_extension("partial");
    std::fs::copy(from, &temporary)
        .with_context(|| format!("cannot copy {} to {}", from.display(), temporary.display()))?;
    std::fs::rename(&temporary, to).with_context(|| format!("cannot move a file to {}", to.display()))
}
