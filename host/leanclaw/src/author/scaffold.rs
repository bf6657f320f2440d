//! `leanclaw plugin new`: a folder with a plugin that builds as it is, on any machine: the kit and the contract are
//! copied into it.
//!
//! A template is a folder of `plugin-sdk/templates` named after the language; `LANGUAGE-KIND` holds what differs for
//! another kind of plugin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use leanclaw_types::PluginId;

use super::assets;
use crate::report::Advice;

/// A language with a kit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    Rust,
    Js,
    Python,
}

/// What a plugin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Gateway methods, called as ID.NAME
    Method,
    /// Tools that agents choose by their description
    Skill,
    /// A messaging channel
    Channel,
}

impl Language {
    const ALL: [Self; 3] = [Self::Rust, Self::Js, Self::Python];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Python => "python",
        }
    }

    /// What the language's own template is.
    pub(crate) fn usual_kind(self) -> Kind {
        match self {
            Self::Rust => Kind::Method,
            Self::Js | Self::Python => Kind::Skill,
        }
    }

    /// What is copied into a plugin: a folder of the repository, and where it belongs.
    fn vendored(self) -> [(&'static str, &'static str); 2] {
        match self {
            // The kit finds the contract by their places to each other.
            Self::Rust => [("plugin-sdk/rust", "vendor/leanclaw/plugin-sdk/rust"), ("wit", "vendor/leanclaw/wit")],
            Self::Js => [("plugin-sdk/js", "sdk/js"), ("wit", "wit")],
            Self::Python => [("plugin-sdk/python", "sdk/python"), ("wit", "wit")],
        }
    }
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Skill => "skill",
            Self::Channel => "channel",
        }
    }
}

/// A plugin to be made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NewPlugin {
    pub(crate) id: PluginId,
    pub(crate) name: String,
    pub(crate) language: Language,
    pub(crate) kind: Kind,
    pub(crate) folder: PathBuf,
}

/// The id and the name that `given` stands for: `Word count` is called `word-count`.
pub(crate) fn id_and_name(given: &str) -> Result<(PluginId, String)> {
    let name = given.trim();
    // The name goes into JSON, TOML and comments as it is.
    let is_plain = name.chars().all(|letter| letter.is_alphanumeric() || " -_.".contains(letter));
    let id: String = name.to_lowercase().replace([' ', '.'], "-");
    match PluginId::new(id) {
        Ok(id) if is_plain => Ok((id, name.to_owned())),
        _ => {
            let message = format!("`{}` cannot be a plugin's name", given.escape_debug());
            let hint = "use up to 64 of a-z, 0-9, `-`, `_`, starting with a letter or digit, such as `word-count`";
            Err(Advice::new(message).hint(hint).into())
        }
    }
}

/// Makes the folder. Nothing that is there is overwritten.
pub(crate) fn create(plugin: &NewPlugin) -> Result<()> {
    let folder = &plugin.folder;
    refuse_occupied(folder)?;
    let files = files(plugin)?;
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).with_context(|| format!("{} cannot be made", parent.display()))?;
    // The folder appears whole or not at all.
    let staged = tempfile::Builder::new()
        .prefix(".new-plugin-")
        .tempdir_in(parent)
        .with_context(|| format!("nothing can be written to {}", parent.display()))?;
    let content = staged.path().join("plugin");
    std::fs::create_dir(&content)?;
    for (path, text) in &files {
        assets::write(&content.join(path), text).with_context(|| format!("{path} cannot be written"))?;
    }
    for (from, to) in plugin.language.vendored() {
        assets::unpack(from, &content.join(to)).with_context(|| format!("{to} cannot be written"))?;
    }
    std::fs::rename(&content, folder).with_context(|| format!("{} cannot be made", folder.display()))
}

fn refuse_occupied(folder: &Path) -> Result<()> {
    let is_free = match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => folder.symlink_metadata().is_err(),
    };
    if is_free {
        return Ok(());
    }
    let message = format!("{} is there already, and nothing is ever overwritten", folder.display());
    Err(Advice::new(message).hint("choose another name, or another folder with --dir").into())
}

/// The template's files, filled in.
fn files(plugin: &NewPlugin) -> Result<BTreeMap<String, Vec<u8>>> {
    let language = plugin.language.as_str();
    let mut files: BTreeMap<&str, &[u8]> = assets::below(&format!("plugin-sdk/templates/{language}")).collect();
    if plugin.kind != plugin.language.usual_kind() {
        let overlay: BTreeMap<_, _> =
            assets::below(&format!("plugin-sdk/templates/{language}-{}", plugin.kind.as_str())).collect();
        if overlay.is_empty() {
            return Err(no_template(plugin.language, plugin.kind));
        }
        files.extend(overlay);
    }
    let filled = files.into_iter().map(|(path, content)| (path.to_owned(), fill(content, plugin)));
    Ok(filled.collect())
}

fn no_template(language: Language, kind: Kind) -> anyhow::Error {
    let has = |language: &Language, kind: &Kind| {
        let overlay = format!("plugin-sdk/templates/{}-{}", language.as_str(), kind.as_str());
        *kind == language.usual_kind() || assets::below(&overlay).next().is_some()
    };
    let list = |kinds: Vec<&str>| kinds.join(", ");
    let own = Kind::value_variants().iter().filter(|kind| has(&language, kind)).map(|kind| kind.as_str()).collect();
    let mut advice = Advice::new(format!("there is no {} template in {}", kind.as_str(), language.as_str()))
        .hint(format!("--lang {} has: {}", language.as_str(), list(own)));
    let others: Vec<_> =
        Language::ALL.iter().filter(|language| has(language, &kind)).map(|language| language.as_str()).collect();
    if !others.is_empty() {
        advice = advice.hint(format!("--kind {} is there for --lang {}", kind.as_str(), list(others)));
    }
    advice.into()
}

fn fill(content: &[u8], plugin: &NewPlugin) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(content) else { return content.to_vec() };
    text.replace("{{id}}", plugin.id.as_str())
        .replace("{{name}}", &plugin.name)
        .replace("{{sdk}}", r#"{ path = "vendor/leanclaw/plugin-sdk/rust" }"#)
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;
    use leanclaw_types::manifest::Manifest;

    fn plugin(language: Language, kind: Kind, folder: PathBuf) -> NewPlugin {
        let (id, name) = id_and_name("Word count").unwrap();
        NewPlugin { id, name, language, kind, folder }
    }

    #[test]
    fn a_name_becomes_an_id() {
        let (id, name) = id_and_name(" Word count ").unwrap();
        assert_eq!((id.as_str(), name.as_str()), ("word-count", "Word count"));
        assert_eq!(id_and_name("9-lives").unwrap().0.as_str(), "9-lives");
        for bad in ["", "../x", "a\"b", "-a", "{{id}}", "a\nb", "\u{1b}[31m", &"a".repeat(65)] {
            let report = Report::of(&id_and_name(bad).unwrap_err());
            assert!(report.hints[0].contains("a-z"), "{report:?}");
            assert!(!report.message.contains('\u{1b}'), "{report:?}");
        }
    }

    #[test]
    fn every_template_is_filled_in_and_has_its_kit() {
        let temporary = tempfile::tempdir().unwrap();
        for language in Language::ALL {
            for kind in [Kind::Method, Kind::Skill] {
                let folder = temporary.path().join(format!("{}-{}", language.as_str(), kind.as_str()));
                create(&plugin(language, kind, folder.clone())).unwrap();
                let manifest = std::fs::read(folder.join("leanclaw.plugin.json")).unwrap();
                let manifest = Manifest::parse(&manifest).unwrap();
                assert_eq!(manifest.id.as_str(), "word-count");
                assert!(manifest.build.is_some() && manifest.names_a_component());
                for (path, content) in files(&plugin(language, kind, folder.clone())).unwrap() {
                    let text = String::from_utf8(content).unwrap();
                    let left = ["{{id}}", "{{name}}", "{{sdk}}"].iter().find(|left| text.contains(**left));
                    assert_eq!(left, None, "{path}");
                }
                let [(_, kit), (_, wit)] = language.vendored();
                assert!(folder.join(wit).join("types.wit").is_file() && folder.join(kit).join("README.md").is_file());
            }
        }
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 6, "nothing else is left behind");
    }

    #[test]
    fn what_is_there_is_never_overwritten() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("p");
        std::fs::create_dir(&folder).unwrap();
        create(&plugin(Language::Js, Kind::Skill, folder.clone())).expect("an empty folder is free");
        std::fs::write(folder.join("plugin.js"), "mine").unwrap();
        let report = Report::of(&create(&plugin(Language::Js, Kind::Skill, folder.clone())).unwrap_err());
        assert!(report.message.contains("nothing is ever overwritten"), "{report:?}");
        assert_eq!(std::fs::read_to_string(folder.join("plugin.js")).unwrap(), "mine");
        let file = temporary.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(create(&plugin(Language::Js, Kind::Skill, file)).is_err());
    }
}
