//! The real program over real pipes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

struct Agent {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    seen: Vec<Value>,
}

impl Agent {
    fn start() -> Self {
        Self::spawn(&mut Command::new(env!("CARGO_BIN_EXE_leanclaw-agent")))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the agent starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("its output is piped"));
        Self { child, input, output, seen: Vec::new() }
    }

    fn raw(&mut self, line: &[u8]) {
        let input = self.input.as_mut().expect("its input is open");
        input.write_all(line).and_then(|()| input.write_all(b"\n")).expect("it reads");
    }

    fn send(&mut self, mut message: Value) {
        message["jsonrpc"] = json!("2.0");
        self.raw(message.to_string().as_bytes());
    }

    /// Reads until a message that `wanted` takes; the transcript is stored meanwhile.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).expect("it writes") > 0, "it ended: {:?}", self.seen);
            let message: Value = serde_json::from_str(&line).expect("a line is JSON");
            self.seen.push(message.clone());
            if message["method"] == "_leanclaw/transcript/append" {
                self.send(json!({"id": message["id"], "result": {}}));
            }
            if wanted(&message) {
                return message;
            }
        }
    }

    fn open(&mut self, cwd: &std::path::Path) {
        self.send(json!({"id": 1, "method": "initialize", "params": {"protocolVersion": 1}}));
        let setup = json!({"model": "m", "maxTokens": 100, "maxRounds": 5});
        let params = json!({"cwd": cwd, "mcpServers": [], "_meta": {"leanclaw": setup}});
        self.send(json!({"id": 2, "method": "session/new", "params": params}));
        let opened = self.until(|message| message["id"] == 2);
        assert_eq!(opened["result"]["sessionId"], "session-1");
        let prompt = json!([{"type": "text", "text": "go"}]);
        self.send(json!({"id": 3, "method": "session/prompt", "params": {"sessionId": "session-1", "prompt": prompt}}));
    }

    /// Answers a model call with one block.
    fn answer(&mut self, call: &Value, block: Value, reason: &str) {
        let id = &call["params"]["callId"];
        for event in
            [json!({"type": "block", "block": block}), json!({"type": "finished", "reason": reason, "usage": {}})]
        {
            self.send(json!({"method": "_leanclaw/model/event", "params": {"callId": id, "event": event}}));
        }
        self.send(json!({"id": call["id"], "result": {}}));
    }

    fn bash(&mut self, call: &Value, command: &str) {
        let block = json!({"type": "toolUse", "id": "1", "name": "bash", "input": {"command": command}});
        self.answer(call, block, "toolUse");
    }

    /// Closes its input and waits for a clean end.
    fn end(mut self) {
        drop(self.input.take());
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            match self.child.try_wait().expect("it can be waited for") {
                Some(status) => return assert!(status.success(), "{status}"),
                None => assert!(Instant::now() < until, "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_model_call(message: &Value) -> bool {
    message["method"] == "_leanclaw/model/stream"
}

#[test]
fn a_turn_with_a_tool_runs_from_end_to_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut agent = Agent::start();
    agent.raw(b"garbage \xff");
    assert_eq!(agent.until(|_| true)["error"]["code"], -32700);
    agent.open(folder.path());
    let call = agent.until(is_model_call);
    agent.bash(&call, "echo from the shell > made; cat made");
    let call = agent.until(is_model_call);
    let messages = call["params"]["call"]["messages"].as_array().expect("messages");
    let result = &messages.last().expect("results")["content"][0]["content"][0]["text"];
    assert_eq!(result, "from the shell\n[exit code 0]");
    agent.answer(&call, json!({"type": "text", "text": "done"}), "endTurn");
    assert_eq!(
        agent.until(|message| message["id"] == 3 && message["method"].is_null())["result"]["stopReason"],
        "end_turn"
    );
    agent.end();
}

#[test]
fn a_cancel_arrives_while_a_tool_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut agent = Agent::start();
    agent.open(folder.path());
    let call = agent.until(is_model_call);
    agent.bash(&call, "sleep 60");
    agent.until(|message| message["params"]["update"]["status"] == "in_progress");
    let started = Instant::now();
    agent.send(json!({"method": "session/cancel", "params": {"sessionId": "session-1"}}));
    assert_eq!(
        agent.until(|message| message["id"] == 3 && message["method"].is_null())["result"]["stopReason"],
        "cancelled"
    );
    assert!(started.elapsed() < Duration::from_secs(20));
    agent.end();
}

#[test]
fn the_end_of_its_input_ends_it_even_during_a_tool() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut agent = Agent::start();
    agent.open(folder.path());
    let call = agent.until(is_model_call);
    agent.bash(&call, "sleep 60");
    agent.until(|message| message["params"]["update"]["status"] == "in_progress");
    agent.end();
}

/// A tool that could open its parent's descriptors could speak to the host in the agent's name. Whose the files in `/proc` are
/// decides that; of a process that may not be looked into they are root's.
#[cfg(target_os = "linux")]
#[test]
fn nobody_else_may_look_into_it() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65534;
    // A copy that everybody may read: a program that may not be read is private without any doing of its own.
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("the folder is ours");
    let copy = folder.path().join("agent");
    std::fs::copy(env!("CARGO_BIN_EXE_leanclaw-agent"), &copy).expect("the program can be copied");
    let mut command = Command::new(&copy);
    if std::fs::metadata("/proc/self").expect("proc is there").uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut agent = Agent::spawn(&mut command);
    agent.send(json!({"id": 1, "method": "initialize", "params": {"protocolVersion": 1}}));
    agent.until(|message| message["id"] == 1);
    let owner = |pid: u32| std::fs::metadata(format!("/proc/{pid}/fd")).expect("proc is there").uid();
    assert_eq!(owner(agent.child.id()), 0);
    agent.end();

    // The same of a program that does nothing about it, so that the check above is one.
    let mut other = Command::new("/bin/sleep");
    if owner(std::process::id()) == 0 {
        other.uid(NOBODY).gid(NOBODY);
    }
    let mut other = other.arg("30").spawn().expect("it starts");
    let is_theirs = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        owner(other.id()) != 0
    });
    other.kill().and_then(|()| other.wait()).expect("it ends");
    assert!(is_theirs);
}
