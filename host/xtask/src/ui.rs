//! What the person at the terminal sees, and how long-running programs are run so that they see it.
//!
//! Everything goes to standard error, one line per step; standard output carries only what was asked for (the help, the
//! output of tests). A quiet program that takes longer than two seconds shows that it is alive; one that fails shows
//! both ends of its output.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::repository::Repository;

/// Enough for the build of any component on a slow machine.
pub(crate) const BUILD_LIMIT: Duration = Duration::from_secs(900);
const SIGNS_OF_LIFE: Signs = Signs { first: Duration::from_secs(2), later: Duration::from_secs(10) };
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Some programs say what is wrong first and then explain at length, others the other way round.
const FIRST_LINES_SHOWN: usize = 10;
const LAST_LINES_SHOWN: usize = 30;

/// Prints what was asked for.
pub(crate) fn print(text: &str) {
    // A closed pipe (`| head`) is no reason to fail.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Says what happens.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "xtask: {text}");
}

/// Says what went wrong without ending the command.
pub(crate) fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "xtask: WARNING: {text}");
}

/// Says why the command ends.
pub(crate) fn error(text: &str) {
    let _ = writeln!(std::io::stderr(), "xtask: error: {text}");
}

/// Seconds with one decimal, for people.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Runs a program whose own output is its progress (cargo), on this terminal.
pub(crate) fn run_visibly(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().with_context(|| cannot_run(command))?;
    if !status.success() {
        bail!("{what} failed ({status}); its messages are above");
    }
    Ok(())
}

/// Runs a program with its output in a log file, shows signs of life, and stops it after `limit`.
///
/// An error carries both ends of the output and the name of the log file.
pub(crate) fn run_quietly(repository: &Repository, command: &mut Command, what: &str, limit: Duration) -> Result<()> {
    feed_quietly(repository, command, Stdio::null(), what, limit)
}

/// Like [`run_quietly`], for a program that reads `input`.
pub(crate) fn feed_quietly(
    repository: &Repository,
    command: &mut Command,
    input: Stdio,
    what: &str,
    limit: Duration,
) -> Result<()> {
    let run = feed_logged(repository, command, input, what, limit)?;
    match run.status {
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            bail!("{what} failed ({status}):\n{}\n(all of it: {})", excerpt(&run.output), run.log.display())
        }
        None => bail!("{what} was stopped after {}:\n{}", seconds(limit), excerpt(&run.output)),
    }
}

/// How a program ended.
pub(crate) struct Run {
    /// `None` if it had to be stopped.
    pub(crate) status: Option<ExitStatus>,
    /// What it wrote to both outputs.
    pub(crate) output: String,
    log: PathBuf,
}

/// Like [`run_quietly`], for callers who judge the end themselves.
pub(crate) fn run_logged(repository: &Repository, command: &mut Command, what: &str, limit: Duration) -> Result<Run> {
    feed_logged(repository, command, Stdio::null(), what, limit)
}

fn feed_logged(
    repository: &Repository,
    command: &mut Command,
    input: Stdio,
    what: &str,
    limit: Duration,
) -> Result<Run> {
    let folder = repository.state_folder().join("logs");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let name: String = what.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let log = folder.join(format!("{name}.log"));
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(input).stdout(file.try_clone()?).stderr(file);
    let mut child = command.spawn().with_context(|| cannot_run(command))?;
    let status = wait(&mut child, what, limit, &SIGNS_OF_LIFE, &mut say)?;
    let output = std::fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    Ok(Run { status, output, log })
}

/// When somebody who waits is told that the wait goes on.
struct Signs {
    first: Duration,
    later: Duration,
}

/// Waits for the end of `child`, telling of it; `None` if it had to be stopped.
fn wait(
    child: &mut Child,
    what: &str,
    limit: Duration,
    signs: &Signs,
    tell: &mut dyn FnMut(&str),
) -> Result<Option<ExitStatus>> {
    let started = Instant::now();
    let mut next_sign = signs.first;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let elapsed = started.elapsed();
        if elapsed > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        if elapsed > next_sign {
            tell(&format!("  ... {what}: {:.0} s", elapsed.as_secs_f64()));
            next_sign = elapsed + signs.later;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Runs a program that answers at once and returns its standard output.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_run(command))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", shown(command), output.status, message.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command line as a person would type it, without environment.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn cannot_run(command: &Command) -> String {
    format!("cannot run `{}` (is it installed and on PATH?)", command.get_program().to_string_lossy())
}

/// The first and the last lines of a text, indented.
pub(crate) fn excerpt(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut shown: Vec<String> = lines.iter().take(FIRST_LINES_SHOWN).map(|line| format!("    {line}")).collect();
    let rest = lines.len().saturating_sub(FIRST_LINES_SHOWN);
    if rest > LAST_LINES_SHOWN {
        shown.push(format!("    ... ({} lines left out)", rest - LAST_LINES_SHOWN));
    }
    let last = lines.iter().skip(FIRST_LINES_SHOWN).skip(rest.saturating_sub(LAST_LINES_SHOWN));
    shown.extend(last.map(|line| format!("    {line}")));
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_keeps_both_ends() {
        let text: String = (0..100).map(|number| format!("line {number}\n")).collect();
        let shown = excerpt(&text);
        assert!(shown.contains("line 0\n") && shown.contains("line 9\n") && !shown.contains("line 10\n"));
        assert!(shown.contains("(60 lines left out)") && shown.contains("line 70\n") && shown.ends_with("line 99"));
        assert_eq!(excerpt("a\nb"), "    a\n    b");
    }

    #[test]
    fn who_waits_is_told_until_the_end_and_never_waits_longer_than_the_limit() {
        let signs = Signs { first: Duration::from_millis(100), later: Duration::from_millis(200) };
        let run = |program: &str, seconds: &str, limit: Duration| {
            let mut told = Vec::new();
            let mut child = Command::new(program).arg(seconds).spawn().unwrap();
            let status = wait(&mut child, "sleeping", limit, &signs, &mut |line| told.push(line.to_owned())).unwrap();
            (status.map(|status| status.success()), told)
        };
        let (status, told) = run("sleep", "1", Duration::from_secs(60));
        assert_eq!(status, Some(true));
        assert!(told.len() >= 2, "{told:?}");
        assert!(told.iter().all(|line| line.starts_with("  ... sleeping: ") && line.ends_with(" s")), "{told:?}");
        let started = Instant::now();
        assert_eq!(run("sleep", "60", Duration::from_millis(150)).0, None);
        assert!(started.elapsed() < Duration::from_secs(30));
        assert_eq!(run("true", "", Duration::from_secs(60)), (Some(true), Vec::new()), "what is quick says nothing");
    }
}
