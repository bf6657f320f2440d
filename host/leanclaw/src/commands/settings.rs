//! `leanclaw config`: the settings in effect, where each comes from, and the list of all there are.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::gateway::Which;
use super::{resolve, settings_edit};
use crate::config::variables::{self, Outside, Variable};
use crate::config::{Flags, PluginsConfig, Resolution};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List every setting: what it expects, its default, its keys in the configuration file
    Variables,
    /// Print the path of the configuration file
    Path,
    /// Check the settings and print only what is wrong with them
    Check,
    /// Print what is in effect at one key, such as `gateway.port` or LEANCLAW_GATEWAY_PORT
    Get {
        /// The key in the configuration file, or the variable
        key: String,
        #[command(flatten)]
        gateway: Which,
    },
    /// Set one key in the configuration file
    Set {
        /// The key in the configuration file, or the variable
        key: String,
        /// The value as JSON5, or a text as it is; `null` takes the key out
        #[arg(allow_hyphen_values = true)]
        value: String,
        #[command(flatten)]
        gateway: Which,
    },
}

pub(crate) fn run(flags: Flags, arguments: Arguments) -> Result<()> {
    match arguments.command {
        None => show(&resolve(flags)?, arguments.json),
        Some(Command::Variables) => list(arguments.json),
        Some(Command::Path) => path(flags, arguments.json),
        Some(Command::Check) => check(&resolve(flags)?, arguments.json),
        Some(Command::Get { key, gateway }) => settings_edit::get(flags, gateway, &key, arguments.json),
        Some(Command::Set { key, value, gateway }) => settings_edit::put(flags, gateway, &key, &value, arguments.json),
    }
}

fn warn(resolution: &Resolution) {
    for warning in &resolution.warnings {
        output::warning(warning);
    }
}

fn show(resolution: &Resolution, as_json: bool) -> Result<()> {
    let plugins = &resolution.config.plugins;
    if as_json {
        let settings: Vec<Value> = resolution.effective.iter().map(crate::config::Effective::to_json).collect();
        return output::json(&json!({
            "configFile": resolution.config_file,
            "settings": settings,
            "plugins": plugins_json(plugins),
            "warnings": resolution.warnings,
        }));
    }
    warn(resolution);
    let rows: Vec<Vec<String>> = resolution
        .effective
        .iter()
        .map(|setting| {
            let shown = if setting.value.is_none() { "-" } else { setting.shown() };
            vec![setting.variable.name.to_owned(), shown.to_owned(), setting.source.to_string()]
        })
        .collect();
    output::table(&["SETTING", "VALUE", "SOURCE"], &rows)?;
    let lines = plugin_lines(plugins);
    if lines.is_empty() { Ok(()) } else { output::text(&format!("\n{}", lines.join("\n"))) }
}

/// The plugin section. Settings of plugins may hold secrets, so only their names are shown.
fn plugins_json(plugins: &PluginsConfig) -> Value {
    let entries: serde_json::Map<String, Value> = plugins
        .entries
        .iter()
        .map(|(id, entry)| {
            let names: Vec<&String> = entry.config.keys().collect();
            let accounts: Vec<String> = entry.accounts.keys().map(ToString::to_string).collect();
            (id.to_string(), json!({ "enabled": entry.enabled, "configKeys": names, "accounts": accounts }))
        })
        .collect();
    json!({ "enabled": plugins.enabled, "allow": plugins.allow, "deny": plugins.deny, "entries": entries })
}

fn plugin_lines(plugins: &PluginsConfig) -> Vec<String> {
    let mut lines = Vec::new();
    if !plugins.enabled {
        lines.push("plugins.enabled: false".to_owned());
    }
    for (key, ids) in [("allow", &plugins.allow), ("deny", &plugins.deny)] {
        if !ids.is_empty() {
            let ids: Vec<&str> = ids.iter().map(leanclaw_types::PluginId::as_str).collect();
            lines.push(format!("plugins.{key}: {}", ids.join(", ")));
        }
    }
    for (id, entry) in &plugins.entries {
        let switched = if entry.enabled { "on" } else { "off" };
        let names: Vec<&str> = entry.config.keys().map(String::as_str).collect();
        let settings = if names.is_empty() { String::new() } else { format!(", settings: {}", names.join(", ")) };
        let accounts: Vec<&str> = entry.accounts.keys().map(leanclaw_types::AccountId::as_str).collect();
        let accounts = if accounts.is_empty() { String::new() } else { format!(", accounts: {}", accounts.join(", ")) };
        lines.push(format!("plugins.entries.{id}: {switched}{settings}{accounts}"));
    }
    lines
}

fn list(as_json: bool) -> Result<()> {
    if as_json {
        let settings: Vec<Value> = variables::ALL.iter().map(|variable| variable_json(variable)).collect();
        let keys: Vec<Value> =
            variables::FILE_ONLY_KEYS.iter().map(|(key, doc)| json!({ "key": key, "description": doc })).collect();
        let outside: Vec<Value> = variables::OUTSIDE
            .iter()
            .map(|Outside { name, default, doc }| json!({ "name": name, "default": default, "description": doc }))
            .collect();
        return output::json(&json!({ "settings": settings, "keys": keys, "environmentOnly": outside }));
    }
    let mut text = String::from(
        "A setting is taken from the first of: command-line flag, environment, .env in the working directory,\n\
         ~/.config/leanclaw/config.json (JSON5), default.\n",
    );
    for variable in variables::ALL {
        text.push_str(&format!("\n{}\n  {}\n  expects  {}\n", variable.name, variable.doc, variable.expects));
        text.push_str(&format!("  default  {}\n", shown_default(variable)));
        if let Some(flag) = variable.flag {
            text.push_str(&format!("  flag     {flag}\n"));
        }
        text.push_str(&format!("  keys     {}\n", variable.keys.join(", ")));
    }
    text.push_str("\nOnly in the configuration file:\n");
    for (key, doc) in variables::FILE_ONLY_KEYS {
        text.push_str(&format!("  {key}\n    {doc}\n"));
    }
    text.push_str("\nOnly in the environment, and no settings:\n");
    for Outside { name, default, doc } in variables::OUTSIDE {
        text.push_str(&format!("  {name}\n    {doc}\n    default  {default}\n"));
    }
    output::text(text.trim_end())
}

fn shown_default(variable: &Variable) -> &str {
    match (variable.default, variable.default_note) {
        ("", "") => "none",
        ("", note) => note,
        (default, _) => default,
    }
}

fn variable_json(variable: &Variable) -> Value {
    json!({
        "name": variable.name,
        "description": variable.doc,
        "expects": variable.expects,
        "default": shown_default(variable),
        "flag": variable.flag,
        "keys": variable.keys,
        "secret": variable.secret,
    })
}

fn path(flags: Flags, as_json: bool) -> Result<()> {
    // Works without reading what the file says: its path is what somebody needs who is about to repair it.
    let sources = crate::config::Sources::of_process(flags)?;
    let (path, text) = &sources.config_file;
    if as_json {
        let exists = *text != crate::config::FileText::Missing;
        return output::json(&json!({ "path": path, "exists": exists }));
    }
    output::text(&path.display().to_string())
}

fn check(resolution: &Resolution, as_json: bool) -> Result<()> {
    if as_json {
        return output::json(&json!({ "valid": true, "warnings": resolution.warnings }));
    }
    warn(resolution);
    output::text("The settings are valid.")
}
