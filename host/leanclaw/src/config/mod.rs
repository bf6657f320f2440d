//! Configuration: where settings come from, how they combine, and what the program gets to see of them.
//!
//! Precedence, per setting: command-line flags, the environment (an empty variable counts as not set), `.env` in the
//! working directory, `~/.config/leanclaw/config.json` (JSON5), the default. Nothing else in the program reads these
//! files or settings from the environment: every consumer, authentication included, gets its values from [`Config`]. What
//! is no setting, such as `NO_COLOR` and `PATH`, is read where it is used and listed in [`variables::OUTSIDE`].
//!
//! This module never starts, creates or contacts anything; it only reads.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use jiff::tz::TimeZone;
use leanclaw_types::redact::Secret;
use serde_json::{Value, json};

mod access;
mod agents;
mod dotenv;
mod file;
mod foreign;
mod hooks;
pub(crate) mod json5_tree;
mod layer;
pub(crate) mod nearest;
mod outside;
mod plugins;
mod problem;
mod resolve;
pub(crate) mod schema;
mod sources;
mod value;
pub mod variables;

pub use access::AccessConfig;
pub use agents::{AgentsConfig, AnthropicConfig, LocalConfig, SandboxChoice};
pub use layer::Source;
pub use plugins::{PluginEntry, PluginsConfig};
pub use problem::{ConfigError, Problem};
pub use resolve::resolve;
pub use sources::{FileText, Flags, Places, Sources};

/// Everything the program is told, checked and complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The gateway.
    pub gateway: GatewayConfig,
    /// The plugins.
    pub plugins: PluginsConfig,
    /// The plugin engine.
    pub wasm: WasmConfig,
    /// Agents.
    pub agents: AgentsConfig,
    /// Rows of the audit log that are kept, 1000 to 1000000000.
    pub audit_rows: u32,
    /// Building plugins.
    pub build: BuildConfig,
    /// The log.
    pub log: LogConfig,
    /// Directory of everything that is stored; absolute, perhaps not there yet.
    pub data_dir: PathBuf,
    /// Whether somebody chose it; else it is the platform's.
    pub data_dir_is_chosen: bool,
    /// The zone in which times are shown.
    pub time_zone: TimeZone,
}

/// Where the gateway listens and whom it lets in.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayConfig {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port to listen on; 0 takes any free one.
    pub port: u16,
    /// How clients prove themselves.
    pub auth: GatewayAuth,
    /// What they may do then.
    pub access: AccessConfig,
    /// Hooks of other programs; none when they are switched off.
    pub hooks: Option<leanclaw_gateway::Hooks>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Origins of web pages that may connect, such as `https://ui.example.com`; `*` is every page.
    pub allowed_origins: Vec<String>,
    /// The Control UI.
    pub control_ui: ControlUi,
}

/// The Control UI that the gateway serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ControlUi {
    /// Folder of an installed one; absolute. None serves none.
    pub root: Option<PathBuf>,
    /// Path below which it is served: empty, or like `/claw`.
    pub base_path: String,
}

impl GatewayConfig {
    /// The address to listen on.
    #[must_use]
    pub fn listen_address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    /// The token or password that clients must present; none when the gateway is open.
    #[must_use]
    pub fn credential(&self) -> Option<&Secret> {
        match &self.auth {
            GatewayAuth::Token(secret) | GatewayAuth::Password(secret) => Some(secret),
            GatewayAuth::Open => None,
        }
    }
}

/// How gateway clients prove themselves.
#[derive(Debug, Clone, PartialEq)]
pub enum GatewayAuth {
    /// They need not; only ever on a loopback address.
    Open,
    /// They present this token.
    Token(Secret),
    /// They present this password.
    Password(Secret),
}

/// The plugin engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WasmConfig {
    /// Whether guest memory comes from a pool.
    pub pooling: Pooling,
    /// The most instances that live at once, 1 to 100000.
    pub max_instances: u32,
}

/// Whether guest memory comes from a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Where the system allows it.
    Auto,
    /// Never.
    Off,
}

/// What building a plugin needs beside the plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildConfig {
    /// Folder with the programs that make components; absolute.
    pub tools: Option<PathBuf>,
    /// Folder with the plugin contract; absolute.
    pub wit: Option<PathBuf>,
}

/// The log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// The least severe messages that are written.
    pub level: LogLevel,
    /// How lines look.
    pub format: LogFormat,
}

/// How severe a message must be to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What happens.
    Info,
    /// What may need attention.
    Warn,
    /// What failed.
    Error,
    /// Nothing.
    Silent,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object per line.
    Json,
}

/// One setting as it is in effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// The setting.
    pub variable: &'static variables::Variable,
    /// Its value; none when it has none.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: Source,
}

impl Effective {
    /// The value for people: redacted when secret, empty when there is none.
    #[must_use]
    pub fn shown(&self) -> &str {
        match &self.value {
            Some(_) if self.variable.secret => leanclaw_types::redact::REDACTED,
            Some(value) => value,
            None => "",
        }
    }

    /// `{name, value, source, ...}`; the value is null when there is none.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let value = self.value.as_ref().map(|_| self.shown());
        json!({ "name": self.variable.name, "value": value, "source": self.source })
    }
}

/// A configuration that can be used, and what led to it.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// The configuration.
    pub config: Config,
    /// Every setting with its source, in the order of [`variables::ALL`].
    pub effective: Vec<Effective>,
    /// What was given and does nothing; each a sentence for a person.
    pub warnings: Vec<String>,
    /// The configuration file, whether it is there or not.
    pub config_file: PathBuf,
}

impl fmt::Display for Pooling {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Off => "off",
        })
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Silent => "silent",
        })
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pretty => "pretty",
            Self::Json => "json",
        })
    }
}
