//! Node.js and Python: which versions are of use, and what to do about others.
//!
//! The kits' scripts and tests need them, and the component tools that npm and pip bring. Nothing here installs one.

use anyhow::{Context, Result, bail};

use crate::repository::Repository;
use crate::ui;

/// A language's interpreter.
pub(crate) struct Interpreter {
    program: &'static str,
    name: &'static str,
    /// The oldest major and minor version that the kits are written for.
    oldest: (u32, u32),
    site: &'static str,
}

/// What the JavaScript kit and the npm package of componentize-qjs run on.
pub(crate) const NODE: Interpreter =
    Interpreter { program: "node", name: "Node.js", oldest: (20, 6), site: "https://nodejs.org" };
/// What the Python kit and the wheel of componentize-py run on.
pub(crate) const PYTHON: Interpreter =
    Interpreter { program: "python3", name: "Python", oldest: (3, 10), site: "https://www.python.org" };

/// One that is on every machine this is built on.
#[cfg(test)]
pub(crate) const ALWAYS: Interpreter = Interpreter { program: "cargo", oldest: (1, 0), ..NODE };
/// One that is on none.
#[cfg(test)]
pub(crate) const NEVER: Interpreter = Interpreter { program: "leanclaw-test-no-such-program", ..NODE };

impl Interpreter {
    /// Fails with what to do unless the interpreter on PATH is there and new enough.
    pub(crate) fn require(&self, repository: &Repository) -> Result<()> {
        let said = ui::capture(repository.command(self.program).arg("--version"));
        let said = said.with_context(|| format!("{} is missing: {}", self.name, self.advice()))?;
        self.judge(&said)
    }

    fn judge(&self, said: &str) -> Result<()> {
        match version(said) {
            Some(found) if found >= self.oldest => Ok(()),
            Some(_) => bail!("{} is too old ({}): {}", self.name, said.trim(), self.advice()),
            None => bail!("`{} --version` names no version ({}): {}", self.program, said.trim(), self.advice()),
        }
    }

    fn advice(&self) -> String {
        let (major, minor) = self.oldest;
        format!("install {} {major}.{minor} or later ({}) as `{}` on PATH", self.name, self.site, self.program)
    }
}

/// Major and minor version in `v20.20.2` or `Python 3.11.7`, whatever stands around it.
fn version(said: &str) -> Option<(u32, u32)> {
    said.split_whitespace().find_map(|word| {
        let mut numbers = word.trim_start_matches('v').split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_old_is_refused_with_what_to_do() {
        for (interpreter, said) in [
            (NODE, "v20.6.0\n"),
            (NODE, "v22.1.0\n"),
            (PYTHON, "Python 3.10.0\n"),
            (PYTHON, "Python 3.14.0rc2 :: Any\n"),
        ] {
            interpreter.judge(said).unwrap();
        }
        for (interpreter, said, advice) in [
            (NODE, "v18.19.1\n", "Node.js is too old (v18.19.1): install Node.js 20.6 or later"),
            (NODE, "v20.5.1\n", "Node.js is too old (v20.5.1): install Node.js 20.6 or later"),
            (PYTHON, "Python 3.9.18\n", "Python is too old (Python 3.9.18): install Python 3.10 or later"),
            (PYTHON, "Python 2.7.18\n", "Python is too old"),
            (NODE, "nonsense\n", "names no version (nonsense): install Node.js 20.6 or later"),
        ] {
            let refusal = interpreter.judge(said).unwrap_err().to_string();
            assert!(refusal.contains(advice), "{refusal}");
        }
    }

    #[test]
    fn what_is_missing_is_said_to_be_so() {
        let refusal = format!("{:#}", NEVER.require(&Repository::locate().unwrap()).unwrap_err());
        assert!(
            refusal.contains("Node.js is missing: install Node.js 20.6 or later (https://nodejs.org)"),
            "{refusal}"
        );
    }
}
