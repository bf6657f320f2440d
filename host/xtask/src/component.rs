//! Makes the components of the JavaScript and Python examples with neither Node.js nor Python.
//!
//! A manifest names its kit's build script, as an author's does. What the scripts do beside calling the component tool is
//! little: they put the plugin's world on top of the contract. For the examples that is done here, always, so that a clone
//! needs an interpreter only where the tool itself does: one that was built from crates needs none. The tests hold this
//! module and the scripts to the same call of the tool.
//!
//! It knows what the examples use of the scripts. A command that asks for more is no [`KitBuild`], and is run as it stands.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::fingerprint::files_below;
use crate::plugins::replace;
use crate::repository::Repository;
use crate::{tools, ui};

/// The world's name in what is put on top of the contract.
const WORLD: &str = "component";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    JavaScript,
    Python,
}

impl Language {
    const ALL: [Self; 2] = [Self::JavaScript, Self::Python];

    fn interpreter(self) -> &'static str {
        match self {
            Self::JavaScript => "node",
            Self::Python => "python3",
        }
    }

    fn kit(self, repository: &Repository) -> PathBuf {
        repository.root().join("plugin-sdk").join(match self {
            Self::JavaScript => "js",
            Self::Python => "python",
        })
    }

    fn script(self, repository: &Repository) -> PathBuf {
        self.kit(repository).join(match self {
            Self::JavaScript => "build.mjs",
            Self::Python => "build.py",
        })
    }

    fn tool(self) -> &'static str {
        match self {
            Self::JavaScript => tools::JAVASCRIPT,
            Self::Python => tools::PYTHON,
        }
    }
}

/// A build command that calls a kit's script.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KitBuild {
    language: Language,
    folder: PathBuf,
    entry: String,
    output: String,
    /// What the component's world consists of, as lines of WIT without the contract's version.
    world: Vec<(&'static str, String)>,
}

impl KitBuild {
    /// What `command` asks for in `folder`, if it calls one of this clone's scripts in a way this module knows.
    pub(crate) fn of(repository: &Repository, folder: &Path, command: &[String]) -> Option<Self> {
        let (program, words) = command.split_first()?;
        let (script, words) = words.split_first()?;
        let script = folder.join(script).canonicalize().ok()?;
        let is_called = |language: &Language| {
            language.interpreter() == program
                && language.script(repository).canonicalize().is_ok_and(|path| path == script)
        };
        let language = Language::ALL.into_iter().find(is_called)?;
        let (mut entry, mut output, mut world) = (None, None, Vec::new());
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--world" => world.push(("include", words.next().filter(|name| !name.ends_with(".wit"))?.clone())),
                "--import" => world.extend(names(words.next()?).map(|name| ("import", name))),
                "--export" => world.extend(names(words.next()?).map(|name| ("export", name))),
                "-o" | "--output" => output = Some(words.next()?.clone()),
                option if option.starts_with('-') => return None,
                _ if entry.is_some() => return None,
                _ => entry = Some(word.clone()),
            }
        }
        // The order of the scripts.
        world.sort_by_key(|(verb, _)| ["include", "import", "export"].iter().position(|known| known == verb));
        Some(Self { language, folder: folder.to_owned(), entry: entry?, output: output?, world })
    }

    /// Makes the component with the tool in `tools` and puts it where the command says; `what` is shown while it takes.
    pub(crate) fn run(&self, repository: &Repository, tools: &Path, what: &str) -> Result<()> {
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy();
        let work = repository.state_folder().join(format!("component-{name}-{}", std::process::id()));
        if work.exists() {
            std::fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
        }
        let outcome = self.make(repository, tools, &work, what);
        let _ = std::fs::remove_dir_all(&work);
        outcome
    }

    fn make(&self, repository: &Repository, tools: &Path, work: &Path, what: &str) -> Result<()> {
        let entry = self.folder.join(&self.entry);
        if !entry.is_file() {
            bail!("{} does not exist", entry.display());
        }
        let wit = work.join("wit");
        self.assemble(&repository.wit(), &wit)?;
        let made = work.join("component.wasm");
        let mut tool = repository.command(tools.join(self.language.tool()));
        tool.current_dir(&self.folder);
        let kit = self.language.kit(repository);
        match self.language {
            Language::JavaScript => javascript_arguments(&mut tool, &entry, &kit, &wit, &made),
            Language::Python => python_arguments(&mut tool, &self.entry, &kit, &wit, &made)?,
        }
        ui::run_quietly(repository, &mut tool, what, ui::BUILD_LIMIT)?;
        replace(&made, &self.folder.join(&self.output))
    }

    /// Puts the plugin's world on top, and the contract and WASI in `deps`.
    fn assemble(&self, contract: &Path, wit: &Path) -> Result<()> {
        let own = wit.join("deps/leanclaw-plugin");
        for file in files_below(contract)? {
            let name = file.strip_prefix(contract)?;
            let is_own = name.parent() == Some(Path::new(""));
            if is_own && name.extension().is_none_or(|ending| ending != "wit") || !is_own && !name.starts_with("deps") {
                continue;
            }
            let target = if is_own { own.join(name) } else { wit.join(name) };
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
            }
            std::fs::copy(&file, &target).with_context(|| format!("cannot copy {}", file.display()))?;
        }
        std::fs::write(wit.join("world.wit"), self.world_text(&contract_version(contract)?))
            .with_context(|| format!("cannot write to {}", wit.display()))
    }

    fn world_text(&self, version: &str) -> String {
        let line = |(verb, name): &(&str, String)| match name.contains(':') {
            true => format!("  {verb} {name};\n"),
            false => format!("  {verb} leanclaw:plugin/{name}@{version};\n"),
        };
        let lines: String = self.world.iter().map(line).collect();
        format!("package local:component;\n\nworld {WORLD} {{\n{lines}}}\n")
    }
}

fn names(list: &str) -> impl Iterator<Item = String> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned)
}

fn contract_version(contract: &Path) -> Result<String> {
    let path = contract.join("types.wit");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let version = text.lines().find_map(|line| line.strip_prefix("package leanclaw:plugin@")?.strip_suffix(';'));
    Ok(version.with_context(|| format!("{} names no version of leanclaw:plugin", path.display()))?.trim().to_owned())
}

/// The tool finds what a plugin imports below one folder, so that is the one which holds both the plugin and the kit.
fn javascript_arguments(tool: &mut Command, entry: &Path, kit: &Path, wit: &Path, output: &Path) {
    let root = entry.ancestors().skip(1).find(|folder| kit.starts_with(folder)).unwrap_or(Path::new("/"));
    tool.arg("--wit").arg(wit).args(["--world", WORLD, "--js"]).arg(entry);
    tool.arg("--module-root").arg(root).arg("--sync").arg("-o").arg(output);
}

fn python_arguments(tool: &mut Command, entry: &str, kit: &Path, wit: &Path, output: &Path) -> Result<()> {
    let entry = Path::new(entry);
    let module = entry.file_stem().context("the plugin's main module has no name")?;
    let folder = entry.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    tool.arg("-q").arg("-d").arg(wit).args(["-w", WORLD, "componentize"]).arg(module);
    tool.arg("-p").arg(folder).arg("-p").arg(kit).arg("-o").arg(output);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreter;

    const UNITS: &[&str] =
        &["node", "../../plugin-sdk/js/build.mjs", "plugin.js", "--world", "pure-skill-plugin", "-o", "units.wasm"];

    fn command(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn only_a_kits_script_called_in_a_known_way_is_replaced() {
        let repository = Repository::locate().unwrap();
        let folder = repository.examples().join("units");
        let of = |words: &[&str]| KitBuild::of(&repository, &folder, &command(words));
        let build = of(UNITS).unwrap();
        assert_eq!(
            (build.language, build.entry.as_str(), build.output.as_str()),
            (Language::JavaScript, "plugin.js", "units.wasm")
        );
        let more = of(&[UNITS, &["--export", "hook", "--import", "kv, log"]].concat()).unwrap();
        assert_eq!(
            more.world_text("0.1.0"),
            "package local:component;\n\nworld component {\n  include leanclaw:plugin/pure-skill-plugin@0.1.0;\n  \
             import leanclaw:plugin/kv@0.1.0;\n  import leanclaw:plugin/log@0.1.0;\n  export leanclaw:plugin/hook@0.1.0;\n}\n"
        );
        for others in [
            &["cargo", "build"][..],
            &["node"],
            // Another program, and another script of the same name.
            &[&["deno"], &UNITS[1..]].concat(),
            &[&["node", "build.mjs"], &UNITS[2..]].concat(),
            &["python3", "../../plugin-sdk/js/build.mjs", "plugin.py", "-o", "x.wasm"],
            // What the examples do not use.
            &[UNITS, &["--minify"]].concat(),
            &[UNITS, &["second.js"]].concat(),
            &[&UNITS[..3], &["--world", "mine.wit", "-o", "units.wasm"]].concat(),
            &UNITS[..5],
            &UNITS[..6],
        ] {
            assert_eq!(of(others), None, "{others:?}");
        }
    }

    /// A tool that writes down how it was called and which WIT it got, as the component that it makes.
    fn recording_tools(folder: &Path) {
        let script = r#"#!/bin/sh
folder=$PWD
for word; do
  case $before in --wit | -d) wit=$word ;; -o) output=$word ;; esac
  before=$word
done
{
  echo "in $folder"
  for word; do
    case $word in "$wit") word=WIT ;; "$output") word=OUTPUT ;; esac
    echo "$word"
  done
  cd "$wit" && find . -type f | LC_ALL=C sort | while read -r file; do echo "$file" && cat "$file"; done
} >"$output"
"#;
        std::fs::create_dir_all(folder).unwrap();
        for name in [tools::JAVASCRIPT, tools::PYTHON] {
            // Written by another process: a program cannot be started while any process, a test beside this one that was
            // just forked, holds it open for writing.
            let write = "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\"";
            let mut shell = Command::new("sh");
            assert!(shell.args(["-c", write]).arg(folder.join(name)).arg(script).status().unwrap().success());
        }
    }

    /// The same tool called in the same way on the same files makes the same component.
    #[test]
    fn the_tool_is_called_as_the_scripts_call_it() {
        let repository = Repository::locate().unwrap();
        let work = std::env::temp_dir().join(format!("xtask-component-{}", std::process::id()));
        let tools = work.join("tools");
        recording_tools(&tools);
        let more = &["--import", "kv,log", "--export", "hook"][..];
        for (id, interpreter, script, entry, more) in [
            ("units", &interpreter::NODE, "../../plugin-sdk/js/build.mjs", "plugin.js", &[][..]),
            ("units", &interpreter::NODE, "../../plugin-sdk/js/build.mjs", "src/units.js", more),
            ("text-stats", &interpreter::PYTHON, "../../plugin-sdk/python/build.py", "plugin.py", &[]),
            ("text-stats", &interpreter::PYTHON, "../../plugin-sdk/python/build.py", "tests/test_plugin.py", more),
        ] {
            if let Err(missing) = interpreter.require(&repository) {
                // The suites js and py say of themselves that they were not run.
                eprintln!("NOT RUN for {id}: {missing:#}");
                continue;
            }
            let program = if id == "units" { "node" } else { "python3" };
            let folder = repository.examples().join(id);
            let command = |output: &Path| {
                let call = [program, script, entry, "--world", "pure-skill-plugin", "-o", output.to_str().unwrap()];
                command(&[&call, more].concat())
            };
            let (ours, theirs) = (work.join("ours.wasm"), work.join("theirs.wasm"));
            KitBuild::of(&repository, &folder, &command(&ours)).unwrap().run(&repository, &tools, "a test").unwrap();
            let words = command(&theirs);
            let mut by_script = repository.command(program);
            by_script.current_dir(&folder).args(&words[1..]).env("LEANCLAW_TOOLS", &tools);
            ui::capture(by_script.env("LEANCLAW_WIT", repository.wit())).unwrap();
            let (ours, theirs) = (std::fs::read_to_string(ours).unwrap(), std::fs::read_to_string(theirs).unwrap());
            assert!(ours.contains("deps/leanclaw-plugin/worlds.wit") && ours.contains("pure-skill-plugin@"), "{ours}");
            assert_eq!(ours, theirs, "{id} {entry}");
        }
        std::fs::remove_dir_all(&work).unwrap();
    }
}
