//! `bash`: a shell command, only where the sandbox is a container.
//!
//! A command runs in a process group of its own and without input. At its end, whether by itself, by time or by cancel, the
//! whole group is killed; what leaves the group is the container's to end.

use std::io::{PipeReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use agent_client_protocol_schema::v1::ToolKind;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Context, Outcome, Refusal, Tool, parse, property, refuse, schema_of};
use crate::cap::HeadAndTail;
use crate::process::Owned;

const DEFAULT_TIMEOUT_SECONDS: u64 = 120;
const MAX_TIMEOUT_SECONDS: u64 = 3600;
/// How long the output is waited for after the command has ended, as something it left behind may hold it open.
const OUTPUT_GRACE: Duration = Duration::from_millis(500);
/// How often a running command is looked at.
const TICK: Duration = Duration::from_millis(10);

pub(crate) struct Bash;

/// The input of `bash`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The command, for `bash -c`, or `sh -c` where there is no bash. It starts in the workspace.
    command: String,
    /// After how many seconds it is killed; 120 when left out, at most 3600.
    #[serde(default)]
    timeout_seconds: Option<u64>,
}

/// Why a command ended.
enum End {
    Exited(ExitStatus),
    TimedOut,
    Cancelled,
}

impl Tool for Bash {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn description(&self) -> &'static str {
        "Runs a shell command in the workspace and shows its output (stdout and stderr together; of long output the beginning and the end) and its exit code. Nothing it starts outlives it. There is no network."
    }

    fn kind(&self) -> ToolKind {
        ToolKind::Execute
    }

    fn schema(&self) -> Value {
        schema_of::<Input>()
    }

    fn subject<'i>(&self, input: &'i Value) -> Option<&'i str> {
        property(input, "command")
    }

    fn run(&self, input: &Value, context: &mut Context<'_>) -> Result<Outcome, Refusal> {
        let Input { command, timeout_seconds } = parse(self.name(), input)?;
        if command.contains('\0') {
            return refuse("The command contains a NUL byte.");
        }
        let seconds = timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS).clamp(1, MAX_TIMEOUT_SECONDS);
        let (owned, output) = start(&command, context.workspace.path())?;
        let end = wait(&owned, Duration::from_secs(seconds), context.cancelled)?;
        // Also after it ended by itself: what it left in the background must not outlive it.
        owned.kill_group();
        let mut text = output.text();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(match end {
            End::Exited(status) if status.success() => Outcome::text(format!("{text}[exit code 0]")),
            End::Exited(status) => Outcome::error(format!("{text}[{}]", ended(status))),
            End::TimedOut => Outcome::error(format!(
                "{text}[killed after {seconds} seconds; give a larger `timeout_seconds` if it needs more]"
            )),
            End::Cancelled => Outcome::error(format!("{text}[killed: the turn was cancelled]")),
        })
    }
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

fn start(command: &str, workspace: &Path) -> Result<(Owned, Output), Refusal> {
    let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
    let (reader, writer) = std::io::pipe()?;
    let mut prepared = Command::new(shell);
    prepared
        .args(["-c", command])
        .current_dir(workspace)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    let owned = Owned::spawn(&mut prepared)?;
    // It holds the pipe's writing end, which has to close with the command.
    drop(prepared);
    Ok((owned, Output::collect(reader)))
}

fn wait(owned: &Owned, timeout: Duration, cancelled: &mut dyn FnMut() -> bool) -> Result<End, Refusal> {
    let until = Instant::now() + timeout;
    loop {
        if let Some(status) = owned.ended()? {
            return Ok(End::Exited(status));
        }
        let why = if cancelled() { End::Cancelled } else { End::TimedOut };
        if matches!(why, End::Cancelled) || Instant::now() >= until {
            owned.kill_group();
            owned.wait()?;
            return Ok(why);
        }
        thread::sleep(TICK);
    }
}

/// What a command prints, collected by a thread so that the command never waits for somebody to read.
struct Output {
    kept: Arc<Mutex<HeadAndTail>>,
    done: Receiver<()>,
}

impl Output {
    fn collect(mut reader: PipeReader) -> Self {
        let kept = Arc::new(Mutex::new(HeadAndTail::default()));
        let (sender, done) = mpsc::channel::<()>();
        let shared = Arc::clone(&kept);
        thread::spawn(move || {
            let _ends_with_the_thread = sender;
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                let bytes = buffer.get(..count).unwrap_or_default();
                shared.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
            }
        });
        Self { kept, done }
    }

    fn text(&self) -> String {
        let held_open = matches!(self.done.recv_timeout(OUTPUT_GRACE), Err(RecvTimeoutError::Timeout));
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = kept.text("write the output to a file and `read` it to see the rest");
        if held_open {
            text.push_str("\n[a process that left the command's group still holds the output]\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{Fixture, text_of};
    use super::*;

    /// Whether a process is there and no zombie.
    fn is_alive(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
    }

    fn is_gone_soon(pid: &str) -> bool {
        (0..300).any(|_| {
            thread::sleep(Duration::from_millis(10));
            !is_alive(pid)
        })
    }

    #[test]
    fn output_of_both_kinds_comes_in_order_with_the_exit_code() {
        let here = Fixture::new();
        here.put("a", "ü");
        let text = here.text(&Bash, json!({"command": "cat a; echo; echo err >&2; echo out"}));
        assert_eq!(text, "ü\nerr\nout\n[exit code 0]");
        let outcome = here.run(&Bash, json!({"command": "printf no; exit 3"})).unwrap();
        assert!(outcome.is_error);
        assert_eq!(text_of(&outcome), "no\n[exit code 3]");
        let outcome = here.run(&Bash, json!({"command": "kill -9 $$"})).unwrap();
        assert_eq!(text_of(&outcome), "[killed by signal 9]");
        assert_eq!(here.text(&Bash, json!({"command": "cat"})), "[exit code 0]", "there is no input");
        assert!(here.refusal(&Bash, json!({"command": "a\u{0}"})).contains("NUL"));
    }

    #[test]
    fn a_flood_keeps_its_ends() {
        let here = Fixture::new();
        let text = here.text(&Bash, json!({"command": "echo first; seq 1 200000; echo last"}));
        assert!(text.starts_with("first\n1\n2\n") && text.ends_with("200000\nlast\n[exit code 0]"));
        assert!(text.contains("bytes left out here; write the output to a file"), "{}", text.len());
        assert!(text.len() < 60_000);
    }

    #[test]
    fn what_takes_too_long_is_killed_with_all_it_started() {
        let here = Fixture::new();
        let started = Instant::now();
        let command = "sleep 60 & echo $! > child; echo begun; sleep 60";
        let outcome = here.run(&Bash, json!({"command": command, "timeout_seconds": 1})).unwrap();
        assert!(outcome.is_error && started.elapsed() < Duration::from_secs(30));
        assert!(text_of(&outcome).starts_with("begun\n[killed after 1 seconds"));
        assert!(is_gone_soon(&here.get("child")));
    }

    #[test]
    fn a_cancel_kills_the_whole_group() {
        let here = Fixture::new();
        let marker = here.at("child");
        let mut cancelled = || std::fs::read_to_string(&marker).is_ok_and(|text| text.ends_with('\n'));
        let input = json!({"command": "sleep 60 & echo $! > child; wait"});
        let outcome = here.run_until(&Bash, input, &mut cancelled).unwrap();
        assert_eq!(text_of(&outcome), "[killed: the turn was cancelled]");
        assert!(is_gone_soon(&here.get("child")));
    }

    #[test]
    fn nothing_stays_in_the_background() {
        let here = Fixture::new();
        let started = Instant::now();
        let text = here.text(&Bash, json!({"command": "sleep 60 & echo $! > child; echo done"}));
        assert_eq!(text, "done\n[exit code 0]");
        assert!(started.elapsed() < Duration::from_secs(30));
        assert!(is_gone_soon(&here.get("child")));
    }

    #[test]
    fn output_held_open_from_outside_the_group_is_not_waited_for() {
        let here = Fixture::new();
        let started = Instant::now();
        let text = here.text(&Bash, json!({"command": "setsid sleep 8 & sleep 0.2; echo done"}));
        assert!(started.elapsed() < Duration::from_secs(6));
        assert!(text.contains("left the command's group still holds the output"), "{text}");
    }
}
