//! `leanclaw plugin build`: runs a plugin's build command and makes what it made ready to be installed.
//!
//! The command is the plugin author's own and runs with their rights, in the plugin's folder, without a shell. In its
//! words and in `build.output`, `${LEANCLAW_WIT}` and `${LEANCLAW_TOOLS}` are replaced; it also finds them in its
//! environment, and the tools first on its PATH.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use leanclaw_plugin::{Diagnosis, PackageContents};
use leanclaw_types::PluginId;
use leanclaw_types::manifest::{Build, FILE_NAMES, Manifest};
use leanclaw_wasm::Digest;
use leanclaw_wasm::MAX_COMPONENT_BYTES;
use serde::Serialize;
use serde_json::Value;

use super::assets;
use super::bundle::{BUILT_FOLDER, Bundle, unread};
use crate::config::BuildConfig;
use crate::report::Advice;

/// The target that Rust plugins are built for.
const RUST_TARGET: &str = "wasm32-wasip2";
/// The oldest versions that the kits are written for, major and minor.
const OLDEST_NODE: (u32, u32) = (20, 6);
const OLDEST_PYTHON: (u32, u32) = (3, 10);

/// What a build made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Built {
    pub(crate) id: PluginId,
    pub(crate) version: String,
    /// One file that holds the component and the manifest.
    pub(crate) file: PathBuf,
    /// A folder that can be installed.
    pub(crate) folder: PathBuf,
    pub(crate) bytes: usize,
    /// Of that file.
    pub(crate) sha256: String,
    pub(crate) diagnosis: Diagnosis,
}

/// A plugin's folder with what its manifest says about building.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
    pub(crate) build: Build,
    manifest_text: String,
}

impl Project {
    /// Reads the folder.
    pub(crate) fn open(given: &Path) -> Result<Self> {
        let folder = given.canonicalize().map_err(|error| unread(given, &error))?;
        if !FILE_NAMES.iter().any(|name| folder.join(name).is_file()) {
            let message = format!("{} holds no {}", folder.display(), FILE_NAMES[0]);
            return Err(Advice::new(message).hint("name a plugin's folder; `leanclaw plugin new` makes one").into());
        }
        let (manifest, manifest_text) = PackageContents::read_manifest(&folder)?;
        let Some(build) = manifest.build.clone() else {
            let message = format!("the manifest of `{}` does not say how it is built", manifest.id);
            let example =
                r#"add "build": {"command": ["cargo", "build", ...], "output": "target/.../plugin.wasm"} to it"#;
            return Err(Advice::new(message).hint(example).into());
        };
        Ok(Self { folder, manifest, build, manifest_text })
    }

    /// Runs the command, checks what it made and writes it to `dist`.
    pub(crate) fn build(&self, config: &BuildConfig) -> Result<Built> {
        let unpacked = self.contract_for(config)?;
        let variables = Variables {
            wit: unpacked.as_ref().map(|folder| folder.path().to_owned()).or_else(|| self.own_contract(config)),
            tools: config.tools.clone(),
        };
        self.run(&variables)?;
        let output = self.output(&variables)?;
        let component = read_output(&output)?;
        let bundle = Bundle::made(&self.folder, self.manifest.clone(), self.manifest_text.clone(), component)?;
        let diagnosis = bundle.diagnosis(&self.manifest.asked())?;
        if !diagnosis.is_loadable() {
            let message = format!("it was built, but no host would load it:\n{}", diagnosis.to_string().trim_end());
            return Err(Advice::new(message).into());
        }
        let folder = self.folder.join(BUILT_FOLDER);
        let one_file = bundle.one_file()?;
        bundle.write_folder(&folder, &one_file)?;
        Ok(Built {
            id: self.manifest.id.clone(),
            version: self.manifest.version.clone(),
            file: folder.join(bundle.main_name()),
            folder,
            bytes: one_file.len(),
            sha256: Digest::of(&one_file).to_string(),
            diagnosis,
        })
    }

    /// The command as it is run, for people.
    pub(crate) fn shown_command(&self) -> String {
        self.build.command.join(" ")
    }

    /// The contract that is named or lies in the plugin's folder.
    fn own_contract(&self, config: &BuildConfig) -> Option<PathBuf> {
        config.wit.clone().or_else(|| Some(self.folder.join("wit")).filter(|wit| wit.is_dir()))
    }

    /// The contract that this program carries, unpacked, for a plugin that has none.
    fn contract_for(&self, config: &BuildConfig) -> Result<Option<tempfile::TempDir>> {
        if self.own_contract(config).is_some() {
            return Ok(None);
        }
        let folder = tempfile::tempdir().context("no temporary folder can be made")?;
        assets::unpack("wit", folder.path()).context("the contract cannot be unpacked")?;
        Ok(Some(folder))
    }

    fn run(&self, variables: &Variables) -> Result<()> {
        let words: Vec<String> = self.build.command.iter().map(|word| variables.expand(word)).collect();
        let Some((program, arguments)) = words.split_first() else {
            return Err(Advice::new("`build.command` of the manifest is empty").into());
        };
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        // Standard output is for data; what a build says is not.
        command.stdout(Stdio::from(std::io::stderr()));
        variables.offer(&mut command)?;
        let status = command.status().map_err(|error| {
            let advice = Advice::new(format!("`{program}` cannot be started: {error}"));
            advise(advice, &missing_program(program)).context("the build could not begin")
        })?;
        if status.success() {
            return Ok(());
        }
        let advice = Advice::new(format!("the build command failed ({status}): {}", words.join(" ")));
        Err(advise(advice, &self.missing_tools(program, &words, variables)))
    }

    /// What a failed build may lack on this machine.
    fn missing_tools(&self, program: &str, words: &[String], variables: &Variables) -> Vec<String> {
        let name = Path::new(program).file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(advice) = self.outdated(program, name) {
            return vec![advice];
        }
        let has = |tool: &str| self.has_tool(tool, variables);
        match name {
            "cargo" if words.iter().any(|word| word == RUST_TARGET) && !self.has_rust_target() => vec![
                format!("the Rust target {RUST_TARGET} is not installed: rustup target add {RUST_TARGET}"),
                "without rustup: install the standard library of that target with what installed Rust".to_owned(),
            ],
            "node" | "npm" | "npx" if !has("componentize-qjs") => vec![
                "in the plugin's folder: npm install --save-dev componentize-qjs@0.4.5".to_owned(),
                "or set LEANCLAW_TOOLS to the folder that holds componentize-qjs".to_owned(),
            ],
            _ if name.starts_with("py") && !has("componentize-py") => vec![
                "pip install componentize-py==0.25.1".to_owned(),
                "or set LEANCLAW_TOOLS to the folder that holds componentize-py".to_owned(),
            ],
            _ => Vec::new(),
        }
    }

    /// What to do about an interpreter that is too old for the kits: what it says of their code leads nowhere.
    fn outdated(&self, program: &str, name: &str) -> Option<String> {
        if name != "node" && !name.starts_with("python") {
            return None;
        }
        let said =
            Command::new(program).arg("--version").current_dir(&self.folder).stdin(Stdio::null()).output().ok()?;
        let version = String::from_utf8_lossy(&said.stdout);
        is_outdated(name, &version).then(|| {
            let wanted = missing_program(if name == "node" { "node" } else { "python3" });
            format!("`{program}` is too old ({}): {}", version.trim(), wanted.join("; "))
        })
    }

    fn has_rust_target(&self) -> bool {
        let mut command = Command::new("rustc");
        command.args(["--print", "target-libdir", "--target", RUST_TARGET]).current_dir(&self.folder);
        let said = command.output().ok().filter(|said| said.status.success());
        said.is_none_or(|said| Path::new(String::from_utf8_lossy(&said.stdout).trim()).is_dir())
    }

    fn has_tool(&self, tool: &str, variables: &Variables) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own = self.folder.join("node_modules/.bin");
        variables
            .tools
            .iter()
            .cloned()
            .chain([own])
            .chain(std::env::split_paths(&path))
            .any(|folder| folder.join(tool).is_file())
    }

    /// The file that the command makes. Cargo may be told to put its `target` elsewhere, so it is asked where that is.
    fn output(&self, variables: &Variables) -> Result<PathBuf> {
        let output = variables.expand(&self.build.output);
        let by_cargo = self.build.command.first().is_some_and(|program| program == "cargo");
        let below_target = ["target/", "../target/"].iter().find_map(|prefix| output.strip_prefix(prefix));
        if let (true, Some(rest)) = (by_cargo, below_target)
            && let Some(target) = self.cargo_target(variables)?
        {
            return Ok(target.join(rest));
        }
        Ok(self.folder.join(output))
    }

    fn cargo_target(&self, variables: &Variables) -> Result<Option<PathBuf>> {
        let mut command = Command::new("cargo");
        command.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(&self.folder);
        variables.offer(&mut command)?;
        let Some(said) = command.output().ok().filter(|said| said.status.success()) else { return Ok(None) };
        let metadata: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
        Ok(metadata.get("target_directory").and_then(Value::as_str).map(PathBuf::from))
    }
}

/// What a build command is told.
struct Variables {
    wit: Option<PathBuf>,
    tools: Option<PathBuf>,
}

impl Variables {
    fn each(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        [("LEANCLAW_WIT", &self.wit), ("LEANCLAW_TOOLS", &self.tools)]
            .into_iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| (name, value)))
    }

    fn expand(&self, text: &str) -> String {
        self.each().fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("${{{name}}}"), &value.to_string_lossy())
        })
    }

    fn offer(&self, command: &mut Command) -> Result<()> {
        command.envs(self.each());
        if let Some(tools) = &self.tools {
            let path: OsString = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::iter::once(tools.clone()).chain(std::env::split_paths(&path));
            command.env("PATH", std::env::join_paths(folders).context("PATH cannot be extended by LEANCLAW_TOOLS")?);
        }
        Ok(())
    }
}

fn read_output(path: &Path) -> Result<Vec<u8>> {
    let found = path.metadata().map_err(|_| {
        let message = format!("the build command succeeded and made no {}", path.display());
        Advice::new(message).hint("`build.output` of the manifest names the file that the command makes")
    })?;
    if found.len() > MAX_COMPONENT_BYTES {
        let message = format!("{} has {} bytes; the limit is {MAX_COMPONENT_BYTES}", path.display(), found.len());
        return Err(Advice::new(message).hint("build it without debug information").into());
    }
    std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn missing_program(program: &str) -> Vec<String> {
    let advice = match program {
        "cargo" => "install Rust: https://rustup.rs, then rustup target add wasm32-wasip2",
        "node" | "npm" | "npx" => {
            let (major, minor) = OLDEST_NODE;
            return vec![format!("install Node.js {major}.{minor} or later: https://nodejs.org")];
        }
        "python3" | "python" => {
            let (major, minor) = OLDEST_PYTHON;
            return vec![format!("install Python {major}.{minor} or later: https://www.python.org")];
        }
        _ => "`build.command` of the manifest names the program and its arguments",
    };
    vec![advice.to_owned()]
}

/// Whether what an interpreter says of its version (`v20.20.2`, `Python 3.11.7`) is older than the kits can do with.
fn is_outdated(name: &str, said: &str) -> bool {
    let version = said.split_whitespace().find_map(|word| {
        let mut numbers = word.trim_start_matches('v').split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    });
    version.is_some_and(|version| version < if name == "node" { OLDEST_NODE } else { OLDEST_PYTHON })
}

fn advise(advice: Advice, hints: &[String]) -> anyhow::Error {
    hints.iter().fold(advice, |advice, hint| advice.hint(hint)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plugin whose build command is a program in its folder that says `version`, and fails at all else.
    fn hints(name: &str, version: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join(name);
        let script = format!("#!/bin/sh\n[ \"$1\" = --version ] && echo '{version}' && exit 0\nexit 1\n");
        // Written by another process: a program cannot be started while any process, a test beside this one that was just
        // forked, holds it open for writing.
        let write = "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\"";
        assert!(Command::new("sh").args(["-c", write]).arg(&program).arg(script).status().unwrap().success());
        let build = serde_json::json!({"command": [program, "build"], "output": "x.wasm"});
        let manifest = serde_json::json!({"id": "x", "main": "x.wasm", "build": build});
        std::fs::write(folder.path().join(FILE_NAMES[0]), manifest.to_string()).unwrap();
        let tools = folder.path().join("tools");
        for tool in ["componentize-qjs", "componentize-py"] {
            assets::write(&tools.join(tool), b"").unwrap();
        }
        let project = Project::open(folder.path()).unwrap();
        let failure = project.run(&Variables { wit: None, tools: Some(tools) }).unwrap_err();
        crate::report::Report::of(&failure).hints
    }

    #[test]
    fn an_interpreter_that_is_too_old_is_named_when_a_build_fails() {
        for (name, old, new, wanted) in [
            ("node", "v18.20.4", "v20.6.0", "Node.js 20.6 or later: https://nodejs.org"),
            ("python3", "Python 3.9.18", "Python 3.10.1", "Python 3.10 or later: https://www.python.org"),
        ] {
            let told = hints(name, old);
            assert!(told.len() == 1 && told[0].contains(&format!("is too old ({old}): install {wanted}")), "{told:?}");
            assert_eq!(hints(name, new), Vec::<String>::new(), "another reason is not blamed on the version");
        }
        assert_eq!(hints("pyoxidizer", "pyoxidizer 0.24"), Vec::<String>::new());
        assert_eq!(hints("make", "3.1"), Vec::<String>::new());
    }
}
