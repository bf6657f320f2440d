//! The plugin manifest: `leanclaw.plugin.json` or `openclaw.plugin.json`.
//!
//! Every OpenClaw field is accepted and kept, unknown ones too; LeanClaw's own fields are strict, because a misspelt
//! limit or permission must not pass unseen. Reading a manifest runs no code and touches no other file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::{PluginId, RESERVED_PLUGIN_IDS};
use crate::limits::Limits;
use crate::permission::Permissions;

/// File names of a manifest, the winner first.
pub const FILE_NAMES: [&str; 2] = ["leanclaw.plugin.json", "openclaw.plugin.json"];

/// Name of the wasm custom section in which a bare `.wasm` carries its manifest.
pub const CUSTOM_SECTION: &str = "leanclaw:manifest";

/// The largest manifest, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The plugin's id; the folder and file names do not matter.
    pub id: PluginId,
    /// A name for people. Default: the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The plugin's version. Default `0.0.0`.
    #[serde(default = "default_version")]
    pub version: String,
    /// One or two sentences for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// OpenClaw's exclusive slot (`memory`, `context-engine`) or list of kinds; kept as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Value>,
    /// The component, relative to the manifest, such as `notes.wasm`. A JavaScript file here is metadata only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main: Option<String>,
    /// Channel ids the plugin serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Model provider ids the plugin serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<String>,
    /// Folders with `SKILL.md` files, relative to the manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skills: Vec<String>,
    /// JSON Schema of the plugin's settings (`plugins.entries.<id>.config`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<Value>,
    /// How a form should show each setting, by dotted path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ui_hints: BTreeMap<String, Value>,
    /// What the plugin asks for beside `limits`; [`Self::asked`] has both.
    #[serde(default)]
    pub permissions: Permissions,
    /// Bounds the plugin asks for. One above its default needs an admin's grant; the host's own maxima still hold.
    #[serde(default)]
    pub limits: Limits,
    /// Whether an instance lives for one call or stays.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// How `leanclaw plugin build` makes the component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// Every further field, kept as it came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn default_version() -> String {
    "0.0.0".into()
}

/// How long an instance lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    /// A fresh instance for every call: nothing leaks between callers. Channels are resident whatever this says.
    #[default]
    PerCall,
    /// One instance that stays. Its state is shared between all callers.
    Resident,
}

/// How the component is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Build {
    /// The program and its arguments, run in the plugin's folder without a shell.
    pub command: Vec<String>,
    /// The file the command makes, relative to the plugin's folder.
    pub output: String,
    /// What `plugin dev` watches, relative to the plugin's folder. Default: the folder without build products.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watch: Vec<String>,
}

/// Why a manifest was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Larger than [`MAX_BYTES`].
    #[error("The manifest has {bytes} bytes; the limit is {MAX_BYTES}.")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not JSON, or not of this shape.
    #[error("The manifest does not parse: {0}.")]
    Shape(String),
    /// A value that cannot be accepted.
    #[error("The manifest's `{field}` is not acceptable: {problem}.")]
    Field {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] names the field and what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_BYTES {
            return Err(ManifestError::TooLarge { bytes: bytes.len() });
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| ManifestError::Shape(escaped(&error.to_string())))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The name for people.
    #[must_use]
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(self.id.as_str())
    }

    /// All that an admin decides on: the permissions, and the limits above the defaults.
    #[must_use]
    pub fn asked(&self) -> Permissions {
        Permissions { limits: self.limits.raised(), ..self.permissions.clone() }
    }

    /// Whether `main` names a component.
    #[must_use]
    pub fn names_a_component(&self) -> bool {
        self.main.as_deref().is_some_and(|main| has_extension(main, "wasm"))
    }

    fn check(&self) -> Result<(), ManifestError> {
        let field = |field, problem: Option<String>| {
            problem.map_or(Ok(()), |problem| Err(ManifestError::Field { field, problem }))
        };
        let reserved = RESERVED_PLUGIN_IDS.contains(&self.id.as_str());
        let why = || "names of the gateway's own methods and events begin with it; choose another".to_owned();
        field("id", reserved.then(why))?;
        field("main", self.main.as_deref().and_then(path_problem))?;
        for folder in &self.skills {
            field("skills", path_problem(folder))?;
        }
        if let Some(build) = &self.build {
            field("build.command", build.command.is_empty().then(|| "it is empty".to_owned()))?;
        }
        if let Some(schema) = &self.config_schema {
            let good = schema.is_object() || schema.is_boolean();
            field("configSchema", (!good).then(|| "a JSON Schema is an object or a boolean".to_owned()))?;
        }
        field("permissions", self.permissions.problems().into_iter().next())?;
        let beside = (!self.permissions.limits.is_empty()).then(|| "`limits` stands beside it, not in it".to_owned());
        field("permissions", beside)?;
        field("limits", self.limits.problem())
    }
}

/// What is wrong with a path that must stay inside the plugin's folder, if anything. Symlinks are the reader's concern.
fn path_problem(path: &str) -> Option<String> {
    let leaves = path.is_empty()
        || path.starts_with(['/', '\\', '~'])
        || path.contains(['\0', '\\', ':'])
        || path.split('/').any(|part| part == "..");
    leaves.then(|| format!("`{}` must be a relative path inside the plugin's folder", escaped(path)))
}

fn has_extension(path: &str, extension: &str) -> bool {
    std::path::Path::new(path).extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// A short form of hostile text that is safe on a terminal.
fn escaped(text: &str) -> String {
    let short: String = text.chars().take(300).collect();
    short
        .chars()
        .flat_map(|letter| if letter.is_control() { letter.escape_default().collect::<Vec<_>>() } else { vec![letter] })
        .collect()
}

/// JSON Schema of the manifest, for editors. A copy is kept in `wit/manifest.schema.json`.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(Manifest);
    schema.insert("title".into(), "LeanClaw plugin manifest".into());
    schema.to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(text.as_bytes())
    }

    #[test]
    fn every_field_is_kept() {
        let text = r#"{"id":"contracts-plugin","name":"C","version":"1.0.0","kind":["provider"],"contracts":{"speech":{"tts":true}},
            "configSchema":{"type":"object"},"uiHints":{"a.b":{"label":"A"}},"providerAuthEnvVars":{"x":["Y"]}}"#;
        let manifest = parse(text).unwrap();
        let back: Value = serde_json::to_value(&manifest).unwrap();
        for key in ["contracts", "uiHints", "providerAuthEnvVars", "kind", "configSchema"] {
            assert_eq!(back[key], serde_json::from_str::<Value>(text).unwrap()[key], "{key}");
        }
    }

    /// The committed copy is what editors and authors use. `LEANCLAW_BLESS=1 cargo test -p leanclaw-types` renews it.
    #[test]
    fn the_committed_schema_is_current() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/manifest.schema.json");
        let current = format!("{}\n", serde_json::to_string_pretty(&json_schema()).unwrap());
        if std::env::var_os("LEANCLAW_BLESS").is_some() {
            std::fs::write(&path, &current).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert!(committed == current, "wit/manifest.schema.json is out of date; renew it with LEANCLAW_BLESS=1");
    }

    #[test]
    fn paths_stay_inside() {
        for bad in ["../x.wasm", "/etc/x.wasm", "a/../../x.wasm", "~/x.wasm", "c:\\\\x.wasm", ""] {
            let error = parse(&format!(r#"{{"id":"x","main":"{bad}"}}"#)).unwrap_err();
            assert!(matches!(error, ManifestError::Field { field: "main", .. }), "{bad}: {error}");
        }
        assert!(parse(r#"{"id":"x","main":"dist/x.wasm"}"#).unwrap().names_a_component());
        assert!(!parse(r#"{"id":"x","main":"index.js"}"#).unwrap().names_a_component());
    }

    #[test]
    fn an_id_is_not_a_name_of_the_gateway() {
        let error = parse(r#"{"id":"sessions"}"#).unwrap_err();
        assert!(matches!(error, ManifestError::Field { field: "id", .. }), "{error}");
        assert!(parse(r#"{"id":"my-sessions"}"#).is_ok());
    }

    #[test]
    fn hostile_documents_are_errors() {
        let deep = format!(r#"{{"id":"x","kind":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(parse(&deep), Err(ManifestError::Shape(_))));
        let large = format!(r#"{{"id":"x","description":"{}"}}"#, "a".repeat(10 * 1024 * 1024));
        assert!(matches!(parse(&large), Err(ManifestError::TooLarge { .. })));
        for bad in
            ["", "[]", "{}", r#"{"id":"../x"}"#, r#"{"id":"x","id":"y"}"#, r#"{"id":"x","limits":{"memoryMb":1}}"#]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(r#"{"id":"x","limits":{"memoryMib":0}}"#).unwrap_err().to_string().contains("1 to 512"));
    }

    #[test]
    fn limits_above_the_defaults_are_asked_for_like_rights() {
        let manifest = parse(r#"{"id":"x","permissions":{"inbox":true},"limits":{"memoryMib":65,"concurrency":2}}"#);
        let items: Vec<String> = manifest.unwrap().asked().items().into_iter().collect();
        assert_eq!(items, ["inbox", "limit:memoryMib=65"]);
        let error = parse(r#"{"id":"x","permissions":{"limits":{"memoryMib":65}}}"#).unwrap_err();
        assert!(matches!(error, ManifestError::Field { field: "permissions", .. }), "{error}");
    }

    #[test]
    fn an_error_never_carries_control_characters() {
        let error = parse("{\"id\":\"x\",\"permissions\":{\"\\u001b[31m\":1}}").unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'), "{error:?}");
    }
}
