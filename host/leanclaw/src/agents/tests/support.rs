//! Agents, a model and tools that do what a test says, around the real store.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use leanclaw_egress::{Deadline, Egress, FixedResolver, NoObserver};
use leanclaw_gateway::RunWatcher;
use leanclaw_providers::{ModelInfo, ModelStream, Provider};
use leanclaw_sandbox::{Body, Cause, Description, Run, RunSpec, Sandbox, SandboxError, Wire};
use leanclaw_store::Store;
use leanclaw_types::call::Caller;
use leanclaw_types::clock::SystemClock;
use leanclaw_types::model::{Block, ModelCall, ModelEvent, StopReason, TokenUsage};
use leanclaw_types::plugin::{ToolOutput, ToolSpec};
use leanclaw_types::run::{RunEvent, RunOwner, RunRequest, RunStep};
use leanclaw_types::session::{SessionChange, SessionKind, SessionRow, TranscriptQuery};
use leanclaw_types::{Failure, PluginId};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines};
use tokio::sync::Semaphore;

use crate::agents::models::Models;
use crate::agents::{Agents, Means, SandboxSource, ToolBox};
use crate::config::{AgentsConfig, SandboxChoice};

pub(super) const KEY: &str = "agent:main:main";
pub(super) const USAGE: TokenUsage = TokenUsage { input: 3, output: 2, cache_read: 0, cache_write: 0 };

/// What an agent of a test does, from its first line to its last.
pub(super) type Script = Arc<dyn Fn(FakeAgent) -> BoxFuture<'static, ()> + Send + Sync>;

pub(super) fn script<F>(does: impl Fn(FakeAgent) -> F + Send + Sync + 'static) -> Script
where
    F: Future<Output = ()> + Send + 'static,
{
    Arc::new(move |agent| Box::pin(does(agent)))
}

/// The agent's side of the wire.
pub(super) struct FakeAgent {
    lines: Lines<BufReader<DuplexStream>>,
    output: DuplexStream,
    last_id: i64,
    /// What it was told of its session.
    pub(super) setup: Value,
    /// The words of its prompt.
    pub(super) prompt: String,
}

impl FakeAgent {
    pub(super) async fn line(&mut self) -> Option<Value> {
        let line = self.lines.next_line().await.ok()??;
        Some(serde_json::from_str(&line).expect("the host writes JSON"))
    }

    pub(super) async fn say(&mut self, line: Value) {
        let _ = self.output.write_all(format!("{line}\n").as_bytes()).await;
    }

    /// Lets itself be told who it is and what is wanted of it.
    pub(super) async fn open(&mut self) -> bool {
        while let Some(line) = self.line().await {
            let id = &line["id"];
            let result = match line["method"].as_str() {
                Some("initialize") => json!({"protocolVersion": 1}),
                Some("session/new") => {
                    self.setup = line["params"]["_meta"]["leanclaw"].clone();
                    json!({"sessionId": "s"})
                }
                Some("session/prompt") => {
                    self.prompt = line["params"]["prompt"][0]["text"].as_str().unwrap_or_default().to_owned();
                    return true;
                }
                _ => continue,
            };
            self.say(json!({"jsonrpc": "2.0", "id": id, "result": result})).await;
        }
        false
    }

    /// Asks the host, and waits for the answer; what is streamed meanwhile is thrown away.
    pub(super) async fn ask(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.last_id += 1;
        let id = self.last_id;
        self.say(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        while let Some(line) = self.line().await {
            if line["id"] == id {
                return if line["error"].is_null() { Ok(line["result"].clone()) } else { Err(line["error"].clone()) };
            }
        }
        Err(json!("the host is gone"))
    }

    pub(super) async fn model(&mut self) -> Result<Value, Value> {
        let call = json!({"model": "one of its own", "messages": [], "maxTokens": 1_000_000});
        self.ask("_leanclaw/model/stream", json!({"sessionId": "s", "callId": "c", "call": call})).await
    }

    pub(super) async fn record(&mut self, role: &str, content: Value) -> Result<Value, Value> {
        let messages = json!([{"role": role, "content": content}]);
        self.ask("_leanclaw/transcript/append", json!({"sessionId": "s", "messages": messages})).await
    }

    pub(super) async fn show(&mut self, text: &str) {
        let update = json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}});
        let params = json!({"sessionId": "s", "update": update});
        self.say(json!({"jsonrpc": "2.0", "method": "session/update", "params": params})).await;
    }

    /// Ends its turn.
    pub(super) async fn end(&mut self, reason: &str) {
        self.say(json!({"jsonrpc": "2.0", "id": 3, "result": {"stopReason": reason}})).await;
    }

    /// A whole turn in which it asks the model once and says that.
    pub(super) async fn answer(&mut self, text: &str) {
        let prompt = json!([{"type": "text", "text": self.prompt}]);
        self.record("user", prompt).await.unwrap();
        self.model().await.unwrap();
        self.show(text).await;
        self.record("assistant", json!([{"type": "text", "text": text}])).await.unwrap();
        self.end("end_turn").await;
    }
}

/// An agent that says what it was asked.
pub(super) fn echo() -> Script {
    script(async |mut agent: FakeAgent| {
        if agent.open().await {
            let text = format!("You said: {}", agent.prompt);
            agent.answer(&text).await;
            // It goes on until it is ended, as real ones do.
            while agent.line().await.is_some() {}
        }
    })
}

struct FakeSandbox {
    script: Script,
    pub(super) started: Arc<AtomicUsize>,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

struct FakeBody {
    agent: Option<BoxFuture<'static, ()>>,
    running: Arc<AtomicUsize>,
}

#[async_trait]
impl Body for FakeBody {
    async fn run(&mut self) -> Cause {
        if let Some(agent) = &mut self.agent {
            agent.await;
        }
        Cause::Finished(0)
    }

    async fn end(&mut self) {
        self.agent = None;
        self.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Sandbox for FakeSandbox {
    fn kind(&self) -> &'static str {
        "fake"
    }

    async fn describe(&self) -> Description {
        Description { kind: "fake", detail: String::new(), running: 0, trouble: None }
    }

    async fn start(&self, spec: RunSpec) -> Result<Run, SandboxError> {
        self.started.fetch_add(1, Ordering::SeqCst);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let (stdin, agent_stdin) = tokio::io::duplex(64 * 1024);
        let (output, stdout) = tokio::io::duplex(64 * 1024);
        let lines = BufReader::new(agent_stdin).lines();
        let agent = FakeAgent { lines, output, last_id: 0, setup: Value::Null, prompt: String::new() };
        let body = FakeBody { agent: Some((self.script)(agent)), running: Arc::clone(&self.running) };
        let wire = Wire { stdin: Box::new(stdin), stdout: Box::new(stdout) };
        Ok(Run::spawn("fake", &spec, Run::log(&spec), wire, Box::new(body)))
    }
}

/// A model that says `Hello` each time it is let.
pub(super) struct FakeModel {
    pub(super) gate: Semaphore,
    pub(super) calls: Mutex<Vec<ModelCall>>,
    pub(super) going_on: Arc<AtomicUsize>,
}

/// Counts a call as long as it goes on.
struct GoingOn(Arc<AtomicUsize>);

impl GoingOn {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for GoingOn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Provider for FakeModel {
    fn id(&self) -> &str {
        "fake"
    }

    async fn models(&self, _: Deadline) -> Result<Vec<ModelInfo>, Failure> {
        let info = ModelInfo {
            id: "model-1".into(),
            name: "Model".into(),
            context_tokens: Some(1000),
            max_output_tokens: Some(500),
            takes_images: None,
            retires_at: None,
        };
        Ok(vec![info])
    }

    async fn count_tokens(&self, _: &ModelCall, _: Deadline) -> Result<u64, Failure> {
        Ok(1)
    }

    async fn stream(&self, call: &ModelCall, _: Deadline) -> Result<ModelStream, Failure> {
        self.calls.lock().unwrap().push(call.clone());
        let _going_on = GoingOn::new(&self.going_on);
        self.gate.acquire().await.unwrap().forget();
        let events = [
            ModelEvent::Started { model: "model-1-exactly".into() },
            ModelEvent::Text { delta: "Hello".into() },
            ModelEvent::Block { block: Block::text("Hello") },
            ModelEvent::Finished { reason: StopReason::EndTurn, usage: USAGE },
        ];
        Ok(ModelStream::new(futures_util::stream::iter(events.map(Ok))))
    }
}

/// One tool that says what it was given.
pub(super) struct FakeTools(pub(super) Mutex<Vec<(String, Caller)>>);

#[async_trait]
impl ToolBox for FakeTools {
    fn tools(&self) -> Vec<ToolSpec> {
        let spec = ToolSpec {
            plugin: PluginId::new("p").unwrap(),
            name: "p.say".into(),
            description: "Says.".into(),
            input_schema: json!({"type": "object"}),
            output_schema: None,
            effects: Vec::new(),
            idempotent: true,
            extra: None,
        };
        vec![spec]
    }

    async fn invoke(&self, name: &str, input: &str, caller: Caller) -> Result<ToolOutput, Failure> {
        self.0.lock().unwrap().push((name.to_owned(), caller));
        Ok(ToolOutput { text: Some(format!("got {input}")), ..ToolOutput::default() })
    }
}

/// Keeps what happened.
#[derive(Default)]
pub(super) struct Seen(Mutex<Vec<RunEvent>>);

impl RunWatcher for Seen {
    fn saw(&self, event: &RunEvent) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Seen {
    /// What happened in a run, in a word each.
    pub(super) fn words(&self, run_id: &str) -> Vec<String> {
        let word = |event: &RunEvent| match &event.step {
            RunStep::Started => "started".to_owned(),
            RunStep::Text(text) => format!("text {text}"),
            RunStep::Thinking(_) => "thinking".to_owned(),
            RunStep::Tool { name, .. } => format!("tool {name}"),
            RunStep::Said(message) => format!("said {}", message.role),
            RunStep::Ended(end) => format!("ended {:?}", end.outcome).chars().take(12).collect(),
        };
        let seen = self.0.lock().unwrap();
        seen.iter().filter(|event| event.run_id == run_id).map(word).collect()
    }
}

/// Agents on a store, with one session.
pub(super) struct Setup {
    pub(super) agents: Agents,
    pub(super) store: Arc<Store>,
    pub(super) model: Arc<FakeModel>,
    pub(super) tools: Arc<FakeTools>,
    pub(super) seen: Arc<Seen>,
    pub(super) started: Arc<AtomicUsize>,
    pub(super) most_at_once: Arc<AtomicUsize>,
    pub(super) folder: Arc<tempfile::TempDir>,
}

pub(super) fn config() -> AgentsConfig {
    AgentsConfig {
        anthropic: None,
        local: None,
        model: None,
        sandbox: SandboxChoice::Auto,
        max_concurrent: 2,
        run_timeout: Duration::from_secs(60),
    }
}

pub(super) async fn setup(script: Script) -> Setup {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let store = Arc::new(Store::open_bounded(folder.path(), 1000).unwrap());
    for key in [KEY, "agent:main:b", "agent:main:c"] {
        add_session(&store, key).await;
    }
    setup_on(script, store, folder, &config())
}

/// The same on a store that is there.
pub(super) fn setup_on(
    script: Script,
    store: Arc<Store>,
    folder: Arc<tempfile::TempDir>,
    config: &AgentsConfig,
) -> Setup {
    let model = Arc::new(FakeModel { gate: Semaphore::new(1000), calls: Mutex::default(), going_on: Arc::default() });
    let tools = Arc::new(FakeTools(Mutex::default()));
    let (started, running, most) = (Arc::default(), Arc::default(), Arc::default());
    let sandbox = FakeSandbox { script, started: Arc::clone(&started), running, most: Arc::clone(&most) };
    let means = Means {
        store: Arc::clone(&store),
        tools: tools.clone(),
        egress: Egress::new(Arc::new(FixedResolver::new()), Arc::new(NoObserver)),
        clock: Arc::new(SystemClock),
        sandbox: SandboxSource::given(Arc::new(sandbox)),
        folder: folder.path().join("agents"),
        time_zone: jiff::tz::TimeZone::UTC,
    };
    let agents = Agents::with_models(config, means, Models::of(vec![model.clone()], None));
    let seen = Arc::new(Seen::default());
    leanclaw_gateway::Runs::watch(&agents, seen.clone());
    Setup { agents, store, model, tools, seen, started, most_at_once: most, folder }
}

async fn add_session(store: &Store, key: &str) {
    let row = SessionRow {
        key: key.to_owned(),
        session_id: format!("id of {key}"),
        agent: "main".into(),
        kind: SessionKind::Direct,
        label: None,
        archived: false,
        created_ms: 1,
        updated_ms: 1,
        entry: Map::new(),
    };
    store.change_session(key.to_owned(), Box::new(|_| SessionChange::Put(row))).await.unwrap();
}

pub(super) fn request(run_id: &str, key: &str, message: &str) -> RunRequest {
    RunRequest {
        run_id: run_id.into(),
        session_key: key.into(),
        message: message.into(),
        images: Vec::new(),
        thinking: None,
        timeout_ms: None,
        system: String::new(),
        owner: RunOwner::default(),
    }
}

impl Setup {
    /// Agents on the same store that have no model.
    pub(super) fn without_models(&self) -> Agents {
        let means = Means {
            store: Arc::clone(&self.store),
            tools: self.tools.clone(),
            egress: Egress::new(Arc::new(FixedResolver::new()), Arc::new(NoObserver)),
            clock: Arc::new(SystemClock),
            sandbox: SandboxSource::wasm_missing(),
            folder: self.folder.path().join("agents"),
            time_zone: jiff::tz::TimeZone::UTC,
        };
        Agents::with_models(&config(), means, Models::of(Vec::new(), None))
    }

    /// Who said what in a session, in the order in which it is stored.
    pub(super) async fn said(&self, key: &str) -> Vec<(String, String)> {
        let query = TranscriptQuery { limit: 1000, ..TranscriptQuery::default() };
        let transcript = self.store.transcript(key, query).await.unwrap();
        let text = |body: &Map<String, Value>| {
            let parts = body["content"].as_array().unwrap().iter();
            let words = parts.filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ");
            body.get("errorMessage").and_then(Value::as_str).map_or(words, str::to_owned)
        };
        transcript.messages.into_iter().map(|message| (message.role, text(&message.body))).collect()
    }
}

/// Waits until something holds, which it has to within a few seconds.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}
