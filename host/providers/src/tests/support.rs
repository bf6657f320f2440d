//! A server, a provider that reaches it, and what an answer came to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use leanclaw_egress::{Deadline, Egress, FixedResolver, NoObserver, NoSecrets};
use leanclaw_test_fakes::anthropic::MESSAGES;
use leanclaw_test_fakes::{FakeServer, Recorded, Reply, fixture};
use leanclaw_types::Failure;
use leanclaw_types::clock::ManualClock;
use leanclaw_types::model::{Block, ModelCall, ModelEvent, ModelMessage, Role, StopReason, TokenUsage};
use leanclaw_types::redact::Secret;

use crate::anthropic::{Anthropic, AnthropicSettings, ApiVersion};
use crate::sse::SseLimits;
use crate::{
    Credential, Credentials, FixedCredential, Means, ModelStream, Provider, RetryPolicy, Timeouts, egress_policy,
};

pub(super) const KEY: &str = "sk-ant-api03-of-the-tests";
/// What the clock of the tests says: Mon, 23 Nov 2026 20:00:00 GMT.
pub(super) const NOW_MS: u64 = 1_795_464_000_000;

/// How a provider is made, where a test wants it otherwise than usual.
pub(super) struct Options {
    pub(super) version: ApiVersion,
    pub(super) betas: Vec<String>,
    pub(super) credentials: Arc<dyn Credentials>,
    pub(super) retry: RetryPolicy,
    pub(super) timeouts: Timeouts,
    pub(super) path: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: ApiVersion::default(),
            betas: Vec::new(),
            credentials: fixed(Credential::Key(Secret::new(KEY))),
            retry: soon_again(),
            timeouts: Timeouts::default(),
            path: "",
        }
    }
}

pub(super) fn fixed(credential: Credential) -> Arc<dyn Credentials> {
    Arc::new(FixedCredential::new("LEANCLAW_ANTHROPIC_API_KEY", credential))
}

/// A server and a provider that reaches it.
pub(super) struct Setup<P = Anthropic> {
    pub(super) server: FakeServer,
    pub(super) provider: Arc<P>,
    /// Where the provider asks for answers.
    pub(super) route: &'static str,
}

/// The way to a server on this machine.
pub(super) fn means(
    base_url: &url::Url,
    credentials: Arc<dyn Credentials>,
    retry: RetryPolicy,
    timeouts: Timeouts,
) -> Means {
    let policy = egress_policy("of-the-tests", base_url, true);
    let egress = Egress::new(Arc::new(FixedResolver::new()), Arc::new(NoObserver)).open(policy, Arc::new(NoSecrets));
    Means { egress, credentials, clock: Arc::new(ManualClock::at(NOW_MS)), retry, timeouts }
}

/// Tries twice again, soon.
pub(super) fn soon_again() -> RetryPolicy {
    RetryPolicy {
        retries: 2,
        first_pause: Duration::from_millis(4),
        longest_pause: Duration::from_millis(20),
        longest_wait: Duration::from_secs(60),
    }
}

pub(super) async fn setup() -> Setup {
    setup_with(Options::default()).await
}

pub(super) async fn setup_with(options: Options) -> Setup {
    let server = FakeServer::start().await.unwrap();
    let base_url: url::Url = format!("{}{}", server.url(), options.path).parse().unwrap();
    let means = means(&base_url, options.credentials, options.retry, options.timeouts);
    let settings = AnthropicSettings {
        base_url,
        base_url_setting: "LEANCLAW_ANTHROPIC_BASE_URL",
        version: options.version,
        betas: options.betas,
        stream_limits: SseLimits::default(),
    };
    Setup { server, provider: Arc::new(Anthropic::new(settings, means).unwrap()), route: MESSAGES }
}

impl<P: Provider> Setup<P> {
    /// Scripts the next answer.
    pub(super) fn answer(&self, reply: Reply) -> &Self {
        self.server.push("POST", self.route, reply);
        self
    }

    pub(super) async fn ask(&self) -> Told {
        self.tell(&hello()).await
    }

    pub(super) async fn tell(&self, call: &ModelCall) -> Told {
        tell(&*self.provider, call).await
    }

    /// The failure of a call of which nothing could be seen.
    pub(super) async fn refusal(&self) -> Failure {
        self.provider.stream(&hello(), soon()).await.unwrap_err()
    }

    pub(super) fn asked(&self) -> Vec<Recorded> {
        self.server.requests()
    }
}

/// More time than any test needs.
pub(super) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(300))
}

pub(super) fn call(messages: Vec<(Role, Vec<Block>)>) -> ModelCall {
    ModelCall {
        model: "claude-opus-5-5".into(),
        system: "Be terse.".into(),
        messages: messages.into_iter().map(|(role, content)| ModelMessage { role, content }).collect(),
        tools: Vec::new(),
        max_tokens: 1000,
        thinking: None,
    }
}

pub(super) fn hello() -> ModelCall {
    call(vec![(Role::User, vec![Block::text("Hello")])])
}

/// What an answer came to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Told {
    pub(super) model: String,
    pub(super) text: String,
    pub(super) thinking: String,
    pub(super) blocks: Vec<Block>,
    pub(super) end: Option<(StopReason, TokenUsage)>,
    pub(super) failure: Option<Failure>,
}

impl Told {
    pub(super) fn reason(&self) -> StopReason {
        self.end.unwrap_or_else(|| panic!("it did not end well: {:?}", self.failure)).0
    }

    pub(super) fn failure(&self) -> &Failure {
        assert_eq!(self.end, None);
        self.failure.as_ref().unwrap()
    }

    pub(super) fn extra(&self) -> &serde_json::Value {
        self.failure().extra.as_ref().unwrap()
    }
}

pub(super) async fn tell(provider: &dyn Provider, call: &ModelCall) -> Told {
    match provider.stream(call, soon()).await {
        Ok(stream) => listen(stream).await,
        Err(failure) => Told { failure: Some(failure), ..Told::default() },
    }
}

/// Listens to an answer to its end.
pub(super) async fn listen(mut stream: ModelStream) -> Told {
    let mut told = Told::default();
    while let Some(event) = stream.next().await {
        assert!(told.end.is_none() && told.failure.is_none(), "nothing follows the end: {event:?}");
        match event {
            Ok(ModelEvent::Started { model }) => told.model = model,
            Ok(ModelEvent::Text { delta }) => told.text.push_str(&delta),
            Ok(ModelEvent::Thinking { delta }) => told.thinking.push_str(&delta),
            Ok(ModelEvent::Block { block }) => told.blocks.push(block),
            Ok(ModelEvent::Finished { reason, usage }) => told.end = Some((reason, usage)),
            Err(failure) => told.failure = Some(failure),
        }
    }
    told
}

pub(super) fn body(name: &str) -> &'static str {
    std::str::from_utf8(fixture(name).unwrap()).unwrap()
}

/// Events of a stream, each from its JSON.
pub(super) fn events(parts: &[&str]) -> String {
    parts.iter().map(|data| format!("data: {data}\n\n")).collect()
}

pub(super) const START: &str =
    r#"{"type":"message_start","message":{"model":"m","usage":{"input_tokens":9,"output_tokens":1}}}"#;
pub(super) const TEXT_START: &str =
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
pub(super) const TEXT: &str = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}"#;
pub(super) const BLOCK_STOP: &str = r#"{"type":"content_block_stop","index":0}"#;
pub(super) const TOOL_START: &str =
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t1","name":"n","input":{}}}"#;
pub(super) const STOP: &str = r#"{"type":"message_stop"}"#;

/// Why the answer ends, with what it used.
pub(super) fn ends(reason: &str) -> String {
    format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}"}},"usage":{{"output_tokens":5}}}}"#)
}

/// A whole answer that says `Hi`.
pub(super) fn hi() -> String {
    events(&[START, TEXT_START, TEXT, BLOCK_STOP, &ends("end_turn"), STOP])
}

/// Credentials that are renewed: each renewal gives the next of a list.
pub(super) struct Renewed {
    pub(super) left: Mutex<Vec<Result<Option<Credential>, Failure>>>,
    pub(super) now: Mutex<Credential>,
    pub(super) renewals: std::sync::atomic::AtomicUsize,
}

#[async_trait::async_trait]
impl Credentials for Renewed {
    fn setting(&self) -> String {
        "leanclaw auth anthropic".into()
    }

    async fn current(&self) -> Result<Credential, Failure> {
        Ok(self.now.lock().unwrap().clone())
    }

    async fn refresh(&self, _refused: &Credential) -> Result<Option<Credential>, Failure> {
        // Long enough that whoever was refused at the same time comes while it goes on.
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.renewals.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let next = self.left.lock().unwrap().remove(0);
        if let Ok(Some(credential)) = &next {
            *self.now.lock().unwrap() = credential.clone();
        }
        next
    }
}
