//! Raw settings, one layer per source, and how layers combine: for each variable the highest layer that sets it wins.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::variables::Variable;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Source {
    /// A command-line flag.
    Flag {
        /// The flag with its dashes.
        flag: &'static str,
    },
    /// The process's environment.
    Environment,
    /// The `.env` file of the working directory.
    #[serde(rename = ".env")]
    DotEnv {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The key, with dots between its parts.
        key: String,
    },
    /// Nothing set it.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag { flag } => formatter.write_str(flag),
            Self::Environment => formatter.write_str("environment"),
            Self::DotEnv { path, line } => write!(formatter, "{}:{line}", path.display()),
            Self::File { path, key } => write!(formatter, "{}: {key}", path.display()),
            Self::Default => formatter.write_str("default"),
        }
    }
}

/// A value before it is checked, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Raw {
    /// A JSON string for every source but the configuration file.
    pub(crate) value: Value,
    pub(crate) source: Source,
}

impl Raw {
    pub(crate) fn text(value: impl Into<String>, source: Source) -> Self {
        Self { value: Value::String(value.into()), source }
    }
}

/// What one source sets; by variable name, at most one value each.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawLayer(BTreeMap<&'static str, Raw>);

impl RawLayer {
    /// Sets a variable; what was set before is replaced and returned.
    pub(crate) fn set(&mut self, variable: &'static Variable, raw: Raw) -> Option<Raw> {
        self.0.insert(variable.name, raw)
    }

    /// The value of a variable.
    pub(crate) fn get(&self, variable: &Variable) -> Option<&Raw> {
        self.0.get(variable.name)
    }

    /// This layer, with what it leaves open filled in from a lower one.
    pub(crate) fn over(mut self, lower: Self) -> Self {
        for (name, raw) in lower.0 {
            self.0.entry(name).or_insert(raw);
        }
        self
    }
}
