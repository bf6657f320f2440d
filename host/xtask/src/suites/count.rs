//! Runs a test program, passes its output on, and counts what it reports.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// Tests of one or more programs.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Count {
    /// Adds another program's.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// Without tests that found out for themselves that this machine lacks something, and could only end as passed.
    pub(crate) fn without(self, not_run: usize) -> Self {
        let not_run = u64::try_from(not_run).unwrap_or(u64::MAX).min(self.passed);
        Self { passed: self.passed - not_run, ignored: self.ignored + not_run, ..self }
    }
}

/// Whose output it is.
#[derive(Clone, Copy)]
pub(crate) enum Format {
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; ...` per program, on standard output.
    Cargo,
    /// `# pass 3`, `# fail 0`, `# skipped 1`, the TAP reporter, on standard output.
    Node,
    /// `Ran 3 tests in 0.1s`, then `OK (skipped=1)` or `FAILED (failures=1, errors=2)`, on standard error.
    Python,
}

impl Format {
    fn count(self, line: &str, count: &mut Count) {
        match self {
            Self::Cargo => {
                if let Some(result) = line.strip_prefix("test result: ") {
                    count.add(Count {
                        passed: number_before(result, " passed"),
                        failed: number_before(result, " failed"),
                        ignored: number_before(result, " ignored"),
                    });
                }
            }
            Self::Node => {
                count.passed += number_after(line, "# pass ");
                count.failed += number_after(line, "# fail ");
                count.ignored += number_after(line, "# skipped ");
            }
            Self::Python => {
                count.passed += number_after(line, "Ran ");
                if line.starts_with("FAILED (") || line.starts_with("OK (") {
                    let failed = number_inside(line, "failures=") + number_inside(line, "errors=");
                    let skipped = number_inside(line, "skipped=");
                    count.passed = count.passed.saturating_sub(failed + skipped);
                    count.failed += failed;
                    count.ignored += skipped;
                }
            }
        }
    }
}

/// Runs `command` and counts; a program that fails without naming a failed test counts as one failure.
pub(crate) fn run_counted(command: &mut Command, format: Format) -> Result<Count> {
    let on_error_output = matches!(format, Format::Python);
    if on_error_output {
        command.stderr(Stdio::piped());
    } else {
        command.stdout(Stdio::piped());
    }
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child =
        command.spawn().with_context(|| format!("cannot run `{program}` (is it installed and on PATH?)"))?;
    let output: Option<Box<dyn Read>> = if on_error_output {
        child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read>)
    } else {
        child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read>)
    };
    let mut count = Count::default();
    pass_on(output.context("the program has no output")?, |line| format.count(line, &mut count))?;
    if !child.wait()?.success() && count.failed == 0 {
        count.failed = 1;
    }
    Ok(count)
}

fn pass_on(output: impl Read, mut each: impl FnMut(&str)) -> Result<()> {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        let _ = std::io::stdout().write_all(&line);
        each(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(())
}

fn number_before(text: &str, unit: &str) -> u64 {
    let before = text.split_once(unit).map_or("", |(before, _)| before);
    before.rsplit(' ').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn number_after(line: &str, start: &str) -> u64 {
    line.strip_prefix(start).map_or(0, leading_number)
}

fn number_inside(line: &str, name: &str) -> u64 {
    line.split_once(name).map_or(0, |(_, rest)| leading_number(rest))
}

fn leading_number(text: &str) -> u64 {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(format: Format, lines: &[&str]) -> Count {
        let mut count = Count::default();
        lines.iter().for_each(|line| format.count(line, &mut count));
        count
    }

    #[test]
    fn adds_up_what_cargo_reports() {
        let lines = [
            "running 3 tests",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.03s",
            "test a ... ok",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ];
        assert_eq!(counted(Format::Cargo, &lines), Count { passed: 15, failed: 2, ignored: 1 });
    }

    #[test]
    fn adds_up_what_node_and_python_report() {
        let node = ["# tests 5", "# pass 3", "# fail 1", "# cancelled 0", "# skipped 1"];
        assert_eq!(counted(Format::Node, &node), Count { passed: 3, failed: 1, ignored: 1 });
        let python = ["Ran 7 tests in 0.010s", "", "FAILED (failures=1, errors=2, skipped=1)"];
        assert_eq!(counted(Format::Python, &python), Count { passed: 3, failed: 3, ignored: 1 });
        assert_eq!(counted(Format::Python, &["Ran 2 tests in 0.0s", "OK"]), Count { passed: 2, failed: 0, ignored: 0 });
    }

    #[test]
    fn what_could_not_be_run_has_not_passed() {
        let count = Count { passed: 5, failed: 1, ignored: 1 };
        assert_eq!(count.without(2), Count { passed: 3, failed: 1, ignored: 3 });
    }

    #[test]
    fn a_program_that_dies_without_a_word_counts_as_a_failure() {
        let count = run_counted(Command::new("sh").args(["-c", "exit 7"]), Format::Cargo).unwrap();
        assert_eq!(count, Count { passed: 0, failed: 1, ignored: 0 });
    }
}
