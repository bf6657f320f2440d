//! `leanclaw agents ...`: which agents there are, and the files that tell them what they should know.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::fields::{self, table, text};
use super::gateway::{OrList, Plain};
use crate::config::Flags;
use crate::output;

/// Without a command, agents are listed.
pub(crate) type Arguments = OrList<Command, Plain>;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List agents
    List(Plain),
    /// Make an agent; its id is made of its name
    Create(Create),
    /// Change an agent
    Set(Set),
    /// Delete an agent; its sessions stay
    Delete(Delete),
    /// Show an agent's file, such as AGENTS.md, or write it
    File(File),
}

#[derive(Debug, Args)]
pub(crate) struct Looks {
    /// What stands for it in lists
    #[arg(long)]
    emoji: Option<String>,
    /// Address of its picture
    #[arg(long, value_name = "URL")]
    avatar: Option<String>,
    /// The model it asks
    #[arg(long)]
    model: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name for people
    name: String,
    #[command(flatten)]
    looks: Looks,
    #[command(flatten)]
    plain: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// Its id
    #[arg(value_name = "ID")]
    agent: String,
    /// Its name for people; the id stays
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    looks: Looks,
    #[command(flatten)]
    plain: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Its id
    #[arg(value_name = "ID")]
    agent: String,
    /// Leave its files where they are; else they are moved to `agents/.trash` in the data directory
    #[arg(long)]
    keep_files: bool,
    #[command(flatten)]
    plain: Plain,
}

#[derive(Debug, Args)]
pub(crate) struct File {
    /// The agent's id
    #[arg(value_name = "ID")]
    agent: String,
    /// The file's name, such as AGENTS.md; without one, files are listed
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Write it with what this file holds, or `-` for standard input
    #[arg(long, value_name = "FILE", requires = "name")]
    from: Option<PathBuf>,
    #[command(flatten)]
    plain: Plain,
}

impl Looks {
    fn params(self) -> Map<String, Value> {
        let fields = [("emoji", self.emoji), ("avatar", self.avatar), ("model", self.model)];
        fields.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text?)))).collect()
    }
}

pub(crate) fn run(flags: Flags, arguments: Arguments) -> Result<()> {
    match arguments.command(Command::List) {
        Command::List(plain) => plain.call(flags, "agents.list", json!({}), |payload, _| list(payload)),
        Command::Create(Create { name, looks, plain }) => {
            let mut params = looks.params();
            params.insert("name".into(), json!(name));
            plain.call(flags, "agents.create", Value::Object(params), |made, _| {
                output::text(&format!("{} is made; its files: {}", text(made, "agentId"), text(made, "workspace")))
            })
        }
        Command::Set(Set { agent, name, looks, plain }) => {
            let mut params = looks.params();
            params.insert("agentId".into(), json!(agent));
            params.extend(name.map(|name| ("name".to_owned(), json!(name))));
            plain.call(flags, "agents.update", Value::Object(params), |said, _| {
                output::text(&format!("{} is changed", text(said, "agentId")))
            })
        }
        Command::Delete(Delete { agent, keep_files, plain }) => {
            let params = json!({"agentId": agent, "deleteFiles": !keep_files});
            plain.call(flags, "agents.delete", params, |said, _| {
                output::text(&format!("{} is deleted", text(said, "agentId")))
            })
        }
        Command::File(file) => self::file(flags, file),
    }
}

fn file(flags: Flags, file: File) -> Result<()> {
    let File { agent, name, from, plain } = file;
    let Some(name) = name else {
        return plain.call(flags, "agents.files.list", json!({"agentId": agent}), |payload, _| files(payload));
    };
    match from {
        Some(from) => {
            let content = read(&from)?;
            let params = json!({"agentId": agent, "name": name, "content": content});
            plain.call(flags, "agents.files.set", params, |said, _| {
                let path = said.get("file").map(|file| text(file, "path")).unwrap_or_default();
                output::text(&format!("{path} is written"))
            })
        }
        None => {
            plain.call(flags, "agents.files.get", json!({"agentId": agent, "name": name}), |found, _| {
                match found.get("file").and_then(|file| file.get("content")).and_then(Value::as_str) {
                    Some(content) => output::text(content.trim_end_matches('\n')),
                    None => {
                        output::note("There is no such file yet.");
                        Ok(())
                    }
                }
            })
        }
    }
}

fn read(from: &PathBuf) -> Result<String> {
    if from.as_os_str() == "-" {
        return std::io::read_to_string(std::io::stdin()).context("standard input cannot be read");
    }
    std::fs::read_to_string(from).with_context(|| format!("{} cannot be read", from.display()))
}

fn list(payload: &Value) -> Result<()> {
    table(&["AGENT", "NAME", "MODEL", "WORKSPACE"], fields::list(payload, "agents")?, "There are no agents.", |agent| {
        let model = agent.get("model").map(|model| text(model, "primary")).unwrap_or_default();
        vec![text(agent, "id"), text(agent, "name"), model, text(agent, "workspace")]
    })
}

fn files(payload: &Value) -> Result<()> {
    table(&["FILE", "BYTES"], fields::list(payload, "files")?, "It has no files.", |file| {
        let size = file.get("size").and_then(Value::as_u64);
        vec![text(file, "name"), size.map_or_else(|| "missing".to_owned(), |size| size.to_string())]
    })
}
