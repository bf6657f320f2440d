//! The command line, read from left to right.
//!
//! Hand-written so that `cargo xtask` compiles in seconds; knows flags and `--name value`, nothing cleverer.

use std::collections::VecDeque;

use anyhow::{Context, Result, bail};

/// The arguments not yet taken.
pub(crate) struct Arguments(VecDeque<String>);

impl Arguments {
    /// The arguments of this process without the program name.
    pub(crate) fn from_process() -> Self {
        Self(std::env::args().skip(1).collect())
    }

    /// Takes the leftmost argument.
    pub(crate) fn next(&mut self) -> Option<String> {
        self.0.pop_front()
    }

    /// Whether `--help` or `-h` is the next argument.
    pub(crate) fn wants_help(&self) -> bool {
        self.0.front().is_some_and(|argument| argument == "--help" || argument == "-h")
    }

    /// Whether the next argument is `name`, which is left where it is.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.0.front().is_some_and(|argument| argument == name)
    }

    /// Takes `name` wherever it stands; true if it was there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        match self.0.iter().position(|argument| argument == name) {
            Some(position) => self.0.remove(position).is_some(),
            None => false,
        }
    }

    /// Takes `name VALUE` or `name=VALUE` wherever it stands.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<String>> {
        let prefix = format!("{name}=");
        let found = self.0.iter().position(|argument| argument == name || argument.starts_with(&prefix));
        let Some(position) = found else { return Ok(None) };
        let argument = self.0.remove(position).unwrap_or_default();
        if let Some(value) = argument.strip_prefix(&prefix) {
            return Ok(Some(value.to_owned()));
        }
        self.0.remove(position).map(Some).with_context(|| format!("`{name}` needs a value"))
    }

    /// Everything not taken, to be passed on.
    pub(crate) fn rest(self) -> Vec<String> {
        self.0.into()
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<()> {
        match self.0.front() {
            Some(argument) => {
                bail!("unexpected argument `{argument}`; `cargo xtask <command> --help` shows what is understood")
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(list: &[&str]) -> Arguments {
        Arguments(list.iter().map(|argument| (*argument).to_owned()).collect())
    }

    #[test]
    fn takes_values_in_both_forms_and_leaves_the_rest() {
        let mut line = arguments(&["--pack", "a.tar.xz", "--sysroot=/x", "--remove", "left"]);
        assert_eq!(line.value("--pack").unwrap().as_deref(), Some("a.tar.xz"));
        assert_eq!(line.value("--sysroot").unwrap().as_deref(), Some("/x"));
        assert!(line.flag("--remove"));
        assert!(!line.flag("--remove"));
        assert_eq!(line.rest(), ["left"]);
    }

    #[test]
    fn the_next_one_can_be_looked_at() {
        let line = arguments(&["plugins", "--quick"]);
        assert!(line.names("plugins") && !line.names("--quick"));
        assert_eq!(line.rest(), ["plugins", "--quick"]);
    }

    #[test]
    fn refuses_a_missing_value_and_leftovers() {
        assert!(arguments(&["--pack"]).value("--pack").is_err());
        assert!(arguments(&["--typo"]).finish().is_err());
        assert!(arguments(&[]).finish().is_ok());
    }
}
