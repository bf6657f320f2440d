//! The suite `tools`: the example plugins on a machine that has neither Node.js nor Python, or only old ones.
//!
//! The real `cargo xtask setup` and `cargo xtask build` (all that `start` does before it runs the gateway) run as
//! processes with a PATH on which there is nothing but cargo and rustc, and with a target folder of their own. Only the
//! minutes of compiling are left out: a cargo in between hands over the component tools that are there already as if it
//! had built them, and passes everything else on.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{Count, Outcome, empty};
use crate::repository::Repository;
use crate::toolchain::Toolchain;
use crate::ui::{self, Run};
use crate::wasm_target::TARGET;
use crate::{agent, plugins, tools};

const LIMIT: Duration = Duration::from_secs(900);

/// Runs the suite.
pub(super) fn run(repository: &Repository) -> Result<Outcome> {
    let machine = Machine::new(repository)?;
    let mut count = Count::default();
    type Case = fn(&Machine<'_>) -> Result<()>;
    let cases: [(&str, Case); 2] = [
        ("an interpreter that is too old is refused, and what to do is said", too_old),
        ("without any interpreter the examples are built all the same, once", without_interpreters),
    ];
    for (name, case) in cases {
        match case(&machine) {
            Ok(()) => {
                count.passed += 1;
                ui::say(&format!("  {name} ... ok"));
            }
            Err(error) => {
                count.failed += 1;
                ui::error(&format!("{name} ... FAILED: {error:#}"));
            }
        }
    }
    let _ = std::fs::remove_dir_all(&machine.folder);
    Ok(Outcome::Ran(count))
}

/// A machine with a Rust toolchain and nothing else.
struct Machine<'a> {
    repository: &'a Repository,
    folder: PathBuf,
}

impl<'a> Machine<'a> {
    fn new(repository: &'a Repository) -> Result<Self> {
        let folder = repository.state_folder().join("tools-suite");
        empty(&folder)?;
        let machine = Self { repository, folder };
        for folder in [machine.programs(), machine.target(), machine.built_tools()] {
            empty(&folder)?;
        }
        let toolchain = Toolchain::locate(repository, None)?;
        symlink(toolchain.sysroot().join("bin/rustc"), machine.programs().join("rustc"))?;
        program(&machine.cargo(), &machine.cargo_script()?)?;
        for name in [tools::JAVASCRIPT, tools::PYTHON] {
            let there = tools::bin_folder(repository).join(name);
            // It may be one that npm or pip brought, which needs the interpreter that this machine has not.
            program(&machine.built_tools().join(name), &format!("{}\nexec '{}' \"$@\"", own_path()?, there.display()))?;
        }
        // What cargo built of the Rust examples is used again.
        std::fs::create_dir_all(repository.examples_target())?;
        symlink(repository.examples_target(), machine.target().join("example-plugins"))?;
        // The same for the agent.
        let built = repository.target().join(TARGET);
        std::fs::create_dir_all(&built)?;
        symlink(built, machine.target().join(TARGET))?;
        Ok(machine)
    }

    /// All that is on PATH.
    fn programs(&self) -> PathBuf {
        self.folder.join("bin")
    }

    fn cargo(&self) -> PathBuf {
        self.programs().join("cargo")
    }

    fn target(&self) -> PathBuf {
        self.folder.join("target")
    }

    fn built_tools(&self) -> PathBuf {
        self.folder.join("built-tools")
    }

    fn cargo_script(&self) -> Result<String> {
        let own = std::env::var("CARGO").context("this program was not started by cargo")?;
        Ok(format!(
            r#"{path}
case $1 in
metadata)
  echo '{{"target_directory": "{target}"}}'
  exit ;;
install)
  while [ $# -gt 0 ]; do
    case $1 in --path) crate=$2 ;; --root) root=$2 ;; esac
    shift
  done
  mkdir -p "$root/bin"
  exec cp "{tools}/${{crate##*/}}" "$root/bin/" ;;
esac
case ${{CARGO_TARGET_DIR:-}} in
*/example-plugins) CARGO_TARGET_DIR='{real}/example-plugins' ;;
*) CARGO_TARGET_DIR='{real}' ;;
esac
export CARGO_TARGET_DIR
unset CARGO
exec '{own}' "$@""#,
            path = own_path()?,
            target = self.target().display(),
            tools = self.built_tools().display(),
            real = self.repository.target().display(),
        ))
    }

    fn xtask(&self, arguments: &[&str]) -> Result<Run> {
        let mut command: Command =
            self.repository.command(std::env::current_exe().context("cannot find this program's own path")?);
        command.env("PATH", self.programs()).env("CARGO", self.cargo()).env_remove("RUSTC").args(arguments);
        ui::run_logged(self.repository, &mut command, &format!("{} on a bare machine", arguments.join(" ")), LIMIT)
    }
}

fn too_old(machine: &Machine<'_>) -> Result<()> {
    let fakes = [
        ("node", "v18.20.4", "npm: Node.js is too old (v18.20.4): install Node.js 20.6 or later"),
        ("python3", "Python 3.9.18", "pip: Python is too old (Python 3.9.18): install Python 3.10 or later"),
    ];
    for (name, says, _) in fakes {
        program(&machine.programs().join(name), &format!("echo '{says}'"))?;
    }
    let strict = machine.xtask(&["setup", "--tools", "packages"])?;
    let lenient = machine.xtask(&["setup"])?;
    for (name, _, _) in fakes {
        std::fs::remove_file(machine.programs().join(name))?;
    }
    ensure!(strict.status.is_some_and(|status| status.code() == Some(1)), "{}", ui::excerpt(&strict.output));
    expect(
        &strict,
        &["error: Node.js is too old (v18.20.4): install Node.js 20.6 or later (https://nodejs.org)"],
        &[],
    )?;
    succeeded(&lenient)?;
    expect(&lenient, &fakes.map(|(_, _, refusal)| refusal), &[])
}

fn without_interpreters(machine: &Machine<'_>) -> Result<()> {
    // As if nothing had been installed yet.
    std::fs::remove_dir_all(machine.target().join("tools")).context("the tools of the case before are gone")?;
    let ready = ["componentize-qjs 0.4.5: ready (from cargo)", "componentize-py 0.25.1: ready (from cargo)"];
    let first = machine.xtask(&["build"])?;
    succeeded(&first)?;
    expect(&first, &["not with npm: Node.js is missing", "not with pip: Python is missing"], &[])?;
    expect(&first, &ready, &[])?;
    expect(&first, &["built plugin units", "built plugin text-stats"], &[])?;
    for id in ["units", "text-stats"] {
        let folder = machine.target().join("plugins").join(id);
        ensure!(folder.join(plugins::MANIFEST).is_file(), "{} has no manifest", folder.display());
        is_component(&folder.join(format!("{id}.wasm")))?;
    }
    is_component(&machine.target().join("agent").join(agent::FILE))?;
    let second = machine.xtask(&["build"])?;
    succeeded(&second)?;
    expect(&second, &ready, &["built plugin", "not with"])
}

fn is_component(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("{} is missing", path.display()))?;
    // Version and layer of a component; a module has others.
    ensure!(bytes.starts_with(b"\0asm\x0d\0\x01\0"), "{} is no component", path.display());
    Ok(())
}

fn succeeded(run: &Run) -> Result<()> {
    ensure!(run.status.is_some_and(|status| status.success()), "it failed:\n{}", ui::excerpt(&run.output));
    Ok(())
}

fn expect(run: &Run, texts: &[&str], absent: &[&str]) -> Result<()> {
    if let Some(text) = texts.iter().find(|text| !run.output.contains(**text)) {
        bail!("it did not say `{text}`:\n{}", ui::excerpt(&run.output));
    }
    match absent.iter().find(|text| run.output.contains(**text)) {
        Some(text) => bail!("it said `{text}`:\n{}", ui::excerpt(&run.output)),
        None => Ok(()),
    }
}

/// A line of a script that gives it the PATH of this process.
fn own_path() -> Result<String> {
    let path = std::env::var("PATH").context("there is no PATH")?;
    Ok(format!("export PATH='{path}'"))
}

fn program(path: &Path, script: &str) -> Result<()> {
    std::fs::write(path, format!("#!/bin/sh\n{script}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}
