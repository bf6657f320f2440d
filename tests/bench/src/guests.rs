//! The guests: components that do nothing, one per language, built from `guests/` as the example plugins are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::options::Places;
use crate::report::say;

/// A guest language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Rust,
    JavaScript,
    Python,
}

impl Language {
    pub(crate) const ALL: [Self; 3] = [Self::Rust, Self::JavaScript, Self::Python];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::JavaScript => "QuickJS",
            Self::Python => "Python",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::JavaScript => "js",
            Self::Python => "python",
        }
    }

    /// The plugin id its component is installed under.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Rust => "bench-rust",
            Self::JavaScript => "bench-js",
            Self::Python => "bench-python",
        }
    }

    /// Builds the component if it is older than its source, and gives its path.
    pub(crate) fn component(self, places: &Places) -> Result<PathBuf> {
        let folder = places.root.join("tests/bench/guests").join(self.folder());
        if self == Self::Rust {
            return build_rust(places, &folder);
        }
        let (program, kit, entry) = match self {
            Self::Python => ("python3", "python/build.py", "plugin.py"),
            _ => ("node", "js/build.mjs", "plugin.js"),
        };
        let output = places.output.join(format!("{}.wasm", self.id()));
        if is_newer(&output, &folder.join(entry)) {
            return Ok(output);
        }
        say(&format!("building the {} guest", self.name()));
        let mut command = Command::new(program);
        command.arg(places.root.join("plugin-sdk").join(kit)).arg(entry).args(["--world", "pure-method-plugin", "-o"]);
        command.arg(&output).current_dir(&folder).env("LEANCLAW_WIT", places.root.join("wit"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(places.tools()).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(path)?);
        succeed(&mut command, "build a guest")?;
        Ok(output)
    }
}

fn build_rust(places: &Places, folder: &Path) -> Result<PathBuf> {
    // The example plugins' target folder: their dependencies are built with the same settings.
    let target = places.target.join("example-plugins");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--quiet", "--target", "wasm32-wasip2"]);
    command.current_dir(folder).env("CARGO_TARGET_DIR", &target);
    succeed(&mut command, "build the Rust guest")?;
    Ok(target.join("wasm32-wasip2/release/bench_guest.wasm"))
}

fn is_newer(made: &Path, source: &Path) -> bool {
    let time = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
    matches!((time(made), time(source)), (Some(made), Some(source)) if made > source)
}

fn succeed(command: &mut Command, what: &str) -> Result<()> {
    let status =
        command.status().with_context(|| format!("cannot {what}: {:?} does not run", command.get_program()))?;
    if !status.success() {
        bail!("cannot {what}: {command:?} ended with {status}");
    }
    Ok(())
}

/// A manifest for a method plugin.
pub(crate) fn manifest(id: &str, more: Value) -> Value {
    let mut manifest = json!({"id": id, "version": "1.0.0", "main": "plugin.wasm"});
    if let (Value::Object(manifest), Value::Object(more)) = (&mut manifest, more) {
        manifest.extend(more);
    }
    manifest
}

/// Puts a plugin into a plugin folder.
pub(crate) fn install(folder: &Path, manifest: &Value, component: &[u8]) -> Result<()> {
    let id = manifest.get("id").and_then(Value::as_str).context("a manifest without an id")?;
    let place = folder.join(id);
    std::fs::create_dir_all(&place)?;
    std::fs::write(place.join("plugin.wasm"), component)?;
    Ok(std::fs::write(place.join("leanclaw.plugin.json"), manifest.to_string())?)
}

/// `component` with a custom section that makes it another one.
pub(crate) fn distinct(component: &[u8], number: usize) -> Vec<u8> {
    with_section(component, "bench", &format!("{number:08}"))
}

/// `component` with one more custom section at its end.
pub(crate) fn with_section(component: &[u8], name: &str, content: &str) -> Vec<u8> {
    let mut section = Vec::new();
    length(name.len(), &mut section);
    section.extend(name.bytes().chain(content.bytes()));
    let mut made = component.to_vec();
    // Section 0, its size, then the length of its name, the name, the content.
    made.push(0);
    length(section.len(), &mut made);
    made.extend(section);
    made
}

/// A length as WebAssembly writes it: seven bits per byte, the lowest first, all but the last with the eighth set.
fn length(mut value: usize, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.extend(u8::try_from(value & 0x7f).map(|low| low | 0x80));
        value >>= 7;
    }
    to.extend(u8::try_from(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_has_its_length() {
        assert_eq!(with_section(b"x", "ab", "cd"), [b'x', 0, 5, 2, b'a', b'b', b'c', b'd']);
        let long = with_section(b"", "n", &"-".repeat(300));
        assert_eq!(long.get(..5), Some(&[0, 0xae, 0x02, 1, b'n'][..]));
        assert_eq!(long.len(), 3 + 302);
    }
}
