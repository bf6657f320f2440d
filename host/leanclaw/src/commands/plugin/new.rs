//! `leanclaw plugin new`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::author::scaffold::{self, Kind, Language, NewPlugin};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct New {
    /// Its name, such as `word-count`; also its id
    name: String,
    /// The language it is written in
    #[arg(long, value_enum)]
    lang: Language,
    /// What it is; default: method in Rust, skill in JavaScript and Python
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// The folder to make; default: one named after the plugin, here
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print what was made as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &New) -> Result<()> {
    let New { name, lang, kind, dir, json: as_json } = arguments;
    let (id, name) = scaffold::id_and_name(name)?;
    let language = *lang;
    let folder = dir.clone().unwrap_or_else(|| PathBuf::from(id.as_str()));
    let kind = kind.unwrap_or(language.usual_kind());
    let plugin = NewPlugin { id, name, language, kind, folder };
    scaffold::create(&plugin)?;
    if *as_json {
        let NewPlugin { id, name, folder, .. } = &plugin;
        let folder = folder.canonicalize()?;
        return output::json(
            &json!({"id": id, "name": name, "lang": language.as_str(), "kind": kind.as_str(), "folder": folder}),
        );
    }
    output::text(&next_steps(&plugin))
}

fn next_steps(plugin: &NewPlugin) -> String {
    let NewPlugin { id, language, kind, folder, .. } = plugin;
    let tool = match language {
        Language::Rust => "rustup target add wasm32-wasip2             # once",
        Language::Js => "npm install                                 # once; brings componentize-qjs",
        Language::Python => "pip install componentize-py==0.25.1         # once",
    };
    let call = match (language, kind) {
        (Language::Rust, Kind::Method) => format!(r#"leanclaw call {id}.hello '{{"name": "Ada"}}'"#),
        (_, Kind::Method) => format!(r#"leanclaw call {id}.greet '{{"name": "Ada"}}'"#),
        (_, Kind::Skill) => {
            format!(r#"leanclaw call tools.invoke '{{"name": "{id}_greet", "args": {{"name": "Ada"}}}}'"#)
        }
        (_, Kind::Channel) => format!("leanclaw plugin inspect {id}"),
    };
    format!(
        "Made {} ({} in {}). Next:

  cd {}
  {tool}
  leanclaw plugin build
  leanclaw plugin install . --grant-all       # shows what it asks for, and asks
  {call}

With `leanclaw start` running, `leanclaw plugin dev` builds and swaps it at every change.",
        id,
        kind.as_str(),
        language.as_str(),
        folder.display()
    )
}
