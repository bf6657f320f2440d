//! One turn of an agent, from the host's side of the wire: what the agent asks for is done, what it says is told and stored.
//!
//! The agent is not trusted. It chooses no model and no session, its tools are looked up among those that it was offered, and
//! what it says it is doing is shown and never acted on. Nothing here waits for the agent to read: whatever is sent to it goes
//! through a task of its own, so that an agent that writes much and reads little holds up nobody but itself.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use leanclaw_sandbox::{Process, Run};
use leanclaw_types::Failure;
use leanclaw_types::agent::{
    HostToolCall, HostToolResult, MODEL_CANCEL, MODEL_STREAM, ModelCancel, ModelStream, Recorded, SETUP, SessionSetup,
    TOOL_CALL, TRANSCRIPT_APPEND,
};
use leanclaw_types::model::{Block, Role, StopReason, TokenUsage};
use leanclaw_types::run::RunStep;
use leanclaw_types::session::NewMessage;
use leanclaw_types::text::shown;
use serde_json::{Value, json};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::frame::{self, INVALID_PARAMS, Incoming, METHOD_NOT_FOUND, RpcError};
use super::model_calls::ModelCalls;
use super::models::Choice;
use super::updates::Updates;
use super::wire::ToAgent;
use super::words::{self, Answered};

/// How long an agent that was told to stop may take to write down what there is.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How long an agent may take to say that it is there.
const OPENING: Duration = Duration::from_secs(60);
/// Tools of one turn that go on at once.
const MOST_AT_ONCE: usize = 64;
/// Model calls of one turn that go on at once.
const MOST_CALLS_AT_ONCE: usize = 4;
/// What one turn may add to the transcript, in bytes and in messages.
const MOST_RECORDED_BYTES: usize = 64 * 1024 * 1024;
const MOST_RECORDED: usize = 2000;
/// The longest id and the longest name of a use of a tool, in bytes.
const LONGEST_ID: usize = 128;
/// Lines that are no messages and are still said in the log.
const MOST_COMPLAINTS: u32 = 20;
/// The most characters of what an agent says of a failure.
const MOST_SAID: usize = 500;
/// How long an agent that closed its output may take to end.
const ENDING: Duration = Duration::from_secs(5);

/// The ids of the requests that an agent is sent.
const INITIALIZE: i64 = 1;
const NEW_SESSION: i64 = 2;
const PROMPT: i64 = 3;

/// What a turn does outside of the sandbox.
#[async_trait]
pub(super) trait Desk: Send + Sync + 'static {
    /// Adds to the transcript, and tells of it.
    async fn record(&self, messages: Vec<NewMessage>) -> Result<(), Failure>;
    /// Runs a tool of the host's.
    async fn tool(&self, name: &str, input: &Value) -> Result<HostToolResult, Failure>;
    /// Tells of something that happened.
    fn tell(&self, step: RunStep);
    /// Now, in milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
}

/// What a turn is about.
pub(super) struct Work {
    pub(super) run_id: String,
    /// What is said to the agent; in the transcript already.
    pub(super) prompt: Vec<Block>,
    pub(super) setup: SessionSetup,
    pub(super) choice: Choice,
    /// Where the agent finds its workspace.
    pub(super) workspace: &'static str,
    /// Ends the turn early.
    pub(super) stop: CancellationToken,
}

/// How a turn ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// None when it was stopped.
    pub(super) result: Option<Result<(), Failure>>,
    /// The agent's last message, or what there was of it.
    pub(super) text: String,
    pub(super) answered: Option<Answered>,
    pub(super) usage: TokenUsage,
}

impl Ended {
    /// It failed before anything was said.
    pub(super) fn failed(failure: Failure) -> Self {
        Self { result: Some(Err(failure)), text: String::new(), answered: None, usage: TokenUsage::default() }
    }

    /// It replied, as is known from the transcript alone.
    pub(super) fn replied(text: String) -> Self {
        Self { result: Some(Ok(())), text, answered: None, usage: TokenUsage::default() }
    }
}

/// A turn that goes on.
struct Turn<D> {
    desk: Arc<D>,
    work: Work,
    wire: ToAgent,
    session: Option<String>,
    /// Model calls by the agent's name for them, and tools.
    tasks: JoinSet<()>,
    model_calls: HashMap<String, AbortHandle>,
    calls: ModelCalls,
    /// The tools by the uses that are in the transcript.
    tool_names: HashMap<String, String>,
    updates: Updates,
    text: String,
    rounds: u32,
    recorded_bytes: usize,
    recorded: usize,
    complaints: u32,
}

/// Has the agent of `run` answer, and tells `desk` of it.
pub(super) async fn run<D: Desk>(desk: Arc<D>, work: Work, run: Run) -> Ended {
    let Run { input, mut output, process } = run;
    let (wire, writing) = ToAgent::open(input);
    let mut turn = Turn {
        desk,
        work,
        wire,
        session: None,
        tasks: JoinSet::new(),
        model_calls: HashMap::new(),
        calls: ModelCalls::default(),
        tool_names: HashMap::new(),
        updates: Updates::default(),
        text: String::new(),
        rounds: 0,
        recorded_bytes: 0,
        recorded: 0,
        complaints: 0,
    };
    let result = turn.serve(&mut output, process).await;
    writing.abort();
    turn.end(result).await
}

impl<D: Desk> Turn<D> {
    /// Gives none when the turn was stopped.
    async fn serve(
        &mut self,
        output: &mut leanclaw_sandbox::Output,
        mut process: Process,
    ) -> Option<Result<(), Failure>> {
        self.wire.send(frame::request(
            INITIALIZE,
            "initialize",
            &json!({"protocolVersion": 1, "clientCapabilities": {}, "clientInfo": {"name": "leanclaw", "version": env!("CARGO_PKG_VERSION")}}),
        ));
        let setup = json!({
            "cwd": self.work.workspace, "mcpServers": [], "_meta": {(SETUP): self.work.setup},
        });
        self.wire.send(frame::request(NEW_SESSION, "session/new", &setup));
        let opened_by = Instant::now() + OPENING;
        let (stop, mut last_words): (_, Option<Instant>) = (self.work.stop.clone(), None);
        let end = loop {
            let until = last_words.or_else(|| self.session.is_none().then_some(opened_by));
            tokio::select! {
                line = output.next_line() => match line {
                    Ok(Some(_)) if self.wire.is_clogged() => break Err(does_not_read()),
                    Ok(Some(line)) => if let Some(end) = self.on_line(&line).await { break end },
                    Ok(None) | Err(_) => break Err(died(&mut process).await),
                },
                () = stop.cancelled(), if last_words.is_none() => {
                    self.tell_to_stop();
                    last_words = Some(Instant::now() + LAST_WORDS);
                }
                () = tokio::time::sleep_until(until.unwrap_or(opened_by)), if until.is_some() => {
                    break Err(Failure::new("timed-out", "The agent did not answer in time."));
                }
                Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => {}
            }
        };
        self.tasks.abort_all();
        process.kill().await;
        (!stop.is_cancelled()).then_some(end)
    }

    fn respond(&self, id: &Value, result: Result<Value, RpcError>) {
        self.wire.send(frame::response(id, &result));
    }

    /// The model call and the tools end at once; the agent has a moment to say what there was.
    fn tell_to_stop(&mut self) {
        self.tasks.abort_all();
        self.model_calls.clear();
        if let Some(session) = &self.session {
            self.wire.send(frame::notification("session/cancel", &json!({"sessionId": session})));
        }
    }

    /// Takes in a line; gives how the turn ended when it did.
    async fn on_line(&mut self, line: &[u8]) -> Option<Result<(), Failure>> {
        let line = String::from_utf8_lossy(line);
        if line.trim().is_empty() {
            return None;
        }
        match frame::decode(&line) {
            Ok(Incoming::Request { id, method, params }) => self.on_request(id, &method, params).await,
            Ok(Incoming::Notification { method, params }) => self.on_notification(&method, params),
            Ok(Incoming::Response { id, result }) => return self.on_response(&id, result),
            Err(problem) => {
                self.complaints = self.complaints.saturating_add(1);
                if self.complaints <= MOST_COMPLAINTS {
                    tracing::warn!(run = %self.work.run_id, "{}", shown(&problem, 200));
                }
            }
        }
        None
    }

    fn on_response(&mut self, id: &Value, result: Result<&str, RpcError>) -> Option<Result<(), Failure>> {
        let id = id.as_i64().filter(|id| (INITIALIZE..=PROMPT).contains(id))?;
        let result = match result {
            Ok(text) => serde_json::from_str::<Value>(text).unwrap_or_default(),
            Err(error) => return Some(Err(self.failure(&error))),
        };
        match id {
            NEW_SESSION => {
                let Some(session) = result.get("sessionId").and_then(Value::as_str) else {
                    return Some(Err(Failure::internal("The agent made no session.")));
                };
                self.session = Some(session.to_owned());
                let prompt: Vec<Value> = self.work.prompt.iter().filter_map(part).collect();
                self.wire.send(frame::request(
                    PROMPT,
                    "session/prompt",
                    &json!({"sessionId": session, "prompt": prompt}),
                ));
                None
            }
            PROMPT => Some(end_of_prompt(&result, &self.text)),
            _ => None,
        }
    }

    /// Why a turn failed: what is known here of it, else what the agent says, as words and nothing more.
    fn failure(&self, error: &RpcError) -> Failure {
        let known = self.calls.failure();
        known.unwrap_or_else(|| Failure::internal(format!("The agent failed: {}", shown(&error.message, MOST_SAID))))
    }

    async fn on_request(&mut self, id: Value, method: &str, params: &str) {
        if matches!(method, MODEL_STREAM | TOOL_CALL) {
            let refusal = if self.work.stop.is_cancelled() {
                Some("The run was stopped.".to_owned())
            } else {
                (self.tasks.len() >= MOST_AT_ONCE).then(|| format!("{MOST_AT_ONCE} calls go on already."))
            };
            if let Some(refusal) = refusal {
                return self.respond(&id, Err(RpcError::new(INVALID_PARAMS, refusal)));
            }
        }
        match method {
            MODEL_STREAM => match frame::params::<ModelStream>(params) {
                Ok(asked) => self.call_model(id, asked),
                Err(error) => self.respond(&id, Err(error)),
            },
            TOOL_CALL => match frame::params::<HostToolCall>(params) {
                Ok(call) => self.call_tool(id, call),
                Err(error) => self.respond(&id, Err(error)),
            },
            TRANSCRIPT_APPEND => {
                let stored = match frame::params::<Recorded>(params) {
                    Ok(recorded) => self.record(recorded).await.map_err(RpcError::from),
                    Err(error) => Err(error),
                };
                self.respond(&id, stored.map(|()| json!({})));
            }
            // Nothing that has to be asked about is offered to an agent, so what it asks about is not allowed.
            "session/request_permission" => self.respond(&id, Ok(json!({"outcome": {"outcome": "cancelled"}}))),
            _ => {
                let error = RpcError::new(METHOD_NOT_FOUND, format!("There is no method `{method}`."));
                self.respond(&id, Err(error));
            }
        }
    }

    fn on_notification(&mut self, method: &str, params: &str) {
        match method {
            MODEL_CANCEL => {
                let cancelled = frame::params::<ModelCancel>(params).ok();
                if let Some(task) = cancelled.and_then(|cancel| self.model_calls.remove(&cancel.call_id)) {
                    task.abort();
                }
            }
            "session/update" => {
                for step in self.updates.steps(params, &self.tool_names) {
                    self.desk.tell(step);
                }
            }
            _ => {}
        }
    }

    /// Calls the model that the run has, whichever the agent names.
    fn call_model(&mut self, id: Value, asked: ModelStream) {
        let ModelStream { call_id, mut call, .. } = asked;
        self.model_calls.retain(|_, task| !task.is_finished());
        if self.rounds >= self.work.setup.max_rounds || self.model_calls.len() >= MOST_CALLS_AT_ONCE {
            let refusal = format!("A turn has at most {} model calls.", self.work.setup.max_rounds);
            return self.respond(&id, Err(RpcError::new(INVALID_PARAMS, refusal)));
        }
        self.rounds = self.rounds.saturating_add(1);
        call.model.clone_from(&self.work.choice.model);
        call.max_tokens = call.max_tokens.min(self.work.setup.max_tokens);
        let (choice, wire, calls) = (self.work.choice.clone(), self.wire.clone(), self.calls.clone());
        let name = call_id.clone();
        let task = self.tasks.spawn(async move {
            let result = unwound(calls.stream(&choice, &call, &call_id, &wire)).await;
            calls.ended(result.as_ref().err());
            let result = result.map(|()| json!({})).map_err(RpcError::from);
            wire.send(frame::response(&id, &result));
        });
        self.model_calls.insert(name, task);
    }

    fn call_tool(&mut self, id: Value, call: HostToolCall) {
        let is_offered = self.work.setup.tools.iter().any(|tool| tool.name == call.name);
        // What is not written down could be done twice after a crash.
        let problem = if !is_offered {
            Some(format!("There is no tool `{}`.", shown(&call.name, LONGEST_ID)))
        } else {
            let is_recorded = self.tool_names.contains_key(&call.tool_call_id);
            (!is_recorded).then(|| "This use of a tool is not in the transcript.".to_owned())
        };
        if let Some(problem) = problem {
            return self.respond(&id, Err(RpcError::new(INVALID_PARAMS, problem)));
        }
        let (desk, wire) = (Arc::clone(&self.desk), self.wire.clone());
        self.tasks.spawn(async move {
            let result = unwound(desk.tool(&call.name, &call.input)).await;
            let result = result.map(|result| json!(result)).map_err(RpcError::from);
            wire.send(frame::response(&id, &result));
        });
    }

    /// Stores what the agent says was said.
    async fn record(&mut self, recorded: Recorded) -> Result<(), Failure> {
        let (mut stored, mut uses) = (Vec::new(), Vec::new());
        for message in recorded.messages {
            let at_ms = self.desk.now_ms();
            match message.role {
                // The prompt is in the transcript since it was taken on.
                Role::User => {
                    stored.extend(words::results(&self.work.run_id, &message.content, &self.tool_names, at_ms));
                }
                Role::Assistant => {
                    uses.extend(uses_in(&message.content)?);
                    self.text = words::text_of(&message.content);
                    let (answered, reason) = self.calls.take_last().unwrap_or_else(|| self.unfinished());
                    let stop = stop_word(reason, self.work.stop.is_cancelled());
                    stored.push(words::answer(&self.work.run_id, message.content, &answered, stop, at_ms));
                    self.updates.begin_message();
                }
            }
        }
        self.recorded = self.recorded.saturating_add(stored.len());
        for message in &stored {
            let body = serde_json::to_string(&message.body).map_or(0, |text| text.len());
            self.recorded_bytes = self.recorded_bytes.saturating_add(body);
        }
        if self.recorded > MOST_RECORDED || self.recorded_bytes > MOST_RECORDED_BYTES {
            return Err(Failure::new("too-large", "The turn has written too much into the transcript."));
        }
        if !stored.is_empty() {
            self.desk.record(stored).await?;
        }
        self.tool_names.extend(uses);
        Ok(())
    }

    /// What is known of an answer that did not come to its end.
    fn unfinished(&self) -> (Answered, StopReason) {
        let provider = self.work.choice.provider.id().to_owned();
        (Answered { provider, model: self.work.choice.model.clone(), ..Answered::default() }, StopReason::Other)
    }

    /// What the agent said and did not write down is written down here.
    async fn end(mut self, mut result: Option<Result<(), Failure>>) -> Ended {
        let rest = self.updates.take_text();
        if !rest.trim().is_empty() && rest != self.text {
            let (answered, _) = self.unfinished();
            let stop = stop_word(StopReason::Other, result.is_none());
            let blocks = vec![Block::text(rest.clone())];
            let message = words::answer(&self.work.run_id, blocks, &answered, stop, self.desk.now_ms());
            let is_added = matches!(result, Some(Ok(()))) && !self.text.is_empty();
            self.text = if is_added { format!("{}\n\n{rest}", self.text) } else { rest };
            if let Err(failure) = self.desk.record(vec![message]).await {
                result = result.map(|_| Err(failure));
            }
        }
        let (answered, usage) = self.calls.sum();
        Ended { result, text: self.text, answered, usage }
    }
}

/// What comes of some work, a fault of its own included: whoever asked for it is always answered.
async fn unwound<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let result = AssertUnwindSafe(work).catch_unwind().await;
    result.unwrap_or_else(|_| Err(Failure::internal("It ended in a fault of LeanClaw's own; the log says where.")))
}

/// The uses of tools in an answer, with the tools' names.
fn uses_in(blocks: &[Block]) -> Result<Vec<(String, String)>, Failure> {
    let uses = blocks.iter().filter_map(|block| match block {
        Block::ToolUse { id, name, .. } | Block::InvalidToolUse { id, name, .. } => Some((id.clone(), name.clone())),
        _ => None,
    });
    let uses: Vec<(String, String)> = uses.collect();
    if uses.iter().any(|(id, name)| id.len() > LONGEST_ID || name.len() > LONGEST_ID) {
        return Err(Failure::invalid(format!("An id or a name of a tool takes more than {LONGEST_ID} bytes.")));
    }
    Ok(uses)
}

/// A part of a prompt, as the protocol has it.
fn part(block: &Block) -> Option<Value> {
    match block {
        Block::Text { text } => Some(json!({"type": "text", "text": text})),
        Block::Image { media_type, data } => Some(json!({"type": "image", "mimeType": media_type, "data": data})),
        _ => None,
    }
}

fn end_of_prompt(result: &Value, text: &str) -> Result<(), Failure> {
    match result.get("stopReason").and_then(Value::as_str) {
        Some("refusal") if text.trim().is_empty() => {
            let mut failure = Failure::new("refused", "The model refused to answer.").hint("ask in another way");
            failure.extra = Some(json!({"errorType": "refusal"}));
            Err(failure)
        }
        Some(_) => Ok(()),
        None => Err(Failure::internal("The agent did not say why it ended.")),
    }
}

/// What the gateway protocol calls the reason why an answer ended.
fn stop_word(reason: StopReason, is_stopped: bool) -> &'static str {
    match reason {
        StopReason::ToolUse => "toolUse",
        StopReason::MaxTokens | StopReason::ContextFull => "length",
        _ if is_stopped => "aborted",
        _ => "stop",
    }
}

fn does_not_read() -> Failure {
    Failure::internal("The agent asks for more and more, and does not read the answers.")
}

/// Why an agent ended by itself. One that only closed its output has a moment to follow.
async fn died(process: &mut Process) -> Failure {
    let exit = match tokio::time::timeout(ENDING, process.wait()).await {
        Ok(exit) => exit,
        Err(_) => process.kill().await,
    };
    Failure::internal(format!("The agent ended before its turn: {}.", exit.cause))
        .hint("leanclaw logs shows what it said")
}
