//! A plugin as it lies somewhere on disk, read whole and checked, ready to be written somewhere else.
//!
//! What comes in here may be hostile: every file is bounded in size, none is reached through a symbolic link, and
//! nothing outside of the plugin's own folder is read. It is read once, so that what was checked is what is written.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use leanclaw_plugin::{Diagnosis, Interfaces, PackageContents, PluginError, embed_manifest};
use leanclaw_types::PluginId;
use leanclaw_types::manifest::{FILE_NAMES, Manifest};
use leanclaw_types::permission::Permissions;
use leanclaw_wasm::Digest;
use serde_json::Value;

use super::assets;
use crate::report::Advice;

/// Where `plugin build` puts what can be installed, in the plugin's folder.
pub(crate) const BUILT_FOLDER: &str = "dist";
/// The most files in the folders of `skills`, and their bytes.
const MAX_SKILL_FILES: usize = 1000;
const MAX_SKILL_BYTES: u64 = 16 * 1024 * 1024;

/// A plugin, read whole.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) manifest: Manifest,
    pub(crate) manifest_text: String,
    component: Option<Vec<u8>>,
    /// Files of the `skills` folders: path below the plugin's folder, content.
    skills: Vec<(PathBuf, Vec<u8>)>,
}

impl Bundle {
    /// Reads a plugin: a `.wasm`, a folder with a manifest and a component, or a folder whose `dist` holds what
    /// `plugin build` made.
    pub(crate) fn open(given: &Path) -> Result<Self> {
        let path = given.canonicalize().map_err(|error| unread(given, &error))?;
        if !path.is_dir() {
            return Self::read(&path);
        }
        refuse_without_manifest(&path)?;
        let (source, source_text) = PackageContents::read_manifest(&path)?;
        if source.build.is_none() {
            return Self::read(&path);
        }
        let build = format!("leanclaw plugin build {}", given.display());
        let built = path.join(BUILT_FOLDER);
        if FILE_NAMES.iter().any(|name| built.join(name).is_file()) {
            let bundle = Self::read(&built)?;
            if same_but_main(&source_text, &bundle.manifest_text) {
                return Ok(bundle);
            }
            let message = format!("the manifest in {} was changed after it was built", path.display());
            return Err(Advice::new(message).hint(build).into());
        }
        let component = source.main.as_ref().map(|main| path.join(main));
        if component.is_some_and(|component| component.symlink_metadata().is_err()) {
            return Err(Advice::new(format!("`{}` has not been built yet", source.id)).hint(build).into());
        }
        Self::read(&path)
    }

    /// Reads exactly what lies at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let PackageContents { manifest, manifest_text, component } = PackageContents::read(path)?;
        let skills = if path.is_dir() { skills(path, &manifest)? } else { Vec::new() };
        Ok(Self { manifest, manifest_text, component, skills })
    }

    /// A plugin out of its parts.
    pub(crate) fn made(folder: &Path, manifest: Manifest, manifest_text: String, component: Vec<u8>) -> Result<Self> {
        let skills = skills(folder, &manifest)?;
        Ok(Self { manifest, manifest_text, component: Some(component), skills })
    }

    pub(crate) fn id(&self) -> &PluginId {
        &self.manifest.id
    }

    /// The component's bytes.
    ///
    /// # Errors
    /// It is metadata only.
    pub(crate) fn component(&self) -> Result<&[u8]> {
        self.component.as_deref().ok_or_else(|| {
            let message = match &self.manifest.main {
                None => format!("`{}` has no component: its manifest names no `main`", self.id()),
                Some(main) => format!("`{}` has no component: its `main` is `{main}`", self.id()),
            };
            let hint = "a plugin is a WebAssembly component: \"main\" names its .wasm (leanclaw plugin new shows how)";
            Advice::new(message).hint(hint).into()
        })
    }

    /// What the component needs and offers, against this host and `granted`.
    pub(crate) fn diagnosis(&self, granted: &Permissions) -> Result<Diagnosis> {
        let interfaces = interfaces(self.component()?)?;
        Ok(Diagnosis::of(self.id().as_str(), &interfaces, &self.manifest.asked(), granted))
    }

    /// Whether one `.wasm` can hold all of it.
    pub(crate) fn fits_one_file(&self) -> bool {
        self.skills.is_empty()
    }

    /// The component with the manifest in it.
    pub(crate) fn one_file(&self) -> Result<Vec<u8>> {
        Ok(embed_manifest(self.component()?, &self.manifest_text_for(&self.main_name())?)?)
    }

    /// The component's file name wherever this program writes it.
    pub(crate) fn main_name(&self) -> String {
        format!("{}.wasm", self.id())
    }

    /// The manifest with `main` as it is given.
    pub(crate) fn manifest_text_for(&self, main: &str) -> Result<String> {
        if self.manifest.main.as_deref() == Some(main) {
            return Ok(self.manifest_text.clone());
        }
        let mut value: Value = serde_json::from_str(self.manifest_text.trim_start_matches('\u{feff}'))?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("main".to_owned(), main.into());
        }
        Ok(format!("{}\n", serde_json::to_string_pretty(&value)?))
    }

    /// The same plugin, taking any settings.
    pub(crate) fn without_settings(&self) -> Result<Self> {
        let mut value = serde_json::to_value(&self.manifest)?;
        if let Some(fields) = value.as_object_mut() {
            fields.remove("configSchema");
        }
        Ok(Self {
            manifest: Manifest { config_schema: None, ..self.manifest.clone() },
            manifest_text: value.to_string(),
            component: self.component.clone(),
            skills: self.skills.clone(),
        })
    }

    /// Writes the plugin as a folder; the manifest last, so that whoever watches finds its component there. Gives the
    /// digest of the component.
    pub(crate) fn write_folder(&self, folder: &Path, component: &[u8]) -> Result<Digest> {
        let failed = || format!("the plugin cannot be written to {}", folder.display());
        for (path, content) in &self.skills {
            assets::write(&folder.join(path), content).with_context(failed)?;
        }
        let main = self.main_name();
        let manifest_text = self.manifest_text_for(&main)?;
        for (name, content) in [(main.as_str(), component), (FILE_NAMES[0], manifest_text.as_bytes())] {
            let temporary = folder.join(format!(".{name}.partial"));
            assets::write(&temporary, content).with_context(failed)?;
            std::fs::rename(&temporary, folder.join(name)).with_context(failed)?;
        }
        Ok(Digest::of(component))
    }
}

/// Reads the imports and exports of a component, or says what the file is instead.
pub(crate) fn interfaces(wasm: &[u8]) -> Result<Interfaces> {
    const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
    if !wasm.starts_with(b"\0asm") {
        return Err(Advice::new("the file is not WebAssembly").into());
    }
    if wasm.starts_with(CORE_MODULE) {
        let advice = Advice::new("the file is a WebAssembly module, and a plugin is a component")
            .hint("in Rust: build with --target wasm32-wasip2")
            .hint("else make a component of it with the contract in `wit`, such as with wasm-tools component new");
        return Err(advice.into());
    }
    Interfaces::read(wasm)
        .map_err(|problem| PluginError::Package(format!("the component does not parse: {problem}")).into())
}

/// What was named cannot be looked at.
pub(super) fn unread(given: &Path, error: &std::io::Error) -> Advice {
    let advice = Advice::new(format!("{} cannot be read: {error}", given.display()));
    advice.hint("name a plugin's folder or its .wasm; `leanclaw plugin new` makes a plugin")
}

fn refuse_without_manifest(folder: &Path) -> Result<()> {
    if FILE_NAMES.iter().any(|name| folder.join(name).symlink_metadata().is_ok()) {
        return Ok(());
    }
    let message = format!("{} holds no {}", folder.display(), FILE_NAMES.join(" and no "));
    Err(Advice::new(message).hint("name a plugin's folder or its .wasm; `leanclaw plugin new` makes a plugin").into())
}

/// Whether two manifests say the same, wherever the component lies.
fn same_but_main(one: &str, other: &str) -> bool {
    let read = |text: &str| {
        let mut value: Option<Value> = serde_json::from_str(text.trim_start_matches('\u{feff}')).ok();
        if let Some(fields) = value.as_mut().and_then(Value::as_object_mut) {
            fields.remove("main");
        }
        value
    };
    read(one) == read(other)
}

/// Reads the files of the manifest's `skills` folders.
fn skills(folder: &Path, manifest: &Manifest) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut bytes_left = MAX_SKILL_BYTES;
    for relative in &manifest.skills {
        // Every part of the way is looked at: a link may stand anywhere in it.
        let mut path = folder.to_owned();
        for part in Path::new(relative).components() {
            path.push(part);
            refuse_link(&path)?;
        }
        read_tree(&path, folder, &mut found, &mut bytes_left)?;
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn refuse_link(path: &Path) -> Result<()> {
    let found = path.symlink_metadata().with_context(|| format!("{} cannot be read", path.display()))?;
    if found.is_symlink() || !(found.is_dir() || found.is_file()) {
        let message = format!("{} is neither a file nor a folder", path.display());
        return Err(Advice::new(message).hint("a plugin must hold its files itself; links are not followed").into());
    }
    Ok(())
}

fn read_tree(path: &Path, root: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>, bytes_left: &mut u64) -> Result<()> {
    refuse_link(path)?;
    if path.is_dir() {
        for entry in std::fs::read_dir(path).with_context(|| format!("{} cannot be read", path.display()))? {
            read_tree(&entry?.path(), root, found, bytes_left)?;
        }
        return Ok(());
    }
    let content = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    *bytes_left = bytes_left.saturating_sub(u64::try_from(content.len()).unwrap_or(u64::MAX));
    if *bytes_left == 0 || found.len() >= MAX_SKILL_FILES {
        let message = format!(
            "the `skills` folders hold more than {MAX_SKILL_FILES} files or {} MiB",
            MAX_SKILL_BYTES / (1024 * 1024)
        );
        return Err(Advice::new(message).hint("name smaller folders in `skills` of the manifest").into());
    }
    found.push((path.strip_prefix(root)?.to_owned(), content));
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::Report;
    use serde_json::json;

    /// A component that has nothing to it but its names.
    pub(crate) fn component(imports: &[&str], exports: &[&str]) -> Vec<u8> {
        let mut text = String::from("(component ");
        for name in imports {
            text.push_str(&format!("(import \"{name}\" (instance)) "));
        }
        text.push_str("(component $c) (instance $i (instantiate $c)) ");
        for name in exports {
            text.push_str(&format!("(export \"{name}\" (instance $i)) "));
        }
        wat::parse_str(format!("{text})")).unwrap()
    }

    /// A plugin's folder.
    pub(crate) fn plugin(folder: &Path, manifest: &Value, component: &[u8]) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("p.wasm"), component).unwrap();
        std::fs::write(folder.join(FILE_NAMES[0]), manifest.to_string()).unwrap();
    }

    pub(crate) const METHOD: &str = "leanclaw:plugin/method@0.1.0";

    fn message(error: &anyhow::Error) -> String {
        let report = Report::of(error);
        format!("{} {:?} {:?}", report.message, report.causes, report.hints)
    }

    #[test]
    fn a_plugin_reads_back_from_what_was_written() {
        let temporary = tempfile::tempdir().unwrap();
        let (source, copy) = (temporary.path().join("source"), temporary.path().join("copy"));
        let manifest = json!({"id": "x", "main": "p.wasm", "skills": ["skills"], "kind": "memory"});
        plugin(&source, &manifest, &component(&[], &[METHOD]));
        assets::write(&source.join("skills/a/SKILL.md"), b"text").unwrap();
        assets::write(&source.join("private"), b"not copied").unwrap();

        let bundle = Bundle::open(&source).unwrap();
        bundle.write_folder(&copy, bundle.component().unwrap()).unwrap();
        let read = Bundle::open(&copy).unwrap();
        assert_eq!((read.manifest.main.as_deref(), &read.manifest.kind), (Some("x.wasm"), &Some("memory".into())));
        assert_eq!(read.component().unwrap(), bundle.component().unwrap());
        assert_eq!(read.skills, [(PathBuf::from("skills/a/SKILL.md"), b"text".to_vec())]);
        assert!(!copy.join("private").exists() && !read.fits_one_file());

        std::fs::write(temporary.path().join("one.wasm"), bundle.one_file().unwrap()).unwrap();
        let one = Bundle::open(&temporary.path().join("one.wasm")).unwrap();
        assert_eq!(one.id().as_str(), "x");
    }

    #[test]
    fn what_lies_outside_is_never_read() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("p");
        let outside = temporary.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "s").unwrap();
        plugin(&folder, &json!({"id": "x", "main": "p.wasm", "skills": ["skills"]}), &component(&[], &[METHOD]));

        std::os::unix::fs::symlink(&outside, folder.join("skills")).unwrap();
        assert!(message(&Bundle::open(&folder).unwrap_err()).contains("links are not followed"));
        std::fs::remove_file(folder.join("skills")).unwrap();
        std::fs::create_dir(folder.join("skills")).unwrap();
        std::os::unix::fs::symlink(outside.join("secret"), folder.join("skills/SKILL.md")).unwrap();
        assert!(message(&Bundle::open(&folder).unwrap_err()).contains("links are not followed"));
        std::fs::remove_dir_all(folder.join("skills")).unwrap();
        std::fs::create_dir(folder.join("skills")).unwrap();
        Bundle::open(&folder).expect("without links it is fine");

        std::fs::rename(folder.join("p.wasm"), outside.join("p.wasm")).unwrap();
        std::os::unix::fs::symlink(outside.join("p.wasm"), folder.join("p.wasm")).unwrap();
        assert!(message(&Bundle::open(&folder).unwrap_err()).contains("symbolic link"));
        for main in ["../outside/p.wasm", "/etc/p.wasm"] {
            std::fs::write(folder.join(FILE_NAMES[0]), json!({"id": "x", "main": main}).to_string()).unwrap();
            assert!(message(&Bundle::open(&folder).unwrap_err()).contains("inside the plugin's folder"), "{main}");
        }
    }

    #[test]
    fn a_source_folder_stands_for_what_was_built_of_it() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path();
        let build = json!({"command": ["true"], "output": "x"});
        let manifest = |version: &str| json!({"id": "x", "version": version, "main": "x.wasm", "build": build});
        std::fs::write(folder.join(FILE_NAMES[0]), manifest("1").to_string()).unwrap();
        let error = message(&Bundle::open(folder).unwrap_err());
        assert!(error.contains("not been built") && error.contains("leanclaw plugin build"), "{error}");

        let made = Bundle::made(
            folder,
            Manifest::parse(manifest("1").to_string().as_bytes()).unwrap(),
            manifest("1").to_string(),
            component(&[], &[METHOD]),
        );
        let made = made.unwrap();
        made.write_folder(&folder.join(BUILT_FOLDER), made.component().unwrap()).unwrap();
        assert_eq!(Bundle::open(folder).unwrap().manifest.version, "1");
        std::fs::write(folder.join(FILE_NAMES[0]), manifest("2").to_string()).unwrap();
        assert!(message(&Bundle::open(folder).unwrap_err()).contains("changed after it was built"));
    }

    #[test]
    fn what_is_no_component_is_told_apart() {
        for (bytes, expected) in [
            (&b"#!/bin/sh"[..], "not WebAssembly"),
            (b"\0asm\x01\0\0\0", "is a component"),
            (b"\0asm\x0d\0\x01\0x", "parse"),
        ] {
            assert!(message(&interfaces(bytes).unwrap_err()).contains(expected), "{expected}");
        }
        let temporary = tempfile::tempdir().unwrap();
        std::fs::write(temporary.path().join(FILE_NAMES[0]), r#"{"id": "x", "main": "index.js"}"#).unwrap();
        let bundle = Bundle::open(temporary.path()).unwrap();
        assert!(message(&bundle.component().unwrap_err()).contains("index.js"));
    }
}
