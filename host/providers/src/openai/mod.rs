//! Any server that speaks OpenAI's Chat Completions: one on this machine (llama.cpp, Ollama, vLLM, LM Studio), a gateway, or
//! OpenAI itself.
//!
//! Such servers agree on less than the name says, so what they leave out, repeat or add is borne wherever its meaning is
//! certain. It is not where the end is missing: an answer without a `finish_reason` is an error.
//!
//! A key goes out as `Authorization: Bearer`; a server that asks for none ([`crate::Credential::None`]) is sent no such
//! header. What a model thinks, in fields of its own or between `<think>` and `</think>` at its beginning, is told as
//! thinking and never goes back, as these servers have no place for it. Sampling parameters and forced tools are not sent.

mod events;
mod models;
mod request;
mod thinking;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use http::header::HeaderMap;
use leanclaw_egress::Deadline;
use leanclaw_types::Failure;
use leanclaw_types::failure::code;
use leanclaw_types::model::{Block, ModelCall};
use url::Url;

use crate::answer;
use crate::client::{Ask, Client, Means, below};
use crate::sse::SseLimits;
use crate::{ModelInfo, ModelStream, Provider};
use events::Events;
use models::List;

/// The id of a provider that is given no other.
pub const LOCAL_ID: &str = "local";

/// What a server calls the most tokens of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LengthField {
    /// `max_tokens`, which all servers know but OpenAI's own.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`, which OpenAI's newer models insist on.
    MaxCompletionTokens,
}

/// How such a server is asked.
#[derive(Debug, Clone)]
pub struct OpenAiSettings {
    /// The provider's id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Where it is. Where no part of the path names a version (`/v1`, `/api/v4`), `/v1` is added.
    pub base_url: Url,
    /// The setting that names it, for hints.
    pub base_url_setting: &'static str,
    /// What it calls the most tokens of an answer.
    pub length_field: LengthField,
    /// How much of a stream may be held at once.
    pub stream_limits: SseLimits,
}

impl OpenAiSettings {
    /// The server at `base_url`, which stands in the setting `base_url_setting`; everything else as usual.
    #[must_use]
    pub fn new(base_url: Url, base_url_setting: &'static str) -> Self {
        let length_field = match base_url.host_str() {
            Some("api.openai.com") => LengthField::MaxCompletionTokens,
            _ => LengthField::default(),
        };
        Self {
            id: LOCAL_ID.to_owned(),
            name: "Local server".to_owned(),
            base_url,
            base_url_setting,
            length_field,
            stream_limits: SseLimits::default(),
        }
    }
}

/// A server that speaks Chat Completions, as a provider.
#[derive(Debug)]
pub struct OpenAi {
    client: Client,
    settings: OpenAiSettings,
    /// With the version in its path.
    base_url: Url,
    /// How many tokens the models have room for, from the last list.
    rooms: RwLock<HashMap<String, u64>>,
}

impl OpenAi {
    /// The server that `settings` name, reached by `means`.
    ///
    /// # Errors
    /// When the address is none of a web server.
    pub fn new(settings: OpenAiSettings, means: Means) -> Result<Self, Failure> {
        let OpenAiSettings { id, name, base_url, base_url_setting, .. } = &settings;
        if !matches!(base_url.scheme(), "http" | "https") || !base_url.has_host() {
            let message = format!("The address of {name} has to begin with http:// or https:// and to name a host.");
            return Err(Failure::invalid(message)
                .hint(format!("set {base_url_setting} to an address such as http://127.0.0.1:8080/v1")));
        }
        let base_url = with_version(base_url);
        let client = Client::new(means, (id, name, base_url_setting), None, "x-request-id");
        Ok(Self { client, settings, base_url, rooms: RwLock::default() })
    }

    fn ask(&self, path: &str, body: Option<Vec<u8>>) -> Ask {
        Ask::new(below(&self.base_url, path), body, HeaderMap::new())
    }
}

/// The address with a version in its path.
fn with_version(base_url: &Url) -> Url {
    let is_version =
        |part: &str| part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
    let has_version = base_url.path_segments().is_some_and(|mut parts| parts.any(is_version));
    if has_version { base_url.clone() } else { below(base_url, "/v1") }
}

#[async_trait]
impl Provider for OpenAi {
    fn id(&self) -> &str {
        &self.settings.id
    }

    async fn models(&self, deadline: Deadline) -> Result<Vec<ModelInfo>, Failure> {
        let list: List = self.client.fetch(&self.ask("/models", None), deadline).await?;
        let infos = list.infos();
        let rooms = infos.iter().filter_map(|info| Some((info.id.clone(), info.context_tokens?)));
        *self.rooms.write().unwrap_or_else(PoisonError::into_inner) = rooms.collect();
        Ok(infos)
    }

    async fn count_tokens(&self, _call: &ModelCall, _deadline: Deadline) -> Result<u64, Failure> {
        let message = format!("{} does not count tokens before it answers.", self.settings.name);
        Err(Failure::new(code::UNSUPPORTED, message).hint("go by what the last answer used"))
    }

    async fn stream(&self, call: &ModelCall, deadline: Deadline) -> Result<ModelStream, Failure> {
        let room = self.rooms.read().unwrap_or_else(PoisonError::into_inner).get(&call.model).copied();
        let body = request::body(call, self.settings.length_field, room)?;
        let ask = self.ask("/chat/completions", Some(body));
        let limits = self.settings.stream_limits;
        let blocks = call.messages.iter().flat_map(|message| &message.content);
        let taken: Arc<HashSet<String>> = Arc::new(blocks.filter_map(Block::use_id).map(str::to_owned).collect());
        let read = move |accepted| -> futures_util::future::BoxFuture<'static, _> {
            Box::pin(answer::open(accepted, Events::new(Arc::clone(&taken)), limits))
        };
        self.client.call(&ask, deadline, &read).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_version_once() {
        for (given, wanted) in [
            ("http://h:1", "http://h:1/v1/models"),
            ("http://h:1///", "http://h:1/v1/models"),
            ("http://h:1/v1", "http://h:1/v1/models"),
            ("http://h:1/v1//", "http://h:1/v1/models"),
            ("http://h/vllm", "http://h/vllm/v1/models"),
            ("http://h/api/paas/v4/", "http://h/api/paas/v4/models"),
            ("http://h/v1beta/openai/", "http://h/v1beta/openai/models"),
            ("http://h/v1?key=x", "http://h/v1/models?key=x"),
        ] {
            assert_eq!(below(&with_version(&given.parse().unwrap()), "/models").as_str(), wanted);
        }
    }

    #[test]
    fn openai_itself_has_its_own_word_for_the_length() {
        let field = |url: &str| OpenAiSettings::new(url.parse().unwrap(), "X").length_field;
        assert_eq!(field("https://api.openai.com/v1"), LengthField::MaxCompletionTokens);
        assert_eq!(field("http://127.0.0.1:8080"), LengthField::MaxTokens);
    }
}
