//! Where an answer is shown: words on standard output as they come, tools and troubles on standard error.

use anyhow::Result;

use super::answer::Step;
use crate::output;

/// What shows an answer.
#[derive(Debug)]
pub(super) struct Screen {
    /// Whether nothing of an answer is shown while it is written.
    is_quiet: bool,
    /// Whether words stand on a line that goes on.
    is_open: bool,
}

impl Screen {
    pub(super) fn new(is_quiet: bool) -> Self {
        Self { is_quiet, is_open: false }
    }

    /// Shows what is new.
    pub(super) fn show(&mut self, steps: Vec<Step>) -> Result<()> {
        for step in steps {
            if !self.is_quiet {
                self.show_one(step)?;
            }
        }
        Ok(())
    }

    fn show_one(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Words(words) => {
                output::piece(&words)?;
                self.is_open = !words.ends_with('\n');
            }
            Step::Break => self.end_line()?,
            Step::Tool { name, input } => output::aside(format!("· {name} {input}").trim_end()),
            Step::ToolFailed { name } => output::aside(&format!("· {name} failed")),
        }
        Ok(())
    }

    /// Ends the line that words stand on.
    pub(super) fn end_line(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_open) {
            output::piece("\n")?;
        }
        Ok(())
    }

    /// Says something about the answer, on a line of its own.
    pub(super) fn say(&mut self, message: &str) -> Result<()> {
        self.end_line()?;
        output::note(message);
        Ok(())
    }
}
