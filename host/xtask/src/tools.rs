//! The programs that make components of JavaScript and Python: `componentize-qjs` and `componentize-py`.
//!
//! Each comes from its language's package client where there is one (seconds), else from crates built here (minutes).
//! Either way the version is exact, every file is checked against a hash in this repository (`host/xtask/tools`), and
//! everything lies in the target folder. Nothing is installed for the user or the system, and no install script is run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::fingerprint::{Fingerprint, Stamp};
use crate::interpreter::Interpreter;
use crate::repository::Repository;
use crate::{interpreter, ui};

const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);
const PROBE_LIMIT: Duration = Duration::from_secs(60);
/// The program that makes components of JavaScript.
pub(crate) const JAVASCRIPT: &str = "componentize-qjs";
/// The program that makes components of Python.
pub(crate) const PYTHON: &str = "componentize-py";

/// Where tools are taken from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Packages if possible, else crates.
    Auto,
    /// npm and pip only.
    Packages,
    /// Crates only.
    Cargo,
}

#[derive(Clone, Copy)]
struct Tool {
    name: &'static str,
    version: &'static str,
    /// The folder in `host/xtask/tools` with the package client's pinned list.
    pins: &'static str,
    package_client: &'static str,
    /// What the package client and the program that it brings run on; one that was built from crates needs nothing.
    interpreter: &'static Interpreter,
    install_package: fn(&Places, &Repository) -> Result<()>,
    /// Arguments that make the tool say something and succeed.
    probe: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool {
        name: JAVASCRIPT,
        version: "0.4.5",
        pins: "js",
        package_client: "npm",
        interpreter: &interpreter::NODE,
        install_package: install_with_npm,
        probe: "--help",
    },
    Tool {
        name: PYTHON,
        version: "0.25.1",
        pins: "python",
        package_client: "pip",
        interpreter: &interpreter::PYTHON,
        install_package: install_with_pip,
        probe: "--version",
    },
];

/// The folder with the tools' programs, to be put on PATH.
pub(crate) fn bin_folder(repository: &Repository) -> PathBuf {
    repository.target().join("tools/bin")
}

/// A hash over everything that decides which tools are installed.
pub(crate) fn pinned_versions(repository: &Repository) -> Result<String> {
    let mut fingerprint = Fingerprint::new("tools");
    fingerprint.tree(&pins_folder(repository))?;
    Ok(fingerprint.finish())
}

/// Installs what is missing and names each tool with its version.
pub(crate) fn ensure(repository: &Repository, source: Source) -> Result<()> {
    for tool in TOOLS {
        let places = Places::of(repository, tool);
        let origin = match places.installed(repository, tool, source)? {
            Some(origin) => origin,
            None => {
                let _lock = repository.lock("tools")?;
                install(repository, tool, &places, source)?
            }
        };
        ui::say(&format!("{} {}: ready (from {origin})", tool.name, tool.version));
    }
    Ok(())
}

fn install(repository: &Repository, tool: &Tool, places: &Places, source: Source) -> Result<&'static str> {
    places.clear()?;
    if source != Source::Cargo {
        ui::say(&format!("{} {}: installing with {}", tool.name, tool.version, tool.package_client));
        let installed = tool.interpreter.require(repository).and_then(|()| (tool.install_package)(places, repository));
        match installed.and_then(|()| probe(repository, tool, places)) {
            Ok(()) => return places.remember(tool, tool.package_client),
            Err(error) if source == Source::Packages => return Err(error),
            Err(error) => ui::say(&format!("{}: not with {}: {error:#}", tool.name, tool.package_client)),
        }
    }
    ui::say(&format!("{} {}: building it from crates, which takes several minutes once", tool.name, tool.version));
    places.clear()?;
    install_with_cargo(repository, tool, places)?;
    probe(repository, tool, places)?;
    places.remember(tool, "cargo")
}

/// A tool that is installed but does not start is worse than one that is missing.
fn probe(repository: &Repository, tool: &Tool, places: &Places) -> Result<()> {
    let mut command = repository.command(&places.program);
    ui::run_quietly(repository, command.arg(tool.probe), &format!("starting {}", tool.name), PROBE_LIMIT)
}

/// The folders and files of one tool.
struct Places {
    pins: PathBuf,
    crate_folder: PathBuf,
    installation: PathBuf,
    program: PathBuf,
    stamp: PathBuf,
}

impl Places {
    fn of(repository: &Repository, tool: &Tool) -> Self {
        let tools = repository.target().join("tools");
        Self {
            pins: pins_folder(repository).join(tool.pins),
            crate_folder: pins_folder(repository).join("cargo").join(tool.name),
            installation: tools.join(tool.pins),
            program: tools.join("bin").join(tool.name),
            stamp: tools.join(format!("{}.stamp", tool.name)),
        }
    }

    /// Where the installed tool came from, if it is the pinned one and from where it is wanted.
    fn installed(&self, repository: &Repository, tool: &Tool, source: Source) -> Result<Option<&'static str>> {
        if !self.program.is_file() {
            return Ok(None);
        }
        let origins: &[&'static str] = match source {
            Source::Auto => &[tool.package_client, "cargo"],
            Source::Packages => &[tool.package_client],
            Source::Cargo => &["cargo"],
        };
        for origin in origins {
            if Stamp::at(self.stamp.clone()).matches(&self.fingerprint(tool, origin)?) {
                // What a package client brought is of no use when its interpreter is gone.
                let runs = *origin == "cargo" || tool.interpreter.require(repository).is_ok();
                return Ok(runs.then_some(*origin));
            }
        }
        Ok(None)
    }

    fn fingerprint(&self, tool: &Tool, origin: &str) -> Result<String> {
        let mut fingerprint = Fingerprint::new("tool");
        fingerprint.text(tool.name).text(tool.version).text(origin).tree(&self.pins)?.tree(&self.crate_folder)?;
        if let Some(workspace) = self.crate_folder.parent() {
            fingerprint.tree(&workspace.join("Cargo.lock"))?;
        }
        Ok(fingerprint.finish())
    }

    fn clear(&self) -> Result<()> {
        Stamp::at(self.stamp.clone()).clear()?;
        let _ = std::fs::remove_file(&self.program);
        if self.installation.exists() {
            std::fs::remove_dir_all(&self.installation)
                .with_context(|| format!("cannot remove {}", self.installation.display()))?;
        }
        for folder in [Some(self.installation.as_path()), self.program.parent()].into_iter().flatten() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        Ok(())
    }

    fn remember(&self, tool: &Tool, origin: &'static str) -> Result<&'static str> {
        Stamp::at(self.stamp.clone()).write(&self.fingerprint(tool, origin)?)?;
        Ok(origin)
    }
}

fn pins_folder(repository: &Repository) -> PathBuf {
    repository.root().join("host/xtask/tools")
}

fn install_with_npm(places: &Places, repository: &Repository) -> Result<()> {
    for name in ["package.json", "package-lock.json"] {
        let from = places.pins.join(name);
        std::fs::copy(&from, places.installation.join(name))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    let mut npm = repository.command("npm");
    npm.current_dir(&places.installation).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    ui::run_quietly(repository, &mut npm, "npm ci for componentize-qjs", DOWNLOAD_LIMIT)?;
    link(&places.installation.join("node_modules/.bin/componentize-qjs"), &places.program)
}

fn install_with_pip(places: &Places, repository: &Repository) -> Result<()> {
    let mut pip = repository.command("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--require-hashes",
        "--no-deps",
        "--only-binary=:all:",
        "--no-compile",
        "--target",
    ]);
    pip.arg(&places.installation).arg("--requirement").arg(places.pins.join("requirements.txt"));
    ui::run_quietly(repository, &mut pip, "pip install of componentize-py", DOWNLOAD_LIMIT)?;
    // The script pip writes expects the package on Python's path; this one finds it beside itself and leaves the path alone.
    let script = "#!/bin/sh\nexec python3 -c '\nimport sys\nsys.path.insert(0, sys.argv.pop(1))\n\
                  sys.argv[0] = \"componentize-py\"\nfrom componentize_py import script\nsys.exit(script())\n' \
                  \"$(dirname \"$0\")/../python\" \"$@\"\n";
    std::fs::write(&places.program, script).with_context(|| format!("cannot write {}", places.program.display()))?;
    make_executable(&places.program)
}

fn install_with_cargo(repository: &Repository, tool: &Tool, places: &Places) -> Result<()> {
    let build = repository.target().join("tools/cargo-build");
    let mut cargo = repository.cargo();
    cargo.args(["install", "--locked", "--force", "--no-track", "--path"]).arg(&places.crate_folder);
    cargo.arg("--root").arg(&places.installation).arg("--target-dir").arg(&build);
    ui::run_visibly(&mut cargo, &format!("building {}", tool.name))?;
    link(&places.installation.join("bin").join(tool.name), &places.program)?;
    // A gigabyte that nobody needs again.
    let _ = std::fs::remove_dir_all(&build);
    Ok(())
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> Result<()> {
    if !from.is_file() {
        bail!("the installation brought no {}", from.display());
    }
    std::os::unix::fs::symlink(from, to).with_context(|| format!("cannot link {}", to.display()))
}

#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map(|_| ()).with_context(|| format!("cannot copy {}", to.display()))
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", path.display()))
}

#[cfg(not(unix))]
fn make_executable(_path: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Node.js may go, or be switched to an old one, after its package client brought a tool.
    #[test]
    fn a_tool_of_a_package_client_counts_only_while_its_interpreter_is_there() {
        let repository = Repository::locate().unwrap();
        let folder = std::env::temp_dir().join(format!("xtask-tools-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let tool = |interpreter| Tool { interpreter, ..TOOLS[0] };
        let places =
            Places { program: folder.join("tool"), stamp: folder.join("stamp"), ..Places::of(&repository, &TOOLS[0]) };
        let found = |interpreter| places.installed(&repository, &tool(interpreter), Source::Auto).unwrap();
        std::fs::write(&places.program, "").unwrap();
        for (origin, expected) in [("npm", None), ("cargo", Some("cargo"))] {
            assert_eq!(found(&interpreter::ALWAYS), None, "nothing is remembered");
            places.remember(&TOOLS[0], origin).unwrap();
            assert_eq!(found(&interpreter::NEVER), expected);
            assert_eq!(found(&interpreter::ALWAYS), Some(origin));
            Stamp::at(places.stamp.clone()).clear().unwrap();
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// The lists must pin the versions named above by hash, and leave the choice of a registry to the user.
    #[test]
    fn pins_are_exact_hashed_and_name_no_registry() {
        let pins = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools");
        let npm = std::fs::read_to_string(pins.join("js/package-lock.json")).unwrap();
        let pip = std::fs::read_to_string(pins.join("python/requirements.txt")).unwrap();
        let crates = std::fs::read_to_string(pins.join("cargo/Cargo.lock")).unwrap();
        let [qjs, py] = TOOLS else { panic!("a tool without a check") };
        assert!(npm.contains("\"node_modules/componentize-qjs\": {"));
        assert_eq!(npm.matches("\"version\"").count(), npm.matches("\"integrity\": \"sha512-").count());
        assert!(!npm.contains("resolved") && !npm.contains("://"));
        assert!(pip.contains(&format!("{}=={}", py.name, py.version)) && pip.matches("--hash=sha256:").count() >= 4);
        assert!(!pip.contains("://"));
        for tool in [qjs, py] {
            assert!(crates.contains(&format!("name = \"{}\"\nversion = \"{}\"\nsource", tool.name, tool.version)));
        }
    }
}
