//! A server, a provider that reaches it, and the chunks of which its answers consist.

use std::sync::Arc;

use leanclaw_test_fakes::openai::{COMPLETIONS, check};
use leanclaw_test_fakes::{FakeServer, Reply};
use leanclaw_types::model::{Block, ModelMessage, Role};
use serde_json::{Value, json};

pub(super) use super::super::support::*;
use crate::openai::{OpenAi, OpenAiSettings};
use crate::{Credential, Credentials, FixedCredential, Timeouts};

pub(super) const SERVER_KEY: &str = "local-key-of-the-tests";

/// How a provider is made, where a test wants it otherwise than usual.
pub(super) struct Wanted {
    pub(super) credential: Credential,
    pub(super) timeouts: Timeouts,
    /// What follows the address of the server.
    pub(super) path: &'static str,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { credential: Credential::None, timeouts: Timeouts::default(), path: "/v1" }
    }
}

pub(super) async fn local() -> Setup<OpenAi> {
    local_with(Wanted::default()).await
}

pub(super) async fn local_with(wanted: Wanted) -> Setup<OpenAi> {
    let server = FakeServer::start().await.unwrap();
    let base_url: url::Url = format!("{}{}", server.url(), wanted.path).parse().unwrap();
    let credentials: Arc<dyn Credentials> =
        Arc::new(FixedCredential::new("LEANCLAW_LOCAL_LLM_API_KEY", wanted.credential));
    let means = means(&base_url, credentials, soon_again(), wanted.timeouts);
    let provider = OpenAi::new(OpenAiSettings::new(base_url, "LEANCLAW_LOCAL_LLM_BASE_URL"), means).unwrap();
    Setup { server, provider: Arc::new(provider), route: COMPLETIONS }
}

/// What an answer comes to, which the server gives only to a request that it would not refuse.
pub(super) async fn told(reply: Reply) -> Told {
    let setup = local().await;
    setup.answer_checked(reply);
    let told = setup.ask().await;
    assert_eq!(setup.asked().len(), 1);
    told
}

impl Setup<OpenAi> {
    /// Scripts the next answer, for a request that breaks no rule.
    pub(super) fn answer_checked(&self, reply: Reply) -> &Self {
        self.server.push_with("POST", COMPLETIONS, move |request| match check(request, None) {
            Ok(_) => reply.clone(),
            Err(refusal) => *refusal,
        });
        self
    }
}

/// A chunk with these fields in its `delta`.
pub(super) fn chunk(delta: &Value) -> String {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}]})
    .to_string()
}

/// A chunk that says why the answer ends.
pub(super) fn ends_with(reason: &str) -> String {
    json!({"model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}).to_string()
}

/// A chunk that says what was used: read, of that from the cache, and written.
pub(super) fn used(read: u64, cached: u64, written: u64) -> String {
    json!({"model": "m", "choices": [], "usage": {"prompt_tokens": read, "completion_tokens": written,
        "total_tokens": read + written, "prompt_tokens_details": {"cached_tokens": cached}}})
    .to_string()
}

pub(super) const END: &str = "[DONE]";

pub(super) fn say(text: &str) -> String {
    chunk(&json!({"content": text}))
}

/// An answer of these chunks, with its end.
pub(super) fn answer_of(chunks: &[String], reason: &str) -> String {
    let end = [ends_with(reason), used(9, 4, 5), END.to_owned()];
    let all: Vec<&str> = chunks.iter().chain(&end).map(String::as_str).collect();
    events(&all)
}

/// A whole answer that says `Hi`.
pub(super) fn greets() -> String {
    answer_of(&[say("Hi")], "stop")
}

/// The conversation with this answer and these results after it.
pub(super) fn went_on(
    mut call: leanclaw_types::model::ModelCall,
    said: Vec<Block>,
    results: Vec<Block>,
) -> leanclaw_types::model::ModelCall {
    call.messages.push(ModelMessage { role: Role::Assistant, content: said });
    call.messages.push(ModelMessage { role: Role::User, content: results });
    call
}
