//! What is wrong with a configuration, all of it at once.

use std::fmt;
use std::path::PathBuf;

use leanclaw_types::redact::REDACTED;
use serde_json::Value;

use super::layer::Source;

/// One thing that stops the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A value does not fit.
    Invalid {
        /// The variable or key.
        name: String,
        /// The value as given, shortened and escaped; redacted when it is a secret.
        value: String,
        /// Where it was given.
        source: Source,
        /// What would fit.
        expected: String,
    },
    /// Single values fit and yet do not go together.
    Conflict {
        /// What does not go together and what to do.
        message: String,
    },
    /// A file is not JSON5.
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// A file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
}

impl Problem {
    /// A value that does not fit.
    pub(crate) fn invalid(name: &str, value: &Value, secret: bool, source: &Source, expected: &str) -> Self {
        let value = if secret { REDACTED.to_owned() } else { shown_value(value) };
        Self::Invalid { name: name.to_owned(), value, source: source.clone(), expected: expected.to_owned() }
    }
}

/// A value for an error message: short, on one line, safe on a terminal.
pub(crate) fn shown_value(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut shown: String = text.chars().take(80).collect::<String>().escape_debug().to_string();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { name, value, source, expected } => {
                write!(formatter, "{name} is `{value}` ({source}); expected {expected}")
            }
            Self::Conflict { message } => formatter.write_str(message),
            Self::Syntax { path, line, column, message } => {
                write!(formatter, "{}:{line}:{column} is not valid JSON5: {message}", path.display())
            }
            Self::Unreadable { path, message } => write!(formatter, "{} cannot be read: {message}", path.display()),
        }
    }
}

/// The configuration cannot be used. Nothing of it is in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Everything that is wrong; never empty.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// What to do about it.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        let mut hints = Vec::new();
        if self.problems.iter().any(|problem| matches!(problem, Problem::Invalid { .. })) {
            hints.push("`leanclaw config variables` lists every setting, what it expects and its default".to_owned());
        }
        if self.problems.iter().any(|problem| matches!(problem, Problem::Syntax { .. })) {
            hints.push(
                "look at that place and just before it: a missing comma, quote or closing bracket is reported where \
                 the next thing starts"
                    .to_owned(),
            );
        }
        if self.problems.iter().any(|problem| matches!(problem, Problem::Unreadable { .. })) {
            hints.push("make the file readable and UTF-8, or move it away to go without it".to_owned());
        }
        hints
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.problems.as_slice() {
            return write!(formatter, "the configuration is not valid: {only}");
        }
        write!(formatter, "the configuration is not valid, {} problems:", self.problems.len())?;
        for problem in &self.problems {
            write!(formatter, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
