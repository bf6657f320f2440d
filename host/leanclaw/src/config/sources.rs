//! What settings are resolved from, as plain data: read once from the process, or written down by a test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use etcetera::BaseStrategy as _;

use super::dotenv;
use super::foreign;
use super::layer::{Raw, RawLayer, Source};
use super::nearest::nearest;
use super::problem::Problem;
use super::variables::{self, Variable};

/// Settings on the command line, not yet checked. They may stand before or after the command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Settings (more: leanclaw config variables)")]
pub struct Flags {
    /// Read this configuration file instead of ~/.config/leanclaw/config.json
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of everything that is stored
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Folder whose plugins are loaded
    #[arg(long, global = true, value_name = "DIR")]
    pub plugin_dir: Option<String>,
    /// Address of the gateway
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Port of the gateway; 0 takes any free one
    #[arg(long, global = true, value_name = "PORT")]
    pub port: Option<String>,
    /// trace, debug, info, warn, error or silent
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// pretty or json
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

impl Flags {
    /// Whether the command line says where the gateway is.
    #[must_use]
    pub fn name_the_gateway(&self) -> bool {
        self.host.is_some() || self.port.is_some()
    }

    fn layer(&self) -> RawLayer {
        let mut layer = RawLayer::default();
        let given: [(&'static Variable, &Option<String>); 6] = [
            (&variables::DATA_DIR, &self.data_dir),
            (&variables::PLUGIN_DIR, &self.plugin_dir),
            (&variables::GATEWAY_HOST, &self.host),
            (&variables::GATEWAY_PORT, &self.port),
            (&variables::LOG_LEVEL, &self.log_level),
            (&variables::LOG_FORMAT, &self.log_format),
        ];
        for (variable, value) in given {
            if let (Some(flag), Some(value)) = (variable.flag, value) {
                layer.set(variable, Raw::text(value, Source::Flag { flag }));
            }
        }
        layer
    }
}

/// The text of a file that need not be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileText {
    /// There is no such file.
    Missing,
    /// It is there.
    Text {
        /// What it says.
        text: String,
        /// Whether its mode lets others than its owner read it.
        others_can_read: bool,
    },
    /// It is there and cannot be read, with the reason.
    Unreadable(String),
}

impl FileText {
    /// Reads a file.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::Text { text, others_can_read: others_can_read(path) },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::Missing,
            // A component of the path is a file: there is nothing to read there either.
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Self::Missing,
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }
}

fn others_can_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o044 != 0)
}

/// Directories that settings refer to; all absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The user's home directory, if there is one.
    pub home: Option<PathBuf>,
    /// The working directory.
    pub working_dir: PathBuf,
    /// The platform's data directory, if it can be told.
    pub data_home: Option<PathBuf>,
}

/// Everything settings are resolved from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The command line.
    pub flags: Flags,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// Names of variables in the environment whose value is not UTF-8.
    pub not_utf8: Vec<String>,
    /// Path and text of the `.env` file.
    pub dotenv: (PathBuf, FileText),
    /// Path and text of the configuration file.
    pub config_file: (PathBuf, FileText),
    /// Directories.
    pub places: Places,
}

impl Sources {
    /// Reads the sources of this process.
    ///
    /// # Errors
    /// When the working directory cannot be told.
    pub fn of_process(flags: Flags) -> std::io::Result<Self> {
        let working_dir = std::env::current_dir()?;
        let home = etcetera::home_dir().ok().filter(|home| home.is_absolute());
        let data_home = etcetera::base_strategy::choose_native_strategy().ok().map(|strategy| strategy.data_dir());
        let (mut environment, mut not_utf8) = (BTreeMap::new(), Vec::new());
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(environment.insert(name, value)),
                Err(_) => not_utf8.push(name),
            }
        }
        let config_path = match (&flags.config, &home) {
            (Some(given), _) => Some(working_dir.join(given)),
            (None, Some(home)) => Some(home.join(".config/leanclaw/config.json")),
            (None, None) => None,
        };
        let config_file = match config_path {
            Some(path) => (path.clone(), FileText::read(&path)),
            None => (PathBuf::from("~/.config/leanclaw/config.json"), FileText::Missing),
        };
        let dotenv_path = working_dir.join(".env");
        Ok(Self {
            flags,
            environment,
            not_utf8,
            dotenv: (PathBuf::from(".env"), FileText::read(&dotenv_path)),
            config_file,
            places: Places { home, working_dir, data_home },
        })
    }

    /// Sources with nothing in them but an environment, and places that do not exist.
    #[cfg(test)]
    pub(crate) fn of_environment(environment: BTreeMap<String, String>) -> Self {
        Self {
            flags: Flags::default(),
            environment,
            not_utf8: Vec::new(),
            dotenv: (".env".into(), FileText::Missing),
            config_file: ("/home/u/.config/leanclaw/config.json".into(), FileText::Missing),
            places: Places {
                home: Some("/home/u".into()),
                working_dir: "/work".into(),
                data_home: Some("/home/u/.local/share".into()),
            },
        }
    }

    /// The flags, the environment and `.env`, the first over the last, with what is wrong and what does nothing.
    pub(super) fn text_layers(&self, problems: &mut Vec<Problem>, warnings: &mut Vec<String>) -> RawLayer {
        let environment = self.environment_layer(problems, warnings);
        self.flags.layer().over(environment).over(self.dotenv_layer(problems, warnings))
    }

    fn environment_layer(&self, problems: &mut Vec<Problem>, warnings: &mut Vec<String>) -> RawLayer {
        let mut layer = RawLayer::default();
        for (name, value) in self.environment.iter().filter(|(_, value)| !value.is_empty()) {
            match variable_named(name) {
                Some(variable) => drop(layer.set(variable, Raw::text(value, Source::Environment))),
                None if name.starts_with("LEANCLAW_") => warnings.extend(unused_variable(name, "the environment")),
                None => {}
            }
        }
        for variable in self.not_utf8.iter().filter_map(|name| variable_named(name)) {
            let value = serde_json::Value::from("(not UTF-8)");
            let expected = format!("{}, in UTF-8", variable.expects);
            problems.push(Problem::invalid(variable.name, &value, false, &Source::Environment, &expected));
        }
        layer
    }

    fn dotenv_layer(&self, problems: &mut Vec<Problem>, warnings: &mut Vec<String>) -> RawLayer {
        let (path, text) = &self.dotenv;
        let mut layer = RawLayer::default();
        let text = match text {
            FileText::Missing => return layer,
            FileText::Text { text, .. } => text,
            FileText::Unreadable(message) => {
                problems.push(Problem::Unreadable { path: path.clone(), message: message.clone() });
                return layer;
            }
        };
        let found = dotenv::parse(text);
        let shown = path.display();
        warnings.extend(found.bad_lines.iter().map(|(line, why)| format!("{shown}:{line} is ignored: {why}")));
        for dotenv::Assignment { line, name, value } in found.assignments {
            let place = format!("{shown}:{line}");
            match variable_named(&name) {
                Some(variable) => {
                    let source = Source::DotEnv { path: path.clone(), line };
                    if let Some(earlier) = layer.set(variable, Raw::text(value, source)) {
                        warnings.push(format!("{} is ignored because {place} sets {name} again", earlier.source));
                    }
                }
                None if name.starts_with("LEANCLAW_") => warnings.extend(unused_variable(&name, &place)),
                // A `.env` file is shared with other programs; only a likely misspelling is worth a word.
                None => {
                    let ours = ["LOG_LEVEL", "LOG_FORMAT"];
                    if let Some(meant) = nearest(&name, ours) {
                        warnings.push(format!("{place}: `{name}` is not a setting; did you mean `{meant}`?"));
                    }
                }
            }
        }
        layer
    }
}

fn variable_named(name: &str) -> Option<&'static Variable> {
    variables::ALL.iter().copied().find(|variable| variable.name == name)
}

/// What to say about a `LEANCLAW_` name that this version does not read.
fn unused_variable(name: &str, place: &str) -> Option<String> {
    // It is for the project's build or tests.
    if variables::OUTSIDE.iter().any(|outside| outside.name == name) {
        return None;
    }
    let shown = name.escape_debug();
    if foreign::is_original_variable(name) {
        return Some(format!(
            "{place}: `{shown}` is a variable of the original LeanClaw; this version does not use it"
        ));
    }
    let known = variables::ALL.iter().map(|variable| variable.name);
    Some(match nearest(name, known) {
        Some(meant) => format!("{place}: unknown variable `{shown}` is ignored; did you mean `{meant}`?"),
        None => format!("{place}: unknown variable `{shown}` is ignored"),
    })
}
